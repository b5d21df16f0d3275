//! The macro-kernels of products: all tiles of one task.
//!
//! ```text
//! Product      for panel in panels:  for rows in heights(rows of the block): tile       panel stays in L1/L2
//!              few rows: panels abreast, and only the input columns that are used      each weight is read once
//! SignProduct  for rows in heights:  for words of the depth:  make tables;  for strips: tile      tables stay in L1
//! ```

use super::blocks;
use super::pack::{self, Buffers, Columns};
use super::store::{Epilogue, ScatterBlock};
use super::tile::{Ahead, Depth, ProductTile, SignTile, put_strips};
use crate::matrix::MatrixRef;
use crate::signs::WORD;
use crate::simd::{Op, Simd};
use std::ops::Range;

/// `out[row] = epilogue(inputs[row] * panels)` for the rows and panels of one block.
pub(crate) struct Product<'a, E> {
    pub(crate) inputs: MatrixRef<'a>,
    /// All panels of the area.
    pub(crate) weights: &'a [f32],
    /// Whether a zero input adds nothing whatever its weights are: none is infinite or NaN.
    pub(crate) finite: bool,
    pub(crate) out: ScatterBlock<'a>,
    pub(crate) epilogue: E,
    pub(crate) buffers: &'a mut Buffers,
}

/// Rows of an area up to which its weights are streamed once, whole panels at a time, and zero inputs skipped.
pub(crate) const FEW_ROWS: usize = 8;

/// Of the columns of few rows, the share that may be used at most for the others to be skipped, in per cent: a list of
/// columns costs more than a walk through all of them.
const USED_PERCENT: usize = 50;

/// Panels from which on a list of columns is worth its making.
pub(crate) const LISTED_PANELS: usize = 4;

/// Whether an area of so many rows is streamed.
#[inline(always)]
fn are_few(rows: usize) -> bool {
    rows <= FEW_ROWS
}

/// Lists the columns that some of `rows` use, if it is worth to skip the others in so many panels.
#[inline(always)]
pub(super) fn list_used(
    used: &mut Columns,
    inputs: MatrixRef<'_>,
    rows: &[u32],
    panels: usize,
) -> bool {
    let worth = are_few(rows.len()) && panels >= LISTED_PANELS;
    worth && used.find(inputs, rows, inputs.cols() * USED_PERCENT / 100)
}

/// Panels that a tile of these few rows takes abreast, of those that are left.
#[inline(always)]
fn abreast<S: Simd>(rows: usize, panels: usize) -> usize {
    let abreast = S::abreast(rows);
    if abreast <= panels { abreast } else { 1 }
}

/// Depth and rows of the blocks of many rows.
#[inline(always)]
fn block_size<S: Simd>(depth: usize) -> (usize, usize) {
    // A depth of two blocks is left whole: its sums stay in registers.
    let kc = blocks::depth(S::NR);
    let kc = if depth <= 2 * kc { depth.max(1) } else { kc };
    (kc, (blocks::packed() / kc).max(1).next_multiple_of(S::HEIGHTS[0]))
}

/// How a kernel goes through an area; it and those who tell about it ask the same functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    /// Few rows, or few panels of an update: the weights are streamed; else tiles use them again and again.
    pub(crate) streams: bool,
    /// Columns of the inputs that are used, where the others are skipped.
    pub(crate) used: Option<usize>,
    /// The tallest register tile: rows and columns.
    pub(crate) tile: (usize, usize),
}

/// The [`Way`] of a [`Product`] with finite weights, all of its area's panels in one task.
pub(crate) struct ProductWay<'a> {
    /// Not known: then nothing is skipped.
    pub(crate) inputs: Option<MatrixRef<'a>>,
    pub(crate) rows: &'a [u32],
    pub(crate) depth: usize,
    pub(crate) panels: usize,
    pub(crate) used: &'a mut Columns,
}

impl Op for ProductWay<'_> {
    type Out = Way;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Way {
        let Self { inputs, rows, depth, panels, used } = self;
        let (count, streams) = (rows.len().max(1), are_few(rows.len()));
        let skips = streams && inputs.is_some_and(|x| list_used(used, x, rows, panels));
        let tile = if streams {
            (next_height(S::HEIGHTS, count), abreast::<S>(count, panels) * S::NR)
        } else {
            let (_, mc) = block_size::<S>(depth);
            (next_height(S::HEIGHTS, count.min(mc)), S::NR)
        };
        Way { streams, used: skips.then(|| used.list().len()), tile }
    }
}

impl<E: Epilogue> Op for Product<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (depth, rows) = (self.inputs.cols(), self.out.rows().len());
        if are_few(rows) {
            return self.few_rows(s);
        }
        let (kc, mc) = block_size::<S>(depth);
        for from in (0..depth.max(1)).step_by(kc) {
            for first in (0..rows).step_by(mc) {
                self.block(s, from..depth.min(from + kc), first..rows.min(first + mc));
            }
        }
    }
}

impl<E: Epilogue> Product<'_, E> {
    /// The weights from row 0 of a panel on.
    #[inline(always)]
    fn panel<S: Simd>(&self, panel: usize) -> &[f32] {
        &self.weights[panel * self.inputs.cols() * S::NR..]
    }

    /// All rows at once, over the whole depth: the weights pass by once.
    #[inline(always)]
    fn few_rows<S: Simd>(&mut self, s: S) {
        let (d_in, rows) = (self.inputs.cols(), self.out.rows().len());
        let panels = self.out.block().panels.clone();
        let used = &mut self.buffers.used;
        let skip = self.finite && list_used(used, self.inputs, self.out.rows(), panels.len());
        let depth = if skip { Depth::Used(&self.buffers.used) } else { Depth::Block(0, d_in) };
        let mut panel = panels.start;
        while panel < panels.end {
            let weights = self.panel::<S>(panel);
            let ahead = Ahead::stream(weights.as_ptr(), S::NR * size_of::<f32>(), d_in * S::NR);
            let tile = |first| ProductTile {
                inputs: self.inputs,
                packed: None,
                depth,
                weights,
                ahead,
                out: &self.out,
                first,
                col: panel * S::NR,
                epilogue: self.epilogue,
            };
            let abreast = abreast::<S>(rows, panels.end - panel);
            if abreast > 1 {
                s.wide(rows, tile(0));
                panel += abreast;
            } else {
                let mut first = 0;
                while first < rows {
                    let height = next_height(S::HEIGHTS, rows - first);
                    s.tall(height, tile(first));
                    first += height;
                }
                panel += 1;
            }
        }
    }

    /// The columns `depth` of the inputs of rows `rows` times all panels of the task.
    #[inline(always)]
    fn block<S: Simd>(&mut self, s: S, depth: Range<usize>, rows: Range<usize>) {
        let panels = self.out.block().panels.clone();
        // Long rows lie apart by a large power of two, often, and would compete for the same few places in a cache.
        let packs = depth.len() < self.inputs.cols();
        if packs {
            let rows = &self.out.rows()[rows.clone()];
            pack::block(self.inputs, rows, depth.clone(), &mut self.buffers.inputs);
        }
        let packed =
            |first| packs.then(|| &self.buffers.inputs[(first - rows.start) * depth.len()..]);
        let tiles = tile_count(S::HEIGHTS, rows.len());
        for panel in panels.clone() {
            let weights = self.panel::<S>(panel);
            let next = if panel + 1 < panels.end {
                &self.panel::<S>(panel + 1)[depth.start * S::NR..depth.end * S::NR]
            } else {
                &[]
            };
            let (mut first, mut done) = (rows.start, 0);
            while first < rows.end {
                let height = next_height(S::HEIGHTS, rows.end - first);
                let tile = ProductTile {
                    inputs: self.inputs,
                    packed: packed(first),
                    depth: Depth::Block(depth.start, depth.end),
                    weights,
                    ahead: Ahead::share(next, done, tiles, depth.len()),
                    out: &self.out,
                    first,
                    col: panel * S::NR,
                    epilogue: self.epilogue,
                };
                if depth.start > 0 {
                    // The sums that the next tile begins with.
                    let (next, col) = match first + height {
                        next if next < rows.end => (next, panel),
                        _ => (rows.start, panel + 1),
                    };
                    let next = next..rows.end.min(next + S::HEIGHTS[0]);
                    self.out.prefetch(s, next, col * S::NR);
                }
                s.tall(height, tile);
                first += height;
                done += 1;
            }
        }
    }
}

/// Height of the next tile of `left` rows: so that as few tiles as can be are as even as can be.
#[inline(always)]
fn next_height(heights: &[usize], left: usize) -> usize {
    let even = left.div_ceil(left.div_ceil(heights[0]));
    let fitting = heights.iter().rev().find(|&&h| h >= even && h <= left);
    *fitting.or_else(|| heights.iter().find(|&&h| h <= left)).expect("heights end with 1")
}

/// Tiles that `rows` rows are cut into.
#[inline(always)]
fn tile_count(heights: &[usize], rows: usize) -> usize {
    let (mut left, mut tiles) = (rows, 0);
    while left > 0 {
        left -= next_height(heights, left);
        tiles += 1;
    }
    tiles
}

/// Bytes of the tables that the rows of one tile may have: they stay in L1 while all strips pass over them.
const TABLE_BYTES: usize = 24 << 10;

/// `out[row] = epilogue(errors[row] * signs)` for the rows and panels of one block.
pub(crate) struct SignProduct<'a, E> {
    pub(crate) errors: MatrixRef<'a>,
    /// All signs of the area.
    pub(crate) signs: &'a [u8],
    pub(crate) out: ScatterBlock<'a>,
    pub(crate) epilogue: E,
    pub(crate) buffers: &'a mut Buffers,
}

impl<E: Epilogue> Op for SignProduct<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let depth = self.errors.cols().div_ceil(WORD);
        let samples = self.out.rows();
        let start = self.out.block().panels.start * S::NR;
        self.out.check_columns(start, S::NR);
        let strips = start / S::LANES..(start + self.out.columns_from(start)).div_ceil(S::LANES);
        let Buffers { tables, sums, .. } = self.buffers;
        let mut first = 0;
        for &(rows, vectors) in S::SIGN_TILES {
            let words = TABLE_BYTES / (rows * pack::tables_len::<S>(1) * size_of::<f32>());
            while samples.len() - first >= rows {
                let part = &samples[first..first + rows];
                sums.clear();
                sums.resize(strips.len().next_multiple_of(vectors) * rows * S::LANES, 0.0);
                for from in (0..depth).step_by(words) {
                    let words = from..depth.min(from + words);
                    pack::tables(s, self.errors, part, words.clone(), tables);
                    for (n, sums) in sums.chunks_exact_mut(vectors * rows * S::LANES).enumerate() {
                        let tile = SignTile {
                            tables,
                            signs: self.signs,
                            depth,
                            words: words.clone(),
                            strip: strips.start + n * vectors,
                            last: strips.end - 1,
                            sums,
                        };
                        s.sign_tile(rows, tile);
                    }
                }
                let rows = first..first + rows;
                put_strips(s, sums, &self.out, rows, strips.clone(), self.epilogue);
                first += part.len();
            }
        }
    }
}
