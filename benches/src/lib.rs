//! What the benches share: operands for one layer and batch, and the check that a product is right before it is timed.

use sal_kernels::random::Stream;
use sal_kernels::{Isa, Matrix, Panels, RoutePlan};

/// A gated layer with a batch for it: K areas of d_in x d_out, samples spread evenly by a seeded draw.
pub struct Case {
    /// Instruction set of the panels.
    pub isa: Isa,
    /// (K, d_in, d_out).
    pub weights: Panels,
    /// The same weights, row-major.
    pub row_major: Vec<f32>,
    /// (K, 1, d_out).
    pub bias: Panels,
    /// The samples' areas.
    pub plan: RoutePlan,
    /// (batch, d_in).
    pub inputs: Matrix,
    /// (batch, d_out).
    pub deltas: Matrix,
    /// (batch, d_out): room for a result.
    pub out: Matrix,
}

impl Case {
    /// A case with normal values; `areas` areas, `batch` samples.
    pub fn new(isa: Isa, batch: usize, d_in: usize, d_out: usize, areas: usize) -> Self {
        let normal = |role, n: usize, variance| {
            let mut values = vec![0.0; n];
            Stream::new(1, 0, 0, role).fill_normal(variance, &mut values);
            values
        };
        let mut draw = Stream::new(1, 0, 0, "areas");
        let z: Vec<u32> = (0..batch).map(|_| draw.below(areas) as u32).collect();
        let row_major = normal("weights", areas * d_in * d_out, 1.0 / d_in as f64);
        let matrix = |role, rows, cols| {
            Matrix::from_slice(rows, cols, &normal(role, rows * cols, 1.0))
                .expect("a shape that fits")
        };
        Self {
            isa,
            weights: Panels::from_row_major(isa, areas, d_in, d_out, &row_major)
                .expect("shapes fit"),
            bias: Panels::from_row_major(isa, areas, 1, d_out, &normal("bias", areas * d_out, 1.0))
                .expect("shapes fit"),
            row_major,
            plan: RoutePlan::new(&z, areas).expect("areas are in range"),
            inputs: matrix("inputs", batch, d_in),
            deltas: matrix("deltas", batch, d_out),
            out: Matrix::zeros(batch, d_out).expect("a shape that fits"),
        }
    }

    /// FLOPs of one gated product.
    pub fn flop(&self) -> u64 {
        2 * (self.inputs.rows() * self.weights.d_in() * self.weights.d_out()) as u64
    }
}

/// Panics unless `got` is `want` within the bound of an f32 sum: (depth + 3) 2^-24 sum |a||b|.
pub fn check(what: &str, got: f32, terms: impl Iterator<Item = (f32, f32)>) {
    let (mut want, mut size, mut depth) = (0.0f64, 0.0f64, 0);
    for (a, b) in terms {
        want += f64::from(a) * f64::from(b);
        size += (f64::from(a) * f64::from(b)).abs();
        depth += 1;
    }
    let bound = f64::from(depth + 3) * 2f64.powi(-24) * size;
    assert!((f64::from(got) - want).abs() <= bound, "{what}: got {got}, want {want} +- {bound}");
}
