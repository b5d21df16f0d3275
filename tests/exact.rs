//! Whole numbers leave no room for rounding: on them every instruction set gives the bits of the oracle.
//!
//! Sums stay below 2^24 in units of their smallest bit, so every order of summation, fused or not, is exact. On any
//! data, instruction sets with a fused multiply-add give the same bits, as each element is one chain in one order.

mod common;

use common::calls::{Call, Layer, Router};
use common::{Case, Pad, Rng, bits, f64s, for_each_case, isas};
use sal_kernels::kernels::{Activation, Averaging, Optimizer, Routes, Similarity, UpdateRule};
use sal_kernels::reference::{self, Shape};
use sal_kernels::{Isa, IsaName};

/// Runs `check` on cases made for the widest instruction set, whose shapes are odd for all others too.
fn for_each_exact_case(verb: &'static str, check: impl Fn(&mut Case, &[Isa]) + Sync) {
    let isas = isas();
    let widest = isas.iter().copied().max_by_key(|isa| isa.panel_width()).unwrap();
    for_each_case(verb, &[widest], |case, _| check(case, &isas));
}

/// The bits that `f` gives on each instruction set.
fn on_each<'a>(
    case: &'a Case,
    isas: &'a [Isa],
    f: impl Fn(Call<'a>) -> Vec<f32>,
) -> Vec<(Isa, Vec<u32>)> {
    isas.iter().map(|&isa| (isa, bits(&f(Call { isa, ..case.call() })))).collect()
}

/// The bits of exact values.
fn exact(values: &[f64]) -> Vec<u32> {
    let narrow = |&x: &f64| {
        let y = x as f32;
        assert!(f64::from(y) == x, "{x} is no f32: the case is not exact");
        // A sum that is zero is +0: it starts there.
        (y + 0.0).to_bits()
    };
    values.iter().map(narrow).collect()
}

#[test]
fn forward_is_exact_on_integers() {
    for_each_exact_case("forward-exact", |case, isas| {
        let shape = Shape { areas: case.areas, d_in: case.d_in, d_out: case.d_out };
        let x = case.rng.integers(case.batch * case.d_in, 8);
        let w = case.rng.integers(case.areas * case.d_in * case.d_out, 8);
        let b = case.rng.integers(case.areas * case.d_out, 8);
        let a = reference::forward(shape, &case.z, &f64s(&x), &f64s(&w), Some(&f64s(&b)));
        let want = exact(&reference::relu(&a.value));
        let run = |call: Call<'_>| call.forward(shape, &x, &w, Some(&b), Activation::Relu);
        for (isa, got) in on_each(case, isas, run) {
            assert_eq!(got, want, "{isa}");
        }
    });
}

#[test]
fn feedback_through_signs_is_exact_on_integers() {
    for_each_exact_case("signs-exact", |case, isas| {
        let shape = Shape { areas: case.areas, d_in: case.d_in, d_out: case.d_out };
        let e = case.rng.integers(case.batch * case.d_in, 8);
        let y = case.rng.integers(case.batch * case.d_out, 2);
        let f = case.rng.integers(case.areas * case.d_in * case.d_out, 8);
        let f: Vec<f32> = f.iter().map(|v| 4f32.copysign(*v)).collect();
        let want = reference::feedback(shape, &case.z, &f64s(&e), &f64s(&f), Some(&f64s(&y)));
        let want = exact(&want.value);
        for (isa, got) in
            on_each(case, isas, |call| call.feedback_signs(shape, &e, (4.0, &f), Some(&y)))
        {
            assert_eq!(got, want, "{isa}");
        }
    });
}

#[test]
fn feedback_is_exact_on_integers() {
    for_each_exact_case("feedback-exact", |case, isas| {
        let shape = Shape { areas: case.areas, d_in: case.d_in, d_out: case.d_out };
        let e = case.rng.integers(case.batch * case.d_in, 8);
        let f = case.rng.integers(case.areas * case.d_in * case.d_out, 8);
        let y = case.rng.integers(case.batch * case.d_out, 2);
        let want = reference::feedback(shape, &case.z, &f64s(&e), &f64s(&f), Some(&f64s(&y)));
        let want = exact(&want.value);
        for (isa, got) in on_each(case, isas, |call| call.feedback(shape, &e, &f, Some(&y))) {
            assert_eq!(got, want, "{isa}");
        }
    });
}

#[test]
fn sgd_is_exact_on_integers() {
    for_each_exact_case("sgd-exact", |case, isas| {
        let shape = Shape { areas: case.areas, d_in: case.d_in, d_out: case.d_out };
        let x = case.rng.integers(case.batch * case.d_in, 8);
        let d = case.rng.integers(case.batch * case.d_out, 8);
        let w = case.rng.integers(case.areas * case.d_in * case.d_out, 8);
        let b = case.rng.integers(case.areas * case.d_out, 8);
        // Sums of whole numbers, times powers of two: keep = 1 - 1/4.
        let lr = case.rng.pick(&[0.25, 0.5, 2.0]);
        let rule = UpdateRule {
            optimizer: Optimizer::Sgd,
            lr,
            weight_decay: if case.rng.one_in(2) { 0.25 / lr } else { 0.0 },
            averaging: Averaging::Sum,
        };
        let averaging = reference::Averaging::Sum;
        let g = reference::gradient(shape, &case.z, &f64s(&x), &f64s(&d), averaging);
        let steps: Vec<_> = g.occupancy.iter().map(|&n| (n > 0).then_some(1)).collect();
        let after = |old: &[f32], g: &[f64], decay: f32| {
            let old =
                reference::Parameters { values: f64s(old), first: Vec::new(), second: Vec::new() };
            let rule = common::calls::rule(&rule, decay);
            reference::update(&old, g, &steps, rule).values
        };
        let mut want = after(&w, &g.weights.value, rule.weight_decay);
        want.extend(after(&b, &g.bias.value, 0.0));
        let want = exact(&want);
        let run = |call: Call<'_>| {
            let mut layer = call.layer(shape, &w, Some(&b), rule.optimizer);
            call.update(&mut layer, &x, &d, &rule);
            values(&layer)
        };
        for (isa, got) in on_each(case, isas, run) {
            assert_eq!(got, want, "{isa}");
        }
    });
}

#[test]
fn projections_and_dot_scores_are_exact_on_integers() {
    for_each_exact_case("route-exact", |case, isas| {
        let router = Router {
            d_in: case.d_in,
            width: case.d_out,
            areas: case.areas,
            projection: case.rng.integers(case.d_out * case.d_in, 2),
            prototypes: case.rng.integers(case.areas * case.d_out, 2),
            mean: (!case.rng.one_in(4)).then(|| case.rng.integers(case.d_in, 2)),
            bias: case.rng.integers(case.areas, 3),
            similarity: Similarity::Dot,
        };
        let x = case.rng.integers(case.batch * case.d_in, 2);
        let mean = router.mean.as_deref().map_or(vec![0.0; case.d_in], f64s);
        let want = reference::route(
            &reference::Router {
                d_in: case.d_in,
                width: case.d_out,
                areas: case.areas,
                projection: &f64s(&router.projection),
                prototypes: &f64s(&router.prototypes),
                mean: &mean,
                bias: &f64s(&router.bias),
                cosine: false,
            },
            case.batch,
            &f64s(&x),
        );
        let (u, s) = (exact(&want.projections.value), exact(&want.scores.value));
        for &isa in isas {
            let got: Routes = Call { isa, ..case.call() }.route(&router, &x);
            assert_eq!(bits(got.directions().as_slice()), u, "{isa}: projections");
            assert_eq!(bits(got.scores().as_slice()), s, "{isa}: scores");
            // Exact scores have exact ties, which both sides must break alike.
            assert_eq!(got.areas(), want.areas, "{isa}: areas");
        }
    });
}

#[test]
fn fused_instruction_sets_agree_to_the_bit() {
    let fused = Isa::available().into_iter().filter(|i| i.name() != IsaName::Portable);
    let fused: Vec<Isa> = fused.collect();
    if fused.len() < 2 {
        return common::say("skipped: fewer than two instruction sets with fused kernels here");
    }
    for_each_case("fused-agree", &fused[fused.len() - 1..], |case, _| {
        let shape = Shape { areas: case.areas, d_in: case.d_in, d_out: case.d_out };
        let x = case.rng.values(case.batch * case.d_in);
        let w = case.rng.values(case.areas * case.d_in * case.d_out);
        let b = case.rng.values(case.areas * case.d_out);
        let d = case.rng.values(case.batch * case.d_out);
        let p = case.rng.values(case.d_out * case.d_in);
        let c = case.rng.values(case.areas * case.d_out);
        let router = Router {
            d_in: case.d_in,
            width: case.d_out,
            areas: case.areas,
            projection: p,
            prototypes: c,
            mean: Some(case.rng.values(case.d_in)),
            bias: case.rng.values(case.areas),
            similarity: Similarity::Cosine,
        };
        let rule = UpdateRule {
            optimizer: Optimizer::ADAMW,
            lr: 0.01,
            weight_decay: 0.1,
            averaging: Averaging::Sqrt,
        };
        let run = |call: Call<'_>| {
            let mut layer = call.layer(shape, &w, Some(&b), rule.optimizer);
            call.update(&mut layer, &x, &d, &rule);
            let routes = call.route(&router, &x);
            [
                call.forward(shape, &x, &w, Some(&b), Activation::Relu),
                call.feedback(shape, &x, &w, Some(&d)),
                values(&layer),
                routes.directions().as_slice().to_vec(),
                routes.scores().as_slice().to_vec(),
            ]
            .concat()
        };
        let all = on_each(case, &fused, run);
        for (isa, got) in &all[1..] {
            assert_eq!(got, &all[0].1, "{isa} against {}", all[0].0);
        }
    });
}

#[test]
fn one_hot_area_is_a_dense_layer() {
    for_each_case("hot-area", &isas(), |case, _| {
        let hot = case.rng.below(case.areas);
        case.z.fill(hot as u32);
        let shape = Shape { areas: case.areas, d_in: case.d_in, d_out: case.d_out };
        let dense = Shape { areas: 1, ..shape };
        let x = case.rng.values(case.batch * case.d_in);
        let w = case.rng.values(case.areas * case.d_in * case.d_out);
        let d = case.rng.values(case.batch * case.d_out);
        let own = |w: &[f32]| w[hot * case.d_in * case.d_out..][..case.d_in * case.d_out].to_vec();
        let averaging = case.rng.pick(&[Averaging::Area, Averaging::Batch, Averaging::Sqrt]);
        let (call, f) = (case.call(), Activation::Identity);
        let zeros = vec![0; case.batch];
        let alone = Call { z: &zeros, areas: 1, ..call };
        let (y, y_dense) =
            (call.forward(shape, &x, &w, None, f), alone.forward(dense, &x, &own(&w), None, f));
        assert_eq!(bits(&y), bits(&y_dense));

        let rule =
            UpdateRule { optimizer: Optimizer::ADAMW, lr: 0.1, weight_decay: 0.1, averaging };
        let mut layer = call.layer(shape, &w, None, rule.optimizer);
        let mut lone = alone.layer(dense, &own(&w), None, rule.optimizer);
        for _ in 0..2 {
            call.update(&mut layer, &x, &d, &rule);
            alone.update(&mut lone, &x, &d, &rule);
        }
        assert_eq!(layer.area_bits(hot), lone.area_bits(0));
    });
}

/// Weights and biases.
fn values(layer: &Layer) -> Vec<f32> {
    layer.tensors().into_iter().flat_map(|t| t.values).collect()
}

/// What must come out where something special went in, compared by value: any NaN equals any NaN.
fn assert_same(got: &[f32], want: &[f64], what: &str) {
    for (n, (&got, &want)) in got.iter().zip(want).enumerate() {
        let want = want as f32;
        assert!(
            got == want || (got.is_nan() && want.is_nan()),
            "{what}: [{n}] = {got}, want {want}"
        );
    }
}

#[test]
fn special_values_come_out_as_in_the_oracle() {
    let denormal = f32::from_bits(1 << 9); // 2^-140: exact under small factors
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, denormal, -denormal];
    for isa in isas() {
        // One row more than the tallest tile, one column more than a panel.
        let (batch, d_in, d_out) = (isa.tile_heights()[0] + 1, 3, isa.panel_width() + 1);
        let shape = Shape { areas: 2, d_in, d_out };
        let z: Vec<u32> = (0..batch as u32).map(|s| s % 2).collect();
        let call = Call { isa, z: &z, areas: 2, pads: [Pad::default(); 4], fill: f32::NAN };
        let mut rng = Rng::new(3);
        let x = rng.integers(batch * d_in, 3);
        let w = rng.integers(2 * d_in * d_out, 3);
        let b = rng.integers(2 * d_out, 3);
        let y = rng.integers(batch * d_out, 1);
        let rule = UpdateRule {
            optimizer: Optimizer::Sgd,
            lr: 0.5,
            weight_decay: 0.0,
            averaging: Averaging::Sum,
        };
        let check = |x: &[f32], w: &[f32], b: &[f32], y: &[f32], what: &str| {
            let (x64, w64, b64, y64) = (f64s(x), f64s(w), f64s(b), f64s(y));
            let a = reference::forward(shape, &z, &x64, &w64, Some(&b64)).value;
            let got = call.forward(shape, x, w, Some(b), Activation::Identity);
            assert_same(&got, &a, &format!("{isa} forward, {what}"));
            let got = call.forward(shape, x, w, Some(b), Activation::Relu);
            assert_same(&got, &reference::relu(&a), &format!("{isa} relu, {what}"));
            let want = reference::feedback(shape, &z, &x64, &w64, Some(&y64)).value;
            let got = call.feedback(shape, x, w, Some(y));
            assert_same(&got, &want, &format!("{isa} feedback, {what}"));

            let g = reference::gradient(shape, &z, &x64, &y64, reference::Averaging::Sum);
            let old = reference::Parameters { values: w64, first: Vec::new(), second: Vec::new() };
            let want = reference::update(
                &old,
                &g.weights.value,
                &[Some(1); 2],
                common::calls::rule(&rule, 0.0),
            );
            let mut layer = call.layer(shape, w, Some(b), Optimizer::Sgd);
            call.update(&mut layer, x, y, &rule);
            let got = layer.weights.to_row_major();
            assert_same(&got, &want.values, &format!("{isa} update, {what}"));
        };
        for special in specials {
            for at in 0..w.len().max(y.len()) {
                let put = |values: &[f32]| {
                    let mut values = values.to_vec();
                    let len = values.len();
                    values[at % len] = special;
                    values
                };
                if at < x.len() {
                    check(&put(&x), &w, &b, &y, &format!("{special} at {at} of the inputs"));
                }
                if at < w.len() {
                    check(&x, &put(&w), &b, &y, &format!("{special} at {at} of the weights"));
                }
                if at < b.len() {
                    check(&x, &w, &put(&b), &y, &format!("{special} at {at} of the bias"));
                }
                if at < y.len() {
                    check(&x, &w, &b, &put(&y), &format!("{special} at {at} of the outputs"));
                }
            }
        }
    }
}
