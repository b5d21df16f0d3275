//! AArch64 with Advanced SIMD: 4 lanes, 32 registers. Tile 6 x 16: 24 sums, 4 weights, 1 input.

use super::{Op, Simd, Tile, WideTile};
use std::arch::aarch64::*;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// A token, made where the compiler knows that the feature is enabled.
    #[target_feature(enable = "neon")]
    #[inline]
    fn new() -> Self {
        Self(())
    }

    pub(crate) fn detect() -> Option<Self> {
        if std::arch::is_aarch64_feature_detected!("neon") {
            // SAFETY: the feature of `new` was just detected.
            Some(unsafe { Self::new() })
        } else {
            None
        }
    }

    pub(crate) fn enter<O: Op>(self, op: O) -> O::Out {
        #[target_feature(enable = "neon")]
        fn door<O: Op>(_proof: Neon, op: O) -> O::Out {
            op.run(Neon::new())
        }
        // SAFETY: a token exists only where `detect` found the feature of the door.
        unsafe { door(self, op) }
    }
}

impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const REGS: usize = 32;
    const NR: usize = 16;
    const HEIGHTS: &'static [usize] = &[6, 5, 4, 3, 2, 1];
    const SIGNS: usize = 4;
    const ENTRIES: usize = 8;
    // Sums, keys of two registers, a table of two, and five constants.
    const SIGN_TILES: &'static [(usize, usize)] = &[(8, 2), (4, 2), (2, 4), (1, 4)];
    type Signs = uint32x4_t;
    /// Bytes to take from the 32 of a table, and the factor 1 or -1.
    type Key = (uint8x16_t, float32x4_t);

    #[inline(always)]
    unsafe fn signs(self, words: *const u8) -> uint32x4_t {
        // SAFETY: the token; the caller gives sixteen readable bytes.
        unsafe { vreinterpretq_u32_u8(vld1q_u8(words)) }
    }

    #[inline(always)]
    fn skip(self, signs: uint32x4_t) -> uint32x4_t {
        // SAFETY: the token.
        unsafe { vshrq_n_u32::<4>(signs) }
    }

    // The table has the sums whose fourth sign is +; a clear fourth bit takes the negative of the opposite sum.
    #[inline(always)]
    fn key(self, signs: uint32x4_t) -> (uint8x16_t, float32x4_t) {
        // SAFETY: the token.
        unsafe {
            let fourth = vdupq_n_u32(8);
            let opposite = vceqzq_u32(vandq_u32(signs, fourth));
            let entry = vandq_u32(veorq_u32(signs, opposite), vdupq_n_u32(7));
            // Entry k is bytes 4 k .. 4 k + 4.
            let bytes = vmlaq_u32(vdupq_n_u32(0x0302_0100), entry, vdupq_n_u32(0x0404_0404));
            let factor = vbslq_f32(opposite, vdupq_n_f32(-1.0), vdupq_n_f32(1.0));
            (vreinterpretq_u8_u32(bytes), factor)
        }
    }

    #[inline(always)]
    fn table(self, errors: &[f32], table: &mut [f32]) {
        assert!(errors.len() == 4 && table.len() == 8, "errors and entries");
        let (first, second) = ([-1.0, 1.0, -1.0, 1.0], [-1.0, -1.0, 1.0, 1.0]);
        // SAFETY: the token; the arrays hold four values, and the table has room for eight.
        unsafe {
            let sum = vmulq_n_f32(vld1q_f32(first.as_ptr()), errors[0]);
            let sum = vfmaq_n_f32(sum, vld1q_f32(second.as_ptr()), errors[1]);
            let third = vdupq_n_f32(errors[2]);
            let fourth = vdupq_n_f32(errors[3]);
            vst1q_f32(table.as_mut_ptr(), vaddq_f32(vsubq_f32(sum, third), fourth));
            vst1q_f32(table.as_mut_ptr().add(4), vaddq_f32(vaddq_f32(sum, third), fourth));
        }
    }

    #[inline(always)]
    unsafe fn add_lookup(
        self,
        sum: float32x4_t,
        table: *const f32,
        (bytes, factor): (uint8x16_t, float32x4_t),
    ) -> float32x4_t {
        // SAFETY: the token; the caller gives a table of eight values.
        unsafe {
            let low = vreinterpretq_u8_f32(vld1q_f32(table));
            let high = vreinterpretq_u8_f32(vld1q_f32(table.add(4)));
            let sums = vqtbl2q_u8(uint8x16x2_t(low, high), bytes);
            vfmaq_f32(sum, vreinterpretq_f32_u8(sums), factor)
        }
    }

    #[inline(always)]
    fn sign_tile<T: Tile>(self, rows: usize, tile: T) {
        match rows {
            8 => tile.at::<Self, 8, 2>(self),
            4 => tile.at::<Self, 4, 2>(self),
            2 => tile.at::<Self, 2, 4>(self),
            _ => tile.at::<Self, 1, 4>(self),
        }
    }

    #[inline(always)]
    fn tall<T: Tile>(self, height: usize, tile: T) {
        match height {
            6 => tile.at::<Self, 6, 4>(self),
            5 => tile.at::<Self, 5, 4>(self),
            4 => tile.at::<Self, 4, 4>(self),
            3 => tile.at::<Self, 3, 4>(self),
            2 => tile.at::<Self, 2, 4>(self),
            _ => tile.at::<Self, 1, 4>(self),
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
            1 => tile.at::<Self, 1, 4, 4>(self),
            2 => tile.at::<Self, 2, 4, 2>(self),
            3 => tile.at::<Self, 3, 4, 2>(self),
            _ => unreachable!("{height} rows have no tile of several panels"),
        }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: the token proves NEON (as in every method below).
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: the token.
        unsafe { vsqrtq_f32(a) }
    }

    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the token.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn relu(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: the token.
        unsafe {
            let drop = vcleq_f32(a, vdupq_n_f32(0.0));
            vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), drop))
        }
    }

    #[inline(always)]
    fn where_positive(self, gate: float32x4_t, a: float32x4_t) -> float32x4_t {
        // SAFETY: the token.
        unsafe {
            let keep = vcgtq_f32(gate, vdupq_n_f32(0.0));
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), keep))
        }
    }

    #[inline(always)]
    fn first_lane(self, a: float32x4_t) -> f32 {
        // SAFETY: the token.
        unsafe { vgetq_lane_f32::<0>(a) }
    }

    // The intrinsic is not stable.
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> float32x4_t {
        // SAFETY: the token; the caller gives four readable values.
        unsafe { vld1q_f32(p) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: float32x4_t) {
        // SAFETY: the token; the caller gives room for four values.
        unsafe { vst1q_f32(p, v) }
    }

    // NEON has no masked memory access: tails go value by value.
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> float32x4_t {
        debug_assert!(n <= 4);
        let mut v = [0.0f32; 4];
        for (i, x) in v.iter_mut().enumerate().take(n) {
            // SAFETY: i < n, and the caller gives n readable values.
            *x = unsafe { p.add(i).read() };
        }
        // SAFETY: the token; `v` holds four values.
        unsafe { vld1q_f32(v.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: float32x4_t, n: usize) {
        debug_assert!(n <= 4);
        let mut lanes = [0.0f32; 4];
        // SAFETY: the token; `lanes` has room for four values.
        unsafe { vst1q_f32(lanes.as_mut_ptr(), v) };
        for (i, x) in lanes.into_iter().enumerate().take(n) {
            // SAFETY: i < n, and the caller gives room for n values.
            unsafe { p.add(i).write(x) }
        }
    }
}
