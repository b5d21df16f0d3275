//! Each verb on plain row-major slices: they are packed and put into strided parents here, outputs are filled
//! with `fill` before, and what surrounds them is checked after.

use super::{Pad, Strided};
use sal_kernels::kernels::{
    self, Activation, Averaging, Moments, Optimizer, RouteParams, Routes, Similarity, Trainable,
    UpdateRule,
};
use sal_kernels::reference::{self, Shape};
use sal_kernels::{Isa, Panels, RoutePlan, Signs};

/// Where and on which batch a verb runs.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) isa: Isa,
    /// The area of each sample.
    pub(crate) z: &'a [u32],
    /// Areas of the plan.
    pub(crate) areas: usize,
    pub(crate) pads: [Pad; 4],
    /// What outputs hold before the call.
    pub(crate) fill: f32,
}

/// A router in f32: P (R, d_in), C (K, R), as in the oracle.
pub(crate) struct Router {
    pub(crate) d_in: usize,
    pub(crate) width: usize,
    pub(crate) areas: usize,
    pub(crate) projection: Vec<f32>,
    pub(crate) prototypes: Vec<f32>,
    pub(crate) mean: Option<Vec<f32>>,
    pub(crate) bias: Vec<f32>,
    pub(crate) similarity: Similarity,
}

impl Call<'_> {
    pub(crate) fn plan(&self) -> RoutePlan {
        RoutePlan::new(self.z, self.areas).unwrap()
    }

    fn pack(&self, shape: Shape, values: &[f32]) -> Panels {
        Panels::from_row_major(self.isa, shape.areas, shape.d_in, shape.d_out, values).unwrap()
    }

    fn input(&self, which: usize, cols: usize, values: &[f32]) -> Strided {
        Strided::new(self.z.len(), cols, self.pads[which], values)
    }

    fn output(&self, cols: usize) -> Strided {
        self.input(3, cols, &vec![self.fill; self.z.len() * cols])
    }

    pub(crate) fn forward(
        &self,
        shape: Shape,
        inputs: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
    ) -> Vec<f32> {
        let inputs = self.input(0, shape.d_in, inputs);
        let weights = self.pack(shape, weights);
        let bias = bias.map(|b| self.pack(Shape { d_in: 1, ..shape }, b));
        let mut out = self.output(shape.d_out);
        let (plan, bias) = (self.plan(), bias.as_ref());
        kernels::forward(&plan, inputs.view(), &weights, bias, activation, out.view_mut()).unwrap();
        out.into_values()
    }

    pub(crate) fn feedback(
        &self,
        shape: Shape,
        errors: &[f32],
        feedback: &[f32],
        outputs: Option<&[f32]>,
    ) -> Vec<f32> {
        let errors = self.input(0, shape.d_in, errors);
        let feedback = self.pack(shape, feedback);
        let outputs = outputs.map(|y| self.input(1, shape.d_out, y));
        let mut out = self.output(shape.d_out);
        let outputs = outputs.as_ref().map(Strided::view);
        kernels::feedback(&self.plan(), errors.view(), &feedback, outputs, out.view_mut()).unwrap();
        out.into_values()
    }

    /// As `feedback`, through the signs of `feedback` times `scale`.
    pub(crate) fn feedback_signs(
        &self,
        shape: Shape,
        errors: &[f32],
        (scale, feedback): (f32, &[f32]),
        outputs: Option<&[f32]>,
    ) -> Vec<f32> {
        let errors = self.input(0, shape.d_in, errors);
        let Shape { areas, d_in, d_out } = shape;
        let signs = Signs::from_row_major(self.isa, areas, d_in, d_out, scale, feedback).unwrap();
        let outputs = outputs.map(|y| self.input(1, shape.d_out, y));
        let mut out = self.output(shape.d_out);
        let (plan, outputs) = (self.plan(), outputs.as_ref().map(Strided::view));
        kernels::feedback_signs(&plan, errors.view(), &signs, outputs, out.view_mut()).unwrap();
        out.into_values()
    }

    /// The areas of the call do not matter here: this is where they come from.
    pub(crate) fn route(&self, router: &Router, inputs: &[f32]) -> Routes {
        let &Router { d_in, width, areas, .. } = router;
        let inputs = self.input(0, d_in, inputs);
        let (p, c) = (&router.projection, &router.prototypes);
        let shape = Shape { areas: 1, d_in, d_out: width };
        let projection = self.pack(shape, &transpose(p, width, d_in));
        let shape = Shape { areas: 1, d_in: width, d_out: areas };
        let prototypes = self.pack(shape, &transpose(c, areas, width));
        let params = RouteParams {
            projection: &projection,
            prototypes: &prototypes,
            mean: router.mean.as_deref(),
            bias: &router.bias,
            similarity: router.similarity,
        };
        let mut routes = Routes::new(width, areas).unwrap();
        kernels::route(inputs.view(), &params, &mut routes).unwrap();
        routes
    }

    /// (error, total loss)
    pub(crate) fn softmax_cross_entropy(
        &self,
        classes: usize,
        logits: &[f32],
        labels: &[u32],
    ) -> (Vec<f32>, f64) {
        let logits = self.input(0, classes, logits);
        let mut out = self.output(classes);
        let total = kernels::softmax_cross_entropy(logits.view(), labels, out.view_mut()).unwrap();
        (out.into_values(), total)
    }

    /// (error, total loss)
    pub(crate) fn squared_error(
        &self,
        width: usize,
        outputs: &[f32],
        targets: &[f32],
    ) -> (Vec<f32>, f64) {
        let (outputs, targets) = (self.input(0, width, outputs), self.input(1, width, targets));
        let mut out = self.output(width);
        let total = kernels::squared_error(outputs.view(), targets.view(), out.view_mut()).unwrap();
        (out.into_values(), total)
    }

    pub(crate) fn update(
        &self,
        layer: &mut Layer,
        inputs: &[f32],
        deltas: &[f32],
        rule: &UpdateRule,
    ) {
        let inputs = self.input(0, layer.weights.d_in(), inputs);
        let deltas = self.input(1, layer.weights.d_out(), deltas);
        let params = Trainable {
            weights: &mut layer.weights,
            bias: layer.bias.as_mut(),
            moments: &mut layer.moments,
        };
        kernels::update(&self.plan(), inputs.view(), deltas.view(), rule, params).unwrap();
    }

    /// A layer that nobody has trained yet.
    pub(crate) fn layer(
        &self,
        shape: Shape,
        weights: &[f32],
        bias: Option<&[f32]>,
        optimizer: Optimizer,
    ) -> Layer {
        let weights = self.pack(shape, weights);
        let bias = bias.map(|b| self.pack(Shape { d_in: 1, ..shape }, b));
        let moments = Moments::new(optimizer, &weights, bias.as_ref()).unwrap();
        Layer { weights, bias, moments }
    }
}

/// What an update changes.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) weights: Panels,
    pub(crate) bias: Option<Panels>,
    pub(crate) moments: Moments,
}

/// Weights or biases and their moments, row-major; absent moments are empty.
pub(crate) struct Tensors {
    pub(crate) values: Vec<f32>,
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

impl Tensors {
    fn new(values: &Panels, moments: &[Panels]) -> Self {
        let moment = |n: usize| moments.get(n).map_or(Vec::new(), Panels::to_row_major);
        Self { values: values.to_row_major(), first: moment(0), second: moment(1) }
    }

    pub(crate) fn each(&self) -> [(&'static str, &Vec<f32>); 3] {
        [("values", &self.values), ("first moment", &self.first), ("second moment", &self.second)]
    }
}

impl Layer {
    /// The weights, then the biases if there are any.
    pub(crate) fn tensors(&self) -> Vec<Tensors> {
        let weights = Tensors::new(&self.weights, self.moments.weights());
        let bias = self.bias.as_ref().map(|b| Tensors::new(b, self.moments.bias()));
        [weights].into_iter().chain(bias).collect()
    }

    /// All bits of one area: weights, biases, moments, step count.
    pub(crate) fn area_bits(&self, area: usize) -> Vec<u64> {
        let mut all = vec![self.moments.steps()[area]];
        for tensors in self.tensors() {
            for (_, values) in tensors.each() {
                let per_area = values.len() / self.weights.areas();
                let values = &values[area * per_area..][..per_area];
                all.extend(values.iter().map(|x| u64::from(x.to_bits())));
            }
        }
        all
    }

    /// All bits of all areas.
    pub(crate) fn all_bits(&self) -> Vec<u64> {
        (0..self.weights.areas()).flat_map(|k| self.area_bits(k)).collect()
    }
}

fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|n| values[(n % rows) * cols + n / rows]).collect()
}

/// The oracle's name for a kernel's averaging.
pub(crate) fn averaging(averaging: Averaging) -> reference::Averaging {
    match averaging {
        Averaging::Area => reference::Averaging::Area,
        Averaging::Batch => reference::Averaging::Batch,
        Averaging::Load => reference::Averaging::Load,
        Averaging::Sqrt => reference::Averaging::Sqrt,
        Averaging::Sum => reference::Averaging::Sum,
    }
}

/// The oracle's rule for a kernel's; `decay` is 0 for a bias.
pub(crate) fn rule(rule: &UpdateRule, decay: f32) -> reference::Rule {
    let optimizer = match rule.optimizer {
        Optimizer::Sgd => reference::Optimizer::Sgd,
        Optimizer::Momentum { momentum } => {
            reference::Optimizer::Momentum { momentum: momentum.into() }
        }
        Optimizer::AdamW { beta1, beta2, eps } => reference::Optimizer::AdamW {
            beta1: beta1.into(),
            beta2: beta2.into(),
            eps: eps.into(),
        },
    };
    reference::Rule { optimizer, lr: rule.lr.into(), decay: decay.into() }
}

/// All five averagings.
pub(crate) const AVERAGINGS: [Averaging; 5] =
    [Averaging::Area, Averaging::Batch, Averaging::Load, Averaging::Sqrt, Averaging::Sum];
