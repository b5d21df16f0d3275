//! Operands that can be computed again: entry i of a named sequence is a hash of (name, i).
//!
//! ```text
//! value(seed, i) = scale * sqrt(12) * (hash(seed, i) / 2^24 - 1/2)        uniform, variance scale^2
//! ```
//! A check asks for the weights that it needs, so four gigabytes of weights need no row-major copy beside them.

use sal_kernels::{Isa, Matrix, Panels, Signs};

/// A sequence of values with mean zero.
#[derive(Debug, Clone, Copy)]
pub struct Values {
    seed: u64,
    scale: f32,
    /// Of 256 values so many are exact zeros.
    zeros: u64,
}

impl Values {
    /// Standard deviation `scale`; another `seed` is another sequence.
    pub fn new(seed: u64, scale: f64) -> Self {
        Self { seed, scale: (scale * 12f64.sqrt()) as f32, zeros: 0 }
    }

    /// As MNIST's pixels: four fifths of the values are exact zeros.
    pub fn pixels(seed: u64) -> Self {
        Self { zeros: 207, ..Self::new(seed, 1.0) }
    }

    /// No value is further from zero.
    pub(crate) fn largest(&self) -> f32 {
        0.5 * self.scale
    }

    /// Entry `i`.
    pub fn at(&self, i: usize) -> f32 {
        // Two rounds of multiply and fold: neighbours share no visible structure.
        let mut h = (i as u64 ^ self.seed.rotate_left(40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        h = (h ^ (h >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        h ^= h >> 32;
        if h & 255 < self.zeros {
            return 0.0;
        }
        self.scale * ((h >> 40) as f32 / (1 << 24) as f32 - 0.5)
    }

    /// Entries from `first` on.
    pub fn fill(&self, first: usize, out: &mut [f32]) {
        for (i, x) in out.iter_mut().enumerate() {
            *x = self.at(first + i);
        }
    }

    /// (areas, d_in, d_out), filled one area after another; entry (k, i, j) is value (k d_in + i) d_out + j.
    pub fn panels(&self, isa: Isa, areas: usize, d_in: usize, d_out: usize) -> Panels {
        let mut panels = Panels::zeros(isa, areas, d_in, d_out).expect("room for the weights");
        let mut area = vec![0.0; d_in * d_out];
        for k in 0..areas {
            self.fill(k * area.len(), &mut area);
            panels.set_area(k, &area).expect("one area's values");
        }
        panels
    }

    /// One matrix of the signs of the first d_in * d_out values.
    pub fn signs(&self, isa: Isa, d_in: usize, d_out: usize, scale: f32) -> Signs {
        let mut values = vec![0.0; d_in * d_out];
        self.fill(0, &mut values);
        Signs::from_row_major(isa, 1, d_in, d_out, scale, &values).expect("room for the signs")
    }

    /// (rows, cols), row-major from value 0.
    pub fn matrix(&self, rows: usize, cols: usize) -> Matrix {
        let mut matrix = zeros(rows, cols);
        self.fill(0, matrix.as_mut_slice());
        matrix
    }
}

/// A matrix of zeros.
pub fn zeros(rows: usize, cols: usize) -> Matrix {
    Matrix::zeros(rows, cols).expect("room for a matrix")
}
