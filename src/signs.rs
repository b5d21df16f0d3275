//! One-bit matrices: every entry is `+scale` or `-scale`, packed for lookup.
//!
//! ```text
//! F[area][i][j] = scale where the bit is set, else -scale         i < d_in, j < d_out
//! bytes[area][strip][w][lane][4]    rows 32 w .. 32 w + 32 of column strip * LANES + lane, row 32 w at the lowest bit
//! ```
//! A strip is one vector register wide, so that a kernel reads one stream for each vector of its tile. 1/32 of the memory
//! of f32. A kernel takes the bits of a few rows at once as an index into a table of the sums `±e0 ±e1 ..`, which is less
//! work than multiplying: see `simd::Simd::add_lookup`. Bits beyond the last row or column are clear, and kernels meet
//! them with errors that are zero, or do not store what they give.

use crate::matrix::{LayoutError, checked_len, filled, padded_columns};
use crate::random::Stream;
use crate::simd::Isa;

/// Rows in one word: the bits of one lane in one vector.
pub(crate) const WORD: usize = 32;

/// Bytes of one word.
pub(crate) const WORD_BYTES: usize = 4;

/// `areas` matrices of `d_in` x `d_out` signs with one scale, packed for one instruction set.
///
/// ```
/// use sal_kernels::{Isa, Signs};
/// let f = Signs::from_row_major(Isa::detect()?, 1, 2, 2, 0.5, &[1.0, -3.0, -0.0, 0.0])?;
/// assert_eq!(f.to_row_major(), [0.5, -0.5, -0.5, 0.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Signs {
    bytes: Vec<u8>,
    isa: Isa,
    areas: usize,
    d_in: usize,
    d_out: usize,
    scale: f32,
}

impl Signs {
    /// All entries `-scale`.
    ///
    /// # Errors
    /// If the size does not fit in the address space or in memory.
    fn clear(
        isa: Isa,
        areas: usize,
        d_in: usize,
        d_out: usize,
        scale: f32,
    ) -> Result<Self, LayoutError> {
        let columns = padded_columns("signs", (areas, d_in, d_out), isa.panel_width())?;
        // Kernels read whole words from any byte on, so the last one is followed by another.
        let words = areas * columns * d_in.div_ceil(WORD) + 1;
        let bytes = filled("signs", words * WORD_BYTES, 0)?;
        Ok(Self { bytes, isa, areas, d_in, d_out, scale })
    }

    /// The signs of `values`, which hold `areas * d_in * d_out` elements in row-major order: `scale` where the sign bit
    /// is clear (so for +0, too), `-scale` where it is set.
    ///
    /// # Errors
    /// If the length is another, or the size does not fit in memory.
    pub fn from_row_major(
        isa: Isa,
        areas: usize,
        d_in: usize,
        d_out: usize,
        scale: f32,
        values: &[f32],
    ) -> Result<Self, LayoutError> {
        let want = checked_len("signs", &[areas, d_in, d_out])?;
        if values.len() != want {
            return Err(LayoutError::Length { what: "signs", got: values.len(), want });
        }
        let mut signs = Self::clear(isa, areas, d_in, d_out, scale)?;
        let mut values = values.iter();
        signs.fill(|_| values.next().is_some_and(|v| v.is_sign_positive()));
        Ok(signs)
    }

    /// Fair coins from the named stream of each area: the same bits on every instruction set.
    ///
    /// # Errors
    /// If the size does not fit in memory.
    pub fn random(
        isa: Isa,
        areas: usize,
        d_in: usize,
        d_out: usize,
        scale: f32,
        (seed, layer): (u64, u32),
    ) -> Result<Self, LayoutError> {
        let mut signs = Self::clear(isa, areas, d_in, d_out, scale)?;
        let mut area = 0;
        let mut stream = Stream::new(seed, layer, 0, "signs");
        signs.fill(|of| {
            if of != area {
                (area, stream) = (of, Stream::new(seed, layer, of as u32, "signs"));
            }
            stream.coin()
        });
        Ok(signs)
    }

    /// Sets each bit to `bit(area)`, asked for in row-major order.
    fn fill(&mut self, mut bit: impl FnMut(usize) -> bool) {
        for area in 0..self.areas {
            for i in 0..self.d_in {
                for j in 0..self.d_out {
                    let at = self.index(area, i, j);
                    self.bytes[at] |= u8::from(bit(area)) << (i % 8);
                }
            }
        }
    }

    /// All entries in row-major order: `[area][i][j]`.
    pub fn to_row_major(&self) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.areas * self.d_in * self.d_out);
        for area in 0..self.areas {
            for i in 0..self.d_in {
                out.extend((0..self.d_out).map(|j| {
                    let set = self.bytes[self.index(area, i, j)] >> (i % 8) & 1 == 1;
                    if set { self.scale } else { -self.scale }
                }));
            }
        }
        out
    }

    /// The byte that holds entry (i, j).
    fn index(&self, area: usize, i: usize, j: usize) -> usize {
        let lanes = self.isa.lanes();
        let word = (j / lanes * self.depth_words() + i / WORD) * lanes + j % lanes;
        area * self.area_bytes() + word * WORD_BYTES + i % WORD / 8
    }

    /// The instruction set that these signs are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Number of areas.
    pub fn areas(&self) -> usize {
        self.areas
    }

    /// Rows of one area's matrix: the width of the errors that come in.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Columns of one area's matrix: the width of the layer.
    pub fn d_out(&self) -> usize {
        self.d_out
    }

    /// Magnitude of every entry.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Panels of one area.
    pub(crate) fn panels(&self) -> usize {
        self.d_out.div_ceil(self.isa.panel_width())
    }

    /// Words that the depth takes.
    fn depth_words(&self) -> usize {
        self.d_in.div_ceil(WORD)
    }

    fn area_bytes(&self) -> usize {
        self.panels() * self.isa.panel_width() * self.depth_words() * WORD_BYTES
    }

    /// The signs of one area, strip by strip, and one word more.
    pub(crate) fn area(&self, area: usize) -> &[u8] {
        let len = self.area_bytes();
        &self.bytes[area * len..][..len + WORD_BYTES]
    }

    /// Copies the signs of area `from` to area `to`.
    ///
    /// # Errors
    /// If there is no such area.
    pub fn copy_area(&mut self, from: usize, to: usize) -> Result<(), LayoutError> {
        let len = self.areas;
        if let Some(got) = [from, to].into_iter().find(|&area| area >= len) {
            return Err(LayoutError::Index { what: "area", got, len });
        }
        let bytes = self.area_bytes();
        self.bytes.copy_within(from * bytes..(from + 1) * bytes, to * bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packing_is_undone_by_unpacking(areas in 0usize..3, d_in in 0usize..70, d_out in 0usize..70) {
            let mut stream = Stream::new(1, 0, 0, "test");
            let values: Vec<f32> = (0..areas * d_in * d_out).map(|_| stream.normal()).collect();
            let want: Vec<f32> = values.iter().map(|v| 0.25f32.copysign(*v)).collect();
            for isa in Isa::available() {
                let f = Signs::from_row_major(isa, areas, d_in, d_out, 0.25, &values).unwrap();
                prop_assert_eq!(&f.to_row_major(), &want);
            }
        }
    }

    #[test]
    fn random_signs_are_fair_and_the_same_on_every_instruction_set() {
        let of = |isa| Signs::random(isa, 2, 100, 100, 1.0, (7, 3)).unwrap().to_row_major();
        let first = of(Isa::available()[0]);
        for isa in Isa::available() {
            assert_eq!(of(isa), first, "{isa}");
        }
        let sum: f32 = first.iter().sum();
        assert!(sum.abs() < 5.0 * (first.len() as f32).sqrt(), "{sum}"); // five standard deviations
        assert_ne!(first[..10_000], first[10_000..], "areas have their own streams");
    }

    #[test]
    fn sizes_are_checked() {
        let isa = Isa::detect().unwrap();
        assert!(Signs::random(isa, usize::MAX, 2, 2, 1.0, (0, 0)).is_err());
        assert!(Signs::from_row_major(isa, 1, 2, 2, 1.0, &[0.0; 3]).is_err());
    }

    #[test]
    fn a_copied_area_is_the_area_and_its_neighbour_stays() {
        for isa in Isa::available() {
            let mut f = Signs::random(isa, 3, 40, 37, 1.0, (1, 0)).unwrap();
            let before = f.to_row_major();
            let areas: Vec<&[f32]> = before.chunks(40 * 37).collect();
            f.copy_area(0, 2).unwrap();
            assert_eq!(f.to_row_major(), [areas[0], areas[1], areas[0]].concat(), "{isa}");
            for (from, to) in [(0, 3), (3, 0)] {
                let error = LayoutError::Index { what: "area", got: 3, len: 3 };
                assert_eq!(f.copy_area(from, to), Err(error));
            }
        }
    }
}
