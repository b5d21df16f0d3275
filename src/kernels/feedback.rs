//! `delta[s] = (e[s] F[z_s]) * f'(y[s])`: the error goes back through fixed random weights, never through W.

use super::{KernelError, check, product, scatter};
use crate::gemm::area::SignProduct;
use crate::gemm::schedule::Cut;
use crate::gemm::store::{Gate, Scaled};
use crate::matrix::{MatrixMut, MatrixRef};
use crate::panels::Panels;
use crate::plan::RoutePlan;
use crate::signs::Signs;

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
    let shape = (feedback.areas(), feedback.d_in(), feedback.d_out());
    check_shapes(plan, errors, shape, outputs, &out)?;
    product(plan, errors, feedback, out, |_| Gate { outputs });
    Ok(())
}

/// As [`feedback`], through one-bit matrices: `delta = scale * (e sign(F[z])) * f'(y)`.
///
/// Sums of a few signed errors are looked up in tables, which takes less work than multiplying, and a 32nd of the memory.
/// Shapes are those of [`feedback`].
///
/// # Errors
/// If a shape does not fit. `out` is then unchanged.
///
/// ```
/// use sal_kernels::{Isa, MatrixMut, MatrixRef, RoutePlan, Signs, kernels::feedback_signs};
/// let f = Signs::from_row_major(Isa::detect()?, 1, 2, 1, 0.5, &[1.0, -1.0])?;
/// let (e, mut delta) = ([5.0, 2.0], [0.0]);
/// feedback_signs(&RoutePlan::single(1)?, MatrixRef::new(&e, 1, 2)?, &f, None, MatrixMut::new(&mut delta, 1, 1)?)?;
/// assert_eq!(delta, [1.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn feedback_signs(
    plan: &RoutePlan,
    errors: MatrixRef<'_>,
    feedback: &Signs,
    outputs: Option<MatrixRef<'_>>,
    out: MatrixMut<'_>,
) -> Result<(), KernelError> {
    let shape = (feedback.areas(), feedback.d_in(), feedback.d_out());
    check_shapes(plan, errors, shape, outputs, &out)?;
    let isa = feedback.isa();
    let epilogue = Scaled { scale: feedback.scale(), then: Gate { outputs } };
    // Looking up takes about half as long as multiplying.
    let cost = feedback.d_in().div_ceil(2).max(1) * isa.panel_width();
    let shared = feedback.areas() == 1;
    // Each task makes the tables of its rows.
    let cut = Cut { shared, panels: feedback.panels(), cost, rows_first: true };
    scatter(plan, (isa, isa.sign_rows(usize::MAX)), cut, out, |out, buffers| {
        let signs = feedback.area(out.block().area);
        isa.run(SignProduct { errors, signs, out, epilogue, buffers });
    });
    Ok(())
}

fn check_shapes(
    plan: &RoutePlan,
    errors: MatrixRef<'_>,
    (areas, d_in, d_out): (usize, usize, usize),
    outputs: Option<MatrixRef<'_>>,
    out: &MatrixMut<'_>,
) -> Result<(), KernelError> {
    check("errors: rows", errors.rows(), plan.batch())?;
    check("errors: columns", errors.cols(), d_in)?;
    check("out: rows", out.rows(), plan.batch())?;
    check("out: columns", out.cols(), d_out)?;
    if areas != 1 {
        check("feedback: areas", areas, plan.areas())?;
    }
    if let Some(outputs) = outputs {
        check("outputs: rows", outputs.rows(), plan.batch())?;
        check("outputs: columns", outputs.cols(), d_out)?;
    }
    Ok(())
}
