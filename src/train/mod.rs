//! Training a network on a dataset: epochs, mini-batches, schedules, metrics, and the presets that put them together.

mod metrics;
mod recipe;
mod schedule;
mod trainer;

pub use metrics::{AreaUse, accuracy};
pub use recipe::{Preset, Recipe};
pub use schedule::Schedule;
pub use trainer::{EpochReport, Observer, Summary, TrainConfig, train};

use crate::data::DataError;
use crate::kernels::KernelError;
use crate::matrix::LayoutError;
use crate::model::ModelError;

/// Why training could not begin, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
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
    /// The dataset does not fit the network.
    #[error("{what}: the dataset has {got}, the network {want}")]
    Dataset {
        /// What is counted.
        what: &'static str,
        /// In the dataset.
        got: usize,
        /// In the network.
        want: usize,
    },
    /// The network refused a batch.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The data could not be read, split or scaled.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl From<LayoutError> for TrainError {
    fn from(error: LayoutError) -> Self {
        Self::Model(ModelError::Kernel(KernelError::Layout(error)))
    }
}
