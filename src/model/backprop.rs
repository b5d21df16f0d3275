//! Backpropagation, for comparison only: the feedback matrices are the transposed forward weights of this step.
//!
//! SAL never comes here. The baseline pays what backpropagation pays: all weights are transposed and packed again
//! for each batch.

use crate::matrix::LayoutError;
use crate::panels::Panels;

/// `W[k]^T` for each area, (K, d_out, d_in), made anew for each batch in the same memory.
#[derive(Debug, Clone)]
pub(super) struct Transposed {
    panels: Panels,
    /// One area in row-major order.
    matrix: Vec<f32>,
}

impl Transposed {
    /// Memory for the transposed weights of a layer, which [`Transposed::renew`] fills.
    pub(super) fn new(weights: &Panels) -> Result<Self, LayoutError> {
        let (areas, d_in, d_out) = (weights.areas(), weights.d_in(), weights.d_out());
        Ok(Self { panels: Panels::zeros(weights.isa(), areas, d_out, d_in)?, matrix: Vec::new() })
    }

    /// The transposed weights as they are now.
    pub(super) fn renew(&mut self, weights: &Panels) -> Result<&Panels, LayoutError> {
        let (d_in, d_out) = (weights.d_in(), weights.d_out());
        self.matrix.resize(d_in * d_out, 0.0);
        for area in 0..weights.areas() {
            let mut n = 0;
            weights.for_each_row(area, |piece| {
                for &w in piece {
                    self.matrix[(n % d_out) * d_in + n / d_out] = w;
                    n += 1;
                }
            });
            self.panels.set_area(area, &self.matrix)?;
        }
        Ok(&self.panels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    #[test]
    fn every_weight_changes_its_indices() {
        for isa in Isa::available() {
            let mut t: Option<Transposed> = None;
            for start in [0, 1000] {
                let w: Vec<f32> = (0..2 * 3 * 40).map(|i| (start + i) as f32).collect();
                let w = Panels::from_row_major(isa, 2, 3, 40, &w).unwrap();
                let t = t.get_or_insert_with(|| Transposed::new(&w).unwrap());
                let t = t.renew(&w).unwrap();
                for (area, i, j) in [(0, 0, 0), (0, 2, 39), (1, 1, 17), (1, 2, 3)] {
                    assert_eq!(t.get(area, j, i), w.get(area, i, j));
                }
            }
        }
    }
}
