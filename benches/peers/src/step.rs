//! A whole SAL step: every layer routes and computes, the error comes back, every layer is changed.
//!
//! ```text
//! for l in 0..L        z_l = route(h_l),  h_(l+1) = f(h_l W_l[z_l] + b_l[z_l])     f = ReLU, the last one linear
//! delta_(L-1)          h_L - target                                                squared error
//! for l in L-2..=0     delta_l = delta_(l+1) F_l * (h_(l+1) > 0)                   F shared by all areas
//! for l in 0..L        W_l[z] -= lr h_l^T delta_l,  b_l[z] -= lr sum delta_l
//! ```
//! All peers work on one copy of the weights, ours are packed: two copies in memory, whoever else takes part. Routers
//! stay as they are.

use crate::case::{normal, rotating_inputs};
use crate::check::{close, relu, some};
use crate::loops::{Loop, Routed, Scratch};
use crate::verbs::{DIRECTIONS, Router, TINY, Who, Work, pack, sgd, zeros};
use sal_kernels::kernels::{self, Activation, Moments, Optimizer, Routes, Trainable};
use sal_kernels::{Isa, Matrix, Panels, RoutePlan, Signs};

/// One layer in both forms, and what it found for the current batch.
struct Layer {
    d_in: usize,
    d_out: usize,
    router: Router,
    routes: Routes,
    routed: Routed,
    panels: Panels,
    bias_panels: Panels,
    moments: Moments,
    rows: Matrix,
    bias_rows: Matrix,
    /// From the error of the layer above to this one's; none in the last.
    feedback: Option<(Panels, Signs, Matrix)>,
    /// What comes out.
    out: Matrix,
    /// Its error.
    delta: Matrix,
}

/// A network and batches for it.
pub(crate) struct Step {
    batch: usize,
    whole: RoutePlan,
    layers: Vec<Layer>,
    inputs: Vec<Matrix>,
    targets: Matrix,
    scratch: Scratch,
}

impl Step {
    /// Layers of these widths with `areas` each; inputs are normal unless given.
    pub(crate) fn new(
        isa: Isa,
        widths: &[usize],
        areas: usize,
        batch: usize,
        inputs: Option<Vec<Matrix>>,
    ) -> Self {
        let count = widths.len() - 1;
        let inputs = inputs.unwrap_or_else(|| rotating_inputs(batch, widths[0]));
        let layer = |l: usize| {
            let (number, d_in, d_out) = (l as u32, widths[l], widths[l + 1]);
            // Outputs of ReLU have about one mean in all units.
            let mean = if l == 0 { mean(&inputs) } else { vec![1.0; d_in] };
            let rows = normal("weights", number, areas * d_in, d_out, 2.0 / d_in as f64);
            let panels = pack(isa, &rows, areas, d_in, d_out);
            let bias_rows = normal("bias", number, areas, d_out, 0.01);
            let bias_panels = pack(isa, &bias_rows, areas, 1, d_out);
            let moments = Moments::new(Optimizer::Sgd, &panels, Some(&bias_panels));
            let feedback = (l + 1 < count).then(|| {
                let above = widths[l + 2];
                let variance = 2.0 / d_out as f64;
                let f = normal("feedback", number, above, d_out, variance);
                let scale = variance.sqrt() as f32;
                let signs = Signs::from_row_major(isa, 1, above, d_out, scale, f.as_slice());
                (pack(isa, &f, 1, above, d_out), signs.expect("a shape that fits in memory"), f)
            });
            Layer {
                d_in,
                d_out,
                router: Router::new(isa, number, &mean, areas),
                routes: Routes::new(DIRECTIONS, areas).expect("a shape that fits in memory"),
                routed: Routed::new(batch, DIRECTIONS, areas),
                moments: moments.expect("no moments"),
                panels,
                bias_panels,
                rows,
                bias_rows,
                feedback,
                out: zeros(batch, d_out),
                delta: zeros(batch, d_out),
            }
        };
        Self {
            batch,
            whole: RoutePlan::single(batch).expect("a batch that fits"),
            layers: (0..count).map(layer).collect(),
            inputs,
            targets: normal("targets", 0, batch, widths[count], 1.0),
            scratch: Scratch::default(),
        }
    }

    /// Everything but the update.
    fn errors(&mut self, who: Who<'_>, turn: usize) {
        let (last, mut x) = (self.layers.len() - 1, &self.inputs[turn % self.inputs.len()]);
        for (l, layer) in self.layers.iter_mut().enumerate() {
            let (out, hidden) = (&mut layer.out, l < last);
            if let Who::Peer(peer, layout) = who {
                let mut peer = Loop { peer, layout, scratch: &mut self.scratch };
                layer.router.route_peer(&peer, x, &mut layer.routed);
                let weights = (&layer.rows, &layer.bias_rows);
                peer.forward(&layer.routed.plan, x, weights, hidden, out);
            } else {
                layer.router.route(x, &mut layer.routes);
                let f = if hidden { Activation::Relu } else { Activation::Identity };
                let (plan, bias) = (layer.routes.plan(), Some(&layer.bias_panels));
                kernels::forward(plan, x.view(), &layer.panels, bias, f, out.view_mut())
                    .expect("shapes fit");
            }
            x = &layer.out;
        }
        let Layer { out, delta, .. } = &mut self.layers[last];
        kernels::squared_error(out.view(), self.targets.view(), delta.view_mut())
            .expect("shapes fit");
        for l in (0..last).rev() {
            let (below, above) = self.layers.split_at_mut(l + 1);
            let (errors, Layer { feedback, out, delta, .. }) = (&above[0].delta, &mut below[l]);
            let (panels, signs, rows) = feedback.as_ref().expect("all but the last have it");
            let (e, y) = (errors.view(), Some(out.view()));
            match who {
                Who::Sal => kernels::feedback(&self.whole, e, panels, y, delta.view_mut())
                    .expect("shapes fit"),
                Who::Signs => kernels::feedback_signs(&self.whole, e, signs, y, delta.view_mut())
                    .expect("shapes fit"),
                Who::Peer(peer, layout) => {
                    let peer = Loop { peer, layout, scratch: &mut self.scratch };
                    peer.feedback(errors, rows, out, delta);
                }
            }
        }
    }

    /// The update of every layer.
    fn update(&mut self, who: Who<'_>, turn: usize, lr: f32) {
        for l in 0..self.layers.len() {
            let (below, layer) = self.layers.split_at_mut(l);
            let layer = &mut layer[0];
            let x = below.last().map_or(&self.inputs[turn % self.inputs.len()], |b| &b.out);
            if let Who::Peer(peer, layout) = who {
                let mut peer = Loop { peer, layout, scratch: &mut self.scratch };
                let plan = &layer.routed.plan;
                peer.update(plan, (x, &layer.delta), lr, &mut layer.rows);
                peer.update_bias(plan, &layer.delta, lr, &mut layer.bias_rows);
            } else {
                let (weights, bias) = (&mut layer.panels, Some(&mut layer.bias_panels));
                let params = Trainable { weights, bias, moments: &mut layer.moments };
                let plan = layer.routes.plan();
                kernels::update(plan, x.view(), layer.delta.view(), &sgd(lr), params)
                    .expect("shapes fit");
            }
        }
    }

    /// The input of a layer.
    fn input(&self, l: usize) -> &Matrix {
        if l == 0 { &self.inputs[0] } else { &self.layers[l - 1].out }
    }
}

/// The mean of all rows.
fn mean(inputs: &[Matrix]) -> Vec<f32> {
    let mut sum = vec![0.0; inputs[0].cols()];
    for row in inputs.iter().flat_map(|x| (0..x.rows()).map(|r| x.row(r))) {
        sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
    let count = (inputs.len() * inputs[0].rows()) as f32;
    sum.into_iter().map(|s| s / count).collect()
}

impl Layer {
    fn areas(&self, who: Who<'_>) -> &[u32] {
        if let Who::Peer(..) = who { &self.routed.areas } else { self.routes.areas() }
    }

    fn weight(&self, who: Who<'_>, area: usize, i: usize, j: usize) -> f32 {
        match who {
            Who::Peer(_, layout) => {
                let at = layout.index((self.d_in, self.d_out), i, j);
                self.rows.as_slice()[area * self.d_in * self.d_out + at]
            }
            _ => self.panels.get(area, i, j),
        }
    }

    fn bias(&self, who: Who<'_>, area: usize, j: usize) -> f32 {
        match who {
            Who::Peer(..) => self.bias_rows.row(area)[j],
            _ => self.bias_panels.get(area, 0, j),
        }
    }

    /// Entry (i, j) of the matrix that brings the error from above.
    fn back(&self, who: Who<'_>, above: usize, i: usize, j: usize) -> f32 {
        let (panels, signs, rows) = self.feedback.as_ref().expect("all but the last have it");
        match who {
            Who::Sal => panels.get(0, i, j),
            Who::Signs => signs.scale().copysign(panels.get(0, i, j)),
            Who::Peer(_, layout) => rows.as_slice()[layout.index((above, self.d_out), i, j)],
        }
    }
}

impl Work for Step {
    fn flop(&self) -> f64 {
        let areas = self.layers[0].routed.scores.cols();
        let layer = |l: &Layer| {
            let route = DIRECTIONS * (l.d_in + areas);
            let back = l.feedback.as_ref().map_or(0, |(f, ..)| f.d_in() * f.d_out());
            (route + 2 * l.d_in * l.d_out + back) as f64
        };
        2.0 * self.batch as f64 * self.layers.iter().map(layer).sum::<f64>()
    }

    fn ours(&self) -> &'static [Who<'static>] {
        &[Who::Sal, Who::Signs]
    }

    fn run(&mut self, who: Who<'_>, turn: usize) {
        self.errors(who, turn);
        self.update(who, turn, TINY);
    }

    fn check(&mut self, who: Who<'_>) -> Result<(), String> {
        self.errors(who, 0);
        let mut before = Vec::new();
        for (l, layer) in self.layers.iter().enumerate() {
            let x = self.input(l);
            let found = match who {
                Who::Peer(..) => (&layer.routed.scores, &layer.routed.areas[..]),
                _ => (layer.routes.scores(), layer.routes.areas()),
            };
            layer.router.check(x, found)?;
            let last = layer.feedback.is_none();
            for row in some(self.batch) {
                let area = layer.areas(who)[row] as usize;
                for j in some(layer.d_out) {
                    let y = layer.out.row(row)[j];
                    let terms = x.row(row).iter().enumerate();
                    let terms = terms.map(|(i, &x)| (x, layer.weight(who, area, i, j)));
                    let terms = terms.chain([(1.0, layer.bias(who, area, j))]);
                    close("step, forward", y, terms, |x| if last { x } else { relu(x) })?;
                    if !last {
                        let errors = self.layers[l + 1].delta.row(row);
                        let active = if y > 0.0 { 1.0 } else { 0.0 };
                        let back = |i| layer.back(who, errors.len(), i, j);
                        let terms = errors.iter().enumerate();
                        let terms = terms.map(|(i, &e)| (active * e, back(i)));
                        close("step, feedback", layer.delta.row(row)[j], terms, |x| x)?;
                    }
                    for i in some(layer.d_in) {
                        before.push((l, area, i, j, layer.weight(who, area, i, j)));
                    }
                }
            }
        }
        // A power of two, so that multiplying by it rounds nothing; small, so that the next check has sane weights.
        let lr = 2f32.powi(-20);
        self.update(who, 0, lr);
        for (l, area, i, j, before) in before {
            let (x, layer) = (self.input(l), &self.layers[l]);
            let rows = layer.areas(who).iter().enumerate();
            let rows = rows.filter(|&(_, &z)| z as usize == area).map(|(row, _)| row);
            let terms = rows.map(|row| (-lr * x.row(row)[i], layer.delta.row(row)[j]));
            let after = layer.weight(who, area, i, j);
            close("step, update", after, terms.chain([(1.0, before)]), |x| x)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::strokes;
    use crate::verbs::tests::passes;

    #[test]
    fn a_step_is_right() {
        let isa = Isa::detect().unwrap();
        passes(&mut Step::new(isa, &[33, 20, 17, 5], 4, 24, None));
        passes(&mut Step::new(isa, &[8, 3], 1, 2, None));
    }

    #[test]
    fn samples_are_spread_over_the_areas() {
        let inputs = (0..4).map(|turn| strokes(256, turn)).collect();
        let mut step = Step::new(Isa::detect().unwrap(), &[784, 256, 10], 16, 256, Some(inputs));
        step.run(Who::Sal, 0);
        for layer in &step.layers {
            let plan = layer.routes.plan();
            let most = (0..16).map(|k| plan.occupancy(k)).max().unwrap();
            assert!(most < 4 * 256 / 16, "{most} of 256 in one of 16 areas");
        }
    }
}
