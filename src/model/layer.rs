//! The parameters of one layer: K areas of weights and biases, their moments, and the feedback into the layer.

use super::{Feedback, ModelError, NetworkConfig, Router};
use crate::kernels::{Activation, Averaging, Moments, Trainable, UpdateRule, update};
use crate::matrix::{LayoutError, MatrixRef};
use crate::panels::Panels;
use crate::plan::RoutePlan;
use crate::random::Stream;
use crate::simd::Isa;

/// One layer of K areas.
#[derive(Debug, Clone)]
pub struct Layer {
    pub(super) weights: Panels,
    pub(super) bias: Panels,
    pub(super) moments: Moments,
    /// None where there is one area, or the layer is tied to the one below.
    pub(super) router: Option<Router>,
    /// F into this layer; none for the output, which sees the error itself, and for backpropagation.
    pub(super) feedback: Option<Feedback>,
    pub(super) activation: Activation,
}

impl Layer {
    /// Layer `l` of a network, from its named streams.
    pub(super) fn new(isa: Isa, config: &NetworkConfig, l: usize) -> Result<Self, ModelError> {
        let (widths, areas) = (config.widths(), config.areas_of(l));
        let (d_in, d_out) = (widths[l], widths[l + 1]);
        let output = l == config.hidden.len();
        let weights = if output && config.zero_output {
            Panels::zeros(isa, areas, d_in, d_out)?
        } else {
            normal(isa, config.seed, l, "weights", (areas, d_in, d_out), 2.0 / d_in as f64)?
        };
        let bias = Panels::zeros(isa, areas, 1, d_out)?;
        let tied = config.tie && l > 0 && areas == config.areas;
        let router = if areas > 1 && !tied {
            let shape = (d_in, areas, config.classes);
            Some(Router::new(isa, &config.router, shape, (config.seed, l as u32))?)
        } else {
            None
        };
        let feedback = Feedback::new(isa, config, l)?;
        Self::from_parts(config, l, weights, bias, router, feedback)
    }

    /// Layer `l` of a network from given tensors, with zero moments: for tests and for loading.
    #[doc(hidden)]
    pub fn from_parts(
        config: &NetworkConfig,
        l: usize,
        weights: Panels,
        bias: Panels,
        router: Option<Router>,
        feedback: Option<Feedback>,
    ) -> Result<Self, ModelError> {
        let output = l == config.hidden.len();
        Ok(Self {
            moments: Moments::new(config.optimizer, &weights, Some(&bias))?,
            weights,
            bias,
            router,
            feedback,
            activation: if output { Activation::Identity } else { Activation::Relu },
        })
    }

    /// The weights W (K, d_in, d_out).
    pub fn weights(&self) -> &Panels {
        &self.weights
    }

    /// The biases b (K, 1, d_out).
    pub fn bias(&self) -> &Panels {
        &self.bias
    }

    /// The router, where the layer has one of its own.
    pub fn router(&self) -> Option<&Router> {
        self.router.as_ref()
    }

    /// The feedback matrices F into this layer, where it has any.
    pub fn feedback(&self) -> Option<&Feedback> {
        self.feedback.as_ref()
    }

    /// Number of areas.
    pub fn areas(&self) -> usize {
        self.weights.areas()
    }

    /// Updates the areas that the plan uses.
    pub(super) fn update(
        &mut self,
        plan: &RoutePlan,
        inputs: MatrixRef<'_>,
        deltas: MatrixRef<'_>,
        rule: &UpdateRule,
    ) -> Result<(), ModelError> {
        let params = Trainable {
            weights: &mut self.weights,
            bias: Some(&mut self.bias),
            moments: &mut self.moments,
        };
        Ok(update(plan, inputs, deltas, rule, params)?)
    }

    /// Copies weights, bias, moments and feedback of area 0 to every other area.
    pub(super) fn spread(&mut self) -> Result<(), LayoutError> {
        for area in 1..self.areas() {
            self.weights.copy_area(0, area)?;
            self.bias.copy_area(0, area)?;
            self.moments.copy_area(0, area)?;
        }
        self.feedback.as_mut().map_or(Ok(()), Feedback::spread)
    }
}

/// What the averaging means while all samples are in one of the K areas.
pub(super) fn dense_averaging(averaging: Averaging) -> Averaging {
    match averaging {
        Averaging::Load => Averaging::Batch, // K / B for the one area that there is
        other => other,
    }
}

/// Areas of normal draws, each from its own stream.
pub(super) fn normal(
    isa: Isa,
    seed: u64,
    layer: usize,
    role: &str,
    (areas, d_in, d_out): (usize, usize, usize),
    variance: f64,
) -> Result<Panels, LayoutError> {
    let mut panels = Panels::zeros(isa, areas, d_in, d_out)?;
    let mut values = vec![0.0; d_in * d_out];
    for area in 0..areas {
        Stream::new(seed, layer as u32, area as u32, role).fill_normal(variance, &mut values);
        panels.set_area(area, &values)?;
    }
    Ok(panels)
}
