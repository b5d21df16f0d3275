//! The macro-kernels: all tiles of one task.
//!
//! ```text
//! Product      for panel in panels:  for rows in heights(rows of the block): tile       panel stays in L1/L2
//!              few rows: panels abreast, and only the input columns that are used      each weight is read once
//! SignProduct  for rows in blocks:  make tables;  for panel in panels:  tile            lookups instead of products
//! RankUpdate   pack inputs;  for panel in panels:  pack deltas;  for weight rows in heights: tile     one pass over the weights
//! ```

use super::pack::{self, Buffers};
use super::store::{AdamW, Epilogue, Momentum, Piece, Rule, ScatterBlock, Sgd};
use super::tile::{Ahead, Depth, ListedUpdateTile, ProductTile, SignTile, Sums, UpdateTile};
use crate::matrix::MatrixRef;
use crate::panels::largest;
use crate::signs::WORD;
use crate::simd::{Op, Simd};
use std::ops::Range;

/// Calls `$tile` for ascending starts, with the tallest heights up to `$most` that fit: 11 rows are 8 + 2 + 1.
macro_rules! for_each_height {
    ($S:ty, $s:expr, $rows:expr, |$first:ident| $tile:expr) => {
        for_each_height!($S, $s, $rows, usize::MAX, |$first| $tile)
    };
    ($S:ty, $s:expr, $rows:expr, $most:expr, |$first:ident| $tile:expr) => {{
        let rows: Range<usize> = $rows;
        let mut $first = rows.start;
        for &height in <$S>::HEIGHTS {
            if height > $most {
                continue;
            }
            while rows.end - $first >= height {
                $s.tall(height, $tile);
                $first += height;
            }
        }
    }};
}

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
const LISTED_PANELS: usize = 4;

/// Depth above which a product is cut into blocks of the depth, and what they are then: part of a panel and the input
/// rows of a tile stay in the nearest caches.
const KC: Range<usize> = 512..1025;

/// Bytes of the inputs that one block of rows may have: they stay in L2 while all panels pass over them.
const ROWS_BYTES: usize = 256 << 10;

impl<E: Epilogue> Op for Product<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (depth, rows) = (self.inputs.cols(), self.out.rows().len());
        if rows <= FEW_ROWS {
            return self.few_rows(s);
        }
        let kc = if depth < KC.end { depth.max(1) } else { KC.start };
        let mc = (ROWS_BYTES / (kc * size_of::<f32>())).max(1).next_multiple_of(S::HEIGHTS[0]);
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
        let most = d_in * USED_PERCENT / 100;
        let panels = self.out.block().panels.clone();
        let skip = self.finite && panels.len() >= LISTED_PANELS;
        let skip = skip && self.buffers.used.find(self.inputs, self.out.rows(), most);
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
            let abreast = S::abreast(rows);
            if abreast > 1 && panels.end - panel >= abreast {
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

/// Rows whose tables are made at a time: few enough for L2.
const SIGN_BLOCK: usize = 24;

/// `out[row] = epilogue(errors[row] * signs)` for the rows and panels of one block.
pub(crate) struct SignProduct<'a, E> {
    pub(crate) errors: MatrixRef<'a>,
    /// All words of the area.
    pub(crate) words: &'a [u32],
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
        let tables = &mut self.buffers.tables;
        for start in (0..samples.len()).step_by(SIGN_BLOCK) {
            let rows = start..samples.len().min(start + SIGN_BLOCK);
            pack::tables::<S>(self.errors, &samples[rows.clone()], tables);
            for panel in self.out.block().panels.clone() {
                for_each_height!(S, s, rows.clone(), S::SIGN_ROWS, |first| SignTile {
                    tables,
                    row: first - start,
                    words: &self.words[panel * depth * S::NR..][..depth * S::NR],
                    out: &self.out,
                    first,
                    col: panel * S::NR,
                    epilogue: self.epilogue,
                });
            }
        }
    }
}

/// The optimiser's constants for one area and one step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Sgd,
    Momentum { momentum: f32, lr: f32 },
    AdamW { beta1: f32, beta2: f32, step: f32, unbias: f32, eps: f32 },
}

/// A task of an update: some rows of one panel, or neighbouring whole panels, of one area's weights and moments.
pub(crate) struct RankUpdate<'a> {
    /// The layer's input; nothing for a bias, whose input is one.
    pub(crate) inputs: Option<MatrixRef<'a>>,
    pub(crate) deltas: MatrixRef<'a>,
    /// The samples of the area.
    pub(crate) samples: &'a [u32],
    /// Factor of the deltas: `c` of the averaging, times `-lr` for SGD.
    pub(crate) scale: f32,
    pub(crate) keep: f32,
    pub(crate) step: Step,
    /// Whether a zero input changes nothing: deltas are finite, weights do not decay, and there are no moments.
    pub(crate) skip: bool,
    pub(crate) panels: Range<usize>,
    /// Weight rows of each panel, which belong to columns of the input.
    pub(crate) rows: Range<usize>,
    pub(crate) weights: &'a mut [f32],
    /// Empty where the optimiser has none.
    pub(crate) first_moment: &'a mut [f32],
    /// Empty where the optimiser has none.
    pub(crate) second_moment: &'a mut [f32],
}

/// A task of an update with the memory that it works in.
pub(crate) struct BufferedUpdate<'a> {
    pub(crate) task: RankUpdate<'a>,
    pub(crate) buffers: &'a mut Buffers,
}

/// Samples of an update that are packed at a time.
const SAMPLES: usize = 128;

/// Bytes of packed inputs: they stay in L2 while all panels pass over them.
const PACKED_BYTES: usize = 128 << 10;

impl Op for BufferedUpdate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { task, buffers: Buffers { inputs: packed, deltas, sums, used, .. } } = self;
        let RankUpdate { inputs, samples, scale, keep, panels, rows, .. } = task;
        let few = task.skip && samples.len() <= FEW_ROWS && panels.len() >= LISTED_PANELS;
        let most = |x: MatrixRef<'_>| x.cols() * USED_PERCENT / 100;
        let skip = few && inputs.is_some_and(|x| used.find(x, samples, most(x)));
        let blocks = samples.len().div_ceil(SAMPLES).max(1);
        let some = samples.len().div_ceil(blocks).max(1);
        let kc = PACKED_BYTES / (some * size_of::<f32>());
        let kc = kc.max(1).next_multiple_of(S::HEIGHTS[0]);
        for from in rows.clone().step_by(kc) {
            let block = from..rows.end.min(from + kc);
            let listed = skip.then(|| within(used.list(), block.clone()));
            sums.clear();
            if blocks > 1 {
                sums.resize(panels.len() * block.len() * S::NR, 0.0);
            }
            let ahead = Ahead::update_step(S::HEIGHTS[0] * S::NR * size_of::<f32>(), some);
            for (nth, samples) in samples.chunks(some).enumerate() {
                pack::inputs(s, inputs, samples, &block, listed, packed);
                for panel in panels.clone() {
                    pack::deltas(task.deltas, samples, panel * S::NR, S::NR, scale, deltas);
                    let at = (panel - panels.start) * rows.len() + block.start - rows.start;
                    let at = at * S::NR..(at + block.len()) * S::NR;
                    let len = if blocks > 1 { block.len() * S::NR } else { 0 };
                    let sums = Piece::new(&mut sums[(panel - panels.start) * len..][..len]);
                    let sums = Sums { values: sums, resume: nth > 0, finish: nth + 1 == blocks };
                    let tiles = PanelTiles { inputs: packed, deltas, block: &block, sums, ahead };
                    let weights = Piece::new(&mut task.weights[at.clone()]);
                    match (task.step, listed) {
                        (Step::Sgd, Some(list)) => tiles.listed(s, Sgd { weights, keep }, list),
                        (Step::Sgd, None) => tiles.all(s, Sgd { weights, keep }),
                        (Step::Momentum { momentum, lr }, _) => {
                            let first = Piece::new(&mut task.first_moment[at]);
                            tiles.all(s, Momentum { weights, first, keep, momentum, lr });
                        }
                        (Step::AdamW { beta1, beta2, step, unbias, eps }, _) => {
                            let first = Piece::new(&mut task.first_moment[at.clone()]);
                            let second = Piece::new(&mut task.second_moment[at]);
                            tiles.all(
                                s,
                                AdamW {
                                    weights,
                                    first,
                                    second,
                                    keep,
                                    beta1,
                                    beta2,
                                    step,
                                    unbias,
                                    eps,
                                },
                            );
                        }
                    }
                }
            }
        }
    }
}

/// The part of an ascending list that lies in `range`.
#[inline(always)]
fn within(list: &[u32], range: Range<usize>) -> &[u32] {
    let at = |limit| list.partition_point(|&x| (x as usize) < limit);
    &list[at(range.start)..at(range.end)]
}

/// The tiles of one block of weight rows in one panel.
struct PanelTiles<'a> {
    /// From `pack::inputs`.
    inputs: &'a [f32],
    /// From `pack::deltas`.
    deltas: &'a [f32],
    block: &'a Range<usize>,
    sums: Sums<'a>,
    ahead: usize,
}

impl PanelTiles<'_> {
    #[inline(always)]
    fn tile<S: Simd, R>(&self, rule: R, done: usize, first: usize) -> UpdateTile<'_, R> {
        let Self { inputs, deltas, sums, ahead, .. } = *self;
        let samples = deltas.len() / S::NR;
        UpdateTile { inputs: &inputs[done * samples..], deltas, first, rule, sums, ahead }
    }

    /// All rows of the block.
    #[inline(always)]
    fn all<S: Simd, R: Rule>(&self, s: S, rule: R) {
        for_each_height!(S, s, 0..self.block.len(), |done| self.tile::<S, R>(rule, done, done));
    }

    /// The rows of the block that the list names.
    #[inline(always)]
    fn listed<S: Simd, R: Rule>(&self, s: S, rule: R, list: &[u32]) {
        for_each_height!(S, s, 0..list.len(), |done| ListedUpdateTile {
            tile: self.tile::<S, R>(rule, done, self.block.start),
            list: &list[done..],
        });
    }
}

/// The largest magnitude in some rows; infinite or NaN if one is there.
pub(crate) struct Largest<'a> {
    pub(crate) of: MatrixRef<'a>,
    pub(crate) rows: &'a [u32],
}

impl Op for Largest<'_> {
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f32 {
        let of_row = |&row: &u32| largest(self.of.row(row as usize)).to_bits();
        f32::from_bits(self.rows.iter().map(of_row).max().unwrap_or(0))
    }
}
