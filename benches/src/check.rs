//! Results against f64 sums, before anything is timed.
//!
//! ```text
//! want = sum a b in f64          |got - want| <= (depth + 3) 2^-24 sum |a b|
//! ```
//! Every row is checked in the first, the middle and the last column; every area of an update in three entries.

use sal_kernels::{MatrixRef, Panels, RoutePlan};

/// The sum of the products of `terms` in f64, and how far from it a sum in f32 may be.
fn sum(terms: impl Iterator<Item = (f32, f32)>) -> (f64, f64) {
    let (mut want, mut size, mut depth) = (0.0f64, 0.0f64, 0);
    for (a, b) in terms {
        want += f64::from(a) * f64::from(b);
        size += (f64::from(a) * f64::from(b)).abs();
        depth += 1;
    }
    (want, f64::from(depth + 3) * 2f64.powi(-24) * size)
}

fn assert_near(what: &str, got: f32, want: f64, bound: f64) {
    // Not `>`: a NaN must fail.
    let near = (f64::from(got) - want).abs() <= bound;
    assert!(near, "{what}: got {got}, want {want} +- {bound}");
}

/// First, middle and last of `0..n`, as far as they differ.
fn three(n: usize) -> Vec<usize> {
    let mut places = vec![0, n / 2, n - 1];
    places.dedup();
    places
}

/// A product with what its verb does to the sums: `out[s] = f(inputs[s] W[z] + bias[z])`, 0 where the gate is not
/// positive.
pub struct Product<'a, W, B> {
    /// What to say when it is wrong.
    pub what: &'a str,
    /// Whose rows go to which area.
    pub plan: &'a RoutePlan,
    /// (batch, d_in).
    pub inputs: MatrixRef<'a>,
    /// Entry (area, i, j) of the weights.
    pub weight: W,
    /// Entry (area, j) of the bias.
    pub bias: B,
    /// Negative sums become 0.
    pub relu: bool,
    /// (batch, d_out): only where it is positive does anything come through.
    pub gate: Option<MatrixRef<'a>>,
    /// (batch, d_out): the result.
    pub out: MatrixRef<'a>,
}

impl<W: Fn(usize, usize, usize) -> f32, B: Fn(usize, usize) -> f32> Product<'_, W, B> {
    /// Panics if an entry is wrong.
    pub fn check(&self) {
        let d_in = self.inputs.cols();
        for area in (0..self.plan.areas()).filter(|&k| self.plan.occupancy(k) > 0) {
            for j in three(self.out.cols()) {
                let column: Vec<f32> = (0..d_in).map(|i| (self.weight)(area, i, j)).collect();
                let bias = (self.bias)(area, j);
                for row in self.plan.rows(area).iter().map(|&r| r as usize) {
                    let terms = self.inputs.row(row).iter().copied().zip(column.iter().copied());
                    let (want, bound) = sum(terms.chain([(1.0, bias)]));
                    let (want, bound) = match self.gate {
                        Some(gate) if gate.row(row)[j] <= 0.0 => (0.0, 0.0),
                        _ if self.relu => (want.max(0.0), bound), // it moves values towards each other
                        _ => (want, bound),
                    };
                    let what = format!("{}, area {area}, row {row}, column {j}", self.what);
                    assert_near(&what, self.out.row(row)[j], want, bound);
                }
            }
        }
    }
}

/// Weights before an update: three entries of each area.
pub struct Before(Vec<[(usize, usize, f32); 3]>);

impl Before {
    /// What `weights` hold now.
    pub fn of(weights: &Panels) -> Self {
        let last = |n: usize| [0, n / 2, n - 1];
        let (rows, cols) = (last(weights.d_in()), last(weights.d_out()));
        let entries = |k| [0, 1, 2].map(|e| (rows[e], cols[e], weights.get(k, rows[e], cols[e])));
        Self((0..weights.areas()).map(entries).collect())
    }

    /// Panics unless `after` holds `W - lr * inputs^T deltas`, summed over each area's samples; `lr` a power of two.
    pub fn check_update(
        &self,
        what: &str,
        plan: &RoutePlan,
        (inputs, deltas): (MatrixRef<'_>, MatrixRef<'_>),
        lr: f32,
        after: &Panels,
    ) {
        for (area, entries) in self.0.iter().enumerate() {
            for &(i, j, before) in entries {
                let samples = plan.rows(area).iter().map(|&r| r as usize);
                let terms = samples.map(|r| (-lr * inputs.row(r)[i], deltas.row(r)[j]));
                let (want, bound) = sum(terms.chain([(1.0, before)]));
                let bound = if plan.occupancy(area) == 0 { 0.0 } else { bound };
                let what = format!("{what}, area {area}, entry {i} {j}");
                assert_near(&what, after.get(area, i, j), want, bound);
            }
        }
    }
}

/// Panics unless `error` is `softmax(logits) - onehot(label)` to one rounding.
pub fn check_softmax(logits: MatrixRef<'_>, labels: &[u32], error: MatrixRef<'_>) {
    for (row, &label) in labels.iter().enumerate() {
        let top = logits.row(row).iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let p = |j: usize| (f64::from(logits.row(row)[j]) - f64::from(top)).exp();
        let all: f64 = (0..logits.cols()).map(p).sum();
        for j in three(logits.cols()).into_iter().chain([label as usize]) {
            let want = p(j) / all - if j == label as usize { 1.0 } else { 0.0 };
            let what = format!("loss, row {row}, class {j}");
            assert_near(&what, error.row(row)[j], want, 2f64.powi(-24) * want.abs() + 1e-12);
        }
    }
}

/// Panics unless every sample is in the area with its largest score; of equal ones the first.
pub fn check_areas(scores: MatrixRef<'_>, areas: &[u32]) {
    for (row, &area) in areas.iter().enumerate() {
        let scores = scores.row(row);
        let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let want = scores.iter().position(|&s| s == best).expect("a finite score");
        assert_eq!(area as usize, want, "area of row {row}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sal_kernels::{Isa, Matrix};
    use std::panic::catch_unwind;

    /// y = W x + b for 1 row of 2 -> 2, with one entry changed by `error`.
    fn product(error: f32, relu: bool, gate: Option<&Matrix>) -> bool {
        let inputs = Matrix::from_slice(1, 2, &[1.0, 2.0]).unwrap();
        let mut out = Matrix::from_slice(1, 2, &[5.0, -4.0]).unwrap(); // [1 2; 2 -3] x + [0, 1]
        if relu {
            out.row_mut(0)[1] = 0.0;
        }
        out.row_mut(0)[0] += error;
        catch_unwind(|| {
            Product {
                what: "test",
                plan: &RoutePlan::single(1).unwrap(),
                inputs: inputs.view(),
                weight: |_, i: usize, j: usize| [[1.0, 1.0], [2.0, -3.0]][i][j],
                bias: |_, j: usize| [0.0, 1.0][j],
                relu,
                gate: gate.map(|g| g.view()),
                out: out.view(),
            }
            .check();
        })
        .is_ok()
    }

    #[test]
    fn a_wrong_product_is_found() {
        assert!(product(0.0, false, None) && product(0.0, true, None));
        assert!(!product(1e-4, false, None) && !product(f32::NAN, false, None));
        let open = Matrix::from_slice(1, 2, &[1.0, 1.0]).unwrap();
        let closed = Matrix::from_slice(1, 2, &[0.0, 1.0]).unwrap();
        assert!(product(0.0, false, Some(&open)));
        assert!(!product(0.0, false, Some(&closed)), "a closed gate lets nothing through");
        assert!(product(-5.0, false, Some(&closed)));
    }

    #[test]
    fn a_wrong_update_is_found() {
        let isa = Isa::available()[0];
        let before = Panels::from_row_major(isa, 2, 1, 1, &[1.0, 1.0]).unwrap();
        let (plan, one) =
            (RoutePlan::new(&[1], 2).unwrap(), Matrix::from_slice(1, 1, &[1.0]).unwrap());
        let fine = |after: [f32; 2]| {
            let after = Panels::from_row_major(isa, 2, 1, 1, &after).unwrap();
            let operands = (one.view(), one.view());
            let check = || Before::of(&before).check_update("test", &plan, operands, 0.5, &after);
            catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok()
        };
        assert!(fine([1.0, 0.5]));
        assert!(!fine([1.0, 0.500_001]));
        assert!(!fine([1.000_000_1, 0.5]), "an area without samples must not change");
    }

    #[test]
    fn a_wrong_error_or_area_is_found() {
        let logits = Matrix::zeros(1, 2).unwrap();
        let fine = |error: [f32; 2]| {
            let error = Matrix::from_slice(1, 2, &error).unwrap();
            catch_unwind(|| check_softmax(logits.view(), &[1], error.view())).is_ok()
        };
        assert!(fine([0.5, -0.5]));
        assert!(!fine([0.5, 0.5]) && !fine([0.500_001, -0.5]));
        let scores = Matrix::from_slice(1, 3, &[1.0, 2.0, 2.0]).unwrap();
        let fine = |area| catch_unwind(|| check_areas(scores.view(), &[area])).is_ok();
        assert!(fine(1));
        assert!(!fine(0) && !fine(2));
    }
}
