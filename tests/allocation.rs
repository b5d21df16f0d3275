//! A training step takes no memory once its tape is warm: counted by the allocator of this program, on each thread for
//! itself, so that the test harness and other tests do not disturb.
//!
//! ```text
//! warm up -> count over many steps -> not zero: a few steps more with a backtrace at each allocation -> the places
//! ```

mod common;

use common::{Rng, in_pool, isas};
use sal_kernels::kernels::{Optimizer, Similarity};
use sal_kernels::model::{
    FeedbackEntries, FeedbackMode, ModelError, Network, NetworkConfig, RouterConfig, RouterRule,
    Tape,
};
use sal_kernels::{Isa, Matrix};
use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hint::black_box;

/// Files whose buffers are asked for by others: the caller is the place.
const CONTAINERS: [&str; 3] = ["src/matrix.rs", "src/panels.rs", "src/plan.rs"];

/// A backtrace that names no file of this crate but containers.
const NO_LINE: &str = "no line of src/";

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Off,
    Count,
    Trace,
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Off) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static PLACES: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// The system's allocator, which tells what is asked of it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note() {
    // A thread that ends has lost its cells.
    let mode = MODE.try_with(Cell::get).unwrap_or(Mode::Off);
    if mode == Mode::Off {
        return;
    }
    COUNT.set(COUNT.get() + 1);
    if mode == Mode::Trace {
        MODE.set(Mode::Off); // a backtrace takes memory itself
        let trace = Backtrace::force_capture().to_string();
        PLACES.with_borrow_mut(|all| *all.entry(place(&trace)).or_default() += 1);
        MODE.set(mode);
    }
}

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

/// The innermost line of `src/` in a backtrace that is not in a container.
fn place(trace: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let lines = trace.lines().filter_map(|line| {
        let path = line.trim_start().strip_prefix("at ")?;
        let path = path.strip_prefix(root).or(path.strip_prefix("./")).unwrap_or(path);
        path.starts_with("src/").then_some(path)
    });
    let mut lines = lines.filter(|path| !CONTAINERS.iter().any(|c| path.starts_with(c)));
    lines.next().unwrap_or(NO_LINE).to_owned()
}

/// Allocations of this thread during `f`.
fn counted(mode: Mode, f: impl FnOnce()) -> u64 {
    COUNT.set(0);
    MODE.set(mode);
    f();
    MODE.set(Mode::Off);
    COUNT.get()
}

/// Runs `step` for the numbers from 0 on: some to warm up, then `steps` that are counted.
fn takes_no_memory(name: &str, steps: usize, mut step: impl FnMut(usize)) {
    const WARM: usize = 10;
    let steps = (steps * common::percent_of_steps()).div_ceil(100);
    (0..WARM).for_each(&mut step);
    let count = counted(Mode::Count, || (WARM..WARM + steps).for_each(&mut step));
    if count == 0 {
        return;
    }
    counted(Mode::Trace, || (0..2).for_each(&mut step));
    let places = PLACES.take();
    panic!("{name}: {count} allocations in {steps} steps; two steps: {places:#?}");
}

struct Data {
    x: Matrix,
    y: Vec<u32>,
}

const SAMPLES: usize = 192;

impl Data {
    /// Inputs of about unit length.
    fn new(inputs: usize) -> Self {
        let mut rng = Rng::new(1);
        let scale = (3.0 / inputs as f32).sqrt();
        let x: Vec<f32> = (0..SAMPLES * inputs).map(|_| scale * (2.0 * rng.unit() - 1.0)).collect();
        Self {
            x: Matrix::from_slice(SAMPLES, inputs, &x).unwrap(),
            y: (0..SAMPLES).map(|_| rng.below(10) as u32).collect(),
        }
    }

    fn learn_one(
        &self,
        network: &mut Network,
        n: usize,
        tape: &mut Tape,
    ) -> Result<f64, ModelError> {
        let n = n % SAMPLES;
        network.learn_one(self.x.row(n), self.y[n], 0.05, tape)
    }

    /// A step on `batch` neighbouring samples.
    fn train_batch(
        &self,
        network: &mut Network,
        n: usize,
        batch: usize,
        tape: &mut Tape,
    ) -> Result<f64, ModelError> {
        let first = n * 17 % (SAMPLES - batch + 1);
        let x = &self.x.as_slice()[first * self.x.cols()..][..batch * self.x.cols()];
        let x = sal_kernels::MatrixRef::new(x, batch, self.x.cols())?;
        network.train_batch(x, &self.y[first..first + batch], 0.05, tape)
    }
}

/// 784-256-10 with 16 areas and plain SGD, one for each router rule and format of the feedback.
fn main_configs() -> Vec<(String, NetworkConfig)> {
    let mut all = Vec::new();
    for rule in [RouterRule::Fixed, RouterRule::Sharp, RouterRule::Label] {
        for feedback_entries in [FeedbackEntries::Gaussian, FeedbackEntries::Sign] {
            let tuned = NetworkConfig::tuned(784, &[256], 10, 16);
            let router = RouterConfig { rule, ..tuned.router.clone() };
            let optimizer = Optimizer::Sgd;
            let config = NetworkConfig { router, feedback_entries, optimizer, ..tuned };
            all.push((format!("{rule:?}, {feedback_entries:?}"), config));
        }
    }
    all
}

/// Smaller networks, each with something else.
fn other_configs() -> Vec<(&'static str, NetworkConfig)> {
    let plain =
        NetworkConfig { optimizer: Optimizer::Sgd, ..NetworkConfig::tuned(40, &[48, 33], 10, 4) };
    let of = |change: &dyn Fn(&mut NetworkConfig)| {
        let mut config = plain.clone();
        change(&mut config);
        config
    };
    let momentum = Optimizer::Momentum { momentum: 0.5 };
    vec![
        ("one area", of(&|c| c.areas = 1)),
        ("routed output", of(&|c| c.output_areas = 4)),
        ("tied", of(&|c| c.tie = true)),
        ("direct", of(&|c| c.feedback = FeedbackMode::Direct)),
        ("shared", of(&|c| c.shared_feedback = true)),
        ("backpropagation", of(&|c| c.feedback = FeedbackMode::Backprop)),
        ("momentum", of(&|c| c.optimizer = momentum)),
        ("adamw", of(&|c| c.optimizer = Optimizer::ADAMW)),
        ("balance", of(&|c| c.router.gamma = 0.001)),
        ("dot", of(&|c| c.router.similarity = Similarity::Dot)),
        ("not centred", of(&|c| c.router.centred = false)),
    ]
}

#[test]
fn a_step_with_one_sample() {
    let data = Data::new(784);
    for isa in isas() {
        for (name, config) in main_configs() {
            let name = format!("learn_one, {name}, {isa}");
            let mut network = Network::new(isa, &config).unwrap();
            let mut tape = network.tape().unwrap();
            in_pool(1, || {
                takes_no_memory(&name, 1000, |n| {
                    data.learn_one(&mut network, n, &mut tape).unwrap();
                });
            });
        }
    }
}

#[test]
fn a_step_with_a_batch() {
    let data = Data::new(784);
    for isa in isas() {
        for (name, config) in main_configs() {
            let name = format!("train_batch, {name}, {isa}");
            let mut network = Network::new(isa, &config).unwrap();
            let mut tape = network.tape().unwrap();
            in_pool(1, || {
                takes_no_memory(&name, 50, |n| {
                    data.train_batch(&mut network, n, 64, &mut tape).unwrap();
                });
            });
        }
    }
}

#[test]
fn steps_of_other_networks() {
    let (data, isa) = (Data::new(40), Isa::detect().unwrap());
    for dense in [false, true] {
        for (name, config) in other_configs() {
            let name = format!("{name}{}", if dense { ", warm start" } else { "" });
            let mut network = Network::new(isa, &config).unwrap();
            let mut tape = network.tape().unwrap();
            if dense {
                network.start_dense();
            }
            in_pool(1, || {
                takes_no_memory(&name, 100, |n| {
                    // Batches of two sizes: memory is that of the largest.
                    let batch = if n % 2 == 0 { 64 } else { 5 };
                    data.train_batch(&mut network, n, batch, &mut tape).unwrap();
                });
            });
        }
    }
}

#[test]
fn one_sample_is_a_batch_of_one() {
    let data = Data::new(784);
    for isa in isas() {
        for (name, config) in main_configs() {
            let mut network = Network::new(isa, &config).unwrap();
            let mut other = network.clone();
            let mut tapes = [network.tape().unwrap(), other.tape().unwrap()];
            let [tape, same] = &mut tapes;
            for n in 0..20 {
                let loss = data.learn_one(&mut network, n, tape).unwrap();
                let x = sal_kernels::MatrixRef::new(data.x.row(n), 1, 784).unwrap();
                let want = other.train_batch(x, &data.y[n..=n], 0.05, same).unwrap();
                assert_eq!(loss.to_bits(), want.to_bits(), "{name}, {isa}, step {n}");
            }
            assert_eq!(network.weights_hash(), other.weights_hash(), "{name}, {isa}");
        }
    }
}

#[test]
fn a_sample_that_does_not_fit_changes_nothing() {
    let isa = Isa::detect().unwrap();
    let mut network = Network::new(isa, &NetworkConfig::tuned(3, &[4], 2, 2)).unwrap();
    let mut tape = network.tape().unwrap();
    let before = network.weights_hash();
    assert!(network.learn_one(&[1.0; 4], 0, 0.1, &mut tape).is_err());
    assert!(network.learn_one(&[], 0, 0.1, &mut tape).is_err());
    assert!(network.learn_one(&[1.0; 3], 2, 0.1, &mut tape).is_err());
    assert!(network.learn_one(&[f32::NAN; 3], 0, 0.1, &mut tape).is_err());
    // The tape of a network with other layers or routers.
    for config in [
        NetworkConfig::tuned(3, &[], 2, 1),
        NetworkConfig::tuned(3, &[4, 4], 2, 2),
        NetworkConfig::tuned(3, &[4], 2, 1),
        NetworkConfig::tuned(3, &[4], 2, 3),
        NetworkConfig::tuned(3, &[5], 2, 2),
    ] {
        let mut tape = Network::new(isa, &config).unwrap().tape().unwrap();
        assert!(network.learn_one(&[1.0; 3], 0, 0.1, &mut tape).is_err(), "{config:?}");
    }
    assert_eq!((network.weights_hash(), network.steps()), (before, 0));
    assert!(network.learn_one(&[1.0; 3], 0, 0.1, &mut tape).is_ok());
}

/// The counter itself.
#[test]
fn an_allocation_is_counted_and_placed() {
    let take = || drop(black_box(Vec::<u8>::with_capacity(10)));
    assert_eq!(counted(Mode::Count, take), 1);
    assert_eq!(counted(Mode::Count, || assert_eq!(black_box(1), 1)), 0);
    assert_eq!(counted(Mode::Count, || drop(black_box(vec![0u8; 10]))), 1);
    let mut grows = vec![1u8; 10];
    assert_eq!(counted(Mode::Count, || black_box(&mut grows).extend([0; 100])), 1);
    let elsewhere = counted(Mode::Count, || drop(std::thread::spawn(move || vec![0u8; 10]).join()));
    assert_eq!(elsewhere, counted(Mode::Count, || drop(std::thread::spawn(Vec::<u8>::new).join())));

    assert_eq!(counted(Mode::Trace, || drop(black_box(Matrix::zeros(3, 3)))), 1);
    assert_eq!(counted(Mode::Trace, || drop(sal_kernels::random::Stream::new(1, 0, 0, "x"))), 0);
    let places: Vec<_> = PLACES.take().into_keys().collect();
    assert_eq!(places, [NO_LINE], "a container is no place");
    let trace = "   1: alloc\n             at /rustc/library/vec.rs:1:2\n   2: f\n             at ./src/plan.rs:88:9\n\
                 3: g\n             at ./src/kernels/route.rs:140:26\n";
    assert_eq!(place(trace), "src/kernels/route.rs:140:26");
}
