//! The data of a measurement: which samples go to which area, inputs, weights.
//!
//! ```text
//! balanced   B / K samples an area                     one-row   one sample in each of B areas, B <= K
//! hot50/80   50 or 80 % in area 0, the rest balanced   rotating  all in one area, the next one in the next plan
//! zipf       shares 1 / (rank + 1)
//! ```
//! A case has several plans and inputs, used by turns, so that each area's weights are met again only after those of
//! all others: they lie where the size of the whole layer puts them. Plans of one case differ in order and in which
//! areas are used, never in how much work they are.

use sal_kernels::random::Stream;
use sal_kernels::{Matrix, RoutePlan};
use std::fmt;

/// Batch and layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Samples.
    pub(crate) batch: usize,
    /// Width of the input.
    pub(crate) d_in: usize,
    /// Width of the output.
    pub(crate) d_out: usize,
    /// Number of areas.
    pub(crate) areas: usize,
}

impl Shape {
    /// FLOPs of one gated product.
    pub(crate) fn flop(&self) -> f64 {
        2.0 * (self.batch * self.d_in * self.d_out) as f64
    }
}

/// How the samples of a batch are spread over the areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// As many in each area.
    Balanced,
    /// Half of them in one.
    Hot50,
    /// Four of five in one.
    Hot80,
    /// One in each area that is used.
    OneRow,
    /// All of them in one area, another one each time.
    Rotating,
    /// Shares that fall with the rank.
    Zipf,
}

impl Profile {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Balanced, Self::Hot50, Self::Hot80, Self::OneRow, Self::Rotating, Self::Zipf];

    /// Whether a batch can be spread so, and in another way than by the profiles before.
    pub(crate) fn fits(self, batch: usize, areas: usize) -> bool {
        match self {
            Self::Balanced => true,
            Self::OneRow => areas > 1 && batch > 1 && batch <= areas,
            Self::Rotating => areas > 1 && batch > 1,
            Self::Hot50 | Self::Hot80 | Self::Zipf => areas > 1 && batch >= areas,
        }
    }

    /// The area of each sample in plan `turn`.
    pub(crate) fn areas(self, batch: usize, areas: usize, turn: usize) -> Vec<u32> {
        let mut draw = Stream::new(1, turn as u32, 0, "areas");
        let hot = |share: f64| {
            let hot = if areas > 1 { (batch as f64 * share).round() as usize } else { batch };
            let rest = (0..batch - hot).map(|s| 1 + s % (areas - 1).max(1));
            std::iter::repeat_n(0, hot).chain(rest).collect()
        };
        let mut z: Vec<usize> = match self {
            Self::Balanced => (0..batch).map(|s| (turn * batch + s) % areas).collect(),
            Self::Hot50 => hot(0.5),
            Self::Hot80 => hot(0.8),
            Self::OneRow => {
                let mut all: Vec<usize> = (0..areas).collect();
                draw.shuffle(&mut all);
                all.truncate(batch);
                all
            }
            Self::Rotating => vec![turn % areas; batch],
            Self::Zipf => zipf(batch, areas),
        };
        draw.shuffle(&mut z);
        z.into_iter().map(|k| k as u32).collect()
    }

    /// Plans after which every area has been used, and at least four.
    fn turns(self, batch: usize, areas: usize) -> usize {
        let used = if self == Self::Rotating { 1 } else { batch.min(areas) };
        areas.div_ceil(used).max(4)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Balanced => "balanced",
            Self::Hot50 => "hot50",
            Self::Hot80 => "hot80",
            Self::OneRow => "one-row",
            Self::Rotating => "rotating",
            Self::Zipf => "zipf",
        })
    }
}

/// Areas of a batch with shares 1 / (rank + 1), by the largest remainder.
fn zipf(batch: usize, areas: usize) -> Vec<usize> {
    let total: f64 = (0..areas).map(|k| 1.0 / (k + 1) as f64).sum();
    let share = |k: usize| batch as f64 / (total * (k + 1) as f64);
    let mut z: Vec<usize> =
        (0..areas).flat_map(|k| std::iter::repeat_n(k, share(k) as usize)).collect();
    let mut by_remainder: Vec<usize> = (0..areas).collect();
    by_remainder.sort_by(|&a, &b| share(b).fract().total_cmp(&share(a).fract()));
    z.extend(by_remainder.into_iter().take(batch - z.len()));
    z
}

/// A batch for one layer.
pub(crate) struct Case {
    /// Its sizes.
    pub(crate) shape: Shape,
    plans: Vec<RoutePlan>,
    /// (batch, d_in) each.
    inputs: Vec<Matrix>,
    /// (batch, d_out).
    pub(crate) deltas: Matrix,
}

impl Case {
    /// Plans, normal inputs and deltas.
    pub(crate) fn new(shape: Shape, profile: Profile) -> Self {
        let Shape { batch, d_in, d_out, areas } = shape;
        let plan = |turn| {
            RoutePlan::new(&profile.areas(batch, areas, turn), areas).expect("areas are in range")
        };
        Self {
            shape,
            plans: (0..profile.turns(batch, areas)).map(plan).collect(),
            inputs: rotating_inputs(batch, d_in),
            deltas: normal("deltas", 0, batch, d_out, 1.0),
        }
    }

    /// The plan of call number `turn`.
    pub(crate) fn plan(&self, turn: usize) -> &RoutePlan {
        &self.plans[turn % self.plans.len()]
    }

    /// The inputs of call number `turn`.
    pub(crate) fn inputs(&self, turn: usize) -> &Matrix {
        &self.inputs[turn % self.inputs.len()]
    }
}

/// Normal inputs to use by turns: four, or two if they are large.
pub(crate) fn rotating_inputs(batch: usize, d_in: usize) -> Vec<Matrix> {
    let count = if batch * d_in > 1 << 22 { 2 } else { 4 };
    (0..count).map(|turn| normal("inputs", turn, batch, d_in, 1.0)).collect()
}

/// A matrix of draws from N(0, `variance`), the same for the same name and number.
///
/// Above a million the draws repeat, with a period that is a prime: a billion draws would take longer than what is
/// measured.
pub(crate) fn normal(role: &str, number: u32, rows: usize, cols: usize, variance: f64) -> Matrix {
    const PERIOD: usize = 1_048_573;
    let mut m = Matrix::zeros(rows, cols).expect("a shape that fits in memory");
    let (first, rest) = m.as_mut_slice().split_at_mut(PERIOD.min(rows * cols));
    Stream::new(1, number, 0, role).fill_normal(variance, first);
    for to in rest.chunks_mut(PERIOD) {
        let len = to.len();
        to.copy_from_slice(&first[..len]);
    }
    m
}

/// Rows and columns of an image.
const SIDE: usize = 28;
/// Pixels of an image that are not zero: 19 %.
const INK: usize = 149;

/// Images of 28 x 28 pixels that are zero as MNIST's are: 81 %, all but a few thick strokes near the middle.
pub(crate) fn strokes(count: usize, number: u32) -> Matrix {
    let mut images = Matrix::zeros(count, SIDE * SIDE).expect("a shape that fits in memory");
    let mut draw = Stream::new(1, number, 0, "strokes");
    for image in 0..count {
        let pixels = images.row_mut(image);
        let (mut ink, mut x, mut y, mut angle) = (0, 0.0, 0.0, 0.0f32);
        for dot in 0.. {
            // A new stroke starts every 16 dots, in the box of 20 x 20 that holds MNIST's digits.
            if dot % 16 == 0 {
                (x, y) = (5.0 + draw.below(16) as f32, 5.0 + draw.below(16) as f32);
                angle = draw.normal() * 3.0;
            }
            for at in
                [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(r, c)| (y as usize + r, x as usize + c))
            {
                let pixel = &mut pixels[at.0 * SIDE + at.1];
                ink += usize::from(*pixel == 0.0);
                *pixel = (1 + draw.below(255)) as f32 / 255.0;
            }
            if ink >= INK {
                break;
            }
            angle += 0.3 * draw.normal();
            x = (x + angle.cos()).clamp(4.0, 22.0);
            y = (y + angle.sin()).clamp(4.0, 22.0);
        }
    }
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of each area.
    fn counts(z: &[u32], areas: usize) -> Vec<usize> {
        (0..areas).map(|k| z.iter().filter(|&&a| a as usize == k).count()).collect()
    }

    #[test]
    fn profiles_sum_to_the_batch_and_do_the_same_work_each_turn() {
        for profile in Profile::ALL {
            for (batch, areas) in [(1, 1), (1, 4), (3, 16), (16, 16), (64, 16), (100, 7), (256, 64)]
            {
                if !profile.fits(batch, areas) {
                    continue;
                }
                let sorted = |turn| {
                    let mut c = counts(&profile.areas(batch, areas, turn), areas);
                    c.sort_unstable();
                    c
                };
                assert_eq!(sorted(0).iter().sum::<usize>(), batch, "{profile} {batch} {areas}");
                assert_eq!(sorted(0), sorted(1), "{profile} {batch} {areas}");
            }
        }
    }

    #[test]
    fn profiles_are_what_they_say() {
        let of = |profile: Profile, batch, areas| counts(&profile.areas(batch, areas, 3), areas);
        assert_eq!(of(Profile::Balanced, 64, 16), [4; 16]);
        assert_eq!(of(Profile::Hot50, 30, 4), [15, 5, 5, 5]);
        assert_eq!(of(Profile::Hot80, 100, 5), [80, 5, 5, 5, 5]);
        assert_eq!(of(Profile::Rotating, 9, 4), [0, 0, 0, 9]);
        assert_eq!(of(Profile::Zipf, 25, 4), [12, 6, 4, 3]);
        assert!(of(Profile::OneRow, 10, 16).iter().all(|&n| n <= 1));
    }

    #[test]
    fn after_all_turns_every_area_was_used() {
        for (profile, batch) in
            [(Profile::Balanced, 1), (Profile::Balanced, 3), (Profile::Rotating, 8)]
        {
            let mut all = vec![0; 16];
            for turn in 0..profile.turns(batch, 16) {
                for k in profile.areas(batch, 16, turn) {
                    all[k as usize] += 1;
                }
            }
            assert!(all.iter().all(|&n| n > 0), "{profile} {batch}: {all:?}");
        }
    }

    #[test]
    fn strokes_are_zero_as_digits_are() {
        let images = strokes(50, 0);
        let x = images.as_slice();
        let zero = x.iter().filter(|&&v| v == 0.0).count() as f64 / x.len() as f64;
        assert!((0.80..0.82).contains(&zero), "{zero}");
        // Scattered ink would have 81 % of its right-hand neighbours zero; strokes have few.
        let pairs = x.windows(2).filter(|w| w[0] != 0.0);
        let (ends, all) = pairs.fold((0, 0), |(e, n), w| (e + usize::from(w[1] == 0.0), n + 1));
        assert!(ends * 2 < all, "{ends} of {all}");
    }
}
