//! The five verbs of a SAL layer, safe: each checks its shapes once and splits its work over the caller's threads.
//!
//! ```text
//! route      z = argmax_k(similarity(P (h - mu), C_k) + beta_k)      which area a sample uses
//! forward    y = f(h W[z] + b[z])                                    its output
//! loss       e = softmax(logits) - onehot(label)                     the error
//! feedback   delta = (e F[z]) * f'(y)                                the error at the pre-activations
//! update     W[k] -= lr * c_k * sum over its samples of h^T delta    in place, only areas that were used
//! ```
//! After an error no output was changed. Non-finite values are data: a NaN stays in its own row.

mod explain;
mod feedback;
mod forward;
mod loss;
mod route;
mod update;

pub use explain::{Bound, Explanation, Path, Roof, Shape, Verb};
pub use feedback::{feedback, feedback_signs};
pub use forward::{Activation, forward};
pub use loss::{softmax_cross_entropy, squared_error};
pub use route::{RouteParams, Routes, Similarity, route};
pub use update::{Averaging, Moments, Optimizer, Trainable, UpdateRule, update};

use crate::gemm::area::Product;
use crate::gemm::pack::Buffers;
use crate::gemm::schedule::{self, Cut};
use crate::gemm::store::{Epilogue, ScatterBlock};
use crate::matrix::{LayoutError, MatrixMut, MatrixRef};
use crate::panels::Panels;
use crate::plan::RoutePlan;
use crate::simd::{Isa, IsaName};

/// Why a verb refused its arguments.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A dimension of an argument does not fit the others.
    #[error("{what}: got {got}, want {want}")]
    Dimension {
        /// The argument and its dimension.
        what: &'static str,
        /// What was given.
        got: usize,
        /// What the other arguments ask for.
        want: usize,
    },
    /// Two operands are packed for different instruction sets.
    #[error("{what}: packed for {got}, want {want} as the weights")]
    Isa {
        /// The argument.
        what: &'static str,
        /// What it is packed for.
        got: IsaName,
        /// What the weights are packed for.
        want: IsaName,
    },
    /// A label names a class that does not exist.
    #[error("label of sample {sample}: got {got}, want less than {classes}")]
    Label {
        /// Index of the sample in the batch.
        sample: usize,
        /// The label given.
        got: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A constant of the update rule is outside of its range.
    #[error("{what}: got {got}, want {want}")]
    Rule {
        /// The constant.
        what: &'static str,
        /// What was given.
        got: f32,
        /// The range that it must lie in.
        want: &'static str,
    },
    /// A size that no buffer can have.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

fn check(what: &'static str, got: usize, want: usize) -> Result<(), KernelError> {
    if got == want { Ok(()) } else { Err(KernelError::Dimension { what, got, want }) }
}

fn check_isa(what: &'static str, got: &Panels, want: &Panels) -> Result<(), KernelError> {
    let (got, want) = (got.isa().name(), want.isa().name());
    if got == want { Ok(()) } else { Err(KernelError::Isa { what, got, want }) }
}

/// Cuts `out` into the blocks of a product and runs `task` on each; a tile has at most `tallest` rows.
fn scatter(
    plan: &RoutePlan,
    (isa, tallest): (Isa, usize),
    cut: Cut,
    out: MatrixMut<'_>,
    task: impl Fn(ScatterBlock<'_>, &mut Buffers) + Sync + Send,
) {
    let work = schedule::total_work(plan, cut.shared, cut.cost.saturating_mul(cut.panels));
    let threads = schedule::threads_for(work);
    let blocks = schedule::product_blocks(plan, cut, tallest, threads);
    let blocks = ScatterBlock::split(out, plan, isa.panel_width(), blocks);
    schedule::run(blocks, threads, |block| Buffers::with(|buffers| task(block, buffers)));
}

/// `out[row] = epilogue(area, inputs[row] * weights[area])`, shapes already checked. One area in `weights` serves
/// all areas of the plan.
fn product<E: Epilogue + Send>(
    plan: &RoutePlan,
    inputs: MatrixRef<'_>,
    weights: &Panels,
    out: MatrixMut<'_>,
    epilogue: impl Fn(usize) -> E + Sync + Send,
) {
    let isa = weights.isa();
    let cost = weights.d_in().max(1) * weights.panel_width();
    let (shared, panels) = (weights.areas() == 1, weights.panels());
    let cut = Cut { shared, panels, cost, rows_first: false };
    scatter(plan, (isa, isa.tile_heights()[0]), cut, out, |out, buffers| {
        let area = out.block().area;
        let (finite, weights) = (weights.is_finite(area), weights.area(area));
        isa.run(Product { inputs, weights, finite, out, epilogue: epilogue(area), buffers });
    });
}
