//! The peers: libraries that multiply matrices, behind one door.
//!
//! ```text
//! C  = alpha A B          A (m, depth), B (depth, n): row-major, or the transpose of a row-major matrix
//! C += alpha A B          C (m, n): row-major
//! ```
//! [`Product`] checks its shapes once, so an implementation of [`Peer`] only translates a call.

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use libloading::Library;
use std::ffi::c_int;

/// A matrix without gaps, seen as it lies or transposed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    transposed: bool,
}

impl<'a> View<'a> {
    /// `rows` x `cols`, row-major; panics if `data` has another length.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "elements of a {rows} x {cols} matrix");
        Self { data, rows, cols, transposed: false }
    }

    /// Its transpose, in the same memory.
    pub(crate) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }

    /// Elements from one row, or one column, to the next.
    fn leading(&self) -> usize {
        if self.transposed { self.rows } else { self.cols }
    }

    /// (row stride, column stride).
    fn strides(&self) -> (isize, isize) {
        let leading = self.leading() as isize;
        if self.transposed { (1, leading) } else { (leading, 1) }
    }

    fn faer(&self) -> MatRef<'a, f32> {
        if self.transposed {
            MatRef::from_column_major_slice(self.data, self.rows, self.cols)
        } else {
            MatRef::from_row_major_slice(self.data, self.rows, self.cols)
        }
    }
}

/// One product, its shapes checked.
#[derive(Debug)]
pub(crate) struct Product<'a> {
    alpha: f32,
    a: View<'a>,
    b: View<'a>,
    add: bool,
    c: &'a mut [f32],
}

impl<'a> Product<'a> {
    fn new(alpha: f32, a: View<'a>, b: View<'a>, add: bool, c: &'a mut [f32]) -> Self {
        assert_eq!(a.cols, b.rows, "depth");
        assert_eq!(c.len(), a.rows * b.cols, "elements of the result");
        Self { alpha, a, b, add, c }
    }

    /// `c = a b`; panics if shapes do not fit.
    pub(crate) fn set(a: View<'a>, b: View<'a>, c: &'a mut [f32]) -> Self {
        Self::new(1.0, a, b, false, c)
    }

    /// `c += alpha a b`; panics if shapes do not fit.
    pub(crate) fn add(alpha: f32, a: View<'a>, b: View<'a>, c: &'a mut [f32]) -> Self {
        Self::new(alpha, a, b, true, c)
    }

    /// Twice as large.
    #[cfg(test)]
    pub(crate) fn doubled(self) -> Self {
        Self { alpha: 2.0 * self.alpha, ..self }
    }

    /// (m, depth, n).
    fn shape(&self) -> (usize, usize, usize) {
        (self.a.rows, self.a.cols, self.b.cols)
    }

    /// What C is multiplied with before the product is added.
    fn beta(&self) -> f32 {
        if self.add { 1.0 } else { 0.0 }
    }
}

/// A library that multiplies matrices on as many threads as it was made for.
pub(crate) trait Peer: Sync {
    /// Its name in tables.
    fn name(&self) -> &str;

    /// Computes `product`.
    fn multiply(&self, product: Product<'_>);
}

/// `matrixmultiply::sgemm`. Its threads are set by `MATMUL_NUM_THREADS` before its first call.
pub(crate) struct Matrixmultiply;

impl Peer for Matrixmultiply {
    fn name(&self) -> &str {
        "matrixmultiply"
    }

    fn multiply(&self, p: Product<'_>) {
        let ((m, depth, n), beta) = (p.shape(), p.beta());
        let ((ra, ca), (rb, cb)) = (p.a.strides(), p.b.strides());
        let (a, b, c) = (p.a.data.as_ptr(), p.b.data.as_ptr(), p.c.as_mut_ptr());
        // SAFETY: `View` and `Product` have checked that the three slices hold these shapes with these strides, and `c`
        // is borrowed alone.
        unsafe {
            matrixmultiply::sgemm(
                m, depth, n, p.alpha, a, ra, ca, b, rb, cb, beta, c, n as isize, 1,
            );
        }
    }
}

/// `gemm::gemm`.
pub(crate) struct Gemm(gemm::Parallelism);

impl Gemm {
    /// For this number of threads, of the rayon pool that it is called in.
    pub(crate) fn new(threads: usize) -> Self {
        Self(if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) })
    }
}

impl Peer for Gemm {
    fn name(&self) -> &str {
        "gemm"
    }

    fn multiply(&self, p: Product<'_>) {
        let ((m, depth, n), old) = (p.shape(), p.beta());
        let ((ra, ca), (rb, cb)) = (p.a.strides(), p.b.strides());
        let (a, b, c) = (p.a.data.as_ptr(), p.b.data.as_ptr(), p.c.as_mut_ptr());
        let (rc, add, alpha, par) = (n as isize, p.add, p.alpha, self.0);
        // SAFETY: as for matrixmultiply.
        unsafe {
            gemm::gemm(
                m, n, depth, c, 1, rc, add, a, ca, ra, b, cb, rb, old, alpha, false, false, false,
                par,
            );
        }
    }
}

/// `gemmkit::gemm`.
pub(crate) struct Gemmkit(gemmkit::Parallelism);

impl Gemmkit {
    /// For this number of threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self(if threads == 1 {
            gemmkit::Parallelism::Serial
        } else {
            gemmkit::Parallelism::Rayon(threads)
        })
    }
}

impl Peer for Gemmkit {
    fn name(&self) -> &str {
        "gemmkit"
    }

    fn multiply(&self, p: Product<'_>) {
        let ((m, _, n), beta) = (p.shape(), p.beta());
        let view = |v: View<'_>| {
            let (rows, cols) = v.strides();
            (v.rows, v.cols, rows, cols)
        };
        let ((ar, ac, ars, acs), (br, bc, brs, bcs)) = (view(p.a), view(p.b));
        let a = gemmkit::MatRef::new(p.a.data, ar, ac, ars, acs);
        let b = gemmkit::MatRef::new(p.b.data, br, bc, brs, bcs);
        let c = gemmkit::MatMut::from_row_major(p.c, m, n);
        gemmkit::gemm(p.alpha, a, b, beta, c, self.0);
    }
}

/// `faer::linalg::matmul`, which calls private-gemm-x86 where there is one.
pub(crate) struct Faer(Par);

impl Faer {
    /// For this number of threads, of the rayon pool that it is called in.
    pub(crate) fn new(threads: usize) -> Self {
        Self(if threads == 1 { Par::Seq } else { Par::rayon(threads) })
    }
}

impl Peer for Faer {
    fn name(&self) -> &str {
        "faer"
    }

    fn multiply(&self, p: Product<'_>) {
        let (m, _, n) = p.shape();
        let c = MatMut::from_row_major_slice_mut(p.c, m, n);
        let accum = if p.add { Accum::Add } else { Accum::Replace };
        matmul(c, accum, p.a.faer(), p.b.faer(), p.alpha, self.0);
    }
}

/// `cblas_sgemm` with 32-bit integers: order, transposes, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc.
type CblasSgemm = unsafe extern "C" fn(
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    f32,
    *const f32,
    c_int,
    *const f32,
    c_int,
    f32,
    *mut f32,
    c_int,
);

/// Its constants.
const ROW_MAJOR: c_int = 101;
const PLAIN: c_int = 111;
const TRANSPOSED: c_int = 112;

/// A BLAS loaded at run time. Its threads are set by its own environment variables before it is loaded.
pub(crate) struct Blas {
    name: String,
    sgemm: CblasSgemm,
    /// Keeps the code behind `sgemm` in memory.
    _library: Library,
}

impl Blas {
    /// Loads what `spec` names: `name=path` or `name=path:symbol`. Without a symbol, `cblas_sgemm` is tried, then
    /// `scipy_cblas_sgemm`.
    ///
    /// # Errors
    /// If `spec` has another form, or there is no such library or symbol.
    pub(crate) fn load(spec: &str) -> Result<Self, String> {
        let (name, path, symbols) = parse_spec(spec)?;
        // SAFETY: the person who names the library vouches for what it does when it is loaded.
        let library = unsafe { Library::new(path) }.map_err(|e| format!("{name}: {e}"))?;
        // SAFETY: a function of one of these names has the signature of the CBLAS; that integers have 32 bits is said
        // in the help of the flag.
        let find = |symbol: &&str| unsafe { library.get::<CblasSgemm>(*symbol) }.ok().map(|f| *f);
        let sgemm = symbols.iter().find_map(find);
        let sgemm = sgemm.ok_or_else(|| format!("{name}: no symbol {}", symbols.join(" or ")))?;
        Ok(Self { name: name.into(), sgemm, _library: library })
    }
}

/// The name, the path and the symbols to try.
fn parse_spec(spec: &str) -> Result<(&str, &str, Vec<&str>), String> {
    let wrong = || format!("{spec:?}: want name=path or name=path:symbol");
    let (name, rest) = spec.split_once('=').ok_or_else(wrong)?;
    let (path, symbols) = match rest.rsplit_once(':') {
        Some((path, symbol)) => (path, vec![symbol]),
        None => (rest, vec!["cblas_sgemm", "scipy_cblas_sgemm"]),
    };
    let empty = name.is_empty() || path.is_empty() || symbols.contains(&"");
    if empty { Err(wrong()) } else { Ok((name, path, symbols)) }
}

impl Peer for Blas {
    fn name(&self) -> &str {
        &self.name
    }

    fn multiply(&self, p: Product<'_>) {
        let (m, depth, n) = p.shape();
        let int = |x: usize| c_int::try_from(x).expect("dimensions fit in 32 bits");
        let order = |v: &View<'_>| if v.transposed { TRANSPOSED } else { PLAIN };
        let (lda, ldb, ldc) = (int(p.a.leading()), int(p.b.leading()), int(n));
        let (a, b, c) = (p.a.data.as_ptr(), p.b.data.as_ptr(), p.c.as_mut_ptr());
        let (ta, tb, beta) = (order(&p.a), order(&p.b), p.beta());
        let (m, n, k) = (int(m), int(n), int(depth));
        // SAFETY: as for matrixmultiply; the library is loaded as long as `self` lives.
        unsafe {
            (self.sgemm)(ROW_MAJOR, ta, tb, m, n, k, p.alpha, a, lda, b, ldb, beta, c, ldc);
        }
    }
}

/// The peers that are compiled in, for this number of threads.
pub(crate) fn built_in(threads: usize) -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(Matrixmultiply),
        Box::new(Gemm::new(threads)),
        Box::new(Gemmkit::new(threads)),
        Box::new(Faer::new(threads)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every peer, every way that an operand can lie, set and add: exact on small integers.
    #[test]
    fn peers_multiply() {
        let (m, depth, n) = (3, 5, 4);
        let a = |i: usize, p: usize| (i * 2 + p) as f32 - 3.0;
        let b = |p: usize, j: usize| (p + 3 * j) as f32 - 4.0;
        let list = |rows: usize, cols: usize, f: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
            (0..rows * cols).map(|at| f(at / cols, at % cols)).collect()
        };
        let (a_rows, a_cols) = (list(m, depth, &a), list(depth, m, &|p, i| a(i, p)));
        let (b_rows, b_cols) = (list(depth, n, &b), list(n, depth, &|j, p| b(p, j)));
        let product = list(m, n, &|i, j| (0..depth).map(|p| a(i, p) * b(p, j)).sum());
        for threads in [1, 2] {
            for peer in built_in(threads) {
                for a in [View::new(&a_rows, m, depth), View::new(&a_cols, depth, m).t()] {
                    for b in [View::new(&b_rows, depth, n), View::new(&b_cols, n, depth).t()] {
                        let mut c = vec![f32::NAN; m * n]; // must not be read
                        peer.multiply(Product::set(a, b, &mut c));
                        assert_eq!(c, product, "{}", peer.name());
                        peer.multiply(Product::add(-0.5, a, b, &mut c));
                        let half: Vec<f32> = product.iter().map(|x| 0.5 * x).collect();
                        assert_eq!(c, half, "{}", peer.name());
                    }
                }
            }
        }
    }

    #[test]
    fn a_library_is_named_by_path_and_symbol() {
        assert_eq!(parse_spec("mkl=/a/b.so:f"), Ok(("mkl", "/a/b.so", vec!["f"])));
        assert_eq!(parse_spec("o=b.so").unwrap().2, ["cblas_sgemm", "scipy_cblas_sgemm"]);
        for wrong in ["", "mkl", "=b.so", "mkl=", "mkl=:f", "mkl=b.so:"] {
            assert!(parse_spec(wrong).is_err(), "{wrong}");
        }
        assert!(Blas::load("none=no-such-library.so").is_err());
    }
}
