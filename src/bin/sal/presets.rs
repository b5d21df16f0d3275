//! The table of what each preset sets, for the help: made from the presets themselves.

use crate::choices::{AVERAGING, FEEDBACK, OPTIMIZER, ROUTER};
use crate::record::{scaling, schedule, similarity};
use sal_kernels::Matrix;
use sal_kernels::data::{DataError, Dataset};
use sal_kernels::train::{Preset, Recipe};

/// As by default. With one area there would be no router and no warm start.
const AREAS: usize = 4;

/// One row for each flag that a preset decides.
pub(crate) fn table() -> String {
    // Without memory for 10,001 samples there is no table, but there is a program.
    let (Ok(small), Ok(large), Ok(paper)) = (
        recipe(Preset::Tuned, Recipe::SMALL),
        recipe(Preset::Tuned, Recipe::SMALL + 1),
        recipe(Preset::Paper, Recipe::SMALL),
    ) else {
        return String::new();
    };
    let line = |name: &str, [small, large, paper]: [String; 3]| {
        let line = format!("  {name:14}  {small:16}  {large:15}  {paper}");
        line.trim_end().to_owned() + "\n"
    };
    let row = |name, of: &dyn Fn(&Recipe) -> String| line(name, [&small, &large, &paper].map(of));
    let output = |areas| if areas == 1 { "one" } else { "all" };
    [
        "Presets:\n".into(),
        line("", ["tuned, up to", "tuned, more", "paper"].map(String::from)),
        line("", [format!("{} samples", Recipe::SMALL), "samples".into(), String::new()]),
        row("--output-areas", &|r| output(r.network.output_areas).into()),
        row("--feedback", &|r| FEEDBACK.name(r.network.feedback).into()),
        row("--epochs", &|r| r.train.epochs.to_string()),
        row("--batch", &|r| r.train.batch.to_string()),
        row("--lr", &|r| format!("{} {}", r.train.lr, schedule(r.train.schedule))),
        row("--weight-decay", &|r| r.network.weight_decay.to_string()),
        row("--optimizer", &|r| OPTIMIZER.name(r.network.optimizer).into()),
        row("--averaging", &|r| AVERAGING.name(r.network.averaging).into()),
        row("--warm-start", &|r| format!("{:.2}", r.train.warm_start)),
        row("--router", &|r| ROUTER.name(r.network.router.rule).into()),
        row("similarity", &|r| similarity(r.network.router.similarity).into()),
        row("inputs", &|r| scaling(r.scaling).into()),
    ]
    .concat()
}

/// A preset's recipe for so many training samples.
fn recipe(preset: Preset, samples: usize) -> Result<Recipe, DataError> {
    let data = Dataset::new("", Matrix::zeros(samples, 1)?, vec![0; samples], 2, (0.0, 1.0))?;
    Ok(Recipe::new(preset, &data, &[1], AREAS))
}
