//! `sal bench`: what the machine can do at most, and what each kernel makes of it.
//!
//! ```text
//! flags -> points of the grid -> memory checked -> limits measured
//!       -> for each point: operand, batch, oracle, one call, compare, then calls until the time is over
//!       -> limits measured again: did the machine stay the same?
//! ```

mod case;
mod check;
mod flags;
mod profile;
mod show;

pub(crate) use flags::Flags;
pub(crate) use profile::Profile;

use crate::cpu;
use crate::failure::Failure;
use crate::output::Output;
use case::{Batch, Layer, Operand};
use check::Expected;
use indicatif::{ProgressBar, ProgressStyle};
use sal_kernels::kernels::{KernelError, Shape, Verb};
use sal_kernels::limits::Limits;
use sal_kernels::{Isa, RoutePlan, caches};
use show::{Measured, Setting, Table, Times};
use std::time::{Duration, Instant};

const BAR: &str = "point {pos}/{len} {bar:24} {msg}, {eta} left";

/// Longest time for one of the limits, in seconds.
const LIMIT: f64 = 0.1;

/// Share of a point's time that passes before calls count.
const WARM: f64 = 0.2;

/// Fewest calls that count, however long they take.
const CALLS: usize = 3;

/// One point of the grid.
pub(crate) struct Point {
    verb: Verb,
    layer: Layer,
    areas: usize,
    batch: usize,
    shape: Shape,
    /// In bytes.
    working_set: f64,
}

impl Point {
    /// For messages.
    fn name(&self) -> String {
        let Self { verb, layer, areas, batch, .. } = self;
        format!("{verb} {layer}, areas {areas}, batch {batch}")
    }
}

pub(crate) fn run(flags: &Flags) -> Result<(), Failure> {
    let isa = cpu::choose(flags.machine.isa.as_deref())?;
    let points = points(flags, isa)?;
    check_memory(&points, cpu::free_memory())?;
    cpu::pool(flags.machine.threads)?.install(|| run_here(flags, isa, &points))
}

/// Shape by shape, so that a table compares verbs, and batch after batch within.
fn points(flags: &Flags, isa: Isa) -> Result<Vec<Point>, KernelError> {
    let mut all = Vec::new();
    for &layer in &flags.shapes {
        for (nth, &areas) in flags.areas.iter().enumerate() {
            for &verb in &flags.verbs {
                let shape = layer.shape(verb, areas);
                let areas = shape.areas;
                // Feedback is the same for any number of areas: once is enough.
                if nth > 0 && matches!(verb, Verb::Feedback | Verb::FeedbackSigns) {
                    continue;
                }
                for &batch in &flags.batches {
                    let plan = RoutePlan::new(&flags.profile.areas(batch, areas), areas)
                        .map_err(KernelError::from)?;
                    let working_set = isa.explain(verb, shape, &plan, None)?.working_set;
                    all.push(Point { verb, layer, areas, batch, shape, working_set });
                }
            }
        }
    }
    Ok(all)
}

/// A system may promise memory that it does not have, and then end the process that uses it: better to ask before.
fn check_memory(points: &[Point], free: Option<u64>) -> Result<(), Failure> {
    let Some(free) = free else { return Ok(()) };
    let refuse = |what: &str, bytes: f64| {
        let giga = |bytes: f64| format!("{:.1} GB", bytes / 1e9);
        let (want, free) = (giga(bytes), giga(free as f64));
        Err(Failure::Run(format!("{what}: wants {want} of memory, there are {free}")))
    };
    for point in points {
        // Besides what the kernel uses, one area as it was before packing, and the oracle's part, in f64.
        let Shape { d_in, d_out, .. } = point.shape;
        let bytes = point.working_set + 16.0 * d_in as f64 * d_out as f64 + 1e8;
        if bytes > free as f64 {
            return refuse(&point.name(), bytes);
        }
    }
    let buffer = 4.0 * caches::l3() as f64;
    if buffer > free as f64 { refuse("limits", buffer) } else { Ok(()) }
}

/// Runs on the threads of the caller's pool.
fn run_here(flags: &Flags, isa: Isa, points: &[Point]) -> Result<(), Failure> {
    let time = Duration::from_secs_f64(7.0 * flags.seconds.min(LIMIT));
    let limits = || Limits::of_pool(isa, time).map_err(KernelError::from);
    let limits_before = limits()?;
    let Flags { profile, zeros, .. } = *flags;
    let setting = Setting { isa, profile, zeros, limits: limits_before };
    let (mut output, table) = (Output::new(false), Table::new(points));
    if !flags.json {
        for line in setting.header() {
            output.line(line)?;
        }
        output.line(format_args!("\n{}", table.head()))?;
    }
    // Draws nothing where standard error is no terminal.
    let bar = ProgressBar::new(points.len() as u64);
    bar.set_style(
        ProgressStyle::with_template(BAR)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=>-"),
    );
    let mut all = Vec::new();
    let mut shown = Ok(());
    let mut operand = None;
    for point in points {
        bar.set_message(point.name());
        let measured = match measure(point, flags, isa, &mut operand) {
            Ok(measured) => measured,
            Err(failure) => {
                shown = Err(failure);
                break;
            }
        };
        if !flags.json {
            shown = bar.suspend(|| output.line(table.row(&measured, &setting.limits)));
        }
        if shown.is_err() {
            break;
        }
        all.push(measured);
        bar.inc(1);
    }
    bar.finish_and_clear(); // the bar goes before an error is told
    shown?;
    let after = limits()?;
    if flags.json {
        return output.line(format_args!("{:#}", setting.json(&all, &after)));
    }
    output.line("")?;
    setting.closing(&all, &after).into_iter().try_for_each(|line| output.line(line))
}

/// The operand of a verb, a shape, and so many areas; the next batch may use it again.
type Kept = Option<((Verb, Shape), Operand)>;

/// Checks a point, then times it.
fn measure<'a>(
    point: &'a Point,
    flags: &Flags,
    isa: Isa,
    kept: &mut Kept,
) -> Result<Measured<'a>, Failure> {
    let Point { verb, shape, .. } = *point;
    let key = (verb, shape);
    let mut operand = match kept.take() {
        Some((of, operand)) if of == key => operand,
        other => {
            drop(other); // before there is a new one
            Operand::new(isa, verb, shape)?
        }
    };
    let mut batch = Batch::new(verb, shape, point.batch, flags.profile, flags.zeros)?;
    let told = isa.explain(verb, shape, &batch.plan, Some(batch.inputs.view()))?;
    operand.learn();
    let expected = Expected::new(&operand, shape, &batch);
    operand.run(&mut batch)?;
    agree(point, &expected, &operand, &batch)?;
    operand.hold();
    let times = time(&mut operand, &mut batch, flags.seconds)?;
    *kept = Some((key, operand));
    Ok(Measured { point, told, checked: expected.len(), times })
}

/// Refuses a result that has a wrong entry, and names both.
fn agree(
    point: &Point,
    expected: &Expected,
    operand: &Operand,
    batch: &Batch,
) -> Result<(), Failure> {
    let compared = expected.compare(operand, batch);
    compared.map_err(|fault| Failure::Run(format!("{}: {fault}", point.name())))
}

/// Calls for so many seconds, each with the samples in the next areas.
fn time(operand: &mut Operand, batch: &mut Batch, seconds: f64) -> Result<Times, KernelError> {
    let begin = Instant::now();
    let mut all: Vec<f64> = Vec::new();
    while begin.elapsed().as_secs_f64() < (1.0 + WARM) * seconds || all.len() < CALLS {
        batch.rotate()?;
        let warm = begin.elapsed().as_secs_f64() >= WARM * seconds;
        let start = Instant::now();
        operand.run(batch)?;
        let call = start.elapsed().as_secs_f64();
        if warm {
            all.push(call.max(1e-9)); // a clock may stand still
        }
    }
    all.sort_by(f64::total_cmp);
    Ok(Times { calls: all.len(), min: all[0], median: all[all.len() / 2] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn grid(line: &str) -> Vec<Point> {
        let flags = Line::parse_from(format!("bench {line}").split_whitespace()).flags;
        points(&flags, Isa::detect().unwrap()).unwrap()
    }

    #[test]
    fn the_grid_has_each_point_once() {
        let names: Vec<_> =
            grid("--shapes 8x4,5x5 --areas 2,3 --batches 1,7 --verbs update,feedback")
                .iter()
                .map(Point::name)
                .collect();
        let of_one = |layer: &str| {
            [2, 3].map(|areas| {
                let update = [1, 7].map(|n| format!("update {layer}, areas {areas}, batch {n}"));
                let feedback = [1, 7].map(|n| format!("feedback {layer}, areas 1, batch {n}"));
                if areas == 2 { [&update[..], &feedback[..]].concat() } else { update.to_vec() }
            })
        };
        assert_eq!(names, ["8x4", "5x5"].map(of_one).concat().concat());
    }

    #[test]
    fn a_wrong_result_ends_the_run_with_its_name() {
        let point = &grid("--shapes 9x5 --areas 2 --batches 3 --verbs forward")[0];
        let Point { verb, shape, .. } = *point;
        let mut operand = Operand::new(Isa::detect().unwrap(), verb, shape).unwrap();
        let mut batch = Batch::new(verb, shape, 3, Profile::Balanced, 0).unwrap();
        let expected = Expected::new(&operand, shape, &batch);
        operand.run(&mut batch).unwrap();
        assert!(agree(point, &expected, &operand, &batch).is_ok());
        batch.out.row_mut(2)[4] = -1.0; // no ReLU gives that
        let Err(Failure::Run(message)) = agree(point, &expected, &operand, &batch) else {
            panic!("not refused with code 1")
        };
        let want = "forward 9x5, areas 2, batch 3: output 4 of sample 2: got -1, want ";
        assert!(message.starts_with(want), "{message}");
    }

    #[test]
    fn a_point_that_does_not_fit_is_named_before_it_is_made() {
        let points = grid("--shapes 1000x1000 --areas 1,4096 --batches 1 --verbs forward");
        assert!(check_memory(&points, None).is_ok());
        assert!(check_memory(&points[..1], Some(1 << 32)).is_ok());
        let Err(Failure::Run(message)) = check_memory(&points, Some(1 << 32)) else {
            panic!("not refused")
        };
        assert!(
            message.starts_with("forward 1000x1000, areas 4096, batch 1: wants 16."),
            "{message}"
        );
        assert!(message.ends_with(" GB of memory, there are 4.3 GB"), "{message}");
    }
}
