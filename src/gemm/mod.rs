//! Grouped products over packed panels: one macro-kernel for each direction, one register tile for both.
//!
//! ```text
//! product   out[row]   = epilogue(x[row] W[area])       rows of one area, gathered and scattered
//! rank-n    W[area]    = rule(W[area], x^T delta)       the same tile, with the panel as its result
//! ```
//! This floor knows panels and plans, and neither layers nor losses. Its callers in `kernels` check every shape.

pub(crate) mod area;
mod blocks;
#[allow(unsafe_code)]
mod few_rows;
pub(crate) mod pack;
pub(crate) mod rank;
pub(crate) mod schedule;
#[allow(unsafe_code)]
pub(crate) mod store;
#[allow(unsafe_code)]
pub(crate) mod tile;
