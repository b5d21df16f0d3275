//! `delta[s] = (e[s] F[z_s]) * f'(y[s])`: the error goes back through fixed random weights, never through W.

use super::{KernelError, check, product};
use crate::gemm::store::Gate;
use crate::matrix::{MatrixMut, MatrixRef};
use crate::panels::Panels;
use crate::plan::RoutePlan;

/// The gated feedback product `delta = (e F[z]) * f'(y)` (SAL section 5).
///
/// `f'` of ReLU is read off its output: 1 where `y > 0`, else 0. It selects, it does not multiply: a non-finite
/// product at an inactive unit gives 0.
///
/// | argument | shape |
/// |---|---|
/// | `plan` | batch samples in K areas: those of the layer above (sequential feedback) or of the layer itself (direct) |
/// | `errors` e | (batch, d_in): delta of the layer above, or the error at the output |
/// | `feedback` F | (K, d_in, d_out); one matrix (K = 1) is shared by every area of the plan |
/// | `outputs` y | (batch, d_out): what the layer put out; `None` where f is the identity |
/// | `out` delta | (batch, d_out), overwritten, never read |
///
/// # Errors
/// If a shape does not fit. `out` is then unchanged.
///
/// ```
/// use sal_kernels::{Isa, MatrixMut, MatrixRef, Panels, RoutePlan, kernels::feedback};
/// let f = Panels::from_row_major(Isa::detect()?, 1, 1, 2, &[3.0, 5.0])?;
/// let (e, y, mut delta) = ([2.0], [0.0, 1.0], [0.0; 2]);
/// let outputs = MatrixRef::new(&y, 1, 2)?;
/// feedback(&RoutePlan::single(1)?, MatrixRef::new(&e, 1, 1)?, &f, Some(outputs), MatrixMut::new(&mut delta, 1, 2)?)?;
/// assert_eq!(delta, [0.0, 10.0]); // the first unit was inactive
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn feedback(
    plan: &RoutePlan,
    errors: MatrixRef<'_>,
    feedback: &Panels,
    outputs: Option<MatrixRef<'_>>,
    out: MatrixMut<'_>,
) -> Result<(), KernelError> {
    check("errors: rows", errors.rows(), plan.batch())?;
    check("errors: columns", errors.cols(), feedback.d_in())?;
    check("out: rows", out.rows(), plan.batch())?;
    check("out: columns", out.cols(), feedback.d_out())?;
    if feedback.areas() != 1 {
        check("feedback: areas", feedback.areas(), plan.areas())?;
    }
    if let Some(outputs) = outputs {
        check("outputs: rows", outputs.rows(), plan.batch())?;
        check("outputs: columns", outputs.cols(), feedback.d_out())?;
    }
    product(plan, errors, feedback, out, |_| Gate { outputs });
    Ok(())
}
