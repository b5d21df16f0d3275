//! One step of a SAL network (SAL section 8), and inference.
//!
//! ```text
//! route and forward through all layers   keeps the routes and the outputs of each layer: the tape
//! e      = softmax(logits) - onehot(y)
//! delta  of each hidden layer            through F of the layer above (FA), from e directly (DFA), or W^T (BP)
//! router updates, then area updates      each layer on its own
//! ```

use super::backprop::Transposed;
use super::layer::dense_averaging;
use super::{FeedbackMode, Layer, ModelError, NetworkConfig, check};
use crate::kernels::{KernelError, Routes, UpdateRule, feedback, forward, softmax_cross_entropy};
use crate::matrix::{Matrix, MatrixRef};
use crate::panels::Panels;
use crate::plan::RoutePlan;
use crate::simd::Isa;
use xxhash_rust::xxh3::Xxh3Default;

/// What one layer did with a batch.
#[derive(Debug, Clone)]
pub struct LayerTape {
    routes: Option<Routes>,
    plan: RoutePlan,
    output: Matrix,
    delta: Matrix,
    /// Where backpropagation transposes the weights of the layer above.
    transposed: Option<Transposed>,
}

impl LayerTape {
    /// What the layer's router found out, where it has one.
    pub fn routes(&self) -> Option<&Routes> {
        self.routes.as_ref()
    }

    /// The areas that the samples really used.
    pub fn plan(&self) -> &RoutePlan {
        &self.plan
    }

    /// The layer's output f(a), (batch, d_out); logits for the last layer.
    pub fn output(&self) -> &Matrix {
        &self.output
    }

    /// The error at the pre-activations, (batch, d_out), after a training step.
    pub fn delta(&self) -> &Matrix {
        &self.delta
    }
}

/// What each layer did with a batch, from the first to the output; its memory serves the next batch.
#[derive(Debug, Clone)]
pub struct Tape(Vec<LayerTape>);

impl Tape {
    /// The layers, from the first to the output.
    pub fn layers(&self) -> &[LayerTape] {
        &self.0
    }

    /// The logits (batch, classes).
    pub fn logits(&self) -> &Matrix {
        &self.0.last().expect("a network has an output layer").output
    }
}

/// A SAL network.
///
/// ```
/// use sal_kernels::{Isa, Matrix, model::{Network, NetworkConfig}};
/// let mut network = Network::new(Isa::detect()?, &NetworkConfig::tuned(2, &[8], 2, 4))?;
/// let mut tape = network.tape()?;
/// let x = Matrix::from_slice(2, 2, &[1.0, 0.0, 0.0, 1.0])?;
/// let first = network.train_batch(x.view(), &[0, 1], 0.01, &mut tape)?;
/// let second = network.train_batch(x.view(), &[0, 1], 0.01, &mut tape)?;
/// assert!(second < first);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Network {
    config: NetworkConfig,
    layers: Vec<Layer>,
    /// Dense warm start: every sample uses area 0, while the routers learn.
    dense: bool,
    steps: u64,
}

impl Network {
    /// A network from the named streams of its seed.
    ///
    /// # Errors
    /// If the configuration makes no network, or there is no memory for it.
    pub fn new(isa: Isa, config: &NetworkConfig) -> Result<Self, ModelError> {
        config.check()?; // before layers are made of it
        let layers = (0..=config.hidden.len()).map(|l| Layer::new(isa, config, l));
        Self::from_layers(config, layers.collect::<Result<_, _>>()?)
    }

    /// A network from given layers, for tests and for loading.
    #[doc(hidden)]
    pub fn from_layers(config: &NetworkConfig, layers: Vec<Layer>) -> Result<Self, ModelError> {
        config.check()?;
        Ok(Self { config: config.clone(), layers, dense: false, steps: 0 })
    }

    /// What the network is.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The layers, from the first to the output.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Learned weights and biases of all areas.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|l| l.weights.len() + l.bias.len()).sum()
    }

    /// Weights and biases that one sample uses: one area of each layer.
    pub fn active_parameters(&self) -> usize {
        self.layers.iter().map(|l| (l.weights.d_in() + 1) * l.weights.d_out()).sum()
    }

    /// Training steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether every weight and bias is a finite number.
    pub fn is_finite(&self) -> bool {
        let finite = |p: &Panels| {
            let mut all = true;
            (0..p.areas())
                .for_each(|k| p.for_each_row(k, |r| all &= r.iter().all(|x| x.is_finite())));
            all
        };
        self.layers.iter().all(|l| finite(&l.weights) && finite(&l.bias))
    }

    /// Whether the network is in its dense warm start.
    pub fn is_dense(&self) -> bool {
        self.dense
    }

    /// Begins a dense warm start: every sample uses area 0 of each layer, while the routers learn alongside.
    pub fn start_dense(&mut self) {
        self.dense = true;
    }

    /// Ends the warm start: weights, moments and feedback of area 0 are copied to every area, and routing begins.
    ///
    /// # Errors
    /// Never after [`Network::new`]; the copies are checked all the same.
    pub fn spread(&mut self) -> Result<(), ModelError> {
        self.dense = false;
        Ok(self.layers.iter_mut().try_for_each(Layer::spread)?)
    }

    /// Memory for the tape of a batch, of any size.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn tape(&self) -> Result<Tape, ModelError> {
        let of = |layer: &Layer| {
            Ok(LayerTape {
                routes: layer.router.as_ref().map(|r| r.routes()).transpose()?,
                plan: RoutePlan::single(0)?,
                output: Matrix::zeros(0, layer.weights.d_out())?,
                delta: Matrix::zeros(0, layer.weights.d_out())?,
                transposed: None,
            })
        };
        Ok(Tape(self.layers.iter().map(of).collect::<Result<_, ModelError>>()?))
    }

    /// Routes and runs a batch (batch, inputs) through all layers; the logits are in the tape.
    ///
    /// A sample's logits depend on that sample alone.
    ///
    /// # Errors
    /// If a shape does not fit or memory runs out.
    pub fn forward(&self, inputs: MatrixRef<'_>, tape: &mut Tape) -> Result<(), ModelError> {
        self.forward_with(inputs, None, tape)
    }

    /// As [`Network::forward`]; `given` replaces the routers' choice: areas for each layer and sample.
    fn forward_with(
        &self,
        inputs: MatrixRef<'_>,
        given: Option<&[Vec<u32>]>,
        tape: &mut Tape,
    ) -> Result<(), ModelError> {
        self.check_tape(tape)?;
        let batch = inputs.rows();
        for (l, layer) in self.layers.iter().enumerate() {
            let (below, here) = tape.0.split_at_mut(l);
            let here = &mut here[0];
            let h = below.last().map_or(inputs, |t| t.output.view());
            if let (Some(router), Some(routes)) = (&layer.router, &mut here.routes) {
                router.route(h, routes)?;
            }
            match (given, &here.routes, below.last()) {
                (Some(given), ..) => here.plan.rebuild(&given[l], layer.areas())?,
                _ if self.dense || layer.areas() == 1 => {
                    here.plan.rebuild_single(batch, layer.areas())?;
                }
                (None, Some(routes), _) => here.plan.clone_from(routes.plan()),
                (None, None, Some(below)) => here.plan.clone_from(&below.plan),
                (None, None, None) => unreachable!("the first layer is routed or has one area"),
            }
            here.output.set_rows(batch)?;
            let (bias, out) = (Some(&layer.bias), here.output.view_mut());
            forward(&here.plan, h, &layer.weights, bias, layer.activation, out)?;
        }
        Ok(())
    }

    /// A tape of another network has other layers or routers.
    fn check_tape(&self, tape: &Tape) -> Result<(), KernelError> {
        check("tape: layers", tape.0.len(), self.layers.len())?;
        self.layers.iter().zip(&tape.0).try_for_each(|(layer, tape)| {
            let (got, want) = (tape.routes.iter().count(), layer.router.iter().count());
            check("tape: routers of a layer", got, want)
        })
    }

    /// The class of each sample: the largest logit, the lowest class on ties.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn predict(&self, inputs: MatrixRef<'_>, tape: &mut Tape) -> Result<Vec<u32>, ModelError> {
        self.forward(inputs, tape)?;
        let logits = tape.logits();
        let argmax = |row: &[f32]| {
            let best = (0..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best });
            best as u32
        };
        Ok((0..logits.rows()).map(|r| argmax(logits.row(r))).collect())
    }

    /// One training step on a batch of finite inputs (batch, inputs) with its labels; returns the mean loss before it.
    ///
    /// # Errors
    /// If a shape does not fit, a label is not a class, an input is not finite (nothing is then changed), or the
    /// loss is not finite any more.
    pub fn train_batch(
        &mut self,
        inputs: MatrixRef<'_>,
        labels: &[u32],
        lr: f32,
        tape: &mut Tape,
    ) -> Result<f64, ModelError> {
        self.step(inputs, labels, lr, None, tape)
    }

    /// [`Network::train_batch`] with a batch of one: one finite `input` (inputs) and its label; returns its loss before
    /// the step. Once its tape is warm, a step on one thread takes no memory.
    ///
    /// # Errors
    /// As [`Network::train_batch`].
    ///
    /// ```
    /// use sal_kernels::{Isa, model::{Network, NetworkConfig}};
    /// let mut network = Network::new(Isa::detect()?, &NetworkConfig::tuned(2, &[8], 2, 4))?;
    /// let mut tape = network.tape()?;
    /// let first = network.learn_one(&[1.0, 0.0], 1, 0.01, &mut tape)?;
    /// assert!(network.learn_one(&[1.0, 0.0], 1, 0.01, &mut tape)? < first);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn learn_one(
        &mut self,
        input: &[f32],
        label: u32,
        lr: f32,
        tape: &mut Tape,
    ) -> Result<f64, ModelError> {
        self.train_batch(MatrixRef::new(input, 1, input.len())?, &[label], lr, tape)
    }

    /// As [`Network::train_batch`] with the areas of each layer and sample given, for tests against an oracle
    /// where a near-tie could flip between precisions.
    #[doc(hidden)]
    pub fn train_batch_routed(
        &mut self,
        inputs: MatrixRef<'_>,
        labels: &[u32],
        lr: f32,
        areas: &[Vec<u32>],
        tape: &mut Tape,
    ) -> Result<f64, ModelError> {
        self.step(inputs, labels, lr, Some(areas), tape)
    }

    fn step(
        &mut self,
        inputs: MatrixRef<'_>,
        labels: &[u32],
        lr: f32,
        areas: Option<&[Vec<u32>]>,
        tape: &mut Tape,
    ) -> Result<f64, ModelError> {
        check_finite(inputs)?;
        self.forward_with(inputs, areas, tape)?;
        let loss = self.deltas(labels, tape)?;
        let mean = loss / inputs.rows().max(1) as f64;
        if !mean.is_finite() {
            return Err(ModelError::Diverged { step: self.steps, loss: mean });
        }
        let averaging = self.config.averaging;
        let rule = UpdateRule {
            optimizer: self.config.optimizer,
            lr,
            weight_decay: self.config.weight_decay,
            averaging: if self.dense { dense_averaging(averaging) } else { averaging },
        };
        for (l, layer) in self.layers.iter_mut().enumerate() {
            let (below, here) = tape.0.split_at(l);
            let h = below.last().map_or(inputs, |t| t.output.view());
            if let (Some(router), Some(routes)) = (&mut layer.router, &here[0].routes) {
                router.learn(h, routes, labels)?;
            }
            layer.update(&here[0].plan, h, here[0].delta.view(), &rule)?;
        }
        self.steps += 1;
        Ok(mean)
    }

    /// Fills the tape's deltas from the output down; returns the sum of the losses.
    fn deltas(&self, labels: &[u32], tape: &mut Tape) -> Result<f64, ModelError> {
        let last = self.layers.len() - 1;
        let top = &mut tape.0[last];
        top.delta.set_rows(top.output.rows())?;
        let loss = softmax_cross_entropy(top.output.view(), labels, top.delta.view_mut())?;
        for l in (0..last).rev() {
            let (below, above) = tape.0.split_at_mut(l + 1);
            let LayerTape { plan, output, delta, transposed, .. } = &mut below[l];
            delta.set_rows(output.rows())?;
            let (outputs, out) = (output.view(), delta.view_mut());
            let (plan, errors) = match self.config.feedback {
                FeedbackMode::Direct => {
                    (&*plan, above.last().expect("the output layer").delta.view())
                }
                _ => (&above[0].plan, above[0].delta.view()),
            };
            if self.config.feedback == FeedbackMode::Backprop {
                let weights = &self.layers[l + 1].weights;
                let turned = match transposed {
                    Some(turned) => turned,
                    none => none.insert(Transposed::new(weights)?),
                };
                feedback(plan, errors, turned.renew(weights)?, Some(outputs), out)?;
            } else {
                let fixed = self.layers[l].feedback.as_ref();
                let fixed = fixed.expect("hidden layers have feedback unless they backpropagate");
                fixed.apply(plan, errors, outputs, out)?;
            }
        }
        Ok(loss)
    }

    /// A hash (XXH3) of the bits of all weights and biases in row-major order, layer by layer: two networks with the
    /// same hash are, for all practical purposes, the same.
    pub fn weights_hash(&self) -> u64 {
        let mut hash = Xxh3Default::new();
        for layer in &self.layers {
            for panels in [&layer.weights, &layer.bias] {
                for area in 0..panels.areas() {
                    panels.for_each_row(area, |row| {
                        row.iter().for_each(|x| hash.update(&x.to_bits().to_le_bytes()));
                    });
                }
            }
        }
        hash.digest()
    }
}

fn check_finite(inputs: MatrixRef<'_>) -> Result<(), ModelError> {
    for sample in 0..inputs.rows() {
        let row = inputs.row(sample);
        if let Some(feature) = row.iter().position(|x| !x.is_finite()) {
            return Err(ModelError::NonFinite { sample, feature, got: row[feature] });
        }
    }
    Ok(())
}
