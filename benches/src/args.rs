//! How a bench was called: which grid it runs, and which names were asked for.

use std::env;

/// How many points are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// `--test` (or no `--bench`, as criterion has it): a small grid, each point checked and run once, untimed.
    Test,
    /// The points that the README and the issues speak of: a few minutes a bench.
    Usual,
    /// `SAL_BENCH_FULL=1`: the whole product of profiles, batches, shapes and areas.
    Full,
}

impl Grid {
    /// What the command line and the environment ask for. A test run with `SAL_BENCH_FULL=1` checks the full grid.
    pub fn get() -> Self {
        match env::var("SAL_BENCH_FULL").is_ok_and(|v| v != "0" && !v.is_empty()) {
            true => Self::Full,
            false if untimed() => Self::Test,
            false => Self::Usual,
        }
    }
}

/// Nothing is to be timed.
pub(crate) fn untimed() -> bool {
    let has = |flag: &str| env::args().any(|a| a == flag);
    has("--test") || !has("--bench")
}

/// Names are to be listed, nothing is to run.
fn listing() -> bool {
    env::args().any(|a| a == "--list")
}

/// Whether the filter lets `name` through, for benches that criterion does not run. The filter is the first argument
/// that is no flag and follows no flag with a value; here it is a part of the name, not a pattern.
pub fn selected(name: &str) -> bool {
    let args: Vec<String> = env::args().collect();
    let alone = |a: &str| !a.starts_with('-') || ["--bench", "--test"].contains(&a);
    let filter =
        (1..args.len()).find(|&i| !args[i].starts_with('-') && (i == 1 || alone(&args[i - 1])));
    let chosen = filter.is_none_or(|i| name.contains(&args[i]));
    if chosen && listing() {
        println!("{name}: benchmark");
    }
    chosen && !listing()
}
