//! A SAL network: layers of K areas, a router for each routed layer, and the way the error comes back.
//!
//! ```text
//! config     what a network is                       NetworkConfig
//! layer      parameters of one layer, their update   weights, bias, moments
//! feedback   fixed matrices into a layer             f32 or one bit an entry
//! router     the router's state and its local rule   projection, prototypes, mean, selection bias
//! network    a step: route, forward, loss, feedback, router updates, area updates
//! backprop   transposed weights for the baseline     never on the path of SAL
//! ```

mod backprop;
mod config;
mod feedback;
mod layer;
mod network;
mod router;

pub use config::{FeedbackEntries, FeedbackMode, NetworkConfig, RouterConfig, RouterRule};
pub use feedback::Feedback;
pub use layer::Layer;
pub use network::{LayerTape, Network, Tape};
pub use router::Router;

use crate::kernels::KernelError;
use crate::matrix::LayoutError;

/// Why a network could not be made, or refused a batch.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A value of the configuration is outside of its range.
    #[error("{what}: got {got}, want {want}")]
    Config {
        /// The value's name.
        what: &'static str,
        /// What was given.
        got: String,
        /// What it has to be.
        want: &'static str,
    },
    /// An input is NaN or infinite.
    #[error("input of sample {sample}, feature {feature}: got {got}, want a finite value")]
    NonFinite {
        /// Index of the sample in the batch.
        sample: usize,
        /// Index of the feature.
        feature: usize,
        /// The value.
        got: f32,
    },
    /// The loss or a weight became NaN or infinite: the weights are of no use any more.
    #[error("training diverged at step {step}, mean loss {loss}: a smaller learning rate may help")]
    Diverged {
        /// Number of the step, from 0.
        step: u64,
        /// The mean loss before it.
        loss: f64,
    },
    /// A verb refused its arguments.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl From<LayoutError> for ModelError {
    fn from(error: LayoutError) -> Self {
        Self::Kernel(error.into())
    }
}

fn check(what: &'static str, got: usize, want: usize) -> Result<(), KernelError> {
    if got == want { Ok(()) } else { Err(KernelError::Dimension { what, got, want }) }
}
