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
use super::store::{Epilogue, Rule, ScatterBlock};
use crate::matrix::MatrixRef;
use crate::signs::WORD;
use crate::simd::{Simd, Tile, WideTile};

/// Which rows of a panel a tile passes over.
trait Steps: Copy {
    /// # Safety
    /// - `t` is less than the number of steps
    unsafe fn row(&self, t: usize) -> usize;
}

/// One row after another.
#[derive(Clone, Copy)]
struct From(usize);

impl Steps for From {
    #[inline(always)]
    unsafe fn row(&self, t: usize) -> usize {
        self.0 + t
    }
}

/// The rows of a list.
#[derive(Clone, Copy)]
struct Listed(*const u32);

impl Steps for Listed {
    #[inline(always)]
    unsafe fn row(&self, t: usize) -> usize {
        // SAFETY: the list has a row for each step.
        unsafe { self.0.add(t).read() as usize }
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
    /// Sums of the depth before this tile: zero, unless a block of the depth came before.
    ///
    /// # Safety
    /// - `i` is less than the tile's height, `q` less than its panels
    #[inline(always)]
    unsafe fn begin<S: Simd, const NV: usize>(&self, s: S, i: usize, q: usize) -> [S::V; NV] {
        let _ = (i, q);
        [s.splat(0.0); NV]
    }

    /// # Safety
    /// - `i` is less than the tile's height, `q` less than its panels
    unsafe fn put<S: Simd, const NV: usize>(&self, s: S, i: usize, q: usize, acc: [S::V; NV]);
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
    const DISTANCE: usize = 4096;

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

    /// Tiles of `bytes` each, one after another, where `steps` are enough to ask for every line. Fewer would ask for some
    /// lines only, which disturbs the hardware's own prefetching.
    #[inline(always)]
    pub(crate) fn tiles(first: *const f32, bytes: usize, steps: usize) -> Self {
        let step = if steps * LINE < bytes { 0 } else { bytes.div_ceil(steps) };
        let distance = if step == 0 { 0 } else { Self::DISTANCE };
        Self { first: first.wrapping_byte_add(distance), step, apart: 0 }
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
    for (i, acc) in acc.iter_mut().enumerate() {
        for (q, acc) in acc.iter_mut().enumerate() {
            // SAFETY: i < H and q < P.
            *acc = unsafe { store.begin(s, i, q) };
        }
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
    for (i, acc) in acc.iter().enumerate() {
        for (q, &acc) in acc.iter().enumerate() {
            // SAFETY: i < H and q < P.
            unsafe { store.put(s, i, q, acc) };
        }
    }
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
    /// Columns of panel `q` of `P`.
    #[inline(always)]
    fn width<S: Simd, const P: usize>(&self, q: usize) -> usize {
        if q + 1 < P { S::NR } else { self.width }
    }
}

impl<E: Epilogue, const P: usize> Store for Abreast<ScatterRows<'_, E>, P> {
    #[inline(always)]
    unsafe fn begin<S: Simd, const NV: usize>(&self, s: S, i: usize, q: usize) -> [S::V; NV] {
        let to = &self.0;
        let mut acc = [s.splat(0.0); NV];
        if to.resume {
            // SAFETY: ProductTile checked the rows of the tile and the columns of its panels; a block of the depth
            // before this one has written them.
            unsafe {
                let (_, from) = to.out.at(to.first + i, to.col + q * S::NR);
                for (j, acc) in acc.iter_mut().enumerate() {
                    let lane = j * S::LANES;
                    let n = S::LANES.min(to.width::<S, P>(q).saturating_sub(lane));
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
    unsafe fn put<S: Simd, const NV: usize>(&self, s: S, i: usize, q: usize, acc: [S::V; NV]) {
        let to = &self.0;
        let (col, width) = (to.col + q * S::NR, to.width::<S, P>(q));
        // SAFETY: ProductTile checked the rows of the tile and the columns of its panels.
        unsafe {
            let (row, first) = to.out.at(to.first + i, col);
            for (j, &acc) in acc.iter().enumerate() {
                let lane = j * S::LANES;
                if lane >= width {
                    break;
                }
                let n = S::LANES.min(width - lane);
                let v = if to.finish {
                    // Plus 0: a sum that is zero is +0, whether or not zeros were added to it.
                    let sum = s.add(acc, s.splat(0.0));
                    to.epilogue.apply(s, row, col + lane, n, sum)
                } else {
                    acc
                };
                if n == S::LANES {
                    s.store(first.add(lane), v);
                } else {
                    s.store_first(first.add(lane), v, n);
                }
            }
        }
    }
}

/// A store of `P` panels.
#[derive(Clone, Copy)]
struct Abreast<T, const P: usize>(T);

impl<E: Epilogue> ProductTile<'_, E> {
    #[inline(always)]
    fn run<S: Simd, const H: usize, const NV: usize, const P: usize>(self, s: S) {
        let d_in = self.inputs.cols();
        let rows = &self.out.rows()[self.first..self.first + H];
        let mut pointers = [std::ptr::null(); H];
        for (pointer, &row) in pointers.iter_mut().zip(rows) {
            *pointer = self.inputs.row(row as usize).as_ptr();
        }
        assert!(self.weights.len() >= P * d_in * S::NR, "panels of {}", self.weights.len());
        let (first, last) = (self.col, self.col + (P - 1) * S::NR);
        self.out.check_columns(first, S::NR);
        let width = self.out.check_columns(last, S::NR);
        for q in 0..P {
            self.epilogue.check(self.out, first + q * S::NR, S::NR);
        }
        let (resume, finish) = match self.depth {
            Depth::Block(start, end) => {
                assert!(start <= end && end <= d_in, "columns {start}..{end} of {d_in}");
                (start > 0, end == d_in)
            }
            Depth::Used(columns) => {
                assert!(columns.width() == d_in, "{} columns of {d_in}", columns.width());
                (false, true)
            }
        };
        let (out, epilogue) = (self.out, self.epilogue);
        let to =
            ScatterRows { out, first: self.first, col: first, width, resume, finish, epilogue };
        let (a, to) = (RowPointers(pointers), Abreast::<_, P>(to));
        let b = Rhs { first: self.weights.as_ptr(), apart: d_in * S::NR };
        // SAFETY: the weights hold P whole panels; rows and columns of the output were checked above; each input row is
        // a slice of d_in values, and so many rows each panel has, which bounds the depth.
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
                    let steps = (list.len(), Listed(list.as_ptr()));
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

/// `H` rows of a task's block times one panel of signs: a table lookup and an addition for every few rows of signs.
///
/// ```text
/// acc[H][NV] = 0
/// for each word and each SIGNS rows of it:   key[NV] from the words
///                                            for i in 0..H: acc[i] += lookup(table(i), key)
/// ```
#[derive(Clone, Copy)]
pub(crate) struct SignTile<'a, E> {
    /// The tables of some rows of the block, see `pack::tables`.
    pub(crate) tables: &'a [f32],
    /// First row of the tile among those of the tables.
    pub(crate) row: usize,
    /// The panel's words: NR for each 32 rows of signs.
    pub(crate) words: &'a [u32],
    pub(crate) out: &'a ScatterBlock<'a>,
    /// First row of the tile among the rows of the block.
    pub(crate) first: usize,
    /// First column of the panel in the output.
    pub(crate) col: usize,
    pub(crate) epilogue: E,
}

impl<E: Epilogue> Tile for SignTile<'_, E> {
    #[inline(always)]
    fn at<S: Simd, const H: usize, const NV: usize>(self, s: S) {
        let groups = WORD.div_ceil(S::SIGNS);
        let depth = self.words.len() / S::NR;
        let stride = depth * groups * S::ENTRIES;
        let tables = &self.tables[self.row * stride..][..H * stride];
        assert!(self.first + H <= self.out.rows().len(), "row {}", self.first);
        let width = self.out.check_columns(self.col, S::NR);
        self.epilogue.check(self.out, self.col, S::NR);
        let mut acc = [[s.splat(0.0); NV]; H];
        let mut at = 0;
        for word in self.words.chunks_exact(S::NR) {
            for group in 0..groups {
                // SAFETY: `word` holds NR words, one vector after another.
                let keys: [S::Key; NV] = unsafe {
                    let mut keys = [s.key(word.as_ptr(), group * S::SIGNS); NV];
                    for (j, key) in keys.iter_mut().enumerate().skip(1) {
                        *key = s.key(word.as_ptr().add(j * S::LANES), group * S::SIGNS);
                    }
                    keys
                };
                for (i, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: `tables` holds H rows of `stride` values, and `at` counts through one of them.
                    let table = unsafe { tables.as_ptr().add(i * stride + at) };
                    for (acc, &key) in acc.iter_mut().zip(&keys) {
                        // SAFETY: a whole table lies there.
                        *acc = s.add(*acc, unsafe { s.lookup(table, key) });
                    }
                }
                at += S::ENTRIES;
            }
        }
        let store = Abreast::<_, 1>(ScatterRows {
            out: self.out,
            first: self.first,
            col: self.col,
            width,
            resume: false,
            finish: true,
            epilogue: self.epilogue,
        });
        for (i, &acc) in acc.iter().enumerate() {
            // SAFETY: the rows and columns of the tile were checked above.
            unsafe { store.put(s, i, 0, acc) };
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
}

/// As [`UpdateTile`], on the rows of a list.
pub(crate) struct ListedUpdateTile<'a, R> {
    /// `first` is what the rows of the list are counted from.
    pub(crate) tile: UpdateTile<'a, R>,
    pub(crate) list: &'a [u32],
}

/// Where row `i` of a tile begins among the weights of its rule.
trait Offsets: Copy {
    fn at<S: Simd>(&self, i: usize) -> usize;
}

impl Offsets for From {
    #[inline(always)]
    fn at<S: Simd>(&self, i: usize) -> usize {
        (self.0 + i) * S::NR
    }
}

impl<const H: usize> Offsets for [usize; H] {
    #[inline(always)]
    fn at<S: Simd>(&self, i: usize) -> usize {
        self[i] * S::NR
    }
}

#[derive(Clone, Copy)]
struct ApplyRule<R, O> {
    rows: O,
    rule: R,
}

impl<R: Rule, O: Offsets> Store for ApplyRule<R, O> {
    #[inline(always)]
    unsafe fn put<S: Simd, const NV: usize>(&self, s: S, i: usize, _: usize, acc: [S::V; NV]) {
        for (j, &acc) in acc.iter().enumerate() {
            // SAFETY: UpdateTile checked that the rule's weights hold the rows of the tile.
            unsafe { self.rule.apply(s, self.rows.at::<S>(i) + j * S::LANES, acc) };
        }
    }
}

impl<R: Rule> UpdateTile<'_, R> {
    #[inline(always)]
    fn run<S: Simd, const H: usize, const NV: usize>(self, s: S, rows: impl Offsets) {
        let depth = self.deltas.len() / S::NR;
        assert!(self.inputs.len() >= depth * H, "{} inputs", self.inputs.len());
        for i in 0..H {
            let end = rows.at::<S>(i) + S::NR;
            assert!(end <= self.rule.len(), "{end} of {} weights", self.rule.len());
        }
        let (a, b) = (PackedColumns::<H>(self.inputs.as_ptr()), self.deltas.as_ptr());
        let store = ApplyRule { rows, rule: self.rule };
        let weights = self.rule.first().wrapping_add(rows.at::<S>(0));
        let ahead = Ahead::tiles(weights, H * S::NR * size_of::<f32>(), depth);
        let b = Rhs { first: b, apart: 0 };
        // SAFETY: the deltas are `depth` rows, the inputs as many times H values; the rule's weights hold every row of
        // the tile.
        unsafe { tile::<S, _, _, _, H, NV, 1>(s, (depth, From(0)), a, b, ahead, store) }
    }
}

impl<R: Rule> Tile for UpdateTile<'_, R> {
    #[inline(always)]
    fn at<S: Simd, const H: usize, const NV: usize>(self, s: S) {
        self.run::<S, H, NV>(s, From(self.first));
    }
}

impl<R: Rule> Tile for ListedUpdateTile<'_, R> {
    #[inline(always)]
    fn at<S: Simd, const H: usize, const NV: usize>(self, s: S) {
        let mut rows = [0; H];
        for (to, &row) in rows.iter_mut().zip(&self.list[..H]) {
            *to = row as usize - self.tile.first;
        }
        self.tile.run::<S, H, NV>(s, rows);
    }
}
