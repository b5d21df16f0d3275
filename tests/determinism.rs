//! The number of threads changes no bit: each verb in pools of 1, 2, 3, 5 and 8 threads, and again; then whole steps.
//!
//! The sizes make at least one task for each of eight threads: `gemm/schedule.rs` asks for 2^19 multiply-adds a task.
#![cfg(feature = "rayon")]

mod common;

use common::calls::{Call, Router};
use common::{Pad, Rng, bits, in_pool, isas, say};
use sal_kernels::kernels::{Activation, Averaging, Optimizer, Similarity, UpdateRule};
use sal_kernels::model::{FeedbackEntries, FeedbackMode, Network, NetworkConfig};
use sal_kernels::reference::Shape;
use sal_kernels::{Isa, Matrix};

const THREADS: [usize; 5] = [1, 2, 3, 5, 8];
const BATCH: usize = 203;
const D_IN: usize = 150;
const D_OUT: usize = 171;
const AREAS: usize = 5;
const _: () = assert!(BATCH * D_IN * D_OUT > 8 << 19);

const SHAPE: Shape = Shape { areas: AREAS, d_in: D_IN, d_out: D_OUT };

/// How the samples fall on the areas.
fn profiles() -> [(&'static str, Vec<u32>); 3] {
    let balanced = (0..BATCH as u32).map(|s| s * 7 % AREAS as u32).collect();
    let hot = (0..BATCH as u32).map(|s| if s % 40 == 0 { 4 } else { 1 }).collect();
    [("balanced", balanced), ("hot area", hot), ("one area", vec![2; BATCH])]
}

/// Runs `verb` on the same data on each instruction set and profile, in each pool, and compares bits; `repeats` times in
/// the pool of 5.
fn same_in_every_pool<D: Sync>(
    name: &str,
    repeats: usize,
    data: impl Fn(&mut Rng) -> D,
    verb: impl Fn(Call<'_>, &D) -> Vec<u64> + Sync,
) {
    let data = data(&mut Rng::new(1));
    for isa in isas() {
        for (profile, z) in profiles() {
            let run = |threads| {
                let pads = [Pad { lead: 3, gap: 5 }; 4];
                let call = Call { isa, z: &z, areas: AREAS, pads, fill: f32::NAN };
                in_pool(threads, || verb(call, &data))
            };
            let alone = run(1);
            for threads in THREADS {
                for repeat in 0..if threads == 5 { repeats } else { 1 } {
                    assert!(
                        run(threads) == alone,
                        "SAL_REPRO verb={name} isa={isa} profile={profile} threads={threads} repeat={repeat}"
                    );
                }
            }
        }
        say(format_args!("{name} {isa}: equal bits with {THREADS:?} threads"));
    }
}

fn wide(values: &[f32]) -> Vec<u64> {
    bits(values).into_iter().map(u64::from).collect()
}

/// What the products need: inputs, weights, bias, gates.
fn tensors(rng: &mut Rng) -> [Vec<f32>; 4] {
    [BATCH * D_IN, AREAS * D_IN * D_OUT, AREAS * D_OUT, BATCH * D_OUT].map(|len| rng.values(len))
}

const SHARED: Shape = Shape { areas: 1, ..SHAPE };

#[test]
fn forward() {
    same_in_every_pool("forward", 20, tensors, |call, [x, w, b, _]| {
        wide(&call.forward(SHAPE, x, w, Some(b), Activation::Relu))
    });
}

#[test]
fn forward_with_one_matrix_for_all() {
    same_in_every_pool("forward-shared", 1, tensors, |call, [x, w, b, _]| {
        let (w, b) = (&w[..D_IN * D_OUT], &b[..D_OUT]);
        wide(&call.forward(SHARED, x, w, Some(b), Activation::Identity))
    });
}

#[test]
fn forward_in_blocks_of_the_depth() {
    const DEEP: usize = 1100;
    const FEW: usize = 40;
    const _: () = assert!(BATCH * DEEP * FEW > 8 << 19);
    let data = |rng: &mut Rng| (rng.values(BATCH * DEEP), rng.values(AREAS * DEEP * FEW));
    same_in_every_pool("forward-deep", 1, data, |call, (x, w)| {
        let shape = Shape { areas: AREAS, d_in: DEEP, d_out: FEW };
        wide(&call.forward(shape, x, w, None, Activation::Identity))
    });
}

#[test]
fn feedback() {
    same_in_every_pool("feedback", 1, tensors, |call, [e, f, _, y]| {
        let own = call.feedback(SHAPE, e, f, Some(y));
        let shared = call.feedback(SHARED, e, &f[..D_IN * D_OUT], Some(y));
        wide(&[own, shared].concat())
    });
}

#[test]
fn feedback_through_signs() {
    same_in_every_pool("feedback-signs", 1, tensors, |call, [e, f, _, y]| {
        wide(&call.feedback_signs(SHAPE, e, (0.5, f), Some(y)))
    });
}

#[test]
fn route() {
    let data = |rng: &mut Rng| {
        let router = Router {
            d_in: D_IN,
            width: D_OUT,
            areas: 160,
            projection: rng.values(D_OUT * D_IN),
            prototypes: rng.values(160 * D_OUT),
            mean: Some(rng.values(D_IN)),
            bias: vec![0.0; 160],
            similarity: Similarity::Cosine,
        };
        (router, rng.values(BATCH * D_IN))
    };
    same_in_every_pool("route", 1, data, |call, (router, x)| {
        let routes = call.route(router, x);
        let areas: Vec<f32> = routes.areas().iter().map(|&z| z as f32).collect();
        let (u, s) = (routes.directions().as_slice(), routes.scores().as_slice());
        wide(&[u, s, routes.norms(), &areas].concat())
    });
}

#[test]
fn loss() {
    let data = |rng: &mut Rng| {
        let labels: Vec<u32> = (0..BATCH).map(|_| rng.below(D_OUT) as u32).collect();
        (rng.values(BATCH * D_OUT), rng.values(BATCH * D_OUT), labels)
    };
    same_in_every_pool("loss", 1, data, |call, (a, t, labels)| {
        let (e, softmax) = call.softmax_cross_entropy(D_OUT, a, labels);
        let (d, squared) = call.squared_error(D_OUT, a, t);
        [wide(&e), wide(&d), vec![softmax.to_bits(), squared.to_bits()]].concat()
    });
}

#[test]
fn update() {
    let momentum = Optimizer::Momentum { momentum: 0.9 };
    for (name, optimizer, repeats, averaging) in [
        ("update-sgd", Optimizer::Sgd, 20, Averaging::Area),
        ("update-momentum", momentum, 1, Averaging::Load),
        ("update-adamw", Optimizer::ADAMW, 20, Averaging::Sqrt),
    ] {
        let rule = UpdateRule { optimizer, lr: 0.01, weight_decay: 0.1, averaging };
        same_in_every_pool(name, repeats, tensors, |call, [x, w, b, d]| {
            let mut layer = call.layer(SHAPE, w, Some(b), optimizer);
            for _ in 0..2 {
                call.update(&mut layer, x, d, &rule);
            }
            layer.all_bits()
        });
    }
}

/// Callers that share a pool do not meet in each other's results.
#[test]
fn concurrent_callers() {
    let z: Vec<u32> = (0..64).map(|s| s % 3).collect();
    let isa = Isa::detect().unwrap();
    let verb = |caller: usize| {
        let shape = Shape { areas: 3, d_in: 90 + caller, d_out: 130 + 7 * caller };
        let mut rng = Rng::new(caller as u64);
        let x = rng.values(z.len() * shape.d_in);
        let w = rng.values(3 * shape.d_in * shape.d_out);
        let pads = [Pad::default(); 4];
        let call = Call { isa, z: &z, areas: 3, pads, fill: f32::NAN };
        wide(&call.forward(shape, &x, &w, None, Activation::Relu))
    };
    let alone: Vec<_> = (0..8).map(verb).collect();
    std::thread::scope(|scope| {
        for (caller, alone) in alone.iter().enumerate() {
            let verb = &verb;
            scope.spawn(move || {
                for repeat in 0..25 {
                    let got = in_pool(3, || verb(caller));
                    assert!(got == *alone, "caller {caller}, repeat {repeat}");
                }
            });
        }
    });
}

/// Whole steps: what a verb alone cannot show is that the network hands its verbs the same work.
#[test]
fn networks_with_feedback_of_either_format() {
    const CLASSES: usize = 10;
    // The lookups of signs count a quarter.
    const WIDE: usize = 500;
    const _: () = assert!(BATCH * WIDE * D_OUT / 4 > 8 << 19);
    let mut rng = Rng::new(2);
    let x: Vec<f32> = (0..BATCH * D_IN).map(|_| rng.unit() - 0.5).collect();
    let x = Matrix::from_slice(BATCH, D_IN, &x).unwrap();
    let y: Vec<u32> = (0..BATCH).map(|_| rng.below(CLASSES) as u32).collect();
    for isa in isas() {
        for feedback in [FeedbackMode::Sequential, FeedbackMode::Direct] {
            let of = |feedback_entries| {
                let tuned = NetworkConfig::tuned(D_IN, &[D_OUT, WIDE], CLASSES, AREAS);
                let config = NetworkConfig { feedback, feedback_entries, ..tuned };
                let run = |threads| {
                    in_pool(threads, || {
                        let mut network = Network::new(isa, &config).unwrap();
                        let mut tape = network.tape().unwrap();
                        for _ in 0..2 {
                            network.train_batch(x.view(), &y, 0.01, &mut tape).unwrap();
                        }
                        network.weights_hash()
                    })
                };
                let alone = run(1);
                for threads in THREADS {
                    assert_eq!(run(threads), alone, "{isa}, {config:?}, {threads} threads");
                }
                alone
            };
            assert_ne!(of(FeedbackEntries::Gaussian), of(FeedbackEntries::Sign));
        }
        say(format_args!("networks {isa}: equal bits with {THREADS:?} threads"));
    }
}
