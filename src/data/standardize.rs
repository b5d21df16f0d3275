//! Scaling of inputs, fitted on the training part alone: `x' = (x - mean_j) / scale` for feature j.
//!
//! ```text
//! Centred    mean_j = mean of feature j over the training samples
//!            scale  = sqrt(mean over samples and features of (x - mean_j)^2), or 1 if that is 0
//! Range      mean_j = (lo + hi) / 2,  scale = (hi - lo) / 2:  the declared range becomes -1..=1
//! ```
//! One scale for all features keeps their relative size: a pixel that is almost always 0 is not blown up.
//! Sums run in f64 and in the order of the samples, so a fit is the same bits everywhere.

use super::{DataError, Dataset};
use crate::matrix::{LayoutError, Matrix};

/// What to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scaling {
    /// Mean 0 for each feature of the training part, variance 1 over all of them.
    Centred,
    /// The declared range of the dataset becomes -1..=1.
    Range,
}

/// Means (one for each feature) and the one scale of `x' = (x - mean_j) / scale`.
///
/// ```
/// use sal_kernels::data::{Scaling, Standardizer, digits, stratified};
/// let digits = digits();
/// let split = stratified(digits.labels(), digits.classes(), 0, 0.0, 0.2)?;
/// let (train, test) = (digits.select(&split.train)?, digits.select(&split.test)?);
/// let standardizer = Standardizer::fit(Scaling::Centred, &train)?;
/// let (train, test) = (standardizer.apply(&train)?, standardizer.apply(&test)?);
/// assert!(train.range().0 < -1.0 && train.range() == test.range());
/// # Ok::<(), sal_kernels::data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Standardizer {
    mean: Vec<f64>,
    scale: f64,
}

impl Standardizer {
    /// Fits `scaling` to the training part.
    ///
    /// # Errors
    /// If there is no sample.
    pub fn fit(scaling: Scaling, train: &Dataset) -> Result<Self, DataError> {
        if train.is_empty() {
            return Err(DataError::Empty { what: "samples to fit a standardizer to" });
        }
        match scaling {
            Scaling::Centred => Self::centred(train.inputs()),
            Scaling::Range => {
                let (lo, hi) = (f64::from(train.range().0), f64::from(train.range().1));
                Self::new(vec![(lo + hi) / 2.0; train.features()], (hi - lo) / 2.0)
            }
        }
    }

    fn centred(inputs: &Matrix) -> Result<Self, DataError> {
        let rows = || inputs.as_slice().chunks_exact(inputs.cols());
        let samples = inputs.rows() as f64;
        // Exact for a constant feature (24 bits times fewer than 2^29 samples fit in f64), which then varies by 0.
        let mut mean = vec![0.0; inputs.cols()];
        for row in rows() {
            mean.iter_mut().zip(row).for_each(|(m, &x)| *m += f64::from(x));
        }
        mean.iter_mut().for_each(|m| *m /= samples);
        // One sum for each feature: shorter sums round less, and they run side by side.
        let mut squares = vec![0.0; inputs.cols()];
        for row in rows() {
            for ((s, m), &x) in squares.iter_mut().zip(&mean).zip(row) {
                *s += (f64::from(x) - m) * (f64::from(x) - m);
            }
        }
        let variance = squares.iter().sum::<f64>() / (samples * mean.len() as f64);
        Self::new(mean, if variance == 0.0 { 1.0 } else { variance.sqrt() })
    }

    /// A standardizer of known parameters, as a checkpoint stores them.
    ///
    /// # Errors
    /// If there is no feature, a number is not finite, or `scale` is not above 0.
    pub fn new(mean: Vec<f64>, scale: f64) -> Result<Self, DataError> {
        if mean.is_empty() {
            return Err(DataError::Empty { what: "features" });
        }
        if !(scale.is_finite() && scale > 0.0 && mean.iter().all(|m| m.is_finite())) {
            return Err(DataError::Standardizer);
        }
        Ok(Self { mean, scale })
    }

    /// What is subtracted from each feature.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// What every difference is divided by.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// A copy of `data` with every input scaled, computed in f64 and rounded once; the range is what the range of
    /// `data` becomes, over all features.
    ///
    /// # Errors
    /// If `data` has another number of features, a value leaves the range of f32, or there is no memory.
    pub fn apply(&self, data: &Dataset) -> Result<Dataset, DataError> {
        let (got, want) = (data.features(), self.mean.len());
        if got != want {
            return Err(LayoutError::Length { what: "features of a sample", got, want }.into());
        }
        let scaled = |x: f32, mean: f64| ((f64::from(x) - mean) / self.scale) as f32;
        let mut inputs = Matrix::zeros(data.len(), want)?;
        let rows = data.inputs().as_slice().chunks_exact(want);
        for (to, from) in inputs.as_mut_slice().chunks_exact_mut(want).zip(rows) {
            for ((to, &x), &mean) in to.iter_mut().zip(from).zip(&self.mean) {
                *to = scaled(x, mean);
            }
        }
        // `scaled` rises with x and falls with the mean, rounding included: every value stays inside.
        let (lo, hi) = data.range();
        let largest = self.mean.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let smallest = self.mean.iter().copied().fold(f64::INFINITY, f64::min);
        let range = (scaled(lo, largest), scaled(hi, smallest));
        Dataset::new(data.name(), inputs, data.labels().to_vec(), data.classes(), range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits;

    fn toy(rows: usize, values: &[f32], range: (f32, f32)) -> Dataset {
        let inputs = Matrix::from_slice(rows, values.len() / rows, values).unwrap();
        Dataset::new("toy", inputs, vec![0; rows], 1, range).unwrap()
    }

    #[test]
    fn centred_uses_the_means_of_the_features_and_one_deviation() {
        let train = toy(2, &[0.0, 3.0, 2.0, 7.0], (0.0, 8.0));
        let s = Standardizer::fit(Scaling::Centred, &train).unwrap();
        // Means 1 and 5, differences -1, -2, 1, 2: variance 10 / 4.
        assert_eq!(s.mean(), [1.0, 5.0]);
        assert_eq!(s.scale(), 2.5f64.sqrt());
        let test = s.apply(&toy(1, &[8.0, 0.0], (0.0, 8.0))).unwrap();
        let want = [7.0 / 2.5f64.sqrt(), -5.0 / 2.5f64.sqrt()].map(|x| x as f32);
        assert_eq!(test.inputs().as_slice(), want);
        assert_eq!(test.range(), (want[1], want[0]));
        assert_eq!(s, Standardizer::new(s.mean().to_vec(), s.scale()).unwrap());
    }

    #[test]
    fn centred_digits_agree_with_numpy() {
        let d = digits();
        let s = Standardizer::fit(Scaling::Centred, &d).unwrap();
        // numpy: (data - data.mean(0)).std() and data.mean(0)[10]
        assert!((s.scale() - 4.332794164426796).abs() < 1e-12, "{}", s.scale());
        assert!((s.mean()[10] - 10.3823038).abs() < 1e-7, "{}", s.mean()[10]);
        let x = s.apply(&d).unwrap();
        let again = Standardizer::fit(Scaling::Centred, &x).unwrap();
        // Every value was rounded to f32 once, by at most 2^-24 of the largest.
        let bound = f64::from(x.range().1.max(-x.range().0)) * 0.5f64.powi(24);
        assert!(again.mean().iter().all(|m| m.abs() <= bound), "{:?}", again.mean());
        assert!((again.scale() - 1.0).abs() <= bound, "{}", again.scale());
    }

    #[test]
    fn range_maps_the_declared_range_to_minus_one_and_one() {
        let d = toy(1, &[0.0, 8.0, 16.0, 4.0], (0.0, 16.0));
        let x = Standardizer::fit(Scaling::Range, &d).unwrap().apply(&d).unwrap();
        assert_eq!(x.inputs().as_slice(), [-1.0, 0.0, 1.0, -0.5]);
        assert_eq!(x.range(), (-1.0, 1.0));
        let widest = toy(1, &[f32::MIN, f32::MAX], (f32::MIN, f32::MAX));
        let x = Standardizer::fit(Scaling::Range, &widest).unwrap().apply(&widest).unwrap();
        assert_eq!(x.inputs().as_slice(), [-1.0, 1.0]);
    }

    #[test]
    fn a_constant_dataset_is_divided_by_one() {
        // 0.1 is no binary fraction: a rounded mean would leave a deviation of 1e-17 to divide by.
        let d = toy(3, &[0.1, 0.7, 0.1, 0.7, 0.1, 0.7], (0.0, 1.0));
        let s = Standardizer::fit(Scaling::Centred, &d).unwrap();
        assert_eq!(s.scale(), 1.0);
        assert_eq!(s.apply(&d).unwrap().inputs().as_slice(), [0.0; 6]);
    }

    #[test]
    fn errors() {
        let d = toy(2, &[0.0, 3.0, 2.0, 7.0], (0.0, 8.0));
        let s = Standardizer::fit(Scaling::Centred, &d).unwrap();
        let message = s.apply(&toy(2, &[0.0, 1.0], (0.0, 1.0))).unwrap_err().to_string();
        assert_eq!(message, "features of a sample: got 1 elements, want 2");
        for scaling in [Scaling::Centred, Scaling::Range] {
            let r = Standardizer::fit(scaling, &d.select(&[]).unwrap());
            assert!(matches!(r, Err(DataError::Empty { .. })));
        }
        assert!(s.apply(&d.select(&[]).unwrap()).unwrap().is_empty());
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Standardizer::new(vec![0.0], scale), Err(DataError::Standardizer)));
        }
        assert!(Standardizer::new(vec![f64::NAN], 1.0).is_err());
        assert!(Standardizer::new(vec![], 1.0).is_err());
        let tiny = Standardizer::new(vec![0.0, 0.0], 1e-300).unwrap();
        assert!(tiny.apply(&d).is_err());
    }
}
