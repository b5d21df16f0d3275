//! `W[k] <- rule(W[k], c_k * sum over the samples of area k of h^T delta)`, in place and only where there were samples.
//!
//! ```text
//! gW = c_k sum h^T delta      gb = c_k sum delta       never stored: the sums go from registers into the rule
//! SGD       W <- (1 - lr wd) W - lr gW
//! momentum  m <- mom m + gW;                                      W <- (1 - lr wd) W - lr m
//! AdamW     m <- b1 m + (1 - b1) gW;  v <- b2 v + (1 - b2) gW^2;  W <- (1 - lr wd) W - lr mh / (sqrt(vh) + eps)
//! ```
//! Biases alike, without decay. An area without samples keeps weights, moments and step count, bit for bit.

use super::{KernelError, check, check_isa};
use crate::gemm::area::LISTED_PANELS;
use crate::gemm::pack::Buffers;
use crate::gemm::rank::{BufferedUpdate, Largest, RankUpdate, Step};
use crate::gemm::schedule::{self, Part};
use crate::matrix::{LayoutError, MatrixRef};
use crate::panels::Panels;
use crate::plan::RoutePlan;
use std::ops::Range;

/// How the sum over an area's samples is scaled; n is their number, B the batch, K the number of areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Averaging {
    /// `1 / n`: the mean over the area's own samples.
    Area,
    /// `1 / B`.
    Batch,
    /// `K / B`.
    Load,
    /// `1 / sqrt(n B)`.
    Sqrt,
    /// `1`: the plain sum.
    Sum,
}

impl Averaging {
    /// The factor for an area with `n` of `batch` samples.
    pub fn factor(self, n: usize, batch: usize, areas: usize) -> f64 {
        let (n, batch) = (n as f64, batch as f64);
        match self {
            Self::Area => 1.0 / n,
            Self::Batch => 1.0 / batch,
            Self::Load => areas as f64 / batch,
            Self::Sqrt => 1.0 / (n * batch).sqrt(),
            Self::Sum => 1.0,
        }
    }
}

/// How a gradient changes the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// Stateless; the product is added to the weights in place.
    Sgd,
    /// Heavy-ball momentum.
    Momentum {
        /// Factor of the old moment, in [0, 1).
        momentum: f32,
    },
    /// Adam with decoupled weight decay; the step count of the bias correction is the area's own.
    AdamW {
        /// Decay of the first moment, in [0, 1).
        beta1: f32,
        /// Decay of the second moment, in [0, 1).
        beta2: f32,
        /// Added outside of the root.
        eps: f32,
    },
}

impl Optimizer {
    /// AdamW with its usual constants: 0.9, 0.999, 1e-8.
    pub const ADAMW: Self = Self::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

    /// Moments that it keeps for each weight.
    pub fn moments(self) -> usize {
        match self {
            Self::Sgd => 0,
            Self::Momentum { .. } => 1,
            Self::AdamW { .. } => 2,
        }
    }
}

/// One step of an optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateRule {
    /// The optimiser and its constants.
    pub optimizer: Optimizer,
    /// Learning rate.
    pub lr: f32,
    /// Decay: weights (not biases) shrink by `1 - lr * weight_decay` where their area has samples.
    pub weight_decay: f32,
    /// Scale of the gradient.
    pub averaging: Averaging,
}

/// The optimiser's state for one layer: up to two moments for each weight and bias, one step count for each area.
#[derive(Debug, Clone, Default)]
pub struct Moments {
    weights: Vec<Panels>,
    bias: Vec<Panels>,
    steps: Vec<u64>,
}

impl Moments {
    /// Zero moments for weights, and a bias if there is one.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn new(
        optimizer: Optimizer,
        weights: &Panels,
        bias: Option<&Panels>,
    ) -> Result<Self, LayoutError> {
        let like = |p: &Panels| {
            (0..optimizer.moments())
                .map(|_| Panels::zeros(p.isa(), p.areas(), p.d_in(), p.d_out()))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            weights: like(weights)?,
            bias: bias.map_or(Ok(Vec::new()), like)?,
            steps: vec![0; weights.areas()],
        })
    }

    /// Updates that each area has had.
    pub fn steps(&self) -> &[u64] {
        &self.steps
    }

    /// The moments of the weights: none, the first, or the first and the second.
    pub fn weights(&self) -> &[Panels] {
        &self.weights
    }

    /// The moments of the bias, likewise.
    pub fn bias(&self) -> &[Panels] {
        &self.bias
    }

    /// Copies the state of area `from` to area `to`.
    ///
    /// # Errors
    /// If there is no such area.
    pub fn copy_area(&mut self, from: usize, to: usize) -> Result<(), LayoutError> {
        for panels in self.weights.iter_mut().chain(&mut self.bias) {
            panels.copy_area(from, to)?;
        }
        let len = self.steps.len();
        let what = "area";
        let steps = *self.steps.get(from).ok_or(LayoutError::Index { what, got: from, len })?;
        *self.steps.get_mut(to).ok_or(LayoutError::Index { what, got: to, len })? = steps;
        Ok(())
    }
}

/// What an update changes: the parameters of one layer and the state of their optimiser.
#[derive(Debug)]
pub struct Trainable<'a> {
    /// (K, d_in, d_out).
    pub weights: &'a mut Panels,
    /// (K, 1, d_out).
    pub bias: Option<&'a mut Panels>,
    /// Made by [`Moments::new`] for these weights, this bias and the rule's optimiser.
    pub moments: &'a mut Moments,
}

/// The area update (SAL section 6), fused: the sums go from registers into the weights, there is no gradient buffer.
///
/// | argument | shape |
/// |---|---|
/// | `plan` | batch samples in K areas |
/// | `inputs` h | (batch, d_in) |
/// | `deltas` | (batch, d_out) |
/// | `params` | weights (K, d_in, d_out), bias (K, 1, d_out), their moments |
///
/// Plain SGD by few samples skips weights whose inputs are all zero, where that pays. Their bits stay; elsewhere the sum +0
/// is added to them, which makes +0 of a weight that is -0.
///
/// # Errors
/// If a shape does not fit, operands are packed for different instruction sets, or a constant of the rule is out
/// of range (`lr` and `weight_decay` finite, decays in [0, 1), `eps` > 0). Nothing is then changed.
///
/// ```
/// use sal_kernels::{Isa, MatrixRef, Panels, RoutePlan};
/// use sal_kernels::kernels::{Averaging, Moments, Optimizer, Trainable, UpdateRule, update};
/// let mut w = Panels::from_row_major(Isa::detect()?, 2, 1, 1, &[1.0, 1.0])?;
/// let mut moments = Moments::new(Optimizer::Sgd, &w, None)?;
/// let rule = UpdateRule { optimizer: Optimizer::Sgd, lr: 0.5, weight_decay: 0.0, averaging: Averaging::Area };
/// let (plan, one) = (RoutePlan::new(&[1], 2)?, MatrixRef::new(&[1.0], 1, 1)?);
/// update(&plan, one, one, &rule, Trainable { weights: &mut w, bias: None, moments: &mut moments })?;
/// assert_eq!(w.to_row_major(), [1.0, 0.5]); // area 0 had no sample
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn update(
    plan: &RoutePlan,
    inputs: MatrixRef<'_>,
    deltas: MatrixRef<'_>,
    rule: &UpdateRule,
    params: Trainable<'_>,
) -> Result<(), KernelError> {
    let Trainable { weights, bias, moments } = params;
    check("inputs: rows", inputs.rows(), plan.batch())?;
    check("inputs: columns", inputs.cols(), weights.d_in())?;
    check("deltas: rows", deltas.rows(), plan.batch())?;
    check("deltas: columns", deltas.cols(), weights.d_out())?;
    check("weights: areas", weights.areas(), plan.areas())?;
    check("moments: areas", moments.steps.len(), weights.areas())?;
    check_moments("moments of the weights", &moments.weights, weights, rule)?;
    if let Some(bias) = &bias {
        check("bias: areas", bias.areas(), weights.areas())?;
        check("bias: rows", bias.d_in(), 1)?;
        check("bias: columns", bias.d_out(), weights.d_out())?;
        check_isa("bias", bias, weights)?;
        check_moments("moments of the bias", &moments.bias, bias, rule)?;
    }
    check_rule(rule)?;

    for area in (0..plan.areas()).filter(|&k| plan.occupancy(k) > 0) {
        moments.steps[area] += 1;
    }
    let steps = &moments.steps;
    let whole = Update { plan, inputs, deltas, rule, steps };
    if let Some(bias) = bias {
        whole.apply(false, bias, &mut moments.bias);
    }
    whole.apply(true, weights, &mut moments.weights);
    Ok(())
}

/// An update with its arguments checked.
struct Update<'a> {
    plan: &'a RoutePlan,
    inputs: MatrixRef<'a>,
    deltas: MatrixRef<'a>,
    rule: &'a UpdateRule,
    steps: &'a [u64],
}

impl Update<'_> {
    /// Updates the weights, or else the bias.
    fn apply(&self, of_weights: bool, weights: &mut Panels, moments: &mut [Panels]) {
        let (isa, nr, d_in, panels) =
            (weights.isa(), weights.panel_width(), weights.d_in(), weights.panels());
        let inputs = of_weights.then_some(self.inputs);
        let keep = if of_weights { 1.0 - self.rule.lr * self.rule.weight_decay } else { 1.0 };
        for area in (0..self.plan.areas()).filter(|&k| self.plan.occupancy(k) > 0) {
            self.note_bounds(area, inputs, keep, weights, moments);
        }
        let work = schedule::total_work(self.plan, false, panels * d_in * nr);
        let threads = schedule::threads_for(work);
        let tallest = isa.tile_heights()[0];
        let parts = schedule::update_parts(self.plan, panels, d_in, nr, tallest, threads);
        // Without decay and moments a zero input leaves its weights alone, as long as its deltas are finite.
        let plain = self.rule.optimizer == Optimizer::Sgd && keep == 1.0;

        let mut moments = moments.iter_mut();
        let mut first = moments.next().map_or(&mut [][..], |m| m.data_mut().0);
        let mut second = moments.next().map_or(&mut [][..], |m| m.data_mut().0);
        let (mut rest, is_finite) = weights.data_mut();
        let mut taken = 0;
        let tasks = parts.map(|Part { area, panels: part, rows }| {
            let at = ((area * panels + part.start) * d_in + rows.start) * nr;
            let skip = at - taken;
            let len = part.len() * rows.len() * nr;
            taken = at + len;
            RankUpdate {
                inputs,
                deltas: self.deltas,
                samples: self.plan.rows(area),
                scale: self.scale(area),
                keep,
                step: self.step(area),
                skip: plain && is_finite(area),
                panels: part,
                rows,
                weights: take(&mut rest, skip..skip + len),
                first_moment: take(&mut first, skip..skip + len),
                second_moment: take(&mut second, skip..skip + len),
            }
        });
        schedule::run(tasks, threads, |task| {
            Buffers::with(|buffers| isa.run(BufferedUpdate { task, buffers }));
        });
    }

    /// Notes how large the weights and moments of an area may become.
    ///
    /// With `s` the largest sum of `n` products: SGD `w' <= keep w + s`; momentum `m' <= mom m + s, w' <= keep w + lr m'`;
    /// AdamW `m' <= m + s, w' <= keep w + step m' / eps`. The slack covers n + 8 roundings of each. The second moment
    /// multiplies nothing that is skipped.
    fn note_bounds(
        &self,
        area: usize,
        inputs: Option<MatrixRef<'_>>,
        keep: f32,
        weights: &mut Panels,
        moments: &mut [Panels],
    ) {
        if inputs.is_none() || weights.panels() < LISTED_PANELS {
            // Nothing is ever skipped there.
            return weights.set_bound(area, f64::INFINITY);
        }
        let (isa, rows) = (weights.isa(), self.plan.rows(area));
        let largest = |of| f64::from(isa.run(Largest { of, rows }));
        let delta = largest(self.deltas) * f64::from(self.scale(area)).abs();
        let sum = delta * inputs.map_or(1.0, largest) * rows.len() as f64;
        let slack = 1.0 + (rows.len() + 8) as f64 * 2f64.powi(-23);
        let change = match (self.step(area), moments.first_mut()) {
            (Step::Sgd, _) | (_, None) => sum,
            (Step::Momentum { momentum, lr }, Some(m)) => {
                m.set_bound(area, slack * (f64::from(momentum) * m.bound(area) + sum));
                f64::from(lr).abs() * m.bound(area)
            }
            (Step::AdamW { step, eps, .. }, Some(m)) => {
                m.set_bound(area, slack * (m.bound(area) + sum));
                f64::from(step).abs() * m.bound(area) / f64::from(eps)
            }
        };
        let kept = f64::from(keep).abs() * weights.bound(area);
        weights.set_bound(area, slack * (kept + change));
    }

    /// What the deltas of an area are multiplied with before they are summed.
    fn scale(&self, area: usize) -> f32 {
        let (n, batch, areas) = (self.plan.occupancy(area), self.plan.batch(), self.plan.areas());
        let c = self.rule.averaging.factor(n, batch, areas);
        match self.rule.optimizer {
            Optimizer::Sgd => (-f64::from(self.rule.lr) * c) as f32,
            _ => c as f32,
        }
    }

    /// The optimiser's constants for the step that this area is in.
    fn step(&self, area: usize) -> Step {
        let lr = self.rule.lr;
        match self.rule.optimizer {
            Optimizer::Sgd => Step::Sgd,
            Optimizer::Momentum { momentum } => Step::Momentum { momentum, lr },
            Optimizer::AdamW { beta1, beta2, eps } => {
                let t = self.steps[area] as f64;
                let rest = |beta: f32| 1.0 - libm::pow(f64::from(beta), t);
                Step::AdamW {
                    beta1,
                    beta2,
                    step: (f64::from(lr) / rest(beta1)) as f32,
                    unbias: (1.0 / rest(beta2)) as f32,
                    eps,
                }
            }
        }
    }
}

/// Takes `range` off the front of `rest`, dropping what lies before it; an absent moment stays empty.
fn take<'a>(rest: &mut &'a mut [f32], range: Range<usize>) -> &'a mut [f32] {
    if rest.is_empty() {
        return &mut [];
    }
    let (front, back) = std::mem::take(rest).split_at_mut(range.end);
    *rest = back;
    &mut front[range.start..]
}

fn check_moments(
    what: &'static str,
    moments: &[Panels],
    of: &Panels,
    rule: &UpdateRule,
) -> Result<(), KernelError> {
    check(what, moments.len(), rule.optimizer.moments())?;
    for m in moments {
        check(what, m.areas(), of.areas())?;
        check(what, m.d_in(), of.d_in())?;
        check(what, m.d_out(), of.d_out())?;
        check_isa(what, m, of)?;
    }
    Ok(())
}

fn check_rule(rule: &UpdateRule) -> Result<(), KernelError> {
    let wrong = |what, got, want| Err(KernelError::Rule { what, got, want });
    let decay = |what, got: f32| {
        if (0.0..1.0).contains(&got) { Ok(()) } else { wrong(what, got, "a value in [0, 1)") }
    };
    for (what, got) in [("learning rate", rule.lr), ("weight decay", rule.weight_decay)] {
        if !got.is_finite() {
            return wrong(what, got, "a finite value");
        }
    }
    match rule.optimizer {
        Optimizer::Sgd => Ok(()),
        Optimizer::Momentum { momentum } => decay("momentum", momentum),
        Optimizer::AdamW { beta1, beta2, eps } => {
            decay("beta1", beta1)?;
            decay("beta2", beta2)?;
            if eps > 0.0 && eps.is_finite() {
                Ok(())
            } else {
                wrong("eps", eps, "a positive value")
            }
        }
    }
}
