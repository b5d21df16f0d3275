//! One verb on one layer: ours and the peers' loops on the same data, each checked before it is timed.
//!
//! ```text
//! forward    y = relu(x W[z] + b[z])            (batch, d_in) -> (batch, d_out)
//! update     W[z] -= lr x^T delta               SGD, no bias
//! feedback   e F * (y > 0), F shared            (batch, d_out) -> (batch, d_in): from a layer's output to its input
//! route      z = argmax(x P^T C^T), the plan    r = 32
//! ```

use crate::case::{Case, normal};
use crate::check::{close, relu, some};
use crate::loops::{Layout, Loop, Routed, Scratch};
use crate::peer::Peer;
use sal_kernels::kernels::{
    self, Activation, Averaging, Moments, Optimizer, RouteParams, Routes, Similarity, Trainable,
    UpdateRule,
};
use sal_kernels::{Isa, Matrix, Panels, RoutePlan, Signs};
use std::fmt;

/// Directions of every router.
pub(crate) const DIRECTIONS: usize = 32;

/// A rate so small that a million updates leave the weights where they are.
pub(crate) const TINY: f32 = 1e-12;

/// Who computes.
#[derive(Clone, Copy)]
pub(crate) enum Who<'a> {
    /// Our verbs, the feedback in f32.
    Sal,
    /// Our verbs, the feedback through one bit an entry.
    Signs,
    /// A loop around a peer.
    Peer(&'a dyn Peer, Layout),
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sal => f.pad("sal"),
            Self::Signs => f.pad("sal-signs"),
            Self::Peer(peer, Layout::InOut) => f.pad(peer.name()),
            Self::Peer(peer, Layout::OutIn) => f.pad(&format!("{}:t", peer.name())),
        }
    }
}

/// Work that everybody can do on the same data.
pub(crate) trait Work {
    /// FLOPs of one call.
    fn flop(&self) -> f64;

    /// Our ways to do it.
    fn ours(&self) -> &'static [Who<'static>] {
        &[Who::Sal]
    }

    /// Whether peers may choose the layout of their weights.
    fn layouts(&self) -> bool {
        true
    }

    /// Does it with the inputs and the plan of `turn`.
    fn run(&mut self, who: Who<'_>, turn: usize);

    /// Does it once and compares some entries with f64 sums.
    ///
    /// # Errors
    /// Which entry is wrong, what it is and what it should be.
    fn check(&mut self, who: Who<'_>) -> Result<(), String>;
}

/// Weights for `areas` of `d_in` x `d_out`, packed: area by area, as rows.
pub(crate) fn pack(isa: Isa, rows: &Matrix, areas: usize, d_in: usize, d_out: usize) -> Panels {
    let mut panels = Panels::zeros(isa, areas, d_in, d_out).expect("a shape that fits in memory");
    for (area, w) in rows.as_slice().chunks_exact(d_in * d_out).enumerate() {
        panels.set_area(area, w).expect("an area of that size");
    }
    panels
}

/// Zeros.
pub(crate) fn zeros(rows: usize, cols: usize) -> Matrix {
    Matrix::zeros(rows, cols).expect("a shape that fits in memory")
}

/// The gated forward product.
pub(crate) struct Forward {
    case: Case,
    panels: (Panels, Panels),
    rows: (Matrix, Matrix),
    out: Matrix,
    scratch: Scratch,
}

impl Forward {
    /// With normal weights.
    pub(crate) fn new(isa: Isa, case: Case) -> Self {
        let s = case.shape;
        let w = normal("weights", 0, s.areas * s.d_in, s.d_out, 2.0 / s.d_in as f64);
        let bias = normal("bias", 0, s.areas, s.d_out, 1.0);
        let panels =
            (pack(isa, &w, s.areas, s.d_in, s.d_out), pack(isa, &bias, s.areas, 1, s.d_out));
        let out = zeros(s.batch, s.d_out);
        Self { case, panels, rows: (w, bias), out, scratch: Scratch::default() }
    }
}

impl Work for Forward {
    fn flop(&self) -> f64 {
        self.case.shape.flop()
    }

    fn run(&mut self, who: Who<'_>, turn: usize) {
        let (plan, x) = (self.case.plan(turn), self.case.inputs(turn));
        if let Who::Peer(peer, layout) = who {
            let mut peer = Loop { peer, layout, scratch: &mut self.scratch };
            peer.forward(plan, x, (&self.rows.0, &self.rows.1), true, &mut self.out);
        } else {
            let (w, b) = &self.panels;
            kernels::forward(plan, x.view(), w, Some(b), Activation::Relu, self.out.view_mut())
                .expect("shapes fit");
        }
    }

    fn check(&mut self, who: Who<'_>) -> Result<(), String> {
        self.out.as_mut_slice().fill(f32::NAN);
        self.run(who, 0);
        let s = self.case.shape;
        for area in (0..s.areas).filter(|&k| self.case.plan(0).occupancy(k) > 0) {
            let rows = self.case.plan(0).rows(area);
            for row in some(rows.len()).map(|r| rows[r] as usize) {
                for j in some(s.d_out) {
                    let (w, b) = &self.panels;
                    let weight = |i| match who {
                        Who::Peer(_, layout) => {
                            let at = layout.index((s.d_in, s.d_out), i, j);
                            self.rows.0.as_slice()[area * s.d_in * s.d_out + at]
                        }
                        _ => w.get(area, i, j),
                    };
                    let x = self.case.inputs(0).row(row);
                    let terms = x.iter().enumerate().map(|(i, &x)| (x, weight(i)));
                    let terms = terms.chain([(1.0, b.get(area, 0, j))]);
                    close("forward", self.out.row(row)[j], terms, relu)?;
                }
            }
        }
        Ok(())
    }
}

/// The gated update.
pub(crate) struct Update {
    case: Case,
    panels: Panels,
    moments: Moments,
    rows: Matrix,
    scratch: Scratch,
}

impl Update {
    /// With normal weights.
    pub(crate) fn new(isa: Isa, case: Case) -> Self {
        let s = case.shape;
        let rows = normal("weights", 0, s.areas * s.d_in, s.d_out, 2.0 / s.d_in as f64);
        let panels = pack(isa, &rows, s.areas, s.d_in, s.d_out);
        let moments = Moments::new(Optimizer::Sgd, &panels, None).expect("no moments");
        Self { case, panels, moments, rows, scratch: Scratch::default() }
    }

    fn step(&mut self, who: Who<'_>, turn: usize, lr: f32) {
        let (plan, x, deltas) = (self.case.plan(turn), self.case.inputs(turn), &self.case.deltas);
        if let Who::Peer(peer, layout) = who {
            let mut peer = Loop { peer, layout, scratch: &mut self.scratch };
            peer.update(plan, (x, deltas), lr, &mut self.rows);
        } else {
            let (weights, moments) = (&mut self.panels, &mut self.moments);
            let params = Trainable { weights, bias: None, moments };
            kernels::update(plan, x.view(), deltas.view(), &sgd(lr), params).expect("shapes fit");
        }
    }

    fn weight(&self, who: Who<'_>, area: usize, i: usize, j: usize) -> f32 {
        let (d_in, d_out) = (self.case.shape.d_in, self.case.shape.d_out);
        match who {
            Who::Peer(_, layout) => {
                let at = layout.index((d_in, d_out), i, j);
                self.rows.as_slice()[area * d_in * d_out + at]
            }
            _ => self.panels.get(area, i, j),
        }
    }
}

/// Plain SGD on the sum over samples.
pub(crate) fn sgd(lr: f32) -> UpdateRule {
    UpdateRule { optimizer: Optimizer::Sgd, lr, weight_decay: 0.0, averaging: Averaging::Sum }
}

impl Work for Update {
    fn flop(&self) -> f64 {
        self.case.shape.flop()
    }

    fn run(&mut self, who: Who<'_>, turn: usize) {
        self.step(who, turn, TINY);
    }

    fn check(&mut self, who: Who<'_>) -> Result<(), String> {
        let s = self.case.shape;
        let mut entries = Vec::new();
        for area in 0..s.areas {
            for (i, j) in some(s.d_in).into_iter().flat_map(|i| some(s.d_out).map(|j| (i, j))) {
                entries.push((area, i, j, self.weight(who, area, i, j)));
            }
        }
        self.step(who, 0, 1.0);
        for (area, i, j, before) in entries {
            let rows = self.case.plan(0).rows(area).iter().map(|&row| row as usize);
            let (x, delta) = (self.case.inputs(0), &self.case.deltas);
            let terms = rows.map(|row| (-x.row(row)[i], delta.row(row)[j])).chain([(1.0, before)]);
            close("update", self.weight(who, area, i, j), terms, |x| x)?;
        }
        Ok(())
    }
}

/// The feedback product through one shared matrix.
pub(crate) struct Feedback {
    case: Case,
    plan: RoutePlan,
    gate: Matrix,
    panels: Panels,
    signs: Signs,
    rows: Matrix,
    out: Matrix,
}

impl Feedback {
    /// With normal weights, and their signs.
    pub(crate) fn new(isa: Isa, case: Case) -> Self {
        let s = case.shape;
        let rows = normal("feedback", 0, s.d_out, s.d_in, 2.0 / s.d_in as f64);
        let signs = Signs::from_row_major(isa, 1, s.d_out, s.d_in, 0.5, rows.as_slice());
        Self {
            plan: RoutePlan::single(s.batch).expect("a batch that fits"),
            gate: normal("outputs", 0, s.batch, s.d_in, 1.0),
            panels: pack(isa, &rows, 1, s.d_out, s.d_in),
            signs: signs.expect("a shape that fits in memory"),
            rows,
            out: zeros(s.batch, s.d_in),
            case,
        }
    }
}

impl Work for Feedback {
    fn flop(&self) -> f64 {
        self.case.shape.flop()
    }

    fn ours(&self) -> &'static [Who<'static>] {
        &[Who::Sal, Who::Signs]
    }

    fn run(&mut self, who: Who<'_>, _: usize) {
        let errors = &self.case.deltas;
        let (gate, out) = (Some(self.gate.view()), self.out.view_mut());
        match who {
            Who::Sal => kernels::feedback(&self.plan, errors.view(), &self.panels, gate, out)
                .expect("shapes fit"),
            Who::Signs => {
                kernels::feedback_signs(&self.plan, errors.view(), &self.signs, gate, out)
                    .expect("shapes fit")
            }
            Who::Peer(peer, layout) => {
                let peer = Loop { peer, layout, scratch: &mut Scratch::default() };
                peer.feedback(errors, &self.rows, &self.gate, &mut self.out);
            }
        }
    }

    fn check(&mut self, who: Who<'_>) -> Result<(), String> {
        self.out.as_mut_slice().fill(f32::NAN);
        self.run(who, 0);
        let s = self.case.shape;
        for row in some(s.batch) {
            for j in some(s.d_in) {
                let weight = |i| match who {
                    Who::Sal => self.panels.get(0, i, j),
                    Who::Signs => 0.5f32.copysign(self.panels.get(0, i, j)),
                    Who::Peer(_, layout) => {
                        self.rows.as_slice()[layout.index((s.d_out, s.d_in), i, j)]
                    }
                };
                let active = if self.gate.row(row)[j] > 0.0 { 1.0 } else { 0.0 };
                let errors = self.case.deltas.row(row).iter().enumerate();
                let terms = errors.map(|(i, &e)| (active * e, weight(i)));
                close("feedback", self.out.row(row)[j], terms, |x| x)?;
            }
        }
        Ok(())
    }
}

/// A router in both forms. A peer's lies as d_in rows whatever the layout of its weights, so all send a sample the same way.
pub(crate) struct Router {
    panels: (Panels, Panels),
    rows: (Matrix, Matrix),
    bias: Vec<f32>,
}

impl Router {
    /// A normal projection and prototypes of length 1 for `areas`, of layer `number`.
    ///
    /// The projection does not see the direction of `mean`, the mean of the inputs, so that areas get about as many
    /// samples each, as from a router that centres its inputs.
    pub(crate) fn new(isa: Isa, number: u32, mean: &[f32], areas: usize) -> Self {
        let d_in = mean.len();
        let mut p = normal("projection", number, d_in, DIRECTIONS, 1.0 / d_in as f64);
        let size: f32 = mean.iter().map(|m| m * m).sum();
        for r in (0..DIRECTIONS).filter(|_| size > 0.0) {
            let along: f32 = mean.iter().enumerate().map(|(i, m)| m * p.row(i)[r]).sum();
            for (i, m) in mean.iter().enumerate() {
                p.row_mut(i)[r] -= along / size * m;
            }
        }
        let mut c = normal("prototypes", number, DIRECTIONS, areas, 1.0);
        for k in 0..areas {
            let length = (0..DIRECTIONS).map(|r| c.row(r)[k].powi(2)).sum::<f32>().sqrt();
            (0..DIRECTIONS).for_each(|r| c.row_mut(r)[k] /= length);
        }
        let panels = (pack(isa, &p, 1, d_in, DIRECTIONS), pack(isa, &c, 1, DIRECTIONS, areas));
        Self { panels, rows: (p, c), bias: vec![0.0; areas] }
    }

    /// Ours.
    pub(crate) fn route(&self, x: &Matrix, routes: &mut Routes) {
        let params = RouteParams {
            projection: &self.panels.0,
            prototypes: &self.panels.1,
            mean: None,
            bias: &self.bias,
            similarity: Similarity::Dot,
        };
        kernels::route(x.view(), &params, routes).expect("shapes fit");
    }

    /// A peer's.
    pub(crate) fn route_peer(&self, peer: &Loop<'_>, x: &Matrix, routed: &mut Routed) {
        peer.route(x, (&self.rows.0, &self.rows.1), routed);
    }

    /// Whether each area is the best of the scores, and the first and last score are right.
    pub(crate) fn check(
        &self,
        x: &Matrix,
        (scores, areas): (&Matrix, &[u32]),
    ) -> Result<(), String> {
        let count = scores.cols();
        let (p, c) = (&self.rows.0, &self.rows.1);
        for row in some(x.rows()) {
            let own = scores.row(row);
            let best = own.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if own[areas[row] as usize] != best {
                return Err(format!("route: sample {row}: area {} is not the best", areas[row]));
            }
            for k in [0, count - 1] {
                // The sum over directions and inputs at once; its bound is no smaller than that of two sums.
                let terms = (0..DIRECTIONS).flat_map(|r| {
                    let c = c.row(r)[k];
                    x.row(row).iter().enumerate().map(move |(i, &x)| (x * c, p.row(i)[r]))
                });
                close("route", own[k], terms, |x| x)?;
            }
        }
        Ok(())
    }
}

/// Routing.
pub(crate) struct Route {
    case: Case,
    router: Router,
    routes: Routes,
    routed: Routed,
}

impl Route {
    /// With a normal router.
    pub(crate) fn new(isa: Isa, case: Case) -> Self {
        let s = case.shape;
        Self {
            router: Router::new(isa, 0, &vec![0.0; s.d_in], s.areas),
            routes: Routes::new(DIRECTIONS, s.areas).expect("a shape that fits in memory"),
            routed: Routed::new(s.batch, DIRECTIONS, s.areas),
            case,
        }
    }
}

impl Work for Route {
    fn flop(&self) -> f64 {
        let s = self.case.shape;
        2.0 * (s.batch * DIRECTIONS * (s.d_in + s.areas)) as f64
    }

    fn layouts(&self) -> bool {
        false
    }

    fn run(&mut self, who: Who<'_>, turn: usize) {
        let x = self.case.inputs(turn);
        if let Who::Peer(peer, layout) = who {
            let peer = Loop { peer, layout, scratch: &mut Scratch::default() };
            self.router.route_peer(&peer, x, &mut self.routed);
        } else {
            self.router.route(x, &mut self.routes);
        }
    }

    fn check(&mut self, who: Who<'_>) -> Result<(), String> {
        self.run(who, 0);
        let found = match who {
            Who::Peer(..) => (&self.routed.scores, &self.routed.areas[..]),
            _ => (self.routes.scores(), self.routes.areas()),
        };
        self.router.check(self.case.inputs(0), found)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::case::{Profile, Shape};
    use crate::peer::{Product, built_in};

    /// Right but for a factor.
    struct Wrong(Box<dyn Peer>);

    impl Peer for Wrong {
        fn name(&self) -> &str {
            "wrong"
        }

        fn multiply(&self, product: Product<'_>) {
            self.0.multiply(product.doubled());
        }
    }

    /// Everybody passes the check of `work`, and a wrong product does not.
    pub(crate) fn passes(work: &mut dyn Work) {
        for &who in work.ours() {
            work.check(who).unwrap();
        }
        let mut peers = built_in(1);
        for layout in [Layout::InOut, Layout::OutIn] {
            for peer in &peers {
                work.check(Who::Peer(&**peer, layout)).unwrap();
                work.run(Who::Peer(&**peer, layout), 1);
            }
        }
        let wrong = Wrong(peers.remove(0));
        assert!(work.check(Who::Peer(&wrong, Layout::InOut)).is_err());
    }

    #[test]
    fn right_results_pass_and_wrong_ones_do_not() {
        let isa = Isa::detect().unwrap();
        let shape = Shape { batch: 24, d_in: 33, d_out: 20, areas: 4 };
        for profile in [Profile::Balanced, Profile::Hot80, Profile::Rotating, Profile::Zipf] {
            passes(&mut Forward::new(isa, Case::new(shape, profile)));
            passes(&mut Update::new(isa, Case::new(shape, profile)));
        }
        passes(&mut Feedback::new(isa, Case::new(shape, Profile::Balanced)));
        passes(&mut Route::new(isa, Case::new(shape, Profile::Balanced)));
        let dense = Shape { areas: 1, ..shape };
        passes(&mut Forward::new(isa, Case::new(dense, Profile::Balanced)));
        passes(&mut Update::new(isa, Case::new(dense, Profile::Balanced)));
    }
}
