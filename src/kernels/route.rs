//! Which area each sample uses: a projection, its similarity to frozen prototypes, a hard argmax.
//!
//! ```text
//! u  = (h - mu) P^T                      computed as h P^T - mu P^T, the second part once a batch
//! nu = |u| + 1e-6, uh = u / nu (cosine)  or nu = 1, uh = u (dot)
//! s  = uh C^T
//! z  = argmax_k (s_k + beta_k)           ties: lowest k; a NaN score counts as -inf; all NaN: area 0
//! ```

use super::{KernelError, check, check_isa, product};
use crate::gemm::store::Activate;
use crate::matrix::{LayoutError, Matrix, MatrixMut, MatrixRef};
use crate::panels::Panels;
use crate::plan::RoutePlan;

/// Added to the length of a projection, so that a zero row has a direction: zero.
const EPS_COSINE: f32 = 1e-6;

/// A multiple of every instruction set's panel width.
const WIDEST_PANEL: usize = 32;

/// How a projection is compared with the prototypes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Similarity {
    /// Direction only: `u / (|u| + 1e-6)` against each prototype.
    Cosine,
    /// The plain product of `u` and each prototype.
    Dot,
}

/// The parameters of one layer's router: R directions, K areas.
#[derive(Debug, Clone, Copy)]
pub struct RouteParams<'a> {
    /// The learned projection P, transposed: one area of (d_in, R).
    pub projection: &'a Panels,
    /// The frozen prototypes C, transposed: one area of (R, K).
    pub prototypes: &'a Panels,
    /// The running mean mu of the input, d_in values; `None` does not centre.
    pub mean: Option<&'a [f32]>,
    /// The selection bias beta, K values.
    pub bias: &'a [f32],
    /// Cosine or dot.
    pub similarity: Similarity,
}

/// What routing found out about a batch; the memory is used again for the next one.
#[derive(Debug, Clone)]
pub struct Routes {
    directions: Matrix,
    norms: Vec<f32>,
    scores: Matrix,
    areas: Vec<u32>,
    plan: RoutePlan,
    /// All of the batch, as one area.
    whole: RoutePlan,
    /// One sample.
    one: RoutePlan,
    /// `-mu P^T`, padded like a bias for any instruction set.
    offset: Vec<f32>,
}

impl Routes {
    /// An empty one, for routers with `width` directions and `areas` areas.
    ///
    /// # Errors
    /// If a size does not fit in 32 bits.
    pub fn new(width: usize, areas: usize) -> Result<Self, LayoutError> {
        Ok(Self {
            directions: Matrix::zeros(0, width)?,
            norms: Vec::new(),
            scores: Matrix::zeros(0, areas)?,
            areas: Vec::new(),
            plan: RoutePlan::new(&[], areas)?,
            whole: RoutePlan::single(0)?,
            one: RoutePlan::single(1)?,
            offset: vec![0.0; width.next_multiple_of(WIDEST_PANEL)],
        })
    }

    /// `uh` (batch, R): normalised projections for cosine, plain ones for dot.
    pub fn directions(&self) -> &Matrix {
        &self.directions
    }

    /// `nu` of each sample: its projection's length plus 1e-6, or 1 for dot.
    pub fn norms(&self) -> &[f32] {
        &self.norms
    }

    /// `s` (batch, K): similarities, without the selection bias.
    pub fn scores(&self) -> &Matrix {
        &self.scores
    }

    /// `z`: the area of each sample.
    pub fn areas(&self) -> &[u32] {
        &self.areas
    }

    /// The samples grouped by area.
    pub fn plan(&self) -> &RoutePlan {
        &self.plan
    }
}

/// Sends each row of `inputs` (batch, d_in) to one of K areas (SAL section 3).
///
/// # Errors
/// If a shape does not fit, or projection and prototypes are packed for different instruction sets; `routes` then
/// holds the batch before. If memory runs out, its contents are unspecified.
///
/// ```
/// use sal_kernels::{Isa, MatrixRef, Panels, kernels::{RouteParams, Routes, Similarity, route}};
/// let isa = Isa::detect()?;
/// let same = Panels::from_row_major(isa, 1, 2, 2, &[1.0, 0.0, 0.0, 1.0])?; // P = C = identity
/// let router = RouteParams {
///     projection: &same, prototypes: &same, mean: None, bias: &[0.0; 2], similarity: Similarity::Cosine,
/// };
/// let mut routes = Routes::new(2, 2)?;
/// route(MatrixRef::new(&[3.0, 1.0, 1.0, 2.0], 2, 2)?, &router, &mut routes)?;
/// assert_eq!(routes.areas(), [0, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn route(
    inputs: MatrixRef<'_>,
    router: &RouteParams<'_>,
    routes: &mut Routes,
) -> Result<(), KernelError> {
    let RouteParams { projection, prototypes, mean, bias, similarity } = *router;
    let (d_in, width, areas) = (projection.d_in(), projection.d_out(), prototypes.d_out());
    check("projection: areas", projection.areas(), 1)?;
    check("prototypes: areas", prototypes.areas(), 1)?;
    check("prototypes: rows", prototypes.d_in(), width)?;
    check_isa("prototypes", prototypes, projection)?;
    check("inputs: columns", inputs.cols(), d_in)?;
    check("selection bias: length", bias.len(), areas)?;
    check("routes: width", routes.directions.cols(), width)?;
    check("routes: areas", routes.scores.cols(), areas)?;
    if areas == 0 {
        return Err(KernelError::Dimension { what: "prototypes: areas", got: 0, want: 1 });
    }
    if let Some(mean) = mean {
        check("mean: length", mean.len(), d_in)?;
    }
    // -mu P^T: one row through the same product, then used as its bias.
    if let Some(mean) = mean {
        let mean = MatrixRef::new(mean, 1, d_in)?;
        let row = MatrixMut::new(&mut routes.offset[..width], 1, width)?;
        product(&routes.one, mean, projection, row, |_| PLAIN);
        routes.offset.iter_mut().for_each(|x| *x = -*x);
    }
    let offset = mean.map(|_| &routes.offset[..]);

    let batch = inputs.rows();
    if routes.whole.batch() != batch {
        routes.whole = RoutePlan::single(batch)?;
    }
    routes.directions.set_rows(batch)?;
    routes.scores.set_rows(batch)?;
    let whole = &routes.whole;
    product(whole, inputs, projection, routes.directions.view_mut(), |_| Activate {
        bias: offset,
        relu: false,
    });
    routes.norms.clear();
    routes.norms.resize(batch, 1.0);
    if similarity == Similarity::Cosine {
        for (sample, norm) in routes.norms.iter_mut().enumerate() {
            let u = routes.directions.row_mut(sample);
            *norm = length(u) + EPS_COSINE;
            u.iter_mut().for_each(|x| *x /= *norm);
        }
    }
    product(whole, routes.directions.view(), prototypes, routes.scores.view_mut(), |_| PLAIN);
    routes.areas.clear();
    routes.areas.extend((0..batch).map(|sample| argmax(routes.scores.row(sample), bias)));
    routes.plan.rebuild(&routes.areas, areas)?;
    Ok(())
}

const PLAIN: Activate<'static> = Activate { bias: None, relu: false };

/// Euclidean length; in f64, so that no f32 square overflows.
fn length(u: &[f32]) -> f32 {
    u.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32
}

/// Index of the largest `score + bias`; lowest on ties; NaN counts as -inf.
fn argmax(scores: &[f32], bias: &[f32]) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (k, (&s, &b)) in scores.iter().zip(bias).enumerate() {
        // A comparison with NaN is false, so a NaN never wins; neither does a second -inf.
        if s + b > best.0 {
            best = (s + b, k as u32);
        }
    }
    best.1
}
