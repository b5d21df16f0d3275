//! The update by few samples: their deltas stay in registers, and the weights stream by once.
//!
//! ```text
//! d[H][NV] = the deltas of H samples for one panel
//! for each weight row c:   sum[NV] = 0, or what the samples before left
//!                          for i in 0..H: sum += splat(x(i, c)) * d[i]
//!                          rule(weights of row c, sum), or the sum is left for the next samples
//! ```
//! There is no tile to set up and no input to pack, which for few samples, or few panels, costs more than the sums. Each
//! sum is the chain of [`super::tile`], so its bits are the same.

use super::store::Rule;
use super::tile::{Ahead, From, Listed, Steps, Sums};
use crate::matrix::MatrixRef;
use crate::simd::{Simd, Tile};
use std::ops::Range;

/// Most samples whose deltas fit in the registers of an instruction set: those of its highest tile, up to this.
const STREAMED: usize = 6;

/// Samples that a stream takes at most; any fewer will do, too.
#[inline(always)]
pub(crate) fn streamed<S: Simd>() -> usize {
    *S::HEIGHTS.iter().find(|&&h| h <= STREAMED).expect("heights end with 1")
}

/// One panel of weights, updated by as many samples as the tile is high.
pub(crate) struct StreamUpdate<'a, R> {
    /// The layer's input; nothing for a bias, whose input is one.
    pub(crate) inputs: Option<MatrixRef<'a>>,
    pub(crate) samples: &'a [u32],
    /// Their deltas for this panel: one row of NR values each.
    pub(crate) deltas: &'a [f32],
    /// The weight rows that the rule's weights are, and the input columns that belong to them.
    pub(crate) rows: &'a Range<usize>,
    /// Of these rows those that change, in ascending order; nothing if all do.
    pub(crate) listed: Option<&'a [u32]>,
    pub(crate) rule: R,
    /// For the rows that the rule has.
    pub(crate) sums: Sums<'a>,
}

impl<R: Rule> Tile for StreamUpdate<'_, R> {
    #[inline(always)]
    fn at<S: Simd, const H: usize, const NV: usize>(self, s: S) {
        if H > STREAMED {
            unreachable!("{H} samples are not few");
        }
        let Self { inputs, samples, deltas, rows, listed, rule, sums } = self;
        assert!(deltas.len() >= H * S::NR, "deltas of {}", deltas.len());
        assert!(rule.len() >= rows.len() * S::NR, "weights of {}", rule.len());
        let whole = !sums.resume && sums.finish;
        assert!(whole || sums.values.len() >= rows.len() * S::NR, "{} sums", sums.values.len());
        // One value for each row: from the samples, or a one for all of them.
        let (mut x, one, step) = ([std::ptr::null(); H], 1.0f32, usize::from(inputs.is_some()));
        for (x, &sample) in x.iter_mut().zip(&samples[..H]) {
            *x = match inputs {
                Some(inputs) => inputs.row(sample as usize)[rows.clone()].as_ptr(),
                None => &one,
            };
        }
        // SAFETY: the deltas hold H rows, the rule's weights all of `rows`, each input as many values, which `x` walks
        // through in steps of one, or in none over its single one.
        unsafe {
            match listed {
                None => stream::<S, R, _, H, NV>(
                    s,
                    (rows.len(), From(0)),
                    x,
                    step,
                    deltas,
                    (rule, sums),
                ),
                Some(list) => {
                    let inside = list.iter().all(|&row| rows.contains(&(row as usize)));
                    assert!(inside, "rows of the list outside of {rows:?}");
                    let steps = (list.len(), Listed(list.as_ptr(), rows.start));
                    stream::<S, R, _, H, NV>(s, steps, x, step, deltas, (rule, sums));
                }
            }
        }
    }
}

/// # Safety
/// - for each row r of `steps` the rule, and the sums if they are used, have `r * S::NR .. (r + 1) * S::NR`, and
///   `x[i] + r * step` is readable
/// - `deltas` holds `H` rows of `S::NR` values
#[inline(always)]
unsafe fn stream<S: Simd, R: Rule, D: Steps, const H: usize, const NV: usize>(
    s: S,
    (count, steps): (usize, D),
    x: [*const f32; H],
    step: usize,
    deltas: &[f32],
    (rule, waiting): (R, Sums<'_>),
) {
    let mut d = [[s.splat(0.0); NV]; H];
    for (i, d) in d.iter_mut().enumerate() {
        for (j, d) in d.iter_mut().enumerate() {
            // SAFETY: vector j < NV of row i < H.
            *d = unsafe { s.load(deltas.as_ptr().add(i * S::NR + j * S::LANES)) };
        }
    }
    for t in 0..count {
        // SAFETY: t < count.
        let row = unsafe { steps.row(t) };
        let at = row * S::NR;
        s.prefetch(rule.first().wrapping_add(at).wrapping_byte_add(Ahead::DISTANCE));
        let mut sums = [s.splat(0.0); NV];
        if waiting.resume {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the sums have this row.
                *sum = unsafe { waiting.values.load(s, at + j * S::LANES) };
            }
        }
        for (x, d) in x.iter().zip(&d) {
            // SAFETY: the caller's promise.
            let x = s.splat(unsafe { x.add(row * step).read() });
            for (sum, &d) in sums.iter_mut().zip(d) {
                *sum = s.mul_add(x, d, *sum);
            }
        }
        for (j, &sum) in sums.iter().enumerate() {
            // SAFETY: the rule, or else the sums, have this row.
            unsafe {
                if waiting.finish {
                    rule.apply(s, at + j * S::LANES, sum);
                } else {
                    waiting.values.store(s, at + j * S::LANES, sum);
                }
            }
        }
    }
}
