//! Kernels and a training system for Selective Adaptive Learning (SAL) on CPUs.
#![deny(unsafe_code)]

pub mod data;
mod gemm;
pub mod kernels;
pub mod limits;
mod matrix;
pub mod model;
mod panels;
mod plan;
pub mod random;
#[allow(unsafe_code)]
mod simd;
pub mod train;

pub use matrix::{LayoutError, Matrix, MatrixMut, MatrixRef};
pub use panels::Panels;
pub use plan::RoutePlan;
pub use simd::{Isa, IsaError, IsaName};
