//! x86-64 with AVX-512F: 16 lanes, 32 registers. Tile 12 x 32: 24 sums, 2 weights, 1 input.

use super::{Op, Simd, Tile, WideTile};
use std::arch::x86_64::*;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// A token, made where the compiler knows that the feature is enabled.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn new() -> Self {
        Self(())
    }

    pub(crate) fn detect() -> Option<Self> {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature of `new` was just detected.
            Some(unsafe { Self::new() })
        } else {
            None
        }
    }

    pub(crate) fn enter<O: Op>(self, op: O) -> O::Out {
        #[target_feature(enable = "avx512f")]
        fn door<O: Op>(_proof: Avx512, op: O) -> O::Out {
            op.run(Avx512::new())
        }
        // SAFETY: a token exists only where `detect` found the feature of the door.
        unsafe { door(self, op) }
    }
}

/// A mask whose first `n <= 16` lanes are set.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const REGS: usize = 32;
    const NR: usize = 32;
    const HEIGHTS: &'static [usize] = &[12, 10, 8, 6, 5, 4, 3, 2, 1];
    const SIGNS: usize = 4;
    const ENTRIES: usize = 16;
    const SIGN_TILES: &'static [(usize, usize)] = &[(12, 2), (8, 2), (4, 2), (2, 4), (1, 4)];
    type Signs = __m512i;
    type Key = __m512i;

    #[inline(always)]
    unsafe fn signs(self, words: *const u8) -> __m512i {
        // SAFETY: the token; the caller gives 64 readable bytes.
        unsafe { _mm512_loadu_si512(words.cast()) }
    }

    #[inline(always)]
    fn skip(self, signs: __m512i) -> __m512i {
        // SAFETY: the token.
        unsafe { _mm512_srli_epi32::<4>(signs) }
    }

    // A permutation looks at the lowest four bits of each index only.
    #[inline(always)]
    fn key(self, signs: __m512i) -> __m512i {
        signs
    }

    #[inline(always)]
    fn table(self, errors: &[f32], table: &mut [f32]) {
        assert!(errors.len() == 4 && table.len() == 16, "errors and entries");
        // SAFETY: the token; the table has room for sixteen values.
        unsafe {
            let mut sum = _mm512_setzero_ps();
            for (&e, clear) in errors.iter().zip([0x5555, 0x3333, 0x0f0f, 0x00ff]) {
                let e = _mm512_set1_ps(e);
                sum = _mm512_mask_sub_ps(_mm512_add_ps(sum, e), clear, sum, e);
            }
            _mm512_storeu_ps(table.as_mut_ptr(), sum);
        }
    }

    #[inline(always)]
    unsafe fn add_lookup(self, sum: __m512, table: *const f32, key: __m512i) -> __m512 {
        // SAFETY: the token; the caller gives a table of sixteen values.
        unsafe { _mm512_add_ps(sum, _mm512_permutexvar_ps(key, _mm512_loadu_ps(table))) }
    }

    #[inline(always)]
    fn sign_tile<T: Tile>(self, rows: usize, tile: T) {
        match rows {
            12 => tile.at::<Self, 12, 2>(self),
            8 => tile.at::<Self, 8, 2>(self),
            4 => tile.at::<Self, 4, 2>(self),
            2 => tile.at::<Self, 2, 4>(self),
            _ => tile.at::<Self, 1, 4>(self),
        }
    }

    #[inline(always)]
    fn tall<T: Tile>(self, height: usize, tile: T) {
        match height {
            12 => tile.at::<Self, 12, 2>(self),
            10 => tile.at::<Self, 10, 2>(self),
            8 => tile.at::<Self, 8, 2>(self),
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
            2 => 4,
            3 => 4,
            4 => 2,
            5 => 2,
            6 => 2,
            _ => 1,
        }
    }

    #[inline(always)]
    fn wide<T: WideTile>(self, height: usize, tile: T) {
        match height {
            1 => tile.at::<Self, 1, 2, 4>(self),
            2 => tile.at::<Self, 2, 2, 4>(self),
            3 => tile.at::<Self, 3, 2, 4>(self),
            4 => tile.at::<Self, 4, 2, 2>(self),
            5 => tile.at::<Self, 5, 2, 2>(self),
            6 => tile.at::<Self, 6, 2, 2>(self),
            _ => unreachable!("{height} rows have no tile of several panels"),
        }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the token proves AVX-512F (as in every method below).
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn relu(self, a: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe {
            let keep = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(a, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(keep, a)
        }
    }

    #[inline(always)]
    fn where_positive(self, gate: __m512, a: __m512) -> __m512 {
        // SAFETY: the token.
        unsafe {
            let keep = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(keep, a)
        }
    }

    #[inline(always)]
    fn first_lane(self, a: __m512) -> f32 {
        // SAFETY: the token.
        unsafe { _mm512_cvtss_f32(a) }
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: the token; a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the token; the caller gives sixteen readable values.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: the token; the caller gives room for sixteen values.
        unsafe { _mm512_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> __m512 {
        debug_assert!(n <= 16);
        // SAFETY: the token; lanes that are masked off are not read.
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: __m512, n: usize) {
        debug_assert!(n <= 16);
        // SAFETY: the token; lanes that are masked off are not written.
        unsafe { _mm512_mask_storeu_ps(p, first(n), v) }
    }
}
