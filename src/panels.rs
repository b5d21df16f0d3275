//! Packed weights that live packed: what the forward product reads is what the update writes.
//!
//! ```text
//! row-major  W[area][i][j]                          i < d_in, j < d_out
//! packed     data[area][panel][i][lane]             j = panel * NR + lane, NR = isa.panel_width()
//!
//!   d_out = 40, NR = 16:   | panel 0: 16 columns | panel 1: 16 | panel 2: 8 and 8 zeros |
//!   one panel              d_in rows of NR values, one after another: a row-major matrix NR columns wide
//! ```
//! The padding of the last panel starts at zero, and no result ever depends on it. A bias is a `Panels` with `d_in = 1`.

use crate::matrix::{Aligned, LayoutError, checked_len, filled, padded_columns, zeroed};
use crate::simd::Isa;

/// `areas` matrices of `d_in` x `d_out` f32, packed for one instruction set.
///
/// ```
/// use sal_kernels::{Isa, Panels};
/// let w: Vec<f32> = (0..2 * 3 * 5).map(|i| i as f32).collect();
/// let panels = Panels::from_row_major(Isa::detect()?, 2, 3, 5, &w)?;
/// assert_eq!(panels.get(1, 2, 4), 29.0);
/// assert_eq!(panels.to_row_major(), w);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Panels {
    data: Aligned,
    /// No weight of an area is larger than this in magnitude; infinite or NaN where that is unknown.
    largest: Vec<f64>,
    isa: Isa,
    areas: usize,
    d_in: usize,
    d_out: usize,
}

impl Panels {
    /// All zero.
    ///
    /// # Errors
    /// If the size does not fit in the address space or in memory.
    pub fn zeros(isa: Isa, areas: usize, d_in: usize, d_out: usize) -> Result<Self, LayoutError> {
        let columns = padded_columns("panels", (areas, d_in, d_out), isa.panel_width())?;
        let data = zeroed("panels", areas * columns * d_in)?;
        let largest = filled("areas", areas, 0.0)?;
        Ok(Self { data, largest, isa, areas, d_in, d_out })
    }

    /// Packs `values`, which hold `areas * d_in * d_out` elements in row-major order.
    ///
    /// # Errors
    /// If the length is another, or as [`Panels::zeros`].
    pub fn from_row_major(
        isa: Isa,
        areas: usize,
        d_in: usize,
        d_out: usize,
        values: &[f32],
    ) -> Result<Self, LayoutError> {
        let want = checked_len("panels", &[areas, d_in, d_out])?;
        if values.len() != want {
            return Err(LayoutError::Length { what: "panels", got: values.len(), want });
        }
        let mut panels = Self::zeros(isa, areas, d_in, d_out)?;
        for (area, matrix) in values.chunks_exact((d_in * d_out).max(1)).enumerate() {
            panels.set_area(area, matrix)?;
        }
        Ok(panels)
    }

    /// Replaces the weights of one area by `values`, `d_in * d_out` elements in row-major order.
    ///
    /// # Errors
    /// If there is no such area, or the length is another.
    pub fn set_area(&mut self, area: usize, values: &[f32]) -> Result<(), LayoutError> {
        self.check_area(area)?;
        let want = self.d_in * self.d_out;
        if values.len() != want {
            return Err(LayoutError::Length { what: "area", got: values.len(), want });
        }
        let (nr, d_in, d_out) = (self.panel_width(), self.d_in, self.d_out);
        let panels = self.area_mut(area).chunks_exact_mut((d_in * nr).max(1));
        for (panel, data) in panels.enumerate() {
            let width = nr.min(d_out - panel * nr);
            for (row, from) in data.chunks_exact_mut(nr).zip(values.chunks_exact(d_out)) {
                row[..width].copy_from_slice(&from[panel * nr..][..width]);
            }
        }
        self.largest[area] = f64::from(largest(values));
        Ok(())
    }

    /// Copies the weights of area `from` to area `to`.
    ///
    /// # Errors
    /// If there is no such area.
    pub fn copy_area(&mut self, from: usize, to: usize) -> Result<(), LayoutError> {
        self.check_area(from)?;
        self.check_area(to)?;
        let len = self.area_len();
        self.data.copy_within(from * len..(from + 1) * len, to * len);
        self.largest[to] = self.largest[from];
        Ok(())
    }

    /// All weights in row-major order: `[area][i][j]`.
    pub fn to_row_major(&self) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.areas * self.d_in * self.d_out);
        for area in 0..self.areas {
            self.for_each_row(area, |row| out.extend_from_slice(row));
        }
        out
    }

    /// Calls `f` with each row `W[area][i]` in ascending order of `i`, in pieces of at most one panel's width;
    /// panics if there is no such area.
    pub fn for_each_row(&self, area: usize, mut f: impl FnMut(&[f32])) {
        let nr = self.panel_width();
        let data = self.area(area);
        for i in 0..self.d_in {
            for panel in 0..self.panels() {
                let width = nr.min(self.d_out - panel * nr);
                f(&data[(panel * self.d_in + i) * nr..][..width]);
            }
        }
    }

    /// Weight `W[area][i][j]`; panics if there is none.
    pub fn get(&self, area: usize, i: usize, j: usize) -> f32 {
        assert!(i < self.d_in && j < self.d_out, "weight ({i}, {j})");
        let nr = self.panel_width();
        self.area(area)[((j / nr) * self.d_in + i) * nr + j % nr]
    }

    /// The instruction set that these weights are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Number of areas.
    pub fn areas(&self) -> usize {
        self.areas
    }

    /// Width of the input: rows of one area's matrix.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Width of the output: columns of one area's matrix.
    pub fn d_out(&self) -> usize {
        self.d_out
    }

    /// Number of weights, without padding.
    pub fn len(&self) -> usize {
        self.areas * self.d_in * self.d_out
    }

    /// Whether there is no weight at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Columns of one panel.
    pub(crate) fn panel_width(&self) -> usize {
        self.isa.panel_width()
    }

    /// Panels of one area.
    pub(crate) fn panels(&self) -> usize {
        self.d_out.div_ceil(self.panel_width())
    }

    /// Packed elements of one area.
    pub(crate) fn area_len(&self) -> usize {
        self.panels() * self.panel_width() * self.d_in
    }

    /// The packed elements of one area.
    pub(crate) fn area(&self, area: usize) -> &[f32] {
        let len = self.area_len();
        &self.data[area * len..][..len]
    }

    /// The packed elements of one area.
    fn area_mut(&mut self, area: usize) -> &mut [f32] {
        let len = self.area_len();
        &mut self.data[area * len..][..len]
    }

    /// All packed elements, area by area, panel by panel; and for each area whether it is finite, as `is_finite` says.
    pub(crate) fn data_mut(&mut self) -> (&mut [f32], impl Fn(usize) -> bool) {
        let largest = &self.largest;
        (&mut self.data, |area| is_finite(largest[area]))
    }

    /// A bound of the magnitude of all weights of `area`; infinite or NaN where there is none.
    pub(crate) fn bound(&self, area: usize) -> f64 {
        self.largest[area]
    }

    /// Notes a new bound, for weights that are about to change.
    pub(crate) fn set_bound(&mut self, area: usize, bound: f64) {
        self.largest[area] = bound;
    }

    /// Whether no weight of `area` can be infinite or NaN. False where that is not known.
    pub(crate) fn is_finite(&self, area: usize) -> bool {
        is_finite(self.largest[area])
    }

    fn check_area(&self, got: usize) -> Result<(), LayoutError> {
        let len = self.areas;
        if got < len { Ok(()) } else { Err(LayoutError::Index { what: "area", got, len }) }
    }
}

/// Whether a bound keeps weights finite; NaN does not.
fn is_finite(bound: f64) -> bool {
    bound < f64::from(f32::MAX)
}

/// Largest magnitude of all values; infinite or NaN if one of them is.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    // Magnitudes are ordered like their bits, and NaN comes after all of them.
    f32::from_bits(values.iter().fold(0, |max, x| max.max(x.to_bits() & !(1 << 31))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packing_is_undone_by_unpacking(areas in 0usize..4, d_in in 0usize..5, d_out in 0usize..70) {
            let values: Vec<f32> = (0..areas * d_in * d_out).map(|i| i as f32 + 1.0).collect();
            for isa in Isa::available() {
                let p = Panels::from_row_major(isa, areas, d_in, d_out, &values).unwrap();
                prop_assert_eq!(&p.to_row_major(), &values);
                let padding = p.data.iter().filter(|&&x| x == 0.0).count();
                prop_assert_eq!(padding, p.data.len() - values.len());
                for (n, &want) in values.iter().enumerate() {
                    let (area, rest) = (n / (d_in * d_out), n % (d_in * d_out));
                    prop_assert_eq!(p.get(area, rest / d_out, rest % d_out), want);
                }
            }
        }
    }

    #[test]
    fn sizes_and_areas_are_checked() {
        let isa = Isa::detect().unwrap();
        assert!(Panels::zeros(isa, usize::MAX, 2, 2).is_err());
        assert!(Panels::zeros(isa, 1, 1, usize::MAX).is_err());
        assert!(Panels::zeros(isa, 1 << 40, 1 << 40, 1).is_err());
        assert!(Panels::from_row_major(isa, 1, 2, 2, &[0.0; 3]).is_err());
        let mut p = Panels::zeros(isa, 2, 2, 2).unwrap();
        assert!(p.set_area(2, &[0.0; 4]).is_err());
        assert!(p.set_area(1, &[0.0; 5]).is_err());
        assert!(p.copy_area(0, 2).is_err());
        p.set_area(0, &[1.0, 2.0, 3.0, 4.0]).unwrap();
        p.copy_area(0, 1).unwrap();
        assert_eq!(p.get(1, 1, 0), 3.0);
    }
}
