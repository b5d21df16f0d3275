//! Datasets: labelled samples as they were read, where they come from, and how they are split and scaled.
//!
//! ```text
//! digits, idx   ->  Dataset   raw values and the range they are declared to lie in
//! stratified    ->  Split     disjoint lists of rows: train, validation, test;  Dataset::select copies them
//! Standardizer  ->  Dataset   fitted on the training rows alone, applied to every part
//! ```

mod digits;
pub mod idx;
mod split;
mod standardize;

pub use digits::digits;
pub use split::{Split, stratified};
pub use standardize::{Scaling, Standardizer};

use crate::matrix::{LayoutError, Matrix};
use std::path::PathBuf;

/// Why a dataset cannot be read, built, split or scaled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The system could not open or read a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A directory lacks a file of the dataset.
    #[error("{}: no file {file}, plain or with .gz", directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
        /// The usual name of the file.
        file: String,
    },
    /// A file does not hold what its format asks for.
    #[error("{}: byte {offset}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where: bytes from the start, of the decompressed bytes if the file is compressed.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A label names a class that does not exist.
    #[error("label of sample {sample}: got {got}, want less than {classes}")]
    Label {
        /// Row of the sample.
        sample: usize,
        /// Its label.
        got: u32,
        /// Number of classes.
        classes: usize,
    },
    /// An input is NaN or infinite.
    #[error("sample {sample}, feature {feature}: not a finite number")]
    NonFinite {
        /// Row of the sample.
        sample: usize,
        /// Column of the feature.
        feature: usize,
    },
    /// An input lies outside of the declared range.
    #[error("sample {sample}, feature {feature}: {got} is outside of the range {lo}..={hi}")]
    OutOfRange {
        /// Row of the sample.
        sample: usize,
        /// Column of the feature.
        feature: usize,
        /// The value.
        got: f32,
        /// Smallest value declared.
        lo: f32,
        /// Largest value declared.
        hi: f32,
    },
    /// A declared range is no interval of finite numbers.
    #[error("range {lo}..={hi}: want two finite numbers, the first one smaller")]
    Range {
        /// Smallest value declared.
        lo: f32,
        /// Largest value declared.
        hi: f32,
    },
    /// Nothing is there where at least one is needed.
    #[error("no {what}")]
    Empty {
        /// What there is none of.
        what: &'static str,
    },
    /// The fractions of a split leave nothing to train on, or are no fractions.
    #[error("validation {validation} and test {test}: want both in 0..1 and their sum below 1")]
    Fraction {
        /// Fraction for validation.
        validation: f64,
        /// Fraction for the test.
        test: f64,
    },
    /// The parameters of a standardizer are not usable numbers.
    #[error("standardizer: want finite means and a finite scale above 0")]
    Standardizer,
    /// A length or an index is wrong.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Labelled samples: `inputs` (samples x features), one label each, and what the numbers mean.
///
/// Inputs are finite and lie in the declared range, labels are less than `classes`; both are checked once, here.
///
/// ```
/// use sal_kernels::{Matrix, data::Dataset};
/// let inputs = Matrix::from_slice(3, 2, &[0.0, 1.0, 0.5, 0.5, 1.0, 0.0])?;
/// let data = Dataset::new("toy", inputs, vec![0, 1, 1], 2, (0.0, 1.0))?;
/// assert_eq!((data.len(), data.features(), data.classes()), (3, 2, 2));
/// assert_eq!(data.select(&[2, 0])?.inputs().row(0), [1.0, 0.0]);
/// # Ok::<(), sal_kernels::data::DataError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dataset {
    name: String,
    inputs: Matrix,
    labels: Vec<u32>,
    classes: usize,
    range: (f32, f32),
}

impl Dataset {
    /// A dataset of `inputs` (samples x features), whose values lie in `range` (smallest, largest).
    ///
    /// There may be no sample, but there must be a feature and a class.
    ///
    /// # Errors
    /// If lengths differ, there is no feature or class, the range is not `lo < hi`, or a label, or an input, named by
    /// its sample and feature, is out of range or not finite.
    pub fn new(
        name: impl Into<String>,
        inputs: Matrix,
        labels: Vec<u32>,
        classes: usize,
        range: (f32, f32),
    ) -> Result<Self, DataError> {
        let (lo, hi) = range;
        if inputs.cols() == 0 {
            return Err(DataError::Empty { what: "features" });
        }
        if classes == 0 {
            return Err(DataError::Empty { what: "classes" });
        }
        if !(lo.is_finite() && hi.is_finite() && lo < hi) {
            return Err(DataError::Range { lo, hi });
        }
        if labels.len() != inputs.rows() {
            let (got, want) = (labels.len(), inputs.rows());
            return Err(LayoutError::Length { what: "labels", got, want }.into());
        }
        check_labels(&labels, classes)?;
        // NaN is outside of every range.
        let bad = inputs.as_slice().iter().position(|x| !(lo..=hi).contains(x));
        if let Some(at) = bad {
            let (sample, feature) = (at / inputs.cols(), at % inputs.cols());
            let got = inputs.as_slice()[at];
            return Err(if got.is_finite() {
                DataError::OutOfRange { sample, feature, got, lo, hi }
            } else {
                DataError::NonFinite { sample, feature }
            });
        }
        Ok(Self { name: name.into(), inputs, labels, classes, range })
    }

    /// A short name for reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inputs, samples x features.
    pub fn inputs(&self) -> &Matrix {
        &self.inputs
    }

    /// The class of every sample.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Smallest and largest value that an input may have.
    pub fn range(&self) -> (f32, f32) {
        self.range
    }

    /// Number of features of a sample.
    pub fn features(&self) -> usize {
        self.inputs.cols()
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// A copy of the samples `rows`, in that order; a row may occur more than once, or none may be given.
    ///
    /// # Errors
    /// If a row does not exist, or there is no memory for the copy.
    pub fn select(&self, rows: &[usize]) -> Result<Self, DataError> {
        let len = self.len();
        if let Some(&got) = rows.iter().find(|&&r| r >= len) {
            return Err(LayoutError::Index { what: "row of the dataset", got, len }.into());
        }
        let mut inputs = Matrix::zeros(rows.len(), self.features())?;
        for (to, &from) in rows.iter().enumerate() {
            inputs.row_mut(to).copy_from_slice(self.inputs.row(from));
        }
        Ok(Self {
            name: self.name.clone(),
            inputs,
            labels: rows.iter().map(|&r| self.labels[r]).collect(),
            classes: self.classes,
            range: self.range,
        })
    }
}

/// Every label has to be less than `classes`.
fn check_labels(labels: &[u32], classes: usize) -> Result<(), DataError> {
    match labels.iter().enumerate().find(|&(_, &label)| label as usize >= classes) {
        Some((sample, &got)) => Err(DataError::Label { sample, got, classes }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toy(values: &[f32], labels: &[u32], classes: usize) -> Result<Dataset, DataError> {
        let inputs = Matrix::from_slice(values.len() / 2, 2, values)?;
        Dataset::new("toy", inputs, labels.to_vec(), classes, (-1.0, 1.0))
    }

    #[test]
    fn errors_name_the_sample_and_the_feature() {
        let message = |r: Result<Dataset, DataError>| r.unwrap_err().to_string();
        assert_eq!(
            message(toy(&[0.0, 0.0, 0.0, f32::NAN], &[0, 1], 2)),
            "sample 1, feature 1: not a finite number"
        );
        assert_eq!(
            message(toy(&[0.0, 0.0, f32::NEG_INFINITY, 2.0], &[0, 1], 2)),
            "sample 1, feature 0: not a finite number"
        );
        assert_eq!(
            message(toy(&[0.0, 1.5], &[0], 2)),
            "sample 0, feature 1: 1.5 is outside of the range -1..=1"
        );
        assert_eq!(
            message(toy(&[0.0; 4], &[0, 2], 2)),
            "label of sample 1: got 2, want less than 2"
        );
        assert_eq!(message(toy(&[0.0; 4], &[0], 2)), "labels: got 1 elements, want 2");
        assert_eq!(message(toy(&[0.0; 4], &[0, 0], 0)), "no classes");
        let nothing = Matrix::zeros(1, 0).unwrap();
        assert_eq!(message(Dataset::new("", nothing, vec![0], 1, (0.0, 1.0))), "no features");
        for range in [(0.0, 0.0), (1.0, 0.0), (0.0, f32::INFINITY), (f32::NAN, 1.0)] {
            let r = Dataset::new("", Matrix::zeros(1, 1).unwrap(), vec![0], 1, range);
            assert!(matches!(r, Err(DataError::Range { .. })), "{range:?}");
        }
    }

    #[test]
    fn select_copies_rows_in_the_order_given() {
        let data = toy(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], &[0, 1, 2], 3).unwrap();
        let some = data.select(&[2, 0, 2]).unwrap();
        assert_eq!(some.inputs().as_slice(), [0.5, 0.6, 0.1, 0.2, 0.5, 0.6]);
        assert_eq!(some.labels(), [2, 0, 2]);
        assert_eq!((some.name(), some.classes(), some.range()), ("toy", 3, (-1.0, 1.0)));
        assert!(data.select(&[]).unwrap().is_empty());
        assert_eq!(
            data.select(&[0, 3]).unwrap_err().to_string(),
            "row of the dataset: got index 3, want less than 3"
        );
    }
}
