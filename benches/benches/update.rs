//! The fused area update, SGD: the weights of each area that has samples are read and written once.
//!
//! Run on one pinned thread: `taskset -c 1 env RAYON_NUM_THREADS=1 cargo bench -p sal-benches --bench update`.

use criterion::{Criterion, criterion_group, criterion_main};
use sal_benches::measure::{self, Work, bench};
use sal_benches::point::{Regime, isas, points};
use sal_benches::{Grid, calls};

fn bench_update(c: &mut Criterion) {
    let grid = Grid::get();
    for regime in Regime::ALL {
        let mut group = c.benchmark_group(format!("update-{regime}"));
        for p in points(grid).iter().filter(|p| p.regime() == regime) {
            let weights = (2.0 * p.areas_per_call() * p.area_bytes() as f64) as u64;
            let (bytes, rows) = (Some(weights + p.row_bytes()), p.batch as u64);
            let work = Work { flop: p.flop(), bytes, rows };
            for isa in isas(grid) {
                let label = p.label("update", isa);
                bench(&mut group, isa, &label, work, || calls::update(p, isa));
            }
        }
        group.finish();
    }
}

criterion_group! { name = all; config = measure::criterion(); targets = bench_update }
criterion_main!(all);
