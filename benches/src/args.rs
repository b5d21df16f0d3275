//! How a bench was called: which grid it runs, and which names were asked for.

use regex::Regex;
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

/// Results are to be checked, nothing is to be timed.
pub fn untimed() -> bool {
    let has = |flag: &str| env::args().any(|a| a == flag);
    has("--test") || !has("--bench")
}

/// Names are to be listed, nothing is to run.
fn listing() -> bool {
    env::args().any(|a| a == "--list")
}

/// Whether the filter lets `name` through, for benches that criterion does not run. As with criterion the filter is a
/// regular expression: the first argument that is no flag and follows no flag with a value.
pub fn selected(name: &str) -> bool {
    let args: Vec<String> = env::args().skip(1).collect();
    let chosen = filter(&args).is_none_or(|f| match Regex::new(f) {
        Ok(pattern) => pattern.is_match(name),
        Err(_) => name.contains(f),
    });
    if chosen && listing() {
        println!("{name}: benchmark");
    }
    chosen && !listing()
}

fn filter(args: &[String]) -> Option<&str> {
    let no_value = |a: &String| !a.starts_with('-') || ["--bench", "--test"].contains(&a.as_str());
    let found = args.iter().enumerate().find(|&(i, a)| {
        !a.starts_with('-') && i.checked_sub(1).is_none_or(|before| no_value(&args[before]))
    });
    found.map(|(_, a)| a.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_the_first_argument_that_is_no_value() {
        let of = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(String::from).collect();
            filter(&args).map(String::from)
        };
        assert_eq!(of("--bench"), None);
        assert_eq!(of("--bench signs").as_deref(), Some("signs"));
        assert_eq!(of("signs --bench").as_deref(), Some("signs"));
        assert_eq!(of("--save-baseline old --bench n1 n2").as_deref(), Some("n1"));
        assert_eq!(of("--save-baseline old --bench"), None);
    }
}
