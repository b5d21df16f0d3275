//! The command line of `sal-kernels`: parse, run one command, exit.
//!
//! ```text
//! 0   done, or nobody reads standard output any more
//! 1   data, files, or a run that failed
//! 2   something was asked for that does not exist
//! ```
#![forbid(unsafe_code)]

mod atomic;
mod bench;
mod choices;
mod cpu;
mod failure;
mod flags;
mod info;
mod output;
mod presets;
mod progress;
mod record;
mod source;
mod train;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sal train digits
  sal train path/to/mnist --areas 16 --epochs 10 --json run.json
  sal info
  sal bench --shapes 1024x1024

The environment variable SAL_ISA chooses an instruction set for every command, as --isa does.";

/// Learn without backpropagation: Selective Adaptive Learning (SAL) on the CPU
#[derive(Debug, Parser)]
#[command(name = "sal", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<flags::Flags>),
    Info(info::Flags),
    Bench(bench::Flags),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version come this way too. A reader that has gone misses them, and that is all.
            let _ = message.print();
            return ExitCode::from(if message.use_stderr() { 2 } else { 0 });
        }
    };
    let done = match cli.command {
        Command::Train(flags) => train::run(&flags),
        Command::Info(flags) => info::run(&flags),
        Command::Bench(flags) => bench::run(&flags),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.report()),
    }
}
