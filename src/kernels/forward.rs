//! `y[s] = f(h[s] W[z_s] + b[z_s])`: each sample through its own area, written to its own row.

use super::{KernelError, check, check_isa, product};
use crate::gemm::store::Activate;
use crate::matrix::{MatrixMut, MatrixRef};
use crate::panels::Panels;
use crate::plan::RoutePlan;

/// What a layer does to its pre-activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `f(a) = a`.
    Identity,
    /// `f(a) = max(a, 0)`; NaN stays NaN.
    Relu,
}

/// The gated forward product `y = f(h W[z] + b[z])` (SAL section 3; no gate factor, the selection is hard).
///
/// | argument | shape |
/// |---|---|
/// | `plan` | batch samples in K areas |
/// | `inputs` h | (batch, d_in) |
/// | `weights` W | (K, d_in, d_out); K = 1 serves every area of the plan |
/// | `bias` b | (K, 1, d_out) |
/// | `out` y | (batch, d_out), overwritten, never read |
///
/// An area with few rows skips the weights that meet zeros only, where that pays; the result is the same to the bit, and a
/// zero times an infinity or NaN is NaN all the same.
///
/// # Errors
/// If a shape does not fit, or weights and bias are packed for different instruction sets. `out` is then unchanged.
///
/// ```
/// use sal_kernels::{Isa, MatrixMut, MatrixRef, Panels, RoutePlan, kernels::{Activation, forward}};
/// let w = Panels::from_row_major(Isa::detect()?, 2, 1, 1, &[10.0, -10.0])?; // two areas of 1 x 1
/// let plan = RoutePlan::new(&[0, 1, 1], 2)?;
/// let (h, mut y) = ([1.0, 2.0, -3.0], [0.0; 3]);
/// forward(&plan, MatrixRef::new(&h, 3, 1)?, &w, None, Activation::Relu, MatrixMut::new(&mut y, 3, 1)?)?;
/// assert_eq!(y, [10.0, 0.0, 30.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn forward(
    plan: &RoutePlan,
    inputs: MatrixRef<'_>,
    weights: &Panels,
    bias: Option<&Panels>,
    activation: Activation,
    out: MatrixMut<'_>,
) -> Result<(), KernelError> {
    check("inputs: rows", inputs.rows(), plan.batch())?;
    check("inputs: columns", inputs.cols(), weights.d_in())?;
    check("out: rows", out.rows(), plan.batch())?;
    check("out: columns", out.cols(), weights.d_out())?;
    if weights.areas() != 1 {
        check("weights: areas", weights.areas(), plan.areas())?;
    }
    if let Some(bias) = bias {
        check("bias: areas", bias.areas(), weights.areas())?;
        check("bias: rows", bias.d_in(), 1)?;
        check("bias: columns", bias.d_out(), weights.d_out())?;
        check_isa("bias", bias, weights)?;
    }
    let relu = activation == Activation::Relu;
    product(plan, inputs, weights, out, |area| Activate { bias: bias.map(|b| b.area(area)), relu });
    Ok(())
}
