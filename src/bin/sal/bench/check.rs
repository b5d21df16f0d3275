//! Is a result right? Each one is compared with the f64 oracle before anything is timed.
//!
//! ```text
//! |got - want| <= (depth + 2) 2^-24 sum |a| |b|       depth products in the sum, and a bias or a scale
//! all entries       where they take up to 2^20 multiply-adds
//! 16 x 16 entries   otherwise, spread evenly from first to last: rows x columns; of an update, of each area's weights
//! ```
//! Entries of a product depend on their own row and column only, so the oracle gets just these.

use super::case::{Batch, LR, Operand};
use sal_kernels::kernels::Shape;
use sal_kernels::reference::{
    self, Averaging, Optimizer, Parameters, Router, Rule, Sums, gradient, relu,
};
use sal_kernels::{Panels, RoutePlan};
use std::fmt;

/// Largest relative error of one rounding to f32.
const U: f64 = 1.0 / (1 << 24) as f64;

/// Multiply-adds up to which every entry is checked.
const ALL: usize = 1 << 20;

/// Rows, and columns, that are checked otherwise; fewer where the sums are very long.
const SOME: usize = 16;

/// One entry of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Sample and column.
    Out(usize, usize),
    /// Sample and direction of a route.
    Direction(usize, usize),
    /// Sample and area of a route.
    Score(usize, usize),
    /// Area, row and column of the weights.
    Weight(usize, usize, usize),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Out(sample, column) => write!(f, "output {column} of sample {sample}"),
            Self::Direction(sample, r) => write!(f, "direction {r} of sample {sample}"),
            Self::Score(sample, area) => write!(f, "score of area {area} for sample {sample}"),
            Self::Weight(area, i, j) => write!(f, "weight ({i}, {j}) of area {area}"),
        }
    }
}

/// What an entry has to be.
struct Entry {
    at: At,
    want: f64,
    bound: f64,
}

/// What the next call has to give.
pub(crate) struct Expected(Vec<Entry>);

impl Expected {
    /// Asks the oracle, before the call.
    pub(crate) fn new(operand: &Operand, shape: Shape, batch: &Batch) -> Self {
        Self(match operand {
            Operand::Route { projection, prototypes, .. } => {
                routed(projection, prototypes, shape, batch)
            }
            Operand::Forward { weights, bias } => {
                let part = Part::new(shape, batch, |area, i, j| weights.get(area, i, j));
                let bias = part.of_areas(|area, j| bias.get(area, 0, j));
                let sums = reference::forward(part.shape, &part.z, &part.x, &part.w, Some(&bias));
                part.entries(&Sums { value: relu(&sums.value), ..sums })
            }
            Operand::Feedback(matrix) => fed_back(shape, batch, |i, j| matrix.get(0, i, j)),
            Operand::Signs(signs) => {
                let all = signs.to_row_major();
                fed_back(shape, batch, |i, j| all[i * shape.d_out + j])
            }
            Operand::Update { weights, .. } => updated(weights, shape, batch),
        })
    }

    /// Entries that are checked.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first entry that is wrong, after the call.
    pub(crate) fn compare(&self, operand: &Operand, batch: &Batch) -> Result<(), String> {
        for Entry { at, want, bound } in &self.0 {
            let got = read(operand, batch, *at);
            let fine = (f64::from(got) - want).abs() <= *bound; // false for NaN
            if !fine {
                return Err(format!("{at}: got {got}, want {want} within {bound:.1e}"));
            }
        }
        match operand {
            Operand::Route { routes, .. } => {
                let chosen = |sample| argmax(routes.scores().row(sample));
                let mut all = routes.areas().iter().enumerate();
                if let Some((sample, got)) = all.find(|&(sample, &got)| got != chosen(sample)) {
                    return Err(format!(
                        "area of sample {sample}: got {got}, want {}",
                        chosen(sample)
                    ));
                }
                match RoutePlan::new(routes.areas(), routes.scores().cols()) {
                    Ok(plan) if plan == *routes.plan() => Ok(()),
                    _ => Err("plan: it does not list the areas of the samples".into()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// An entry as the kernel left it.
fn read(operand: &Operand, batch: &Batch, at: At) -> f32 {
    match (at, operand) {
        (At::Out(row, col), _) => batch.out.row(row)[col],
        (At::Direction(row, col), Operand::Route { routes, .. }) => {
            routes.directions().row(row)[col]
        }
        (At::Score(row, col), Operand::Route { routes, .. }) => routes.scores().row(row)[col],
        (At::Weight(area, i, j), Operand::Update { weights, .. }) => weights.get(area, i, j),
        _ => f32::NAN, // no such entry: never right
    }
}

/// Index of the largest score; the lowest on ties.
fn argmax(scores: &[f32]) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (k, &s) in (0..).zip(scores) {
        if s > best.0 {
            best = (s, k);
        }
    }
    best.1
}

/// Error of a sum of `depth` products that add up to `magnitude` without their signs, and one operation more.
fn bound(depth: usize, magnitude: f64) -> f64 {
    let roundings = (depth + 1) as f64 * U;
    // The exact factor is larger than the simple one where a sum has more than 4094 products.
    (roundings + U).max(roundings / (1.0 - roundings)) * magnitude
}

/// Up to `most` of the indices below `len`, evenly from the first to the last.
fn spread(len: usize, most: usize) -> Vec<usize> {
    if len <= most {
        return (0..len).collect();
    }
    (0..most).map(|i| i * (len - 1) / (most - 1)).collect()
}

/// How many rows and columns are checked of a result whose entries are sums of `depth`.
fn most(rows: usize, cols: usize, depth: usize) -> usize {
    let work = [rows, cols, depth].into_iter().fold(1usize, usize::saturating_mul);
    if work <= ALL { usize::MAX } else { (4 * ALL / depth.max(1)).isqrt().clamp(2, SOME) }
}

/// The rows and columns of a product that are checked, and what they depend on.
struct Part {
    rows: Vec<usize>,
    cols: Vec<usize>,
    /// The areas of these rows.
    areas: Vec<usize>,
    /// Of the part: its areas and columns.
    shape: reference::Shape,
    /// Index among the areas, of each row.
    z: Vec<u32>,
    x: Vec<f64>,
    w: Vec<f64>,
}

impl Part {
    fn new(shape: Shape, batch: &Batch, weight: impl Fn(usize, usize, usize) -> f32) -> Self {
        let (n, d_in) = (batch.plan.batch(), shape.d_in);
        let most = most(n, shape.d_out, d_in);
        // Positions in the order of the plan, so that the areas are spread too.
        let rows: Vec<usize> =
            spread(n, most).into_iter().map(|at| batch.plan.order()[at] as usize).collect();
        let cols = spread(shape.d_out, most);
        let area = |row: usize| batch.z[row] as usize;
        let mut areas: Vec<usize> = rows.iter().map(|&row| area(row)).collect();
        areas.sort_unstable();
        areas.dedup();
        let index = |row| areas.iter().position(|&a| a == area(row)).unwrap_or(0) as u32;
        let (mut x, mut w) = (Vec::new(), Vec::new());
        rows.iter().for_each(|&row| x.extend(batch.inputs.row(row).iter().map(|&h| f64::from(h))));
        for &area in &areas {
            for i in 0..d_in {
                w.extend(cols.iter().map(|&j| f64::from(weight(area, i, j))));
            }
        }
        let z = rows.iter().map(|&row| index(row)).collect();
        let shape = reference::Shape { areas: areas.len(), d_in, d_out: cols.len() };
        Self { rows, cols, areas, shape, z, x, w }
    }

    /// A value for each area and column.
    fn of_areas(&self, value: impl Fn(usize, usize) -> f32) -> Vec<f64> {
        let cols = |area| self.cols.iter().map(move |&j| (area, j));
        self.areas.iter().flat_map(|&k| cols(k)).map(|(k, j)| f64::from(value(k, j))).collect()
    }

    /// A value for each row and column.
    fn of_rows(&self, value: impl Fn(usize, usize) -> f32) -> Vec<f64> {
        self.places().map(|(row, col)| f64::from(value(row, col))).collect()
    }

    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        self.rows.iter().flat_map(|&row| self.cols.iter().map(move |&col| (row, col)))
    }

    fn entries(&self, sums: &Sums) -> Vec<Entry> {
        let values = sums.value.iter().zip(&sums.magnitude);
        let all = self.places().zip(values);
        all.map(|((row, col), (&want, &magnitude))| Entry {
            at: At::Out(row, col),
            want,
            bound: bound(self.shape.d_in, magnitude),
        })
        .collect()
    }
}

fn fed_back(shape: Shape, batch: &Batch, weight: impl Fn(usize, usize) -> f32) -> Vec<Entry> {
    let part = Part::new(shape, batch, |_, i, j| weight(i, j));
    let outputs = part.of_rows(|row, col| batch.second.row(row)[col]);
    part.entries(&reference::feedback(part.shape, &part.z, &part.x, &part.w, Some(&outputs)))
}

/// Of each area, those without samples included: their weights must be the same bits.
fn updated(weights: &Panels, shape: Shape, batch: &Batch) -> Vec<Entry> {
    let n = batch.plan.batch();
    let most = most(shape.d_in, shape.d_out, n.max(shape.areas));
    let (rows, cols) = (spread(shape.d_in, most), spread(shape.d_out, most));
    let of = |matrix: &sal_kernels::Matrix, picked: &[usize]| -> Vec<f64> {
        let values = |row| picked.iter().map(move |&i| f64::from(matrix.row(row)[i]));
        (0..n).flat_map(values).collect()
    };
    let part = reference::Shape { areas: shape.areas, d_in: rows.len(), d_out: cols.len() };
    let (inputs, deltas) = (of(&batch.inputs, &rows), of(&batch.second, &cols));
    let gradient = gradient(part, &batch.z, &inputs, &deltas, Averaging::Sum);
    let places: Vec<(usize, usize, usize)> = (0..shape.areas)
        .flat_map(|area| rows.iter().map(move |&i| (area, i)))
        .flat_map(|(area, i)| cols.iter().map(move |&j| (area, i, j)))
        .collect();
    let values = places.iter().map(|&(area, i, j)| f64::from(weights.get(area, i, j))).collect();
    let old = Parameters { values, first: Vec::new(), second: Vec::new() };
    let steps: Vec<_> = gradient.occupancy.iter().map(|&n| (n > 0).then_some(1)).collect();
    let rule = Rule { optimizer: Optimizer::Sgd, lr: f64::from(LR), decay: 0.0 };
    let new = reference::update(&old, &gradient.weights.value, &steps, rule);
    let entry = |(at, &(area, i, j)): (usize, &(usize, usize, usize))| {
        let samples = gradient.occupancy[area];
        let magnitude = old.values[at].abs() + f64::from(LR) * gradient.weights.magnitude[at];
        let bound = if samples == 0 { 0.0 } else { bound(samples, magnitude) };
        Entry { at: At::Weight(area, i, j), want: new.values[at], bound }
    };
    places.iter().enumerate().map(entry).collect()
}

/// Directions are sums of `d_in`; a score adds what their errors become in it to its own.
fn routed(projection: &Panels, prototypes: &Panels, shape: Shape, batch: &Batch) -> Vec<Entry> {
    let Shape { areas, d_in, d_out: width } = shape;
    let n = batch.inputs.rows();
    let samples = spread(n, most(n, width, d_in));
    let transposed = |panels: &Panels| -> Vec<f64> {
        let column = |j| (0..panels.d_in()).map(move |i| f64::from(panels.get(0, i, j)));
        (0..panels.d_out()).flat_map(column).collect()
    };
    let (p, c) = (transposed(projection), transposed(prototypes));
    let (mean, bias) = (vec![0.0; d_in], vec![0.0; areas]);
    let router = Router {
        d_in,
        width,
        areas,
        projection: &p,
        prototypes: &c,
        mean: &mean,
        bias: &bias,
        cosine: false,
    };
    let values = |&s: &usize| batch.inputs.row(s).iter().map(|&h| f64::from(h));
    let inputs: Vec<f64> = samples.iter().flat_map(values).collect();
    let routed = reference::route(&router, samples.len(), &inputs);
    let mut entries = Vec::new();
    for (at, &sample) in samples.iter().enumerate() {
        let u = &routed.projections.value[at * width..][..width];
        let magnitudes = &routed.projections.magnitude[at * width..][..width];
        let errors: Vec<f64> = magnitudes.iter().map(|&m| bound(d_in, m)).collect();
        for (r, (&want, &bound)) in u.iter().zip(&errors).enumerate() {
            entries.push(Entry { at: At::Direction(sample, r), want, bound });
        }
        for area in 0..areas {
            let (mut moved, mut magnitude) = (0.0, 0.0);
            for r in 0..width {
                let c = c[area * width + r].abs();
                moved += errors[r] * c;
                magnitude += (u[r].abs() + errors[r]) * c;
            }
            let want = routed.scores.value[at * areas + area];
            let bound = moved + bound(width, magnitude);
            entries.push(Entry { at: At::Score(sample, area), want, bound });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case::Layer;
    use crate::bench::profile::Profile;
    use sal_kernels::Isa;
    use sal_kernels::kernels::Verb;

    /// What a call gave, checked; after `fault` has been at it.
    fn checked(
        of: (Verb, Layer, usize, usize),
        fault: impl Fn(&mut Operand, &mut Batch),
    ) -> Result<usize, String> {
        with_zeros(0, of, fault)
    }

    /// As `checked`, with so many per cent of zeros.
    fn with_zeros(
        zeros: u8,
        (verb, layer, areas, n): (Verb, Layer, usize, usize),
        fault: impl Fn(&mut Operand, &mut Batch),
    ) -> Result<usize, String> {
        let isa = Isa::detect().unwrap();
        let shape = layer.shape(verb, areas);
        let mut operand = Operand::new(isa, verb, shape).unwrap();
        let mut batch = Batch::new(verb, shape, n, Profile::Hot50, zeros).unwrap();
        let expected = Expected::new(&operand, shape, &batch);
        operand.run(&mut batch).unwrap();
        fault(&mut operand, &mut batch);
        expected.compare(&operand, &batch).map(|()| expected.len())
    }

    const SMALL: Layer = Layer { d_in: 20, d_out: 33 };
    const LARGE: Layer = Layer { d_in: 300, d_out: 500 };

    #[test]
    fn right_results_pass_on_every_verb() {
        for verb in Verb::ALL {
            let entries = match verb {
                Verb::Route => 9 * (32 + 3),
                Verb::Forward => 9 * 33,
                Verb::Update => 3 * 20 * 33,
                _ => 9 * 20,
            };
            assert_eq!(checked((verb, SMALL, 3, 9), |_, _| ()), Ok(entries), "{verb}");
            let entries = match verb {
                Verb::Route => 16 * (32 + 3),
                Verb::Update => 3 * 256,
                _ => 256,
            };
            assert_eq!(checked((verb, LARGE, 3, 200), |_, _| ()), Ok(entries), "{verb}");
        }
    }

    #[test]
    fn zeros_are_checked_like_other_inputs() {
        for zeros in [60, 100] {
            for verb in Verb::ALL {
                let told = with_zeros(zeros, (verb, SMALL, 3, 5), |_, _| ());
                assert!(told.is_ok(), "{verb}: {told:?}");
            }
        }
        let told = with_zeros(100, (Verb::Feedback, SMALL, 1, 2), |_, batch| {
            batch.out.row_mut(1)[3] = f32::MIN_POSITIVE;
        });
        assert!(told.is_err_and(|told| told.starts_with("output 3 of sample 1: got ")));
    }

    #[test]
    fn one_wrong_entry_is_found_and_named() {
        let near = |x: &mut f32| *x += x.abs().max(0.1) * 1e-4;
        let error = |verb, fault: &dyn Fn(&mut Operand, &mut Batch)| {
            checked((verb, SMALL, 3, 9), fault).unwrap_err()
        };
        for verb in [Verb::Forward, Verb::Feedback, Verb::FeedbackSigns] {
            let told = error(verb, &|_, batch| near(&mut batch.out.row_mut(7)[11]));
            assert!(told.starts_with("output 11 of sample 7: got "), "{verb}: {told}");
            let told = error(verb, &|_, batch| batch.out.row_mut(0)[0] = f32::NAN);
            assert!(told.starts_with("output 0 of sample 0: got NaN, want "), "{verb}: {told}");
        }
        let told = error(Verb::Update, &|operand, _| {
            let Operand::Update { weights, .. } = operand else { panic!("another operand") };
            let all = weights.to_row_major();
            let mut area = all[2 * 20 * 33..].to_vec();
            near(&mut area[5 * 33 + 32]);
            weights.set_area(2, &area).unwrap();
        });
        assert!(told.starts_with("weight (5, 32) of area 2: got "), "{told}");
        let told = error(Verb::Route, &|operand, batch| {
            batch.inputs.row_mut(4)[3] += 1.0; // then routed once more: not what was expected
            operand.run(batch).unwrap();
        });
        assert!(told.starts_with("direction ") && told.contains(" of sample 4: got "), "{told}");
    }

    #[test]
    fn an_area_without_samples_must_not_change() {
        // One sample: two of the three areas have none.
        let told = checked((Verb::Update, SMALL, 3, 1), |operand, _| {
            let Operand::Update { weights, .. } = operand else { panic!("another operand") };
            let mut area = weights.to_row_major()[2 * 20 * 33..].to_vec();
            area[0] = f32::from_bits(area[0].to_bits() + 1);
            weights.set_area(2, &area).unwrap();
        });
        assert!(told.is_err_and(|told| told.starts_with("weight (0, 0) of area 2")));
    }

    #[test]
    fn entries_are_spread_from_first_to_last() {
        assert_eq!(spread(5, 16), [0, 1, 2, 3, 4]);
        assert_eq!(spread(100, 4), [0, 33, 66, 99]);
        assert_eq!(spread(0, 4), [0; 0]);
        assert_eq!(most(100, 100, 100), usize::MAX);
        assert_eq!(most(1000, 1000, 1000), 16);
        assert_eq!(most(1000, 1000, 1_000_000), 2);
        assert_eq!(argmax(&[1.0, 3.0, 3.0, f32::NAN]), 1);
    }
}
