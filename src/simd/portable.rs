//! Any CPU: four f32 at a time in plain Rust, which compilers turn into the baseline's vectors (SSE2, for one).

use super::{Op, Simd, Tile, WideTile};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

impl Portable {
    pub(crate) fn enter<O: Op>(self, op: O) -> O::Out {
        op.run(self)
    }
}

#[inline(always)]
fn zip(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    const REGS: usize = 16;
    const NR: usize = 8;
    const HEIGHTS: &'static [usize] = &[4, 3, 2, 1];
    const SIGNS: usize = 4;
    const ENTRIES: usize = 16;
    const SIGN_TILES: &'static [(usize, usize)] = &[(4, 2), (2, 2), (1, 2)];
    type Signs = [u32; 4];
    type Key = [usize; 4];

    #[inline(always)]
    unsafe fn signs(self, words: *const u8) -> [u32; 4] {
        // SAFETY: the caller gives sixteen readable bytes.
        unsafe { words.cast::<[[u8; 4]; 4]>().read() }.map(u32::from_le_bytes)
    }

    #[inline(always)]
    fn skip(self, signs: [u32; 4]) -> [u32; 4] {
        signs.map(|s| s >> 4)
    }

    #[inline(always)]
    fn key(self, signs: [u32; 4]) -> [usize; 4] {
        signs.map(|s| (s & 15) as usize)
    }

    #[inline(always)]
    fn table(self, errors: &[f32], table: &mut [f32]) {
        assert!(errors.len() == 4 && table.len() == 16, "errors and entries");
        table[0] = -errors[0];
        table[1] = errors[0];
        // Each error doubles the table: its sums with `-e` stay where they are, those with `+e` follow.
        for (b, e) in errors.iter().enumerate().skip(1) {
            let (clear, set) = table.split_at_mut(1 << b);
            for (clear, set) in clear.iter_mut().zip(set) {
                (*clear, *set) = (*clear - e, *clear + e);
            }
        }
    }

    #[inline(always)]
    unsafe fn add_lookup(self, sum: [f32; 4], table: *const f32, key: [usize; 4]) -> [f32; 4] {
        // SAFETY: `key` gives numbers below the sixteen values of the table.
        self.add(sum, key.map(|k| unsafe { table.add(k).read() }))
    }

    #[inline(always)]
    fn sign_tile<T: Tile>(self, rows: usize, tile: T) {
        match rows {
            4 => tile.at::<Self, 4, 2>(self),
            2 => tile.at::<Self, 2, 2>(self),
            _ => tile.at::<Self, 1, 2>(self),
        }
    }

    #[inline(always)]
    fn tall<T: Tile>(self, height: usize, tile: T) {
        match height {
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
            _ => 1,
        }
    }

    #[inline(always)]
    fn wide<T: WideTile>(self, height: usize, tile: T) {
        match height {
            1 => tile.at::<Self, 1, 2, 4>(self),
            2 => tile.at::<Self, 2, 2, 2>(self),
            _ => unreachable!("{height} rows have no tile of several panels"),
        }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 4] {
        [x; 4]
    }

    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn sqrt(self, a: [f32; 4]) -> [f32; 4] {
        [a[0].sqrt(), a[1].sqrt(), a[2].sqrt(), a[3].sqrt()]
    }

    // Two roundings: f32::mul_add would call the C library wherever the baseline has no fused instruction.
    #[inline(always)]
    fn mul_add(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        self.add(self.mul(a, b), c)
    }

    #[inline(always)]
    fn relu(self, a: [f32; 4]) -> [f32; 4] {
        zip(a, a, |a, _| if a <= 0.0 { 0.0 } else { a })
    }

    #[inline(always)]
    fn where_positive(self, gate: [f32; 4], a: [f32; 4]) -> [f32; 4] {
        zip(gate, a, |g, a| if g > 0.0 { a } else { 0.0 })
    }

    #[inline(always)]
    fn first_lane(self, a: [f32; 4]) -> f32 {
        a[0]
    }

    // Plain Rust has no word for it; hardware prefetchers do what they can.
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> [f32; 4] {
        // SAFETY: the caller gives four readable values; unaligned reads are allowed.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller gives room for four values.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> [f32; 4] {
        debug_assert!(n <= 4);
        let mut v = [0.0; 4];
        for (i, x) in v.iter_mut().enumerate().take(n) {
            // SAFETY: i < n, and the caller gives n readable values.
            *x = unsafe { p.add(i).read() };
        }
        v
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, v: [f32; 4], n: usize) {
        debug_assert!(n <= 4);
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: i < n, and the caller gives room for n values.
            unsafe { p.add(i).write(x) }
        }
    }
}
