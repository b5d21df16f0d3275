//! Ratios of calls by turns in one process: two threads against one, and a hot area against even ones.
//!
//! ```text
//! threads     the same call, the same operands, in rayon pools of one and of two threads: T2 / T1
//! occupancy   hot50 and hot80 against balanced, on one and on two threads: hot / balanced
//! ```
//! Run with two CPUs free: `cargo bench -p sal-benches --bench threads`.

use rayon::{ThreadPool, ThreadPoolBuilder};
use sal_benches::measure::{Times, compare};
use sal_benches::point::{Point, Profile};
use sal_benches::step::{Setup, Step};
use sal_benches::{Grid, calls, selected};
use sal_kernels::{Isa, kernels::Similarity};
use std::time::Duration;

const TIME: Duration = Duration::from_secs(1);

type Call = Box<dyn FnMut(bool) + Send>;

/// Runs `call` in `pool`, timed from within: handing it over is not the call's time.
fn timed(pool: &ThreadPool, call: &mut Call, times: &mut Times) {
    pool.install(|| times.time(|| call(false)));
}

fn call(verb: &str, p: &Point, isa: Isa) -> Call {
    match verb {
        "route" => Box::new(calls::route(p, isa, Similarity::Cosine)),
        "forward" => Box::new(calls::forward(p, isa)),
        "signs" => Box::new(calls::signs(p, isa)),
        "update" => Box::new(calls::update(p, isa)),
        _ => unreachable!("a verb of this file"),
    }
}

fn threads(grid: Grid, isa: Isa, pools: &[ThreadPool; 2]) {
    let (small, wide, huge) = ((784, 256), (1024, 1024), (4096, 4096));
    let points: &[(usize, (usize, usize), usize)] = match grid {
        Grid::Test => &[(1, small, 16), (64, small, 16)],
        Grid::Usual => &[
            (1, small, 16),
            (64, small, 16),
            (256, small, 16),
            (16, wide, 16),
            (256, wide, 16),
            (1024, wide, 16),
            (1024, wide, 1),
        ],
        Grid::Full => &[
            (1, small, 16),
            (16, small, 16),
            (64, small, 16),
            (256, small, 16),
            (1024, small, 16),
            (1, wide, 16),
            (16, wide, 16),
            (64, wide, 16),
            (256, wide, 16),
            (1024, wide, 16),
            (1024, wide, 1),
            (1, huge, 16),
            (64, huge, 16),
            (1024, huge, 16),
        ],
    };
    for &(n, shape, areas) in points {
        let p = Point::even(n, shape, areas);
        for verb in ["route", "forward", "signs", "update"] {
            let name = format!("threads/{}", p.label(verb, isa));
            if selected(&name) {
                both(&name, pools, call(verb, &p, isa));
            }
        }
    }
    let setups = match grid {
        Grid::Test => vec![Setup::small(16, 16, false)],
        Grid::Usual | Grid::Full => vec![
            Setup::small(1, 16, false),
            Setup::small(64, 16, false),
            Setup::small(256, 16, false),
            Setup::deep("8x1024", 256, 8, 1024, 16),
        ],
    };
    for setup in setups {
        let name = format!("threads/step/{setup}");
        if selected(&name) {
            let mut step = Step::new(&setup, isa);
            both(
                &name,
                pools,
                Box::new(move |checked| if checked { step.check() } else { step.run() }),
            );
        }
    }
}

/// One call in both pools.
fn both(name: &str, [one, two]: &[ThreadPool; 2], mut call: Call) {
    one.install(|| call(true));
    two.install(|| call(true));
    let call = std::cell::RefCell::new(call);
    compare(
        name,
        TIME,
        ("T1", |t| timed(one, &mut call.borrow_mut(), t)),
        ("T2", |t| timed(two, &mut call.borrow_mut(), t)),
    );
}

fn occupancy(grid: Grid, isa: Isa, pools: &[ThreadPool; 2]) {
    let points: &[(usize, (usize, usize))] = match grid {
        Grid::Test => &[(64, (784, 256))],
        Grid::Usual => &[(256, (784, 256)), (256, (1024, 1024))],
        Grid::Full => {
            &[(64, (784, 256)), (256, (784, 256)), (64, (1024, 1024)), (256, (1024, 1024))]
        }
    };
    for &(n, shape) in points {
        for verb in ["forward", "update"] {
            for profile in [Profile::Hot50, Profile::Hot80] {
                let even = Point::even(n, shape, 16);
                let hot = Point { profile, ..even };
                for (pool, threads) in pools.iter().zip([1, 2]) {
                    let name = format!("occupancy/T{threads}/{}", hot.label(verb, isa));
                    if !selected(&name) {
                        continue;
                    }
                    let [mut even, mut hot] = [even, hot].map(|p| call(verb, &p, isa));
                    pool.install(|| [&mut even, &mut hot].map(|c| c(true)));
                    compare(
                        &name,
                        TIME,
                        ("balanced", |t| timed(pool, &mut even, t)),
                        ("hot", |t| timed(pool, &mut hot, t)),
                    );
                }
            }
        }
    }
}

fn main() {
    let (grid, isa) = (Grid::get(), Isa::detect().expect("SAL_ISA names what this CPU has"));
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    if cpus < 2 {
        println!("threads: one CPU only, so the ratios say nothing about two threads");
    }
    let pools = [1, 2].map(|n| ThreadPoolBuilder::new().num_threads(n).build().expect("a pool"));
    threads(grid, isa, &pools);
    occupancy(grid, isa, &pools);
}
