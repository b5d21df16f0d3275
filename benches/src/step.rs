//! One whole SAL step, written as a user who links the kernels writes it: the verbs, on matrices that stay.
//!
//! ```text
//! for each layer   route (R = 32, cosine, centred), then forward: ReLU, none in the last layer
//! loss             softmax cross-entropy
//! downwards        delta = (delta above * signs, one matrix for all areas) * [y > 0]
//! for each layer   update, SGD
//! ```
//! A layer with one area is not routed. Inputs and labels come by turns.

use crate::cache::Level;
use crate::calls::{ROUTE_WIDTH, TINY};
use crate::check::{Before, Product, check_areas, check_softmax};
use crate::measure::{Times, Work};
use crate::values::{Values, zeros};
use sal_kernels::kernels::{
    Activation, Averaging, Moments, Optimizer, RouteParams, Routes, Similarity, Trainable,
    UpdateRule, feedback_signs, forward, route, softmax_cross_entropy, update,
};
use sal_kernels::{Isa, Matrix, MatrixRef, Panels, RoutePlan, Signs};
use std::fmt;

/// Rows that the turns of inputs have together, if there is more than one.
const ROWS_IN_TURN: usize = 256;

/// A network and its batch.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How it is called.
    pub name: &'static str,
    /// Samples.
    pub batch: usize,
    /// Of the input and of each layer's output.
    pub widths: Vec<usize>,
    /// Areas of each layer.
    pub areas: Vec<usize>,
    /// Four fifths of the inputs are exact zeros.
    pub pixels: bool,
}

impl Setup {
    /// 784 -> 256 -> 10, the output layer with one area.
    pub fn small(batch: usize, areas: usize, pixels: bool) -> Self {
        let (widths, areas) = (vec![784, 256, 10], vec![areas, 1]);
        Self { name: "784-256-10", batch, widths, areas, pixels }
    }

    /// `depth` layers of `width` -> `width`, the last one's output being the logits.
    pub fn deep(
        name: &'static str,
        batch: usize,
        depth: usize,
        width: usize,
        areas: usize,
    ) -> Self {
        let (widths, areas) = (vec![width; depth + 1], vec![areas; depth]);
        Self { name, batch, widths, areas, pixels: false }
    }

    fn layers(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.widths.windows(2).zip(&self.areas).map(|(d, &k)| (d[0], d[1], k))
    }

    /// Weights in all areas.
    pub fn parameters(&self) -> u64 {
        self.layers().map(|(d_in, d_out, k)| (k * d_in * d_out) as u64).sum()
    }

    /// Where the weights of all areas lie.
    pub fn level(&self) -> Level {
        Level::of(4 * self.parameters())
    }

    /// What a step does, every sign counted as a multiplication and an addition.
    pub fn work(&self) -> Work {
        let flop_of_a_row = self.layers().enumerate().map(|(l, (d_in, d_out, k))| {
            let back = if l == 0 { 0 } else { d_in * d_out };
            let routed = if k == 1 { 0 } else { ROUTE_WIDTH * (d_in + k) };
            2 * (2 * d_in * d_out + back + routed) as u64
        });
        let rows = self.batch as u64;
        Work { flop: rows * flop_of_a_row.sum::<u64>(), bytes: None, rows }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inputs = if self.pixels { "pixels" } else { "dense" };
        let Self { name, batch, areas, .. } = self;
        write!(f, "{name}/{inputs}/n{batch}_k{}/{}", areas[0], self.level())
    }
}

struct Router {
    projection: Panels,
    directions: Values,
    prototypes: Panels,
    mean: Vec<f32>,
    bias: Vec<f32>,
    routes: Routes,
}

impl Router {
    fn new(isa: Isa, seed: u64, d_in: usize, areas: usize) -> Self {
        let directions = Values::new(seed, (d_in as f64).powf(-0.5));
        let anchors = Values::new(seed + 1, (ROUTE_WIDTH as f64).powf(-0.5));
        Self {
            projection: directions.panels(isa, 1, d_in, ROUTE_WIDTH),
            directions,
            prototypes: anchors.panels(isa, 1, ROUTE_WIDTH, areas),
            mean: vec![0.0; d_in],
            bias: vec![0.0; areas],
            routes: Routes::new(ROUTE_WIDTH, areas).expect("sizes fit"),
        }
    }

    fn run(&mut self, inputs: MatrixRef<'_>) {
        let params = RouteParams {
            projection: &self.projection,
            prototypes: &self.prototypes,
            mean: Some(&self.mean),
            bias: &self.bias,
            similarity: Similarity::Cosine,
        };
        route(inputs, &params, &mut self.routes).expect("shapes fit");
    }

    /// Directions are normalised, so what is checked is their product with the length.
    fn check(&self, inputs: MatrixRef<'_>) {
        check_areas(self.routes.scores().view(), self.routes.areas());
        let batch = inputs.rows();
        let centred =
            (0..batch).flat_map(|s| inputs.row(s).iter().zip(&self.mean).map(|(h, m)| h - m));
        let centred: Vec<f32> = centred.collect();
        for (s, h) in centred.chunks_exact(self.mean.len()).enumerate() {
            let dot = |j: usize| {
                let column = (0..h.len()).map(|i| self.directions.at(i * ROUTE_WIDTH + j));
                h.iter().zip(column).map(|(&a, b)| f64::from(a) * f64::from(b)).sum::<f64>()
            };
            let u: Vec<f64> = (0..ROUTE_WIDTH).map(dot).collect();
            let length = u.iter().map(|x| x * x).sum::<f64>().sqrt();
            // Each of two products and a difference may be off by (d_in + 3) 2^-24 of the sizes of its terms.
            let size: f64 = inputs
                .row(s)
                .iter()
                .zip(&self.mean)
                .map(|(h, m)| f64::from(h.abs() + m.abs()))
                .sum();
            let step = f64::from(self.directions.largest());
            let bound = (h.len() + 6) as f64 * 2f64.powi(-24) * size * step + 2e-6;
            let norm = f64::from(self.routes.norms()[s]);
            for (j, &x) in u.iter().enumerate() {
                let got = f64::from(self.routes.directions().row(s)[j]) * norm;
                assert!(
                    (got - x).abs() <= bound,
                    "route, row {s}, direction {j}: got {got}, want {x}"
                );
            }
            assert!(
                (norm - length).abs() <= bound * (ROUTE_WIDTH as f64).sqrt(),
                "length of row {s}"
            );
        }
    }
}

struct Layer {
    weights: Panels,
    bias: Panels,
    moments: Moments,
    router: Option<Router>,
    whole: RoutePlan,
    /// From the layer above, with the values whose signs they are.
    feedback: Option<(Values, Signs)>,
    out: Matrix,
    delta: Matrix,
}

impl Layer {
    fn plan(&self) -> &RoutePlan {
        self.router.as_ref().map_or(&self.whole, |r| r.routes.plan())
    }

    fn forward(&mut self, inputs: MatrixRef<'_>, activation: Activation) {
        let plan = self.router.as_ref().map_or(&self.whole, |r| r.routes.plan());
        let bias = Some(&self.bias);
        forward(plan, inputs, &self.weights, bias, activation, self.out.view_mut())
            .expect("shapes fit");
    }

    fn update(&mut self, inputs: MatrixRef<'_>, lr: f32) {
        let plan = self.router.as_ref().map_or(&self.whole, |r| r.routes.plan());
        let (optimizer, averaging) = (Optimizer::Sgd, Averaging::Sum);
        let rule = UpdateRule { optimizer, lr, weight_decay: 0.0, averaging };
        let (weights, bias) = (&mut self.weights, Some(&mut self.bias));
        let params = Trainable { weights, bias, moments: &mut self.moments };
        update(plan, inputs, self.delta.view(), &rule, params).expect("shapes fit");
    }
}

/// A network in the middle of its training.
pub struct Step {
    layers: Vec<Layer>,
    inputs: Vec<Matrix>,
    labels: Vec<Vec<u32>>,
    turn: usize,
}

/// Seconds of the parts of steps.
#[derive(Debug, Default)]
pub struct Parts {
    route: Times,
    forward: Times,
    loss: Times,
    feedback: Times,
    update: Times,
}

impl Step {
    /// A network with random weights; the means of its routers are those of their layers' inputs.
    pub fn new(setup: &Setup, isa: Isa) -> Self {
        let n = setup.batch;
        let above: Vec<usize> = setup.widths[2..].to_vec();
        let layers = setup.layers().enumerate().map(|(l, (d_in, d_out, areas))| {
            let seed = 100 + 10 * l as u64;
            let kaiming = (2.0 / d_in as f64).sqrt();
            let weights = Values::new(seed, kaiming).panels(isa, areas, d_in, d_out);
            let bias = Values::new(seed + 1, 0.1).panels(isa, areas, 1, d_out);
            let feedback = above.get(l).map(|&d| {
                let (values, scale) = (Values::new(seed + 2, 1.0), (2.0 / d_out as f32).sqrt());
                (values, values.signs(isa, d, d_out, scale))
            });
            Layer {
                moments: Moments::new(Optimizer::Sgd, &weights, Some(&bias)).expect("room"),
                weights,
                bias,
                router: (areas > 1).then(|| Router::new(isa, seed + 3, d_in, areas)),
                whole: RoutePlan::single(n).expect("a batch that fits"),
                feedback,
                out: zeros(n, d_out),
                delta: zeros(n, d_out),
            }
        });
        let turns = (ROWS_IN_TURN / n).max(4);
        let input = |t: u64| if setup.pixels { Values::pixels(t) } else { Values::new(t, 1.0) };
        let classes = *setup.widths.last().expect("an output");
        let mut step = Self {
            layers: layers.collect(),
            inputs: (0..turns as u64).map(|t| input(t).matrix(n, setup.widths[0])).collect(),
            labels: (0..turns)
                .map(|t| (0..n).map(|s| ((s + t) % classes) as u32).collect())
                .collect(),
            turn: 0,
        };
        step.centre();
        step
    }

    /// Sets each router's mean to its input's over some turns, from the bottom up.
    fn centre(&mut self) {
        let turns = ROWS_IN_TURN.div_ceil(self.inputs[0].rows());
        for l in 0..self.layers.len() {
            let mut sum = vec![0.0f64; self.layers[l].weights.d_in()];
            let mut rows = 0;
            for turn in 0..turns {
                self.turn = turn;
                (0..l).for_each(|below| {
                    self.route(below);
                    self.forward(below);
                });
                let inputs = self.input(l);
                for row in (0..inputs.rows()).map(|r| inputs.row(r)) {
                    sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
                }
                rows += inputs.rows();
            }
            if let Some(router) = &mut self.layers[l].router {
                let mean = sum.iter().map(|s| (s / rows as f64) as f32);
                router.mean.iter_mut().zip(mean).for_each(|(to, m)| *to = m);
            }
        }
        self.turn = 0;
    }

    fn input(&self, l: usize) -> MatrixRef<'_> {
        match l {
            0 => self.inputs[self.turn].view(),
            _ => self.layers[l - 1].out.view(),
        }
    }

    /// The layer and its input.
    fn split(&mut self, l: usize) -> (&mut Layer, MatrixRef<'_>) {
        let (below, from) = self.layers.split_at_mut(l);
        let input = below.last().map_or(self.inputs[self.turn].view(), |b| b.out.view());
        (&mut from[0], input)
    }

    fn route(&mut self, l: usize) {
        let (layer, input) = self.split(l);
        if let Some(router) = &mut layer.router {
            router.run(input);
        }
    }

    fn forward(&mut self, l: usize) {
        let last = l + 1 == self.layers.len();
        let (layer, input) = self.split(l);
        layer.forward(input, if last { Activation::Identity } else { Activation::Relu });
    }

    fn loss(&mut self) {
        let labels = &self.labels[self.turn];
        let top = self.layers.last_mut().expect("a layer");
        softmax_cross_entropy(top.out.view(), labels, top.delta.view_mut()).expect("shapes fit");
    }

    fn feedback(&mut self, l: usize) {
        let (below, above) = self.layers.split_at_mut(l + 1);
        let (layer, above) = (&mut below[l], &above[0]);
        let (_, signs) = layer.feedback.as_ref().expect("a layer above");
        let gate = Some(layer.out.view());
        feedback_signs(above.plan(), above.delta.view(), signs, gate, layer.delta.view_mut())
            .expect("shapes fit");
    }

    fn update(&mut self, l: usize, lr: f32) {
        let (layer, input) = self.split(l);
        layer.update(input, lr);
    }

    /// One step on the next batch, at a rate that leaves the weights as they are.
    pub fn run(&mut self) {
        let depth = self.layers.len();
        self.turn = (self.turn + 1) % self.inputs.len();
        for l in 0..depth {
            self.route(l);
            self.forward(l);
        }
        self.loss();
        (0..depth - 1).rev().for_each(|l| self.feedback(l));
        (0..depth).for_each(|l| self.update(l, TINY));
    }

    /// As [`Step::run`], with each part timed.
    pub fn run_parts(&mut self, parts: &mut Parts) {
        let depth = self.layers.len();
        self.turn = (self.turn + 1) % self.inputs.len();
        let (mut route, mut forward) = (0.0, 0.0);
        for l in 0..depth {
            route += Times::of(|| self.route(l));
            forward += Times::of(|| self.forward(l));
        }
        parts.route.push(route);
        parts.forward.push(forward);
        parts.loss.time(|| self.loss());
        parts.feedback.time(|| (0..depth - 1).rev().for_each(|l| self.feedback(l)));
        parts.update.time(|| (0..depth).for_each(|l| self.update(l, TINY)));
    }

    /// Of the routed layers, the largest share of a batch that one area has now.
    pub fn hottest(&self) -> f64 {
        let share = |p: &RoutePlan| {
            (0..p.areas()).map(|k| p.occupancy(k)).max().unwrap_or(0) as f64 / p.batch() as f64
        };
        let routed = self.layers.iter().filter(|l| l.router.is_some());
        routed.map(|l| share(l.plan())).fold(0.0, f64::max)
    }

    /// A step of a visible size and its opposite, which leaves the weights as they were but for rounding. Panics if a
    /// verb's result is not what its arguments ask for.
    pub fn check(&mut self) {
        let depth = self.layers.len();
        for l in 0..depth {
            self.route(l);
            self.forward(l);
            self.check_forward(l);
        }
        self.loss();
        let top = &self.layers[depth - 1];
        check_softmax(top.out.view(), &self.labels[self.turn], top.delta.view());
        for l in (0..depth - 1).rev() {
            self.feedback(l);
            self.check_feedback(l);
        }
        let lr = 2f32.powi(-6);
        for l in 0..depth {
            let before = Before::of(&self.layers[l].weights);
            self.update(l, lr);
            let (layer, input) = (&self.layers[l], self.input(l));
            let (what, operands) = (format!("update, layer {l}"), (input, layer.delta.view()));
            before.check_update(&what, layer.plan(), operands, lr, &layer.weights);
            self.update(l, -lr);
        }
    }

    fn check_forward(&self, l: usize) {
        let (layer, inputs) = (&self.layers[l], self.input(l));
        if let Some(router) = &layer.router {
            router.check(inputs);
        }
        let weight = |k, i, j| layer.weights.get(k, i, j);
        let bias = |k, j| layer.bias.get(k, 0, j);
        let (what, plan, out) = (&*format!("forward, layer {l}"), layer.plan(), layer.out.view());
        let relu = layer.feedback.is_some();
        Product { what, plan, inputs, weight, bias, relu, gate: None, out }.check();
    }

    fn check_feedback(&self, l: usize) {
        let (layer, above) = (&self.layers[l], &self.layers[l + 1]);
        let (values, signs) = layer.feedback.as_ref().expect("a layer above");
        let weight = |_, i, j| signs.scale().copysign(values.at(i * signs.d_out() + j));
        let (what, inputs) = (&*format!("feedback, layer {l}"), above.delta.view());
        let (plan, out) = (&layer.whole, layer.delta.view());
        let (bias, relu, gate) = (|_, _| 0.0, false, Some(layer.out.view()));
        Product { what, plan, inputs, weight, bias, relu, gate, out }.check();
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |t: &Times| 1e6 * t.median();
        write!(
            f,
            "route {:.1} us, forward {:.1}, loss {:.1}, feedback {:.1}, update {:.1}",
            us(&self.route),
            us(&self.forward),
            us(&self.loss),
            us(&self.feedback),
            us(&self.update)
        )
    }
}
