//! Gated verbs against loops over areas made with other libraries, in one process, on the same data.
//!
//! ```text
//! for each point of the grid
//!     check everybody against f64 sums
//!     let each peer choose the layout of its weights that is faster here
//!     time ours, peer, peer, ... by turns; print the ratios of minima and medians
//! ```
//! `cargo run --release --manifest-path benches/peers/Cargo.toml` runs the default points with the peers that are
//! compiled in, on one thread; pin it (`taskset -c 1`). A BLAS is loaded at run time:
//!
//! ```text
//! --blas mkl=.../libmkl_rt.so.3                  pip install mkl
//! --blas openblas=.../libscipy_openblas.so       pip install scipy-openblas32
//! ```

mod case;
mod check;
mod grid;
mod loops;
mod measure;
mod peer;
mod report;
mod step;
mod verbs;

use case::{Case, strokes};
use clap::Parser;
use grid::{Inputs, Network, Point, Selection, Verb};
use loops::Layout;
use peer::{Blas, Peer};
use report::{Duel, Place, Run};
use sal_kernels::{Isa, Matrix, data::idx, limits::fma_peak};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use verbs::{Who, Work};

/// A peer whose check takes longer keeps one layout: such calls compute, and layouts differ little.
const CHOICE: Duration = Duration::from_millis(300);

/// Measures sal-kernels against loops over areas made with other matrix libraries.
#[derive(Debug, Parser)]
#[command(name = "sal-peers")]
struct Flags {
    #[command(flatten)]
    selection: Selection,
    /// Only these peers: matrixmultiply, gemm, gemmkit, faer, or names given with --blas.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// A CBLAS with 32-bit integers, as name=path or name=path:symbol; may be repeated.
    #[arg(long, value_name = "NAME=PATH[:SYMBOL]")]
    blas: Vec<String>,
    /// Threads of everybody.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    threads: u8,
    /// Time for each point, without checks.
    #[arg(long, default_value_t = 0.7, value_parser = seconds)]
    seconds: f64,
    /// Adds the results to this file.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Folder with MNIST's files (IDX, plain or gzip), for the steps with digits.
    #[arg(long, value_name = "DIR")]
    mnist: Option<PathBuf>,
    /// Name of the machine in the CSV file; else what the CPU calls itself.
    #[arg(long)]
    machine: Option<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let fits = |s: &f64| (0.0..=3600.0).contains(s);
    text.parse().ok().filter(fits).ok_or_else(|| "want seconds from 0 to 3600".into())
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    set_threads(usize::from(flags.threads));
    match start(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sets what libraries read when they are loaded or first used, where the caller has not.
fn set_threads(threads: usize) {
    let count = threads.to_string();
    let layer = if threads == 1 { "SEQUENTIAL" } else { "INTEL" };
    let all = [
        ("MATMUL_NUM_THREADS", &*count),
        ("MKL_NUM_THREADS", &*count),
        ("MKL_THREADING_LAYER", layer),
        ("OPENBLAS_NUM_THREADS", &*count),
        ("OMP_NUM_THREADS", &*count),
    ];
    for (name, value) in all {
        if std::env::var_os(name).is_none() {
            // SAFETY: no other thread has been started yet.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

fn start(flags: &Flags) -> Result<(), Box<dyn Error + Send + Sync>> {
    let threads = usize::from(flags.threads);
    let mut peers = peer::built_in(threads);
    for spec in &flags.blas {
        peers.push(Box::new(Blas::load(spec)?));
    }
    for name in &flags.peers {
        if !peers.iter().any(|p| p.name() == name) {
            let known: Vec<&str> = peers.iter().map(|p| p.name()).collect();
            return Err(format!("no peer {name}; there are {}", known.join(", ")).into());
        }
    }
    peers.retain(|p| flags.peers.is_empty() || flags.peers.iter().any(|n| n == p.name()));
    let isa = Isa::detect()?;
    let run = Run {
        machine: flags.machine.clone().unwrap_or_else(report::machine),
        date: report::today(),
        isa: isa.to_string(),
        threads,
    };
    // Ours, gemm, gemmkit and faer work in the pool that they are called in.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| all(flags, isa, &run, &peers))
}

/// Measures all points.
fn all(
    flags: &Flags,
    isa: Isa,
    run: &Run,
    peers: &[Box<dyn Peer>],
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (began, mut duels) = (Instant::now(), Vec::new());
    let peak = fma_peak(isa, Duration::from_millis(200)) / 1e9;
    println!("{}, {}, {} thread(s), {}", run.machine, run.isa, run.threads, run.date);
    println!("FMA peak of one thread: {peak:.1} GFLOP/s\n\n{}", report::heading());
    let time = Duration::from_secs_f64(flags.seconds);
    for point in flags.selection.points() {
        let (place, mut work) = prepare(isa, &point, flags.mnist.as_deref())?;
        for duel in measure(isa, run.threads, time, &place, &mut *work, peers)? {
            println!("{}", duel.line());
            if let Some(path) = &flags.csv {
                report::append(path, &duel.csv(run))
                    .map_err(|e| format!("{}: {e}", path.display()))?;
            }
            duels.push(duel);
        }
    }
    let peak = fma_peak(isa, Duration::from_millis(200)) / 1e9;
    print!("{}", report::summary(&duels));
    println!("FMA peak of one thread: {peak:.1} GFLOP/s; {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// The data of a point.
fn prepare(
    isa: Isa,
    point: &Point,
    mnist: Option<&Path>,
) -> Result<(Place, Box<dyn Work>), Box<dyn Error + Send + Sync>> {
    match point {
        &Point::Layer(verb, profile, shape) => {
            let case = Case::new(shape, profile);
            let work: Box<dyn Work> = match verb {
                Verb::Forward => Box::new(verbs::Forward::new(isa, case)),
                Verb::Update => Box::new(verbs::Update::new(isa, case)),
                Verb::Feedback => Box::new(verbs::Feedback::new(isa, case)),
                Verb::Route => Box::new(verbs::Route::new(isa, case)),
                Verb::Step => return Err("a step needs a network".into()),
            };
            let case::Shape { batch, d_in, d_out, areas } = shape;
            let (verb, profile) = (verb.to_string(), profile.to_string());
            Ok((Place { verb, profile, batch, d_in, d_out, areas }, work))
        }
        Point::Step(network, areas, batch, inputs) => {
            let Network { name, widths } = network;
            let (profile, inputs) = match (inputs, mnist) {
                (Inputs::Dense, _) => ("dense", None),
                (Inputs::Digits, None) => {
                    ("strokes", Some((0..4).map(|turn| strokes(*batch, turn)).collect()))
                }
                (Inputs::Digits, Some(folder)) => ("mnist", Some(digits(folder, *batch)?)),
            };
            let place = Place {
                verb: format!("step-{name}"),
                profile: profile.into(),
                batch: *batch,
                d_in: widths[0],
                d_out: widths[widths.len() - 1],
                areas: *areas,
            };
            let work = step::Step::new(isa, widths, *areas, *batch, inputs);
            Ok((place, Box::new(work)))
        }
    }
}

/// Four batches of MNIST's training images, from 0 to 1.
fn digits(folder: &Path, batch: usize) -> Result<Vec<Matrix>, Box<dyn Error + Send + Sync>> {
    let (train, _) = idx::read_directory(folder)?;
    let of = |turn: usize| {
        let rows: Vec<usize> = (0..batch).map(|s| (turn * batch + s) % train.len()).collect();
        let mut images = train.select(&rows)?.inputs().clone();
        images.as_mut_slice().iter_mut().for_each(|x| *x /= 255.0);
        Ok(images)
    };
    (0..4).map(of).collect()
}

/// Checks and times everybody at one point: one duel for each of ours.
fn measure(
    isa: Isa,
    threads: usize,
    time: Duration,
    place: &Place,
    work: &mut dyn Work,
    peers: &[Box<dyn Peer>],
) -> Result<Vec<Duel>, String> {
    let check = |work: &mut dyn Work, who: Who<'_>| {
        work.check(who).map_err(|what| format!("{place:?}: {who}: {what}"))
    };
    let mut contenders: Vec<Who<'_>> = work.ours().to_vec();
    for &who in work.ours() {
        check(work, who)?;
    }
    let ours = contenders.len();
    for peer in peers {
        let [first, second] = [Layout::InOut, Layout::OutIn].map(|l| Who::Peer(&**peer, l));
        let begin = Instant::now();
        check(work, first)?;
        let mut better = first;
        if work.layouts() && begin.elapsed() < CHOICE {
            check(work, second)?;
            let [a, b] = [first, second].map(|w| measure::trial(time / 20, |t| work.run(w, t)));
            better = if b < a { second } else { first };
        }
        contenders.push(better);
    }
    let peak = fma_peak(isa, Duration::from_millis(10)) * threads as f64;
    let times = measure::interleave(contenders.len(), time, |who, turn| {
        work.run(contenders[who], turn);
    });
    let named = |at: usize| (contenders[at].to_string(), times[at]);
    let duel = |at: usize| {
        // Which of ours is part of the verb, so that a place has one line.
        let verb = match contenders[at] {
            Who::Signs => format!("{} signs", place.verb),
            _ => place.verb.clone(),
        };
        Duel {
            place: Place { verb, ..place.clone() },
            flop: work.flop(),
            peak,
            ours: named(at),
            peers: (ours..contenders.len()).map(named).collect(),
        }
    };
    Ok((0..ours).map(duel).collect())
}
