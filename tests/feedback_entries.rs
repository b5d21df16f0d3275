//! Networks whose feedback holds one bit an entry: a step against the oracle with the explicit matrix of +-scale, the
//! scale itself, the warm start.

mod common;

use common::bounds::chain;
use common::{Rng, Worst, bits, f64s, isas, say};
use sal_kernels::model::{
    Feedback, FeedbackEntries, FeedbackMode, Layer, ModelError, Network, NetworkConfig, Tape,
};
use sal_kernels::reference::{self, Shape};
use sal_kernels::{Isa, Matrix, Panels, Signs};

const BATCH: usize = 23;

/// Two hidden layers, so that an error passes through two matrices, neither a whole number of panels or words wide.
fn config(feedback: FeedbackMode, shared_feedback: bool, output_areas: usize) -> NetworkConfig {
    NetworkConfig {
        feedback,
        feedback_entries: FeedbackEntries::Sign,
        shared_feedback,
        output_areas,
        zero_output: false,
        seed: 5,
        ..NetworkConfig::tuned(6, &[37, 70], 5, 3)
    }
}

fn configs() -> Vec<NetworkConfig> {
    let modes = [FeedbackMode::Sequential, FeedbackMode::Direct];
    let all = modes.into_iter().flat_map(|mode| {
        let of = move |shared| [1, 3].map(|outputs| config(mode, shared, outputs));
        [false, true].into_iter().flat_map(of)
    });
    all.collect()
}

fn signs(layer: &Layer) -> &Signs {
    match layer.feedback() {
        Some(Feedback::Sign(signs)) => signs,
        other => panic!("want signs, got {other:?}"),
    }
}

/// The same network with its feedback as f32 matrices.
fn written_out(isa: Isa, network: &Network) -> Network {
    let config =
        NetworkConfig { feedback_entries: FeedbackEntries::Gaussian, ..network.config().clone() };
    let layers = network.layers().iter().enumerate().map(|(l, layer)| {
        let feedback = (l < config.hidden.len()).then(|| {
            let (f, values) = (signs(layer), signs(layer).to_row_major());
            let panels = Panels::from_row_major(isa, f.areas(), f.d_in(), f.d_out(), &values);
            Feedback::Gaussian(panels.unwrap())
        });
        let (w, b) = (layer.weights().clone(), layer.bias().clone());
        Layer::from_parts(&config, l, w, b, layer.router().cloned(), feedback).unwrap()
    });
    Network::from_layers(&config, layers.collect()).unwrap()
}

fn step(network: &mut Network, x: &Matrix, y: &[u32], z: &[Vec<u32>]) -> (f64, Tape) {
    let mut tape = network.tape().unwrap();
    let loss = network.train_batch_routed(x.view(), y, 0.01, z, &mut tape).unwrap();
    (loss, tape)
}

#[test]
fn a_step_through_signs_is_the_step_through_the_matrix_that_they_stand_for() {
    for isa in isas() {
        let mut worst = Worst::default();
        for config in configs() {
            let mut rng = Rng::new(3);
            let x: Vec<f32> = (0..BATCH * 6).map(|_| 2.0 * rng.unit() - 1.0).collect();
            let x = Matrix::from_slice(BATCH, 6, &x).unwrap();
            let y: Vec<u32> = (0..BATCH).map(|_| rng.below(5) as u32).collect();
            let of = |areas: usize, rng: &mut Rng| -> Vec<u32> {
                (0..BATCH).map(|_| rng.below(areas) as u32).collect()
            };
            let z: Vec<_> = (0..3).map(|l| of(config.areas_of(l), &mut rng)).collect();

            let mut network = Network::new(isa, &config).unwrap();
            let mut explicit = written_out(isa, &network);
            let matrices: Vec<_> = (0..2).map(|l| signs(&network.layers()[l]).clone()).collect();
            let start = network.weights_hash();
            assert_eq!(explicit.weights_hash(), start);
            let (loss, tape) = step(&mut network, &x, &y, &z);
            let (want, wanted) = step(&mut explicit, &x, &y, &z);
            // The way up is the same, to the bit.
            assert_eq!(loss.to_bits(), want.to_bits());
            assert_eq!(tape.logits().as_slice(), wanted.logits().as_slice());
            let error = tape.layers()[2].delta().as_slice();
            assert_eq!(error, wanted.layers()[2].delta().as_slice());

            // The way down: each delta against the exact product of what came in. Where that is not the same, the
            // difference comes down as well.
            let mut apart = vec![0.0; error.len()];
            for (l, f) in matrices.iter().enumerate().rev() {
                let direct = config.feedback == FeedbackMode::Direct;
                let from = if direct { 2 } else { l + 1 };
                let z = if direct { &z[l] } else { &z[l + 1] };
                if direct {
                    apart = vec![0.0; error.len()];
                }
                let shape = Shape { areas: f.areas(), d_in: f.d_in(), d_out: f.d_out() };
                let entries = f64s(&f.to_row_major());
                let outputs = f64s(tape.layers()[l].output().as_slice());
                let product = |errors: &[f64], f: &[f64]| {
                    reference::feedback(shape, z, errors, f, Some(&outputs))
                };
                let of = |tape: &Tape| f64s(tape.layers()[from].delta().as_slice());
                let (own, other) = (product(&of(&tape), &entries), product(&of(&wanted), &entries));
                let sizes: Vec<f64> = entries.iter().map(|x| x.abs()).collect();
                let moved = product(&apart, &sizes).value;
                let bound =
                    |m: f64, n: usize| if outputs[n] > 0.0 { chain(f.d_in(), m) } else { 0.0 };
                let got = tape.layers()[l].delta().as_slice();
                worst.check("oracle", got, &own.value, |n| bound(own.magnitude[n], n));
                let want = f64s(wanted.layers()[l].delta().as_slice());
                apart = (0..want.len())
                    .map(|n| bound(own.magnitude[n], n) + bound(other.magnitude[n], n) + moved[n])
                    .collect();
                worst.check("matrix", got, &want, |n| apart[n]);
                assert!(want.iter().any(|&d| d != 0.0), "layer {l} learns nothing");
            }
            // The output never saw F; the layers below it moved.
            let weights = |n: &Network, l: usize| bits(&n.layers()[l].weights().to_row_major());
            assert_eq!(weights(&network, 2), weights(&explicit, 2));
            let fresh = Network::new(isa, &config).unwrap();
            assert!((0..3).all(|l| weights(&network, l) != weights(&fresh, l)));
        }
        say(format_args!("{isa}: deltas through signs{worst}"));
    }
}

#[test]
fn both_formats_have_the_same_deviation_and_the_same_weights() {
    let isa = Isa::detect().unwrap();
    for config in configs() {
        let gaussian =
            NetworkConfig { feedback_entries: FeedbackEntries::Gaussian, ..config.clone() };
        let (network, other) =
            (Network::new(isa, &config).unwrap(), Network::new(isa, &gaussian).unwrap());
        assert_eq!(network.weights_hash(), other.weights_hash());
        for (l, width) in [37.0f64, 70.0].into_iter().enumerate() {
            let direct = config.feedback == FeedbackMode::Direct;
            let variance = if direct { 1.0 / 5.0 } else { 2.0 / width };
            let f = signs(&network.layers()[l]);
            assert_eq!(f.scale(), variance.sqrt() as f32);
            let sources = config.areas_of(if direct { l } else { l + 1 });
            assert_eq!(f.areas(), if config.shared_feedback { 1 } else { sources });
            let entries = f.to_row_major();
            assert!(entries.iter().all(|x| x.abs() == f.scale()));

            let values = f64s(&other.layers()[l].feedback().unwrap().to_row_major());
            assert_eq!(values.len(), entries.len());
            let (n, squares) = (values.len() as f64, values.iter().map(|x| x * x).sum::<f64>());
            let gap = (squares / n / variance - 1.0).abs();
            assert!(gap < 5.0 * (2.0 / n).sqrt(), "{gap} with {n} entries"); // five standard errors
        }
        assert!(network.layers()[2].feedback().is_none());
    }
}

#[test]
fn the_end_of_the_warm_start_gives_every_area_the_signs_of_the_first() {
    let isa = Isa::detect().unwrap();
    let mut network = Network::new(isa, &config(FeedbackMode::Direct, false, 1)).unwrap();
    let before: Vec<_> = (0..2).map(|l| signs(&network.layers()[l]).to_row_major()).collect();
    network.start_dense();
    network.spread().unwrap();
    for (l, before) in before.iter().enumerate() {
        let after = signs(&network.layers()[l]).to_row_major();
        let len = before.len() / 3;
        assert_ne!(before[..len], before[len..2 * len], "areas have their own signs");
        assert!(after.chunks(len).all(|area| area == &before[..len]), "layer {l}");
    }
}

#[test]
fn backpropagation_has_no_entries_to_choose() {
    let isa = Isa::detect().unwrap();
    let config = config(FeedbackMode::Backprop, false, 1);
    let error = Network::new(isa, &config).unwrap_err();
    assert!(matches!(error, ModelError::Config { what: "feedback entries", .. }), "{error}");
    let entries = FeedbackEntries::Gaussian;
    assert!(Network::new(isa, &NetworkConfig { feedback_entries: entries, ..config }).is_ok());
}
