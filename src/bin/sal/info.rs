//! `sal info`: what this machine offers, and what the kernels make of it.

use crate::cpu;
use crate::failure::Failure;
use crate::output::Output;
use sal_kernels::Isa;
use sal_kernels::caches::{Cache, caches};
use serde_json::{Value, json};
use std::env::consts::{ARCH, OS};
use std::thread::available_parallelism;

const EXAMPLES: &str = "\
Examples:
  sal info
  SAL_ISA=portable sal info --json";

/// Show the CPU's features, the instruction set in use, its tiles, caches and threads
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Flags {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Everything that there is to tell.
struct Machine {
    isa: Isa,
    by_variable: bool,
    caches: &'static [Cache],
    threads: usize,
    available_threads: Option<usize>,
}

pub(crate) fn run(flags: &Flags) -> Result<(), Failure> {
    let machine = Machine {
        isa: cpu::choose(None)?,
        by_variable: std::env::var_os("SAL_ISA").is_some_and(|name| !name.is_empty()),
        caches: caches(),
        threads: rayon::current_num_threads(),
        available_threads: available_parallelism().ok().map(usize::from),
    };
    let mut output = Output::new(false);
    if flags.json {
        return output.line(format_args!("{:#}", machine.json()));
    }
    machine.lines().into_iter().try_for_each(|line| output.line(line))
}

impl Machine {
    fn lines(&self) -> Vec<String> {
        let features = Isa::features();
        let features = features
            .iter()
            .map(|(name, has)| format!("{name} {}", if *has { "yes" } else { "no" }));
        let caches =
            self.caches.iter().map(|c| format!("L{} {} {}", c.level, c.kind, size(c.bytes)));
        let why = if self.by_variable { "chosen by SAL_ISA" } else { "the best of this CPU" };
        let available = match self.available_threads {
            Some(n) => n.to_string(),
            None => "unknown".into(),
        };
        let rows = [
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("target", format!("{ARCH}-{OS}")),
            ("features", or(features.collect(), "none that matter")),
            ("caches", or(caches.collect(), "unknown")),
            ("threads", format!("{} by default, {available} available", self.threads)),
            ("isa", format!("{}, {why}", self.isa)),
        ];
        let mut lines: Vec<String> =
            rows.into_iter().map(|(what, text)| format!("{what:11} {text}")).collect();
        lines.push(String::new());
        lines.push("isa         lanes  panel width  tiles (rows x columns)".into());
        lines.extend(Isa::available().into_iter().map(|isa| {
            let width = isa.panel_width();
            let tiles = isa.tile_heights().iter().map(|height| format!("{height}x{width}"));
            let tiles = tiles.collect::<Vec<_>>().join(" ");
            format!("{:11} {:>5}  {width:>11}  {tiles}", isa.name().as_str(), isa.lanes())
        }));
        lines
    }

    fn json(&self) -> Value {
        let features = Isa::features().into_iter().map(|(name, has)| (name.to_owned(), has.into()));
        let caches = self.caches.iter();
        let caches = caches
            .map(|c| json!({ "level": c.level, "type": c.kind.to_string(), "bytes": c.bytes }));
        let isas = Isa::available().into_iter().map(|isa| {
            json!({
                "name": isa.name().as_str(),
                "lanes": isa.lanes(),
                "panel_width": isa.panel_width(),
                "tile_heights": isa.tile_heights(),
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "target": { "arch": ARCH, "os": OS },
            "features": Value::Object(features.collect()),
            // Null: the system does not tell.
            "caches": if self.caches.is_empty() { Value::Null } else { caches.collect() },
            "threads": { "default": self.threads, "available": self.available_threads },
            "isa": { "chosen": self.isa.name().as_str(), "by_sal_isa": self.by_variable },
            "available_isas": isas.collect::<Vec<_>>(),
        })
    }
}

fn or(texts: Vec<String>, none: &str) -> String {
    if texts.is_empty() { none.into() } else { texts.join(", ") }
}

pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}
