//! The four products of a SAL step on every instruction set of this CPU: route, gated forward, feedback (f32 and signs),
//! update.
//!
//! Each is checked against f64 sums before it is timed. `Throughput` counts FLOPs, so criterion's `elem/s` are FLOP/s;
//! the line before each group gives the FMA peak of this thread, measured in this process, and what share of it the
//! product reached. matrixmultiply in a loop over areas, with gather and scatter, stands beside the forward product.
//! Run on one pinned thread: `taskset -c 0 env RAYON_NUM_THREADS=1 cargo bench -p sal-benches`.

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use criterion::{criterion_group, criterion_main};
use sal_benches::{Case, check};
use sal_kernels::kernels::{
    Activation, Averaging, Moments, Optimizer, RouteParams, Routes, Similarity, Trainable,
    UpdateRule, feedback, feedback_signs, forward, route, update,
};
use sal_kernels::{Isa, MatrixMut, Panels, RoutePlan, Signs, limits::fma_peak};
use std::time::{Duration, Instant};

/// (batch, d_in, d_out, areas).
const SHAPES: [(usize, usize, usize, usize); 4] =
    [(64, 784, 256, 16), (256, 784, 256, 16), (256, 1024, 1024, 16), (1024, 1024, 1024, 16)];

/// Prints the share of the FMA peak that `run` reaches, then hands it to criterion.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    isa: Isa,
    name: String,
    flop: u64,
    mut run: impl FnMut(),
) {
    let mut best = f64::INFINITY;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(300) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    let peak = fma_peak(isa, Duration::from_millis(50));
    let rate = flop as f64 / best;
    println!(
        "{name}: {:.1} GFLOP/s, {:.0} % of the {:.1} GFLOP/s FMA peak of {isa}",
        rate / 1e9,
        100.0 * rate / peak,
        peak / 1e9
    );
    group.throughput(Throughput::Elements(flop));
    group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(&mut run));
}

fn label(verb: &str, isa: Isa, (n, d_in, d_out, areas): (usize, usize, usize, usize)) -> String {
    let (h, nr) = (isa.tile_heights()[0], isa.panel_width());
    format!("{verb}-f32-{h}x{nr}-{isa}/n{n}_{d_in}x{d_out}_k{areas}")
}

fn bench_forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward");
    for shape @ (n, d_in, d_out, areas) in SHAPES {
        for isa in Isa::available() {
            let Case { weights, row_major, bias, plan, inputs, mut out, .. } =
                Case::new(isa, n, d_in, d_out, areas);
            let mut run = || {
                let (bias, relu) = (Some(&bias), Activation::Identity);
                forward(&plan, inputs.view(), &weights, bias, relu, out.view_mut())
                    .expect("shapes fit");
            };
            run();
            for area in 0..areas {
                for &row in plan.rows(area) {
                    let row = row as usize;
                    for j in [0, d_out - 1] {
                        let column = (0..d_in).map(|i| row_major[(area * d_in + i) * d_out + j]);
                        let terms = inputs.row(row).iter().copied().zip(column);
                        check(
                            "forward",
                            out.row(row)[j],
                            terms.chain([(1.0, bias.get(area, 0, j))]),
                        );
                    }
                }
            }
            let mut run = || {
                let (bias, relu) = (Some(&bias), Activation::Relu);
                forward(&plan, inputs.view(), &weights, bias, relu, out.view_mut())
                    .expect("shapes fit");
            };
            let flop = 2 * (n * d_in * d_out) as u64;
            measure(&mut group, isa, label("forward", isa, shape), flop, &mut run);
        }
        let case = Case::new(Isa::available()[0], n, d_in, d_out, areas);
        let mut peer = PeerLoop::new(&case);
        peer.run();
        for (row, j) in [(0, 0), (n - 1, d_out - 1)] {
            let area =
                (0..areas).find(|&k| case.plan.rows(k).contains(&(row as u32))).expect("an area");
            let column = (0..d_in).map(|i| case.row_major[(area * d_in + i) * d_out + j]);
            let terms = case.inputs.row(row).iter().copied().zip(column);
            check("matrixmultiply", peer.out[row * d_out + j], terms);
        }
        let best = *Isa::available().last().expect("portable is always there");
        let name = format!("matrixmultiply-loop/n{n}_{d_in}x{d_out}_k{areas}");
        measure(&mut group, best, name, case.flop(), || peer.run());
    }
    group.finish();
}

/// What a user would write without this crate: gather, matrixmultiply, scatter, one area after another.
struct PeerLoop<'a> {
    case: &'a Case,
    gathered: Vec<f32>,
    product: Vec<f32>,
    out: Vec<f32>,
}

impl<'a> PeerLoop<'a> {
    fn new(case: &'a Case) -> Self {
        let (n, d_in, d_out) = (case.inputs.rows(), case.weights.d_in(), case.weights.d_out());
        Self {
            case,
            gathered: vec![0.0; n * d_in],
            product: vec![0.0; n * d_out],
            out: vec![0.0; n * d_out],
        }
    }

    fn run(&mut self) {
        let (d_in, d_out) = (self.case.weights.d_in(), self.case.weights.d_out());
        for area in 0..self.case.plan.areas() {
            let rows = self.case.plan.rows(area);
            for (to, &row) in self.gathered.chunks_exact_mut(d_in).zip(rows) {
                to.copy_from_slice(self.case.inputs.row(row as usize));
            }
            let w = &self.case.row_major[area * d_in * d_out..][..d_in * d_out];
            let (n, k, m) = (rows.len(), d_in as isize, d_out as isize);
            // SAFETY: `gathered` and `product` have room for the whole batch, and `w` is one area's matrix.
            unsafe {
                let (a, c) = (self.gathered.as_ptr(), self.product.as_mut_ptr());
                matrixmultiply::sgemm(n, d_in, d_out, 1.0, a, k, 1, w.as_ptr(), m, 1, 0.0, c, m, 1);
            }
            for (from, &row) in self.product.chunks_exact(d_out).zip(rows) {
                self.out[row as usize * d_out..][..d_out].copy_from_slice(from);
            }
        }
    }
}

fn bench_feedback(c: &mut Criterion) {
    let mut group = c.benchmark_group("feedback");
    for shape @ (n, d_in, d_out, _) in SHAPES {
        for isa in Isa::available() {
            // The error of the layer's output goes back to its input: one matrix, shared by all areas.
            let case = Case::new(isa, n, d_in, d_out, 1);
            let f =
                Panels::from_row_major(isa, 1, d_out, d_in, &case.row_major).expect("shapes fit");
            let gate = case.inputs.view();
            let mut back = case.inputs.clone();
            let run = |out: MatrixMut<'_>| {
                feedback(&case.plan, case.deltas.view(), &f, Some(gate), out).expect("shapes fit");
            };
            run(back.view_mut());
            for row in 0..n {
                for j in [0, d_in - 1] {
                    let column = (0..d_out).map(|i| case.row_major[i * d_in + j]);
                    let active = if case.inputs.row(row)[j] > 0.0 { 1.0 } else { 0.0 };
                    let terms = case.deltas.row(row).iter().map(|&d| d * active).zip(column);
                    check("feedback", back.row(row)[j], terms);
                }
            }
            let run = || run(back.view_mut());
            measure(&mut group, isa, label("feedback", isa, shape), case.flop(), run);

            let signs = Signs::from_row_major(isa, 1, d_out, d_in, 0.5, &case.row_major);
            let signs = signs.expect("shapes fit");
            let run = |out: MatrixMut<'_>| {
                feedback_signs(&case.plan, case.deltas.view(), &signs, Some(gate), out)
                    .expect("shapes fit");
            };
            run(back.view_mut());
            for row in 0..n {
                for j in [0, d_in - 1] {
                    let column = (0..d_out).map(|i| 0.5f32.copysign(case.row_major[i * d_in + j]));
                    let active = if case.inputs.row(row)[j] > 0.0 { 1.0 } else { 0.0 };
                    let terms = case.deltas.row(row).iter().map(|&d| d * active).zip(column);
                    check("signs", back.row(row)[j], terms);
                }
            }
            let run = || run(back.view_mut());
            measure(&mut group, isa, label("signs", isa, shape), case.flop(), run);
        }
    }
    group.finish();
}

fn bench_update(c: &mut Criterion) {
    let mut group = c.benchmark_group("update");
    for shape @ (n, d_in, d_out, areas) in SHAPES {
        for isa in Isa::available() {
            let mut case = Case::new(isa, n, d_in, d_out, areas);
            let flop = case.flop();
            let mut moments =
                Moments::new(Optimizer::Sgd, &case.weights, None).expect("shapes fit");
            let mut step = |weights: &mut Panels, lr: f32| {
                let (optimizer, averaging) = (Optimizer::Sgd, Averaging::Sum);
                let rule = UpdateRule { optimizer, lr, weight_decay: 0.0, averaging };
                let params = Trainable { weights, bias: None, moments: &mut moments };
                update(&case.plan, case.inputs.view(), case.deltas.view(), &rule, params)
                    .expect("shapes fit");
            };
            step(&mut case.weights, 1.0);
            for area in 0..areas {
                for (i, j) in [(0, 0), (d_in - 1, d_out - 1)] {
                    let w = case.row_major[(area * d_in + i) * d_out + j];
                    let samples = case.plan.rows(area).iter().map(|&r| r as usize);
                    let terms = samples.map(|r| (-case.inputs.row(r)[i], case.deltas.row(r)[j]));
                    check("update", case.weights.get(area, i, j), terms.chain([(1.0, w)]));
                }
            }
            // A rate so small that a million steps leave the weights where they are.
            let run = || step(&mut case.weights, 1e-12);
            measure(&mut group, isa, label("update", isa, shape), flop, run);
        }
    }
    group.finish();
}

fn bench_route(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for (n, d_in, _, areas) in SHAPES {
        let width = 32;
        for isa in Isa::available() {
            let case = Case::new(isa, n, d_in, width, 1);
            let small = Case::new(isa, 1, width, areas, 1);
            let bias = vec![0.0; areas];
            let params = RouteParams {
                projection: &case.weights,
                prototypes: &small.weights,
                mean: None,
                bias: &bias,
                similarity: Similarity::Dot,
            };
            let mut routes = Routes::new(width, areas).expect("shapes fit");
            let mut run = || route(case.inputs.view(), &params, &mut routes).expect("shapes fit");
            run();
            for row in 0..n {
                let column = (0..d_in).map(|i| case.row_major[i * width]);
                let terms = case.inputs.row(row).iter().copied().zip(column);
                check("route", routes.directions().row(row)[0], terms);
            }
            assert_eq!(routes.plan(), &RoutePlan::new(routes.areas(), areas).expect("in range"));
            let mut run = || route(case.inputs.view(), &params, &mut routes).expect("shapes fit");
            let flop = 2 * (n * width * (d_in + areas)) as u64;
            measure(&mut group, isa, label("route", isa, (n, d_in, width, areas)), flop, &mut run);
        }
    }
    group.finish();
}

criterion_group! {
    name = products;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = bench_route, bench_forward, bench_feedback, bench_update
}
criterion_main!(products);
