//! Whole SAL steps: route, forward, loss, feedback through signs, SGD update; and the single-sample step's tail.
//!
//! The share of the FMA peak counts every sign of the feedback as a multiplication and an addition. Parts are medians.
//! Run on one pinned thread: `taskset -c 1 env RAYON_NUM_THREADS=1 cargo bench -p sal-benches --bench step`.

use criterion::{Criterion, criterion_group, criterion_main};
use sal_benches::measure::{self, Times, bench};
use sal_benches::point::isas;
use sal_benches::step::{Parts, Setup, Step};
use sal_benches::{Grid, selected, untimed};
use sal_kernels::Isa;
use std::time::{Duration, Instant};

fn setups(grid: Grid) -> Vec<Setup> {
    let (areas, batches): (&[usize], &[usize]) = match grid {
        Grid::Test => (&[1, 16], &[1, 16, 64]),
        Grid::Usual => (&[16], &[1, 16, 64, 256]),
        Grid::Full => (&[1, 4, 16, 64], &[1, 16, 64, 256, 1024, 4096]),
    };
    let mut setups = Vec::new();
    for &k in areas {
        for &n in batches {
            setups.extend([false, true].map(|pixels| Setup::small(n, k, pixels)));
        }
    }
    let deep = |&n: &usize| Setup::deep("8x1024", n, 8, 1024, 16);
    match grid {
        Grid::Test => setups.push(Setup::deep("8x1024", 16, 8, 1024, 4)),
        Grid::Usual => setups.extend([16, 64, 256].iter().map(deep)),
        Grid::Full => {
            setups.extend(batches.iter().map(deep));
            setups.extend([64, 512].map(|n| Setup::deep("4x4096", n, 4, 4096, 16)));
        }
    }
    setups
}

fn label(setup: &Setup, isa: Isa) -> String {
    let (mr, nr) = (isa.tile_heights()[0], isa.panel_width());
    format!("step-f32-{mr}x{nr}-{isa}/{setup}")
}

fn bench_step(c: &mut Criterion) {
    let grid = Grid::get();
    let mut group = c.benchmark_group("step");
    for setup in setups(grid) {
        for isa in isas(grid) {
            bench(&mut group, isa, &label(&setup, isa), setup.work(), || {
                let mut step = Step::new(&setup, isa);
                if !untimed() {
                    print_parts(&setup, &mut step);
                }
                move |checked| if checked { step.check() } else { step.run() }
            });
        }
    }
    group.finish();
}

/// Which verb takes how long, and how unevenly the routers spread a batch.
fn print_parts(setup: &Setup, step: &mut Step) {
    let mut parts = Parts::default();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(300) {
        step.run_parts(&mut parts);
    }
    let (millions, hot) = (setup.parameters() as f64 / 1e6, 100.0 * step.hottest());
    println!("{setup}: {millions:.1} M weights, hottest area {hot:.0} %; {parts}");
}

/// The time of one sample, again and again with others: median and tail.
fn bench_single(_: &mut Criterion) {
    let grid = Grid::get();
    let steps = if untimed() { 64 } else { 20_000 };
    for isa in isas(grid) {
        for pixels in [false, true] {
            let setup = Setup::small(1, 16, pixels);
            let name = format!("single-sample/{}", label(&setup, isa));
            if !selected(&name) {
                continue;
            }
            let mut step = Step::new(&setup, isa);
            step.check();
            let mut times = Times::default();
            (0..steps / 10).for_each(|_| step.run());
            (0..steps).for_each(|_| times.time(|| step.run()));
            if untimed() {
                println!("{name}: checked");
                continue;
            }
            println!(
                "{name}: {steps} steps, median {:.2} us, 99th percentile {:.2} us, min {:.2} us",
                1e6 * times.median(),
                1e6 * times.quantile(0.99),
                1e6 * times.min()
            );
        }
    }
}

criterion_group! { name = all; config = measure::criterion(); targets = bench_step, bench_single }
criterion_main!(all);
