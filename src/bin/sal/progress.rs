//! A run as it goes: one line an epoch on standard output, and a bar below it where standard error is a terminal.
//!
//! ```text
//! epoch  mode    train loss  test accuracy  entropy  empty areas  samples/s
//!     1  dense       0.8312        92.48 %    0.958            0      85012
//! epoch 2/10 ============>-----------  51 % 86210 samples/s, 7s left
//! ```

use crate::failure::Failure;
use crate::output::Output;
use crate::source::Part;
use crate::train::Run;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use sal_kernels::train::{EpochReport, Observer};
use std::fmt::Write;
use std::ops::ControlFlow;

const BAR: &str = "epoch {prefix} {bar:24} {percent:>3} % {speed} samples/s, {eta} left";

/// The columns of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    part: Part,
    /// Whether any layer has more than one area; if not, areas tell nothing.
    routed: bool,
}

impl Table {
    pub(crate) fn new(run: &Run<'_>) -> Self {
        Self { part: run.source.part, routed: run.recipe.network.areas > 1 }
    }

    pub(crate) fn head(self) -> String {
        let accuracy = self.accuracy();
        format!("epoch  mode    train loss  {accuracy}  entropy  empty areas  samples/s")
    }

    fn row(self, report: &EpochReport) -> String {
        let mode = if self.routed && !report.dense { "routed" } else { "dense" };
        let (entropy, empty) = if self.routed {
            (format!("{:.3}", report.occupancy_entropy), report.empty_areas.to_string())
        } else {
            ("-".into(), "-".into())
        };
        let loss = match report.train_loss {
            small if small < 1e5 => format!("{small:.4}"),
            large => format!("{large:.3e}"),
        };
        format!(
            "{:>5}  {mode:6}  {loss:>10}  {:>width$.2} %  {entropy:>7}  {empty:>11}  {:>9.0}",
            report.epoch,
            100.0 * report.test_accuracy,
            report.samples_per_second,
            width = self.accuracy().len() - 2,
        )
    }

    fn accuracy(self) -> String {
        format!("{} accuracy", self.part.name())
    }
}

/// Shows a run.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    table: Table,
    output: &'a mut Output,
    bar: ProgressBar,
    epochs: usize,
    /// The epoch that the bar names.
    named: usize,
    /// Why nothing more could be shown.
    failure: Option<Failure>,
}

impl<'a> Progress<'a> {
    /// For a run of so many epochs with so many samples each.
    pub(crate) fn new(table: Table, output: &'a mut Output, epochs: usize, samples: usize) -> Self {
        // Draws nothing where standard error is no terminal, and clears itself at the end.
        let bar = ProgressBar::new(epochs as u64 * samples as u64);
        let style =
            ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let speed = |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{:.0}", state.per_sec()); // nothing depends on it
        };
        bar.set_style(style.progress_chars("=>-").with_key("speed", speed));
        Self { table, output, bar, epochs, named: 0, failure: None }
    }

    /// Takes the bar away; an error if a line could not be shown.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        self.failure.map_or(Ok(()), Err)
    }
}

impl Observer for Progress<'_> {
    fn batch(&mut self, epoch: usize, done: usize, total: usize) {
        if self.named != epoch {
            self.named = epoch;
            self.bar.set_prefix(format!("{epoch}/{}", self.epochs));
        }
        self.bar.set_position((epoch - 1) as u64 * total as u64 + done as u64);
    }

    fn epoch(&mut self, report: &EpochReport) -> ControlFlow<()> {
        let line = self.table.row(report);
        match self.bar.suspend(|| self.output.line(line)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.failure = Some(failure);
                ControlFlow::Break(())
            }
        }
    }
}
