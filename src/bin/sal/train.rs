//! `sal train`: read and split the data, build the network, train it, say what came of it.
//!
//! ```text
//! flags -> JSON target, ISA and thread pool checked -> source -> recipe -> scaled parts -> network
//!       -> header -> one line an epoch -> summary -> JSON file
//! ```

use crate::atomic::Target;
use crate::choices::{AVERAGING, FEEDBACK, FEEDBACK_ENTRIES, OPTIMIZER, PRESET, ROUTER};
use crate::cpu;
use crate::failure::Failure;
use crate::flags::Flags;
use crate::output::Output;
use crate::progress::{Progress, Table};
use crate::record;
use crate::source::{Part, Source};
use sal_kernels::Isa;
use sal_kernels::model::{FeedbackMode, Network};
use sal_kernels::train::{EpochReport, Recipe, Summary, train};

/// What a run is made of.
pub(crate) struct Run<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) source: &'a Source,
    pub(crate) recipe: &'a Recipe,
    pub(crate) isa: Isa,
    pub(crate) threads: usize,
    pub(crate) parameters: usize,
    pub(crate) active_parameters: usize,
}

impl Run<'_> {
    /// Whether every sample of that epoch went through the same area: in the warm start, or where there is only one.
    pub(crate) fn dense(&self, report: &EpochReport) -> bool {
        report.dense || self.recipe.network.areas == 1
    }
}

pub(crate) fn run(flags: &Flags) -> Result<(), Failure> {
    let isa = cpu::choose(flags.machine.isa.as_deref())?;
    let target = flags.json.as_deref().map(Target::new).transpose()?;
    let pool = cpu::pool(flags.machine.threads)?;
    pool.install(|| run_here(flags, isa, target.as_ref()))
}

/// Runs on the threads of the caller's pool.
fn run_here(flags: &Flags, isa: Isa, target: Option<&Target>) -> Result<(), Failure> {
    let mut source = Source::load(&flags.data, flags.seed, flags.validate)?;
    let recipe = flags.recipe(&source.train);
    source.scale(recipe.scaling)?;
    let mut network = Network::new(isa, &recipe.network)?;
    let run = Run {
        flags,
        source: &source,
        recipe: &recipe,
        isa,
        threads: rayon::current_num_threads(),
        parameters: network.parameters(),
        active_parameters: network.active_parameters(),
    };
    let mut output = Output::new(target.is_some());
    for line in header(&run) {
        output.line(line)?;
    }
    let (config, table) = (&recipe.train, Table::new(&run));
    output.line(format_args!("\n{}", table.head()))?;
    let mut progress = Progress::new(table, &mut output, config.epochs, source.train.len());
    let summary = train(&mut network, &source.train, &source.measured, config, &mut progress);
    let shown = progress.finish(); // the bar goes before an error is told
    let summary = summary?;
    shown?;
    output.line(closing(source.part, &summary))?;
    if let Some(target) = target {
        target.write(&record::to_json(&run, &summary)?)?;
        output.line(format_args!("{:20} {}", "json", target.name()))?;
    }
    Ok(())
}

/// What is about to happen, one line each.
fn header(run: &Run<'_>) -> Vec<String> {
    let (network, train, sizes) = (&run.recipe.network, &run.recipe.train, run.source.sizes);
    let (name, total) = (run.source.train.name(), sizes.total());
    let mut split = format!("{} train, ", sizes.train);
    split += &match run.source.part {
        Part::Test => format!("{} test", sizes.test),
        Part::Validation => {
            format!("{} validation, {} test, not touched", sizes.validation, sizes.test)
        }
    };
    let hidden = network.hidden.iter().map(|&width| (width, network.areas));
    let layers: String = hidden
        .chain([(network.classes, network.output_areas)])
        .map(|(width, areas)| format!(" -> {width} ({})", plural(areas, "area")))
        .collect();
    let router = match network.areas {
        1 => "none".into(),
        _ => {
            let similarity = record::similarity(network.router.similarity);
            let tied = if network.tie { ", once for all layers" } else { "" };
            format!("{}, {similarity}{tied}", ROUTER.name(network.router.rule))
        }
    };
    let feedback = match network.feedback {
        FeedbackMode::Backprop => FEEDBACK.name(network.feedback).into(),
        mode => {
            let entries = FEEDBACK_ENTRIES.name(network.feedback_entries);
            let shared = if network.shared_feedback { ", shared by the areas" } else { "" };
            format!("{}, {entries} entries{shared}", FEEDBACK.name(mode))
        }
    };
    let warm = match train.warm_epochs() {
        0 => String::new(),
        n => format!(" ({n} dense)"),
    };
    let epochs = plural(train.epochs, "epoch");
    let schedule = record::schedule(train.schedule);
    let (decay, averaging) = (network.weight_decay, AVERAGING.name(network.averaging));
    let rows = [
        (
            "data",
            format!(
                "{name}, {total} samples of {} features, {} classes",
                network.inputs, network.classes
            ),
        ),
        ("split", split),
        ("network", format!("{}{layers}", network.inputs)),
        (
            "parameters",
            format!("{}, of which {} active per sample", run.parameters, run.active_parameters),
        ),
        ("router", router),
        ("feedback", feedback),
        ("preset", PRESET.name(run.flags.preset).into()),
        (
            "training",
            format!("{epochs}{warm}, batch {}, lr {:?} {schedule}", train.batch, train.lr),
        ),
        (
            "optimizer",
            format!(
                "{}, weight decay {decay}, averaging {averaging}",
                OPTIMIZER.name(network.optimizer)
            ),
        ),
        ("isa", format!("{}, tile {}", run.isa, cpu::tile(run.isa))),
        ("threads", run.threads.to_string()),
        ("seed", run.flags.seed.to_string()),
    ];
    rows.into_iter().map(|(what, text)| format!("{what:11} {text}")).collect()
}

fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What came of it.
fn closing(part: Part, summary: &Summary) -> String {
    let accuracy = format!("{} accuracy", part.name());
    format!(
        "\n{accuracy:20} {:.2} %\n{:20} {:.2}\n{:20} {:.0}\n{:20} {}",
        100.0 * summary.test_accuracy,
        "seconds",
        summary.seconds,
        "samples per second",
        summary.samples_per_second,
        "weights hash",
        record::hash(summary),
    )
}
