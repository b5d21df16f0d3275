//! The macro-kernel of updates: one pass over the weights of a task.
//!
//! ```text
//! many samples   for columns, samples in blocks:  pack inputs;  for panel:  pack deltas;  for weight rows: tile
//! few samples    for panel:  pack deltas;  stream the weight rows, only those whose input is used if zeros allow it
//! few panels     likewise, the samples by groups
//! ```
//! What a sum becomes is the [`Rule`]'s business. Neither the path nor the blocks change a bit: each sum is one chain over
//! the samples in ascending order.

use super::area::{Way, list_used};
use super::blocks;
use super::few_rows::{StreamUpdate, streamed};
use super::pack::{self, Buffers, Columns};
use super::store::{AdamW, Momentum, Piece, Rule, Sgd};
use super::tile::{Ahead, Sums, UpdateTile};
use crate::matrix::MatrixRef;
use crate::panels::largest;
use crate::simd::{Op, Simd};
use std::ops::Range;

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

/// Panels that make it worth to pack inputs for them.
const PACKED_PANELS: usize = 4;

/// Samples of an update that are packed at a time.
const SAMPLES: usize = 128;

/// Weight rows of a stream whose sums wait for more samples: they stay in L1.
const STREAM_ROWS: usize = 128;

/// Whether so many samples, or panels, are few: the weights are streamed.
#[inline(always)]
fn streams<S: Simd>(samples: usize, panels: usize) -> bool {
    samples <= streamed::<S>() || panels < PACKED_PANELS
}

/// The [`Way`] of an update that skips zeros where it can, all of its area's panels in one task.
pub(crate) struct UpdateWay<'a> {
    /// Not known: then nothing is skipped.
    pub(crate) inputs: Option<MatrixRef<'a>>,
    pub(crate) samples: &'a [u32],
    /// Weight rows of a panel.
    pub(crate) rows: usize,
    pub(crate) panels: usize,
    pub(crate) used: &'a mut Columns,
}

impl Op for UpdateWay<'_> {
    type Out = Way;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Way {
        let Self { inputs, samples, rows, panels, used } = self;
        let streams = streams::<S>(samples.len(), panels);
        let skips = streams && inputs.is_some_and(|x| list_used(used, x, samples, panels));
        let height = if streams {
            samples.len().clamp(1, streamed::<S>())
        } else {
            // Tiles are made of weight rows.
            S::HEIGHTS.iter().copied().find(|&height| height <= rows).unwrap_or(1)
        };
        Way { streams, used: skips.then(|| used.list().len()), tile: (height, S::NR) }
    }
}

impl Op for BufferedUpdate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { task, buffers } = self;
        if streams::<S>(task.samples.len(), task.panels.len()) {
            task.stream(s, buffers);
        } else {
            task.tiles(s, buffers);
        }
    }
}

/// What is done with the weights of some rows of one panel.
trait OnPanel {
    fn with<S: Simd, R: Rule>(self, s: S, rule: R);
}

impl RankUpdate<'_> {
    /// Calls `f` with the rule of rows `rows` of one panel.
    #[inline(always)]
    fn on_panel<S: Simd>(&mut self, s: S, panel: usize, rows: &Range<usize>, f: impl OnPanel) {
        let at = (panel - self.panels.start) * self.rows.len() + rows.start - self.rows.start;
        let at = at * S::NR..(at + rows.len()) * S::NR;
        let (keep, weights) = (self.keep, Piece::new(&mut self.weights[at.clone()]));
        match self.step {
            Step::Sgd => f.with(s, Sgd { weights, keep }),
            Step::Momentum { momentum, lr } => {
                let first = Piece::new(&mut self.first_moment[at]);
                f.with(s, Momentum { weights, first, keep, momentum, lr });
            }
            Step::AdamW { beta1, beta2, step, unbias, eps } => {
                let first = Piece::new(&mut self.first_moment[at.clone()]);
                let second = Piece::new(&mut self.second_moment[at]);
                f.with(s, AdamW { weights, first, second, keep, beta1, beta2, step, unbias, eps });
            }
        }
    }

    /// Packs the deltas of some samples for one panel.
    #[inline(always)]
    fn pack<S: Simd>(&self, samples: &[u32], panel: usize, buffers: &mut Buffers) {
        let to = &mut buffers.deltas;
        pack::deltas::<S>(self.deltas, samples, panel * S::NR, self.scale, to);
    }

    /// The path of few samples, or few panels.
    #[inline(always)]
    fn stream<S: Simd>(mut self, s: S, buffers: &mut Buffers) {
        let (inputs, samples, rows) = (self.inputs, self.samples, self.rows.clone());
        let (panels, used) = (self.panels.len(), &mut buffers.used);
        let skip = self.skip && inputs.is_some_and(|x| list_used(used, x, samples, panels));
        let groups = samples.len().div_ceil(streamed::<S>()).max(1);
        let block = if groups > 1 { STREAM_ROWS } else { rows.len().max(1) };
        let len = if groups > 1 { block * S::NR } else { 0 };
        buffers.sums.resize(len, 0.0);
        for panel in self.panels.clone() {
            self.pack::<S>(samples, panel, buffers);
            for from in rows.clone().step_by(block) {
                let rows = &(from..rows.end.min(from + block));
                let listed = skip.then(|| within(buffers.used.list(), rows));
                let groups_of = samples.chunks(streamed::<S>());
                let deltas = buffers.deltas.chunks(streamed::<S>() * S::NR);
                for (nth, (samples, deltas)) in groups_of.zip(deltas).enumerate() {
                    let values = Piece::new(&mut buffers.sums);
                    let sums = Sums { values, resume: nth > 0, finish: nth + 1 == groups };
                    let streamed = Streamed { inputs, samples, deltas, rows, listed, sums };
                    self.on_panel(s, panel, rows, streamed);
                }
            }
        }
    }

    /// The path of many samples.
    #[inline(always)]
    fn tiles<S: Simd>(mut self, s: S, buffers: &mut Buffers) {
        let (panels, rows) = (self.panels.clone(), self.rows.clone());
        let blocks = self.samples.len().div_ceil(SAMPLES).max(1);
        let some = self.samples.len().div_ceil(blocks).max(1);
        let kc = (blocks::packed() / some).max(1).next_multiple_of(S::HEIGHTS[0]);
        let ahead = Ahead::update_step(S::HEIGHTS[0] * S::NR * size_of::<f32>(), some);
        for from in rows.clone().step_by(kc) {
            let block = from..rows.end.min(from + kc);
            // Between blocks of samples the sums of all panels wait.
            let len = if blocks > 1 { block.len() * S::NR } else { 0 };
            buffers.sums.resize(panels.len() * len, 0.0);
            for (nth, samples) in self.samples.chunks(some).enumerate() {
                pack::inputs(s, self.inputs, samples, &block, &mut buffers.inputs);
                for panel in panels.clone() {
                    self.pack::<S>(samples, panel, buffers);
                    let sums = &mut buffers.sums[(panel - panels.start) * len..][..len];
                    let values = Piece::new(sums);
                    let sums = Sums { values, resume: nth > 0, finish: nth + 1 == blocks };
                    let (inputs, deltas) = (&buffers.inputs[..], &buffers.deltas[..]);
                    let tiles = PanelTiles { inputs, deltas, rows: block.len(), sums, ahead };
                    self.on_panel(s, panel, &block, tiles);
                }
            }
        }
    }
}

/// The part of an ascending list that lies in `range`.
#[inline(always)]
fn within<'a>(list: &'a [u32], range: &Range<usize>) -> &'a [u32] {
    let at = |limit| list.partition_point(|&x| (x as usize) < limit);
    &list[at(range.start)..at(range.end)]
}

/// One panel, or a part of it, by few samples.
struct Streamed<'a> {
    inputs: Option<MatrixRef<'a>>,
    samples: &'a [u32],
    deltas: &'a [f32],
    rows: &'a Range<usize>,
    listed: Option<&'a [u32]>,
    sums: Sums<'a>,
}

impl OnPanel for Streamed<'_> {
    #[inline(always)]
    fn with<S: Simd, R: Rule>(self, s: S, rule: R) {
        let Self { inputs, samples, deltas, rows, listed, sums } = self;
        s.tall(samples.len(), StreamUpdate { inputs, samples, deltas, rows, listed, rule, sums });
    }
}

/// One block of weight rows in one panel, by a block of samples.
struct PanelTiles<'a> {
    /// From `pack::inputs`.
    inputs: &'a [f32],
    /// From `pack::deltas`.
    deltas: &'a [f32],
    rows: usize,
    sums: Sums<'a>,
    ahead: usize,
}

impl OnPanel for PanelTiles<'_> {
    #[inline(always)]
    fn with<S: Simd, R: Rule>(self, s: S, rule: R) {
        let Self { inputs, deltas, rows, sums, ahead } = self;
        let samples = deltas.len() / S::NR;
        let mut first = 0;
        for &height in S::HEIGHTS {
            while rows - first >= height {
                let inputs = &inputs[first * samples..];
                s.tall(height, UpdateTile { inputs, deltas, first, rule, sums, ahead });
                first += height;
            }
        }
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
