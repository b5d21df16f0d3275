//! Times: one call under criterion with the share of the machine that it reached, and pairs of calls by turns.

use crate::args::untimed;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use sal_kernels::{Isa, limits::fma_peak};
use std::time::{Duration, Instant};

/// A clock reading costs some ten nanoseconds: calls shorter than this are timed several at a time.
const SHORT: f64 = 10e-6;

/// What one call does, at least.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Multiplications and additions.
    pub flop: u64,
    /// Bytes of weights, inputs and results, each counted once for reading and once for writing; `None` where they
    /// depend on what a router chooses.
    pub bytes: Option<u64>,
    /// Samples.
    pub rows: u64,
}

/// Seconds of calls.
#[derive(Debug, Default)]
pub struct Times(Vec<f64>);

impl Times {
    /// The least.
    pub fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The middle.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The time that a share `q` of the calls did not exceed; NaN before the first.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((q * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// Seconds of one call.
    pub(crate) fn of(run: impl FnOnce()) -> f64 {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    }

    /// Times one call.
    pub fn time(&mut self, run: impl FnOnce()) {
        self.push(Self::of(run));
    }

    pub(crate) fn push(&mut self, seconds: f64) {
        self.0.push(seconds);
    }

    /// Times `calls` of them, a few together where one is short.
    fn time_many(&mut self, calls: u64, mut run: impl FnMut()) -> Duration {
        let together = |seconds: f64| (SHORT / seconds.max(1e-9)).ceil().max(1.0) as u64;
        let begin = Instant::now();
        let mut left = calls;
        let mut size = self.0.last().map_or(1, |&t| together(t));
        while left > 0 {
            let now = size.min(left);
            let start = Instant::now();
            (0..now).for_each(|_| run());
            let each = start.elapsed().as_secs_f64() / now as f64;
            self.0.push(each);
            left -= now;
            size = together(each);
        }
        begin.elapsed()
    }
}

/// How long criterion measures a call.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
}

/// Hands a call to criterion, if its filter asks for it. Only then `prepare` makes the operands; the call is checked
/// (`call(true)`), then timed (`call(false)`). Afterwards prints what share of the machine it reached.
pub fn bench<R: FnMut(bool)>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    isa: Isa,
    name: &str,
    work: Work,
    prepare: impl Fn() -> R,
) {
    let (mut run, mut times) = (None, Times::default());
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(match work.bytes {
        Some(bytes) => Throughput::ElementsAndBytes { elements: work.flop, bytes },
        None => Throughput::Elements(work.flop),
    });
    group.bench_function(BenchmarkId::from_parameter(name), |b| {
        let run = run.get_or_insert_with(|| {
            let mut run = prepare();
            run(true);
            run(true); // the second turn: other inputs, another plan, and whatever the first has left behind
            run
        });
        b.iter_custom(|calls| times.time_many(calls, || run(false)));
    });
    if run.is_some() && !untimed() {
        println!("{}", line(isa, name, work, &times));
    }
}

/// `<name>: us, GFLOP/s, share of the FMA peak of this thread measured now, GB/s, samples/s`.
fn line(isa: Isa, name: &str, work: Work, times: &Times) -> String {
    let (least, median) = (times.min(), times.median());
    let peak = fma_peak(isa, Duration::from_millis(20));
    let rate = |amount: u64| amount as f64 / least;
    let bytes = work.bytes.map_or(String::new(), |b| format!(" {:.1} GB/s;", rate(b) / 1e9));
    format!(
        "{name}: min {:.1} us, median {:.1} us; {:.1} GFLOP/s, {:.0} % of the {:.1} GFLOP/s FMA peak of {isa};{bytes} \
         {:.0} samples/s",
        1e6 * least,
        1e6 * median,
        rate(work.flop) / 1e9,
        100.0 * rate(work.flop) / peak,
        peak / 1e9,
        rate(work.rows)
    )
}

/// Runs two calls by turns for about `time` (once each in a test run) and prints the ratios second / first.
pub fn compare(
    name: &str,
    time: Duration,
    (first, mut run_first): (&str, impl FnMut(&mut Times)),
    (second, mut run_second): (&str, impl FnMut(&mut Times)),
) {
    let (mut a, mut b) = (Times::default(), Times::default());
    let begin = Instant::now();
    loop {
        run_first(&mut a);
        run_second(&mut b);
        if untimed() {
            println!("{name}: checked");
            return;
        }
        if begin.elapsed() > time {
            break;
        }
    }
    println!(
        "{name}: {first} min {:.1} us, median {:.1}; {second} min {:.1}, median {:.1}; {second} / {first}: \
         minima {:.3}, medians {:.3}",
        1e6 * a.min(),
        1e6 * a.median(),
        1e6 * b.min(),
        1e6 * b.median(),
        b.min() / a.min(),
        b.median() / a.median()
    );
}
