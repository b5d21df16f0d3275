//! The register tile: `H` rows times one panel, all sums in registers. Every product of this crate is this loop, but for
//! signs, which are looked up (see [`SignTile`]).
//!
//! ```text
//! acc[H][NV] = 0
//! for p in steps:      b = NV vectors of panel row p          all of the depth, or those p where some input is not zero
//!                      for i in 0..H: acc[i] += splat(a(i, p)) * b
//! for i in 0..H:       store.put(i, acc[i])
//! ```
//! A tile of few rows takes P panels abreast instead: sums enough to hide the latency of an addition, and several
//! streams from memory at a time.
//!
//! Each element is one chain of multiply-adds in ascending `p`: neither the shape of the tile nor the number of
//! threads can change its bits.

use super::area::FEW_ROWS;
use super::pack::Columns;
use super::store::{Epilogue, Piece, Rule, ScatterBlock};
use crate::matrix::MatrixRef;
use crate::signs::{WORD, WORD_BYTES};
use crate::simd::{Simd, Tile, WideTile};
use std::hint::black_box;
use std::ops::Range;

/// Which rows of a panel a tile passes over.
pub(super) trait Steps: Copy {
    /// # Safety
    /// - `t` is less than the number of steps
    unsafe fn row(&self, t: usize) -> usize;
}

/// One row after another.
#[derive(Clone, Copy)]
pub(super) struct From(pub(super) usize);

impl Steps for From {
    #[inline(always)]
    unsafe fn row(&self, t: usize) -> usize {
        self.0 + t
    }
}

/// The rows of a list, counted from a first one.
#[derive(Clone, Copy)]
pub(super) struct Listed(pub(super) *const u32, pub(super) usize);

impl Steps for Listed {
    #[inline(always)]
    unsafe fn row(&self, t: usize) -> usize {
        // SAFETY: the list has a row for each step.
        unsafe { self.0.add(t).read() as usize - self.1 }
    }
}

/// The left operand of a tile: one value, broadcast.
trait Lhs: Copy {
    /// # Safety
    /// - `i` is less than the tile's height, `p` less than its depth
    unsafe fn at(&self, i: usize, p: usize) -> f32;
}

/// Where a row of sums begins, and what becomes of it.
trait Store: Copy {
    /// Sums of a block of the depth before this one, instead of zeros.
    ///
    /// # Safety
    /// - the store serves a tile of `H` rows and `P` panels
    unsafe fn begin<S: Simd, const H: usize, const NV: usize, const P: usize>(
        &self,
        s: S,
    ) -> Option<[[[S::V; NV]; P]; H]>;

    /// # Safety
    /// - the store serves a tile of `H` rows and `P` panels
    unsafe fn put<S: Simd, const H: usize, const NV: usize, const P: usize>(
        &self,
        s: S,
        sums: &[[[S::V; NV]; P]; H],
    );
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// What a tile asks for while it runs: at each step one line for each of its panels, `step` bytes after those before.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    first: *const f32,
    step: usize,
    /// Bytes between the lines of two panels.
    apart: usize,
}

impl Ahead {
    /// How far ahead of a stream that is read once: far enough for the latency of memory.
    pub(super) const DISTANCE: usize = 4096;

    /// Share `part` of `parts` of the values in `next`, over a tile of this depth.
    #[inline(always)]
    pub(crate) fn share(next: &[f32], part: usize, parts: usize, depth: usize) -> Self {
        let bytes = size_of_val(next).div_ceil(parts);
        Self {
            first: next.as_ptr().wrapping_byte_add(part * bytes),
            step: bytes.div_ceil(depth.max(1)),
            apart: 0,
        }
    }

    /// The streams themselves, some way ahead: panels `apart` values apart, of `step` bytes a row.
    #[inline(always)]
    pub(crate) fn stream(first: *const f32, step: usize, apart: usize) -> Self {
        let first = first.wrapping_byte_add(Self::DISTANCE);
        Self { first, step, apart: apart * size_of::<f32>() }
    }

    /// The weights that the next tiles of an update change: `step` bytes ahead at each step, none if that is 0.
    #[inline(always)]
    pub(crate) fn update(weights: *const f32, step: usize) -> Self {
        let distance = if step == 0 { 0 } else { Self::DISTANCE };
        Self { first: weights.wrapping_byte_add(distance), step, apart: 0 }
    }

    /// The step for tiles of `bytes` each over so many samples. Too few samples would ask for some of the lines only, which
    /// disturbs the hardware's own prefetching: then there is none.
    #[inline(always)]
    pub(crate) fn update_step(bytes: usize, samples: usize) -> usize {
        if samples * LINE < bytes { 0 } else { bytes.div_ceil(samples) }
    }
}

/// The right operand of a tile: the first row of its first panel, and the distance to the same row of the next.
#[derive(Clone, Copy)]
struct Rhs {
    first: *const f32,
    apart: usize,
}

/// # Safety
/// - for each row r of `steps` and panel q < P, `b.first + q * b.apart + r * NV * S::LANES` is valid for reads of
///   `NV * S::LANES` values
/// - `a` serves `H` rows and each r, `store` serves `H` rows of `P` panels
#[inline(always)]
unsafe fn tile<
    S: Simd,
    D: Steps,
    A: Lhs,
    E: Store,
    const H: usize,
    const NV: usize,
    const P: usize,
>(
    s: S,
    (count, steps): (usize, D),
    a: A,
    b: Rhs,
    ahead: Ahead,
    store: E,
) {
    // Held through a step are the vectors of the operand that has fewer; the other's come one at a time.
    const { assert!(H * NV * P + if NV * P < H { NV * P } else { H } < S::REGS, "too many registers") };
    const { assert!(NV * S::LANES == S::NR, "the tile is not as wide as its panels") };
    let mut acc = [[[s.splat(0.0); NV]; P]; H];
    // SAFETY: the caller's promise.
    if let Some(sums) = unsafe { store.begin::<S, H, NV, P>(s) } {
        acc = sums;
    }
    let mut line = ahead.first;
    for t in 0..count {
        for q in 0..P {
            s.prefetch(line.wrapping_byte_add(q * ahead.apart));
        }
        line = line.wrapping_byte_add(ahead.step);
        // SAFETY: t < count.
        let p = unsafe { steps.row(t) };
        let row = b.first.wrapping_add(p * S::NR);
        if NV * P < H {
            let mut w = [[s.splat(0.0); NV]; P];
            for (q, w) in w.iter_mut().enumerate() {
                for (j, w) in w.iter_mut().enumerate() {
                    // SAFETY: row p of panel q < P, vector j < NV.
                    *w = unsafe { s.load(row.add(q * b.apart + j * S::LANES)) };
                }
            }
            for (i, acc) in acc.iter_mut().enumerate() {
                // SAFETY: i < H, and p is a row of `steps`.
                let x = s.splat(unsafe { a.at(i, p) });
                for q in 0..P {
                    for j in 0..NV {
                        acc[q][j] = s.mul_add(x, w[q][j], acc[q][j]);
                    }
                }
            }
        } else {
            let mut x = [s.splat(0.0); H];
            for (i, x) in x.iter_mut().enumerate() {
                // SAFETY: i < H, and p is a row of `steps`.
                *x = s.splat(unsafe { a.at(i, p) });
            }
            for q in 0..P {
                for j in 0..NV {
                    // SAFETY: row p of panel q < P, vector j < NV.
                    let w = unsafe { s.load(row.add(q * b.apart + j * S::LANES)) };
                    for (acc, &x) in acc.iter_mut().zip(&x) {
                        acc[q][j] = s.mul_add(x, w, acc[q][j]);
                    }
                }
            }
        }
    }
    // SAFETY: the caller's promise.
    unsafe { store.put(s, &acc) };
}

/// Gathered rows, one pointer each.
#[derive(Clone, Copy)]
struct RowPointers<const H: usize>([*const f32; H]);

impl<const H: usize> Lhs for RowPointers<H> {
    #[inline(always)]
    unsafe fn at(&self, i: usize, p: usize) -> f32 {
        // SAFETY: the pointers are rows in which the caller's columns exist.
        unsafe { self.0[i].add(p).read() }
    }
}

/// Columns of the gathered samples, packed by `pack::inputs`: the depth runs over samples, the tile's rows over columns.
#[derive(Clone, Copy)]
struct PackedColumns<const H: usize>(*const f32);

impl<const H: usize> Lhs for PackedColumns<H> {
    #[inline(always)]
    unsafe fn at(&self, i: usize, p: usize) -> f32 {
        // SAFETY: H values were packed for each sample.
        unsafe { self.0.add(p * H + i).read() }
    }
}

/// `H` rows of a task's block times one panel, or several abreast.
#[derive(Clone, Copy)]
pub(crate) struct ProductTile<'a, E> {
    pub(crate) inputs: MatrixRef<'a>,
    /// Instead of them, the columns of a block of the depth for each row of the tile, packed one after another.
    pub(crate) packed: Option<&'a [f32]>,
    /// The input columns that this tile sums over, which are rows of each panel.
    pub(crate) depth: Depth<'a>,
    /// The weights from the first row of the tile's first panel on.
    pub(crate) weights: &'a [f32],
    pub(crate) ahead: Ahead,
    pub(crate) out: &'a ScatterBlock<'a>,
    /// First row of the tile among the rows of the block.
    pub(crate) first: usize,
    /// First column of the first panel in the output.
    pub(crate) col: usize,
    /// What the sums go through at the end of the depth.
    pub(crate) epilogue: E,
}

/// What a product sums over.
#[derive(Clone, Copy)]
pub(crate) enum Depth<'a> {
    /// Columns `.0 .. .1`.
    Block(usize, usize),
    /// The whole depth, but for columns where all inputs are zero.
    Used(&'a Columns),
}

#[derive(Clone, Copy)]
struct ScatterRows<'a, E> {
    out: &'a ScatterBlock<'a>,
    first: usize,
    col: usize,
    /// Width of the last panel; those before it are whole.
    width: usize,
    /// Whether the output holds the sums of the depth before.
    resume: bool,
    /// Whether the depth ends here.
    finish: bool,
    epilogue: E,
}

impl<E> ScatterRows<'_, E> {
    /// Columns of panel `q` of `of`.
    #[inline(always)]
    fn width<S: Simd>(&self, q: usize, of: usize) -> usize {
        if q + 1 < of { S::NR } else { self.width }
    }
}

// Both ways go through memory, as `black_box` has it: this code has many branches, and would otherwise be unrolled into the
// loop's own or else keep the sums of the loop in memory.
impl<E: Epilogue> Store for ScatterRows<'_, E> {
    #[inline(always)]
    unsafe fn begin<S: Simd, const H: usize, const NV: usize, const P: usize>(
        &self,
        s: S,
    ) -> Option<[[[S::V; NV]; P]; H]> {
        if !self.resume {
            return None;
        }
        let mut sums = [[[s.splat(0.0); NV]; P]; H];
        for (i, sums) in black_box(&mut sums).iter_mut().enumerate() {
            for (q, sums) in sums.iter_mut().enumerate() {
                let width = self.width::<S>(q, P);
                for (j, sum) in sums.iter_mut().enumerate() {
                    let lane = j * S::LANES;
                    let n = S::LANES.min(width.saturating_sub(lane));
                    // SAFETY: ProductTile checked the rows of the tile and the columns of its panels; a block of the
                    // depth before this one has written them.
                    unsafe {
                        let (_, from) = self.out.at(self.first + i, self.col + q * S::NR);
                        *sum = if n == S::LANES {
                            s.load(from.add(lane))
                        } else {
                            s.load_first(from.wrapping_add(lane), n)
                        };
                    }
                }
            }
        }
        Some(sums)
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const H: usize, const NV: usize, const P: usize>(
        &self,
        s: S,
        sums: &[[[S::V; NV]; P]; H],
    ) {
        let sums = *sums;
        for (i, sums) in black_box(&sums).iter().enumerate() {
            for (q, sums) in sums.iter().enumerate() {
                let (col, width) = (self.col + q * S::NR, self.width::<S>(q, P));
                // SAFETY: ProductTile checked the rows of the tile and the columns of its panels.
                let (row, to) = unsafe { self.out.at(self.first + i, col) };
                for (j, &sum) in sums.iter().enumerate() {
                    let lane = j * S::LANES;
                    if lane >= width {
                        break;
                    }
                    let n = S::LANES.min(width - lane);
                    // SAFETY: as above; n columns from col + lane on are of this row.
                    unsafe {
                        let v = if self.finish {
                            // Plus 0: a sum that is zero is +0, whether or not zeros were added to it.
                            let sum = s.add(sum, s.splat(0.0));
                            self.epilogue.apply(s, row, col + lane, n, sum)
                        } else {
                            sum
                        };
                        if n == S::LANES {
                            s.store(to.add(lane), v);
                        } else {
                            s.store_first(to.add(lane), v, n);
                        }
                    }
                }
            }
        }
    }
}

impl<E: Epilogue> ProductTile<'_, E> {
    #[inline(always)]
    fn run<S: Simd, const H: usize, const NV: usize, const P: usize>(self, s: S) {
        let d_in = self.inputs.cols();
        let rows = &self.out.rows()[self.first..self.first + H];
        assert!(self.weights.len() >= P * d_in * S::NR, "panels of {}", self.weights.len());
        let (first, last) = (self.col, self.col + (P - 1) * S::NR);
        self.out.check_columns(first, S::NR);
        let width = self.out.check_columns(last, S::NR);
        for q in 0..P {
            self.epilogue.check(self.out, first + q * S::NR, S::NR);
        }
        let (start, end) = match self.depth {
            Depth::Block(start, end) => {
                assert!(start <= end && end <= d_in, "columns {start}..{end} of {d_in}");
                (start, end)
            }
            Depth::Used(columns) => {
                assert!(columns.width() == d_in, "{} columns of {d_in}", columns.width());
                (0, d_in)
            }
        };
        let (resume, finish) = (start > 0, end == d_in);
        // Where column 0 of each row is, or would be: only columns start..end are read.
        let mut pointers = [std::ptr::null(); H];
        if let Some(values) = self.packed {
            let len = end - start;
            let values = &values[..H * len];
            for (i, pointer) in pointers.iter_mut().enumerate() {
                *pointer = values.as_ptr().wrapping_add(i * len).wrapping_sub(start);
            }
        } else {
            for (pointer, &row) in pointers.iter_mut().zip(rows) {
                *pointer = self.inputs.row(row as usize).as_ptr();
            }
        }
        let (out, epilogue) = (self.out, self.epilogue);
        let to =
            ScatterRows { out, first: self.first, col: first, width, resume, finish, epilogue };
        let a = RowPointers(pointers);
        let b = Rhs { first: self.weights.as_ptr(), apart: d_in * S::NR };
        // SAFETY: the weights hold P whole panels; rows and columns of the output were checked above; each input row is
        // a slice of d_in values, or of those that the depth names; each panel has d_in rows, and the depth ends there.
        unsafe {
            match self.depth {
                Depth::Block(start, end) => {
                    let steps = (end - start, From(start));
                    tile::<S, _, _, _, H, NV, P>(s, steps, a, b, self.ahead, to);
                }
                // Taller tiles have more rows than `area::FEW_ROWS`.
                Depth::Used(_) if H > FEW_ROWS => unreachable!("{H} rows are not few"),
                Depth::Used(columns) => {
                    let list = columns.list();
                    let steps = (list.len(), Listed(list.as_ptr(), 0));
                    tile::<S, _, _, _, H, NV, P>(s, steps, a, b, self.ahead, to);
                }
            }
        }
    }
}

impl<E: Epilogue> Tile for ProductTile<'_, E> {
    #[inline(always)]
    fn at<S: Simd, const H: usize, const NV: usize>(self, s: S) {
        self.run::<S, H, NV, 1>(s);
    }
}

impl<E: Epilogue> WideTile for ProductTile<'_, E> {
    #[inline(always)]
    fn at<S: Simd, const H: usize, const NV: usize, const P: usize>(self, s: S) {
        self.run::<S, H, NV, P>(s);
    }
}

/// `H` rows times `NV` strips of signs: a table lookup and an addition for every few rows of signs.
///
/// ```text
/// acc[H][NV] = sums
/// for each word, each byte of it, each SIGNS rows of that:   key[NV] from the signs of the strips
///                                                            for i in 0..H: acc[i] += lookup(table(i), key)
/// sums = acc
/// ```
/// As in a product, each element is one chain of additions in ascending depth.
pub(crate) struct SignTile<'a> {
    /// The tables of the rows for `words`, see `pack::tables`.
    pub(crate) tables: &'a [f32],
    /// All signs of the area: strips of `depth` words for each lane, and one word more.
    pub(crate) signs: &'a [u8],
    pub(crate) depth: usize,
    /// The words of the depth that this tile sums over.
    pub(crate) words: Range<usize>,
    /// The first strip of the tile.
    pub(crate) strip: usize,
    /// The last strip that there is: a tile that reaches beyond takes it again.
    pub(crate) last: usize,
    /// Of each strip a vector for each row.
    pub(crate) sums: &'a mut [f32],
}

impl Tile for SignTile<'_> {
    #[inline(always)]
    fn at<S: Simd, const H: usize, const NV: usize>(self, s: S) {
        const { assert!(H * NV + NV < S::REGS, "the tile does not fit in the registers") };
        let Range { start, end } = self.words;
        let (row, groups) = (S::LANES * WORD_BYTES, (end - start) * WORD / S::SIGNS);
        let strip = self.depth * row;
        assert!(start <= end && end <= self.depth, "words {start}..{end} of {}", self.depth);
        assert!(self.signs.len() >= (self.last + 1) * strip + WORD_BYTES, "strip {}", self.last);
        assert!(self.tables.len() >= groups * H * S::ENTRIES, "tables of {}", self.tables.len());
        assert!(self.sums.len() == NV * H * S::LANES, "sums of {}", self.sums.len());
        let mut from = [self.signs.as_ptr(); NV];
        for (j, from) in from.iter_mut().enumerate() {
            *from = from.wrapping_add((self.strip + j).min(self.last) * strip + start * row);
        }
        let mut acc = [[s.splat(0.0); NV]; H];
        for (i, acc) in acc.iter_mut().enumerate() {
            for (j, acc) in acc.iter_mut().enumerate() {
                // SAFETY: NV * H vectors of sums are there.
                *acc = unsafe { s.load(self.sums.as_ptr().add((j * H + i) * S::LANES)) };
            }
        }
        let mut table = self.tables.as_ptr();
        for word in 0..end - start {
            for from in from {
                s.prefetch(from.wrapping_add(NV * strip + word * row).cast());
            }
            for byte in 0..WORD_BYTES {
                let at = word * row + byte;
                // SAFETY: the word is one of each strip, and one more follows the last strip.
                let mut signs = from.map(|from| unsafe { s.signs(from.add(at)) });
                for _ in 0..8 / S::SIGNS {
                    let keys = signs.map(|signs| s.key(signs));
                    for (i, acc) in acc.iter_mut().enumerate() {
                        for (acc, &key) in acc.iter_mut().zip(&keys) {
                            // SAFETY: for each key there are H tables, which `table` passes by.
                            *acc = unsafe { s.add_lookup(*acc, table.add(i * S::ENTRIES), key) };
                        }
                    }
                    table = table.wrapping_add(H * S::ENTRIES);
                    signs = signs.map(|signs| s.skip(signs));
                }
            }
        }
        for (i, acc) in acc.iter().enumerate() {
            for (j, &acc) in acc.iter().enumerate() {
                // SAFETY: NV * H vectors of sums are there.
                unsafe { s.store(self.sums.as_mut_ptr().add((j * H + i) * S::LANES), acc) };
            }
        }
    }
}

/// The sums of sign tiles, of each strip a vector for each row, leave through the epilogue.
#[inline(always)]
pub(crate) fn put_strips<S: Simd, E: Epilogue>(
    s: S,
    sums: &[f32],
    out: &ScatterBlock<'_>,
    rows: Range<usize>,
    strips: Range<usize>,
    epilogue: E,
) {
    assert!(rows.end <= out.rows().len(), "rows {rows:?}");
    assert!(sums.len() >= strips.len() * rows.len() * S::LANES, "sums of {}", sums.len());
    let mut sums = sums.chunks_exact(S::LANES);
    for strip in strips {
        let (first, col) = (rows.start, strip * S::LANES);
        out.check_columns(col, S::NR);
        epilogue.check(out, col, S::LANES);
        let width = out.columns_from(col);
        let (resume, finish) = (false, true);
        for (i, sums) in sums.by_ref().take(rows.len()).enumerate() {
            let first = first + i;
            let store = ScatterRows { out, first, col, width, resume, finish, epilogue };
            // SAFETY: the row and columns of the output were checked above.
            unsafe { store.put(s, &[[[s.load_slice(sums)]]]) };
        }
    }
}

/// `H` rows of one panel of weights, updated by all samples of their area.
#[derive(Clone, Copy)]
pub(crate) struct UpdateTile<'a, R> {
    /// The layer's input in the columns that belong to these rows, from `pack::inputs`: H values a sample.
    pub(crate) inputs: &'a [f32],
    /// The samples' deltas for this panel: one row of NR values each.
    pub(crate) deltas: &'a [f32],
    /// The first of the rows, among those of the rule's weights.
    pub(crate) first: usize,
    pub(crate) rule: R,
    pub(crate) sums: Sums<'a>,
    /// From [`Ahead::update_step`].
    pub(crate) ahead: usize,
}

/// The sums of a panel's rows between blocks of samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sums<'a> {
    /// As many rows as the rule's weights have; none if there is only one block.
    pub(crate) values: Piece<'a>,
    /// Whether a block came before.
    pub(crate) resume: bool,
    /// Whether this is the last block.
    pub(crate) finish: bool,
}

#[derive(Clone, Copy)]
struct ApplyRule<'a, R> {
    first: usize,
    rule: R,
    sums: Sums<'a>,
}

impl<R: Rule> Store for ApplyRule<'_, R> {
    #[inline(always)]
    unsafe fn begin<S: Simd, const H: usize, const NV: usize, const P: usize>(
        &self,
        s: S,
    ) -> Option<[[[S::V; NV]; P]; H]> {
        if !self.sums.resume {
            return None;
        }
        let mut sums = [[[s.splat(0.0); NV]; P]; H];
        for (i, sums) in sums.iter_mut().enumerate() {
            for (j, sum) in sums[0].iter_mut().enumerate() {
                // SAFETY: UpdateTile checked that the sums hold the rows of the tile.
                *sum = unsafe { self.sums.values.load(s, (self.first + i) * S::NR + j * S::LANES) };
            }
        }
        Some(sums)
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const H: usize, const NV: usize, const P: usize>(
        &self,
        s: S,
        sums: &[[[S::V; NV]; P]; H],
    ) {
        for (i, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums[0].iter().enumerate() {
                let at = (self.first + i) * S::NR + j * S::LANES;
                // SAFETY: UpdateTile checked that the rule's weights, or else the sums, hold the rows of the tile.
                unsafe {
                    if self.sums.finish {
                        self.rule.apply(s, at, sum);
                    } else {
                        self.sums.values.store(s, at, sum);
                    }
                }
            }
        }
    }
}

impl<R: Rule> Tile for UpdateTile<'_, R> {
    #[inline(always)]
    fn at<S: Simd, const H: usize, const NV: usize>(self, s: S) {
        let depth = self.deltas.len() / S::NR;
        let (first, end) = (self.first * S::NR, (self.first + H) * S::NR);
        assert!(self.inputs.len() >= depth * H, "{} inputs", self.inputs.len());
        assert!(end <= self.rule.len(), "{end} of {} weights", self.rule.len());
        let whole = !self.sums.resume && self.sums.finish;
        assert!(whole || end <= self.sums.values.len(), "{end} of the sums");
        let store = ApplyRule { first: self.first, rule: self.rule, sums: self.sums };
        let ahead = Ahead::update(self.rule.first().wrapping_add(first), self.ahead);
        let a = PackedColumns::<H>(self.inputs.as_ptr());
        let b = Rhs { first: self.deltas.as_ptr(), apart: 0 };
        // SAFETY: the deltas are `depth` rows, the inputs as many times H values; the rule's weights hold every row of
        // the tile.
        unsafe { tile::<S, _, _, _, H, NV, 1>(s, (depth, From(0)), a, b, ahead, store) }
    }
}
