//! Copies of gathered deltas, one panel wide: `packed[sample][lane] = scale * deltas[rows[sample]][col + lane]`.

use crate::matrix::MatrixRef;

/// Packs columns `col..col + nr` of the given rows, scaled; lanes beyond the last column are zero.
#[inline(always)]
pub(crate) fn columns(
    from: MatrixRef<'_>,
    rows: &[u32],
    col: usize,
    nr: usize,
    scale: f32,
    packed: &mut Vec<f32>,
) {
    let width = nr.min(from.cols() - col);
    packed.clear();
    packed.resize(rows.len() * nr, 0.0);
    for (to, &row) in packed.chunks_exact_mut(nr).zip(rows) {
        for (to, &x) in to.iter_mut().zip(&from.row(row as usize)[col..col + width]) {
            *to = scale * x;
        }
    }
}
