//! The macro-kernels: all tiles of one task.
//!
//! ```text
//! Product      for panel in panels:  for rows in heights(rows of the block): tile       panel stays in L1/L2
//! SignProduct  for rows in heights:  for words of the depth:  make tables;  for strips: tile      tables stay in L1
//! RankUpdate   for panel in panels:  pack deltas;  for weight rows in heights: tile     one pass over the weights
//! ```

use super::pack;
use super::store::{AdamW, Epilogue, Momentum, Piece, Rule, ScatterBlock, Sgd};
use super::tile::{Ahead, ProductTile, SignTile, UpdateTile, put_strips};
use crate::matrix::{ALIGN, Aligned, MatrixRef};
use crate::signs::WORD;
use crate::simd::{Op, Simd};
use std::ops::Range;

/// Calls `$tile` for ascending starts, with the tallest heights that fit: 11 rows are 8 + 2 + 1.
macro_rules! for_each_height {
    ($S:ty, $s:expr, $rows:expr, |$first:ident| $tile:expr) => {{
        let rows: Range<usize> = $rows;
        let mut $first = rows.start;
        for &height in <$S>::HEIGHTS {
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
    pub(crate) out: ScatterBlock<'a>,
    pub(crate) epilogue: E,
}

/// Depth above which a product is cut into blocks of the depth, and what they are then: part of a panel and the input
/// rows of a tile stay in the nearest caches.
const KC: Range<usize> = 512..1025;

/// Bytes of the inputs that one block of rows may have: they stay in L2 while all panels pass over them.
const ROWS_BYTES: usize = 256 << 10;

impl<E: Epilogue> Op for Product<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (depth, rows) = (self.inputs.cols(), self.out.rows().len());
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
    /// The columns `depth` of the inputs of rows `rows` times all panels of the task.
    #[inline(always)]
    fn block<S: Simd>(&self, s: S, depth: Range<usize>, rows: Range<usize>) {
        let panels = self.out.block().panels.clone();
        let tiles = tile_count(S::HEIGHTS, rows.len());
        let part = |panel: usize| {
            let first = panel * self.inputs.cols();
            &self.weights[(first + depth.start) * S::NR..(first + depth.end) * S::NR]
        };
        for panel in panels.clone() {
            let here = part(panel);
            let next = if panel + 1 < panels.end { part(panel + 1) } else { &[] };
            let mut done = 0;
            for_each_height!(S, s, rows.clone(), |first| {
                let ahead = if tiles == 1 {
                    Ahead::stream(here.as_ptr(), S::NR * size_of::<f32>())
                } else {
                    Ahead::share(next, done, tiles, depth.len())
                };
                done += 1;
                ProductTile {
                    inputs: self.inputs,
                    depth: depth.start,
                    panel: here,
                    ahead,
                    out: &self.out,
                    first,
                    col: panel * S::NR,
                    epilogue: self.epilogue,
                }
            });
        }
    }
}

/// Tiles that `rows` rows are cut into.
#[inline(always)]
fn tile_count(heights: &[usize], rows: usize) -> usize {
    let (mut left, mut tiles) = (rows, 0);
    for &h in heights {
        tiles += left / h;
        left %= h;
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
        let (mut tables, mut sums) = (Aligned::new(ALIGN), Aligned::new(ALIGN));
        let mut first = 0;
        for &(rows, vectors) in S::SIGN_TILES {
            let words = TABLE_BYTES / (rows * pack::tables_len::<S>(1) * size_of::<f32>());
            while samples.len() - first >= rows {
                let part = &samples[first..first + rows];
                sums.clear();
                sums.resize(strips.len().next_multiple_of(vectors) * rows * S::LANES, 0.0);
                for from in (0..depth).step_by(words) {
                    let words = from..depth.min(from + words);
                    pack::tables(s, self.errors, part, words.clone(), &mut tables);
                    for (n, sums) in sums.chunks_exact_mut(vectors * rows * S::LANES).enumerate() {
                        let tile = SignTile {
                            tables: &tables,
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
                put_strips(s, &sums, &self.out, rows, strips.clone(), self.epilogue);
                first += part.len();
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

/// A task of an update: neighbouring packed rows of one area's weights, and their moments.
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
    /// Rows of one panel: the width of the layer's input.
    pub(crate) d_in: usize,
    /// First packed row of the task, counted over the panels of the area.
    pub(crate) first: usize,
    pub(crate) weights: &'a mut [f32],
    /// Empty where the optimiser has none.
    pub(crate) first_moment: &'a mut [f32],
    /// Empty where the optimiser has none.
    pub(crate) second_moment: &'a mut [f32],
}

impl Op for RankUpdate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        if let Some(inputs) = self.inputs {
            assert!(self.samples.iter().all(|&r| (r as usize) < inputs.rows()), "sample rows");
        }
        let end = self.first + self.weights.len() / S::NR;
        let mut deltas = Vec::new();
        let mut row = self.first;
        while row < end {
            let panel = row / self.d_in;
            let stop = end.min((panel + 1) * self.d_in);
            pack::columns(self.deltas, self.samples, panel * S::NR, S::NR, self.scale, &mut deltas);
            self.panel(s, row..stop, &deltas);
            row = stop;
        }
    }
}

impl RankUpdate<'_> {
    /// Packed rows `rows` of the area, all of one panel.
    #[inline(always)]
    fn panel<S: Simd>(&mut self, s: S, rows: Range<usize>, deltas: &[f32]) {
        let at = (rows.start - self.first) * S::NR..(rows.end - self.first) * S::NR;
        let first = rows.start % self.d_in;
        let columns = first..first + rows.len();
        let (inputs, samples, keep) = (self.inputs, self.samples, self.keep);
        let weights = Piece::new(&mut self.weights[at.clone()]);
        match self.step {
            Step::Sgd => tiles(s, inputs, samples, deltas, columns, Sgd { weights, keep }),
            Step::Momentum { momentum, lr } => {
                let first = Piece::new(&mut self.first_moment[at]);
                let rule = Momentum { weights, first, keep, momentum, lr };
                tiles(s, inputs, samples, deltas, columns, rule);
            }
            Step::AdamW { beta1, beta2, step, unbias, eps } => {
                let first = Piece::new(&mut self.first_moment[at.clone()]);
                let second = Piece::new(&mut self.second_moment[at]);
                let rule = AdamW { weights, first, second, keep, beta1, beta2, step, unbias, eps };
                tiles(s, inputs, samples, deltas, columns, rule);
            }
        }
    }
}

/// The tiles of the weight rows that belong to `columns` of the input.
#[inline(always)]
fn tiles<S: Simd, R: Rule>(
    s: S,
    inputs: Option<MatrixRef<'_>>,
    samples: &[u32],
    deltas: &[f32],
    columns: Range<usize>,
    rule: R,
) {
    for_each_height!(S, s, columns.clone(), |first| {
        let offset = (first - columns.start) * S::NR;
        UpdateTile { inputs, samples, deltas, first, offset, rule }
    });
}
