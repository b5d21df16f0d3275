//! The named values of flags: one table for what the parser takes, what the help says and what a run reports.

use crate::bench::Profile;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use sal_kernels::kernels::{Averaging, Optimizer, Verb};
use sal_kernels::model::{FeedbackEntries, FeedbackMode, RouterRule};
use sal_kernels::train::Preset;
use std::mem::discriminant;

/// Name, value, and what the help says.
#[derive(Debug)]
pub(crate) struct Choices<T: 'static>(&'static [(&'static str, T, &'static str)]);

/// How many areas the output layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputAreas {
    One,
    All,
}

pub(crate) static PRESET: Choices<Preset> = Choices(&[
    (
        "tuned",
        Preset::Tuned,
        "chosen on validation parts: AdamW, sharp routers, a dense warm start",
    ),
    ("paper", Preset::Paper, "the SAL paper, as far as it is public: plain SGD, label routers"),
]);

pub(crate) static OUTPUT_AREAS: Choices<OutputAreas> = Choices(&[
    ("one", OutputAreas::One, "an ordinary dense layer"),
    ("all", OutputAreas::All, "routed, with as many areas as the hidden layers"),
]);

pub(crate) static OPTIMIZER: Choices<Optimizer> = Choices(&[
    ("sgd", Optimizer::Sgd, "no state"),
    ("momentum", Optimizer::Momentum { momentum: 0.9 }, "heavy ball, 0.9"),
    ("adamw", Optimizer::ADAMW, "0.9, 0.999, 1e-8; steps are counted for each area"),
]);

pub(crate) static AVERAGING: Choices<Averaging> = Choices(&[
    ("area", Averaging::Area, "1/n, the mean over the area's own n samples"),
    ("batch", Averaging::Batch, "1/B, B samples in the batch"),
    ("load", Averaging::Load, "K/B, K areas"),
    ("sqrt", Averaging::Sqrt, "1/sqrt(n B)"),
    ("sum", Averaging::Sum, "1"),
]);

pub(crate) static ROUTER: Choices<RouterRule> = Choices(&[
    ("fixed", RouterRule::Fixed, "does not learn: a random partition of the inputs"),
    ("sharp", RouterRule::Sharp, "pulls each sample towards the area that won it"),
    ("label", RouterRule::Label, "pulls each sample towards the areas that its class owns"),
]);

pub(crate) static FEEDBACK: Choices<FeedbackMode> = Choices(&[
    ("fa", FeedbackMode::Sequential, "feedback alignment, from layer to layer"),
    ("dfa", FeedbackMode::Direct, "direct: from the output to each layer"),
    ("bp", FeedbackMode::Backprop, "backpropagation, a baseline for comparison"),
]);

pub(crate) static VERB: Choices<Verb> = Choices(&[
    ("route", Verb::Route, "32 directions, plain products: which area each sample uses"),
    ("forward", Verb::Forward, "each sample through its own area, with bias and ReLU"),
    ("feedback", Verb::Feedback, "the error, from outputs to inputs, through one matrix"),
    ("feedback_signs", Verb::FeedbackSigns, "the same through one bit an entry"),
    ("update", Verb::Update, "plain SGD, in place"),
]);

pub(crate) static PROFILE: Choices<Profile> = Choices(&[
    ("balanced", Profile::Balanced, "all areas alike"),
    ("hot50", Profile::Hot50, "half of the samples in one area, the others alike"),
    ("hot80", Profile::Hot80, "four fifths of the samples in one area, the others alike"),
    ("zipf", Profile::Zipf, "area k has a share of 1/k"),
]);

pub(crate) static FEEDBACK_ENTRIES: Choices<FeedbackEntries> = Choices(&[
    ("gaussian", FeedbackEntries::Gaussian, "normal draws, 32 bits each"),
    ("sign", FeedbackEntries::Sign, "plus or minus one scale, 1 bit each; not with bp"),
]);

impl<T: Copy + Send + Sync> Choices<T> {
    /// Takes the names of the table.
    pub(crate) fn parser(&'static self) -> impl TypedValueParser<Value = T> {
        let values = self.0.iter().map(|(name, _, help)| PossibleValue::new(*name).help(*help));
        PossibleValuesParser::new(values).try_map(|given| {
            let found = self.0.iter().find(|(name, ..)| *name == given);
            found.map(|&(_, value, _)| value).ok_or("not a name of the table")
        })
    }

    /// The name of a value, whatever constants it carries.
    pub(crate) fn name(&self, value: T) -> &'static str {
        let mut rows = self.0.iter();
        let found = rows.find(|(_, other, _)| discriminant(other) == discriminant(&value));
        found.map_or("other", |(name, ..)| name)
    }
}
