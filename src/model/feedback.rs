//! The fixed random matrices that bring the error back into a layer, in one of two entry formats.
//!
//! ```text
//! sequential   F (K of the layer above, d_out of the layer above, d_out)    variance 2 / d_out
//! direct       F (K of the layer, classes, d_out)                           variance 1 / classes
//! shared       one matrix instead of K
//! gaussian     f32 draws from N(0, variance)
//! sign         +-sqrt(variance), one bit an entry
//! ```

use super::layer::normal;
use super::{FeedbackEntries, FeedbackMode, ModelError, NetworkConfig};
use crate::kernels::{KernelError, feedback, feedback_signs};
use crate::matrix::{LayoutError, MatrixMut, MatrixRef};
use crate::panels::Panels;
use crate::plan::RoutePlan;
use crate::signs::Signs;
use crate::simd::Isa;

/// The feedback matrices F into one layer: one for each area, or one for all.
#[derive(Debug, Clone)]
pub enum Feedback {
    /// f32 entries.
    Gaussian(Panels),
    /// One bit an entry.
    Sign(Signs),
}

impl Feedback {
    /// F into layer `l` from its named streams; none into the output, which sees the error itself, and none for
    /// backpropagation.
    pub(super) fn new(
        isa: Isa,
        config: &NetworkConfig,
        l: usize,
    ) -> Result<Option<Self>, ModelError> {
        let (widths, classes) = (config.widths(), config.classes);
        if l == config.hidden.len() {
            return Ok(None);
        }
        let d_out = widths[l + 1];
        let (areas, d_in, variance) = match config.feedback {
            FeedbackMode::Sequential => (config.areas_of(l + 1), widths[l + 2], 2.0 / d_out as f64),
            FeedbackMode::Direct => (config.areas_of(l), classes, 1.0 / classes as f64),
            FeedbackMode::Backprop => return Ok(None),
        };
        let areas = if config.shared_feedback { 1 } else { areas };
        Ok(Some(match config.feedback_entries {
            FeedbackEntries::Gaussian => {
                let shape = (areas, d_in, d_out);
                Self::Gaussian(normal(isa, config.seed, l, "feedback", shape, variance)?)
            }
            FeedbackEntries::Sign => {
                let (scale, stream) = (variance.sqrt() as f32, (config.seed, l as u32));
                Self::Sign(Signs::random(isa, areas, d_in, d_out, scale, stream)?)
            }
        }))
    }

    /// Number of matrices.
    pub fn areas(&self) -> usize {
        match self {
            Self::Gaussian(panels) => panels.areas(),
            Self::Sign(signs) => signs.areas(),
        }
    }

    /// All entries in row-major order: `[area][i][j]`.
    pub fn to_row_major(&self) -> Vec<f32> {
        match self {
            Self::Gaussian(panels) => panels.to_row_major(),
            Self::Sign(signs) => signs.to_row_major(),
        }
    }

    /// `delta = (e F[z]) * f'(y)`, see [`feedback`].
    pub(super) fn apply(
        &self,
        plan: &RoutePlan,
        errors: MatrixRef<'_>,
        outputs: MatrixRef<'_>,
        out: MatrixMut<'_>,
    ) -> Result<(), KernelError> {
        match self {
            Self::Gaussian(panels) => feedback(plan, errors, panels, Some(outputs), out),
            Self::Sign(signs) => feedback_signs(plan, errors, signs, Some(outputs), out),
        }
    }

    /// Copies the matrix of area 0 to every other area.
    pub(super) fn spread(&mut self) -> Result<(), LayoutError> {
        (1..self.areas()).try_for_each(|area| match self {
            Self::Gaussian(panels) => panels.copy_area(0, area),
            Self::Sign(signs) => signs.copy_area(0, area),
        })
    }
}
