//! What happens to sums on their way out of the registers: epilogues of products, rules of updates, and the output
//! that the tasks of one product share.
//!
//! ```text
//! forward    y = f(acc + bias)                 scattered to the sample's own row
//! feedback   delta = acc where y > 0, else 0   scattered likewise
//! sgd        w = keep * w + acc                acc is already scaled by -lr * c
//! momentum   m = mom * m + acc;  w = keep * w - lr * m
//! adamw      m, v as usual;      w = keep * w - step * m / (sqrt(v * unbias) + eps)
//! ```

use super::schedule::Block;
use crate::matrix::{MatrixMut, MatrixRef};
use crate::plan::RoutePlan;
use crate::simd::Simd;
use std::marker::PhantomData;
use std::ops::Range;

/// The part of an output matrix that one task writes: some rows by index, a range of columns.
///
/// Only [`ScatterBlock::split`] makes these, with no element in two of them.
#[derive(Debug)]
pub(crate) struct ScatterBlock<'a> {
    first: *mut f32,
    stride: usize,
    /// Columns of the whole output.
    cols: usize,
    rows: &'a [u32],
    block: Block,
    columns_end: usize,
    output: PhantomData<&'a mut [f32]>,
}

// SAFETY: no element of the output belongs to two blocks, see `split`.
unsafe impl Send for ScatterBlock<'_> {}
// SAFETY: writing needs `unsafe`, and a block is used by one task.
unsafe impl Sync for ScatterBlock<'_> {}

impl<'a> ScatterBlock<'a> {
    /// Gives each block its own rows and columns of `out`; panels are `nr` columns wide.
    ///
    /// Panics if two blocks could overlap, or a row lies outside of `out`: both are bugs of this crate.
    pub(crate) fn split(
        out: MatrixMut<'a>,
        plan: &'a RoutePlan,
        nr: usize,
        blocks: impl Iterator<Item = Block>,
    ) -> impl Iterator<Item = Self> {
        assert!(plan.batch() <= out.rows(), "{} rows of {}", plan.batch(), out.rows());
        let (cols, stride) = (out.cols(), out.stride());
        let first = out.into_slice().as_mut_ptr();
        let mut before: Option<Block> = None;
        blocks.map(move |block| {
            // The order of a plan is a permutation of 0..batch, so ranges of it that do not overlap name different rows.
            if let Some(before) = &before {
                let apart = block.order.start >= before.order.end;
                let beside = block.order == before.order && block.panels.start >= before.panels.end;
                assert!(apart || beside, "{before:?} overlaps {block:?}");
            }
            before = Some(block.clone());
            Self {
                first,
                stride,
                cols,
                rows: &plan.order()[block.order.clone()],
                columns_end: (block.panels.end * nr).min(cols),
                block,
                output: PhantomData,
            }
        })
    }

    pub(crate) fn block(&self) -> &Block {
        &self.block
    }

    /// The samples of this block, which are rows of the output.
    #[inline(always)]
    pub(crate) fn rows(&self) -> &'a [u32] {
        self.rows
    }

    /// How many of the `nr` columns from `col` on exist; panics if `col` is not of this block.
    #[inline(always)]
    pub(crate) fn check_columns(&self, col: usize, nr: usize) -> usize {
        assert!(col >= self.block.panels.start * nr && col < self.columns_end, "column {col}");
        nr.min(self.columns_end - col)
    }

    /// Columns of the block from `col` on, which was checked.
    #[inline(always)]
    pub(crate) fn columns_from(&self, col: usize) -> usize {
        self.columns_end - col
    }

    /// Asks for the line at column `col` of some rows of the block.
    #[inline(always)]
    pub(crate) fn prefetch<S: Simd>(&self, s: S, rows: Range<usize>, col: usize) {
        for &row in &self.rows[rows] {
            s.prefetch(self.first.wrapping_add(row as usize * self.stride + col));
        }
    }

    /// The `i`-th row of the block: its index in the output, and where column `col` of it lies.
    ///
    /// # Safety
    /// - `i` is less than the number of rows, `col` was checked by [`ScatterBlock::check_columns`]
    #[inline(always)]
    pub(crate) unsafe fn at(&self, i: usize, col: usize) -> (usize, *mut f32) {
        // SAFETY: the caller checked i; rows are below batch, which `split` compared with the output.
        unsafe {
            let row = *self.rows.get_unchecked(i) as usize;
            (row, self.first.add(row * self.stride + col))
        }
    }
}

/// What a product does to a vector of sums before it is stored.
pub(crate) trait Epilogue: Copy + Sync {
    /// Panics unless all that [`Epilogue::apply`] reads for the panel at `col` is there.
    fn check(&self, out: &ScatterBlock<'_>, col: usize, nr: usize);

    /// # Safety
    /// - `check` passed for the panel of `col`; columns `col..col + n` exist in row `row` of the output
    unsafe fn apply<S: Simd>(&self, s: S, row: usize, col: usize, n: usize, v: S::V) -> S::V;
}

/// `f(acc + bias)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activate<'a> {
    /// The padded bias of the area.
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) relu: bool,
}

impl Epilogue for Activate<'_> {
    #[inline(always)]
    fn check(&self, _: &ScatterBlock<'_>, col: usize, nr: usize) {
        assert!(self.bias.is_none_or(|b| b.len() >= col + nr), "bias at column {col}");
    }

    #[inline(always)]
    unsafe fn apply<S: Simd>(&self, s: S, _: usize, col: usize, _: usize, v: S::V) -> S::V {
        let v = match self.bias {
            // SAFETY: `check` found a whole panel of bias at the start of these columns.
            Some(bias) => s.add(v, unsafe { s.load(bias.as_ptr().add(col)) }),
            None => v,
        };
        if self.relu { s.relu(v) } else { v }
    }
}

/// The sums times a factor, then another epilogue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scaled<E> {
    pub(crate) scale: f32,
    pub(crate) then: E,
}

impl<E: Epilogue> Epilogue for Scaled<E> {
    #[inline(always)]
    fn check(&self, out: &ScatterBlock<'_>, col: usize, nr: usize) {
        self.then.check(out, col, nr);
    }

    #[inline(always)]
    unsafe fn apply<S: Simd>(&self, s: S, row: usize, col: usize, n: usize, v: S::V) -> S::V {
        // SAFETY: the caller's promise, passed on.
        unsafe { self.then.apply(s, row, col, n, s.mul(v, s.splat(self.scale))) }
    }
}

/// `acc` where the unit was active, else 0; without `outputs` every unit counts as active.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate<'a> {
    pub(crate) outputs: Option<MatrixRef<'a>>,
}

impl Epilogue for Gate<'_> {
    #[inline(always)]
    fn check(&self, out: &ScatterBlock<'_>, _: usize, _: usize) {
        if let Some(y) = self.outputs {
            assert!(y.cols() == out.cols, "{} columns of {}", y.cols(), out.cols);
            debug_assert!(out.rows.iter().all(|&r| (r as usize) < y.rows()));
        }
    }

    #[inline(always)]
    unsafe fn apply<S: Simd>(&self, s: S, row: usize, col: usize, n: usize, v: S::V) -> S::V {
        let Some(y) = self.outputs else { return v };
        let y = &y.row(row)[col..col + n];
        let gate = if n == S::LANES {
            // SAFETY: the slice holds n = LANES values.
            unsafe { s.load(y.as_ptr()) }
        } else {
            // SAFETY: the slice holds n values.
            unsafe { s.load_first(y.as_ptr(), n) }
        };
        s.where_positive(gate, v)
    }
}

/// How a vector of gradient sums changes the weights under it.
pub(crate) trait Rule: Copy {
    /// Weights that the rule may change.
    fn len(&self) -> usize;

    /// The first of them.
    fn first(&self) -> *const f32;

    /// # Safety
    /// - `at + S::LANES <= self.len()`, and no other rule lives on the same weights
    unsafe fn apply<S: Simd>(&self, s: S, at: usize, sum: S::V);
}

/// A piece of weights with its bounds checked once, so that rules are plain data. Not `Send`: one thread's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    first: *mut f32,
    len: usize,
    weights: PhantomData<&'a mut [f32]>,
}

impl<'a> Piece<'a> {
    pub(crate) fn new(values: &'a mut [f32]) -> Self {
        Self { first: values.as_mut_ptr(), len: values.len(), weights: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// # Safety
    /// - `at + S::LANES <= self.len()`, and no other reference to these values is in use
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd>(&self, s: S, at: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load(self.first.add(at)) }
    }

    /// # Safety
    /// - as for [`Piece::load`]
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd>(&self, s: S, at: usize, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { s.store(self.first.add(at), v) }
    }
}

/// `w = keep * w + sum`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sgd<'a> {
    pub(crate) weights: Piece<'a>,
    pub(crate) keep: f32,
}

impl Rule for Sgd<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.weights.len
    }

    #[inline(always)]
    fn first(&self) -> *const f32 {
        self.weights.first
    }

    #[inline(always)]
    unsafe fn apply<S: Simd>(&self, s: S, at: usize, sum: S::V) {
        // SAFETY: the caller checked `at` against the length of the piece.
        unsafe {
            let w = self.weights.first.add(at);
            s.store(w, s.mul_add(s.splat(self.keep), s.load(w), sum));
        }
    }
}

/// `m = momentum * m + sum;  w = keep * w - lr * m`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Momentum<'a> {
    pub(crate) weights: Piece<'a>,
    pub(crate) first: Piece<'a>,
    pub(crate) keep: f32,
    pub(crate) momentum: f32,
    pub(crate) lr: f32,
}

impl Rule for Momentum<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.weights.len.min(self.first.len)
    }

    #[inline(always)]
    fn first(&self) -> *const f32 {
        self.weights.first
    }

    #[inline(always)]
    unsafe fn apply<S: Simd>(&self, s: S, at: usize, sum: S::V) {
        // SAFETY: the caller checked `at` against the shorter of the two pieces.
        unsafe {
            let (w, m) = (self.weights.first.add(at), self.first.first.add(at));
            let moment = s.mul_add(s.splat(self.momentum), s.load(m), sum);
            s.store(m, moment);
            let kept = s.mul(s.splat(self.keep), s.load(w));
            s.store(w, s.mul_add(s.splat(-self.lr), moment, kept));
        }
    }
}

/// AdamW with the area's own step count folded into `step` and `unbias`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamW<'a> {
    pub(crate) weights: Piece<'a>,
    pub(crate) first: Piece<'a>,
    pub(crate) second: Piece<'a>,
    pub(crate) keep: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    /// `lr / (1 - beta1^t)`.
    pub(crate) step: f32,
    /// `1 / (1 - beta2^t)`.
    pub(crate) unbias: f32,
    pub(crate) eps: f32,
}

impl Rule for AdamW<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.weights.len.min(self.first.len).min(self.second.len)
    }

    #[inline(always)]
    fn first(&self) -> *const f32 {
        self.weights.first
    }

    #[inline(always)]
    unsafe fn apply<S: Simd>(&self, s: S, at: usize, sum: S::V) {
        // SAFETY: the caller checked `at` against the shortest of the three pieces.
        unsafe {
            let w = self.weights.first.add(at);
            let (m, v) = (self.first.first.add(at), self.second.first.add(at));
            let new_part = s.mul(s.splat(1.0 - self.beta1), sum);
            let moment = s.mul_add(s.splat(self.beta1), s.load(m), new_part);
            let new_part = s.mul(s.splat(1.0 - self.beta2), s.mul(sum, sum));
            let square = s.mul_add(s.splat(self.beta2), s.load(v), new_part);
            s.store(m, moment);
            s.store(v, square);
            let root = s.sqrt(s.mul(square, s.splat(self.unbias)));
            let change = s.div(s.mul(s.splat(self.step), moment), s.add(root, s.splat(self.eps)));
            s.store(w, s.sub(s.mul(s.splat(self.keep), s.load(w)), change));
        }
    }
}
