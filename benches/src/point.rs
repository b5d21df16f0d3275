//! The points of the grid: a layer, a batch, and how the batch is spread over the areas.
//!
//! ```text
//! balanced   the same number of rows in each area             batch > areas, or one area
//! one-row    one row an area, the next areas with each call    batch <= areas: decoding
//! hot50/80   half / four fifths of the rows in one area        the rest spread evenly
//! zipf       area k has rows in proportion to 1 / (k + 1)
//! rotating   balanced over a quarter of the areas, the next quarter with each call
//! ```
//! Calls take plans (and inputs) by turns. What lies between two uses of the same weights is what the turns touch
//! together, so that sum tells the cache level which the weights come from.

use crate::Grid;
use crate::cache::Level;
use sal_kernels::random::Stream;
use sal_kernels::{Isa, RoutePlan};
use std::fmt;

/// Rows that the turns of inputs may have together, if there is more than one.
const ROWS_IN_TURN: usize = 4096;

/// How samples are spread over areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Evenly.
    Balanced,
    /// One row for each area that is used.
    OneRow,
    /// Half of the rows in one area.
    Hot50,
    /// Four fifths of the rows in one area.
    Hot80,
    /// A quarter of the areas at a time.
    Rotating,
    /// In proportion to 1, 1/2, 1/3, ...
    Zipf,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Balanced, Self::OneRow, Self::Hot50, Self::Hot80, Self::Rotating, Self::Zipf];

    /// Whether it differs from the others at this size.
    fn fits(self, batch: usize, areas: usize) -> bool {
        match self {
            Self::Balanced => areas == 1 || batch > areas,
            Self::OneRow => areas > 1 && batch <= areas,
            Self::Hot50 | Self::Hot80 | Self::Zipf => areas > 1 && batch >= 16,
            Self::Rotating => areas >= 4 && batch > areas / 4,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Balanced => "balanced",
            Self::OneRow => "one-row",
            Self::Hot50 => "hot50",
            Self::Hot80 => "hot80",
            Self::Rotating => "rotating",
            Self::Zipf => "zipf",
        })
    }
}

/// What bounds a product changes with the rows of an area; each regime is a group of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regime {
    /// One row or less for each area.
    OneRow,
    /// Up to eight rows: reading weights.
    FewRows,
    /// More: arithmetic.
    ManyRows,
}

impl Regime {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OneRow, Self::FewRows, Self::ManyRows];
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneRow => "one-row",
            Self::FewRows => "few-rows",
            Self::ManyRows => "many-rows",
        })
    }
}

/// One call that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Samples.
    pub batch: usize,
    /// Width of a sample.
    pub d_in: usize,
    /// Width of its result.
    pub d_out: usize,
    /// Weight sets.
    pub areas: usize,
    /// How the samples are spread.
    pub profile: Profile,
    /// Four fifths of the inputs are exact zeros.
    pub pixels: bool,
}

impl Point {
    /// Samples spread evenly, or one to an area if there are as few.
    pub fn even(batch: usize, (d_in, d_out): (usize, usize), areas: usize) -> Self {
        let one_row = Profile::OneRow.fits(batch, areas);
        let profile = if one_row { Profile::OneRow } else { Profile::Balanced };
        Self { batch, d_in, d_out, areas, profile, pixels: false }
    }

    /// Rows of an area that has any, on average over the turns.
    fn rows_per_area(&self) -> f64 {
        let used = match self.profile {
            Profile::Rotating => self.areas.div_ceil(4),
            _ => self.areas,
        };
        self.batch as f64 / used as f64
    }

    /// Its regime.
    pub fn regime(&self) -> Regime {
        match self.rows_per_area() {
            n if n <= 1.0 => Regime::OneRow,
            n if n <= 8.0 => Regime::FewRows,
            _ => Regime::ManyRows,
        }
    }

    /// Inputs that calls take by turns.
    pub fn inputs(&self) -> usize {
        (ROWS_IN_TURN / self.batch).clamp(1, 8)
    }

    /// The areas of each sample in call `turn`.
    fn areas_of(&self, turn: usize) -> Vec<u32> {
        let (n, k) = (self.batch, self.areas);
        let mut draw = Stream::new(1, 0, turn as u32, "areas");
        let hot = |share: usize| (0..n).map(|i| (i * 100 < n * share, i)).collect::<Vec<_>>();
        let spread = |(hot, i): (bool, usize)| if hot || k == 1 { 0 } else { 1 + i % (k - 1) };
        let mut areas: Vec<usize> = match self.profile {
            Profile::Balanced => (0..n).map(|i| i % k).collect(),
            Profile::OneRow => (0..n).map(|i| (turn * n + i) % k).collect(),
            Profile::Hot50 => hot(50).into_iter().map(spread).collect(),
            Profile::Hot80 => hot(80).into_iter().map(spread).collect(),
            Profile::Rotating => {
                let window = k.div_ceil(4);
                (0..n).map(|i| (turn * window + i % window) % k).collect()
            }
            Profile::Zipf => {
                let total: f64 = (0..k).map(|a| 1.0 / (a + 1) as f64).sum();
                // Row i stands at the share (i + 1/2) / n of the whole; the areas follow one another there.
                let mut ends = (0..k).scan(0.0, |end, a| {
                    *end += 1.0 / (a + 1) as f64 / total;
                    Some(*end)
                });
                let (mut area, mut end) = (0, ends.next().unwrap_or(1.0));
                (0..n)
                    .map(|i| {
                        while (i as f64 + 0.5) / n as f64 > end && area + 1 < k {
                            area += 1;
                            end = ends.next().unwrap_or(1.0);
                        }
                        area
                    })
                    .collect()
            }
        };
        draw.shuffle(&mut areas);
        areas.into_iter().map(|a| a as u32).collect()
    }

    /// The plans that calls take by turns: at least as many as it takes to use every area.
    pub fn plans(&self) -> Vec<RoutePlan> {
        let turns = match self.profile {
            Profile::OneRow => self.areas.div_ceil(self.batch),
            _ => 4,
        };
        let plan = |turn| RoutePlan::new(&self.areas_of(turn), self.areas).expect("areas in range");
        (0..turns).map(plan).collect()
    }

    /// Bytes of the weights of one area.
    pub fn area_bytes(&self) -> u64 {
        4 * (self.d_in * self.d_out) as u64
    }

    /// Bytes of the inputs and of the result of one call.
    pub fn row_bytes(&self) -> u64 {
        4 * (self.batch * (self.d_in + self.d_out)) as u64
    }

    /// Areas with samples, on average over the turns.
    pub fn areas_per_call(&self) -> f64 {
        let plans = self.plans();
        let used = plans.iter().map(|p| (0..p.areas()).filter(|&k| p.occupancy(k) > 0).count());
        used.sum::<usize>() as f64 / plans.len() as f64
    }

    /// Where the weights lie when a call begins: what all turns touch, against the caches.
    pub fn level(&self) -> Level {
        let plans = self.plans();
        let used = (0..self.areas).filter(|&k| plans.iter().any(|p| p.occupancy(k) > 0)).count();
        let inputs = 4 * (self.inputs() * self.batch * self.d_in) as u64;
        let out = 4 * (self.batch * self.d_out) as u64;
        Level::of(used as u64 * self.area_bytes() + inputs + out)
    }

    /// FLOPs of one gated product.
    pub fn flop(&self) -> u64 {
        2 * (self.batch * self.d_in * self.d_out) as u64
    }

    /// `<verb>-f32-<MR>x<NR>-<isa>/<this point>`.
    pub fn label(&self, verb: &str, isa: Isa) -> String {
        let (mr, nr) = (isa.tile_heights()[0], isa.panel_width());
        format!("{verb}-f32-{mr}x{nr}-{isa}/{self}")
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, d_in, d_out, areas, profile, pixels } = self;
        let pixels = if *pixels { "-pixels" } else { "" };
        write!(f, "{profile}{pixels}/n{batch}_{d_in}x{d_out}_k{areas}/{}", self.level())
    }
}

/// The points of a gated verb.
pub fn points(grid: Grid) -> Vec<Point> {
    let mut points = Vec::new();
    let mut add = |shape: (usize, usize), areas: &[usize], batches: &[usize]| {
        for &areas in areas {
            points.extend(batches.iter().map(|&n| Point::even(n, shape, areas)));
        }
    };
    match grid {
        Grid::Test => {
            add((784, 256), &[1, 16], &[1, 16, 64, 256]);
            add((784, 256), &[4, 64], &[64]);
            add((256, 10), &[1, 16], &[1, 64]);
            add((1024, 1024), &[1, 4, 16], &[1, 16, 64]);
            add((4096, 4096), &[1], &[1, 16]);
        }
        Grid::Usual => {
            add((784, 256), &[16], &[1, 16, 64, 256, 1024]);
            add((784, 256), &[1, 4, 64], &[64]);
            add((256, 10), &[1, 16], &[1, 64, 1024]);
            add((1024, 1024), &[16], &[1, 16, 64, 256, 1024]);
            add((1024, 1024), &[1, 4, 64], &[256]);
            add((4096, 4096), &[16], &[1, 64, 256]);
        }
        Grid::Full => {
            for shape in [(784, 256), (256, 10), (1024, 1024), (4096, 4096)] {
                add(shape, &[1, 4, 16, 64], &[1, 16, 64, 256, 1024, 4096]);
            }
        }
    }
    let uneven = |p: &Point| match grid {
        Grid::Test => p.d_in == 784 && p.areas == 16,
        Grid::Usual => p.areas == 16 && [64, 256].contains(&p.batch) && p.d_in.max(1000) < 2000,
        Grid::Full => true,
    };
    let profiles = |p: &Point| {
        let (p, all) = (*p, if uneven(p) { &Profile::ALL[..] } else { &[] });
        let others = all.iter().filter(move |q| **q != p.profile && q.fits(p.batch, p.areas));
        others.map(move |&profile| Point { profile, ..p })
    };
    let uneven: Vec<Point> = points.iter().flat_map(profiles).collect();
    let pixels = |p: &&Point| p.d_in == 784 && p.areas == 16;
    let pixels: Vec<Point> =
        points.iter().filter(pixels).map(|p| Point { pixels: true, ..*p }).collect();
    points.extend(uneven.into_iter().chain(pixels));
    points
}

/// The instruction sets to measure: the best one, or all that this CPU has in a test run and in the full grid.
pub fn isas(grid: Grid) -> Vec<Isa> {
    match grid {
        Grid::Usual => vec![Isa::detect().expect("SAL_ISA names an instruction set of this CPU")],
        Grid::Test | Grid::Full => Isa::available(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn largest(p: &Point, plan: &RoutePlan) -> usize {
        (0..p.areas).map(|k| plan.occupancy(k)).max().unwrap()
    }

    #[test]
    fn profiles_are_what_their_names_say() {
        for p in points(Grid::Full) {
            let plans = p.plans();
            let used = |plan: &RoutePlan| (0..p.areas).filter(|&k| plan.occupancy(k) > 0).count();
            for plan in &plans {
                assert_eq!((plan.batch(), plan.areas()), (p.batch, p.areas), "{p}");
                let most = largest(&p, plan);
                match p.profile {
                    Profile::Balanced => assert_eq!(most, p.batch.div_ceil(p.areas), "{p}"),
                    Profile::OneRow => assert_eq!((most, used(plan)), (1, p.batch), "{p}"),
                    Profile::Hot50 => assert_eq!(plan.occupancy(0), p.batch / 2, "{p}"),
                    Profile::Hot80 => {
                        assert_eq!(plan.occupancy(0), (p.batch * 4).div_ceil(5), "{p}")
                    }
                    Profile::Rotating => assert!(used(plan) <= p.areas.div_ceil(4), "{p}"),
                    Profile::Zipf => {
                        let total: f64 = (1..=p.areas).map(|k| 1.0 / k as f64).sum();
                        for k in 0..p.areas {
                            let want = p.batch as f64 / ((k + 1) as f64 * total);
                            assert!(
                                (plan.occupancy(k) as f64 - want).abs() <= 1.0,
                                "{p}, area {k}"
                            );
                        }
                    }
                }
            }
            if matches!(p.profile, Profile::Balanced | Profile::OneRow | Profile::Rotating) {
                let all = (0..p.areas).all(|k| plans.iter().any(|plan| plan.occupancy(k) > 0));
                assert!(all, "{p}: an area is never used");
            }
        }
    }

    #[test]
    fn no_point_is_measured_twice_and_the_full_grid_has_every_profile() {
        for grid in [Grid::Test, Grid::Usual, Grid::Full] {
            let all = points(grid);
            for (i, p) in all.iter().enumerate() {
                assert!(!all[..i].contains(p), "{p}");
            }
            for profile in Profile::ALL {
                assert!(all.iter().any(|p| p.profile == profile), "{grid:?} has no {profile}");
            }
        }
    }
}
