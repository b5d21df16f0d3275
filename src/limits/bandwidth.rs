//! How fast bytes come from where they lie: the roof of every kernel with few rows.
//!
//! ```text
//! read     acc[i] += vector i of the block                  8 sums, so that no addition waits for the one before
//! update   vector <- vector * 0.5 + 0.5, where it lies      every vector for itself
//! both     ask for the lines 4 KiB ahead; go on until the end of the buffer
//! ```

use super::shortest;
use crate::matrix::{LayoutError, Matrix};
use crate::simd::{Isa, Op, Simd};
use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

/// Vectors in flight.
const VECTORS: usize = 8;

/// How far ahead lines are asked for, in bytes.
const AHEAD: usize = 4096;

/// Bytes of one cache line.
const LINE: usize = 64;

/// Bytes of one timed run, some passes over a small buffer or a piece of a large one: short against another process's
/// turn, long against reading the clock.
const RUN: usize = 2 << 20;

struct Read<'a> {
    data: &'a [f32],
    passes: usize,
}

impl Op for Read<'_> {
    /// Keeps the compiler from dropping the sums.
    type Out = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut acc = [s.splat(0.0); VECTORS];
        for _ in 0..self.passes {
            for block in self.data.chunks_exact(VECTORS * S::LANES) {
                prefetch(s, block);
                for (acc, from) in acc.iter_mut().zip(block.chunks_exact(S::LANES)) {
                    *acc = s.add(*acc, s.load_slice(from));
                }
            }
        }
        let mut sum = acc[0];
        for &x in &acc[1..] {
            sum = s.add(sum, x);
        }
        s.first_lane(sum)
    }
}

struct Update<'a> {
    data: &'a mut [f32],
    passes: usize,
    factor: f32,
    term: f32,
}

impl Op for Update<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (a, b) = (s.splat(self.factor), s.splat(self.term));
        for _ in 0..self.passes {
            for block in self.data.chunks_exact_mut(VECTORS * S::LANES) {
                prefetch(s, block);
                for at in block.chunks_exact_mut(S::LANES) {
                    s.store_slice(at, s.mul_add(s.load_slice(at), a, b));
                }
            }
        }
    }
}

/// Asks for as many lines as the block has, some way ahead.
#[inline(always)]
fn prefetch<S: Simd>(s: S, block: &[f32]) {
    for line in (0..size_of_val(block)).step_by(LINE) {
        s.prefetch(block.as_ptr().wrapping_byte_add(AHEAD + line));
    }
}

/// Ones in so many bytes, and where the next run begins.
pub(super) struct Buffer {
    data: Matrix,
    at: usize,
}

impl Buffer {
    pub(super) fn new(bytes: usize) -> Result<Self, LayoutError> {
        // Whole blocks of every instruction set, one at least.
        let blocks = (bytes / (VECTORS * LINE)).max(1);
        let mut data = Matrix::zeros(blocks, VECTORS * LINE / size_of::<f32>())?;
        data.as_mut_slice().fill(1.0);
        Ok(Self { data, at: 0 })
    }

    pub(super) fn read(&mut self, isa: Isa, time: Duration) -> f64 {
        let (passes, bytes) = self.run_size();
        let seconds = shortest(time, || {
            let piece = self.next();
            let data = black_box(&self.data.as_slice()[piece]);
            black_box(isa.run(Read { data, passes }));
        });
        bytes as f64 / seconds
    }

    pub(super) fn update(&mut self, isa: Isa, time: Duration) -> f64 {
        let (passes, bytes) = self.run_size();
        let (factor, term) = black_box((0.5, 0.5)); // ones stay ones
        let seconds = shortest(time, || {
            let piece = self.next();
            let data = black_box(&mut self.data.as_mut_slice()[piece]);
            isa.run(Update { data, passes, factor, term });
        });
        2.0 * bytes as f64 / seconds
    }

    /// Passes of a run, and the bytes of all of them.
    fn run_size(&self) -> (usize, usize) {
        let bytes = size_of_val(self.data.as_slice());
        let passes = RUN.div_ceil(bytes);
        (passes, bytes.min(RUN) * passes)
    }

    /// The values of the next run: all, or what follows those of the run before.
    fn next(&mut self) -> Range<usize> {
        let all = self.data.as_slice().len();
        let piece = all.min(RUN / size_of::<f32>());
        if self.at + piece > all {
            self.at = 0;
        }
        self.at += piece;
        self.at - piece..self.at
    }
}

/// Bytes a second that this thread reads from a buffer of about `bytes`, again and again: the best run of about `time`.
/// Where the buffer lies is up to its size.
///
/// # Errors
/// If there is no memory for the buffer.
///
/// ```
/// use sal_kernels::{Isa, caches, limits::read_bandwidth};
/// let rate = read_bandwidth(Isa::detect()?, caches::l2() / 2, std::time::Duration::from_millis(5))?;
/// println!("{:.0} GB/s from L2", rate / 1e9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_bandwidth(isa: Isa, bytes: usize, time: Duration) -> Result<f64, LayoutError> {
    Ok(Buffer::new(bytes)?.read(isa, time))
}

/// Bytes a second that this thread reads from a buffer of about `bytes` and writes back, both counted: the best run of
/// about `time`.
///
/// # Errors
/// If there is no memory for the buffer.
///
/// ```
/// use sal_kernels::{Isa, caches, limits::update_bandwidth};
/// let rate = update_bandwidth(Isa::detect()?, caches::l2() / 2, std::time::Duration::from_millis(5))?;
/// println!("{:.0} GB/s to and from L2", rate / 1e9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn update_bandwidth(isa: Isa, bytes: usize, time: Duration) -> Result<f64, LayoutError> {
    Ok(Buffer::new(bytes)?.update(isa, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_read_and_changed_once_a_pass() {
        for isa in Isa::available() {
            let mut data = Buffer::new(10_000).unwrap().data;
            let n = data.as_slice().len();
            assert_eq!(4 * n % (VECTORS * LINE), 0);
            let sum = isa.run(Read { data: data.as_slice(), passes: 3 });
            assert_eq!(sum as usize * isa.lanes(), 3 * n, "{isa}");
            let all = data.as_mut_slice();
            isa.run(Update { data: all, passes: 2, factor: 2.0, term: 1.0 });
            assert!(data.as_slice().iter().all(|&x| x == 7.0), "{isa}"); // 1 -> 3 -> 7
        }
    }

    #[test]
    fn runs_go_through_a_large_buffer_piece_by_piece() {
        let mut buffer = Buffer::new(2 * RUN + RUN / 2).unwrap();
        assert_eq!(buffer.run_size(), (1, RUN));
        let piece = RUN / 4;
        for first in [0, piece, 0, piece] {
            assert_eq!(buffer.next(), first..first + piece);
        }
        let mut small = Buffer::new(RUN / 4).unwrap();
        assert_eq!(small.run_size(), (4, RUN));
        assert_eq!([small.next(), small.next()], [0..piece / 4, 0..piece / 4]);
    }

    #[test]
    fn rates_are_positive_and_sizes_are_checked() {
        for isa in Isa::available() {
            for bytes in [0, 1, 100_000, 2 * RUN + RUN / 2] {
                assert!(read_bandwidth(isa, bytes, Duration::ZERO).unwrap() > 0.0, "{isa}");
                assert!(update_bandwidth(isa, bytes, Duration::ZERO).unwrap() > 0.0, "{isa}");
            }
            assert!(read_bandwidth(isa, usize::MAX, Duration::ZERO).is_err());
        }
    }
}
