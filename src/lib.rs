//! Kernels and a training system for Selective Adaptive Learning (SAL, [arXiv 2601.21561]) on CPUs.
//!
//! SAL trains networks without backpropagation. Each layer holds K mutually exclusive *areas*; a router sends each
//! sample to exactly one of them; the error comes back through fixed random feedback, never through transposed
//! weights; only the area that a sample used is changed.
//!
//! ```
//! use sal_kernels::kernels::{Activation, forward};
//! use sal_kernels::{Isa, Matrix, Panels, RoutePlan};
//!
//! let isa = Isa::detect()?; // AVX-512, AVX2, NEON or portable: what this CPU has
//! let weights = Panels::from_row_major(isa, 2, 3, 1, &[1.0, 1.0, 1.0, -1.0, -1.0, -1.0])?; // 2 areas, 3 -> 1
//! let plan = RoutePlan::new(&[0, 1], 2)?; // sample 0 to area 0, sample 1 to area 1
//! let x = Matrix::from_slice(2, 3, &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0])?;
//! let mut y = Matrix::zeros(2, 1)?;
//! forward(&plan, x.view(), &weights, None, Activation::Identity, y.view_mut())?;
//! assert_eq!(y.as_slice(), [6.0, -6.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | floor | what it has |
//! |---|---|
//! | [`train`], [`data`] | runs, metrics, presets; datasets |
//! | [`model`] | networks, routers, feedback modes |
//! | [`kernels`] | the five verbs: route, forward, loss, feedback, update |
//! | [`Panels`], [`RoutePlan`], [`Matrix`], [`Isa`] | packed weights, samples by area, rows, instruction sets |
//!
//! # What is promised
//! - Functions check shapes once and return errors; they do not panic on bad input, and after an error of a verb no
//!   output has changed.
//! - The same seed gives the same bits for any number of threads on one instruction set. With the feature `rayon`
//!   (default) work is split over the pool that the caller runs in; the crate never builds one.
//! - A NaN or infinity in one sample stays with that sample in `forward` and `feedback`.
//!
//! [arXiv 2601.21561]: https://arxiv.org/abs/2601.21561
#![deny(unsafe_code)]

pub mod caches;
pub mod data;
mod gemm;
pub mod kernels;
pub mod limits;
mod matrix;
pub mod model;
mod panels;
mod plan;
pub mod random;
pub mod reference;
mod signs;
#[allow(unsafe_code)]
mod simd;
pub mod train;

pub use matrix::{LayoutError, Matrix, MatrixMut, MatrixRef};
pub use panels::Panels;
pub use plan::RoutePlan;
pub use signs::Signs;
pub use simd::{Isa, IsaError, IsaName};
