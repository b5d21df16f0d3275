//! The flags of `sal train`, and the recipe that they make of a preset.

use crate::choices::{self, OutputAreas};
use crate::presets;
use sal_kernels::data::Dataset;
use sal_kernels::kernels::{Averaging, Optimizer};
use sal_kernels::model::{FeedbackEntries, FeedbackMode, RouterRule};
use sal_kernels::train::{Preset, Recipe};
use std::path::PathBuf;

const NETWORK: &str = "Network";
const TRAINING: &str = "Training";
const ROUTER: &str = "Router";
pub(crate) const RUN: &str = "Run";

const EXAMPLES: &str = "
Examples:
  sal train digits
  sal train digits --areas 16 --lr 0.001 --validate
  sal train path/to/mnist --areas 16 --epochs 10 --json run.json";

/// What a command computes with.
#[derive(Debug, clap::Args)]
pub(crate) struct Machine {
    /// Threads [default: one for each CPU, or RAYON_NUM_THREADS]
    #[arg(long, value_name = "N", value_parser = whole::<4096>)]
    #[arg(allow_negative_numbers = true, help_heading = RUN)]
    pub(crate) threads: Option<usize>,

    /// Instruction set [default: the best one, or SAL_ISA]; `sal info` lists them
    #[arg(long, value_name = "NAME", help_heading = RUN)]
    pub(crate) isa: Option<String>,
}

/// Train a network and measure it after every epoch
///
/// Each hidden layer holds K areas, which are weight matrices of their own; a router sends each sample through one of
/// them. Errors reach the hidden layers through fixed random matrices (feedback alignment), never through transposed
/// weights.
///
/// The same flags and the same instruction set give the same weights, bit for bit, on any number of threads.
#[derive(Debug, clap::Args)]
#[command(after_help = presets::table() + EXAMPLES)]
pub(crate) struct Flags {
    /// `digits` (1797 images of 8x8, built in), or a directory of IDX files named as those of MNIST are
    ///
    /// The files may be compressed with gzip. Where there is no test part, a fifth of the samples is held out,
    /// class by class. Write ./digits for a directory of that name.
    pub(crate) data: PathBuf,

    /// Areas K of each hidden layer; 1 is an ordinary network
    #[arg(long, value_name = "K", default_value = "4", value_parser = whole::<4096>)]
    #[arg(allow_negative_numbers = true, help_heading = NETWORK)]
    pub(crate) areas: usize,

    /// Widths of the hidden layers, separated by commas
    #[arg(long, value_name = "WIDTHS", default_value = "256", value_parser = Widths::parse)]
    #[arg(allow_negative_numbers = true, help_heading = NETWORK)]
    pub(crate) hidden: Widths,

    /// Areas of the output layer [default: by preset]
    #[arg(long, value_name = "WHICH", value_parser = choices::OUTPUT_AREAS.parser())]
    #[arg(help_heading = NETWORK)]
    pub(crate) output_areas: Option<OutputAreas>,

    /// Route once: layers above the first reuse the areas chosen there
    #[arg(long, help_heading = NETWORK)]
    pub(crate) tie: bool,

    /// How the error reaches the hidden layers [default: by preset]
    #[arg(long, value_name = "MODE", value_parser = choices::FEEDBACK.parser())]
    #[arg(help_heading = NETWORK)]
    pub(crate) feedback: Option<FeedbackMode>,

    /// What the fixed feedback matrices hold
    #[arg(long, value_name = "KIND", default_value = "gaussian")]
    #[arg(value_parser = choices::FEEDBACK_ENTRIES.parser(), help_heading = NETWORK)]
    pub(crate) feedback_entries: FeedbackEntries,

    /// One feedback matrix a layer, shared by its areas, instead of one for each
    #[arg(long, help_heading = NETWORK)]
    pub(crate) shared_feedback: bool,

    /// What the flags that are left out are set to; the table below tells
    #[arg(long, value_name = "NAME", default_value = "tuned", value_parser = choices::PRESET.parser())]
    #[arg(help_heading = TRAINING)]
    pub(crate) preset: Preset,

    /// Passes over the training part [default: by preset]
    #[arg(long, value_name = "N", value_parser = whole::<1_000_000>)]
    #[arg(allow_negative_numbers = true, help_heading = TRAINING)]
    pub(crate) epochs: Option<usize>,

    /// Samples of one step, at most all of them [default: by preset]
    #[arg(long, value_name = "N", value_parser = whole::<1_000_000>)]
    #[arg(allow_negative_numbers = true, help_heading = TRAINING)]
    pub(crate) batch: Option<usize>,

    /// Learning rate at the start [default: by preset]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    #[arg(allow_negative_numbers = true, help_heading = TRAINING)]
    pub(crate) lr: Option<f32>,

    /// Weights shrink by RATE times the learning rate at each step [default: by preset]
    #[arg(long, value_name = "RATE", value_parser = not_negative)]
    #[arg(allow_negative_numbers = true, help_heading = TRAINING)]
    pub(crate) weight_decay: Option<f32>,

    /// How a gradient changes the weights [default: by preset]
    #[arg(long, value_name = "NAME", value_parser = choices::OPTIMIZER.parser())]
    #[arg(help_heading = TRAINING)]
    pub(crate) optimizer: Option<Optimizer>,

    /// Scale of an area's gradient, a sum over its samples [default: by preset]
    #[arg(long, value_name = "RULE", value_parser = choices::AVERAGING.parser())]
    #[arg(help_heading = TRAINING)]
    pub(crate) averaging: Option<Averaging>,

    /// Share of the epochs that begin dense: one area for all samples [default: by preset]
    ///
    /// The weights of that area are then copied to all others, and routing begins. The routers learn from the first
    /// epoch on.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    #[arg(allow_negative_numbers = true, help_heading = TRAINING)]
    pub(crate) warm_start: Option<f64>,

    /// How a router learns which samples belong together [default: by preset]
    #[arg(long, value_name = "RULE", value_parser = choices::ROUTER.parser())]
    #[arg(help_heading = ROUTER)]
    pub(crate) router: Option<RouterRule>,

    /// Seed of the weights, the split and the order of the samples
    #[arg(long, value_name = "N", default_value = "0", value_parser = seed)]
    #[arg(allow_negative_numbers = true, help_heading = RUN)]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) machine: Machine,

    /// Measure on a fifth of the training part, held out; the test part is not touched
    ///
    /// For choosing settings: whoever chooses by the test part has no test any more.
    #[arg(long, help_heading = RUN)]
    pub(crate) validate: bool,

    /// Also write settings, epochs and results as JSON
    ///
    /// The file appears as a whole after the last epoch, or not at all.
    #[arg(long, value_name = "FILE", help_heading = RUN)]
    pub(crate) json: Option<PathBuf>,
}

impl Flags {
    /// The preset's recipe for this training part, with the flags that were given put in.
    pub(crate) fn recipe(&self, train: &Dataset) -> Recipe {
        let hidden = &self.hidden.0;
        let mut recipe = Recipe::new(self.preset, train, hidden, self.areas).with_seed(self.seed);
        let Recipe { network, train: run, .. } = &mut recipe;
        if let Some(which) = self.output_areas {
            network.output_areas = match which {
                OutputAreas::One => 1,
                OutputAreas::All => self.areas,
            };
        }
        network.tie = self.tie;
        network.feedback_entries = self.feedback_entries;
        network.shared_feedback = self.shared_feedback;
        set(&mut network.feedback, self.feedback);
        set(&mut network.optimizer, self.optimizer);
        set(&mut network.weight_decay, self.weight_decay);
        set(&mut network.averaging, self.averaging);
        set(&mut network.router.rule, self.router);
        set(&mut run.epochs, self.epochs);
        set(&mut run.batch, self.batch);
        set(&mut run.lr, self.lr);
        set(&mut run.warm_start, self.warm_start);
        run.batch = run.batch.min(train.len());
        recipe
    }
}

fn set<T>(value: &mut T, flag: Option<T>) {
    if let Some(given) = flag {
        *value = given;
    }
}

/// Widths of hidden layers: at least one, each at least 1.
#[derive(Debug, Clone)]
pub(crate) struct Widths(Vec<usize>);

impl Widths {
    fn parse(text: &str) -> Result<Self, String> {
        let widths: Result<Vec<_>, _> = text.split(',').map(whole::<1_000_000>).collect();
        widths.map(Self).map_err(|want| format!("{want}, or several separated by commas"))
    }
}

pub(crate) fn whole<const MAX: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=MAX).contains(n));
    number.ok_or_else(|| format!("want a whole number from 1 to {MAX}"))
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("want a whole number from 0 to {}", u64::MAX))
}

pub(crate) fn positive(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|x: &f32| x.is_finite() && *x > 0.0);
    number.ok_or("want a finite number above 0")
}

fn not_negative(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|x: &f32| x.is_finite() && *x >= 0.0);
    number.ok_or("want a finite number, 0 or more")
}

fn share(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|x| (0.0..=1.0).contains(x));
    number.ok_or("want a number from 0 to 1")
}
