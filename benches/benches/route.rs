//! Routing with 32 directions: plain (dot), and as networks use it (cosine, centred); and its time against the time of
//! the forward product behind it.
//!
//! In the labels d_in x 32 is the projection, k the areas to choose from.
//! Run on one pinned thread: `taskset -c 1 env RAYON_NUM_THREADS=1 cargo bench -p sal-benches --bench route`.

use criterion::{Criterion, criterion_group, criterion_main};
use sal_benches::calls::{self, ROUTE_WIDTH};
use sal_benches::measure::{self, Work, bench, compare};
use sal_benches::point::{Point, isas};
use sal_benches::{Grid, cache::Level, selected};
use sal_kernels::kernels::Similarity;
use std::time::Duration;

fn points(grid: Grid) -> Vec<Point> {
    let all = |inputs: &[usize], areas: &[usize], batches: &[usize]| {
        let mut all = Vec::new();
        for &d_in in inputs {
            for &k in areas {
                all.extend(batches.iter().map(|&n| Point::even(n, (d_in, ROUTE_WIDTH), k)));
            }
        }
        all
    };
    match grid {
        Grid::Test => all(&[784, 256, 4096], &[1, 4, 64], &[1, 16, 64]),
        Grid::Usual => {
            let mut points = all(&[784, 1024, 4096], &[16], &[1, 16, 64, 256, 1024]);
            points.extend(all(&[1024], &[4, 64], &[256]));
            points
        }
        Grid::Full => all(&[784, 256, 1024, 4096], &[1, 4, 16, 64], &[1, 16, 64, 256, 1024, 4096]),
    }
}

fn bench_route(c: &mut Criterion) {
    let grid = Grid::get();
    for (name, similarity) in [("dot", Similarity::Dot), ("cosine-centred", Similarity::Cosine)] {
        let mut group = c.benchmark_group(format!("route-{name}"));
        for p @ Point { batch, d_in, areas, .. } in points(grid) {
            let parameters = ROUTE_WIDTH * (d_in + areas);
            let row = d_in + ROUTE_WIDTH + areas;
            // What lies between two uses of the projection, too.
            let bytes = 4 * (parameters + batch * row) as u64;
            let level = Level::of(bytes);
            let (flop, bytes) = (2 * (batch * parameters) as u64, Some(bytes));
            let work = Work { flop, bytes, rows: batch as u64 };
            for isa in isas(grid) {
                let (mr, nr) = (isa.tile_heights()[0], isa.panel_width());
                let shape = format!("n{batch}_{d_in}x{ROUTE_WIDTH}_k{areas}/{level}");
                let label = format!("route-f32-{mr}x{nr}-{isa}/{shape}");
                bench(&mut group, isa, &label, work, || calls::route(&p, isa, similarity));
            }
        }
        group.finish();
    }
}

/// Routing and the forward product it serves, by turns.
fn bench_share(_: &mut Criterion) {
    let grid = Grid::get();
    let (areas, batches): (_, &[usize]) = match grid {
        Grid::Test => (4, &[16]),
        Grid::Usual | Grid::Full => (16, &[16, 64, 256, 1024]),
    };
    for isa in isas(grid) {
        for &n in batches {
            let p = Point::even(n, (1024, 1024), areas);
            let name = format!("route-share/{isa}/{p}");
            if !selected(&name) {
                continue;
            }
            let mut product = calls::forward(&p, isa);
            let mut routing = calls::route(&p, isa, Similarity::Cosine);
            product(true);
            routing(true);
            compare(
                &name,
                Duration::from_secs(1),
                ("forward", |t| t.time(|| product(false))),
                ("route", |t| t.time(|| routing(false))),
            );
        }
    }
}

criterion_group! { name = all; config = measure::criterion(); targets = bench_route, bench_share }
criterion_main!(all);
