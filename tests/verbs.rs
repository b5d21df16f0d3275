//! Every verb on every instruction set against the f64 oracle, on random layers and batches.
//!
//! Each case also checks what must hold to the bit: nothing outside of an output is written, outputs are never read
//! (they start as NaN), areas without samples neither matter nor change (their weights are NaN), and a row full of
//! NaN, wherever it stands in the batch, changes no other row.

mod common;

use common::bounds::{self, TINY, U, Weight};
use common::calls::{AVERAGINGS, Call, Layer, Router, averaging, rule};
use common::{Case, Worst, bits, f64s, for_each_case, isas, rows_of};
use sal_kernels::kernels::{
    self, Activation, Averaging, KernelError, Moments, Optimizer, RouteParams, Routes, Similarity,
    Trainable, UpdateRule,
};
use sal_kernels::reference::{self, Optimizer as RefOptimizer, Parameters, Shape};
use sal_kernels::{Isa, Matrix, MatrixMut, MatrixRef, Panels, RoutePlan};

/// A check of one verb on one random case.
type Check = fn(&mut Case, &mut Worst);

#[test]
fn forward_matches_the_oracle() {
    for_each_case("forward", &isas(), forward);
}

fn forward(case: &mut Case, worst: &mut Worst) {
    let (shape, weights) = weights(case);
    let (with_bias, relu) = (!case.rng.one_in(4), case.rng.one_in(2));
    let bias = with_bias.then(|| vector(case, shape));
    let activation = if relu { Activation::Relu } else { Activation::Identity };
    let inputs = case.rows(case.d_in);
    let run = |case: &Case, x: &[f32]| {
        case.call().forward(shape, x, &weights, bias.as_deref(), activation)
    };
    let got = run(case, &inputs);

    let (w, b) = (f64s(&weights), bias.as_deref().map(f64s));
    let sums = reference::forward(shape, &case.z, &f64s(&inputs), &w, b.as_deref());
    let want = if relu { reference::relu(&sums.value) } else { sums.value };
    // Neither the bias (one rounding, which a chain allows for) nor ReLU (a contraction) adds anything.
    let bound = |n: usize| bounds::chain(case.d_in, sums.magnitude[n]);
    worst.check("y", &got, &want, bound);
    rows_stay_apart(case, &inputs, &got, case.d_out, run);
}

#[test]
fn feedback_matches_the_oracle() {
    for_each_case("feedback", &isas(), feedback);
}

fn feedback(case: &mut Case, worst: &mut Worst) {
    let (shape, weights) = weights(case);
    check_feedback(case, worst, shape, &weights, |call, e, y| call.feedback(shape, e, &weights, y));
}

#[test]
fn feedback_through_signs_matches_the_oracle() {
    for_each_case("feedback-signs", &isas(), |case, worst| {
        let areas = if case.rng.one_in(4) { 1 } else { case.areas };
        let shape = Shape { areas, d_in: case.d_in, d_out: case.d_out };
        let scale = case.rng.pick(&[1.0, 0.1, 3e5]);
        let signs: Vec<f32> = (0..areas * case.d_in * case.d_out)
            .map(|_| if case.rng.one_in(2) { scale } else { -scale })
            .collect();
        // Sums of errors, then one product; adding the zeros of padding rounds nothing.
        check_feedback(case, worst, shape, &signs, |call, e, y| {
            call.feedback_signs(shape, e, (scale, &signs), y)
        });
    });
}

fn check_feedback(
    case: &mut Case,
    worst: &mut Worst,
    shape: Shape,
    weights: &[f32],
    feedback: impl Fn(Call<'_>, &[f32], Option<&[f32]>) -> Vec<f32>,
) {
    let errors = case.rows(case.d_in);
    let gated = !case.rng.one_in(4);
    let outputs = gated.then(|| case.rng.values(case.batch * case.d_out));
    let got = feedback(case.call(), &errors, outputs.as_deref());

    let y = outputs.as_deref().map(f64s);
    let (e, w) = (f64s(&errors), f64s(weights));
    let sums = reference::feedback(shape, &case.z, &e, &w, y.as_deref());
    worst.check("delta", &got, &sums.value, |n| {
        // The gate selects: nothing is rounded, and an inactive unit gives a plain zero.
        let active = y.as_ref().is_none_or(|y| y[n] > 0.0);
        if active { bounds::chain(case.d_in, sums.magnitude[n]) } else { 0.0 }
    });
    if let Some(y) = &outputs {
        let inactive = got.iter().zip(y).filter(|(_, y)| **y <= 0.0);
        assert!(inactive.into_iter().all(|(d, _)| d.to_bits() == 0), "an inactive unit");
    }
    // The outputs take part in what is moved and spoilt: rows are (error, output) pairs.
    let width = case.d_in + case.d_out;
    let y = outputs.unwrap_or_else(|| vec![1.0; case.batch * case.d_out]);
    let pairs = beside(case.batch, &errors, case.d_in, &y, case.d_out);
    let run = |case: &Case, rows: &[f32]| {
        let part = |from: usize, to: usize| -> Vec<f32> {
            rows.chunks(width.max(1)).flat_map(|r| r[from..to].iter().copied()).collect()
        };
        let (e, y) = (part(0, case.d_in), part(case.d_in, width));
        feedback(case.call(), &e, gated.then_some(&y[..]))
    };
    rows_stay_apart(case, &pairs, &got, case.d_out, run);
}

#[test]
fn route_matches_the_oracle() {
    for_each_case("route", &isas(), route);
}

fn route(case: &mut Case, worst: &mut Worst) {
    let (d_in, width, areas) = (case.d_in, case.d_out, case.areas);
    let similarity = case.rng.pick(&[Similarity::Cosine, Similarity::Dot]);
    let centred = !case.rng.one_in(4);
    let router = Router {
        d_in,
        width,
        areas,
        projection: case.rng.values(width * d_in),
        prototypes: case.rng.values(areas * width),
        mean: centred.then(|| case.rng.values(d_in)),
        bias: if case.rng.one_in(3) { case.rng.values(areas) } else { vec![0.0; areas] },
        similarity,
    };
    let inputs = case.rows(d_in);
    let got = case.call().route(&router, &inputs);
    check_routes(case, &router, &inputs, &got, worst);

    let run = |case: &Case, x: &[f32]| joined(&case.call().route(&router, x));
    rows_stay_apart(case, &inputs, &joined(&got), width + areas + 2, run);
}

fn check_routes(case: &Case, router: &Router, inputs: &[f32], got: &Routes, worst: &mut Worst) {
    let (p, c, bias) = (f64s(&router.projection), f64s(&router.prototypes), f64s(&router.bias));
    let mean = router.mean.as_deref().map_or(vec![0.0; router.d_in], f64s);
    let oracle = reference::Router {
        d_in: router.d_in,
        width: router.width,
        areas: router.areas,
        projection: &p,
        prototypes: &c,
        mean: &mean,
        bias: &bias,
        cosine: router.similarity == Similarity::Cosine,
    };
    let want = reference::route(&oracle, case.batch, &f64s(inputs));
    for s in 0..case.batch {
        let bound = bounds::route(&oracle, &want, s);
        let directions = &want.directions[s * router.width..][..router.width];
        let scores = &want.scores.value[s * router.areas..][..router.areas];
        worst.check("norm", &got.norms()[s..=s], &want.norms[s..=s], |_| bound.norm);
        worst.check("direction", got.directions().row(s), directions, |r| bound.directions[r]);
        worst.check("score", got.scores().row(s), scores, |k| bound.scores[k]);

        // The area chosen may be another than the oracle's only where both totals are within their bounds.
        let total = |k: usize| scores[k] + bias[k];
        let off = |k: usize| bound.scores[k] + U * (total(k).abs() + bound.scores[k]);
        let z = got.areas()[s] as usize;
        for k in 0..router.areas {
            assert!(total(z) + off(z) >= total(k) - off(k), "sample {s} in area {z}, not {k}");
        }
        // By its own scores it is the argmax, ties to the lowest.
        let own = got.scores().row(s).iter().zip(&router.bias).map(|(s, b)| s + b);
        let best = own
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (k, t)| if t > best.1 { (k, t) } else { best });
        assert_eq!(z, best.0, "sample {s}");
    }
    assert_eq!(got.plan().areas(), router.areas);
    for k in 0..router.areas {
        let rows: Vec<u32> =
            (0..case.batch as u32).filter(|&s| got.areas()[s as usize] as usize == k).collect();
        assert_eq!(got.plan().rows(k), rows);
    }
}

/// All that routing says about each sample, in one row.
fn joined(routes: &Routes) -> Vec<f32> {
    let row = |s: usize| {
        let numbers = [routes.norms()[s], routes.areas()[s] as f32];
        [&numbers[..], routes.directions().row(s), routes.scores().row(s)].concat()
    };
    (0..routes.areas().len()).flat_map(row).collect()
}

#[test]
fn softmax_cross_entropy_matches_the_oracle() {
    for_each_case("softmax", &no_isa(), softmax_cross_entropy);
}

fn softmax_cross_entropy(case: &mut Case, worst: &mut Worst) {
    let classes = case.d_out.max(1);
    let logits = case.rng.values(case.batch * classes);
    let labels: Vec<u32> = (0..case.batch).map(|_| case.rng.below(classes) as u32).collect();
    let (error, total) = case.call().softmax_cross_entropy(classes, &logits, &labels);

    let want = reference::softmax_cross_entropy(classes, &f64s(&logits), &labels);
    // In f64 the exponents, of at most 746 in magnitude where exp does not vanish, are off by 746 * 2^-53, and so
    // is p, relatively; exp, the sum and the quotient add a few 2^-53 for each class. At the label, p - 1 turns
    // that into an absolute error. Then one rounding to f32.
    let wide = (2 * (746 + classes + 8)) as f64 / (1u64 << 52) as f64;
    worst.check("e", &error, &want.error, |n| {
        let hit = n % classes == labels[n / classes] as usize;
        let (relative, absolute) = (U + wide, if hit { wide } else { 0.0 });
        relative * want.error[n].abs() + absolute * (1.0 + U) + TINY
    });
    let bound = wide * (1.0 + case.batch as f64) * (want.magnitude + case.batch as f64);
    assert!((total - want.total).abs() <= bound, "{total} instead of {}", want.total);

    let run = |case: &Case, rows: &[f32]| {
        // Labels travel with their rows: appended as one more column.
        let split = |r: &[f32]| (r[..classes].to_vec(), r[classes] as u32);
        let (x, labels): (Vec<_>, Vec<_>) = rows.chunks(classes + 1).map(split).unzip();
        case.call().softmax_cross_entropy(classes, &x.concat(), &labels).0
    };
    let labels: Vec<f32> = labels.iter().map(|&l| l as f32).collect();
    let rows = beside(case.batch, &logits, classes, &labels, 1);
    rows_stay_apart_but(case, &rows, &error, classes, 1, run);
}

#[test]
fn squared_error_matches_the_oracle() {
    for_each_case("squared", &no_isa(), squared_error);
}

fn squared_error(case: &mut Case, worst: &mut Worst) {
    let width = case.d_out;
    let outputs = case.rng.values(case.batch * width);
    let targets = case.rng.values(case.batch * width);
    let (error, total) = case.call().squared_error(width, &outputs, &targets);
    let want = reference::squared_error(&f64s(&outputs), &f64s(&targets));
    // One subtraction; its error counts twice in the square, beside a sum in f64.
    worst.check("e", &error, &want.error, |n| U * want.error[n].abs());
    let bound = (2.0 * U + U * U + error.len() as f64 * U * U) * want.magnitude;
    assert!((total - want.total).abs() <= bound, "{total} instead of {}", want.total);
}

#[test]
fn sgd_matches_the_oracle() {
    for_each_case("update-sgd", &isas(), sgd);
}

fn sgd(case: &mut Case, worst: &mut Worst) {
    check_update(case, Optimizer::Sgd, worst);
}

#[test]
fn momentum_matches_the_oracle() {
    for_each_case("update-momentum", &isas(), momentum);
}

fn momentum(case: &mut Case, worst: &mut Worst) {
    let momentum = case.rng.pick(&[0.0, 0.3, 0.9, 0.99]);
    check_update(case, Optimizer::Momentum { momentum }, worst);
}

#[test]
fn adamw_matches_the_oracle() {
    for_each_case("update-adamw", &isas(), adamw);
}

fn adamw(case: &mut Case, worst: &mut Worst) {
    let other = Optimizer::AdamW {
        beta1: case.rng.pick(&[0.0, 0.3, 0.9, 0.95]),
        beta2: case.rng.pick(&[0.0, 0.4, 0.99, 0.9999]),
        eps: case.rng.pick(&[1e-10, 1e-8, 1e-3]),
    };
    let optimizer = if case.rng.one_in(2) { Optimizer::ADAMW } else { other };
    check_update(case, optimizer, worst);
}

fn check_update(case: &mut Case, optimizer: Optimizer, worst: &mut Worst) {
    let shape = Shape { areas: case.areas, d_in: case.d_in, d_out: case.d_out };
    let decay = if case.rng.one_in(2) { 0.0 } else { case.rng.unit() };
    let scale = case.rng.pick(&[1.0, 1e-2, 1e-4]);
    let rule = UpdateRule {
        optimizer,
        lr: scale * case.rng.unit(),
        weight_decay: decay,
        averaging: case.rng.pick(&AVERAGINGS),
    };
    let mut layer = trained_layer(case, shape, &rule);
    let before = layer.clone();
    let inputs = case.rows(case.d_in);
    let deltas = case.rng.values(case.batch * case.d_out);
    case.call().update(&mut layer, &inputs, &deltas, &rule);
    compare_update(case, &rule, (&inputs, &deltas), (&before, &layer), worst);

    // A sample that is no number spoils its own area at most.
    if case.batch > 0 {
        let spoilt = case.rng.below(case.batch);
        let (mut x, mut d) = (inputs, deltas);
        spoil(case, &mut x, case.d_in, spoilt);
        spoil(case, &mut d, case.d_out, spoilt);
        let mut other = before;
        case.call().update(&mut other, &x, &d, &rule);
        for k in (0..case.areas).filter(|&k| k != case.z[spoilt] as usize) {
            assert_eq!(layer.area_bits(k), other.area_bits(k), "area {k} saw sample {spoilt}");
        }
    }
}

/// A layer with moments and step counts from a few updates. Areas without samples in this case are all NaN, so that they
/// show if they matter, or in other cases numbers, so that they show if they decay.
fn trained_layer(case: &mut Case, shape: Shape, rule: &UpdateRule) -> Layer {
    let weights = case.rng.values(shape.areas * shape.d_in * shape.d_out);
    let with_bias = !case.rng.one_in(4);
    let bias = with_bias.then(|| case.rng.values(shape.areas * shape.d_out));
    let mut layer = case.call().layer(shape, &weights, bias.as_deref(), rule.optimizer);

    for _ in 0..case.rng.below(4) {
        let x = case.rng.values(case.batch * shape.d_in);
        let d = case.rng.values(case.batch * shape.d_out);
        case.call().update(&mut layer, &x, &d, rule);
    }
    let occupancy = case.occupancy();
    let idle: Vec<u32> = (0..shape.areas as u32).filter(|&k| occupancy[k as usize] == 0).collect();
    let (mut x, mut d) =
        (case.rng.values(idle.len() * shape.d_in), case.rng.values(idle.len() * shape.d_out));
    if case.rng.one_in(2) {
        x.fill(f32::NAN);
        d.fill(f32::NAN);
    }
    let call = common::calls::Call { z: &idle, ..case.call() };
    call.update(&mut layer, &x, &d, rule);
    layer
}

fn compare_update(
    case: &Case,
    kernel_rule: &UpdateRule,
    (inputs, deltas): (&[f32], &[f32]),
    (before, after): (&Layer, &Layer),
    worst: &mut Worst,
) {
    let shape = Shape { areas: case.areas, d_in: case.d_in, d_out: case.d_out };
    let averaging = averaging(kernel_rule.averaging);
    let gradient = reference::gradient(shape, &case.z, &f64s(inputs), &f64s(deltas), averaging);
    let steps: Vec<Option<u64>> = (0..case.areas)
        .map(|k| (gradient.occupancy[k] > 0).then_some(before.moments.steps()[k] + 1))
        .collect();
    for (k, step) in steps.iter().enumerate() {
        match *step {
            Some(t) => assert_eq!(after.moments.steps()[k], t, "step count of area {k}"),
            None => assert_eq!(after.area_bits(k), before.area_bits(k), "area {k} has no sample"),
        }
    }
    let names = [["weight", "moment", "square"], ["bias", "moment", "square"]];
    let both = before.tensors().into_iter().zip(after.tensors());
    for (nth, (old, new)) in both.enumerate() {
        let (sums, decay) = match nth {
            0 => (&gradient.weights, kernel_rule.weight_decay),
            _ => (&gradient.bias, 0.0),
        };
        let rule = rule(kernel_rule, decay);
        let per_area = sums.value.len() / case.areas;
        let old = Parameters {
            values: f64s(&old.values),
            first: f64s(&old.first),
            second: f64s(&old.second),
        };
        let want = reference::update(&old, &sums.value, &steps, rule);
        let reach = match nth {
            0 => inputs.iter().fold(0.0, |m: f32, x| m.max(x.abs())),
            _ => 1.0,
        };
        for (k, t) in steps.iter().enumerate() {
            let Some(t) = *t else { continue };
            let at = k * per_area..(k + 1) * per_area;
            let moment = |m: &[f64], n: usize| m.get(n).copied().unwrap_or(0.0);
            let bound = |n: usize| {
                let n = at.start + n;
                let weight = Weight {
                    w: old.values[n],
                    m: moment(&old.first, n),
                    v: moment(&old.second, n),
                    g: sums.value[n],
                    magnitude: sums.magnitude[n],
                    n: gradient.occupancy[k],
                    reach: reach.into(),
                    t,
                };
                bounds::step(&rule, &weight)
            };
            let [w, m, v] = names[nth];
            let part = at.clone();
            worst.check(w, &new.values[part.clone()], &want.values[part.clone()], |n| bound(n).w);
            if rule.optimizer != RefOptimizer::Sgd {
                worst.check(m, &new.first[part.clone()], &want.first[part.clone()], |n| bound(n).m);
            }
            if matches!(rule.optimizer, RefOptimizer::AdamW { .. }) {
                worst.check(v, &new.second[part.clone()], &want.second[part], |n| bound(n).v);
            }
        }
    }
}

/// Few rows skip the weights of a zero input, but not where the product would be no number.
#[test]
fn a_zero_input_does_not_hide_a_weight_that_is_no_number() {
    const D_IN: usize = 100;
    for isa in isas() {
        for (batch, odd) in
            [(1, f32::NAN), (3, f32::INFINITY), (8, f32::NEG_INFINITY), (9, f32::NAN)]
        {
            let (z, pads) = (vec![0; batch], [common::Pad { lead: 1, gap: 2 }; 4]);
            let call = Call { isa, z: &z, areas: 1, pads, fill: 0.0 };
            let shape = Shape { areas: 1, d_in: D_IN, d_out: 2 };
            let mut x = vec![0.0; batch * D_IN];
            x.iter_mut().step_by(D_IN).for_each(|x| *x = 1.0);
            let mut w = vec![1.0; D_IN * 2];
            w[D_IN] = odd; // row D_IN / 2, column 0
            let y = call.forward(shape, &x, &w, None, Activation::Relu);
            for row in y.chunks(2) {
                assert!(row[0].is_nan() && row[1] == 1.0, "{isa}, {batch} rows: {row:?}");
            }
            // 0 * delta is as little a number, and so are the weights that it leaves.
            let rule = UpdateRule { optimizer: Optimizer::Sgd, ..RULE };
            let mut layer = call.layer(shape, &vec![1.0; D_IN * 2], None, Optimizer::Sgd);
            call.update(&mut layer, &x, &[odd, 0.0].repeat(batch), &rule);
            let (weights, idle) = (layer.weights, vec![0.0; batch * D_IN]);
            for i in 0..D_IN {
                assert!(!weights.get(0, i, 0).is_finite() && weights.get(0, i, 1) == 1.0, "{isa}");
            }
            let y = call.forward(shape, &idle, &weights.to_row_major(), None, Activation::Relu);
            let plan = RoutePlan::single(batch).unwrap();
            let mut out = vec![0.0; batch * 2];
            let (x, to) = (MatrixRef::new(&idle, batch, D_IN), MatrixMut::new(&mut out, batch, 2));
            let f = Activation::Relu;
            kernels::forward(&plan, x.unwrap(), &weights, None, f, to.unwrap()).unwrap();
            assert!(
                out.chunks(2).chain(y.chunks(2)).all(|y| y[0].is_nan() && y[1] == 0.0),
                "{isa}"
            );
        }
    }
}

#[test]
fn sizes_of_zero_and_one() {
    let on_all: [(_, Check); 6] = [
        ("forward", forward),
        ("feedback", feedback),
        ("route", route),
        ("update-sgd", sgd),
        ("update-momentum", momentum),
        ("update-adamw", adamw),
    ];
    let on_one: [(_, Check); 2] = [("softmax", softmax_cross_entropy), ("squared", squared_error)];
    let all = on_all.map(|(verb, check)| (verb, check, isas()));
    for (verb, check, isas) in all.into_iter().chain(on_one.map(|(v, c)| (v, c, no_isa()))) {
        for isa in isas {
            for n in 0..16 * 4 {
                let sizes = (n & 1, n >> 1 & 1, n >> 2 & 1, 1 + (n >> 3 & 1));
                check(&mut Case::sized(verb, isa, n as u64, sizes), &mut Worst::default());
            }
        }
    }
}

/// A router of one direction, on inputs one value wide, where each score is `input * prototype`.
fn scores_are_products(prototypes: &[f32], bias: &[f32], mean: Option<f32>) -> Router {
    Router {
        d_in: 1,
        width: 1,
        areas: prototypes.len(),
        projection: vec![1.0],
        prototypes: prototypes.to_vec(),
        mean: mean.map(|m| vec![m]),
        bias: bias.to_vec(),
        similarity: Similarity::Dot,
    }
}

#[test]
fn routing_breaks_ties_and_survives_nan() {
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    let none = [0.0; 4];
    for isa in isas() {
        let route = |inputs: &[f32], mut router: Router| {
            let z = vec![0; inputs.len()];
            let pads = [common::Pad { lead: 1, gap: 2 }; 4];
            let call = common::calls::Call { isa, z: &z, areas: 1, pads, fill: NAN };
            let dot = call.route(&router, inputs).areas().to_vec();
            router.similarity = Similarity::Cosine;
            (dot, call.route(&router, inputs).areas().to_vec())
        };
        let same = |inputs: &[f32], router, want: &[u32]| {
            assert_eq!(route(inputs, router), (want.to_vec(), want.to_vec()), "{isa}");
        };
        // Equal scores: the lowest; the bias decides; equal again: the lowest.
        same(&[1.0, -1.0], scores_are_products(&[1.0; 4], &none, None), &[0, 0]);
        same(&[1.0, -1.0], scores_are_products(&[0.5, 1.0, 1.0, 0.5], &none, None), &[1, 0]);
        same(&[1.0], scores_are_products(&[1.0; 4], &[0.0, 0.0, 0.25, 0.25], None), &[2]);
        // A zero row, a row that equals the mean, and a row whose every score is NaN go to area 0.
        same(
            &[0.0, 2.0, NAN, 3.0],
            scores_are_products(&[-1.0, 1.0, 2.0], &none[..3], None),
            &[0, 2, 0, 2],
        );
        same(&[0.1, 0.3], scores_are_products(&[-1.0, 1.0, 2.0], &none[..3], Some(0.1)), &[0, 2]);
        // A NaN score never wins; nor do two of -inf.
        same(&[1.0, -1.0], scores_are_products(&[NAN, -3.0, NAN, -2.0], &none, None), &[3, 1]);
        same(&[1.0, -1.0], scores_are_products(&[NAN; 4], &none, None), &[0, 0]);
        same(&[1.0], scores_are_products(&[3.0, 2.0, 1.0, 0.0], &[NAN, NAN, 0.0, 0.0], None), &[2]);
        same(&[1.0], scores_are_products(&[3.0, 2.0, 1.0, 0.0], &[-INF; 4], None), &[0]);
        same(&[1.0, -1.0], scores_are_products(&[0.0, INF, 9.0, -INF], &none, None), &[1, 3]);
        // The length of 1e25 does not overflow, though its square does.
        same(&[1e25, -1e25], scores_are_products(&[-1.0, 1.0, 2.0], &none[..3], None), &[2, 0]);
        // An infinite row has no direction: inf / inf.
        let (dot, cosine) = route(&[INF], scores_are_products(&[-1.0, 1.0, 2.0], &none[..3], None));
        assert_eq!((dot, cosine), (vec![1], vec![0]), "{isa}");
    }
}

/// Asks for a refusal of every size that is one off. `run` says whether the verb accepted these sizes, and checks that a
/// refusal changed nothing.
fn each_wrong_size(verb: &str, good: &[usize], run: impl Fn(&[usize]) -> bool) {
    assert!(run(good), "{verb} refuses {good:?}");
    for i in 0..good.len() {
        for wrong in [good[i] - 1, good[i] + 1] {
            let mut sizes = good.to_vec();
            sizes[i] = wrong;
            assert!(!run(&sizes), "{verb} accepts {sizes:?} for {good:?}");
        }
    }
}

#[test]
fn wrong_sizes_are_errors_and_change_nothing() {
    let isa = Isa::detect().unwrap();
    let plan = |batch: usize, areas| RoutePlan::new(&vec![0; batch], areas).unwrap();
    let matrix = |rows, cols| Matrix::from_slice(rows, cols, &vec![7.0; rows * cols]).unwrap();
    let panels = |areas, d_in, d_out| {
        let values = vec![0.5; areas * d_in * d_out];
        Panels::from_row_major(isa, areas, d_in, d_out, &values).unwrap()
    };
    let unchanged = |accepted: bool, out: &Matrix| {
        assert!(accepted || out.as_slice().iter().all(|&x| x == 7.0));
        accepted
    };

    // plan: batch, areas; inputs; weights; bias; out
    each_wrong_size("forward", &[4, 3, 4, 5, 3, 5, 6, 3, 1, 6, 4, 6], |n| {
        let (x, mut out) = (matrix(n[2], n[3]), matrix(n[10], n[11]));
        let (w, b) = (panels(n[4], n[5], n[6]), panels(n[7], n[8], n[9]));
        let (plan, f) = (plan(n[0], n[1]), Activation::Relu);
        let done = kernels::forward(&plan, x.view(), &w, Some(&b), f, out.view_mut());
        unchanged(done.is_ok(), &out)
    });
    // plan: batch, areas; errors; feedback; outputs; out
    each_wrong_size("feedback", &[4, 3, 4, 5, 3, 5, 6, 4, 6, 4, 6], |n| {
        let (e, y, mut out) = (matrix(n[2], n[3]), matrix(n[7], n[8]), matrix(n[9], n[10]));
        let (plan, f) = (plan(n[0], n[1]), panels(n[4], n[5], n[6]));
        let done = kernels::feedback(&plan, e.view(), &f, Some(y.view()), out.view_mut());
        unchanged(done.is_ok(), &out)
    });
    // width of the inputs; projection; prototypes; mean; bias; routes: width, areas
    each_wrong_size("route", &[5, 1, 5, 3, 1, 3, 4, 5, 4, 3, 4], |n| {
        let (x, mean, bias) = (matrix(2, n[0]), vec![0.0; n[7]], vec![0.0; n[8]]);
        let params = RouteParams {
            projection: &panels(n[1], n[2], n[3]),
            prototypes: &panels(n[4], n[5], n[6]),
            mean: Some(&mean),
            bias: &bias,
            similarity: Similarity::Dot,
        };
        let mut routes = Routes::new(n[9], n[10]).unwrap();
        let accepted = kernels::route(x.view(), &params, &mut routes).is_ok();
        assert_eq!(routes.areas().len(), if accepted { 2 } else { 0 });
        accepted
    });
    // logits; labels; error
    each_wrong_size("softmax", &[4, 3, 4, 4, 3], |n| {
        let (a, labels, mut e) = (matrix(n[0], n[1]), vec![0; n[2]], matrix(n[3], n[4]));
        let done = kernels::softmax_cross_entropy(a.view(), &labels, e.view_mut());
        unchanged(done.is_ok(), &e)
    });
    each_wrong_size("squared", &[4, 3, 4, 3, 4, 3], |n| {
        let (a, t, mut e) = (matrix(n[0], n[1]), matrix(n[2], n[3]), matrix(n[4], n[5]));
        let done = kernels::squared_error(a.view(), t.view(), e.view_mut());
        unchanged(done.is_ok(), &e)
    });
    // plan: batch, areas; inputs; deltas; weights; bias; what the moments were made for: weights, columns of the bias
    each_wrong_size("update", &[4, 3, 4, 5, 4, 6, 3, 5, 6, 3, 1, 6, 3, 5, 6, 6], |n| {
        let (x, d) = (matrix(n[2], n[3]), matrix(n[4], n[5]));
        let (weights, bias) = (panels(n[6], n[7], n[8]), Some(panels(n[9], n[10], n[11])));
        let (of, of_bias) = (panels(n[12], n[13], n[14]), panels(n[12], 1, n[15]));
        let moments = Moments::new(Optimizer::ADAMW, &of, Some(&of_bias)).unwrap();
        update_or_nothing(&plan(n[0], n[1]), &x, &d, RULE, Layer { weights, bias, moments })
    });

    let mut e = matrix(2, 3);
    let wrong_label = kernels::softmax_cross_entropy(matrix(2, 3).view(), &[0, 3], e.view_mut());
    assert!(!unchanged(wrong_label.is_ok(), &e));
    let layer = |made_for| {
        let (weights, bias) = (panels(3, 5, 6), Some(panels(3, 1, 6)));
        let moments = Moments::new(made_for, &weights, bias.as_ref()).unwrap();
        Layer { weights, bias, moments }
    };
    let (plan, x, d) = (plan(4, 3), matrix(4, 5), matrix(4, 6));
    let momentum = |momentum| Optimizer::Momentum { momentum };
    let adamw = |beta1, beta2, eps| Optimizer::AdamW { beta1, beta2, eps };
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for (made_for, rule) in [
        (Optimizer::Sgd, RULE),
        (momentum(0.9), RULE),
        (RULE.optimizer, UpdateRule { optimizer: Optimizer::Sgd, ..RULE }),
        (RULE.optimizer, UpdateRule { lr: nan, ..RULE }),
        (RULE.optimizer, UpdateRule { weight_decay: inf, ..RULE }),
        (RULE.optimizer, UpdateRule { optimizer: adamw(1.0, 0.9, 1e-8), ..RULE }),
        (RULE.optimizer, UpdateRule { optimizer: adamw(0.9, -0.1, 1e-8), ..RULE }),
        (RULE.optimizer, UpdateRule { optimizer: adamw(0.9, 0.9, 0.0), ..RULE }),
        (RULE.optimizer, UpdateRule { optimizer: adamw(0.9, 0.9, nan), ..RULE }),
        (momentum(0.9), UpdateRule { optimizer: momentum(nan), ..RULE }),
        (momentum(0.9), UpdateRule { optimizer: momentum(1.0), ..RULE }),
    ] {
        assert!(!update_or_nothing(&plan, &x, &d, rule, layer(made_for)), "{made_for:?}, {rule:?}");
    }
}

const RULE: UpdateRule = UpdateRule {
    optimizer: Optimizer::ADAMW,
    lr: 0.5,
    weight_decay: 0.0,
    averaging: Averaging::Area,
};

/// Whether the update is accepted; if it is not, nothing may have changed.
fn update_or_nothing(
    plan: &RoutePlan,
    inputs: &Matrix,
    deltas: &Matrix,
    rule: UpdateRule,
    mut layer: Layer,
) -> bool {
    let state = |l: &Layer| {
        let tensors = l.tensors().into_iter().flat_map(|t| t.each().map(|(_, v)| bits(v)));
        (tensors.collect::<Vec<_>>(), l.moments.steps().to_vec())
    };
    let before = state(&layer);
    let params = Trainable {
        weights: &mut layer.weights,
        bias: layer.bias.as_mut(),
        moments: &mut layer.moments,
    };
    let accepted = kernels::update(plan, inputs.view(), deltas.view(), &rule, params).is_ok();
    assert!(accepted || state(&layer) == before);
    accepted
}

#[test]
fn operands_of_two_instruction_sets_are_an_error() {
    let available = Isa::available();
    let [a, .., b] = available[..] else { return common::say("skipped: only one instruction set") };
    let panels = |isa| Panels::zeros(isa, 1, 1, 1).unwrap();
    let (plan, x, mut y) = (RoutePlan::single(1).unwrap(), [1.0], [7.0]);
    let x = MatrixRef::new(&x, 1, 1).unwrap();
    let (w, mut bias) = (panels(a), panels(b));
    let out = MatrixMut::new(&mut y, 1, 1).unwrap();
    let error = kernels::forward(&plan, x, &w, Some(&bias), Activation::Relu, out).unwrap_err();
    assert!(matches!(error, KernelError::Isa { .. }), "{error}");
    assert_eq!(y, [7.0]);

    let mut moments = Moments::new(Optimizer::Sgd, &w, Some(&bias)).unwrap();
    let rule = UpdateRule { optimizer: Optimizer::Sgd, ..RULE };
    let weights = &mut panels(a);
    let params = Trainable { weights, bias: Some(&mut bias), moments: &mut moments };
    let error = kernels::update(&plan, x, x, &rule, params).unwrap_err();
    assert!(matches!(error, KernelError::Isa { .. }), "{error}");

    let params = RouteParams {
        projection: &w,
        prototypes: &bias,
        mean: None,
        bias: &[0.0],
        similarity: Similarity::Dot,
    };
    let error = kernels::route(x, &params, &mut Routes::new(1, 1).unwrap()).unwrap_err();
    assert!(matches!(error, KernelError::Isa { .. }), "{error}");
}

/// One instruction set, for verbs that are the same code on all of them.
fn no_isa() -> Vec<Isa> {
    vec![Isa::from_name("portable").unwrap()]
}

/// Weights for a product, of one area for all in a quarter of the cases; NaN in areas without samples.
fn weights(case: &mut Case) -> (Shape, Vec<f32>) {
    let areas = if case.rng.one_in(4) { 1 } else { case.areas };
    let shape = Shape { areas, d_in: case.d_in, d_out: case.d_out };
    let mut weights = case.rng.values(areas * case.d_in * case.d_out);
    if areas == case.areas {
        case.poison_idle(&mut weights);
    }
    (shape, weights)
}

/// A bias for them.
fn vector(case: &mut Case, shape: Shape) -> Vec<f32> {
    let mut bias = case.rng.values(shape.areas * shape.d_out);
    if shape.areas == case.areas {
        case.poison_idle(&mut bias);
    }
    bias
}

/// Rows of `a` and `b` side by side.
fn beside(batch: usize, a: &[f32], a_cols: usize, b: &[f32], b_cols: usize) -> Vec<f32> {
    let row = |s: usize| [&a[s * a_cols..][..a_cols], &b[s * b_cols..][..b_cols]].concat();
    (0..batch).flat_map(row).collect()
}

/// Puts NaN, or an infinity and then NaN, into some of row `r`.
fn spoil(case: &mut Case, values: &mut [f32], cols: usize, r: usize) {
    if cols > 0 {
        let at = r * cols + case.rng.below(cols);
        values[at] = case.rng.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        if case.rng.one_in(2) {
            values[r * cols..][..cols].fill(f32::NAN);
        }
    }
}

/// Shuffles the batch, spoils one row of it, and runs it again into outputs that start as zeros: each other row must
/// come out with the bits it had. This also shows that neither its place in the batch (the height of its tile) nor
/// what the output held before matters.
fn rows_stay_apart(
    case: &mut Case,
    inputs: &[f32],
    before: &[f32],
    cols: usize,
    run: impl Fn(&Case, &[f32]) -> Vec<f32>,
) {
    rows_stay_apart_but(case, inputs, before, cols, 0, run);
}

/// As [`rows_stay_apart`], but the last `spare` columns of the inputs are never spoilt.
fn rows_stay_apart_but(
    case: &mut Case,
    inputs: &[f32],
    before: &[f32],
    cols: usize,
    spare: usize,
    run: impl Fn(&Case, &[f32]) -> Vec<f32>,
) {
    if case.batch == 0 || inputs.is_empty() {
        return;
    }
    let width = inputs.len() / case.batch;
    let mut order: Vec<usize> = (0..case.batch).collect();
    case.rng.shuffle(&mut order);
    let mut moved = rows_of(inputs, width, &order);
    let spoilt = case.rng.below(case.batch);
    let mut row = moved[spoilt * width..][..width - spare].to_vec();
    spoil(case, &mut row, width - spare, 0);
    moved[spoilt * width..][..row.len()].copy_from_slice(&row);

    let z = case.z.clone();
    case.z = order.iter().map(|&s| z[s]).collect();
    case.fill = 0.0;
    let after = run(case, &moved);
    case.z = z;
    let before = rows_of(before, cols, &order);
    for s in (0..case.batch).filter(|&s| s != spoilt) {
        let row = s * cols..(s + 1) * cols;
        let (a, b) = (bits(&before[row.clone()]), bits(&after[row]));
        assert_eq!(a, b, "row {s} (was {}) saw row {spoilt}", order[s]);
    }
}
