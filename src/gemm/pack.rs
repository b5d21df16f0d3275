//! What products read instead of the gathered rows themselves.
//!
//! ```text
//! columns   packed[sample][lane] = scale * deltas[rows[sample]][col + lane]
//! tables    for each few neighbouring errors e0 e1 .. of some samples, all sums ±e0 ±e1 .. of each sample
//! ```

use crate::matrix::{Aligned, MatrixRef};
use crate::signs::WORD;
use crate::simd::Simd;
use std::ops::Range;

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

/// Values of the tables of one row that `words` words of errors take.
#[inline(always)]
pub(crate) fn tables_len<S: Simd>(words: usize) -> usize {
    words * WORD / S::SIGNS * S::ENTRIES
}

/// The tables of some rows for the words `words` of their errors: for each `SIGNS` errors, a table of each row. Errors
/// beyond the last are zero.
#[inline(always)]
pub(crate) fn tables<S: Simd>(
    s: S,
    from: MatrixRef<'_>,
    rows: &[u32],
    words: Range<usize>,
    tables: &mut Aligned,
) {
    const { assert!(S::ENTRIES == 1 << S::SIGNS || S::ENTRIES == 1 << (S::SIGNS - 1)) };
    const { assert!(8 % S::SIGNS == 0, "a table begins with each byte") };
    tables.resize(rows.len() * tables_len::<S>(words.len()), 0.0);
    let columns = words.start * WORD..from.cols().min(words.end * WORD);
    for (i, &row) in rows.iter().enumerate() {
        let errors = &from.row(row as usize)[columns.clone()];
        let mut groups = tables.chunks_exact_mut(8 / S::SIGNS * rows.len() * S::ENTRIES);
        let mut whole = errors.chunks_exact(8);
        for (errors, group) in whole.by_ref().zip(groups.by_ref()) {
            byte(s, errors, (i, rows.len()), group);
        }
        let mut last = [0.0; 8];
        last[..whole.remainder().len()].copy_from_slice(whole.remainder());
        for group in groups {
            byte(s, &last, (i, rows.len()), group);
            last = [0.0; 8];
        }
    }
}

/// The tables of eight errors of row `i` of `rows`: as many as a byte of signs has.
#[inline(always)]
fn byte<S: Simd>(s: S, errors: &[f32], (i, rows): (usize, usize), tables: &mut [f32]) {
    for (n, errors) in errors.chunks_exact(S::SIGNS).enumerate() {
        s.table(errors, &mut tables[(n * rows + i) * S::ENTRIES..][..S::ENTRIES]);
    }
}
