//! The loop over areas that a user would write around a peer.
//!
//! ```text
//! forward    for each area: gather its rows, product, bias + ReLU while they are scattered to their places
//! update     for each area: gather its rows of x and delta, W[z] -= lr x^T delta by a product that adds
//! feedback   one dense product, then zeros where the unit was not active
//! route      product with the projection, product with the prototypes, argmax, sort by area
//! ```
//! Rows that lie one after another are used in place: a dense layer gathers nothing. What is around the products runs
//! on one thread.

use crate::peer::{Peer, Product, View};
use sal_kernels::{Matrix, RoutePlan};

/// How the peers' weights lie in memory. A loop may choose, so the better one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// d_in rows of d_out.
    InOut,
    /// d_out rows of d_in, as in torch.
    OutIn,
}

impl Layout {
    /// A matrix of `d_in` x `d_out` in memory.
    pub(crate) fn view(self, w: &[f32], d_in: usize, d_out: usize) -> View<'_> {
        match self {
            Self::InOut => View::new(w, d_in, d_out),
            Self::OutIn => View::new(w, d_out, d_in).t(),
        }
    }

    /// Where entry (i, j) of a matrix of `d_in` x `d_out` lies.
    pub(crate) fn index(self, (d_in, d_out): (usize, usize), i: usize, j: usize) -> usize {
        match self {
            Self::InOut => i * d_out + j,
            Self::OutIn => j * d_in + i,
        }
    }
}

/// Room for what the loops gather and compute.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    inputs: Vec<f32>,
    other: Vec<f32>,
}

/// A peer, the layout of its weights, and room.
pub(crate) struct Loop<'a> {
    /// The library.
    pub(crate) peer: &'a dyn Peer,
    /// How its weights lie.
    pub(crate) layout: Layout,
    /// Used again by the next call.
    pub(crate) scratch: &'a mut Scratch,
}

impl Loop<'_> {
    /// `out[s] = relu(x[s] W[z] + b[z])`, or without ReLU. `w` is (K, d_in, d_out), `bias` (K, d_out).
    pub(crate) fn forward(
        &mut self,
        plan: &RoutePlan,
        x: &Matrix,
        (w, bias): (&Matrix, &Matrix),
        relu: bool,
        out: &mut Matrix,
    ) {
        let (d_in, d_out) = (x.cols(), out.cols());
        let areas = w.as_slice().chunks_exact(d_in * d_out);
        let finish = |x: f32, b: f32| if relu { (x + b).max(0.0) } else { x + b };
        for (area, w) in areas.enumerate().filter(|&(k, _)| plan.occupancy(k) > 0) {
            let (rows, bias, n) = (plan.rows(area), bias.row(area), plan.occupancy(area));
            let w = self.layout.view(w, d_in, d_out);
            let a = View::new(gather(x, rows, &mut self.scratch.inputs), n, d_in);
            if in_place(rows) {
                let out = &mut out.as_mut_slice()[rows[0] as usize * d_out..][..n * d_out];
                self.peer.multiply(Product::set(a, w, out));
                for row in out.chunks_exact_mut(d_out) {
                    row.iter_mut().zip(bias).for_each(|(y, &b)| *y = finish(*y, b));
                }
            } else {
                let product = room(&mut self.scratch.other, n * d_out);
                self.peer.multiply(Product::set(a, w, product));
                for (from, &row) in product.chunks_exact(d_out).zip(rows) {
                    let to = out.row_mut(row as usize).iter_mut();
                    to.zip(from).zip(bias).for_each(|((y, &p), &b)| *y = finish(p, b));
                }
            }
        }
    }

    /// `W[z] -= lr x^T delta`, in place.
    pub(crate) fn update(
        &mut self,
        plan: &RoutePlan,
        (x, deltas): (&Matrix, &Matrix),
        lr: f32,
        w: &mut Matrix,
    ) {
        let (d_in, d_out) = (x.cols(), deltas.cols());
        let areas = w.as_mut_slice().chunks_exact_mut(d_in * d_out);
        for (area, w) in areas.enumerate().filter(|&(k, _)| plan.occupancy(k) > 0) {
            let (rows, n) = (plan.rows(area), plan.occupancy(area));
            let x = View::new(gather(x, rows, &mut self.scratch.inputs), n, d_in);
            let delta = View::new(gather(deltas, rows, &mut self.scratch.other), n, d_out);
            self.peer.multiply(match self.layout {
                Layout::InOut => Product::add(-lr, x.t(), delta, w),
                Layout::OutIn => Product::add(-lr, delta.t(), x, w),
            });
        }
    }

    /// `b[z] -= lr sum of delta`, in place.
    pub(crate) fn update_bias(
        &self,
        plan: &RoutePlan,
        deltas: &Matrix,
        lr: f32,
        bias: &mut Matrix,
    ) {
        for area in 0..plan.areas() {
            let bias = bias.row_mut(area);
            for &row in plan.rows(area) {
                let delta = deltas.row(row as usize);
                bias.iter_mut().zip(delta).for_each(|(b, &d)| *b -= lr * d);
            }
        }
    }

    /// `out = (errors F) where gate > 0, else 0`; `f` is one matrix for all areas.
    pub(crate) fn feedback(&self, errors: &Matrix, f: &Matrix, gate: &Matrix, out: &mut Matrix) {
        let (n, d_in, d_out) = (errors.rows(), errors.cols(), out.cols());
        let f = self.layout.view(f.as_slice(), d_in, d_out);
        let errors = View::new(errors.as_slice(), n, d_in);
        self.peer.multiply(Product::set(errors, f, out.as_mut_slice()));
        for (delta, &y) in out.as_mut_slice().iter_mut().zip(gate.as_slice()) {
            *delta = if y > 0.0 { *delta } else { 0.0 };
        }
    }

    /// Scores of `x` by a projection (d_in, r) and prototypes (r, K), and the plan of the best areas.
    pub(crate) fn route(
        &self,
        x: &Matrix,
        (projection, prototypes): (&Matrix, &Matrix),
        routed: &mut Routed,
    ) {
        let (n, d_in) = (x.rows(), x.cols());
        let (r, areas) = (routed.directions.cols(), routed.scores.cols());
        let x = View::new(x.as_slice(), n, d_in);
        let p = View::new(projection.as_slice(), d_in, r);
        self.peer.multiply(Product::set(x, p, routed.directions.as_mut_slice()));
        let u = View::new(routed.directions.as_slice(), n, r);
        let c = View::new(prototypes.as_slice(), r, areas);
        self.peer.multiply(Product::set(u, c, routed.scores.as_mut_slice()));
        for (sample, z) in routed.areas.iter_mut().enumerate() {
            let mut best = (f32::NEG_INFINITY, 0);
            for (k, &score) in routed.scores.row(sample).iter().enumerate() {
                best = if score > best.0 { (score, k as u32) } else { best };
            }
            *z = best.1;
        }
        routed.plan.rebuild(&routed.areas, areas).expect("areas are in range");
    }
}

/// What a peer's loop found out about a batch.
pub(crate) struct Routed {
    directions: Matrix,
    /// (batch, K).
    pub(crate) scores: Matrix,
    /// The area of each sample.
    pub(crate) areas: Vec<u32>,
    /// Samples by area.
    pub(crate) plan: RoutePlan,
}

impl Routed {
    /// Room for `batch` samples, `r` directions and K areas.
    pub(crate) fn new(batch: usize, r: usize, areas: usize) -> Self {
        let zeros = |cols| Matrix::zeros(batch, cols).expect("a shape that fits in memory");
        let z = vec![0; batch];
        let plan = RoutePlan::new(&z, areas).expect("areas are in range");
        Self { directions: zeros(r), scores: zeros(areas), areas: z, plan }
    }
}

/// Whether rows lie one after another.
fn in_place(rows: &[u32]) -> bool {
    rows.windows(2).all(|w| w[0] + 1 == w[1])
}

/// The first `len` elements of a buffer that grows when it must.
fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// The rows of `from`, one after another: where they are, or copied to `buffer`.
fn gather<'a>(from: &'a Matrix, rows: &[u32], buffer: &'a mut Vec<f32>) -> &'a [f32] {
    let cols = from.cols();
    if in_place(rows) {
        return &from.as_slice()[rows[0] as usize * cols..][..rows.len() * cols];
    }
    let to = room(buffer, rows.len() * cols);
    for (to, &row) in to.chunks_exact_mut(cols).zip(rows) {
        to.copy_from_slice(from.row(row as usize));
    }
    to
}
