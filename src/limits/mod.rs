//! What this machine can do at most, measured now: the roof that kernels are compared with.
//!
//! ```text
//! fma                  multiply-adds in registers, FLOP a second               the best of many short runs
//! L2, L3, memory       a buffer that lies there, bytes a second                the best of many short runs
//!   read               every byte once: counted once
//!   update             every byte read, changed and written back: counted twice
//! ```
//! ```text
//! bytes of the buffer    L2: half of L2     L3: a quarter of L3, at least 2 x L2     memory: 4 x L3, at least 64 MiB
//! ```
//! Figures of a machine with neighbours move by 10 % and more within minutes: measure them where the kernels are
//! measured, in the same process.

mod bandwidth;
mod fma;

pub use bandwidth::{read_bandwidth, update_bandwidth};
pub use fma::fma_peak;

use crate::caches;
use crate::matrix::LayoutError;
use crate::simd::Isa;
use bandwidth::Buffer;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What some threads can do at most, together.
///
/// ```
/// use sal_kernels::{Isa, limits::Limits};
/// let limits = Limits::of_thread(Isa::detect()?, std::time::Duration::from_millis(50))?;
/// println!("{:.0} GFLOP/s, {:.0} GB/s from memory", limits.fma / 1e9, limits.memory_read / 1e9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Threads that ran at once.
    pub threads: usize,
    /// Bytes of L2 that these threads have: a core's L2 times threads.
    pub l2_bytes: usize,
    /// Bytes of L3, which the threads share.
    pub l3_bytes: usize,
    /// FLOP a second of f32 multiply-adds, 2 for each.
    pub fma: f64,
    /// Bytes a second read from L2.
    pub l2_read: f64,
    /// Bytes a second read from L2 and written back, counted twice.
    pub l2_update: f64,
    /// Bytes a second read from L3.
    pub l3_read: f64,
    /// Bytes a second read from L3 and written back, counted twice.
    pub l3_update: f64,
    /// Bytes a second read from memory.
    pub memory_read: f64,
    /// Bytes a second read from memory and written back, counted twice.
    pub memory_update: f64,
}

/// Figures that [`Limits`] has, each measured for an equal share of the time.
const FIGURES: u32 = 7;

impl Limits {
    /// The limits of this thread alone, measured for about `time`, and the filling of the buffers.
    ///
    /// # Errors
    /// If there is no memory for a buffer of four times the size of L3.
    pub fn of_thread(isa: Isa, time: Duration) -> Result<Self, LayoutError> {
        Self::measure(isa, 1, time, &AtomicUsize::new(0))
    }

    /// The limits of all threads of the rayon pool that the caller runs in, at work at once: the sum over the threads,
    /// measured for about `time`. Without the feature `rayon`, and in a pool of one, as [`Limits::of_thread`].
    ///
    /// # Errors
    /// As [`Limits::of_thread`].
    pub fn of_pool(isa: Isa, time: Duration) -> Result<Self, LayoutError> {
        #[cfg(feature = "rayon")]
        if rayon::current_num_threads() > 1 {
            let (threads, met) = (rayon::current_num_threads(), AtomicUsize::new(0));
            let all = rayon::broadcast(|_| Self::measure(isa, threads, time, &met));
            let mut all = all.into_iter();
            let first = all.next().unwrap_or_else(|| Self::of_thread(isa, time))?;
            return all.try_fold(first, |sum, one| Ok(sum.plus(&one?)));
        }
        Self::of_thread(isa, time)
    }

    /// The share of one of `threads` that do the same at the same time. `met` counts those that are ready for a figure.
    fn measure(
        isa: Isa,
        threads: usize,
        time: Duration,
        met: &AtomicUsize,
    ) -> Result<Self, LayoutError> {
        let (l2, l3) = (caches::l2(), caches::l3());
        let time = time / FIGURES;
        let mut round = 0;
        let mut meet = || {
            round += 1;
            meet(met, round * threads);
        };
        meet();
        let fma = fma_peak(isa, time);
        let mut level = |bytes: usize| {
            let mut buffer = Buffer::new(bytes)?;
            meet();
            let read = buffer.read(isa, time);
            meet();
            Ok::<_, LayoutError>((read, buffer.update(isa, time)))
        };
        let (l2_read, l2_update) = level(l2 / 2)?;
        let (l3_read, l3_update) = level((l3 / 4 / threads).max(l2.saturating_mul(2)))?;
        let memory = l3.saturating_mul(4).max(64 << 20) / threads;
        let (memory_read, memory_update) = level(memory)?;
        let l2_bytes = l2.saturating_mul(threads);
        Ok(Self {
            threads,
            l2_bytes,
            l3_bytes: l3,
            fma,
            l2_read,
            l2_update,
            l3_read,
            l3_update,
            memory_read,
            memory_update,
        })
    }

    /// The rates of both together.
    #[cfg(feature = "rayon")]
    fn plus(&self, other: &Self) -> Self {
        Self {
            fma: self.fma + other.fma,
            l2_read: self.l2_read + other.l2_read,
            l2_update: self.l2_update + other.l2_update,
            l3_read: self.l3_read + other.l3_read,
            l3_update: self.l3_update + other.l3_update,
            memory_read: self.memory_read + other.memory_read,
            memory_update: self.memory_update + other.memory_update,
            ..*self
        }
    }
}

/// Waits until `all` have come, but not for long: a thread that is busy elsewhere must not stop the others for good.
fn meet(met: &AtomicUsize, all: usize) {
    met.fetch_add(1, Ordering::Relaxed);
    let begin = Instant::now();
    while met.load(Ordering::Relaxed) < all && begin.elapsed() < Duration::from_millis(200) {
        std::hint::spin_loop();
    }
}

/// The shortest of the runs that end within `time`, or the first one: in seconds, never zero. A run that ends later does
/// not count: the other threads may have stopped, and left it all the bandwidth.
fn shortest(time: Duration, mut run: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    loop {
        let start = Instant::now();
        run();
        let late = begin.elapsed() >= time;
        if !late || best.is_infinite() {
            best = best.min(start.elapsed().as_secs_f64());
        }
        if late {
            return best.max(1e-9); // a clock may stand still
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_good() {
        let met = AtomicUsize::new(0);
        meet(&met, 1);
        meet(&met, 9); // seven never come
        assert_eq!(met.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_shortest_run_counts() {
        let mut runs = 0;
        let seconds = shortest(Duration::ZERO, || runs += 1);
        assert!(runs == 1 && seconds > 0.0);
        let nap = Duration::from_millis(20);
        let seconds = shortest(nap, || std::thread::sleep(nap));
        assert!(seconds >= 0.02, "{seconds}"); // the first run took all of the time, and there was no other
    }

    #[cfg(feature = "rayon")]
    #[test]
    fn rates_add_up_and_sizes_do_not() {
        let one = Limits {
            threads: 2,
            l2_bytes: 10,
            l3_bytes: 20,
            fma: 1.0,
            l2_read: 2.0,
            l2_update: 3.0,
            l3_read: 4.0,
            l3_update: 5.0,
            memory_read: 6.0,
            memory_update: 7.0,
        };
        let two = one.plus(&one);
        assert_eq!((two.threads, two.l2_bytes, two.l3_bytes), (2, 10, 20));
        let rates = |l: &Limits| {
            [l.fma, l.l2_read, l.l2_update, l.l3_read, l.l3_update, l.memory_read, l.memory_update]
        };
        assert_eq!(rates(&two), rates(&one).map(|rate| 2.0 * rate));
    }
}
