//! Which points are measured: the default ones, the whole grid, or what the flags select.

use crate::case::{Profile, Shape};
use clap::{Args, ValueEnum};
use std::fmt;

/// What is done at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verb {
    /// Gated forward product.
    Forward,
    /// Gated update.
    Update,
    /// Feedback in f32 and through signs.
    Feedback,
    /// Projection, scores, plan.
    Route,
    /// All of them for a network.
    Step,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Forward => "forward",
            Self::Update => "update",
            Self::Feedback => "feedback",
            Self::Route => "route",
            Self::Step => "step",
        })
    }
}

/// Inputs of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inputs {
    /// Normal.
    Dense,
    /// Images with 81 % zeros: MNIST's if its folder is given, else strokes that are like them.
    Digits,
}

/// A network of layers, written as `784-256-10` or, for layers of one width, `8x1024`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    /// As it was written.
    pub(crate) name: String,
    /// Of the input and of each layer.
    pub(crate) widths: Vec<usize>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Point {
    /// A verb on a layer.
    Layer(Verb, Profile, Shape),
    /// A whole step.
    Step(Network, usize, usize, Inputs),
}

/// Which points.
#[derive(Debug, Clone, Args)]
pub(crate) struct Selection {
    /// The whole grid, which takes hours; the other flags of this kind restrict it.
    #[arg(long)]
    full: bool,
    /// Only these verbs.
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<Verb>,
    /// Layers, such as 784x256,1024x1024.
    #[arg(long, value_delimiter = ',', value_parser = shape)]
    shapes: Vec<(usize, usize)>,
    /// Numbers of areas.
    #[arg(long, value_delimiter = ',', value_parser = positive)]
    areas: Vec<usize>,
    /// Batches.
    #[arg(long, value_delimiter = ',', value_parser = positive)]
    batches: Vec<usize>,
    /// How samples are spread over areas.
    #[arg(long, value_delimiter = ',')]
    profiles: Vec<Profile>,
    /// Networks for whole steps, such as 784-256-10,8x1024.
    #[arg(long, value_delimiter = ',', value_parser = network)]
    networks: Vec<Network>,
    /// Only this part of the points, such as 2/8 for the second eighth: a shared machine is held for a short time.
    #[arg(long, value_parser = part, default_value = "1/1")]
    part: (usize, usize),
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "want a number above 0".into())
}

fn part(text: &str) -> Result<(usize, usize), String> {
    let (i, n) = text.split_once('/').ok_or("want a part of a whole, such as 2/8")?;
    let (i, n) = (positive(i)?, positive(n)?);
    if i <= n { Ok((i, n)) } else { Err(format!("there are {n} parts")) }
}

fn shape(text: &str) -> Result<(usize, usize), String> {
    let (d_in, d_out) = text.split_once('x').ok_or("want two widths, such as 784x256")?;
    Ok((positive(d_in)?, positive(d_out)?))
}

fn network(text: &str) -> Result<Network, String> {
    let widths = match text.split_once('x') {
        Some((layers, width)) => vec![positive(width)?; positive(layers)? + 1],
        None => text.split('-').map(positive).collect::<Result<_, _>>()?,
    };
    if widths.len() < 2 {
        Err("want a width for the input and each layer".into())
    } else {
        Ok(Network { name: text.into(), widths })
    }
}

/// What is given, or else.
fn or<T: Clone>(given: &[T], default: &[T]) -> Vec<T> {
    if given.is_empty() { default.to_vec() } else { given.to_vec() }
}

impl Selection {
    /// The points, in the order in which they are measured.
    pub(crate) fn points(&self) -> Vec<Point> {
        let selects = !(self.shapes.is_empty()
            && self.areas.is_empty()
            && self.batches.is_empty()
            && self.profiles.is_empty()
            && self.networks.is_empty());
        let mut points = if self.full || selects { self.product() } else { default_points() };
        let verb = |p: &Point| if let Point::Layer(verb, ..) = p { *verb } else { Verb::Step };
        points.retain(|p| self.verbs.is_empty() || self.verbs.contains(&verb(p)));
        let (part, parts) = self.part;
        let (begin, end) = ((part - 1) * points.len() / parts, part * points.len() / parts);
        points[begin..end].to_vec()
    }

    /// Every combination of what is selected. What is not selected has one value, or with `full` all.
    fn product(&self) -> Vec<Point> {
        let known = |names: &[&str]| -> Vec<Network> {
            names.iter().map(|n| network(n).expect("a network")).collect()
        };
        let (shapes, areas, batches, profiles, networks) = if self.full {
            (
                or(&self.shapes, &[(256, 10), (784, 256), (1024, 1024), (4096, 4096)]),
                or(&self.areas, &[1, 4, 16, 64]),
                or(&self.batches, &[1, 16, 64, 256, 1024, 4096]),
                or(&self.profiles, &Profile::ALL),
                or(&self.networks, &known(&["784-256-10", "8x1024", "4x4096"])),
            )
        } else {
            // A network or a shape alone selects no point of the other kind.
            let shapes: &[_] = if self.networks.is_empty() { &[(1024, 1024)] } else { &[] };
            let networks = match (self.shapes.is_empty(), self.profiles.is_empty()) {
                (true, true) => known(&["784-256-10"]),
                _ => Vec::new(),
            };
            (
                or(&self.shapes, shapes),
                or(&self.areas, &[16]),
                or(&self.batches, &[16, 64, 256]),
                or(&self.profiles, &[Profile::Balanced]),
                or(&self.networks, &networks),
            )
        };
        let mut points = Vec::new();
        for verb in [Verb::Forward, Verb::Update, Verb::Feedback, Verb::Route] {
            for &(d_in, d_out) in &shapes {
                for &areas in &areas {
                    for &batch in &batches {
                        for &profile in profiles.iter().filter(|p| p.fits(batch, areas)) {
                            let shape = Shape { batch, d_in, d_out, areas };
                            let point = Point::Layer(verb, profile, once(verb, shape));
                            // Feedback and routing are the same for every profile.
                            if !points.contains(&point) {
                                points.push(point);
                            }
                        }
                    }
                }
            }
        }
        for network in &networks {
            for &areas in &areas {
                for &batch in &batches {
                    points.extend(steps(network, areas, batch));
                }
            }
        }
        let plain = |p: &Point| match p {
            Point::Layer(Verb::Feedback | Verb::Route, profile, _) => {
                *profile == Profile::Balanced || !profiles.contains(&Profile::Balanced)
            }
            _ => true,
        };
        points.retain(plain);
        points
    }
}

/// The shape as it matters: feedback has one matrix for all areas.
fn once(verb: Verb, shape: Shape) -> Shape {
    if verb == Verb::Feedback { Shape { areas: 1, ..shape } } else { shape }
}

/// Dense inputs, and digits where the input is as wide as an image.
fn steps(network: &Network, areas: usize, batch: usize) -> Vec<Point> {
    let point = |inputs| Point::Step(network.clone(), areas, batch, inputs);
    let mut points = vec![point(Inputs::Dense)];
    if network.widths[0] == 784 {
        points.push(point(Inputs::Digits));
    }
    points
}

/// The points that the issue of the crate's speed names, as far as they take seconds; 16 areas unless said.
fn default_points() -> Vec<Point> {
    use Profile::{Balanced, Hot80, OneRow, Rotating, Zipf};
    let mut points = Vec::new();
    let mut layer = |verb, profile, batch, (d_in, d_out), areas| {
        let shape = once(verb, Shape { batch, d_in, d_out, areas });
        points.push(Point::Layer(verb, profile, shape));
    };
    let (small, middle, large) = ((784, 256), (1024, 1024), (4096, 4096));
    for verb in [Verb::Forward, Verb::Update] {
        for batch in [1, 16, 64, 256, 1024] {
            layer(verb, Balanced, batch, middle, 16);
        }
        for profile in [Hot80, Rotating, Zipf] {
            layer(verb, profile, 256, middle, 16);
        }
        layer(verb, OneRow, 8, middle, 16);
        layer(verb, Balanced, 256, middle, 64);
        layer(verb, Balanced, 256, middle, 1); // a dense layer
        for batch in [1, 16, 64, 256] {
            layer(verb, Balanced, batch, small, 16);
        }
        layer(verb, Balanced, 64, (256, 10), 16);
        for batch in [64, 512] {
            layer(verb, Balanced, batch, large, 16);
        }
    }
    for batch in [1, 16, 256] {
        layer(Verb::Feedback, Balanced, batch, middle, 1);
    }
    layer(Verb::Feedback, Balanced, 512, large, 1);
    layer(Verb::Route, Balanced, 256, middle, 16);
    let network = |name| network(name).expect("a network");
    for batch in [16, 64, 256] {
        points.extend(steps(&network("784-256-10"), 16, batch));
    }
    points.extend(steps(&network("8x1024"), 16, 256));
    points.extend(steps(&network("4x4096"), 16, 64));
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        selection: Selection,
    }

    fn points(flags: &str) -> Vec<Point> {
        let flags = Flags::try_parse_from(["test"].into_iter().chain(flags.split_whitespace()));
        flags.map_err(|e| e.to_string()).expect("flags").selection.points()
    }

    #[test]
    fn flags_select() {
        let one = points("--verbs update --shapes 784x256 --batches 32 --areas 4 --profiles zipf");
        let shape = Shape { batch: 32, d_in: 784, d_out: 256, areas: 4 };
        assert_eq!(one, [Point::Layer(Verb::Update, Profile::Zipf, shape)]);
        let wide = Network { name: "2x32".into(), widths: vec![32; 3] };
        let step = points("--networks 2x32 --batches 8");
        assert_eq!(step, [Point::Step(wide, 16, 8, Inputs::Dense)]);
        let shapes = |p: &Point| matches!(p, Point::Layer(..));
        assert!(points("--shapes 8x8").iter().all(shapes));
        assert!(points("--verbs step").iter().all(|p| !shapes(p)));
        for wrong in [
            "--shapes 8",
            "--batches 0",
            "--networks 8",
            "--networks 0x8",
            "--verbs no",
            "--part 0/2",
            "--part 3/2",
        ] {
            let flags = ["test"].into_iter().chain(wrong.split_whitespace());
            assert!(Flags::try_parse_from(flags).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_make_the_whole() {
        let parts = (1..=7).flat_map(|i| points(&format!("--part {i}/7")));
        assert_eq!(parts.collect::<Vec<_>>(), points(""));
    }

    #[test]
    fn no_point_comes_twice() {
        for flags in ["", "--full"] {
            let all = points(flags);
            for (at, point) in all.iter().enumerate() {
                assert!(!all[..at].contains(point), "{point:?}");
            }
        }
        let full = points("--full");
        assert!(full.len() > points("").len());
        let profiles = |p: &Point| !matches!(p, Point::Layer(_, q, s) if !q.fits(s.batch, s.areas));
        assert!(full.iter().all(profiles));
    }
}
