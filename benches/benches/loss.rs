//! Softmax cross-entropy: the loss and the error at the output. `Throughput` counts logits.
//!
//! Run on one pinned thread: `taskset -c 1 cargo bench -p sal-benches --bench loss`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sal_benches::{Grid, calls, measure};
use std::hint::black_box;

fn bench_loss(c: &mut Criterion) {
    let (batches, classes): (&[usize], &[usize]) = match Grid::get() {
        Grid::Test | Grid::Usual => (&[1, 64, 256], &[10, 1024]),
        Grid::Full => (&[1, 16, 64, 256, 1024, 4096], &[10, 256, 1024, 4096]),
    };
    let mut group = c.benchmark_group("loss");
    for &classes in classes {
        for &n in batches {
            group.throughput(Throughput::Elements((n * classes) as u64));
            let name = format!("softmax_cross_entropy/n{n}_{classes}");
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                let mut call = calls::loss(n, classes);
                call(true);
                b.iter(|| black_box(call(false)));
            });
        }
    }
    group.finish();
}

criterion_group! { name = all; config = measure::criterion(); targets = bench_loss }
criterion_main!(all);
