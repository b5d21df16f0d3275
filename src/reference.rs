//! The oracle: every verb of `kernels`, and the router's own update, once more in f64. Slow, plain, for tests only.
//!
//! ```text
//! route      u = (h - mu) P^T;  nu = |u| + 1e-6, uh = u / nu (dot: nu = 1);  s = uh C^T;  z = argmax(s + beta)
//! forward    a = h W[z] + b[z]
//! loss       e = softmax(a) - onehot(label),  or  a - target
//! feedback   delta = (e F[z]) where y > 0, else 0
//! gradient   gW[k] = c_k sum over its samples of h^T delta,   gb[k] = c_k sum of delta
//! update     SGD, momentum, AdamW
//! router     P <- P - lr du^T (h - mu),  mu, beta                      (section 7 of the specification)
//! ```
//! It shares no code with the kernels: row-major slices, one loop for each index, areas given as `z[sample]`. It
//! checks nothing either; a wrong length panics. Where the error of an f32 kernel can be bounded by
//! `(depth + 2) 2^-24 sum |a| |b|`, the sum of magnitudes stands next to the value, in [`Sums`].
//!
//! ```
//! use sal_kernels::reference::{Shape, forward};
//! let shape = Shape { areas: 2, d_in: 1, d_out: 1 };
//! let a = forward(shape, &[1, 0], &[2.0, -3.0], &[10.0, -10.0], Some(&[0.0, 1.0]));
//! assert_eq!(a.value, [-19.0, -30.0]);
//! assert_eq!(a.magnitude, [21.0, 30.0]);
//! ```

/// Sizes of one tensor of weights, `[area][i][j]` with `i < d_in` and `j < d_out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Number of areas K; 1 serves every sample, whatever its area.
    pub areas: usize,
    /// Width of the input.
    pub d_in: usize,
    /// Width of the output.
    pub d_out: usize,
}

/// Sums of products, and the same sums over absolute values.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    /// `sum a b`.
    pub value: Vec<f64>,
    /// `sum |a| |b|`: what the rounding errors of the sum are relative to.
    pub magnitude: Vec<f64>,
}

impl Sums {
    fn zeros(len: usize) -> Self {
        Self { value: vec![0.0; len], magnitude: vec![0.0; len] }
    }

    fn add(&mut self, at: usize, x: f64) {
        self.value[at] += x;
        self.magnitude[at] += x.abs();
    }
}

/// `sums[s][j] = sum_i x[s][i] w[z_s][i][j]`, f64 (batch, d_out).
fn product(shape: Shape, z: &[u32], x: &[f64], w: &[f64]) -> Sums {
    let Shape { areas, d_in, d_out } = shape;
    let mut sums = Sums::zeros(z.len() * d_out);
    for (s, &area) in z.iter().enumerate() {
        let area = if areas == 1 { 0 } else { area as usize };
        for i in 0..d_in {
            for j in 0..d_out {
                sums.add(s * d_out + j, x[s * d_in + i] * w[(area * d_in + i) * d_out + j]);
            }
        }
    }
    sums
}

/// Pre-activations `a = h W[z] + b[z]` (batch, d_out) of `inputs` h (batch, d_in), with `bias` (K, d_out).
pub fn forward(
    shape: Shape,
    z: &[u32],
    inputs: &[f64],
    weights: &[f64],
    bias: Option<&[f64]>,
) -> Sums {
    let mut sums = product(shape, z, inputs, weights);
    if let Some(bias) = bias {
        for (s, &area) in z.iter().enumerate() {
            let area = if shape.areas == 1 { 0 } else { area as usize };
            for j in 0..shape.d_out {
                sums.add(s * shape.d_out + j, bias[area * shape.d_out + j]);
            }
        }
    }
    sums
}

/// `max(a, 0)` of each value; NaN stays NaN.
pub fn relu(values: &[f64]) -> Vec<f64> {
    values.iter().map(|&a| if a <= 0.0 { 0.0 } else { a }).collect()
}

/// `delta = e F[z]` (batch, d_out), and 0 where `outputs` y (batch, d_out) is not positive.
pub fn feedback(
    shape: Shape,
    z: &[u32],
    errors: &[f64],
    feedback: &[f64],
    outputs: Option<&[f64]>,
) -> Sums {
    let mut sums = product(shape, z, errors, feedback);
    if let Some(outputs) = outputs {
        for (n, &y) in outputs.iter().enumerate() {
            // Not `y <= 0`: a NaN is not positive either.
            let active = y > 0.0;
            if !active {
                (sums.value[n], sums.magnitude[n]) = (0.0, 0.0);
            }
        }
    }
    sums
}

/// A loss over a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// The sum over the batch.
    pub total: f64,
    /// The sum of the magnitudes that went into it.
    pub magnitude: f64,
    /// The error `e` (batch, width), not divided by the batch.
    pub error: Vec<f64>,
}

/// Softmax cross-entropy of `logits` (batch, classes): the sum of `-ln p[label]`, and `e = p - onehot(label)`.
pub fn softmax_cross_entropy(classes: usize, logits: &[f64], labels: &[u32]) -> Loss {
    let mut loss = Loss { total: 0.0, magnitude: 0.0, error: Vec::new() };
    for (s, &label) in labels.iter().enumerate() {
        let (row, label) = (&logits[s * classes..][..classes], label as usize);
        let max = row.iter().fold(f64::NEG_INFINITY, |m, &a| if a > m { a } else { m });
        let exps: Vec<f64> = row.iter().map(|a| (a - max).exp()).collect();
        let sum: f64 = exps.iter().sum();
        // p[label] - 1 as minus the sum of the others: no digit is lost where p is almost 1.
        let others: f64 = (0..classes).filter(|&j| j != label).map(|j| exps[j]).sum();
        for (j, p) in exps.iter().enumerate() {
            loss.error.push(if j == label { -others / sum } else { p / sum });
        }
        loss.total += sum.ln() - (row[label] - max);
        loss.magnitude += sum.ln().abs() + (row[label] - max).abs();
    }
    loss
}

/// Squared error: half the sum of squares of `e = outputs - targets`.
pub fn squared_error(outputs: &[f64], targets: &[f64]) -> Loss {
    let error: Vec<f64> = outputs.iter().zip(targets).map(|(a, t)| a - t).collect();
    let total = error.iter().map(|e| 0.5 * e * e).sum();
    Loss { total, magnitude: total, error }
}

/// How the sum over an area's samples is scaled: n samples of the area, B of the batch, K areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Averaging {
    /// `1 / n`.
    Area,
    /// `1 / B`.
    Batch,
    /// `K / B`.
    Load,
    /// `1 / sqrt(n B)`.
    Sqrt,
    /// `1`.
    Sum,
}

/// The gradients of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    /// `gW` (K, d_in, d_out), zero in areas without samples.
    pub weights: Sums,
    /// `gb` (K, d_out), likewise.
    pub bias: Sums,
    /// Samples of each area.
    pub occupancy: Vec<usize>,
}

/// `gW[k] = c_k sum h^T delta` and `gb[k] = c_k sum delta` over the samples of each area, for `inputs` h
/// (batch, d_in) and `deltas` (batch, d_out).
pub fn gradient(
    shape: Shape,
    z: &[u32],
    inputs: &[f64],
    deltas: &[f64],
    averaging: Averaging,
) -> Gradient {
    let Shape { areas, d_in, d_out } = shape;
    let mut occupancy = vec![0; areas];
    z.iter().for_each(|&area| occupancy[area as usize] += 1);
    let mut weights = Sums::zeros(areas * d_in * d_out);
    let mut bias = Sums::zeros(areas * d_out);
    for (s, &area) in z.iter().enumerate() {
        let area = area as usize;
        let (n, batch) = (occupancy[area] as f64, z.len() as f64);
        let c = match averaging {
            Averaging::Area => 1.0 / n,
            Averaging::Batch => 1.0 / batch,
            Averaging::Load => areas as f64 / batch,
            Averaging::Sqrt => 1.0 / (n * batch).sqrt(),
            Averaging::Sum => 1.0,
        };
        for j in 0..d_out {
            let delta = c * deltas[s * d_out + j];
            bias.add(area * d_out + j, delta);
            for i in 0..d_in {
                weights.add((area * d_in + i) * d_out + j, inputs[s * d_in + i] * delta);
            }
        }
    }
    Gradient { weights, bias, occupancy }
}

/// How a gradient g changes a weight w.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// `w <- keep w - lr g`, with `keep = 1 - lr decay`.
    Sgd,
    /// `m <- momentum m + g;  w <- keep w - lr m`.
    Momentum {
        /// Factor of the old moment.
        momentum: f64,
    },
    /// `m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- keep w - lr mh / (sqrt(vh) + eps)`, where
    /// `mh = m / (1 - b1^t)` and `vh = v / (1 - b2^t)`.
    AdamW {
        /// b1.
        beta1: f64,
        /// b2.
        beta2: f64,
        /// Added outside of the root.
        eps: f64,
    },
}

/// Weights or biases with the state of their optimiser, each (K, anything).
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// The weights.
    pub values: Vec<f64>,
    /// First moments; whatever it holds is not read by SGD.
    pub first: Vec<f64>,
    /// Second moments; read by AdamW only.
    pub second: Vec<f64>,
}

/// One step of an optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Learning rate.
    pub lr: f64,
    /// Weight decay; 0 for a bias.
    pub decay: f64,
}

/// The area update: `steps[k]` is `Some(t)` where area k has samples and this is its t-th step (from 1 on), and
/// `None` where it has none and must stay as it is.
pub fn update(old: &Parameters, gradient: &[f64], steps: &[Option<u64>], rule: Rule) -> Parameters {
    let mut new = old.clone();
    let keep = 1.0 - rule.lr * rule.decay;
    let per_area = gradient.len() / steps.len().max(1);
    for (n, &g) in gradient.iter().enumerate() {
        let Some(t) = steps[n / per_area] else { continue };
        let w = old.values[n];
        new.values[n] = match rule.optimizer {
            Optimizer::Sgd => keep * w - rule.lr * g,
            Optimizer::Momentum { momentum } => {
                new.first[n] = momentum * old.first[n] + g;
                keep * w - rule.lr * new.first[n]
            }
            Optimizer::AdamW { beta1, beta2, eps } => {
                new.first[n] = beta1 * old.first[n] + (1.0 - beta1) * g;
                new.second[n] = beta2 * old.second[n] + (1.0 - beta2) * g * g;
                let mh = new.first[n] / (1.0 - beta1.powf(t as f64));
                let vh = new.second[n] / (1.0 - beta2.powf(t as f64));
                keep * w - rule.lr * mh / (vh.sqrt() + eps)
            }
        };
    }
    new
}

/// The parameters of one layer's router: `width` R directions, K areas.
#[derive(Debug, Clone)]
pub struct Router<'a> {
    /// Width of the input.
    pub d_in: usize,
    /// Directions R.
    pub width: usize,
    /// Areas K.
    pub areas: usize,
    /// P (R, d_in).
    pub projection: &'a [f64],
    /// C (K, R).
    pub prototypes: &'a [f64],
    /// mu (d_in); zeros for a router that is not centred.
    pub mean: &'a [f64],
    /// beta (K).
    pub bias: &'a [f64],
    /// Cosine, or the plain product.
    pub cosine: bool,
}

/// What routing finds out about a batch.
#[derive(Debug, Clone)]
pub struct Routed {
    /// `u = (h - mu) P^T` (batch, R); the magnitude is that of `h P^T - mu P^T`.
    pub projections: Sums,
    /// `nu` (batch).
    pub norms: Vec<f64>,
    /// `uh = u / nu` (batch, R).
    pub directions: Vec<f64>,
    /// `s = uh C^T` (batch, K), without the selection bias.
    pub scores: Sums,
    /// `z` (batch).
    pub areas: Vec<u32>,
}

/// Routes `batch` rows of `inputs` (batch, d_in).
pub fn route(router: &Router<'_>, batch: usize, inputs: &[f64]) -> Routed {
    let &Router { d_in, width, areas, projection, prototypes, mean, bias, cosine } = router;
    let mut projections = Sums::zeros(batch * width);
    let mut norms = vec![1.0; batch];
    let mut directions = vec![0.0; batch * width];
    let mut scores = Sums::zeros(batch * areas);
    let mut chosen = vec![0; batch];
    for s in 0..batch {
        for r in 0..width {
            for i in 0..d_in {
                let (h, p) = (inputs[s * d_in + i], projection[r * d_in + i]);
                projections.value[s * width + r] += (h - mean[i]) * p;
                projections.magnitude[s * width + r] += (h.abs() + mean[i].abs()) * p.abs();
            }
        }
        let u = &projections.value[s * width..][..width];
        if cosine {
            norms[s] = u.iter().map(|x| x * x).sum::<f64>().sqrt() + 1e-6;
        }
        for r in 0..width {
            directions[s * width + r] = u[r] / norms[s];
        }
        let mut best = f64::NEG_INFINITY;
        for k in 0..areas {
            for r in 0..width {
                scores.add(s * areas + k, directions[s * width + r] * prototypes[k * width + r]);
            }
            let total = scores.value[s * areas + k] + bias[k];
            if total > best {
                (best, chosen[s]) = (total, k as u32);
            }
        }
    }
    Routed { projections, norms, directions, scores, areas: chosen }
}

/// What a router learns towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterGoal {
    /// P never changes; mean and selection bias do.
    Fixed,
    /// The area that was chosen.
    Sharp,
    /// The areas that own the sample's class, of this many: `k mod classes`; with fewer areas than classes, area k
    /// belongs to every class c with `c mod K = k`.
    Label(usize),
}

/// The constants of a router's update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RouterRule {
    /// What it learns towards.
    pub goal: RouterGoal,
    /// Learning rate of P.
    pub lr: f64,
    /// Temperature of the softmax over the scores.
    pub tau: f64,
    /// Weight of the load-balancing term.
    pub alpha: f64,
    /// Step of the selection bias; 0 leaves it as it is.
    pub gamma: f64,
    /// `Some(n)`: the mean follows the input and has seen n batches; `None`: it stays.
    pub centred: Option<u64>,
}

/// A router after its update.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterState {
    /// P (R, d_in); the magnitude is `|P| + lr sum |du| |h - mu|`.
    pub projection: Sums,
    /// mu (d_in).
    pub mean: Vec<f64>,
    /// beta (K).
    pub bias: Vec<f64>,
}

/// The router's local update from one batch that it has `routed`; `labels` matter to [`RouterGoal::Label`] only.
pub fn update_router(
    router: &Router<'_>,
    rule: &RouterRule,
    inputs: &[f64],
    routed: &Routed,
    labels: &[u32],
) -> RouterState {
    let &Router { d_in, width, areas, .. } = router;
    let batch = routed.areas.len();
    let mut state = RouterState {
        projection: Sums {
            value: router.projection.to_vec(),
            magnitude: router.projection.iter().map(|p| p.abs()).collect(),
        },
        mean: router.mean.to_vec(),
        bias: router.bias.to_vec(),
    };
    let occupancy = |k: usize| routed.areas.iter().filter(|&&z| z as usize == k).count();

    if let Some(seen) = rule.centred {
        let rate = (1.0 / (seen + 1) as f64).max(1e-3);
        for i in 0..d_in {
            let mean = (0..batch).map(|s| inputs[s * d_in + i]).sum::<f64>() / batch as f64;
            state.mean[i] += rate * (mean - router.mean[i]);
        }
    }
    if rule.gamma != 0.0 {
        for k in 0..areas {
            // sign(1/K - n/B), in whole numbers.
            let spare = (batch as i64 - (occupancy(k) * areas) as i64).signum();
            state.bias[k] += rule.gamma * spare as f64;
        }
        let mean = state.bias.iter().sum::<f64>() / areas as f64;
        state.bias.iter_mut().for_each(|b| *b -= mean);
    }
    if rule.goal == RouterGoal::Fixed {
        return state;
    }

    let load: Vec<f64> = (0..areas).map(|k| occupancy(k) as f64 / batch as f64).collect();
    for s in 0..batch {
        let scaled: Vec<f64> =
            routed.scores.value[s * areas..][..areas].iter().map(|x| x / rule.tau).collect();
        let p = softmax(&scaled);
        let target: Vec<f64> = match rule.goal {
            RouterGoal::Label(classes) => {
                let label = labels[s] as usize;
                let owned = |k: usize| {
                    if areas <= classes { label % areas == k } else { k % classes == label }
                };
                let mass: f64 = (0..areas).filter(|&k| owned(k)).map(|k| p[k]).sum();
                (0..areas).map(|k| if owned(k) { p[k] / (mass + 1e-12) } else { 0.0 }).collect()
            }
            _ => {
                (0..areas).map(|k| if routed.areas[s] as usize == k { 1.0 } else { 0.0 }).collect()
            }
        };
        let expected: f64 = (0..areas).map(|k| p[k] * load[k]).sum();
        let dl: Vec<f64> = (0..areas)
            .map(|k| {
                let balance = rule.alpha * areas as f64 * p[k] * (load[k] - expected);
                (p[k] - target[k] + balance) / (rule.tau * batch as f64)
            })
            .collect();
        let mut du: Vec<f64> = (0..width)
            .map(|r| (0..areas).map(|k| dl[k] * router.prototypes[k * width + r]).sum())
            .collect();
        if router.cosine {
            let uh = &routed.directions[s * width..][..width];
            let along: f64 = (0..width).map(|r| du[r] * uh[r]).sum();
            for (d, x) in du.iter_mut().zip(uh) {
                *d = (*d - along * x) / routed.norms[s];
            }
        }
        for (r, du) in du.iter().enumerate() {
            for i in 0..d_in {
                let change = rule.lr * du * (inputs[s * d_in + i] - state.mean[i]);
                state.projection.add(r * d_in + i, -change);
            }
        }
    }
    state
}

fn softmax(a: &[f64]) -> Vec<f64> {
    let max = a.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
    let exps: Vec<f64> = a.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

/// Against the numbers that the NumPy oracle (`oracle/sal_ref.py`) gave for the same small layer.
#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: usize = 7;
    const SHAPE: Shape = Shape { areas: 4, d_in: 5, d_out: 4 };
    const Z: [u32; BATCH] = [0, 2, 2, 3, 0, 2, 2];

    /// The tensor `tag`: eighths that look random.
    fn tensor(tag: usize, len: usize) -> Vec<f64> {
        let x = |i: usize| (i * i * 7 + i * 37 + tag * 11) % 23;
        (0..len).map(|i| (x(i) as f64 - 11.0) / 8.0).collect()
    }

    /// A weighted sum, so that no element can change unseen.
    #[track_caller]
    fn assert_digest(values: &[f64], want: f64) {
        let got: f64 =
            values.iter().enumerate().map(|(i, x)| x * ((i * 29 % 17) as f64 + 1.0)).sum();
        assert!((got - want).abs() < 1e-11 * want.abs().max(1.0), "{got} instead of {want}");
    }

    #[test]
    fn routing_and_the_routers_update_match_the_oracle() {
        let (h, p, c) = (tensor(1, BATCH * 5), tensor(2, 3 * 5), tensor(3, 4 * 3));
        let bias: Vec<f64> = tensor(4, 4).iter().map(|b| b / 16.0).collect();
        let mean: Vec<f64> = tensor(5, 5).iter().map(|m| m / 4.0).collect();
        let labels = |step: usize, classes| -> Vec<u32> {
            (0..BATCH).map(|s| (s * step % classes) as u32).collect()
        };
        // scores, directions, norms, then P after each goal
        let want = [
            (
                [23.213912618488713, -10.35784189504129, 168.41398108748896],
                [-49.0, -48.84420693924693, -44.810518496847166, -45.149948618302986],
            ),
            (
                [39.6279296875, -27.72265625, 55.0],
                [-49.0, -48.55896986721275, -23.372352148255736, -23.24501728405603],
            ),
        ];
        for (cosine, (routing, after)) in [true, false].into_iter().zip(want) {
            let router = Router {
                d_in: 5,
                width: 3,
                areas: 4,
                projection: &p,
                prototypes: &c,
                mean: &mean,
                bias: &bias,
                cosine,
            };
            let routed = route(&router, BATCH, &h);
            assert_eq!(routed.areas, [1, 1, 1, 1, 3, 3, 3]);
            assert_digest(&routed.scores.value, routing[0]);
            assert_digest(&routed.directions, routing[1]);
            assert_digest(&routed.norms, routing[2]);
            let goals = [
                (RouterGoal::Fixed, labels(2, 3)),
                (RouterGoal::Sharp, labels(2, 3)),
                (RouterGoal::Label(3), labels(2, 3)),
                (RouterGoal::Label(6), labels(5, 6)),
            ];
            for ((goal, labels), want) in goals.into_iter().zip(after) {
                let (lr, tau, alpha, gamma) = (0.5, 0.7, 1.5, 0.01);
                let rule = RouterRule { goal, lr, tau, alpha, gamma, centred: Some(3) };
                let state = update_router(&router, &rule, &h, &routed, &labels);
                assert_digest(&state.projection.value, want);
                assert_digest(&state.mean, 1.6272321428571428);
                assert_digest(&state.bias, -0.09929687500000009);
            }
        }
    }

    #[test]
    fn forward_loss_and_feedback_match_the_oracle() {
        let (h, w, b, f) = (tensor(1, 35), tensor(6, 80), tensor(7, 16), tensor(8, 80));
        let a = forward(SHAPE, &Z, &h, &w, Some(&b)).value;
        assert_digest(&a, 12.0);
        let labels = [0, 1, 2, 3, 0, 1, 2];
        let loss = softmax_cross_entropy(4, &a, &labels);
        assert_digest(&[loss.total], 13.939112692173678);
        assert_digest(&loss.error, 0.08384923224314877);
        let back = Shape { areas: 4, d_in: 4, d_out: 5 };
        assert_digest(&feedback(back, &Z, &loss.error, &f, Some(&h)).value, 50.86753807486602);
    }

    #[test]
    fn gradients_and_optimisers_match_the_oracle() {
        let (h, w, b) = (tensor(1, 35), tensor(6, 80), tensor(7, 16));
        let a = forward(SHAPE, &Z, &h, &w, Some(&b)).value;
        let e = softmax_cross_entropy(4, &a, &[0, 1, 2, 3, 0, 1, 2]).error;
        for (averaging, weights, bias) in [
            (Averaging::Area, 4.1251791742706345, 5.62283234564517),
            (Averaging::Batch, 1.1196711471937721, 4.1384408593533),
            (Averaging::Load, 4.478684588775089, 16.5537634374132),
            (Averaging::Sqrt, 1.9211050067812643, 5.216805037810183),
            (Averaging::Sum, 7.837698030356421, 28.969086015473096),
        ] {
            let g = gradient(SHAPE, &Z, &h, &e, averaging);
            assert_digest(&g.weights.value, weights);
            assert_digest(&g.bias.value, bias);
            assert_eq!(g.occupancy, [2, 0, 4, 1]);
        }

        let g = gradient(SHAPE, &Z, &h, &e, Averaging::Area);
        let fresh = |x: &[f64]| Parameters {
            values: x.to_vec(),
            first: vec![0.0; x.len()],
            second: vec![0.0; x.len()],
        };
        let steps = |t| [Some(t), None, Some(t), Some(t)];
        let sgd = Rule { optimizer: Optimizer::Sgd, lr: 0.3, decay: 0.1 };
        assert_digest(
            &update(&fresh(&w), &g.weights.value, &steps(1), sgd).values,
            -202.76630375228117,
        );
        let sgd = Rule { decay: 0.0, ..sgd };
        assert_digest(&update(&fresh(&b), &g.bias.value, &steps(1), sgd).values, 48.43815029630646);
        // Momentum is not in the oracle; without memory it is SGD.
        let momentum = Rule { optimizer: Optimizer::Momentum { momentum: 0.0 }, ..sgd };
        assert_digest(
            &update(&fresh(&b), &g.bias.value, &steps(1), momentum).values,
            48.43815029630646,
        );

        let adam = Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
        let adam = Rule { optimizer: adam, lr: 0.3, decay: 0.1 };
        let (mut weights, mut bias) = (fresh(&w), fresh(&b));
        for t in 1..=3 {
            let scaled =
                |g: &[f64]| -> Vec<f64> { g.iter().map(|x| x * (t as f64 - 2.0)).collect() };
            weights = update(&weights, &scaled(&g.weights.value), &steps(t), adam);
            let adam = Rule { decay: 0.0, ..adam };
            bias = update(&bias, &scaled(&g.bias.value), &steps(t), adam);
        }
        assert_digest(&weights.values, -219.06646548744402);
        assert_digest(&weights.first, 0.07837840431114229);
        assert_digest(&weights.second, 0.2099782718791675);
        assert_digest(&bias.values, 77.68990534354079);
    }

    #[test]
    fn momentum_remembers() {
        let old = Parameters { values: vec![1.0, 5.0], first: vec![2.0, 7.0], second: Vec::new() };
        let rule = Optimizer::Momentum { momentum: 0.5 };
        let rule = Rule { optimizer: rule, lr: 0.25, decay: 2.0 };
        let new = update(&old, &[3.0, 3.0], &[Some(1), None], rule);
        assert_eq!(new.first, [4.0, 7.0]); // 0.5 * 2 + 3
        assert_eq!(new.values, [-0.5, 5.0]); // (1 - 0.25 * 2) * 1 - 0.25 * 4
    }
}
