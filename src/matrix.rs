//! Row-major f32 matrices: an owned one, aligned to a cache line, and two views with a row stride.
//!
//! ```text
//! element (r, c) of a view lies at  data[r * stride + c],   c < cols <= stride
//! a view needs                      (rows - 1) * stride + cols   elements, none for an empty shape
//! ```
//! Every size is checked here, once, when the matrix or view is made; kernels trust it from then on.

use aligned_vec::{AVec, ConstAlign};

/// Alignment of every owned buffer in bytes: one cache line, and the widest vector register.
pub(crate) const ALIGN: usize = 64;

/// Most f32 values of one buffer: their bytes fit in an `isize`.
const MAX_LEN: usize = isize::MAX as usize / size_of::<f32>();

/// A buffer of f32 that starts on a cache line.
pub(crate) type Aligned = AVec<f32, ConstAlign<ALIGN>>;

/// What is wrong with a size, a stride or a list of areas.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A product of dimensions does not fit in the address space.
    #[error("{what}: {dims:?} elements do not fit in the address space")]
    TooLarge {
        /// The tensor.
        what: &'static str,
        /// The dimensions whose product is too large.
        dims: Vec<usize>,
    },
    /// The system has no memory for a buffer of this size.
    #[error("{what}: no memory for {elements} f32 values")]
    OutOfMemory {
        /// The tensor.
        what: &'static str,
        /// Number of elements asked for.
        elements: usize,
    },
    /// A slice has another length than its shape asks for.
    #[error("{what}: got {got} elements, want {want}")]
    Length {
        /// The tensor.
        what: &'static str,
        /// Elements given.
        got: usize,
        /// Elements that the shape asks for.
        want: usize,
    },
    /// Rows would overlap.
    #[error("{what}: row stride {stride} is smaller than the {cols} columns")]
    Stride {
        /// The tensor.
        what: &'static str,
        /// The stride given.
        stride: usize,
        /// The columns it has to hold.
        cols: usize,
    },
    /// A sample was sent to an area that does not exist.
    #[error("area of sample {sample}: got {got}, want less than {areas}")]
    Area {
        /// Index of the sample in the batch.
        sample: usize,
        /// The area given.
        got: u32,
        /// Number of areas.
        areas: usize,
    },
    /// More samples or areas than a plan can index (32 bits).
    #[error("{what}: got {got}, want at most {max}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The count given.
        got: usize,
        /// The largest count that is supported.
        max: usize,
    },
    /// An index lies outside of a tensor.
    #[error("{what}: got index {got}, want less than {len}")]
    Index {
        /// What is indexed.
        what: &'static str,
        /// The index given.
        got: usize,
        /// Number of valid indices.
        len: usize,
    },
}

/// Product of dimensions, as a number of f32 elements whose bytes fit in an `isize`.
pub(crate) fn checked_len(what: &'static str, dims: &[usize]) -> Result<usize, LayoutError> {
    // A zero anywhere makes the tensor empty, but an overflow before it would depend on the order.
    if dims.contains(&0) {
        return Ok(0);
    }
    dims.iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= MAX_LEN)
        .ok_or_else(|| LayoutError::TooLarge { what, dims: dims.to_vec() })
}

/// A zeroed, aligned buffer; an error instead of an abort when the system has no memory for it.
pub(crate) fn zeroed(what: &'static str, len: usize) -> Result<Aligned, LayoutError> {
    let mut data = Aligned::new(ALIGN);
    data.try_reserve_exact(len).map_err(|_| LayoutError::OutOfMemory { what, elements: len })?;
    data.resize(len, 0.0);
    Ok(data)
}

/// A buffer of `len` copies of `value`; an error instead of an abort when the system has no memory for it.
pub(crate) fn filled<T: Clone>(
    what: &'static str,
    len: usize,
    value: T,
) -> Result<Vec<T>, LayoutError> {
    let mut data = Vec::new();
    data.try_reserve_exact(len).map_err(|_| LayoutError::OutOfMemory { what, elements: len })?;
    data.resize(len, value);
    Ok(data)
}

/// Columns that `d_out` take in panels `nr` wide. Checks that `areas` matrices of `d_in` rows fit in the address space, with
/// every zero counted as one, so that no getter of an empty tensor overflows either.
pub(crate) fn padded_columns(
    what: &'static str,
    (areas, d_in, d_out): (usize, usize, usize),
    nr: usize,
) -> Result<usize, LayoutError> {
    let columns = checked_len(what, &[d_out.div_ceil(nr).max(1), nr])?;
    checked_len(what, &[areas.max(1), columns, d_in.max(1)])?;
    Ok(d_out.div_ceil(nr) * nr)
}

/// Whether `got` elements are enough for a view of this shape.
fn check_view(got: usize, rows: usize, cols: usize, stride: usize) -> Result<(), LayoutError> {
    let what = "view";
    if stride < cols {
        return Err(LayoutError::Stride { what, stride, cols });
    }
    if rows == 0 || cols == 0 {
        return Ok(());
    }
    let before_last = checked_len(what, &[rows - 1, stride])?;
    let want = before_last
        .checked_add(cols)
        .filter(|&n| n <= MAX_LEN)
        .ok_or_else(|| LayoutError::TooLarge { what, dims: vec![rows, stride] })?;
    if got < want { Err(LayoutError::Length { what, got, want }) } else { Ok(()) }
}

/// An owned row-major matrix of f32, aligned to 64 bytes, without padding between rows.
///
/// ```
/// use sal_kernels::Matrix;
/// let mut m = Matrix::zeros(2, 3)?;
/// m.row_mut(1)[2] = 5.0;
/// assert_eq!(m.as_slice(), [0.0, 0.0, 0.0, 0.0, 0.0, 5.0]);
/// # Ok::<(), sal_kernels::LayoutError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Matrix {
    data: Aligned,
    rows: usize,
    cols: usize,
}

impl Matrix {
    /// A `rows` x `cols` matrix of zeros.
    ///
    /// # Errors
    /// If the size does not fit in the address space or in memory.
    pub fn zeros(rows: usize, cols: usize) -> Result<Self, LayoutError> {
        let len = checked_len("matrix", &[rows, cols])?;
        Ok(Self { data: zeroed("matrix", len)?, rows, cols })
    }

    /// A copy of `values`, which holds `rows * cols` elements in row-major order.
    ///
    /// # Errors
    /// If the length is not `rows * cols`, or as [`Matrix::zeros`].
    pub fn from_slice(rows: usize, cols: usize, values: &[f32]) -> Result<Self, LayoutError> {
        let want = checked_len("matrix", &[rows, cols])?;
        if values.len() != want {
            return Err(LayoutError::Length { what: "matrix", got: values.len(), want });
        }
        let mut m = Self::zeros(rows, cols)?;
        m.data.copy_from_slice(values);
        Ok(m)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All elements in row-major order.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }

    /// All elements in row-major order.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Row `r`; panics if there is no such row.
    pub fn row(&self, r: usize) -> &[f32] {
        &self.data[r * self.cols..][..self.cols]
    }

    /// Row `r`; panics if there is no such row.
    pub fn row_mut(&mut self, r: usize) -> &mut [f32] {
        &mut self.data[r * self.cols..][..self.cols]
    }

    /// A read-only view of the whole matrix.
    pub fn view(&self) -> MatrixRef<'_> {
        MatrixRef { data: &self.data, rows: self.rows, cols: self.cols, stride: self.cols }
    }

    /// A view of the whole matrix that a verb may write.
    pub fn view_mut(&mut self) -> MatrixMut<'_> {
        MatrixMut { rows: self.rows, cols: self.cols, stride: self.cols, data: &mut self.data }
    }

    /// Changes the number of rows, keeping the memory where it is large enough; contents are unspecified.
    ///
    /// # Errors
    /// As [`Matrix::zeros`].
    pub fn set_rows(&mut self, rows: usize) -> Result<(), LayoutError> {
        let len = checked_len("matrix", &[rows, self.cols])?;
        if len > self.data.len() {
            let more = len - self.data.len();
            self.data
                .try_reserve_exact(more)
                .map_err(|_| LayoutError::OutOfMemory { what: "matrix", elements: len })?;
        }
        self.data.resize(len, 0.0);
        self.rows = rows;
        Ok(())
    }
}

/// A read-only view of rows that lie `stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub struct MatrixRef<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a> MatrixRef<'a> {
    /// A view of `data` as `rows` x `cols` without padding between rows.
    ///
    /// # Errors
    /// If `data` is shorter than the shape asks for, or the size overflows.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Result<Self, LayoutError> {
        Self::with_stride(data, rows, cols, cols)
    }

    /// A view whose rows start `stride` elements apart.
    ///
    /// # Errors
    /// If `stride < cols`, `data` is too short for the last row, or the size overflows.
    pub fn with_stride(
        data: &'a [f32],
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Result<Self, LayoutError> {
        check_view(data.len(), rows, cols, stride)?;
        Ok(Self { data, rows, cols, stride })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between the starts of two rows, in elements.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `r`; panics if there is no such row.
    #[inline(always)]
    pub fn row(&self, r: usize) -> &'a [f32] {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        if self.cols == 0 { &[] } else { &self.data[r * self.stride..][..self.cols] }
    }
}

/// A view of rows that lie `stride` elements apart, which a verb may write.
///
/// Only the `cols` elements of each row are written; what lies between rows stays as it was.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A view of `data` as `rows` x `cols` without padding between rows.
    ///
    /// # Errors
    /// As [`MatrixRef::new`].
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Result<Self, LayoutError> {
        Self::with_stride(data, rows, cols, cols)
    }

    /// A view whose rows start `stride` elements apart.
    ///
    /// # Errors
    /// As [`MatrixRef::with_stride`].
    pub fn with_stride(
        data: &'a mut [f32],
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Result<Self, LayoutError> {
        check_view(data.len(), rows, cols, stride)?;
        Ok(Self { data, rows, cols, stride })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between the starts of two rows, in elements.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `r`; panics if there is no such row.
    pub fn row_mut(&mut self, r: usize) -> &mut [f32] {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        if self.cols == 0 { &mut [] } else { &mut self.data[r * self.stride..][..self.cols] }
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> MatrixMut<'_> {
        MatrixMut { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// The same view, read-only.
    pub fn as_ref(&self) -> MatrixRef<'_> {
        MatrixRef { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// The elements under the view, with whatever lies between its rows.
    pub(crate) fn into_slice(self) -> &'a mut [f32] {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_overflow_are_errors() {
        let huge = [1 << 31, 1 << 32, 1 << 33, usize::MAX / 2 + 1, usize::MAX];
        for &a in &huge {
            for &b in &huge {
                assert!(Matrix::zeros(a, b).is_err(), "{a} x {b}");
                assert!(MatrixRef::new(&[], a, b).is_err(), "{a} x {b}");
                assert!(MatrixRef::with_stride(&[], a, 1, b).is_err(), "{a} x 1, stride {b}");
                assert!(MatrixMut::with_stride(&mut [], a, b, usize::MAX).is_err());
            }
            assert_eq!(Matrix::zeros(a, 0).unwrap().as_slice().len(), 0);
            assert_eq!(Matrix::zeros(0, a).unwrap().as_slice().len(), 0);
        }
    }

    #[test]
    fn a_view_reaches_its_last_element_and_no_further() {
        let data = [0.0; 11];
        assert!(MatrixRef::with_stride(&data, 3, 3, 4).is_ok()); // 2 * 4 + 3 = 11
        assert!(MatrixRef::with_stride(&data[..10], 3, 3, 4).is_err());
        assert!(matches!(
            MatrixRef::with_stride(&data, 2, 5, 4),
            Err(LayoutError::Stride { stride: 4, cols: 5, .. })
        ));
    }

    #[test]
    fn owned_matrices_start_on_a_cache_line() {
        for n in [1, 7, 64, 1000] {
            let m = Matrix::zeros(n, 3).unwrap();
            assert_eq!(m.as_slice().as_ptr() as usize % ALIGN, 0);
        }
    }
}
