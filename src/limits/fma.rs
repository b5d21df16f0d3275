//! The peak of arithmetic: the roof of every kernel with many rows.
//!
//! ```text
//! x[i] <- x[i] * 0.5 + 0.5        12 independent chains in registers, 2 FLOP a lane
//! ```

use super::shortest;
use crate::simd::{Isa, Op, Simd};
use std::hint::black_box;
use std::time::Duration;

/// Chains in flight: more than the product of latency and throughput of any CPU that has these instruction sets, and few
/// enough for 16 registers.
const CHAINS: usize = 12;

/// Multiply-adds of each chain in one run.
const LENGTH: usize = 20_000;

struct FmaChains {
    factor: f32,
    term: f32,
}

impl Op for FmaChains {
    /// Keeps the compiler from dropping the chains.
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (a, b) = (s.splat(self.factor), s.splat(self.term));
        let mut acc = [s.splat(1.0); CHAINS];
        for _ in 0..LENGTH {
            for x in &mut acc {
                *x = s.mul_add(*x, a, b);
            }
        }
        let mut sum = acc[0];
        for &x in &acc[1..] {
            sum = s.add(sum, x);
        }
        s.first_lane(sum)
    }
}

/// Peak of f32 multiply-adds on this thread, in FLOP per second (2 for each multiply-add), over about `time`.
///
/// ```
/// use sal_kernels::{Isa, limits::fma_peak};
/// let peak = fma_peak(Isa::detect()?, std::time::Duration::from_millis(5));
/// println!("{:.0} GFLOP/s", peak / 1e9);
/// # Ok::<(), sal_kernels::IsaError>(())
/// ```
pub fn fma_peak(isa: Isa, time: Duration) -> f64 {
    let flop = (2 * CHAINS * LENGTH * isa.lanes()) as f64;
    let seconds = shortest(time, || {
        black_box(isa.run(FmaChains { factor: black_box(0.5), term: black_box(0.5) }));
    });
    flop / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chains_compute_and_a_peak_is_positive() {
        for isa in Isa::available() {
            let sum = isa.run(FmaChains { factor: 0.5, term: 0.5 }); // 1 is the fixed point
            assert_eq!(sum, CHAINS as f32, "{isa}");
            assert!(fma_peak(isa, Duration::from_millis(1)) > 0.0);
        }
    }
}
