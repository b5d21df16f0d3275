//! Vectors of f32, one trait for four instruction sets, and the choice among them.
//!
//! ```text
//! detect once     Isa::detect()                 a token that proves the CPU's features, held by value
//! enter once      isa.run(op)                   the door: a #[target_feature] function of that ISA
//! inline the rest op.run(s) -> tile -> s.mul_add
//! ```
//! Below the door everything is generic over [`Simd`] and `#[inline(always)]`: that is what lets one source become
//! AVX2 or AVX-512 code. An `#[inline(always)]` that is forgotten still gives right numbers, but turns each
//! intrinsic into a call; `tests/outlined.rs` looks for such calls in the release binary.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::fmt;

/// The vector operations of one instruction set. A value of the implementing type is a token: it exists only where
/// the CPU has the features, so its methods need no further check.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// A register of [`Simd::LANES`] f32 values.
    type V: Copy;
    const LANES: usize;
    /// Vector registers of the machine: what a tile may use.
    const REGS: usize;
    /// Width of a panel of packed weights, in f32 values.
    const NR: usize;
    /// Heights of the register tiles, tallest first, ending with 1.
    const HEIGHTS: &'static [usize];

    fn splat(self, x: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    /// `a * b + c`, fused where the instruction set has it.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `max(a, 0)` that keeps NaN; both zeros give +0.
    fn relu(self, a: Self::V) -> Self::V;
    /// `a` where `gate > 0`, else 0 (also where `gate` is NaN).
    fn where_positive(self, gate: Self::V, a: Self::V) -> Self::V;

    fn first_lane(self, a: Self::V) -> f32;
    /// Asks for the cache line at `p`, which need not be a valid address.
    fn prefetch(self, p: *const f32);

    /// # Safety
    /// - `p` is valid for reads of `LANES` values
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// # Safety
    /// - `p` is valid for writes of `LANES` values
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// The first `n <= LANES` values from memory, zeros after them.
    ///
    /// # Safety
    /// - `p` is valid for reads of `n` values
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V;
    /// # Safety
    /// - `p` is valid for writes of `n <= LANES` values
    unsafe fn store_first(self, p: *mut f32, v: Self::V, n: usize);

    /// The first [`Simd::LANES`] values of a slice; panics if it is shorter.
    #[inline(always)]
    fn load_slice(self, from: &[f32]) -> Self::V {
        let from = &from[..Self::LANES];
        // SAFETY: the slice was just cut to LANES values.
        unsafe { self.load(from.as_ptr()) }
    }

    /// Writes the first [`Simd::LANES`] values of a slice; panics if it is shorter.
    #[inline(always)]
    fn store_slice(self, to: &mut [f32], v: Self::V) {
        let to = &mut to[..Self::LANES];
        // SAFETY: the slice was just cut to LANES values.
        unsafe { self.store(to.as_mut_ptr(), v) }
    }

    /// Rows of signs that one lookup covers: 2 or 4, so that lookups begin with each byte.
    const SIGNS: usize;
    /// Entries of a table: 2^SIGNS sums, or half of them where the other half is their negative.
    const ENTRIES: usize;
    /// Tiles of lookups, rows by vectors of columns, most rows first, ending with one row.
    const SIGN_TILES: &'static [(usize, usize)];
    /// Some rows of signs for each lane, the first row at the lowest bit.
    type Signs: Copy;
    /// Where in its table each lane looks.
    type Key: Copy;

    /// The signs from a byte of the first lane's word on, at least eight rows of them.
    ///
    /// # Safety
    /// - `words` is valid for reads of `4 * LANES` bytes
    unsafe fn signs(self, words: *const u8) -> Self::Signs;
    /// What follows the first `SIGNS` rows.
    fn skip(self, signs: Self::Signs) -> Self::Signs;
    /// The key of the first `SIGNS` rows.
    fn key(self, signs: Self::Signs) -> Self::Key;
    /// Writes the sums of `SIGNS` errors: entry k has `+e` where bit b of k is set and `-e` where it is clear. Where a table
    /// holds half of the sums, the last sign is `+`.
    fn table(self, errors: &[f32], table: &mut [f32]);
    /// `sum` plus, for each lane, the sum `±e0 ±e1 ..` that its key names in a table made by [`Simd::table`].
    ///
    /// # Safety
    /// - `table` is valid for reads of `ENTRIES` values
    unsafe fn add_lookup(self, sum: Self::V, table: *const f32, key: Self::Key) -> Self::V;
    /// Calls `tile` with the shape of [`Simd::SIGN_TILES`] that has this many rows as constants.
    fn sign_tile<T: Tile>(self, rows: usize, tile: T);

    /// Calls `tile` with a height of [`Simd::HEIGHTS`] and this ISA's vectors per panel row as constants.
    fn tall<T: Tile>(self, height: usize, tile: T);

    /// Panels that a tile of this height takes abreast where it is the only one of its rows: few rows leave registers free.
    fn abreast(height: usize) -> usize;

    /// As [`Simd::tall`], with [`Simd::abreast`] panels as a constant, too; heights that have only one may not be asked for.
    fn wide<T: WideTile>(self, height: usize, tile: T);
}

/// One register tile; `H` rows by `NV` vectors are constants by the time it runs.
pub(crate) trait Tile {
    fn at<S: Simd, const H: usize, const NV: usize>(self, s: S);
}

/// A register tile of few rows over `P` panels of `NV` vectors each.
pub(crate) trait WideTile {
    fn at<S: Simd, const H: usize, const NV: usize, const P: usize>(self, s: S);
}

/// A kernel call as data: its arguments are fields, its body is generic over the instruction set.
pub(crate) trait Op {
    type Out;
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// The name of an instruction set that this crate has kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IsaName {
    /// Plain Rust, four f32 at a time, for any CPU.
    Portable,
    /// x86-64 with AVX2 and FMA: 8 lanes, 16 registers.
    Avx2,
    /// x86-64 with AVX-512F: 16 lanes, 32 registers.
    Avx512,
    /// AArch64 with Advanced SIMD: 4 lanes, 32 registers.
    Neon,
}

impl IsaName {
    /// All names, slowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Neon];

    /// The spelling that `SAL_ISA` and `--isa` take.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }
}

impl fmt::Display for IsaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An instruction set was asked for that does not exist or that this CPU lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("instruction set {asked:?} is {reason}; this machine has: {}", join(.available))]
pub struct IsaError {
    asked: String,
    reason: &'static str,
    available: Vec<IsaName>,
}

fn join(names: &[IsaName]) -> String {
    names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ")
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Portable(portable::Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
}

/// An instruction set that this CPU really has: the value proves it, and kernels run through it.
///
/// ```
/// use sal_kernels::Isa;
/// let isa = Isa::detect()?; // the best one, or the one that SAL_ISA names
/// println!("{isa} of {:?}", Isa::available());
/// # Ok::<(), sal_kernels::IsaError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Isa(Kind);

/// Runs `$body` with `$s` bound to the token inside of `$isa`: the one place that lists the instruction sets.
macro_rules! each_isa {
    ($isa:expr, $s:ident => $body:expr) => {
        match $isa.0 {
            Kind::Portable($s) => $body,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2($s) => $body,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512($s) => $body,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon($s) => $body,
        }
    };
}

fn lanes<S: Simd>(_: S) -> usize {
    S::LANES
}

fn nr<S: Simd>(_: S) -> usize {
    S::NR
}

fn heights<S: Simd>(_: S) -> &'static [usize] {
    S::HEIGHTS
}

fn sign_rows<S: Simd>(_: S, rows: usize) -> usize {
    S::SIGN_TILES.iter().map(|&(most, _)| most).find(|&most| most <= rows).unwrap_or(1)
}

impl Isa {
    /// Every instruction set that this CPU can run, slowest first.
    pub fn available() -> Vec<Isa> {
        let mut all = vec![Isa(Kind::Portable(portable::Portable))];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(avx2::Avx2::detect().map(|t| Isa(Kind::Avx2(t))));
            all.extend(avx512::Avx512::detect().map(|t| Isa(Kind::Avx512(t))));
        }
        #[cfg(target_arch = "aarch64")]
        all.extend(neon::Neon::detect().map(|t| Isa(Kind::Neon(t))));
        all
    }

    /// The best instruction set of this CPU, or the one that the environment variable `SAL_ISA` names.
    ///
    /// # Errors
    /// If `SAL_ISA` names an instruction set that does not exist or that this CPU lacks.
    pub fn detect() -> Result<Isa, IsaError> {
        match std::env::var_os("SAL_ISA").filter(|v| !v.is_empty()) {
            Some(name) => Self::from_name(&name.to_string_lossy()),
            None => Ok(*Self::available().last().expect("portable is always there")),
        }
    }

    /// The instruction set of this name, if the CPU has it.
    ///
    /// # Errors
    /// If there is no instruction set of this name, or this CPU lacks it; the error lists what is there.
    pub fn from_name(name: &str) -> Result<Isa, IsaError> {
        let available = Self::available();
        let found = available.iter().find(|isa| isa.name().as_str() == name);
        found.copied().ok_or_else(|| IsaError {
            asked: name.to_owned(),
            reason: if IsaName::ALL.iter().any(|n| n.as_str() == name) {
                "not available on this CPU"
            } else {
                "unknown"
            },
            available: available.iter().map(|isa| isa.name()).collect(),
        })
    }

    /// The CPU features that the kernels ask for, and whether this CPU has them.
    pub fn features() -> Vec<(&'static str, bool)> {
        #[cfg(target_arch = "x86_64")]
        return vec![
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
        ];
        #[cfg(target_arch = "aarch64")]
        return vec![("neon", std::arch::is_aarch64_feature_detected!("neon"))];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        Vec::new()
    }

    /// Its name.
    pub fn name(self) -> IsaName {
        match self.0 {
            Kind::Portable(_) => IsaName::Portable,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => IsaName::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => IsaName::Avx512,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => IsaName::Neon,
        }
    }

    /// f32 values in one vector register.
    pub fn lanes(self) -> usize {
        each_isa!(self, s => lanes(s))
    }

    /// Columns of one panel of packed weights: the width of the register tile.
    pub fn panel_width(self) -> usize {
        each_isa!(self, s => nr(s))
    }

    /// Heights of the register tiles, tallest first.
    pub fn tile_heights(self) -> &'static [usize] {
        each_isa!(self, s => heights(s))
    }

    /// Rows of the tallest tile of lookups that so many rows fill.
    pub(crate) fn sign_rows(self, rows: usize) -> usize {
        each_isa!(self, s => sign_rows(s, rows))
    }

    /// Enters the door of this instruction set, once for a kernel call or a task of it.
    pub(crate) fn run<O: Op>(self, op: O) -> O::Out {
        each_isa!(self, s => s.enter(op))
    }
}

impl PartialEq for Isa {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Isa {}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

#[cfg(test)]
mod tests;
