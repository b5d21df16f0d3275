//! What is measured while a network trains: accuracy, and how the areas are used.

use super::TrainError;
use crate::data::Dataset;
use crate::matrix::MatrixRef;
use crate::model::{Network, Tape};

/// Samples in one batch of an evaluation.
const EVALUATION_BATCH: usize = 256;

/// The fraction of samples whose class the network predicts.
///
/// # Errors
/// If the dataset is empty or does not fit the network.
pub fn accuracy(network: &Network, data: &Dataset, tape: &mut Tape) -> Result<f64, TrainError> {
    if data.is_empty() {
        let (what, want) = ("samples to evaluate", "at least 1");
        return Err(TrainError::Config { what, got: "0".into(), want });
    }
    let features = data.features();
    let mut right = 0;
    for (labels, inputs) in data
        .labels()
        .chunks(EVALUATION_BATCH)
        .zip(data.inputs().as_slice().chunks((EVALUATION_BATCH * features).max(1)))
    {
        let predicted = network.predict(MatrixRef::new(inputs, labels.len(), features)?, tape)?;
        right += predicted.iter().zip(labels).filter(|(p, y)| p == y).count();
    }
    Ok(right as f64 / data.len() as f64)
}

/// How often each area of each routed layer was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AreaUse {
    counts: Vec<Vec<u64>>,
}

impl AreaUse {
    /// Counts of a tape's batch are added; layers without a router of their own are left out.
    pub fn add(&mut self, tape: &Tape) {
        let plans = tape.layers().iter().filter_map(|l| l.routes()).map(|r| r.plan());
        for (i, plan) in plans.enumerate() {
            if self.counts.len() == i {
                self.counts.push(vec![0; plan.areas()]);
            }
            for (k, n) in self.counts[i].iter_mut().enumerate() {
                *n += plan.occupancy(k) as u64;
            }
        }
    }

    /// Entropy of the areas' shares divided by that of even use: 1 is even, 0 is one area for all; the mean over
    /// routed layers, 1 where nothing is routed.
    pub fn entropy(&self) -> f64 {
        let of = |counts: &Vec<u64>| {
            let total = counts.iter().sum::<u64>() as f64;
            let shares = counts.iter().filter(|&&n| n > 0).map(|&n| n as f64 / total);
            -shares.map(|f| f * libm::log(f)).sum::<f64>() / libm::log(counts.len() as f64)
        };
        let layers = self.counts.len();
        // `max` also turns the -0 of one full area into 0.
        if layers == 0 {
            1.0
        } else {
            (self.counts.iter().map(of).sum::<f64>() / layers as f64).max(0.0)
        }
    }

    /// Areas that no sample chose, over all routed layers.
    pub fn empty_areas(&self) -> usize {
        self.counts.iter().flatten().filter(|&&n| n == 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_tells_even_use_from_one_area() {
        assert_eq!(AreaUse::default().entropy(), 1.0);
        let of = |counts: &[u64]| AreaUse { counts: vec![counts.to_vec()] };
        assert!((of(&[5, 5, 5, 5]).entropy() - 1.0).abs() < 1e-12);
        assert_eq!(of(&[7, 0, 0]).entropy(), 0.0);
        assert_eq!(of(&[7, 0, 0]).empty_areas(), 2);
        let half = of(&[1, 1, 0, 0]).entropy();
        assert!((half - 0.5).abs() < 1e-12, "{half}");
    }
}
