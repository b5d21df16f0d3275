//! What products read instead of the gathered rows themselves, and the memory for it.
//!
//! ```text
//! deltas    packed[sample][lane] = scale * deltas[rows[sample]][col + lane]
//! inputs    packed[tile][sample][i] = inputs[rows[sample]][first column of the tile + i]
//! columns   those in which some row is not zero
//! tables    for each few neighbouring errors e0 e1 .. of a sample, all sums ±e0 ±e1 ..
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
    pub(crate) tables: Vec<f32>,
    pub(crate) used: Columns,
}

impl Buffers {
    fn new() -> Self {
        // What blocks of samples take, however they fall on areas; only many samples of one area need more.
        let [inputs, deltas] = [1 << 16, 1 << 12].map(|n| Aligned::with_capacity(ALIGN, n));
        let sums = Aligned::new(ALIGN);
        Self { inputs, deltas, sums, tables: Vec::new(), used: Columns::default() }
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
