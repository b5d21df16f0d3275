//! x86-64 with AVX2 and FMA: 8 lanes, 16 registers. Tile 6 x 16: 12 sums, 2 weights, 1 input.

use super::{Op, Simd, Tile, WideTile};
use std::arch::x86_64::*;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// A token, made where the compiler knows that the features are enabled.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn new() -> Self {
        Self(())
    }

    pub(crate) fn detect() -> Option<Self> {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: both features of `new` were just detected.
            Some(unsafe { Self::new() })
        } else {
            None
        }
    }

    pub(crate) fn enter<O: Op>(self, op: O) -> O::Out {
        #[target_feature(enable = "avx2,fma")]
        fn door<O: Op>(_proof: Avx2, op: O) -> O::Out {
            op.run(Avx2::new())
        }
        // SAFETY: a token exists only where `detect` found the features of the door.
        unsafe { door(self, op) }
    }
}

/// A mask whose first `n` lanes are set.
#[inline(always)]
fn first(n: usize) -> __m256i {
    // SAFETY: called by methods of the token only, so AVX2 is there.
    unsafe {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lane)
    }
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const REGS: usize = 16;
    const NR: usize = 16;
    const HEIGHTS: &'static [usize] = &[6, 5, 4, 3, 2, 1];
    // A permutation within the halves of a register is one step, one of the whole register two: four entries beat eight.
    const SIGNS: usize = 2;
    const ENTRIES: usize = 4;
    // Eight sums and no more: from ten on the compiler keeps one of them in memory.
    const SIGN_TILES: &'static [(usize, usize)] = &[(8, 1), (4, 2), (2, 2), (1, 4)];
    type Signs = __m256i;
    type Key = __m256i;

    #[inline(always)]
    unsafe fn signs(self, words: *const u8) -> __m256i {
        // SAFETY: the token; the caller gives 32 readable bytes.
        unsafe { _mm256_loadu_si256(words.cast()) }
    }

    #[inline(always)]
    fn skip(self, signs: __m256i) -> __m256i {
        // SAFETY: the token.
        unsafe { _mm256_srli_epi32::<2>(signs) }
    }

    // Within each half of a register a permutation looks at two bits of each lane.
    #[inline(always)]
    fn key(self, signs: __m256i) -> __m256i {
        signs
    }

    #[inline(always)]
    fn table(self, errors: &[f32], table: &mut [f32]) {
        assert!(errors.len() == 2 && table.len() == 4, "errors and entries");
        // SAFETY: the token; the table has room for four values.
        unsafe {
            let first = _mm_xor_ps(_mm_set1_ps(errors[0]), _mm_setr_ps(-0.0, 0.0, -0.0, 0.0));
            let second = _mm_xor_ps(_mm_set1_ps(errors[1]), _mm_setr_ps(-0.0, -0.0, 0.0, 0.0));
            _mm_storeu_ps(table.as_mut_ptr(), _mm_add_ps(first, second));
        }
    }

    #[inline(always)]
    unsafe fn add_lookup(self, sum: __m256, table: *const f32, key: __m256i) -> __m256 {
        // SAFETY: the token; the caller gives a table of four values.
        unsafe {
            let table = _mm_loadu_ps(table);
            let both = _mm256_set_m128(table, table);
            _mm256_add_ps(sum, _mm256_permutevar_ps(both, key))
        }
    }

    #[inline(always)]
    fn sign_tile<T: Tile>(self, rows: usize, tile: T) {
        match rows {
            8 => tile.at::<Self, 8, 1>(self),
            4 => tile.at::<Self, 4, 2>(self),
            2 => tile.at::<Self, 2, 2>(self),
            _ => tile.at::<Self, 1, 4>(self),
        }
    }

    #[inline(always)]
    fn tall<T: Tile>(self, height: usize, tile: T) {
        match height {
            6 => tile.at::<Self, 6, 2>(self),
            5 => tile.at::<Self, 5, 2>(self),
            4 => tile.at::<Self, 4, 2>(self),
            3 => tile.at::<Self, 3, 2>(self),
            2 => tile.at::<Self, 2, 2>(self),
            _ => tile.at::<Self, 1, 2>(self),
        }
    }

    #[inline(always)]
    fn abreast(height: usize) -> usize {
        match height {
            1 => 4,
            2 => 2,
            3 => 2,
            _ => 1,
        }
    }

    #[inline(always)]
    fn wide<T: WideTile>(self, height: usize, tile: T) {
        match height {
            1 => tile.at::<Self, 1, 2, 4>(self),
            2 => tile.at::<Self, 2, 2, 2>(self),
            3 => tile.at::<Self, 3, 2, 2>(self),
            _ => unreachable!("{height} rows have no tile of several panels"),
        }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: the token proves AVX2 (as in every method below).
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_sqrt_ps(a) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the token proves FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn relu(self, a: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(a, _mm256_setzero_ps()), a) }
    }

    #[inline(always)]
    fn where_positive(self, gate: __m256, a: __m256) -> __m256 {
        // SAFETY: the token.
        unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(gate, _mm256_setzero_ps()), a) }
    }

    #[inline(always)]
    fn first_lane(self, a: __m256) -> f32 {
        // SAFETY: the token.
        unsafe { _mm256_cvtss_f32(a) }
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: the token; a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: the token; the caller gives eight readable values.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        // SAFETY: the token; the caller gives room for eight values.
        unsafe { _mm256_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> __m256 {
        debug_assert!(n <= 8);
        // SAFETY: the token; lanes that are masked off are not read.
        unsafe { _mm256_maskload_ps(p, first(n)) }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: __m256, n: usize) {
        debug_assert!(n <= 8);
        // SAFETY: the token; lanes that are masked off are not written.
        unsafe { _mm256_maskstore_ps(p, first(n), v) }
    }
}
