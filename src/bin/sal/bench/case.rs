//! What a verb is timed on: the operand that stays, a batch, and the call.
//!
//! ```text
//! verb              operand                              in            out          second input
//! route             router of 32 directions, K areas     (n, d_in)     K scores
//! forward           weights (K, d_in, d_out), bias       (n, d_in)     (n, d_out)
//! feedback, signs   one matrix (1, d_out, d_in)          (n, d_out)    (n, d_in)    outputs of the layer below
//! update            weights (K, d_in, d_out)             (n, d_in)     weights      deltas (n, d_out)
//! ```
//! A share of the input columns may be zero, in all samples, as at the edges of images: which ones is drawn.
//!
//! The areas of the samples rotate from call to call. So each call finds the weights where they would be in training:
//! with one sample and many areas not in the cache of the call before.

use super::profile::Profile;
use sal_kernels::kernels::{
    Activation, Averaging, KernelError, Moments, Optimizer, RouteParams, Routes, Shape, Similarity,
    Trainable, UpdateRule, Verb, feedback, feedback_signs, forward, route, update,
};
use sal_kernels::random::Stream;
use sal_kernels::{Isa, LayoutError, Matrix, Panels, RoutePlan, Signs};
use std::fmt;

/// Directions of a router.
const DIRECTIONS: usize = 32;

/// Learning rate of the call that is checked: a power of two, so that scaling by it rounds nothing.
pub(crate) const LR: f32 = 1.0;

/// Learning rate of the calls that are timed: however many they are, the weights stay what they are.
const TINY_LR: f32 = 1.0 / (1u64 << 40) as f32;

/// Magnitude of the signs.
const SIGN: f32 = 0.5;

/// Widths of a layer, as `--shapes` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) d_in: usize,
    pub(crate) d_out: usize,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}x{}", self.d_in, self.d_out))
    }
}

impl Layer {
    /// The shape of a verb's operand, as [`Isa::explain`] takes it.
    pub(crate) fn shape(self, verb: Verb, areas: usize) -> Shape {
        let Self { d_in, d_out } = self;
        match verb {
            Verb::Route => Shape { areas, d_in, d_out: DIRECTIONS },
            Verb::Feedback | Verb::FeedbackSigns => Shape { areas: 1, d_in: d_out, d_out: d_in },
            _ => Shape { areas, d_in, d_out },
        }
    }
}

/// What stays from call to call.
pub(crate) enum Operand {
    Route { projection: Panels, prototypes: Panels, bias: Vec<f32>, routes: Box<Routes> },
    Forward { weights: Panels, bias: Panels },
    Feedback(Panels),
    Signs(Signs),
    Update { weights: Panels, moments: Moments, lr: f32 },
}

/// Normal numbers, over and over: quick to make, and no two areas or rows of a matrix are the same.
struct Values(Vec<f32>);

impl Values {
    fn new() -> Self {
        let mut values = vec![0.0; 65_521]; // a prime, so that no width is a multiple of it
        Stream::new(0, 0, 0, "bench").fill_normal(1.0, &mut values);
        Self(values)
    }

    fn fill(&self, from: usize, scale: f32, to: &mut [f32]) {
        let values = self.0.iter().cycle().skip(from % self.0.len());
        to.iter_mut().zip(values).for_each(|(to, x)| *to = scale * x);
    }

    fn matrix(
        &self,
        from: usize,
        scale: f32,
        rows: usize,
        cols: usize,
    ) -> Result<Matrix, LayoutError> {
        let mut matrix = Matrix::zeros(rows, cols)?;
        self.fill(from, scale, matrix.as_mut_slice());
        Ok(matrix)
    }

    /// Entries of variance 1 / d_in.
    fn panels(&self, isa: Isa, Shape { areas, d_in, d_out }: Shape) -> Result<Panels, LayoutError> {
        let mut panels = Panels::zeros(isa, areas, d_in, d_out)?;
        let mut matrix = Matrix::zeros(d_in, d_out)?;
        for area in 0..areas {
            let scale = (1.0 / d_in as f64).sqrt() as f32;
            self.fill(area.wrapping_mul(d_in * d_out + 1), scale, matrix.as_mut_slice());
            panels.set_area(area, matrix.as_slice())?;
        }
        Ok(panels)
    }
}

impl Operand {
    pub(crate) fn new(isa: Isa, verb: Verb, shape: Shape) -> Result<Self, KernelError> {
        let values = Values::new();
        let Shape { areas, d_in, d_out } = shape;
        Ok(match verb {
            Verb::Route => Self::Route {
                projection: values.panels(isa, Shape { areas: 1, ..shape })?,
                prototypes: values.panels(isa, Shape { areas: 1, d_in: d_out, d_out: areas })?,
                bias: vec![0.0; areas],
                routes: Box::new(Routes::new(d_out, areas)?),
            },
            Verb::Feedback => Self::Feedback(values.panels(isa, shape)?),
            Verb::FeedbackSigns => {
                let signs = values.matrix(0, 1.0, d_in, d_out)?;
                Self::Signs(Signs::from_row_major(isa, 1, d_in, d_out, SIGN, signs.as_slice())?)
            }
            Verb::Update => {
                let weights = values.panels(isa, shape)?;
                let moments = Moments::new(Optimizer::Sgd, &weights, None)?;
                Self::Update { weights, moments, lr: LR }
            }
            _ => Self::Forward {
                weights: values.panels(isa, shape)?,
                bias: values.panels(isa, Shape { d_in: 1, ..shape })?,
            },
        })
    }

    /// The next call is checked: it changes the weights, if the verb does.
    pub(crate) fn learn(&mut self) {
        if let Self::Update { lr, .. } = self {
            *lr = LR;
        }
    }

    /// From here on the weights stay what they are.
    pub(crate) fn hold(&mut self) {
        if let Self::Update { lr, .. } = self {
            *lr = TINY_LR;
        }
    }

    /// The call that is timed.
    pub(crate) fn run(&mut self, batch: &mut Batch) -> Result<(), KernelError> {
        let Batch { plan, inputs, second, out, .. } = batch;
        let (inputs, second) = (inputs.view(), second.view());
        match self {
            Self::Route { projection, prototypes, bias, routes } => {
                let similarity = Similarity::Dot;
                let params = RouteParams { projection, prototypes, mean: None, bias, similarity };
                route(inputs, &params, routes)
            }
            Self::Forward { weights, bias } => {
                forward(plan, inputs, weights, Some(bias), Activation::Relu, out.view_mut())
            }
            Self::Feedback(matrix) => feedback(plan, inputs, matrix, Some(second), out.view_mut()),
            Self::Signs(signs) => feedback_signs(plan, inputs, signs, Some(second), out.view_mut()),
            Self::Update { weights, moments, lr } => {
                let (optimizer, averaging) = (Optimizer::Sgd, Averaging::Sum);
                let rule = UpdateRule { optimizer, lr: *lr, weight_decay: 0.0, averaging };
                update(plan, inputs, second, &rule, Trainable { weights, bias: None, moments })
            }
        }
    }
}

/// The input columns that are zero in all samples: `percent` of them, the same at each call.
fn dark_columns(d_in: usize, percent: u8) -> Vec<usize> {
    let mut columns: Vec<usize> = (0..d_in).collect();
    Stream::new(0, 0, 0, "zeros").shuffle(&mut columns);
    columns.truncate((d_in as f64 * f64::from(percent) / 100.0).round() as usize);
    columns
}

/// What comes and goes with each call.
pub(crate) struct Batch {
    /// The area of each sample.
    pub(crate) z: Vec<u32>,
    pub(crate) plan: RoutePlan,
    pub(crate) inputs: Matrix,
    pub(crate) second: Matrix,
    pub(crate) out: Matrix,
}

impl Batch {
    pub(crate) fn new(
        verb: Verb,
        shape: Shape,
        n: usize,
        profile: Profile,
        zeros: u8,
    ) -> Result<Self, KernelError> {
        let (values, z) = (Values::new(), profile.areas(n, shape.areas));
        let mut inputs = values.matrix(1, 1.0, n, shape.d_in)?;
        let dark = dark_columns(shape.d_in, zeros);
        (0..n).for_each(|row| dark.iter().for_each(|&i| inputs.row_mut(row)[i] = 0.0));
        // Scores are the only output of a route, and it keeps them itself.
        let (second, out) = match verb {
            Verb::Route => (0, 0),
            Verb::Forward => (0, shape.d_out),
            Verb::Update => (shape.d_out, 0),
            _ => (shape.d_out, shape.d_out),
        };
        Ok(Self {
            plan: RoutePlan::new(&z, shape.areas)?,
            z,
            inputs,
            second: values.matrix(30_000, 1.0, n, second)?,
            out: Matrix::zeros(n, out)?,
        })
    }

    /// Sends each sample to the next area.
    pub(crate) fn rotate(&mut self) -> Result<(), KernelError> {
        let areas = self.plan.areas();
        if areas > 1 {
            self.z.iter_mut().for_each(|z| *z = (*z + 1) % areas as u32);
            self.plan.rebuild(&self.z, areas)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_whole_columns_of_the_inputs_and_as_many_as_asked_for() {
        let layer = Layer { d_in: 200, d_out: 30 };
        for (verb, percent, want) in [
            (Verb::Forward, 0, 0),
            (Verb::Update, 81, 162),
            (Verb::Feedback, 50, 15), // of the errors
            (Verb::Route, 100, 200),
        ] {
            let shape = layer.shape(verb, 2);
            let batch = Batch::new(verb, shape, 9, Profile::Balanced, percent).unwrap();
            let zeros = |i| (0..9).filter(|&row| batch.inputs.row(row)[i] == 0.0).count();
            let counts: Vec<usize> = (0..shape.d_in).map(zeros).collect();
            assert!(counts.iter().all(|&n| n == 0 || n == 9), "{verb}: {counts:?}");
            assert_eq!(counts.iter().filter(|&&n| n == 9).count(), want, "{verb}");
        }
        let dark = dark_columns(200, 50);
        assert!(dark.windows(2).any(|pair| pair[0] > pair[1]), "not drawn: {dark:?}");
    }
}
