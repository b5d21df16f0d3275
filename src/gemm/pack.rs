//! What products read instead of the gathered rows themselves.
//!
//! ```text
//! columns   packed[sample][lane] = scale * deltas[rows[sample]][col + lane]
//! tables    for each few neighbouring errors e0 e1 .. of a sample, all sums ±e0 ±e1 ..
//! ```

use crate::matrix::MatrixRef;
use crate::signs::WORD;
use crate::simd::Simd;

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

/// Values in the tables of one sample for errors of this width.
#[inline(always)]
pub(crate) fn tables_len<S: Simd>(width: usize) -> usize {
    width.div_ceil(WORD) * WORD.div_ceil(S::SIGNS) * S::ENTRIES
}

/// The tables of the given rows: for each word and each `SIGNS` rows of it, entry k has `+e` where bit b of k is set and
/// `-e` where it is clear. Where a table holds half of the sums, the last sign is `+`. Errors beyond the last are zero.
#[inline(always)]
pub(crate) fn tables<S: Simd>(from: MatrixRef<'_>, rows: &[u32], tables: &mut Vec<f32>) {
    const { assert!(S::ENTRIES == 1 << S::SIGNS || S::ENTRIES == 1 << (S::SIGNS - 1)) };
    tables.clear();
    tables.resize(rows.len() * tables_len::<S>(from.cols()), 0.0);
    let mut all = tables.chunks_exact_mut(S::ENTRIES);
    for &row in rows {
        for word in from.row(row as usize).chunks(WORD) {
            for first in (0..WORD).step_by(S::SIGNS) {
                let table = all.next().expect("as many tables as there are signs");
                for b in 0..S::SIGNS.min(WORD - first) {
                    // 0 + e is e, and 0 - e is -e: the first round needs no case of its own.
                    let e = word.get(first + b).copied().unwrap_or(0.0);
                    for (k, sum) in table.iter_mut().enumerate() {
                        *sum += if k >> b & 1 == 1 || 1 << b == S::ENTRIES { e } else { -e };
                    }
                }
            }
        }
    }
}
