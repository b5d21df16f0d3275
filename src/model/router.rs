//! A layer's router: where it sends samples, and how it learns from its own scores alone.
//!
//! ```text
//! mu   <- mu + max(1/n, 1e-3) (mean_B(h) - mu)                        after routing; n counts batches
//! beta <- beta + gamma sign(1/K - n_k/B), then minus its mean
//! dl    = p - target + alpha K p (f - <p, f>)                         p = softmax(s / tau), f_k = n_k / B
//! du    = dl C / (tau B);  cosine: du <- (du - <du, uh> uh) / nu
//! P    <- P - lr du^T (h - mu)
//! ```
//! The target is the winner (`sharp`) or `p` restricted to the areas that the class owns (`label`). No error signal,
//! no delta and no weight of the network is used.

use super::{ModelError, RouterConfig, RouterRule, check};
use crate::kernels::{
    Activation, Averaging, Moments, Optimizer, RouteParams, Routes, Similarity, Trainable,
    UpdateRule, forward, route, update,
};
use crate::matrix::{LayoutError, Matrix, MatrixRef};
use crate::panels::Panels;
use crate::plan::RoutePlan;
use crate::random::Stream;
use crate::simd::Isa;

/// Added to the mass of the areas that a class owns, so that it can be divided by.
const EPS_OWNED: f32 = 1e-12;

/// The slowest that the running mean follows its input.
const SLOWEST_MEAN: f32 = 1e-3;

/// The router of one layer.
#[derive(Debug, Clone)]
pub struct Router {
    config: RouterConfig,
    classes: usize,
    /// P^T: (d_in, R).
    projection: Panels,
    /// C^T: (R, K), to score with.
    prototypes: Panels,
    /// C: (K, R), to learn with.
    anchors: Panels,
    mean: Vec<f32>,
    batches: u64,
    bias: Vec<f32>,
    /// Plain SGD has no state, but the update verb asks for its step count.
    moments: Moments,
    scratch: Scratch,
}

/// Memory of one learning step, which the next one uses again.
#[derive(Debug, Clone)]
struct Scratch {
    /// f (K).
    shares: Vec<f32>,
    /// The sum of the inputs (d_in).
    sum: Vec<f32>,
    /// All samples of the batch, and one.
    whole: RoutePlan,
    one: RoutePlan,
    /// dl / (tau B), (batch, K).
    d_scores: Matrix,
    /// du (batch, R).
    d_directions: Matrix,
    /// Minus the sum of du, (1, R).
    pull: Matrix,
}

impl Scratch {
    fn new(d_in: usize, width: usize, areas: usize) -> Result<Self, LayoutError> {
        Ok(Self {
            shares: vec![0.0; areas],
            sum: vec![0.0; d_in],
            whole: RoutePlan::single(0)?,
            one: RoutePlan::single(1)?,
            d_scores: Matrix::zeros(0, areas)?,
            d_directions: Matrix::zeros(0, width)?,
            pull: Matrix::zeros(1, width)?,
        })
    }
}

impl Router {
    /// A router from its named streams: P ~ N(0, 1/d_in), C orthonormal rows (normalised Gaussian ones if K > R).
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new(
        isa: Isa,
        config: &RouterConfig,
        (d_in, areas, classes): (usize, usize, usize),
        (seed, layer): (u64, u32),
    ) -> Result<Self, ModelError> {
        let width = config.width.unwrap_or(areas);
        let mut p = vec![0.0; d_in * width];
        Stream::new(seed, layer, 0, "projection").fill_normal(1.0 / d_in as f64, &mut p);
        let c = unit_rows(areas, width, Stream::new(seed, layer, 0, "prototypes"));
        Self::from_parts(isa, config, (d_in, areas, classes), &transpose(&p, width, d_in), &c)
    }

    /// A router from given tensors: `projection` P (R, d_in) and `prototypes` C (K, R), both row-major.
    ///
    /// # Errors
    /// If a length does not fit the shape.
    pub fn from_parts(
        isa: Isa,
        config: &RouterConfig,
        (d_in, areas, classes): (usize, usize, usize),
        projection: &[f32],
        prototypes: &[f32],
    ) -> Result<Self, ModelError> {
        let width = config.width.unwrap_or(areas);
        let check = |what, got: usize, want| {
            if got == want { Ok(()) } else { Err(LayoutError::Length { what, got, want }) }
        };
        check("projection", projection.len(), width * d_in)?;
        check("prototypes", prototypes.len(), areas * width)?;
        let p = transpose(projection, d_in, width);
        let c = transpose(prototypes, width, areas);
        let projection = Panels::from_row_major(isa, 1, d_in, width, &p)?;
        Ok(Self {
            config: config.clone(),
            classes,
            moments: Moments::new(Optimizer::Sgd, &projection, None)?,
            projection,
            prototypes: Panels::from_row_major(isa, 1, width, areas, &c)?,
            anchors: Panels::from_row_major(isa, 1, areas, width, prototypes)?,
            mean: vec![0.0; d_in],
            batches: 0,
            bias: vec![0.0; areas],
            scratch: Scratch::new(d_in, width, areas)?,
        })
    }

    /// Number of areas K.
    pub fn areas(&self) -> usize {
        self.bias.len()
    }

    /// P^T as panels of (d_in, R).
    pub fn projection(&self) -> &Panels {
        &self.projection
    }

    /// The running mean mu of the input.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The selection bias beta.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Empty routes of the right shape.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn routes(&self) -> Result<Routes, ModelError> {
        Ok(Routes::new(self.projection.d_out(), self.areas())?)
    }

    /// Routes a batch (batch, d_in).
    ///
    /// # Errors
    /// As [`route`].
    pub fn route(&self, inputs: MatrixRef<'_>, routes: &mut Routes) -> Result<(), ModelError> {
        let params = RouteParams {
            projection: &self.projection,
            prototypes: &self.prototypes,
            mean: self.config.centred.then_some(&self.mean[..]),
            bias: &self.bias,
            similarity: self.config.similarity,
        };
        Ok(route(inputs, &params, routes)?)
    }

    /// One local learning step from a batch, its routes and its labels (which only the label rule looks at).
    ///
    /// # Errors
    /// If the batch does not fit the routes, or one of them this router. Nothing is then changed.
    pub fn learn(
        &mut self,
        inputs: MatrixRef<'_>,
        routes: &Routes,
        labels: &[u32],
    ) -> Result<(), ModelError> {
        let (batch, areas) = (inputs.rows(), self.areas());
        check("inputs: columns", inputs.cols(), self.mean.len())?;
        check("routes: samples", routes.areas().len(), batch)?;
        check("routes: areas", routes.plan().areas(), areas)?;
        check("routes: width", routes.directions().cols(), self.projection.d_out())?;
        if batch == 0 {
            return Ok(());
        }
        for (k, share) in self.scratch.shares.iter_mut().enumerate() {
            *share = routes.plan().occupancy(k) as f32 / batch as f32;
        }
        if self.config.centred {
            self.follow_mean(inputs);
        }
        if self.config.gamma != 0.0 {
            self.balance();
        }
        if self.config.rule == RouterRule::Fixed {
            return Ok(());
        }
        self.score_gradient(routes, labels)?;
        self.direction_gradient(routes)?;
        self.descend(inputs)
    }

    fn follow_mean(&mut self, inputs: MatrixRef<'_>) {
        self.batches += 1;
        let rate = (1.0 / self.batches as f32).max(SLOWEST_MEAN);
        let sum = &mut self.scratch.sum;
        sum.fill(0.0);
        for sample in 0..inputs.rows() {
            sum.iter_mut().zip(inputs.row(sample)).for_each(|(s, &x)| *s += x);
        }
        let n = inputs.rows() as f32;
        self.mean.iter_mut().zip(sum).for_each(|(m, s)| *m += rate * (*s / n - *m));
    }

    fn balance(&mut self) {
        let shares = &self.scratch.shares;
        let even = 1.0 / shares.len() as f32;
        for (b, &share) in self.bias.iter_mut().zip(shares) {
            let gap = even - share;
            *b += if gap == 0.0 { 0.0 } else { self.config.gamma * gap.signum() };
        }
        let mean = self.bias.iter().sum::<f32>() / self.bias.len() as f32;
        self.bias.iter_mut().for_each(|b| *b -= mean);
    }

    /// `d_scores` = dl / (tau B).
    fn score_gradient(&mut self, routes: &Routes, labels: &[u32]) -> Result<(), ModelError> {
        let RouterConfig { rule, tau, alpha, .. } = self.config;
        let (batch, areas) = (routes.areas().len(), self.areas());
        let scale = 1.0 / (tau * batch as f32);
        let Scratch { shares, d_scores, .. } = &mut self.scratch;
        d_scores.set_rows(batch)?;
        for sample in 0..batch {
            let d = d_scores.row_mut(sample);
            softmax(routes.scores().row(sample), tau, d);
            let pull = alpha * areas as f32;
            let load: f32 = d.iter().zip(&*shares).map(|(&p, &f)| p * f).sum();
            // What the class owns, and how much of p lies there.
            let owner = labels.get(sample).map_or(0, |&y| y as usize);
            let owns = |k: usize| {
                if areas <= self.classes { k == owner % areas } else { k % self.classes == owner }
            };
            let owned: f32 = (0..areas).filter(|&k| owns(k)).map(|k| d[k]).sum();
            for (k, d) in d.iter_mut().enumerate() {
                let p = *d;
                let target = match rule {
                    RouterRule::Label if owns(k) => p / (owned + EPS_OWNED),
                    RouterRule::Sharp if k == routes.areas()[sample] as usize => 1.0,
                    _ => 0.0,
                };
                *d = scale * (p - target + pull * p * (shares[k] - load));
            }
        }
        Ok(())
    }

    /// `d_directions` = du.
    fn direction_gradient(&mut self, routes: &Routes) -> Result<(), ModelError> {
        let batch = routes.areas().len();
        let Scratch { whole, d_scores, d_directions, .. } = &mut self.scratch;
        d_directions.set_rows(batch)?;
        whole.rebuild_single(batch, 1)?;
        let (errors, out) = (d_scores.view(), d_directions.view_mut());
        forward(whole, errors, &self.anchors, None, Activation::Identity, out)?;
        if self.config.similarity == Similarity::Cosine {
            for (sample, &norm) in routes.norms().iter().enumerate() {
                let direction = routes.directions().row(sample);
                let du = d_directions.row_mut(sample);
                let along: f32 = du.iter().zip(direction).map(|(&d, &u)| d * u).sum();
                du.iter_mut().zip(direction).for_each(|(d, &u)| *d = (*d - along * u) / norm);
            }
        }
        Ok(())
    }

    /// P <- P - lr du^T (h - mu), as du^T h and the rank-one part of the mean.
    fn descend(&mut self, inputs: MatrixRef<'_>) -> Result<(), ModelError> {
        let rule = UpdateRule {
            optimizer: Optimizer::Sgd,
            lr: self.config.lr,
            weight_decay: 0.0,
            averaging: Averaging::Sum,
        };
        let Scratch { whole, one, d_directions, pull, .. } = &mut self.scratch;
        let mut step = |plan: &RoutePlan, inputs: MatrixRef<'_>, deltas: MatrixRef<'_>| {
            let (weights, moments) = (&mut self.projection, &mut self.moments);
            update(plan, inputs, deltas, &rule, Trainable { weights, bias: None, moments })
        };
        step(whole, inputs, d_directions.view())?;
        if self.config.centred {
            let sum = pull.as_mut_slice();
            sum.fill(0.0);
            for sample in 0..inputs.rows() {
                let du = d_directions.row(sample);
                sum.iter_mut().zip(du).for_each(|(s, &d)| *s -= d);
            }
            step(one, MatrixRef::new(&self.mean, 1, self.mean.len())?, pull.view())?;
        }
        Ok(())
    }
}

/// `out = softmax(scores / tau)`.
fn softmax(scores: &[f32], tau: f32, out: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (p, &s) in out.iter_mut().zip(scores) {
        *p = libm::expf((s - max) / tau);
        sum += *p;
    }
    out.iter_mut().for_each(|p| *p /= sum);
}

/// The transpose of a row-major matrix: the result is `rows` x `cols`.
fn transpose(from: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|n| from[(n % cols) * rows + n / cols]).collect()
}

/// `count` random unit rows of `width` values; orthonormal as far as they can be (Gram and Schmidt, in f64).
fn unit_rows(count: usize, width: usize, mut stream: Stream) -> Vec<f32> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut row: Vec<f64> = (0..width).map(|_| f64::from(stream.normal())).collect();
        if count <= width {
            // Twice, for the rounding that the first pass leaves.
            for _ in 0..2 {
                for other in &rows {
                    let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                    row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
                }
            }
        }
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter_mut().for_each(|x| *x /= length);
        rows.push(row);
    }
    rows.into_iter().flatten().map(|x| x as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prototypes_are_orthonormal() {
        let c = unit_rows(5, 8, Stream::new(1, 0, 0, "test"));
        for i in 0..5 {
            for j in 0..5 {
                let dot: f32 = (0..8).map(|r| c[i * 8 + r] * c[j * 8 + r]).sum();
                assert!((dot - f32::from(i == j)).abs() < 1e-6, "rows {i} and {j}: {dot}");
            }
        }
    }

    #[test]
    fn a_transpose_swaps_indices() {
        assert_eq!(
            transpose(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, 2),
            [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]
        );
    }
}
