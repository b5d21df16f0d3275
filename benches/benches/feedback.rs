//! The error of a layer's output goes back to its input: `(e F) * [y > 0]`, F (d_out, d_in) in f32 or one bit an entry.
//!
//! One matrix serves all areas, so there is one point for each shape (the layer's; feedback goes the other way) and
//! batch. A sign counts as a multiplication and an addition: more than 100 % of the FMA peak is possible.
//! Run on one pinned thread: `taskset -c 1 env RAYON_NUM_THREADS=1 cargo bench -p sal-benches --bench feedback`.

use criterion::{Criterion, criterion_group, criterion_main};
use sal_benches::measure::{self, Work, bench};
use sal_benches::point::{Point, Regime, isas};
use sal_benches::{Grid, calls};

fn points(grid: Grid) -> Vec<Point> {
    let shapes = [(784, 256), (256, 10), (1024, 1024), (4096, 4096)];
    let (shapes, batches): (_, &[usize]) = match grid {
        Grid::Test => (&shapes[..], &[1, 16, 64]),
        Grid::Usual => (&shapes[..], &[1, 16, 64, 256, 1024]),
        Grid::Full => (&shapes[..], &[1, 16, 64, 256, 1024, 4096]),
    };
    let all = shapes.iter().flat_map(|&s| batches.iter().map(move |&n| Point::even(n, s, 1)));
    all.filter(|p| grid == Grid::Full || p.d_in < 4096 || p.batch < 1024).collect()
}

fn bench_feedback(c: &mut Criterion) {
    let grid = Grid::get();
    for regime in Regime::ALL {
        let mut group = c.benchmark_group(format!("feedback-{regime}"));
        for p in points(grid).iter().filter(|p| p.regime() == regime) {
            // The outputs that gate the error are read, too.
            let rows = p.row_bytes() + 4 * (p.batch * p.d_in) as u64;
            let work = |weights| {
                let bytes = Some(weights + rows);
                Work { flop: p.flop(), bytes, rows: p.batch as u64 }
            };
            for isa in isas(grid) {
                let (f32s, bits) = (work(p.area_bytes()), work(p.area_bytes() / 32));
                let label = p.label("feedback", isa);
                bench(&mut group, isa, &label, f32s, || calls::feedback(p, isa));
                let label = p.label("signs", isa);
                bench(&mut group, isa, &label, bits, || calls::signs(p, isa));
            }
        }
        group.finish();
    }
}

criterion_group! { name = all; config = measure::criterion(); targets = bench_feedback }
criterion_main!(all);
