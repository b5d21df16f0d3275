//! The verbs as calls: each owns operands, takes plans and inputs by turns, and checks its result when asked to.
//!
//! ```text
//! let mut call = calls::forward(&point, isa);
//! call(true);      the result is checked against f64 sums
//! call(false);     nothing but the verb
//! ```

use crate::check::{Before, Product, check_areas, check_softmax};
use crate::point::Point;
use crate::values::{Values, zeros};
use sal_kernels::kernels::{
    self, Activation, Averaging, KernelError, Moments, Optimizer, RouteParams, Routes, Similarity,
    Trainable, UpdateRule,
};
use sal_kernels::{Isa, Matrix, MatrixMut, MatrixRef, RoutePlan};

/// Directions of a router.
pub const ROUTE_WIDTH: usize = 32;

/// A learning rate so small that a million steps leave the weights where they are.
pub(crate) const TINY: f32 = 1e-12;

/// Scale of one-bit feedback.
const SCALE: f32 = 0.5;

/// What the weights of a point are: variance 1 / d_in.
pub fn weights(p: &Point) -> Values {
    Values::new(1, (1.0 / p.d_in as f64).sqrt())
}

/// What its bias is.
pub fn bias() -> Values {
    Values::new(2, 1.0)
}

/// The inputs that calls take by turns.
pub fn inputs(p: &Point) -> Vec<Matrix> {
    let values = |t| if p.pixels { Values::pixels(t) } else { Values::new(t, 1.0) };
    (10..10 + p.inputs() as u64).map(|t| values(t).matrix(p.batch, p.d_in)).collect()
}

/// The gated forward product with bias and ReLU.
pub fn forward(p: &Point, isa: Isa) -> impl FnMut(bool) + Send + use<> {
    let p = *p;
    let (values, biases) = (weights(&p), bias());
    let w = values.panels(isa, p.areas, p.d_in, p.d_out);
    let b = biases.panels(isa, p.areas, 1, p.d_out);
    let (plans, inputs, mut out) = (p.plans(), inputs(&p), zeros(p.batch, p.d_out));
    let mut turn = 0;
    move |checked| {
        let (plan, h) = (&plans[turn % plans.len()], inputs[turn % inputs.len()].view());
        turn += 1;
        kernels::forward(plan, h, &w, Some(&b), Activation::Relu, out.view_mut())
            .expect("shapes fit");
        if checked {
            let weight = |k, i, j| values.at((k * p.d_in + i) * p.d_out + j);
            let bias = |k, j| biases.at(k * p.d_out + j);
            let (what, inputs, out) = ("forward", h, out.view());
            Product { what, plan, inputs, weight, bias, relu: true, gate: None, out }.check();
        }
    }
}

/// The area update with SGD. A checked call changes the weights, others do as much work and change next to nothing.
pub fn update(p: &Point, isa: Isa) -> impl FnMut(bool) + Send + use<> {
    let mut weights = weights(p).panels(isa, p.areas, p.d_in, p.d_out);
    let mut moments = Moments::new(Optimizer::Sgd, &weights, None).expect("shapes fit");
    let deltas = Values::new(3, 1.0).matrix(p.batch, p.d_out);
    let (plans, inputs) = (p.plans(), inputs(p));
    let mut turn = 0;
    move |checked| {
        let (plan, h) = (&plans[turn % plans.len()], inputs[turn % inputs.len()].view());
        turn += 1;
        let before = checked.then(|| Before::of(&weights));
        let lr = if checked { 1.0 } else { TINY };
        let (optimizer, averaging) = (Optimizer::Sgd, Averaging::Sum);
        let rule = UpdateRule { optimizer, lr, weight_decay: 0.0, averaging };
        let params = Trainable { weights: &mut weights, bias: None, moments: &mut moments };
        kernels::update(plan, h, deltas.view(), &rule, params).expect("shapes fit");
        if let Some(before) = before {
            before.check_update("update", plan, (h, deltas.view()), lr, &weights);
        }
    }
}

/// Softmax cross-entropy of `batch` rows of `classes` logits; the loss itself is what comes out.
pub fn loss(batch: usize, classes: usize) -> impl FnMut(bool) -> f64 {
    let logits = Values::new(5, 2.0).matrix(batch, classes);
    let labels: Vec<u32> = (0..batch).map(|s| (s % classes) as u32).collect();
    let mut error = zeros(batch, classes);
    move |checked| {
        let loss = kernels::softmax_cross_entropy(logits.view(), &labels, error.view_mut())
            .expect("shapes fit");
        if checked {
            check_softmax(logits.view(), &labels, error.view());
        }
        loss
    }
}

/// The error of a layer of this shape goes back through an f32 matrix (d_out, d_in) that all areas share.
pub fn feedback(p: &Point, isa: Isa) -> impl FnMut(bool) + Send + use<> {
    let (values, d_in) = (weights(p), p.d_in);
    let f = values.panels(isa, 1, p.d_out, d_in);
    back(
        p,
        "feedback",
        move |plan, e, y, out| kernels::feedback(plan, e, &f, Some(y), out),
        move |i, j| values.at(i * d_in + j),
    )
}

/// As [`feedback`], through one bit an entry.
pub fn signs(p: &Point, isa: Isa) -> impl FnMut(bool) + Send + use<> {
    let (values, d_in) = (weights(p), p.d_in);
    let f = values.signs(isa, p.d_out, d_in, SCALE);
    back(
        p,
        "signs",
        move |plan, e, y, out| kernels::feedback_signs(plan, e, &f, Some(y), out),
        move |i, j| SCALE.copysign(values.at(i * d_in + j)),
    )
}

/// `run` is the verb, with plan, errors, outputs and room for its result; `weight` is an entry of its matrix.
fn back<R, W>(
    p: &Point,
    what: &'static str,
    run: R,
    weight: W,
) -> impl FnMut(bool) + Send + use<R, W>
where
    R: Fn(&RoutePlan, MatrixRef<'_>, MatrixRef<'_>, MatrixMut<'_>) -> Result<(), KernelError>
        + Send,
    W: Fn(usize, usize) -> f32 + Send,
{
    let turns = p.inputs() as u64;
    let matrices = |from: u64, cols: usize| -> Vec<Matrix> {
        (from..from + turns).map(|t| Values::new(t, 1.0).matrix(p.batch, cols)).collect()
    };
    let (errors, outputs) = (matrices(20, p.d_out), matrices(40, p.d_in));
    let (mut out, plan) = (zeros(p.batch, p.d_in), RoutePlan::single(p.batch).expect("a batch"));
    let mut turn = 0;
    move |checked| {
        let (e, y) = (errors[turn].view(), outputs[turn].view());
        turn = (turn + 1) % errors.len();
        run(&plan, e, y, out.view_mut()).expect("shapes fit");
        if checked {
            let (plan, inputs, gate, out) = (&plan, e, Some(y), out.view());
            let (weight, bias, relu) = (|_, i, j| weight(i, j), |_, _| 0.0, false);
            Product { what, plan, inputs, weight, bias, relu, gate, out }.check();
        }
    }
}

/// Routing of `p.batch` samples to `p.areas` areas; `p.d_out` and the profile do not matter. Cosine is centred, dot is
/// not. A checked call checks both.
pub fn route(p: &Point, isa: Isa, similarity: Similarity) -> impl FnMut(bool) + Send + use<> {
    let (n, areas) = (p.batch, p.areas);
    let directions = weights(p);
    let projection = directions.panels(isa, 1, p.d_in, ROUTE_WIDTH);
    let anchors = Values::new(4, (1.0 / ROUTE_WIDTH as f64).sqrt());
    let prototypes = anchors.panels(isa, 1, ROUTE_WIDTH, areas);
    let (mean, bias) = (vec![0.0; p.d_in], vec![0.0; areas]);
    let inputs = inputs(p);
    let whole = RoutePlan::single(n).expect("a batch");
    let mut routes = Routes::new(ROUTE_WIDTH, areas).expect("shapes fit");
    let mut turn = 0;
    move |checked| {
        let h = inputs[turn % inputs.len()].view();
        turn += 1;
        let run = |similarity: Similarity, routes: &mut Routes| {
            let mean = (similarity == Similarity::Cosine).then_some(&mean[..]);
            let (projection, prototypes, bias) = (&projection, &prototypes, &bias[..]);
            let params = RouteParams { projection, prototypes, mean, bias, similarity };
            kernels::route(h, &params, routes).expect("shapes fit");
        };
        if !checked {
            return run(similarity, &mut routes);
        }
        run(Similarity::Dot, &mut routes);
        let (relu, gate, bias) = (false, None, |_, _| 0.0);
        let weight = |_, i, j| directions.at(i * ROUTE_WIDTH + j);
        let (what, plan, out) = ("directions", &whole, routes.directions().view());
        Product { what, plan, inputs: h, weight, bias, relu, gate, out }.check();
        check_choice(&routes, &whole, &anchors, areas);
        let lengths: Vec<f64> = (0..n).map(|s| length(routes.directions().row(s))).collect();
        let plain = routes.directions().clone();
        run(Similarity::Cosine, &mut routes);
        for (s, length) in lengths.iter().enumerate() {
            // The mean is zero, so the projections are the same; length and division round once each.
            let norm = f64::from(routes.norms()[s]);
            assert!((norm - length - 1e-6).abs() <= 3e-7 * norm, "length of row {s}");
            for (&uh, &u) in routes.directions().row(s).iter().zip(plain.row(s)) {
                let off = f64::from(uh) * norm - f64::from(u);
                assert!(off.abs() <= 3e-7 * f64::from(u.abs()), "direction of row {s}");
            }
        }
        check_choice(&routes, &whole, &anchors, areas);
    }
}

fn length(u: &[f32]) -> f64 {
    u.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// Scores are directions times prototypes, areas follow from them, and the plan from the areas.
fn check_choice(routes: &Routes, plan: &RoutePlan, anchors: &Values, areas: usize) {
    let (what, inputs, out) = ("scores", routes.directions().view(), routes.scores().view());
    let (weight, bias) = (|_, i, j| anchors.at(i * areas + j), |_, _| 0.0);
    Product { what, plan, inputs, weight, bias, relu: false, gate: None, out }.check();
    check_areas(routes.scores().view(), routes.areas());
    assert_eq!(routes.plan(), &RoutePlan::new(routes.areas(), areas).expect("areas in range"));
}
