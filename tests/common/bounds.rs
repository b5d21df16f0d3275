//! How far an f32 kernel may be from the f64 oracle. Every bound is derived, none is tuned.
//!
//! ```text
//! one operation   fl(x op y) = (x op y)(1 + d) + t     |d| <= U = 2^-24;  |t| <= TINY / 2 where a product, a
//!                                                      quotient or a root underflows (sums do not)
//! k operations    (1 + U)^k - 1 <= k U / (1 - k U)     SLACK covers that last factor for k <= 16
//! ```
//! Kernels with a fused multiply-add round once where the portable one rounds twice: the bounds count twice. The
//! oracle's own errors, of the order depth * 2^-53, are thousands of times smaller than the roundings counted in excess.

use sal_kernels::reference::{Optimizer, Routed, Router, Rule};

/// Largest relative error of one rounding to f32.
pub(crate) const U: f64 = 1.0 / (1 << 24) as f64;

/// The smallest positive f32, 2^-149.
pub(crate) const TINY: f64 = 1.401298464324817e-45;

const SLACK: f64 = 1.0 + 1.0 / (1 << 18) as f64;

/// Error of a sum of `depth` products whose magnitudes add up to `magnitude`: `(depth + 2) U magnitude`.
///
/// Each product passes at most `depth` roundings: its own and depth - 1 additions (the first one, to zero, is
/// exact); or fused, depth. One more operation on the result (a bias) makes depth + 1, and
/// `(depth + 1) U / (1 - (depth + 1) U) <= (depth + 2) U` as long as `(depth + 1)(depth + 2) U <= 1`.
pub(crate) fn chain(depth: usize, magnitude: f64) -> f64 {
    assert!(depth <= 4000, "depth {depth}");
    (depth + 2) as f64 * U * magnitude + (depth + 1) as f64 * TINY
}

/// What routing one sample may lose.
pub(crate) struct RouteBound {
    pub(crate) norm: f64,
    pub(crate) directions: Vec<f64>,
    pub(crate) scores: Vec<f64>,
}

/// Bounds of sample `s`.
///
/// - `u`: two chains (of h and of mu) and their difference, d_in + 1 roundings: `chain(d_in)` of both magnitudes.
/// - `nu = fl(fl(|u|) + fl(1e-6))`: the length moves by at most `|error of u|`; rounding it and the constant costs
///   `U nu`, the sum `U nu`; the f64 sum of squares far less than a third.
/// - `uh = fl(u / nu)`: `u'/n' - u/n = (u' - u)/n' - u/n (n' - n)/n'` with `n' >= n - error`, and one rounding.
///   Both are at most 1 (and a rounding) in magnitude, which bounds the rest: a sample whose projection cancels to
///   nothing has no direction.
/// - `s`: the error of `uh` through C, and a chain over `|uh'| |C|`.
pub(crate) fn route(router: &Router<'_>, routed: &Routed, s: usize) -> RouteBound {
    let (width, areas) = (router.width, router.areas);
    let at = s * width..(s + 1) * width;
    let magnitudes = &routed.projections.magnitude[at.clone()];
    let underflow = router.d_in as f64 * TINY;
    let u: Vec<f64> = magnitudes.iter().map(|&m| chain(router.d_in, m) + underflow).collect();
    let uh = &routed.directions[at];
    let (norm, directions) = if router.cosine {
        let nu = routed.norms[s];
        let norm = (u.iter().map(|e| e * e).sum::<f64>().sqrt() + 3.0 * U * nu) * SLACK;
        let direction = |(eu, uh): (&f64, &f64)| {
            let any = 2.0 + 4.0 * U;
            if norm >= nu {
                return any;
            }
            let moved = (eu + uh.abs() * norm) / (nu - norm);
            any.min((moved + U * (uh.abs() + moved)) * SLACK + TINY)
        };
        (norm, u.iter().zip(uh).map(direction).collect())
    } else {
        (0.0, u)
    };
    let score = |k: usize| {
        let (mut moved, mut magnitude) = (0.0, 0.0);
        for r in 0..width {
            let c = router.prototypes[k * width + r].abs();
            moved += directions[r] * c;
            magnitude += (uh[r].abs() + directions[r]) * c;
        }
        moved * SLACK + chain(width, magnitude)
    };
    RouteBound { norm, scores: (0..areas).map(score).collect(), directions }
}

/// One weight before its update, and the gradient that it gets.
pub(crate) struct Weight {
    pub(crate) w: f64,
    pub(crate) m: f64,
    pub(crate) v: f64,
    /// Its gradient, as the oracle has it, and the sum of magnitudes.
    pub(crate) g: f64,
    pub(crate) magnitude: f64,
    /// Samples of the area.
    pub(crate) n: usize,
    /// Largest |h| among the inputs that reach the weight: 1 for a bias.
    pub(crate) reach: f64,
    /// Step of the area, from 1.
    pub(crate) t: u64,
}

/// What one step may lose.
#[derive(Default)]
pub(crate) struct StepBound {
    pub(crate) w: f64,
    pub(crate) m: f64,
    pub(crate) v: f64,
}

/// Bounds of one weight.
///
/// - `g`: the factor c and the scaled delta are rounded, then a chain over n samples: `n + 2` roundings, which
///   `chain(n + 1)` covers; a scaled delta that underflows reaches g through an input.
/// - `keep w`, with `keep = fl(1 - fl(lr decay))`: `|w| U (|lr decay| + |keep|)` from the factor, `U |keep w|` from the
///   product. The last sum rounds once more.
/// - SGD: lr is part of c, so the sum is `lr g`.
/// - momentum: `m' = fl(fl(mom m) + g')`, and `lr m'` is rounded once.
pub(crate) fn step(rule: &Rule, at: &Weight) -> StepBound {
    let &Weight { w, m, g, n, .. } = at;
    let lr = rule.lr.abs();
    let underflow = n as f64 * at.reach * TINY;
    let eg = chain(n + 1, at.magnitude) + underflow;
    let keep = (1.0 - rule.lr * rule.decay).abs();
    let kept = keep * w.abs();
    let kept_error = w.abs() * U * (lr * rule.decay.abs() + keep) + U * kept + TINY;
    let last = |change: f64| U * (kept + change);
    match rule.optimizer {
        Optimizer::Sgd => {
            let lost = lr * chain(n + 1, at.magnitude) + underflow + n as f64 * TINY;
            let change = lr * g.abs() + lost;
            StepBound { w: (kept_error + lost + last(change)) * SLACK, ..Default::default() }
        }
        Optimizer::Momentum { momentum } => {
            let old = (momentum * m).abs();
            let em = (eg + U * old + U * (old + g.abs() + eg)) * SLACK + TINY;
            let change = lr * (old + g.abs() + em);
            let lost = lr * em + U * change + TINY;
            StepBound { w: (kept_error + lost + last(change)) * SLACK, m: em, v: 0.0 }
        }
        Optimizer::AdamW { beta1, beta2, eps } => {
            let (moments, lost, change) = adamw(lr, beta1, beta2, eps, at, eg);
            StepBound { w: (kept_error + lost + last(change + lost)) * SLACK, ..moments }
        }
    }
}

/// AdamW: bounds of the moments, the error of the change of w, and the size of the change.
///
/// ```text
/// m(g) = a + p g        a = b1 m, p = 1 - b1        change(g) = S m(g) / D(g)      S = lr / (1 - b1^t)
/// v(g) = b + q g^2      b = b2 v, q = 1 - b2        D(g) = sqrt(X v(g)) + eps      X = 1 / (1 - b2^t)
/// ```
/// The kernel's g' is anywhere within eg of g, and the moments see the same g'. Where v is almost 0, m / D must not be
/// bounded by the two errors apart: D alone may be as small as eps. So the error has two parts.
///
/// - From g to g', in exact arithmetic. D grows with |g|, at most by `sqrt(X q)` for each unit, and its least value
///   on the interval is `D0 = D(max(0, |g| - eg))`. As for a quotient above,
///   `|change(g') - change(g)| <= (S p + |change(g)| sqrt(X q)) eg / D0`. And always `p |g'| / D(g') <= p / sqrt(X q)`,
///   hence `|change(g')| <= S (|a| / D0 + p / sqrt(X q))`: the size that a change has when not even the sign of g is
///   known. The smaller of the two holds.
/// - The kernel's roundings at g'. m: two of a, three of p g' (1 - b1, the product, the sum). v: at most four,
///   relative, as both parts are positive. Then X (two: libm's pow and the rounding) and the product make seven,
///   the root halves them and rounds: five; eps: six. S (two), the product with m and the quotient: four. In all
///   `10 U |change|`, and `S (2 U |a| + 3 U p |g'|) / D(g')` from m.
/// - Underflow: up to 2^-148 in v, so `sqrt(X 2^-147)` in D, which is relative to D at most that over eps; and one
///   TINY in S m, over eps.
fn adamw(lr: f64, b1: f64, b2: f64, eps: f64, at: &Weight, eg: f64) -> (StepBound, f64, f64) {
    let (p, q) = (1.0 - b1, 1.0 - b2);
    let (a, b) = ((b1 * at.m).abs(), b2 * at.v);
    let s = lr / (1.0 - b1.powf(at.t as f64));
    let x = 1.0 / (1.0 - b2.powf(at.t as f64));
    let d = |g: f64| (x * (b + q * g * g)).sqrt() + eps;
    let g = at.g.abs();
    let (least, most) = ((g - eg).max(0.0), g + eg);

    let m = (p * eg + 2.0 * U * a + 3.0 * U * p * most) * SLACK + 2.0 * TINY;
    let v = (q * (2.0 * g * eg + eg * eg) + 4.0 * U * (b + q * most * most)) * SLACK + 2.0 * TINY;

    let (d0, slope) = (d(least), (x * q).sqrt());
    let size = s * (b1 * at.m + p * at.g).abs() / d(g);
    // p |g'| / D(g') has two bounds as well.
    let part = (p * most / d0).min(p / slope);
    let largest = s * (a / d0 + part);
    let moved = ((s * p + size * slope) * eg / d0).min(size + largest);
    let relative = 10.0 * U + (x * 4.0 * TINY).sqrt() / eps;
    let rounded = s * (2.0 * U * a / d0 + 3.0 * U * part) + relative * (size + moved);
    let underflow = 2.0 * TINY * (1.0 + s) / eps;
    (StepBound { w: 0.0, m, v }, (moved + rounded) * SLACK + underflow, size)
}
