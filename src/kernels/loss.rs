//! The error at the output: `e = softmax(a) - onehot(y)`, or `e = a - target`; never divided by the batch.
//!
//! Sums and exponentials are in f64 (the rows are as short as there are classes), so `e` is right to one rounding.

use super::{KernelError, check};
use crate::matrix::{MatrixMut, MatrixRef};

/// Exponentials of a row that are kept, on the stack; those of the classes beyond are computed twice.
const KEPT: usize = 128;

/// Softmax cross-entropy (SAL section 4): writes `e = softmax(logits) - onehot(label)` and returns the sum over
/// the batch of `-ln softmax(logits)[label]`.
///
/// `logits` and `error` are (batch, classes); `labels` holds a class for each sample. A row with a NaN, or whose
/// largest logit is infinite, gives NaN in its own row and in the sum. Without classes nothing is written.
///
/// # Errors
/// If a shape does not fit or a label is not a class. `error` is then unchanged.
///
/// ```
/// use sal_kernels::{MatrixMut, MatrixRef, kernels::softmax_cross_entropy};
/// let mut e = [0.0; 2];
/// let loss = softmax_cross_entropy(MatrixRef::new(&[1.0, 1.0], 1, 2)?, &[0], MatrixMut::new(&mut e, 1, 2)?)?;
/// assert_eq!(e, [-0.5, 0.5]);
/// assert!((loss - 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn softmax_cross_entropy(
    logits: MatrixRef<'_>,
    labels: &[u32],
    mut error: MatrixMut<'_>,
) -> Result<f64, KernelError> {
    check("labels: length", labels.len(), logits.rows())?;
    check("error: rows", error.rows(), logits.rows())?;
    check("error: columns", error.cols(), logits.cols())?;
    let classes = logits.cols();
    let wrong = labels.iter().enumerate().find(|&(_, &label)| label as usize >= classes);
    if let Some((sample, &got)) = wrong {
        return Err(KernelError::Label { sample, got, classes });
    }
    let mut total = 0.0;
    let mut kept = [0.0; KEPT];
    for (sample, &label) in labels.iter().enumerate() {
        let row = logits.row(sample);
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp = |a: f32| libm::exp(f64::from(a) - f64::from(max));
        let mut sum = 0.0;
        for (class, &a) in row.iter().enumerate() {
            let p = exp(a);
            sum += p;
            if let Some(place) = kept.get_mut(class) {
                *place = p;
            }
        }
        for (class, (e, &a)) in error.row_mut(sample).iter_mut().zip(row).enumerate() {
            let p = kept.get(class).copied().unwrap_or_else(|| exp(a));
            let hit = if class == label as usize { 1.0 } else { 0.0 };
            *e = (p / sum - hit) as f32;
        }
        total += libm::log(sum) - (f64::from(row[label as usize]) - f64::from(max));
    }
    Ok(total)
}

/// Squared error (SAL section 4): writes `e = outputs - targets` and returns half the sum of its squares.
///
/// All three are (batch, width).
///
/// # Errors
/// If a shape does not fit. `error` is then unchanged.
///
/// ```
/// use sal_kernels::{MatrixMut, MatrixRef, kernels::squared_error};
/// let mut e = [0.0; 2];
/// let (a, t) = (MatrixRef::new(&[1.0, 2.0], 1, 2)?, MatrixRef::new(&[0.0, 4.0], 1, 2)?);
/// assert_eq!(squared_error(a, t, MatrixMut::new(&mut e, 1, 2)?)?, 2.5);
/// assert_eq!(e, [1.0, -2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn squared_error(
    outputs: MatrixRef<'_>,
    targets: MatrixRef<'_>,
    mut error: MatrixMut<'_>,
) -> Result<f64, KernelError> {
    check("targets: rows", targets.rows(), outputs.rows())?;
    check("targets: columns", targets.cols(), outputs.cols())?;
    check("error: rows", error.rows(), outputs.rows())?;
    check("error: columns", error.cols(), outputs.cols())?;
    let mut total = 0.0;
    for sample in 0..outputs.rows() {
        let pairs = outputs.row(sample).iter().zip(targets.row(sample));
        for (e, (&a, &t)) in error.row_mut(sample).iter_mut().zip(pairs) {
            *e = a - t;
            total += 0.5 * f64::from(*e) * f64::from(*e);
        }
    }
    Ok(total)
}
