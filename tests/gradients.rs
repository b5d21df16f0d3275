//! What one step changes, divided by the learning rate, against central differences of the loss in f64.
//!
//! ```text
//! backpropagation   (W - W') / lr = c_k d(sum of losses) / dW        every layer, areas held fixed
//! FA, DFA           the same, for the output layer alone: it sees the true error
//! router            (P - P') / lr = d(mean of its own loss) / dP     areas z, shares f and mean mu held fixed
//! ```
//! The losses are written once more here, from the equations. A float32 gradient is a sum over samples of products
//! that passed through `depth` roundings, so it may be off by `depth 2^-24` of the sum of absolute contributions, and
//! reading it off W' costs another `2^-24 |W'| / lr`. The differences themselves are good to about 1e-9: the networks
//! stay away from the kinks of ReLU.

use sal_kernels::kernels::{Averaging, Optimizer, Similarity};
use sal_kernels::model::{FeedbackMode, Network, NetworkConfig, Router, RouterConfig, RouterRule};
use sal_kernels::random::Stream;
use sal_kernels::{Isa, Matrix};

/// Half a unit in the last place of a float32, relative.
const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// Step of the differences.
const STEP: f64 = 1e-5;

/// Error of a difference: `STEP^2` and `2^-53 / STEP`, both times a small number.
const DIFFERENCE: f64 = 1e-8;

/// No hidden pre-activation is closer to zero: `STEP` in any weight moves none of them across.
const KINK: f64 = 1e-3;

/// The learning rate: a power of two, so that it divides without rounding.
const LR: f32 = 1.0;

/// The derivative of each sample's loss by `theta[i]`.
fn difference(theta: &mut [f64], i: usize, losses: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let middle = theta[i];
    theta[i] = middle + STEP;
    let right = losses(theta);
    theta[i] = middle - STEP;
    let left = losses(theta);
    theta[i] = middle;
    right.iter().zip(&left).map(|(r, l)| (r - l) / (2.0 * STEP)).collect()
}

/// The gradient and, for its error, the largest sum of absolute contributions of the samples.
fn gradient(theta: &[f64], losses: impl Fn(&[f64]) -> Vec<f64>) -> (Vec<f64>, f64) {
    let mut theta = theta.to_vec();
    let samples: Vec<_> = (0..theta.len()).map(|i| difference(&mut theta, i, &losses)).collect();
    let magnitudes = samples.iter().map(|s| s.iter().map(|x| x.abs()).sum::<f64>());
    let magnitude = magnitudes.fold(0.0, f64::max);
    (samples.iter().map(|s| s.iter().sum()).collect(), magnitude)
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = values.clone().fold(f64::NEG_INFINITY, f64::max);
    max + values.map(|x| (x - max).exp()).sum::<f64>().ln()
}

fn normals(role: &str, seed: u64, variance: f64, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(seed, 0, 0, role).fill_normal(variance, &mut values);
    values
}

/// One layer in f64: weights (K, d_in, d_out), then biases (K, d_out).
#[derive(Clone)]
struct Layer64 {
    d_in: usize,
    d_out: usize,
    areas: usize,
    theta: Vec<f64>,
}

impl Layer64 {
    fn all(network: &Network) -> Vec<Self> {
        let layers = network.layers().iter().map(|layer| {
            let (w, b) = (layer.weights(), layer.bias());
            let theta = [widen(&w.to_row_major()), widen(&b.to_row_major())].concat();
            Self { d_in: w.d_in(), d_out: w.d_out(), areas: w.areas(), theta }
        });
        layers.collect()
    }

    /// Pre-activations of one sample.
    fn apply(&self, h: &[f64], area: usize) -> Vec<f64> {
        let weights = &self.theta[area * self.d_in * self.d_out..];
        let biases = &self.theta[self.areas * self.d_in * self.d_out + area * self.d_out..];
        let sum = |j| (0..self.d_in).map(|i| h[i] * weights[i * self.d_out + j]).sum::<f64>();
        (0..self.d_out).map(|j| biases[j] + sum(j)).collect()
    }
}

/// Samples, their classes, and the area of each layer and sample.
struct Data {
    x: Matrix,
    y: Vec<u32>,
    z: Vec<Vec<u32>>,
}

impl Data {
    fn new(config: &NetworkConfig, seed: u64, batch: usize) -> Self {
        let x = normals("data", seed, 1.0, batch * config.inputs);
        let mut stream = Stream::new(seed, 0, 0, "choices");
        let mut below = |n| (0..batch).map(|_| stream.below(n) as u32).collect::<Vec<_>>();
        Self {
            x: Matrix::from_slice(batch, config.inputs, &x).expect("data"),
            y: below(config.classes),
            z: (0..=config.hidden.len()).map(|l| below(config.areas_of(l))).collect(),
        }
    }

    /// The loss of each sample, and the pre-activation of a hidden unit that is closest to zero.
    fn losses(&self, layers: &[Layer64]) -> (Vec<f64>, f64) {
        let mut closest = f64::INFINITY;
        let loss = |sample: usize| {
            let mut h = widen(self.x.row(sample));
            for (l, layer) in layers.iter().enumerate() {
                h = layer.apply(&h, self.z[l][sample] as usize);
                if l + 1 < layers.len() {
                    closest = h.iter().fold(closest, |c, a| c.min(a.abs()));
                    h.iter_mut().for_each(|a| *a = a.max(0.0));
                }
            }
            log_sum_exp(h.iter().copied()) - h[self.y[sample] as usize]
        };
        ((0..self.y.len()).map(loss).collect(), closest)
    }
}

fn config(feedback: FeedbackMode, areas: usize, averaging: Averaging) -> NetworkConfig {
    NetworkConfig {
        output_areas: areas,
        zero_output: false,
        feedback,
        averaging,
        optimizer: Optimizer::Sgd,
        ..NetworkConfig::tuned(5, &[20, 7], 3, areas)
    }
}

/// For each layer: how far the change of its parameters is from the gradient, as a fraction of the bound.
fn network_errors(isa: Isa, config: &NetworkConfig) -> Vec<f64> {
    let batch = 11;
    let (mut network, data) = (0..)
        .map(|seed| {
            let config = NetworkConfig { seed, ..config.clone() };
            (Network::new(isa, &config).expect("a network"), Data::new(&config, seed, batch))
        })
        .find(|(network, data)| data.losses(&Layer64::all(network)).1 > KINK)
        .expect("some seed is away from the kinks");
    let before = Layer64::all(&network);
    let mut tape = network.tape().expect("a tape");
    let loss = network.train_batch_routed(data.x.view(), &data.y, LR, &data.z, &mut tape);
    let after = Layer64::all(&network);
    // Forward, back, and over the samples.
    let depth = config.widths().iter().sum::<usize>() * 2 + batch;
    let want = data.losses(&before).0.iter().sum::<f64>() / batch as f64;
    assert!((loss.expect("a loss") - want).abs() < depth as f64 * UNIT * want, "the loss itself");

    let errors = before.iter().zip(&after).enumerate().map(|(l, (old, new))| {
        let (want, magnitude) = gradient(&old.theta, |theta| {
            let mut layers = before.clone();
            layers[l].theta = theta.to_vec();
            data.losses(&layers).0
        });
        let weights = old.areas * old.d_in * old.d_out;
        assert!(new.theta.iter().all(|w| w.is_finite()), "layer {l}");
        let mut worst = 0f64;
        for (i, &want) in want.iter().enumerate() {
            let area =
                if i < weights { i / (old.d_in * old.d_out) } else { (i - weights) / old.d_out };
            let samples = data.z[l].iter().filter(|&&z| z as usize == area).count();
            assert!(samples > 0, "area {area} of layer {l} has no samples");
            let c = match config.averaging {
                Averaging::Sum => 1.0,
                Averaging::Area => 1.0 / samples as f64,
                other => panic!("{other:?} is not tested here"),
            };
            let got = (old.theta[i] - new.theta[i]) / f64::from(LR);
            let bound = UNIT * (depth as f64 * c * magnitude + new.theta[i].abs() / f64::from(LR));
            worst = worst.max((got - c * want).abs() / (bound + DIFFERENCE));
        }
        worst
    });
    errors.collect()
}

#[test]
fn backpropagation_follows_the_gradient_in_every_layer() {
    for isa in Isa::available() {
        for areas in [1, 2] {
            for averaging in [Averaging::Sum, Averaging::Area] {
                let errors = network_errors(isa, &config(FeedbackMode::Backprop, areas, averaging));
                println!("{isa}, {areas} areas, {averaging:?}: {errors:.3?} of the bound");
                assert!(errors.iter().all(|&e| e <= 1.0), "{isa}, {areas} areas: {errors:?}");
            }
        }
    }
}

#[test]
fn feedback_alignment_follows_the_gradient_in_the_output_layer_only() {
    for isa in Isa::available() {
        for feedback in [FeedbackMode::Sequential, FeedbackMode::Direct] {
            for areas in [1, 2] {
                let errors = network_errors(isa, &config(feedback, areas, Averaging::Area));
                println!("{isa}, {areas} areas, {feedback:?}: {errors:.3?} of the bound");
                let (output, hidden) = errors.split_last().expect("an output layer");
                assert!(*output <= 1.0, "{isa}, {areas} areas, {feedback:?}: {output}");
                assert!(hidden.iter().all(|&e| e > 100.0), "{feedback:?} is backpropagation");
            }
        }
    }
}

/// The equations of a router: prototypes C (K, R), and what is held while P changes.
struct Router64<'a> {
    config: &'a RouterConfig,
    classes: usize,
    prototypes: Vec<Vec<f64>>,
    mean: Vec<f64>,
    /// z
    winners: Vec<usize>,
    /// f
    shares: Vec<f64>,
    inputs: &'a Matrix,
    labels: &'a [u32],
}

impl Router64<'_> {
    /// u = P (h - mu) of a sample; `p` is P^T, (d_in, R).
    fn direction(&self, p: &[f64], sample: usize) -> Vec<f64> {
        let width = self.prototypes[0].len();
        let centred =
            self.inputs.row(sample).iter().zip(&self.mean).map(|(&h, mu)| f64::from(h) - mu);
        let centred: Vec<f64> = centred.collect();
        (0..width)
            .map(|r| centred.iter().enumerate().map(|(i, h)| h * p[i * width + r]).sum())
            .collect()
    }

    /// What each sample adds to the router's loss.
    fn losses(&self, p: &[f64]) -> Vec<f64> {
        let (areas, batch) = (self.prototypes.len(), self.labels.len());
        let owns = |k: usize, class: usize| {
            if areas <= self.classes { class % areas == k } else { k % self.classes == class }
        };
        let loss = |sample: usize| {
            let mut u = self.direction(p, sample);
            if self.config.similarity == Similarity::Cosine {
                let length = length(&u) + 1e-6;
                u.iter_mut().for_each(|x| *x /= length);
            }
            let score = |c: &Vec<f64>| c.iter().zip(&u).map(|(c, u)| c * u).sum::<f64>();
            let tau = f64::from(self.config.tau);
            let scores: Vec<f64> = self.prototypes.iter().map(|c| score(c) / tau).collect();
            let all = log_sum_exp(scores.iter().copied());
            let own = match self.config.rule {
                RouterRule::Sharp => scores[self.winners[sample]],
                _ => {
                    let owned = (0..areas).filter(|&k| owns(k, self.labels[sample] as usize));
                    log_sum_exp(owned.map(|k| scores[k]))
                }
            };
            let balance: f64 =
                scores.iter().zip(&self.shares).map(|(s, f)| f * (s - all).exp()).sum();
            (all - own + f64::from(self.config.alpha) * areas as f64 * balance) / batch as f64
        };
        (0..batch).map(loss).collect()
    }
}

fn length(u: &[f64]) -> f64 {
    u.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// How far a router's step is from the gradient of its loss, as a fraction of the bound.
fn router_error(isa: Isa, config: &RouterConfig, areas: usize, classes: usize) -> f64 {
    let (d_in, width, batch) = (6, config.width.expect("a width"), 13);
    let p = normals("projection", 1, 1.0 / d_in as f64, width * d_in);
    let c = normals("prototypes", 1, 1.0 / width as f64, areas * width);
    let x = Matrix::from_slice(batch, d_in, &normals("data", 1, 1.0, batch * d_in)).expect("data");
    let mut stream = Stream::new(1, 0, 0, "labels");
    let y: Vec<u32> = (0..batch).map(|_| stream.below(classes) as u32).collect();

    let mut router =
        Router::from_parts(isa, config, (d_in, areas, classes), &p, &c).expect("a router");
    let mut routes = router.routes().expect("routes");
    // Only where mu stays is a step a gradient: a first one makes it the mean of this batch.
    if config.centred {
        router.route(x.view(), &mut routes).expect("routes");
        router.learn(x.view(), &routes, &y).expect("a step");
    }
    router.route(x.view(), &mut routes).expect("routes");
    let before = widen(&router.projection().to_row_major());
    router.learn(x.view(), &routes, &y).expect("a step");
    let after = widen(&router.projection().to_row_major());
    assert!(after.iter().all(|p| p.is_finite()), "the projection");

    let plan = routes.plan();
    let equations = Router64 {
        config,
        classes,
        prototypes: c.chunks(width).map(widen).collect(),
        mean: widen(router.mean()),
        winners: routes.areas().iter().map(|&z| z as usize).collect(),
        shares: (0..areas).map(|k| plan.occupancy(k) as f64 / batch as f64).collect(),
        inputs: &x,
        labels: &y,
    };
    let (want, magnitude) = gradient(&before, |p| equations.losses(p));
    let lengths = (0..batch).map(|sample| length(&equations.direction(&before, sample)));
    let shortest = lengths.fold(f64::INFINITY, f64::min);
    // A score's error is divided by tau; and the rule takes the derivative of u / |u|, without the 1e-6 added to |u|.
    let depth = (d_in + width + areas + batch) as f64 / f64::from(config.tau);
    let relative = depth * UNIT + 1e-6 / shortest;
    let lr = f64::from(config.lr);
    let error = |(want, (before, after)): (&f64, (&f64, &f64))| {
        let bound = relative * magnitude + 2.0 * UNIT * after.abs() / lr + DIFFERENCE;
        ((before - after) / lr - want).abs() / bound
    };
    want.iter().zip(before.iter().zip(&after)).map(error).fold(0.0, f64::max)
}

#[test]
fn routers_descend_their_own_loss() {
    let (sharp, label) = (RouterRule::Sharp, RouterRule::Label);
    let (cosine, dot) = (Similarity::Cosine, Similarity::Dot);
    // Rule, similarity, alpha, centred, areas, classes.
    let cases = [
        (sharp, cosine, 0.0, true, 4, 3),
        (sharp, dot, 0.0, false, 4, 3),
        (sharp, cosine, 0.0, false, 7, 3),
        (sharp, dot, 0.0, true, 2, 3),
        (sharp, cosine, 1.0, true, 4, 3),
        (sharp, dot, 0.5, false, 4, 3),
        (label, cosine, 0.0, true, 2, 5),
        (label, dot, 0.0, false, 3, 5),
        (label, cosine, 0.0, false, 7, 3),
        (label, dot, 0.0, true, 4, 2),
        (label, cosine, 1.0, true, 4, 2),
        (label, dot, 0.5, false, 3, 5),
    ];
    for isa in Isa::available() {
        for case in cases {
            let (rule, similarity, alpha, centred, areas, classes) = case;
            let width = Some(5);
            let lr = LR;
            let config =
                RouterConfig { rule, similarity, width, tau: 0.5, alpha, gamma: 0.0, lr, centred };
            let error = router_error(isa, &config, areas, classes);
            println!("{isa}, {case:?}: {error:.3} of the bound");
            assert!(error <= 1.0, "{isa}, {case:?}: {error}");
        }
    }
}
