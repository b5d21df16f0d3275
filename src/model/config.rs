//! What a network is: its shape, its routers, its feedback and its optimiser.

use super::ModelError;
use crate::kernels::{Averaging, Optimizer, Similarity};

/// How the error reaches a hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedbackMode {
    /// Sequential feedback alignment (FA): `delta_l = (delta_{l+1} F_l[z_{l+1}]) f'`.
    Sequential,
    /// Direct feedback alignment (DFA): `delta_l = (e F_l[z_l]) f'`; layers do not wait for each other.
    Direct,
    /// Backpropagation through transposed weights: a baseline for comparison, never SAL.
    Backprop,
}

/// What the fixed feedback matrices hold; both have the same standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedbackEntries {
    /// Normal draws in f32.
    Gaussian,
    /// Plus or minus one scale: one bit an entry, a 32nd of the memory.
    Sign,
}

/// How a router's projection learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterRule {
    /// Not at all: a random partition of the input space, free of cost.
    Fixed,
    /// Unsupervised: each sample is pulled towards the prototype that won it.
    Sharp,
    /// Supervised and local: each sample is pulled towards the areas that its class owns.
    Label,
}

/// The router of each routed layer (SAL sections 3 and 7).
#[derive(Debug, Clone, PartialEq)]
pub struct RouterConfig {
    /// How the projection learns.
    pub rule: RouterRule,
    /// How it is compared with the prototypes.
    pub similarity: Similarity,
    /// Directions R; `None` takes as many as there are areas.
    pub width: Option<usize>,
    /// Temperature of the softmax over the similarities.
    pub tau: f32,
    /// Weight of the load-balancing term; 0 switches it off.
    pub alpha: f32,
    /// Step of the selection bias towards balance; 0 switches it off.
    pub gamma: f32,
    /// Learning rate of the projection.
    pub lr: f32,
    /// Whether the running mean of the input is subtracted.
    pub centred: bool,
}

/// A SAL network: `inputs` -> hidden layers with ReLU -> `classes` logits.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    /// Features of a sample.
    pub inputs: usize,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Classes, which is the width of the output.
    pub classes: usize,
    /// Areas K of each hidden layer.
    pub areas: usize,
    /// Areas of the output layer: 1 (an ordinary dense layer) or K.
    pub output_areas: usize,
    /// Whether layers above the first reuse the areas chosen by the layer below.
    pub tie: bool,
    /// The routers.
    pub router: RouterConfig,
    /// The way the error comes back.
    pub feedback: FeedbackMode,
    /// What its matrices hold; backpropagation has none of its own and takes `Gaussian` only.
    pub feedback_entries: FeedbackEntries,
    /// One feedback matrix a layer, shared by all areas, instead of one for each area.
    pub shared_feedback: bool,
    /// The optimiser of weights and biases.
    pub optimizer: Optimizer,
    /// Weight decay of the optimiser.
    pub weight_decay: f32,
    /// Scale of an area's gradient.
    pub averaging: Averaging,
    /// Whether the output layer starts at zero.
    pub zero_output: bool,
    /// Seed of every random tensor.
    pub seed: u64,
}

impl NetworkConfig {
    /// The tuned default of a shallow network (SAL section 9): AdamW, sharp cosine routers, one dense output layer
    /// that starts at zero, sequential feedback.
    pub fn tuned(inputs: usize, hidden: &[usize], classes: usize, areas: usize) -> Self {
        Self {
            inputs,
            hidden: hidden.to_vec(),
            classes,
            areas,
            output_areas: 1,
            tie: false,
            router: RouterConfig {
                rule: RouterRule::Sharp,
                similarity: Similarity::Cosine,
                width: None,
                tau: 0.1,
                alpha: 1.0,
                gamma: 0.0,
                lr: 0.05,
                centred: true,
            },
            feedback: FeedbackMode::Sequential,
            feedback_entries: FeedbackEntries::Gaussian,
            shared_feedback: false,
            optimizer: Optimizer::ADAMW,
            weight_decay: 0.0,
            averaging: Averaging::Area,
            zero_output: true,
            seed: 0,
        }
    }

    /// The recipe of the SAL paper as far as it is public (SAL section 9): plain SGD, label routers on dot products,
    /// a routed output layer.
    pub fn paper(inputs: usize, hidden: &[usize], classes: usize, areas: usize) -> Self {
        Self {
            output_areas: areas,
            router: RouterConfig {
                rule: RouterRule::Label,
                similarity: Similarity::Dot,
                width: None,
                tau: 1.0,
                alpha: 0.0,
                gamma: 0.0,
                lr: 1e-3,
                centred: false,
            },
            optimizer: Optimizer::Sgd,
            zero_output: false,
            ..Self::tuned(inputs, hidden, classes, areas)
        }
    }

    /// Widths from the input to the output.
    pub fn widths(&self) -> Vec<usize> {
        [&[self.inputs], &self.hidden[..], &[self.classes]].concat()
    }

    /// Areas of layer `l`, of which the last one is the output.
    pub fn areas_of(&self, layer: usize) -> usize {
        if layer < self.hidden.len() { self.areas } else { self.output_areas }
    }

    pub(super) fn check(&self) -> Result<(), ModelError> {
        let wrong = |what, got: String, want| Err(ModelError::Config { what, got, want });
        let positive = "a positive number";
        if self.inputs == 0 {
            return wrong("inputs", self.inputs.to_string(), positive);
        }
        if self.hidden.contains(&0) {
            return wrong("hidden widths", format!("{:?}", self.hidden), "positive numbers");
        }
        if self.classes < 2 {
            return wrong("classes", self.classes.to_string(), "at least 2");
        }
        if self.areas == 0 {
            return wrong("areas", self.areas.to_string(), positive);
        }
        if self.output_areas != 1 && self.output_areas != self.areas {
            return wrong("output areas", self.output_areas.to_string(), "1 or as many as areas");
        }
        let signs = self.feedback_entries == FeedbackEntries::Sign;
        if signs && self.feedback == FeedbackMode::Backprop {
            let want = "gaussian: backpropagation has no matrices of its own";
            return wrong("feedback entries", "sign".into(), want);
        }
        let router = &self.router;
        if router.width == Some(0) {
            return wrong("router width", "0".into(), positive);
        }
        if !(router.tau > 0.0 && router.tau.is_finite()) {
            return wrong("router tau", router.tau.to_string(), "a positive finite number");
        }
        let finite = [
            ("router alpha", router.alpha),
            ("router gamma", router.gamma),
            ("router learning rate", router.lr),
        ];
        if let Some((what, got)) = finite.into_iter().find(|(_, x)| !x.is_finite()) {
            return wrong(what, got.to_string(), "a finite number");
        }
        Ok(())
    }
}
