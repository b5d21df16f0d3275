//! Backpropagation, for comparison only: the feedback matrices are the transposed forward weights of this step.
//!
//! SAL never comes here. The baseline pays what backpropagation pays: all weights are transposed and packed again
//! for each batch.

use crate::matrix::LayoutError;
use crate::panels::Panels;

/// `W[k]^T` for each area: (K, d_in, d_out) becomes (K, d_out, d_in).
pub(super) fn transposed(weights: &Panels) -> Result<Panels, LayoutError> {
    let (areas, d_in, d_out) = (weights.areas(), weights.d_in(), weights.d_out());
    let mut out = Panels::zeros(weights.isa(), areas, d_out, d_in)?;
    let mut turned = vec![0.0; d_in * d_out];
    for area in 0..areas {
        let mut n = 0;
        weights.for_each_row(area, |piece| {
            for &w in piece {
                turned[(n % d_out) * d_in + n / d_out] = w;
                n += 1;
            }
        });
        out.set_area(area, &turned)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    #[test]
    fn every_weight_changes_its_indices() {
        for isa in Isa::available() {
            let w: Vec<f32> = (0..2 * 3 * 40).map(|i| i as f32).collect();
            let w = Panels::from_row_major(isa, 2, 3, 40, &w).unwrap();
            let t = transposed(&w).unwrap();
            for (area, i, j) in [(0, 0, 0), (0, 2, 39), (1, 1, 17), (1, 2, 3)] {
                assert_eq!(t.get(area, j, i), w.get(area, i, j));
            }
        }
    }
}
