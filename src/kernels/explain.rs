//! What a verb will do with a shape, before it does it: instruction set, tile, path, work, and the roof above it.
//!
//! ```text
//! flop          2 n d_in d_out                              products of the batch's n samples
//! bytes         weights of the areas that have samples + inputs and outputs, each once
//!               weights of an update twice: read and written back
//! zeros         where they are skipped, d_in of an area counts only the columns that its samples use, in both
//! working set   weights of all areas + inputs and outputs   what lies in the caches, from one batch to the next
//! roof          the larger of  flop / peak  and  bytes / bandwidth of the level that holds the working set
//! ```
//! Paths and tiles are not guessed: the kernels' own functions are asked.

use super::{KernelError, check};
use crate::gemm::area::{ProductWay, Way};
use crate::gemm::pack::Columns;
use crate::gemm::rank::UpdateWay;
use crate::limits::Limits;
use crate::matrix::MatrixRef;
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
    /// [`update`](super::update), with SGD and no decay.
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
    /// So few rows that reading the weights decides; of an update also so few columns that packing would cost too much.
    FewRows,
    /// Few rows with many zeros: weight rows that meet zeros only are skipped.
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
    /// The tallest register tile that it uses on this path: rows and columns, those of several panels where a tile takes
    /// them abreast. A stream of an update has a row for each sample that it takes at once.
    pub tile: (usize, usize),
    /// The path of most of the areas that have samples.
    pub path: Path,
    /// Floating-point operations, two for each multiply-add. Lookups count as what they stand for, skipped zeros not at
    /// all.
    pub flop: f64,
    /// Bytes that have to move at least, padding of the panels included, skipped weight rows not.
    pub bytes: f64,
    /// Bytes that successive batches use between them, whichever areas they go to and wherever their zeros are.
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
    /// | argument | shape |
    /// |---|---|
    /// | `shape` | that of the operand |
    /// | `plan` | batch samples in K areas; of the plan of a route only the size of the batch matters |
    /// | `inputs` | (batch, d_in): what the verb will get (feedback: the errors); `None` where it is not known yet |
    ///
    /// Without inputs no zeros are supposed. With them, weights are supposed to be finite, as only those are skipped. Each
    /// area is taken whole, as one thread does; several threads may share one, and skip less in parts of few columns.
    ///
    /// # Errors
    /// If shape and plan differ in their number of areas; but one area serves any plan, unless it is to be updated. If the
    /// inputs fit neither.
    ///
    /// ```
    /// use sal_kernels::kernels::{Path, Shape, Verb};
    /// use sal_kernels::{Isa, MatrixRef, RoutePlan};
    /// let (isa, shape) = (Isa::detect()?, Shape { areas: 16, d_in: 784, d_out: 256 });
    /// let one = RoutePlan::new(&[3], 16)?; // one sample, to area 3
    /// let told = isa.explain(Verb::Forward, shape, &one, None)?;
    /// assert_eq!((told.path, told.flop), (Path::FewRows, 2.0 * 784.0 * 256.0));
    /// assert_eq!(told.bytes, 4.0 * (784.0 * 256.0 + 784.0 + 256.0)); // one area of weights, one row in, one row out
    /// let mut image = [0.0; 784];
    /// image[300..400].fill(1.0);
    /// let told = isa.explain(Verb::Forward, shape, &one, Some(MatrixRef::new(&image, 1, 784)?))?;
    /// assert_eq!((told.path, told.flop), (Path::SkipZeros, 2.0 * 100.0 * 256.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn explain(
        self,
        verb: Verb,
        shape: Shape,
        plan: &RoutePlan,
        inputs: Option<MatrixRef<'_>>,
    ) -> Result<Explanation, KernelError> {
        if verb == Verb::Update || (verb != Verb::Route && shape.areas != 1) {
            check("shape: areas", shape.areas, plan.areas())?;
        }
        if let Some(inputs) = inputs {
            check("inputs: rows", inputs.rows(), plan.batch())?;
            check("inputs: columns", inputs.cols(), shape.d_in)?;
        }
        let shared = verb == Verb::Route || (shape.areas == 1 && verb != Verb::Update);
        let mut groups: Vec<&[u32]> = if shared {
            vec![plan.order()]
        } else {
            (0..plan.areas()).map(|area| plan.rows(area)).collect()
        };
        groups.retain(|rows| !rows.is_empty());

        let whole = Operand::of(self, verb, shape);
        let activations = 4.0 * plan.batch() as f64 * whole.row_values;
        let passes = if verb == Verb::Update { 2.0 } else { 1.0 };
        let all = if shared { 1.0 } else { shape.areas as f64 };
        let (mut flop, mut bytes) = (0.0, activations);
        let (mut taken, mut used) = (Vec::new(), Columns::default());
        for rows in groups {
            let one = self.of_area(verb, shape, rows, inputs, &mut used);
            let operand = Operand::of(self, verb, Shape { d_in: one.d_in, ..shape });
            flop += 2.0 * rows.len() as f64 * operand.products;
            bytes += passes * operand.bytes;
            taken.push((rows.len(), one));
        }
        let path = path_of_most(&taken)
            .unwrap_or_else(|| self.of_area(verb, shape, &[], None, &mut used).path);
        let with_path = taken.iter().filter(|(_, one)| one.path == path).map(|(_, one)| one.tile);
        let tile = with_path.max().unwrap_or((1, self.panel_width()));
        Ok(Explanation {
            verb,
            isa: self.name(),
            tile,
            path,
            flop,
            bytes,
            working_set: whole.bytes * all + activations,
            label: format!("{verb}-f32-{}x{}-{self}", tile.0, tile.1),
        })
    }

    /// What happens in an area with these samples.
    fn of_area(
        self,
        verb: Verb,
        Shape { d_in, d_out, .. }: Shape,
        rows: &[u32],
        inputs: Option<MatrixRef<'_>>,
        used: &mut Columns,
    ) -> OfArea {
        let panels = d_out.div_ceil(self.panel_width());
        let way = match verb {
            Verb::FeedbackSigns => {
                let tile = (self.sign_rows(rows.len()), self.panel_width());
                return OfArea { path: Path::Lookups, tile, d_in };
            }
            Verb::Update => self.run(UpdateWay { inputs, samples: rows, rows: d_in, panels, used }),
            _ => self.run(ProductWay { inputs, rows, depth: d_in, panels, used }),
        };
        let path = match way {
            Way { used: Some(_), .. } => Path::SkipZeros,
            Way { streams: true, .. } => Path::FewRows,
            _ => Path::Tiles,
        };
        OfArea { path, tile: way.tile, d_in: way.used.unwrap_or(d_in) }
    }
}

/// What happens in one area.
struct OfArea {
    path: Path,
    tile: (usize, usize),
    /// Weight rows that are used.
    d_in: usize,
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

/// The path that most of the areas take, of those with samples; the one of more samples where two are even.
fn path_of_most(areas: &[(usize, OfArea)]) -> Option<Path> {
    let mut counts: Vec<(Path, usize, usize)> = Vec::new();
    for &(rows, OfArea { path, .. }) in areas {
        match counts.iter_mut().find(|(other, ..)| *other == path) {
            Some((_, areas, samples)) => (*areas, *samples) = (*areas + 1, *samples + rows),
            None => counts.push((path, 1, rows)),
        }
    }
    let most = counts.into_iter().max_by_key(|&(_, areas, samples)| (areas, samples));
    most.map(|(path, ..)| path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::pack::Buffers;
    use crate::kernels::{
        Activation, Averaging, Moments, Optimizer, Trainable, UpdateRule, feedback, forward, update,
    };
    use crate::matrix::Matrix;
    use crate::panels::Panels;

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
        isa.explain(verb, shape, &plan, None).unwrap()
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
        assert_eq!(forward.label, "forward-f32-2x16-portable");
        assert_eq!((forward.tile, forward.path), ((2, 16), Path::FewRows)); // two rows take two panels abreast

        let update = explain(Verb::Update, shape, &z);
        assert_eq!(update.bytes, 2.0 * 2.0 * 4.0 * 100.0 * 16.0 + activations);
        assert_eq!((update.flop, update.working_set), (forward.flop, forward.working_set));
        assert_eq!(update.label, "update-f32-2x8-portable"); // two samples at once

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

    /// Path and tile of so many samples of one area of 100 x `d_out`.
    fn way(verb: Verb, d_out: usize, samples: usize) -> (Path, (usize, usize)) {
        let told = explain(verb, Shape { areas: 1, d_in: 100, d_out }, &vec![0; samples]);
        (told.path, told.tile)
    }

    #[test]
    fn each_verb_takes_its_path_by_the_count_of_its_samples() {
        // Panels of 8, tiles of up to 4 rows; one row takes four panels abreast, two take two.
        for verb in [Verb::Route, Verb::Forward, Verb::Feedback] {
            for (samples, path, tile) in [
                (1, Path::FewRows, (1, 32)),
                (2, Path::FewRows, (2, 16)),
                (3, Path::FewRows, (3, 8)),
                (6, Path::FewRows, (3, 8)), // twice three
                (8, Path::FewRows, (4, 8)),
                (9, Path::Tiles, (3, 8)), // three times three
                (300, Path::Tiles, (4, 8)),
            ] {
                assert_eq!(way(verb, 40, samples), (path, tile), "{verb}, {samples}");
            }
            assert_eq!(way(verb, 24, 1), (Path::FewRows, (1, 8)), "{verb}: no four panels");
        }
        for (d_out, samples, path, rows) in [
            (40, 1, Path::FewRows, 1),
            (40, 4, Path::FewRows, 4),
            (40, 5, Path::Tiles, 4),
            (25, 5, Path::Tiles, 4),     // four panels
            (24, 3, Path::FewRows, 3),   // three panels
            (24, 100, Path::FewRows, 4), // four samples at a time
        ] {
            let told = way(Verb::Update, d_out, samples);
            assert_eq!(told, (path, (rows, 8)), "{d_out}, {samples}");
        }
        // Tiles of an update are made of weight rows, however many samples there are.
        let narrow = explain(Verb::Update, Shape { areas: 1, d_in: 2, d_out: 40 }, &[0; 50]);
        assert_eq!((narrow.path, narrow.tile), (Path::Tiles, (2, 8)));
        for samples in [1, 8, 9, 300] {
            assert_eq!(way(Verb::FeedbackSigns, 40, samples).0, Path::Lookups);
        }
    }

    /// `rows` rows of 100 columns, of which the first `used` are not zero.
    fn inputs(rows: usize, used: usize) -> Matrix {
        let mut inputs = Matrix::zeros(rows, 100).unwrap();
        (0..rows).for_each(|row| inputs.row_mut(row)[..used].fill(1.0));
        inputs
    }

    #[test]
    fn zeros_are_told_where_they_are_skipped() {
        let isa = Isa::from_name("portable").unwrap();
        let told = |verb, d_out, rows, used| {
            let (shape, plan) = (Shape { areas: 1, d_in: 100, d_out }, RoutePlan::single(rows));
            let inputs = inputs(rows, used);
            isa.explain(verb, shape, &plan.unwrap(), Some(inputs.view())).unwrap()
        };
        for verb in [Verb::Route, Verb::Forward, Verb::Feedback] {
            assert_eq!(told(verb, 32, 8, 50).path, Path::SkipZeros, "{verb}");
            assert_eq!(told(verb, 32, 8, 51).path, Path::FewRows, "{verb}: too many are used");
            assert_eq!(told(verb, 24, 8, 50).path, Path::FewRows, "{verb}: three panels");
            assert_eq!(told(verb, 32, 9, 50).path, Path::Tiles, "{verb}: too many rows");
        }
        assert_eq!(told(Verb::Update, 32, 4, 50).path, Path::SkipZeros);
        assert_eq!(told(Verb::Update, 32, 4, 51).path, Path::FewRows);
        assert_eq!(told(Verb::Update, 24, 4, 50).path, Path::FewRows);
        assert_eq!(told(Verb::Update, 32, 5, 50).path, Path::Tiles);
        assert_eq!(told(Verb::FeedbackSigns, 32, 1, 0).path, Path::Lookups);

        // Work and bytes are those of the columns that are used; inputs and outputs are read and written all the same.
        let activations = 4.0 * 2.0 * (100.0 + 32.0);
        let forward = told(Verb::Forward, 32, 2, 7);
        assert_eq!(forward.flop, 2.0 * 2.0 * 7.0 * 32.0);
        assert_eq!(forward.bytes, 4.0 * 7.0 * 32.0 + activations);
        assert_eq!(forward.working_set, 4.0 * 100.0 * 32.0 + activations);
        assert_eq!(forward.tile, (2, 16));
        let update = told(Verb::Update, 32, 2, 7);
        assert_eq!(update.bytes, 2.0 * 4.0 * 7.0 * 32.0 + activations);
        assert_eq!((update.flop, update.tile), (forward.flop, (2, 8)));
        let route = told(Verb::Route, 32, 2, 7);
        assert_eq!(route.flop, 2.0 * 2.0 * 32.0 * (7.0 + 1.0)); // the prototypes, too
        let tiles = told(Verb::Forward, 32, 9, 7);
        assert_eq!(tiles.flop, 2.0 * 9.0 * 100.0 * 32.0);
    }

    #[test]
    fn each_area_has_zeros_of_its_own() {
        let isa = Isa::from_name("portable").unwrap();
        let shape = Shape { areas: 3, d_in: 100, d_out: 32 };
        let mut inputs = inputs(4, 10);
        inputs.row_mut(1).fill(1.0); // area 2 uses all columns
        let plan = RoutePlan::new(&[0, 2, 1, 0], 3).unwrap();
        let told = isa.explain(Verb::Forward, shape, &plan, Some(inputs.view())).unwrap();
        assert_eq!(told.path, Path::SkipZeros);
        assert_eq!(told.flop, 2.0 * 32.0 * (2.0 * 10.0 + 100.0 + 10.0));
        assert_eq!(told.bytes, 4.0 * 32.0 * (10.0 + 100.0 + 10.0) + 4.0 * 4.0 * 132.0);
    }

    /// Columns that the verb listed in this thread's buffers, by its own decision.
    fn listed(isa: Isa, verb: Verb, inputs: &Matrix, d_out: usize) -> Option<usize> {
        let run = || {
            let (n, d_in) = (inputs.rows(), inputs.cols());
            let plan = RoutePlan::single(n).unwrap();
            let mut weights = Panels::zeros(isa, 1, d_in, d_out).unwrap();
            let (inputs, mut out) = (inputs.view(), Matrix::zeros(n, d_out).unwrap());
            let same = Activation::Identity;
            match verb {
                Verb::Forward => forward(&plan, inputs, &weights, None, same, out.view_mut()),
                Verb::Feedback => feedback(&plan, inputs, &weights, None, out.view_mut()),
                _ => {
                    let (optimizer, averaging) = (Optimizer::Sgd, Averaging::Sum);
                    let rule = UpdateRule { optimizer, lr: 1.0, weight_decay: 0.0, averaging };
                    let moments = &mut Moments::new(optimizer, &weights, None).unwrap();
                    let params = Trainable { weights: &mut weights, bias: None, moments };
                    update(&plan, inputs, out.view(), &rule, params)
                }
            }
            .unwrap();
            Buffers::with(|buffers| (buffers.used.width() > 0).then(|| buffers.used.list().len()))
        };
        // A new thread has new buffers.
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    #[test]
    fn the_kernels_do_what_is_told() {
        for isa in Isa::available() {
            let nr = isa.panel_width();
            for verb in [Verb::Forward, Verb::Feedback, Verb::Update] {
                for (panels, n) in [3, 4].into_iter().flat_map(|p| (1..=10).map(move |n| (p, n))) {
                    for used in [3, 50, 51] {
                        let shape = Shape { areas: 1, d_in: 100, d_out: panels * nr };
                        let (inputs, plan) = (inputs(n, used), RoutePlan::single(n).unwrap());
                        let told = isa.explain(verb, shape, &plan, Some(inputs.view())).unwrap();
                        let want = (told.path == Path::SkipZeros).then_some(used);
                        let got = listed(isa, verb, &inputs, shape.d_out);
                        assert_eq!(got, want, "{isa}, {verb}, {panels} panels, {n}, {used} used");
                    }
                }
            }
        }
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
        assert_eq!((told.path, told.tile), (Path::FewRows, (1, 8))); // two areas of one sample, one of twenty
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
            assert!(isa.explain(verb, huge, &plan, None).unwrap().flop.is_finite(), "{verb}");
            let nothing = Shape { areas: 0, d_in: 0, d_out: 0 };
            let empty = RoutePlan::new(&[], 0).unwrap();
            let roof = isa.explain(verb, nothing, &empty, None).unwrap().roof(&LIMITS);
            assert_eq!(roof.seconds, 0.0, "{verb}");
            let fails = |areas| isa.explain(verb, of(areas), &plan, None).is_err();
            assert_eq!(fails(2), verb != Verb::Route, "{verb}");
            assert_eq!(fails(1), verb == Verb::Update, "{verb}");
            let values = [1.0; 30];
            let told = |rows, cols| {
                let inputs = MatrixRef::new(&values, rows, cols).unwrap();
                isa.explain(verb, of(3), &plan, Some(inputs)).map(|told| told.verb)
            };
            let wrong = |what, got, want| Err(KernelError::Dimension { what, got, want });
            assert_eq!(told(2, 5), Ok(verb));
            assert_eq!(told(3, 5), wrong("inputs: rows", 3, 2));
            assert_eq!(told(2, 6), wrong("inputs: columns", 6, 5));
        }
    }
}
