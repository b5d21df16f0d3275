//! What products read instead of the gathered rows themselves, and the memory for it.
//!
//! ```text
//! deltas    packed[sample][lane] = scale * deltas[rows[sample]][col + lane]
//! inputs    packed[tile][sample][i] = inputs[rows[sample]][first column of the tile + i]
//! columns   those in which some row is not zero
//! tables    for each few neighbouring errors e0 e1 .. of some samples, all sums ±e0 ±e1 .. of each sample
//! ```

use crate::matrix::{ALIGN, Aligned, MatrixRef};
use crate::signs::WORD;
use crate::simd::{Simd, Tile};
use std::cell::Cell;
use std::ops::Range;

/// Scratch memory of one task. It is kept between calls, by each thread for itself: a verb in its steady state allocates
/// nothing.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) inputs: Aligned,
    pub(crate) deltas: Aligned,
    pub(crate) sums: Aligned,
    pub(crate) tables: Aligned,
    pub(crate) used: Columns,
}

impl Buffers {
    fn new() -> Self {
        // What blocks of samples take, however they fall on areas; only many samples of one area need more.
        let [inputs, deltas] = [1 << 16, 1 << 12].map(|n| Aligned::with_capacity(ALIGN, n));
        let [sums, tables] = [0; 2].map(|_| Aligned::new(ALIGN));
        Self { inputs, deltas, sums, tables, used: Columns::default() }
    }

    /// Calls `f` with the buffers of this thread; with new ones if they are in use.
    pub(crate) fn with<R>(f: impl FnOnce(&mut Self) -> R) -> R {
        thread_local! {
            static SPARE: Cell<Option<Buffers>> = const { Cell::new(None) };
        }
        let mut buffers = SPARE.take().unwrap_or_else(Self::new);
        let result = f(&mut buffers);
        SPARE.set(Some(buffers));
        result
    }
}

/// Columns in which some of a few rows is not zero, in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    list: Vec<u32>,
    width: usize,
}

/// Columns that are looked at together.
const STRIP: usize = 64;

impl Columns {
    /// Lists the columns of `of` in which one of `rows` is not zero, if they are at most `most`.
    #[inline(always)]
    pub(crate) fn find(&mut self, of: MatrixRef<'_>, rows: &[u32], most: usize) -> bool {
        let strips = || (0..of.cols()).step_by(STRIP);
        let zeros: usize = strips().map(|first| STRIP - count(&used(of, rows, first))).sum();
        // Columns beyond the last one count as zero: they are as many for any rows.
        let beyond = of.cols().next_multiple_of(STRIP) - of.cols();
        if of.cols() - (zeros - beyond) > most {
            return false;
        }
        self.width = of.cols();
        self.list.clear();
        self.list.reserve(of.cols());
        for first in strips() {
            let used = used(of, rows, first);
            self.list.extend(
                (first as u32..).zip(used).filter(|&(_, used)| used).map(|(column, _)| column),
            );
        }
        true
    }

    /// The columns, each less than [`Columns::width`].
    #[inline(always)]
    pub(crate) fn list(&self) -> &[u32] {
        &self.list
    }

    /// Columns that there were, used or not.
    #[inline(always)]
    pub(crate) fn width(&self) -> usize {
        self.width
    }
}

/// Whether some of the rows is not zero, for each column of the strip at `first`.
#[inline(always)]
fn used(of: MatrixRef<'_>, rows: &[u32], first: usize) -> [bool; STRIP] {
    let mut bits = [0; STRIP];
    for &row in rows {
        let row = &of.row(row as usize)[first..of.cols().min(first + STRIP)];
        for (bits, x) in bits.iter_mut().zip(row) {
            *bits |= x.to_bits() << 1; // both zeros have no bit but the sign
        }
    }
    bits.map(|bits| bits != 0)
}

#[inline(always)]
fn count(used: &[bool; STRIP]) -> usize {
    used.iter().filter(|&&used| used).count()
}

/// Packs columns `col..col + NR` of the given rows, scaled; lanes beyond the last column are zero.
#[inline(always)]
pub(crate) fn deltas<S: Simd>(
    from: MatrixRef<'_>,
    rows: &[u32],
    col: usize,
    scale: f32,
    packed: &mut Aligned,
) {
    let nr = S::NR;
    packed.resize(rows.len() * nr, 0.0);
    let whole = from.cols() - col >= nr;
    for (to, &row) in packed.chunks_exact_mut(nr).zip(rows) {
        let from = &from.row(row as usize)[col..];
        if whole {
            // As many as the compiler knows of, so that they become vectors.
            to[..S::NR].iter_mut().zip(&from[..S::NR]).for_each(|(to, &x)| *to = scale * x);
        } else {
            to[from.len()..].fill(0.0);
            to.iter_mut().zip(from).for_each(|(to, &x)| *to = scale * x);
        }
    }
}

/// Packs columns `block` of the given rows for tiles of all heights from the tallest down. Without inputs, as for a bias,
/// every value is one.
#[inline(always)]
pub(crate) fn inputs<S: Simd>(
    s: S,
    from: Option<MatrixRef<'_>>,
    rows: &[u32],
    block: &Range<usize>,
    packed: &mut Aligned,
) {
    packed.resize(rows.len() * block.len(), 1.0);
    let Some(from) = from else { return packed.fill(1.0) };
    let mut columns = block.clone();
    for &height in S::HEIGHTS {
        let tiles = columns.len() / height;
        let to = &mut packed[(columns.start - block.start) * rows.len()..];
        s.tall(height, PackTiles { from, rows, first: columns.start, tiles, to });
        columns.start += tiles * height;
    }
}

/// `tiles` tiles of one height, of columns from `first` on.
struct PackTiles<'a> {
    from: MatrixRef<'a>,
    rows: &'a [u32],
    first: usize,
    tiles: usize,
    to: &'a mut [f32],
}

impl Tile for PackTiles<'_> {
    #[inline(always)]
    fn at<S: Simd, const H: usize, const NV: usize>(self, _: S) {
        let (n, len) = (self.rows.len(), self.tiles * H);
        // One tile after another has H values for each of n samples.
        let (to, _) = self.to[..len * n].as_chunks_mut::<H>();
        for (sample, &row) in self.rows.iter().enumerate() {
            let row = &self.from.row(row as usize)[self.first..][..len];
            for (tile, x) in row.as_chunks::<H>().0.iter().enumerate() {
                to[tile * n + sample] = *x;
            }
        }
    }
}

/// Copies columns `block` of the given rows, one row after another.
#[inline(always)]
pub(crate) fn block(from: MatrixRef<'_>, rows: &[u32], block: Range<usize>, packed: &mut Aligned) {
    packed.clear();
    for &row in rows {
        packed.extend_from_slice(&from.row(row as usize)[block.clone()]);
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
