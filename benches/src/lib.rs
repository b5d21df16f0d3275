//! What the benches share: which points to measure, their operands, the check that a result is right before it is
//! timed, and the line that says what share of the machine it reached.
//!
//! ```text
//! args      which grid: a test run (small), the usual one (minutes), SAL_BENCH_FULL=1 (hours)
//! point     batch, shape, areas, profile of the occupancy; its regime, its plans, the cache level of its weights
//! values    reproducible operands that any check can compute again, so no second copy of the weights is kept
//! check     f64 sums with derived bounds
//! calls     one verb each, on operands by turns
//! measure   minima, medians, GFLOP/s, GB/s; criterion for one call, pairs of calls by turns
//! step      a whole SAL step over the verbs
//! ```

mod args;
pub mod cache;
pub mod calls;
pub mod check;
pub mod measure;
pub mod point;
pub mod step;
pub mod values;

pub use args::{Grid, selected, untimed};
