//! Repeats the training runs of the float64 oracle on every instruction set of this CPU.
//!
//! `oracle/generate.py` wrote the runs in `oracle/*.json`: configuration, initial tensors, data, the areas of each
//! layer, step and sample, and what came out: losses, the deltas of the first step, and all that was learned.
//!
//! Each expected element has its own bound. It is twice the largest deviation of 32 runs of the oracle with rounding
//! noise of float32 size, `(depth + 2) 2^-24` of each operand of each product: the usual bound of a float32 sum,
//! carried through ReLU, softmax, cosine and Adam's division, which turns a small error of a tiny gradient into a large
//! part of a step, by the oracle itself. What was never touched has the bound 0 and has to keep its bits.

use sal_kernels::kernels::{Averaging, Optimizer, Similarity};
use sal_kernels::model::{
    Feedback, FeedbackEntries, FeedbackMode, Layer, Network, NetworkConfig, Router, RouterConfig,
    RouterRule,
};
use sal_kernels::{Isa, MatrixRef, Panels};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Expected numbers were written with nine digits: a tenth of what float32 can tell apart.
const WRITTEN: f64 = 5e-9;

const CASES: usize = 20;

/// Named tensors, as [`Case::expected`] and [`Case::run`] list them.
type Results = BTreeMap<String, Vec<f64>>;

struct Expected {
    value: Vec<f64>,
    bound: Vec<f64>,
}

struct Case {
    name: String,
    json: Value,
    config: NetworkConfig,
    lr: f32,
    expected: BTreeMap<String, Expected>,
}

fn floats(json: &Value) -> Vec<f64> {
    json.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn f32s(json: &Value) -> Vec<f32> {
    floats(json).iter().map(|&x| x as f32).collect()
}

fn u32s(json: &Value) -> Vec<u32> {
    floats(json).iter().map(|&x| x as u32).collect()
}

fn cases() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("tests/oracle")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    assert_eq!(files.len(), CASES, "cases in tests/oracle");
    files.iter().map(|file| Case::read(file)).collect()
}

fn config(json: &Value) -> NetworkConfig {
    let text = |key: &str| json[key].as_str().expect("a name");
    let count = |key: &str| json[key].as_u64().expect("a count") as usize;
    let flag = |key: &str| json[key].as_bool().expect("true or false");
    let number = |key: &str| json[key].as_f64().expect("a number") as f32;
    NetworkConfig {
        inputs: count("inputs"),
        hidden: floats(&json["hidden"]).iter().map(|&x| x as usize).collect(),
        classes: count("classes"),
        areas: count("areas"),
        output_areas: count("output_areas"),
        tie: flag("tie"),
        router: RouterConfig {
            rule: match text("rule") {
                "fixed" => RouterRule::Fixed,
                "sharp" => RouterRule::Sharp,
                "label" => RouterRule::Label,
                other => panic!("rule {other}"),
            },
            similarity: match text("similarity") {
                "cosine" => Similarity::Cosine,
                "dot" => Similarity::Dot,
                other => panic!("similarity {other}"),
            },
            width: json["width"].as_u64().map(|r| r as usize),
            tau: number("tau"),
            alpha: number("alpha"),
            gamma: number("gamma"),
            lr: number("router_lr"),
            centred: flag("centred"),
        },
        feedback: match text("feedback") {
            "fa" => FeedbackMode::Sequential,
            "dfa" => FeedbackMode::Direct,
            "bp" => FeedbackMode::Backprop,
            other => panic!("feedback {other}"),
        },
        feedback_entries: FeedbackEntries::Gaussian,
        shared_feedback: flag("shared_feedback"),
        optimizer: match text("optimizer") {
            "sgd" => Optimizer::Sgd,
            "momentum" => Optimizer::Momentum { momentum: 0.9 },
            "adamw" => Optimizer::ADAMW,
            other => panic!("optimizer {other}"),
        },
        weight_decay: number("weight_decay"),
        averaging: match text("averaging") {
            "area" => Averaging::Area,
            "batch" => Averaging::Batch,
            "K" => Averaging::Load,
            "sqrt" => Averaging::Sqrt,
            "sum" => Averaging::Sum,
            other => panic!("averaging {other}"),
        },
        zero_output: flag("zero_output"),
        seed: 0,
    }
}

impl Case {
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).expect("a case");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let expected = json["expected"].as_object().expect("named tensors").iter();
        let expected = expected.map(|(name, tensor)| {
            let (value, bound) = (floats(&tensor["value"]), floats(&tensor["bound"]));
            (name.clone(), Expected { value, bound })
        });
        Self {
            name: file.file_stem().expect("a name").to_string_lossy().into_owned(),
            config: config(&json["config"]),
            lr: json["config"]["lr"].as_f64().expect("a learning rate") as f32,
            expected: expected.collect(),
            json,
        }
    }

    fn network(&self, isa: Isa) -> Network {
        let (config, widths) = (&self.config, self.config.widths());
        let layer = |l: usize| {
            let tensors = &self.json["layers"][l];
            let (d_in, d_out, areas) = (widths[l], widths[l + 1], config.areas_of(l));
            let panels = |key: &str, d_in: usize| {
                let values = f32s(&tensors[key]);
                let areas = values.len() / (d_in * d_out);
                Panels::from_row_major(isa, areas, d_in, d_out, &values).expect(key)
            };
            let router = tensors.get("projection").map(|projection| {
                let (p, c) = (f32s(projection), f32s(&tensors["prototypes"]));
                let shape = (d_in, areas, config.classes);
                Router::from_parts(isa, &config.router, shape, &p, &c).expect("a router")
            });
            let feedback = tensors.get("feedback").map(|_| match config.feedback {
                FeedbackMode::Sequential => panels("feedback", widths[l + 2]),
                _ => panels("feedback", config.classes),
            });
            let feedback = feedback.map(Feedback::Gaussian);
            let (weights, bias) = (panels("weights", d_in), panels("bias", 1));
            Layer::from_parts(config, l, weights, bias, router, feedback).expect("a layer")
        };
        let layers = (0..=config.hidden.len()).map(layer).collect();
        Network::from_layers(config, layers).expect("a network")
    }

    /// Trains as the oracle did; with `given`, samples use the oracle's areas instead of the network's own.
    fn run(&self, isa: Isa, given: bool) -> Results {
        let name = format!("{} on {isa}", self.name);
        let mut network = self.network(isa);
        let mut tape = network.tape().expect("a tape");
        let mut results = Results::new();
        let (x, y) = (f32s(&self.json["x"]), u32s(&self.json["y"]));
        let (mut x, mut y) = (&x[..], &y[..]);
        for (step, areas) in self.json["areas"].as_array().expect("steps").iter().enumerate() {
            let areas: Vec<_> = areas.as_array().expect("layers").iter().map(u32s).collect();
            let (batch, inputs) = (areas[0].len(), self.config.inputs);
            let data = MatrixRef::new(x, batch, inputs).expect("data");
            let labels = &y[..batch];
            (x, y) = (&x[batch * inputs..], &y[batch..]);
            let loss = if given {
                network.train_batch_routed(data, labels, self.lr, &areas, &mut tape)
            } else {
                network.train_batch(data, labels, self.lr, &mut tape)
            };
            let loss = loss.expect("a finite loss");
            results.entry("losses".into()).or_default().push(loss);
            for (l, layer) in tape.layers().iter().enumerate() {
                if let Some(routes) = layer.routes() {
                    assert_eq!(routes.areas(), areas[l], "{name}: areas of step {step}, layer {l}");
                }
                for k in 0..layer.plan().areas() {
                    let count = areas[l].iter().filter(|&&z| z == k as u32).count();
                    assert_eq!(layer.plan().occupancy(k), count, "{name}: area {k} of layer {l}");
                }
                if step == 0 {
                    results.insert(format!("delta {l}"), widen(layer.delta().as_slice()));
                }
            }
        }
        assert!(x.is_empty() && y.is_empty(), "{name}: data is left over");
        for (l, layer) in network.layers().iter().enumerate() {
            let mut put = |what: &str, values: &[f32]| {
                results.insert(format!("{what} {l}"), widen(values));
            };
            put("weights", &layer.weights().to_row_major());
            put("bias", &layer.bias().to_row_major());
            if let Some(router) = layer.router() {
                put("projection", &router.projection().to_row_major());
                put("mean", router.mean());
                put("selection bias", router.bias());
            }
        }
        results
    }

    /// The largest fraction of a bound that was used, or the first element outside of its bound.
    fn compare(&self, results: &Results) -> Result<f64, String> {
        if !results.keys().eq(self.expected.keys()) {
            return Err(format!("{}: got {:?}", self.name, results.keys()));
        }
        let mut most: f64 = 0.0;
        for (name, want) in &self.expected {
            let got = &results[name];
            if got.len() != want.value.len() || got.len() != want.bound.len() {
                return Err(format!("{}: {} values of {name}", self.name, got.len()));
            }
            for (i, (&got, (&want, &bound))) in
                got.iter().zip(want.value.iter().zip(&want.bound)).enumerate()
            {
                let (error, limit) = ((got - want).abs(), bound + WRITTEN * want.abs());
                if error.is_nan() || error > limit {
                    let case = &self.name;
                    return Err(format!("{case}: {name}[{i}] is {got}, want {want} +- {bound}"));
                }
                if bound > 0.0 {
                    most = most.max(error / limit);
                }
            }
        }
        Ok(most)
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

fn repeat(given: bool) {
    for case in cases() {
        for isa in Isa::available() {
            match case.compare(&case.run(isa, given)) {
                Ok(most) => {
                    println!("{:22} {:9} {most:.2} of the bound", case.name, isa.name().as_str())
                }
                Err(error) => panic!("on {isa}: {error}"),
            }
        }
    }
}

#[test]
fn training_with_the_oracles_areas_gives_the_oracles_results() {
    repeat(true);
}

#[test]
fn routers_choose_the_oracles_areas_by_themselves() {
    repeat(false);
}

#[test]
fn an_area_without_samples_keeps_its_bits() {
    let mut kept = 0;
    for case in cases() {
        let steps = case.json["areas"].as_array().expect("steps");
        for isa in Isa::available() {
            let (before, after) = (case.network(isa), case.run(isa, true));
            for (l, layer) in before.layers().iter().enumerate() {
                let used = |k: usize| steps.iter().any(|z| u32s(&z[l]).contains(&(k as u32)));
                for k in (0..layer.areas()).filter(|&k| !used(k)) {
                    for (what, initial) in [("weights", layer.weights()), ("bias", layer.bias())] {
                        let len = initial.d_in() * initial.d_out();
                        let initial = widen(&initial.to_row_major()[k * len..][..len]);
                        assert_eq!(after[&format!("{what} {l}")][k * len..][..len], initial);
                        kept += 1;
                    }
                }
            }
        }
    }
    assert!(kept > 0, "every area of every case had samples");
}

/// The comparison itself: an element that is off by four times its bound is found, in every tensor.
#[test]
fn a_perturbed_value_fails() {
    let isa = Isa::detect().expect("an instruction set");
    for case in cases() {
        let results = case.run(isa, true);
        case.compare(&results).expect("the right results");
        for (name, want) in &case.expected {
            for factor in [4.0, -4.0] {
                let mut wrong = results.clone();
                let bound = want.bound[0].max(1e-7);
                wrong.get_mut(name).expect("a tensor")[0] += factor * bound;
                assert!(case.compare(&wrong).is_err(), "{}: {name} may be anything", case.name);
            }
        }
        let mut wrong = results.clone();
        wrong.get_mut("losses").expect("losses")[0] = f64::NAN;
        assert!(case.compare(&wrong).is_err(), "{}: NaN passes", case.name);
    }
}
