//! The register tile: `H` rows times one panel, all sums in registers. Every product of this crate is this loop, but for
//! signs, which are looked up (see [`SignTile`]).
//!
//! ```text
//! acc[H][NV] = 0
//! for p in 0..depth:   b = NV vectors of panel row p
//!                      for i in 0..H: acc[i] += splat(a(i, p)) * b
//! for i in 0..H:       store.put(i, acc[i])
//! ```
//! Each element is one chain of multiply-adds in ascending `p`: neither the height of the tile nor the number of
//! threads can change its bits.

use super::store::{Epilogue, Rule, ScatterBlock};
use crate::matrix::MatrixRef;
use crate::signs::{WORD, WORD_BYTES};
use crate::simd::{Simd, Tile};
use std::ops::Range;

/// The left operand of a tile: one value, broadcast.
trait Lhs: Copy {
    /// # Safety
    /// - `i` is less than the tile's height, `p` less than its depth
    unsafe fn at(&self, i: usize, p: usize) -> f32;
}

/// Where a row of sums begins, and what becomes of it.
trait Store: Copy {
    /// Sums of the depth before this tile: zero, unless a block of the depth came before.
    ///
    /// # Safety
    /// - `i` is less than the tile's height
    #[inline(always)]
    unsafe fn begin<S: Simd, const NV: usize>(&self, s: S, i: usize) -> [S::V; NV] {
        let _ = i;
        [s.splat(0.0); NV]
    }

    /// # Safety
    /// - `i` is less than the tile's height
    unsafe fn put<S: Simd, const NV: usize>(&self, s: S, i: usize, acc: [S::V; NV]);
}

/// What a tile asks for while it runs: one line for each step of its depth, `step` bytes apart.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    first: *const f32,
    step: usize,
}

impl Ahead {
    /// How far ahead of a stream that is read once: far enough for the latency of memory.
    const DISTANCE: usize = 4096;

    /// Share `part` of `parts` of the values in `next`, over a tile of this depth.
    #[inline(always)]
    pub(crate) fn share(next: &[f32], part: usize, parts: usize, depth: usize) -> Self {
        let bytes = size_of_val(next).div_ceil(parts);
        Self {
            first: next.as_ptr().wrapping_byte_add(part * bytes),
            step: bytes.div_ceil(depth.max(1)),
        }
    }

    /// The stream itself, some way ahead.
    #[inline(always)]
    pub(crate) fn stream(first: *const f32, step: usize) -> Self {
        Self { first: first.wrapping_byte_add(Self::DISTANCE), step }
    }
}

/// # Safety
/// - `b` is valid for reads of `depth * NV * S::LANES` values
/// - `a` and `store` serve `H` rows, `a` to `depth`
#[inline(always)]
unsafe fn tile<S: Simd, A: Lhs, E: Store, const H: usize, const NV: usize>(
    s: S,
    depth: usize,
    a: A,
    b: *const f32,
    ahead: Ahead,
    store: E,
) {
    const { assert!(H * NV + NV < S::REGS, "the tile does not fit in the registers") };
    const { assert!(NV * S::LANES == S::NR, "the tile is not as wide as a panel") };
    let mut acc = [[s.splat(0.0); NV]; H];
    for (i, acc) in acc.iter_mut().enumerate() {
        // SAFETY: i < H.
        *acc = unsafe { store.begin(s, i) };
    }
    let (mut row, mut line) = (b, ahead.first);
    for p in 0..depth {
        s.prefetch(line);
        line = line.wrapping_byte_add(ahead.step);
        let mut w = [s.splat(0.0); NV];
        for (j, w) in w.iter_mut().enumerate() {
            // SAFETY: row p of the panel, vector j < NV.
            *w = unsafe { s.load(row.add(j * S::LANES)) };
        }
        for (i, acc) in acc.iter_mut().enumerate() {
            // SAFETY: i < H and p < depth.
            let x = s.splat(unsafe { a.at(i, p) });
            for (acc, &w) in acc.iter_mut().zip(&w) {
                *acc = s.mul_add(x, w, *acc);
            }
        }
        row = row.wrapping_add(NV * S::LANES);
    }
    for (i, &acc) in acc.iter().enumerate() {
        // SAFETY: i < H.
        unsafe { store.put(s, i, acc) };
    }
}

/// Gathered rows, one pointer each.
#[derive(Clone, Copy)]
struct RowPointers<const H: usize>([*const f32; H]);

impl<const H: usize> Lhs for RowPointers<H> {
    #[inline(always)]
    unsafe fn at(&self, i: usize, p: usize) -> f32 {
        // SAFETY: the pointers are rows of at least depth values.
        unsafe { self.0[i].add(p).read() }
    }
}

/// Transposed rows: the depth runs over samples, the tile's rows over neighbouring columns.
#[derive(Clone, Copy)]
struct Columns {
    /// Column 0 of the tile in row 0 of the matrix.
    first: *const f32,
    stride: usize,
    rows: *const u32,
}

impl Lhs for Columns {
    #[inline(always)]
    unsafe fn at(&self, i: usize, p: usize) -> f32 {
        // SAFETY: `rows` lists depth samples of the matrix, and i stays inside of its columns.
        unsafe { self.first.add(*self.rows.add(p) as usize * self.stride + i).read() }
    }
}

/// A column of ones: the input that a bias sees.
#[derive(Clone, Copy)]
struct Ones;

impl Lhs for Ones {
    #[inline(always)]
    unsafe fn at(&self, _: usize, _: usize) -> f32 {
        1.0
    }
}

/// `H` rows of a task's block times one panel.
#[derive(Clone, Copy)]
pub(crate) struct ProductTile<'a, E> {
    pub(crate) inputs: MatrixRef<'a>,
    /// First of the input columns that this tile sums over.
    pub(crate) depth: usize,
    /// Weight rows of these columns: one row of NR values each.
    pub(crate) panel: &'a [f32],
    pub(crate) ahead: Ahead,
    pub(crate) out: &'a ScatterBlock<'a>,
    /// First row of the tile among the rows of the block.
    pub(crate) first: usize,
    /// First column of the panel in the output.
    pub(crate) col: usize,
    /// What the sums go through at the end of the depth.
    pub(crate) epilogue: E,
}

#[derive(Clone, Copy)]
struct ScatterRows<'a, E> {
    out: &'a ScatterBlock<'a>,
    first: usize,
    col: usize,
    width: usize,
    /// Whether the output holds the sums of the depth before.
    resume: bool,
    /// Whether the depth ends here.
    finish: bool,
    epilogue: E,
}

impl<E: Epilogue> Store for ScatterRows<'_, E> {
    #[inline(always)]
    unsafe fn begin<S: Simd, const NV: usize>(&self, s: S, i: usize) -> [S::V; NV] {
        let mut acc = [s.splat(0.0); NV];
        if self.resume {
            // SAFETY: ProductTile::at checked the rows of the tile and the columns of the panel; a block of the depth
            // before this one has written them.
            unsafe {
                let (_, from) = self.out.at(self.first + i, self.col);
                for (j, acc) in acc.iter_mut().enumerate() {
                    let lane = j * S::LANES;
                    let n = S::LANES.min(self.width.saturating_sub(lane));
                    *acc = if n == S::LANES {
                        s.load(from.add(lane))
                    } else {
                        s.load_first(from.wrapping_add(lane), n)
                    };
                }
            }
        }
        acc
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const NV: usize>(&self, s: S, i: usize, acc: [S::V; NV]) {
        // SAFETY: ProductTile::at checked the rows of the tile and the columns of the panel.
        unsafe {
            let (row, to) = self.out.at(self.first + i, self.col);
            for (j, &acc) in acc.iter().enumerate() {
                let lane = j * S::LANES;
                if lane >= self.width {
                    break;
                }
                let n = S::LANES.min(self.width - lane);
                let v = if self.finish {
                    self.epilogue.apply(s, row, self.col + lane, n, acc)
                } else {
                    acc
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

impl<E: Epilogue> Tile for ProductTile<'_, E> {
    #[inline(always)]
    fn at<S: Simd, const H: usize, const NV: usize>(self, s: S) {
        let depth = self.panel.len() / S::NR;
        let columns = self.depth..self.depth + depth;
        let rows = &self.out.rows()[self.first..self.first + H];
        let mut pointers = [std::ptr::null(); H];
        for (pointer, &row) in pointers.iter_mut().zip(rows) {
            *pointer = self.inputs.row(row as usize)[columns.clone()].as_ptr();
        }
        let width = self.out.check_columns(self.col, S::NR);
        self.epilogue.check(self.out, self.col, S::NR);
        let store = ScatterRows {
            out: self.out,
            first: self.first,
            col: self.col,
            width,
            resume: columns.start > 0,
            finish: columns.end == self.inputs.cols(),
            epilogue: self.epilogue,
        };
        let (a, b) = (RowPointers(pointers), self.panel.as_ptr());
        // SAFETY: the panel holds `depth` rows; the rows and columns of the output were checked above; each input row
        // is a slice of `depth` values.
        unsafe { tile::<S, _, _, H, NV>(s, depth, a, b, self.ahead, store) }
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
        let store = ScatterRows { out, first, col, width, resume: false, finish: true, epilogue };
        for (i, sums) in sums.by_ref().take(rows.len()).enumerate() {
            // SAFETY: `sums` is one vector; the rows and columns of the output were checked above.
            unsafe { store.put(s, i, [s.load(sums.as_ptr())]) };
        }
    }
}

/// `H` neighbouring rows of one panel of weights, updated by all samples of their area.
pub(crate) struct UpdateTile<'a, R> {
    /// The layer's input, or nothing for a bias: a column of ones.
    pub(crate) inputs: Option<MatrixRef<'a>>,
    /// The samples of the area.
    pub(crate) samples: &'a [u32],
    /// Their deltas for this panel: one row of NR values a sample.
    pub(crate) deltas: &'a [f32],
    /// First input column, which is the first weight row of the tile.
    pub(crate) first: usize,
    /// Where that row lies among the weights of the rule.
    pub(crate) offset: usize,
    pub(crate) rule: R,
}

#[derive(Clone, Copy)]
struct ApplyRule<R> {
    offset: usize,
    rule: R,
}

impl<R: Rule> Store for ApplyRule<R> {
    #[inline(always)]
    unsafe fn put<S: Simd, const NV: usize>(&self, s: S, i: usize, acc: [S::V; NV]) {
        for (j, &acc) in acc.iter().enumerate() {
            // SAFETY: UpdateTile::at checked that the rule's rows hold the tile.
            unsafe { self.rule.apply(s, self.offset + i * S::NR + j * S::LANES, acc) };
        }
    }
}

impl<R: Rule> Tile for UpdateTile<'_, R> {
    #[inline(always)]
    fn at<S: Simd, const H: usize, const NV: usize>(self, s: S) {
        let depth = self.samples.len();
        assert!(self.deltas.len() == depth * S::NR, "deltas of {}", self.deltas.len());
        assert!(self.rule.len() >= self.offset + H * S::NR, "weights of {}", self.rule.len());
        let b = self.deltas.as_ptr();
        let store = ApplyRule { offset: self.offset, rule: self.rule };
        // The weights of the tiles to come, spread over the samples.
        let step = (H * S::NR * size_of::<f32>()).div_ceil(depth.max(1));
        let ahead = Ahead::stream(self.rule.first().wrapping_add(self.offset), step);
        match self.inputs {
            Some(inputs) => {
                assert!(self.first + H <= inputs.cols(), "column {}", self.first);
                debug_assert!(self.samples.iter().all(|&r| (r as usize) < inputs.rows()));
                let a = Columns {
                    first: inputs.as_ptr().wrapping_add(self.first),
                    stride: inputs.stride(),
                    rows: self.samples.as_ptr(),
                };
                // SAFETY: lengths and columns were checked above; the samples were checked against the rows by
                // `area::RankUpdate`, which makes every tile of an area.
                unsafe { tile::<S, _, _, H, NV>(s, depth, a, b, ahead, store) }
            }
            // SAFETY: lengths were checked above.
            None => unsafe { tile::<S, _, _, H, NV>(s, depth, Ones, b, ahead, store) },
        }
    }
}
