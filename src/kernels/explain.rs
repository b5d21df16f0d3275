//! What a verb will do with a shape, before it does it: instruction set, tile, path, work, and the roof above it.
//!
//! ```text
//! flop          2 n d_in d_out                              products of the batch's n samples
//! bytes         weights of the areas that have samples + inputs and outputs, each once
//!               weights of an update twice: read and written back
//! working set   weights of all areas + inputs and outputs   what lies in the caches, from one batch to the next
//! roof          the larger of  flop / peak  and  bytes / bandwidth of the level that holds the working set
//! ```

use super::{KernelError, check};
use crate::limits::Limits;
use crate::plan::RoutePlan;
use crate::signs::WORD;
use crate::simd::{Isa, IsaName};
use std::fmt;

/// A kernel that [`Isa::explain`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verb {
    /// [`route`](super::route).
    Route,
    /// [`forward`](super::forward).
    Forward,
    /// [`feedback`](super::feedback).
    Feedback,
    /// [`feedback_signs`](super::feedback_signs).
    FeedbackSigns,
    /// [`update`](super::update), with SGD.
    Update,
}

impl Verb {
    /// All of them, in the order of a training step.
    pub const ALL: [Self; 5] =
        [Self::Route, Self::Forward, Self::Feedback, Self::FeedbackSigns, Self::Update];

    /// The name of the function.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Forward => "forward",
            Self::Feedback => "feedback",
            Self::FeedbackSigns => "feedback_signs",
            Self::Update => "update",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a kernel goes through an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Path {
    /// Register tiles: weights are used again for many rows.
    Tiles,
    /// So few rows that reading the weights decides.
    FewRows,
    /// Few rows with many zeros: weight rows that meet zeros only are passed over.
    SkipZeros,
    /// Sums of signed values, looked up in tables.
    Lookups,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tiles => "tiles",
            Self::FewRows => "few rows",
            Self::SkipZeros => "zero-skipping",
            Self::Lookups => "lookups",
        })
    }
}

/// The operand of a verb that stays from batch to batch.
///
/// | verb | it is |
/// |---|---|
/// | forward, update | the weights (K, d_in, d_out) |
/// | feedback, signs | the feedback (K, d_in, d_out): `d_in` is the width of the errors |
/// | route | the router: K areas, `d_in` inputs, `d_out` directions R |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Areas K; 1 serves all samples.
    pub areas: usize,
    /// Width of what comes in.
    pub d_in: usize,
    /// Width of what goes out.
    pub d_out: usize,
}

/// What a verb does with a shape and a batch. Sizes are f64, so that none is too large.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The verb.
    pub verb: Verb,
    /// The instruction set that it runs on.
    pub isa: IsaName,
    /// The tallest register tile that it uses: rows and columns.
    pub tile: (usize, usize),
    /// The path of most of the areas that have samples.
    pub path: Path,
    /// Floating-point operations, two for each multiply-add. Lookups count as what they stand for.
    pub flop: f64,
    /// Bytes that have to move at least, padding of the panels included.
    pub bytes: f64,
    /// Bytes that successive batches use between them, whichever areas they go to.
    pub working_set: f64,
    /// `<verb>-f32-<rows>x<columns of the tile>-<isa>`.
    pub label: String,
}

/// What holds a kernel back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bound {
    /// The peak of multiply-adds.
    Arithmetic,
    /// The bandwidth of L2. What fits in L1 is measured against it too, and may be faster.
    L2,
    /// The bandwidth of L3.
    L3,
    /// The bandwidth of memory.
    Memory,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Arithmetic => "arithmetic",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::Memory => "memory",
        })
    }
}

/// The least time that a machine needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roof {
    /// In seconds.
    pub seconds: f64,
    /// What takes that long.
    pub bound: Bound,
}

impl Isa {
    /// What `verb` does on this instruction set with an operand of this shape and a batch of this plan.
    ///
    /// Of the plan of a route only the size of the batch matters.
    ///
    /// # Errors
    /// If shape and plan differ in their number of areas; but one area serves any plan, unless it is to be updated.
    ///
    /// ```
    /// use sal_kernels::kernels::{Path, Shape, Verb};
    /// use sal_kernels::{Isa, RoutePlan};
    /// let shape = Shape { areas: 16, d_in: 784, d_out: 256 };
    /// let one = RoutePlan::new(&[3], 16)?; // one sample, to area 3
    /// let told = Isa::detect()?.explain(Verb::Forward, shape, &one)?;
    /// assert_eq!((told.path, told.flop), (Path::FewRows, 2.0 * 784.0 * 256.0));
    /// assert_eq!(told.bytes, 4.0 * (784.0 * 256.0 + 784.0 + 256.0)); // one area of weights, one row in, one row out
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain(
        self,
        verb: Verb,
        shape: Shape,
        plan: &RoutePlan,
    ) -> Result<Explanation, KernelError> {
        if verb == Verb::Update || (verb != Verb::Route && shape.areas != 1) {
            check("shape: areas", shape.areas, plan.areas())?;
        }
        let shared = verb == Verb::Route || (shape.areas == 1 && verb != Verb::Update);
        let mut groups = if shared {
            vec![plan.batch()]
        } else {
            (0..plan.areas()).map(|area| plan.occupancy(area)).collect()
        };
        groups.retain(|&rows| rows > 0);

        let operand = Operand::of(self, verb, shape);
        let n = plan.batch() as f64;
        let activations = 4.0 * n * operand.row_values;
        let passes = if verb == Verb::Update { 2.0 } else { 1.0 };
        let all = if shared { 1.0 } else { shape.areas as f64 };
        let path = path_of_most(verb, &groups);
        let with_path = groups.iter().copied().filter(|&rows| path_of(verb, rows) == path);
        let rows = with_path.max().unwrap_or(0);
        let tile = (self.tile_height(verb, shape, rows), self.panel_width());
        Ok(Explanation {
            verb,
            isa: self.name(),
            tile,
            path,
            flop: 2.0 * n * operand.products,
            bytes: passes * operand.bytes * groups.len() as f64 + activations,
            working_set: operand.bytes * all + activations,
            label: format!("{verb}-f32-{}x{}-{self}", tile.0, tile.1),
        })
    }

    /// The tallest tile that meets `rows` samples of an area.
    fn tile_height(self, verb: Verb, shape: Shape, rows: usize) -> usize {
        let most = match verb {
            Verb::Update => shape.d_in, // its tiles are made of weight rows
            Verb::FeedbackSigns => return self.sign_rows(rows),
            _ => rows,
        };
        self.tile_heights().iter().copied().find(|&height| height <= most).unwrap_or(1)
    }
}

impl Explanation {
    /// The least time that it takes within these limits. They are those of the threads that do the work.
    pub fn roof(&self, limits: &Limits) -> Roof {
        let (level, read, update) = if self.working_set <= limits.l2_bytes as f64 {
            (Bound::L2, limits.l2_read, limits.l2_update)
        } else if self.working_set <= limits.l3_bytes as f64 {
            (Bound::L3, limits.l3_read, limits.l3_update)
        } else {
            (Bound::Memory, limits.memory_read, limits.memory_update)
        };
        let bandwidth = if self.verb == Verb::Update { update } else { read };
        let (arithmetic, transfer) = (self.flop / limits.fma, self.bytes / bandwidth);
        if arithmetic >= transfer {
            Roof { seconds: arithmetic, bound: Bound::Arithmetic }
        } else {
            Roof { seconds: transfer, bound: level }
        }
    }
}

/// One area's part of what a verb works with.
struct Operand {
    /// Multiply-adds of one sample.
    products: f64,
    /// Bytes, with padding.
    bytes: f64,
    /// f32 values that one sample brings and takes.
    row_values: f64,
}

impl Operand {
    fn of(isa: Isa, verb: Verb, Shape { areas, d_in, d_out }: Shape) -> Self {
        let nr = isa.panel_width() as f64;
        let padded = |columns: usize| (columns as f64 / nr).ceil() * nr;
        let (rows, columns, prototypes) = (d_in as f64, d_out as f64, areas as f64);
        match verb {
            // The projection, then the prototypes.
            Verb::Route => Self {
                products: columns * (rows + prototypes),
                bytes: 4.0 * (rows * padded(d_out) + columns * padded(areas)),
                row_values: rows + columns + prototypes,
            },
            Verb::FeedbackSigns => Self {
                products: rows * columns,
                bytes: 4.0 * d_in.div_ceil(WORD) as f64 * padded(d_out),
                row_values: rows + columns,
            },
            _ => Self {
                products: rows * columns,
                bytes: 4.0 * rows * padded(d_out),
                row_values: rows + columns,
            },
        }
    }
}

/// The path of an area with so many samples: the only place that knows.
fn path_of(verb: Verb, rows: usize) -> Path {
    match (verb, rows) {
        (Verb::FeedbackSigns, _) => Path::Lookups,
        (_, 1..=8) => Path::FewRows,
        _ => Path::Tiles,
    }
}

/// The path that most of the areas take; the one of more samples where two are even.
fn path_of_most(verb: Verb, groups: &[usize]) -> Path {
    let mut counts: Vec<(Path, usize, usize)> = Vec::new();
    for &rows in groups {
        let path = path_of(verb, rows);
        match counts.iter_mut().find(|(other, ..)| *other == path) {
            Some((_, areas, samples)) => (*areas, *samples) = (*areas + 1, *samples + rows),
            None => counts.push((path, 1, rows)),
        }
    }
    let most = counts.into_iter().max_by_key(|&(_, areas, samples)| (areas, samples));
    most.map_or_else(|| path_of(verb, 0), |(path, ..)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        threads: 1,
        l2_bytes: 1_000_000,
        l3_bytes: 10_000_000,
        fma: 100e9,
        l2_read: 80e9,
        l2_update: 160e9,
        l3_read: 40e9,
        l3_update: 60e9,
        memory_read: 10e9,
        memory_update: 20e9,
    };

    fn explain(verb: Verb, shape: Shape, areas: &[u32]) -> Explanation {
        let isa = Isa::from_name("portable").unwrap();
        let plan = RoutePlan::new(areas, shape.areas.max(1)).unwrap();
        isa.explain(verb, shape, &plan).unwrap()
    }

    #[test]
    fn work_and_bytes_are_those_of_the_formulas() {
        let shape = Shape { areas: 4, d_in: 100, d_out: 10 }; // panels of 8: 16 columns with padding
        let z = [1, 1, 3];
        let forward = explain(Verb::Forward, shape, &z);
        assert_eq!(forward.flop, 2.0 * 3.0 * 100.0 * 10.0);
        let activations = 4.0 * 3.0 * 110.0;
        assert_eq!(forward.bytes, 2.0 * 4.0 * 100.0 * 16.0 + activations); // two of the areas
        assert_eq!(forward.working_set, 4.0 * 4.0 * 100.0 * 16.0 + activations);
        assert_eq!(forward.label, "forward-f32-2x8-portable");
        assert_eq!((forward.tile, forward.path), ((2, 8), Path::FewRows));

        let update = explain(Verb::Update, shape, &z);
        assert_eq!(update.bytes, 2.0 * 2.0 * 4.0 * 100.0 * 16.0 + activations);
        assert_eq!((update.flop, update.working_set), (forward.flop, forward.working_set));
        assert_eq!(update.label, "update-f32-4x8-portable"); // tiles of weight rows

        let one = Shape { areas: 1, ..shape };
        let feedback = explain(Verb::Feedback, one, &[0; 3]);
        assert_eq!(feedback.bytes, 4.0 * 100.0 * 16.0 + activations);
        assert_eq!(feedback.working_set, feedback.bytes);
        let signs = explain(Verb::FeedbackSigns, one, &[0; 3]);
        assert_eq!(signs.bytes, 4.0 * 4.0 * 16.0 + activations); // 100 rows in four words
        assert_eq!((signs.path, signs.flop), (Path::Lookups, feedback.flop));

        let route = explain(Verb::Route, shape, &z);
        assert_eq!(route.flop, 2.0 * 3.0 * 10.0 * (100.0 + 4.0));
        let router = 4.0 * (100.0 * 16.0 + 10.0 * 8.0);
        assert_eq!(route.bytes, router + 4.0 * 3.0 * (100.0 + 10.0 + 4.0));
    }

    #[test]
    fn the_path_is_that_of_most_areas() {
        let shape = Shape { areas: 3, d_in: 8, d_out: 8 };
        let many = [0; 20];
        assert_eq!(explain(Verb::Forward, shape, &many).path, Path::Tiles);
        assert_eq!(explain(Verb::Forward, shape, &[0; 9]).path, Path::Tiles);
        assert_eq!(explain(Verb::Forward, shape, &[0; 8]).path, Path::FewRows);
        let skewed = [&many[..], &[1, 2]].concat();
        let told = explain(Verb::Forward, shape, &skewed);
        assert_eq!((told.path, told.tile.0), (Path::FewRows, 1)); // two areas of one sample, one of twenty
        assert_eq!(explain(Verb::Forward, shape, &[&many[..], &[1]].concat()).path, Path::Tiles);
        // One matrix serves all areas: one group of rows.
        assert_eq!(explain(Verb::Route, shape, &skewed).path, Path::Tiles);
    }

    #[test]
    fn the_roof_is_the_larger_of_arithmetic_and_transfer() {
        let square = |areas, n| {
            let shape = Shape { areas, d_in: 400, d_out: 400 };
            let z: Vec<u32> = (0..n).map(|s| s % areas as u32).collect();
            [Verb::Forward, Verb::Update].map(|verb| explain(verb, shape, &z))
        };
        let area = 4.0 * 400.0 * 400.0;
        for (areas, bound, read, update) in [
            (1, Bound::L2, 80e9, 160e9),
            (2, Bound::L3, 40e9, 60e9),
            (16, Bound::Memory, 10e9, 20e9),
        ] {
            let [forward, back] = square(areas, 1);
            let row = 4.0 * 800.0;
            let want = Roof { seconds: (area + row) / read, bound };
            assert_eq!(forward.roof(&LIMITS), want);
            let want = Roof { seconds: (2.0 * area + row) / update, bound };
            assert_eq!(back.roof(&LIMITS), want);
        }
        let [forward, _] = square(2, 1000);
        let seconds = 2.0 * 1000.0 * 400.0 * 400.0 / 100e9;
        assert_eq!(forward.roof(&LIMITS), Roof { seconds, bound: Bound::Arithmetic });
    }

    #[test]
    fn odd_shapes_are_explained_or_refused() {
        let isa = Isa::detect().unwrap();
        let plan = RoutePlan::new(&[0, 2], 3).unwrap();
        let of = |areas| Shape { areas, d_in: 5, d_out: 5 };
        for verb in Verb::ALL {
            let huge = Shape { areas: 3, d_in: usize::MAX, d_out: usize::MAX };
            assert!(isa.explain(verb, huge, &plan).unwrap().flop.is_finite(), "{verb}");
            let nothing = Shape { areas: 0, d_in: 0, d_out: 0 };
            let empty = RoutePlan::new(&[], 0).unwrap();
            let roof = isa.explain(verb, nothing, &empty).unwrap().roof(&LIMITS);
            assert_eq!(roof.seconds, 0.0, "{verb}");
            assert_eq!(isa.explain(verb, of(2), &plan).is_err(), verb != Verb::Route, "{verb}");
            assert_eq!(isa.explain(verb, of(1), &plan).is_err(), verb == Verb::Update, "{verb}");
        }
    }
}
