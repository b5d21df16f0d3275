//! The gated forward product with bias and ReLU, and matrixmultiply in a loop over areas beside it.
//!
//! Run on one pinned thread: `taskset -c 1 env RAYON_NUM_THREADS=1 cargo bench -p sal-benches --bench forward`.

use criterion::{Criterion, criterion_group, criterion_main};
use sal_benches::check::Product;
use sal_benches::measure::{self, Work, bench};
use sal_benches::point::{Point, Regime, isas, points};
use sal_benches::values::zeros;
use sal_benches::{Grid, calls};
use sal_kernels::Isa;

fn bench_forward(c: &mut Criterion) {
    let grid = Grid::get();
    let best = *Isa::available().last().expect("portable is always there");
    for regime in Regime::ALL {
        let mut group = c.benchmark_group(format!("forward-{regime}"));
        for p in points(grid).iter().filter(|p| p.regime() == regime) {
            let weights = (p.areas_per_call() * p.area_bytes() as f64) as u64;
            let (bytes, rows) = (Some(weights + p.row_bytes()), p.batch as u64);
            let work = Work { flop: p.flop(), bytes, rows };
            for isa in isas(grid) {
                let label = p.label("forward", isa);
                bench(&mut group, isa, &label, work, || calls::forward(p, isa));
            }
            bench(&mut group, best, &format!("matrixmultiply-loop/{p}"), work, || peer(p));
        }
        group.finish();
    }
}

/// What a user would write without this crate: gather, matrixmultiply, scatter, one area after another; without bias
/// and ReLU.
fn peer(p: &Point) -> impl FnMut(bool) + use<> {
    let p = *p;
    let values = calls::weights(&p);
    let mut w = vec![0.0; p.areas * p.d_in * p.d_out];
    values.fill(0, &mut w);
    let (plans, inputs, mut out) = (p.plans(), calls::inputs(&p), zeros(p.batch, p.d_out));
    let (mut gathered, mut product) = (zeros(p.batch, p.d_in), zeros(p.batch, p.d_out));
    let mut turn = 0;
    move |checked| {
        let (plan, h) = (&plans[turn % plans.len()], inputs[turn % inputs.len()].view());
        turn += 1;
        for area in (0..p.areas).filter(|&k| plan.occupancy(k) > 0) {
            let rows = plan.rows(area);
            for (to, &row) in rows.iter().enumerate() {
                gathered.row_mut(to).copy_from_slice(h.row(row as usize));
            }
            let w = &w[area * p.d_in * p.d_out..][..p.d_in * p.d_out];
            let (n, k, m) = (rows.len(), p.d_in as isize, p.d_out as isize);
            let (a, c) = (gathered.as_slice().as_ptr(), product.as_mut_slice().as_mut_ptr());
            // SAFETY: `gathered` and `product` have room for the whole batch, and `w` is one area's matrix.
            unsafe {
                let b = w.as_ptr();
                matrixmultiply::sgemm(n, p.d_in, p.d_out, 1.0, a, k, 1, b, m, 1, 0.0, c, m, 1);
            }
            for (from, &row) in rows.iter().enumerate() {
                out.row_mut(row as usize).copy_from_slice(product.row(from));
            }
        }
        if checked {
            let weight = |k, i, j| values.at((k * p.d_in + i) * p.d_out + j);
            let (what, inputs, out) = ("matrixmultiply", h, out.view());
            let (bias, relu, gate) = (|_, _| 0.0, false, None);
            Product { what, plan, inputs, weight, bias, relu, gate, out }.check();
        }
    }
}

criterion_group! { name = all; config = measure::criterion(); targets = bench_forward }
criterion_main!(all);
