//! A run: epochs of shuffled mini-batches, an evaluation after each, and a report of all of them.

use super::{AreaUse, Schedule, TrainError, accuracy};
use crate::data::Dataset;
use crate::matrix::Matrix;
use crate::model::{ModelError, Network};
use crate::random::Stream;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How a network is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// Passes over the training part.
    pub epochs: usize,
    /// Samples of one step; the last one of an epoch has what is left.
    pub batch: usize,
    /// Learning rate of the areas at the start.
    pub lr: f32,
    /// Its course.
    pub schedule: Schedule,
    /// Share of the epochs, from the first, in which the network is dense: 0 to 1.
    pub warm_start: f64,
    /// Seed of the order of the samples.
    pub seed: u64,
}

impl TrainConfig {
    /// Epochs of the dense warm start.
    pub fn warm_epochs(&self) -> usize {
        (self.warm_start * self.epochs as f64).round() as usize
    }

    fn check(&self) -> Result<(), TrainError> {
        let wrong = |what, got: String, want| Err(TrainError::Config { what, got, want });
        if self.batch == 0 {
            return wrong("batch", "0".into(), "at least 1");
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return wrong("learning rate", self.lr.to_string(), "a positive finite number");
        }
        if !(0.0..=1.0).contains(&self.warm_start) {
            return wrong("warm start", self.warm_start.to_string(), "a share from 0 to 1");
        }
        Ok(())
    }
}

/// What one epoch came to.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochReport {
    /// From 1.
    pub epoch: usize,
    /// Whether the network was dense in it (warm start).
    pub dense: bool,
    /// Mean loss of its samples, each before the step that it took part in.
    pub train_loss: f64,
    /// Accuracy on the test part after it, as a fraction.
    pub test_accuracy: f64,
    /// See [`AreaUse::entropy`].
    pub occupancy_entropy: f64,
    /// See [`AreaUse::empty_areas`].
    pub empty_areas: usize,
    /// Training samples per second, evaluation not counted.
    pub samples_per_second: f64,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Each epoch; fewer than asked for if the observer ended the run.
    pub epochs: Vec<EpochReport>,
    /// Accuracy on the test part at the end, as a fraction.
    pub test_accuracy: f64,
    /// Wall time of training and evaluation.
    pub seconds: f64,
    /// Training samples per second over all epochs, evaluation not counted.
    pub samples_per_second: f64,
    /// See [`Network::weights_hash`].
    pub weights_hash: u64,
}

/// Someone who watches a run; every method may be left out.
pub trait Observer {
    /// `done` of `total` samples of epoch `epoch` (from 1) are trained.
    fn batch(&mut self, epoch: usize, done: usize, total: usize) {
        let _ = (epoch, done, total);
    }

    /// An epoch is over; `Break` ends the run with it.
    fn epoch(&mut self, report: &EpochReport) -> ControlFlow<()> {
        let _ = report;
        ControlFlow::Continue(())
    }
}

/// Nobody watches.
impl Observer for () {}

/// Trains `network` on `data` and measures it on `test`, both already scaled.
///
/// The same seeds give the same weights, bit for bit, for any number of threads.
///
/// # Errors
/// If the configuration is out of range, a dataset is empty or does not fit the network, or the loss diverges.
///
/// ```
/// use sal_kernels::{Isa, data, model::Network, train::{Preset, Recipe, train}};
/// let digits = data::digits();
/// let split = data::stratified(digits.labels(), digits.classes(), 0, 0.0, 0.2)?;
/// let (part, rest) = (digits.select(&split.train)?, digits.select(&split.test)?);
/// let mut recipe = Recipe::new(Preset::Tuned, &part, &[32], 4);
/// recipe.train.epochs = 2;
/// let scaler = data::Standardizer::fit(recipe.scaling, &part)?;
/// let mut network = Network::new(Isa::detect()?, &recipe.network)?;
/// let summary = train(&mut network, &scaler.apply(&part)?, &scaler.apply(&rest)?, &recipe.train, &mut ())?;
/// assert!(summary.test_accuracy > 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn train(
    network: &mut Network,
    data: &Dataset,
    test: &Dataset,
    config: &TrainConfig,
    observer: &mut dyn Observer,
) -> Result<Summary, TrainError> {
    config.check()?;
    check_dataset(network, data)?;
    check_dataset(network, test)?;
    let begin = Instant::now();
    let batch = config.batch.min(data.len());
    let steps = config.epochs as u64 * data.len().div_ceil(batch) as u64;
    let mut tape = network.tape()?;
    let mut reports: Vec<EpochReport> = Vec::new();
    let mut training = Duration::ZERO;
    let mut step = 0;
    if config.warm_epochs() > 0 {
        network.start_dense();
    }
    for epoch in 0..config.epochs {
        let start = Instant::now();
        let mut order: Vec<usize> = (0..data.len()).collect();
        Stream::new(config.seed, epoch as u32, 0, "shuffle").shuffle(&mut order);
        let mut inputs = Matrix::zeros(0, data.features())?;
        let mut labels = Vec::with_capacity(batch);
        let (mut loss, mut done, mut areas) = (0.0, 0, AreaUse::default());
        for rows in order.chunks(batch) {
            inputs.set_rows(rows.len())?;
            labels.clear();
            for (i, &row) in rows.iter().enumerate() {
                inputs.row_mut(i).copy_from_slice(data.inputs().row(row));
                labels.push(data.labels()[row]);
            }
            let lr = (f64::from(config.lr) * config.schedule.factor(step, steps)) as f32;
            let mean = network.train_batch(inputs.view(), &labels, lr, &mut tape)?;
            areas.add(&tape);
            loss += mean * rows.len() as f64;
            step += 1;
            done += rows.len();
            observer.batch(epoch + 1, done, data.len());
        }
        // The loss is measured before each step: what the last one did shows in the weights only.
        if !network.is_finite() {
            let loss = loss / data.len() as f64;
            return Err(ModelError::Diverged { step: network.steps(), loss }.into());
        }
        let dense = network.is_dense();
        if dense && epoch + 1 == config.warm_epochs() {
            network.spread()?;
        }
        let time = start.elapsed();
        training += time;
        let report = EpochReport {
            epoch: epoch + 1,
            dense,
            train_loss: loss / data.len() as f64,
            test_accuracy: accuracy(network, test, &mut tape)?,
            occupancy_entropy: areas.entropy(),
            empty_areas: areas.empty_areas(),
            samples_per_second: rate(data.len(), time),
        };
        let flow = observer.epoch(&report);
        reports.push(report);
        if flow.is_break() {
            break;
        }
    }
    Ok(Summary {
        test_accuracy: match reports.last() {
            Some(last) => last.test_accuracy,
            None => accuracy(network, test, &mut tape)?,
        },
        seconds: begin.elapsed().as_secs_f64(),
        samples_per_second: rate(reports.len() * data.len(), training),
        weights_hash: network.weights_hash(),
        epochs: reports,
    })
}

/// Samples per second, finite even for a clock that did not move.
fn rate(samples: usize, time: Duration) -> f64 {
    samples as f64 / time.as_secs_f64().max(1e-9)
}

fn check_dataset(network: &Network, data: &Dataset) -> Result<(), TrainError> {
    let config = network.config();
    let differ = |what, got, want| Err(TrainError::Dataset { what, got, want });
    if data.is_empty() {
        let (what, want) = ("samples", "at least 1");
        return Err(TrainError::Config { what, got: "0".into(), want });
    }
    if data.features() != config.inputs {
        return differ("features", data.features(), config.inputs);
    }
    if data.classes() != config.classes {
        return differ("classes", data.classes(), config.classes);
    }
    Ok(())
}
