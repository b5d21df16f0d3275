//! A run as one JSON object: `config` to repeat it, `epochs` as they went, `final` for what came of it.

use crate::choices::{AVERAGING, FEEDBACK, FEEDBACK_ENTRIES, OPTIMIZER, PRESET, ROUTER};
use crate::failure::Failure;
use crate::train::Run;
use sal_kernels::data::Scaling;
use sal_kernels::kernels::{Optimizer, Similarity};
use sal_kernels::model::RouterConfig;
use sal_kernels::train::{EpochReport, Schedule, Summary};
use serde_json::{Value, json};

/// The whole record, as the bytes of a file.
pub(crate) fn to_json(run: &Run<'_>, summary: &Summary) -> Result<Vec<u8>, Failure> {
    let epochs = summary.epochs.iter().map(|report| epoch(run, report));
    let record = json!({
        "config": config(run)?,
        "epochs": epochs.collect::<Result<Vec<_>, _>>()?,
        "final": {
            "test_accuracy": finite("test accuracy", summary.test_accuracy)?,
            "seconds": finite("seconds", summary.seconds)?,
            "samples_per_second": finite("samples per second", summary.samples_per_second)?,
            "weights_hash": hash(summary),
        },
    });
    Ok(format!("{record:#}\n").into_bytes())
}

/// The weights hash as it is written everywhere.
pub(crate) fn hash(summary: &Summary) -> String {
    format!("{:016x}", summary.weights_hash)
}

fn config(run: &Run<'_>) -> Result<Value, Failure> {
    let (flags, sizes) = (run.flags, run.source.sizes);
    let (network, train) = (&run.recipe.network, &run.recipe.train);
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "data": flags.data.to_string_lossy(),
        "samples": sizes.total(),
        "features": network.inputs,
        "classes": network.classes,
        "split": { "train": sizes.train, "validation": sizes.validation, "test": sizes.test },
        "evaluated_on": run.source.part.name(),
        "seed": flags.seed,
        "preset": PRESET.name(flags.preset),
        "areas": network.areas,
        "hidden": network.hidden,
        "output_areas": network.output_areas,
        "tie": network.tie,
        "epochs": train.epochs,
        "batch": train.batch,
        "lr": single("learning rate", train.lr)?,
        "schedule": schedule(train.schedule),
        "warm_start": finite("warm start", train.warm_start)?,
        "warm_epochs": train.warm_epochs(),
        "optimizer": optimizer(network.optimizer)?,
        "weight_decay": single("weight decay", network.weight_decay)?,
        "averaging": AVERAGING.name(network.averaging),
        "router": router(&network.router, network.areas)?,
        "feedback": FEEDBACK.name(network.feedback),
        "feedback_entries": FEEDBACK_ENTRIES.name(network.feedback_entries),
        "shared_feedback": network.shared_feedback,
        "zero_output": network.zero_output,
        "scaling": scaling(run.recipe.scaling),
        "isa": run.isa.name().as_str(),
        "threads": run.threads,
        "parameters": run.parameters,
        "active_parameters": run.active_parameters,
    }))
}

fn optimizer(optimizer: Optimizer) -> Result<Value, Failure> {
    let name = OPTIMIZER.name(optimizer);
    Ok(match optimizer {
        Optimizer::Sgd => json!({ "name": name }),
        Optimizer::Momentum { momentum } => {
            json!({ "name": name, "momentum": single("momentum", momentum)? })
        }
        Optimizer::AdamW { beta1, beta2, eps } => json!({
            "name": name,
            "beta1": single("beta1", beta1)?,
            "beta2": single("beta2", beta2)?,
            "eps": single("eps", eps)?,
        }),
    })
}

fn router(router: &RouterConfig, areas: usize) -> Result<Value, Failure> {
    Ok(json!({
        "rule": ROUTER.name(router.rule),
        "similarity": similarity(router.similarity),
        "width": router.width.unwrap_or(areas),
        "tau": single("tau", router.tau)?,
        "alpha": single("alpha", router.alpha)?,
        "gamma": single("gamma", router.gamma)?,
        "lr": single("router learning rate", router.lr)?,
        "centred": router.centred,
    }))
}

/// The name of a router's similarity.
pub(crate) fn similarity(similarity: Similarity) -> &'static str {
    match similarity {
        Similarity::Cosine => "cosine",
        Similarity::Dot => "dot",
    }
}

/// The name of a learning rate's course.
pub(crate) fn schedule(schedule: Schedule) -> &'static str {
    match schedule {
        Schedule::Constant => "constant",
        Schedule::Cosine => "cosine",
    }
}

/// The name of a scaling of the inputs.
pub(crate) fn scaling(scaling: Scaling) -> &'static str {
    match scaling {
        Scaling::Centred => "centred",
        Scaling::Range => "range",
        _ => "other",
    }
}

fn epoch(run: &Run<'_>, report: &EpochReport) -> Result<Value, Failure> {
    Ok(json!({
        "epoch": report.epoch,
        "dense": run.dense(report),
        "train_loss": finite("train loss", report.train_loss)?,
        "test_accuracy": finite("test accuracy", report.test_accuracy)?,
        "occupancy_entropy": finite("occupancy entropy", report.occupancy_entropy)?,
        "empty_areas": report.empty_areas,
        "samples_per_second": finite("samples per second", report.samples_per_second)?,
    }))
}

/// JSON has no NaN and no infinity.
fn finite(what: &str, x: f64) -> Result<f64, Failure> {
    if x.is_finite() {
        Ok(x)
    } else {
        Err(Failure::Run(format!("{what}: got {x}, JSON wants a finite number")))
    }
}

/// An f32 by its shortest decimal form: 0.003, not 0.003000000026077032.
fn single(what: &str, x: f32) -> Result<f64, Failure> {
    finite(what, x.to_string().parse().unwrap_or(f64::NAN))
}
