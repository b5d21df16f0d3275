//! Which sample goes to which area: a stable counting sort of one batch, built once per layer and batch.
//!
//! ```text
//! areas  of samples 0..5   [2, 0, 2, 2, 0]          K = 4
//! order                    [1, 4 | | 0, 2, 3 | ]    samples by area, ascending within an area
//! offsets                  [0, 2, 2, 5, 5]          area k owns order[offsets[k]..offsets[k + 1]]
//! ```
//! `order` is a permutation of `0..batch` by construction: kernels that write the rows of one area never meet
//! the rows of another.

use crate::matrix::LayoutError;
use std::ops::Range;

/// The samples of one batch, grouped by the area that each was sent to.
///
/// ```
/// use sal_kernels::RoutePlan;
/// let plan = RoutePlan::new(&[2, 0, 2, 2, 0], 4)?;
/// assert_eq!(plan.rows(2), [0, 2, 3]);
/// assert_eq!(plan.occupancy(1), 0);
/// # Ok::<(), sal_kernels::LayoutError>(())
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct RoutePlan {
    order: Vec<u32>,
    offsets: Vec<u32>,
}

impl Clone for RoutePlan {
    fn clone(&self) -> Self {
        Self { order: self.order.clone(), offsets: self.offsets.clone() }
    }

    // The derived one would take new memory.
    fn clone_from(&mut self, source: &Self) {
        self.order.clone_from(&source.order);
        self.offsets.clone_from(&source.offsets);
    }
}

impl RoutePlan {
    /// Groups samples by `areas[sample]`, each less than `count`.
    ///
    /// # Errors
    /// If an area is out of range, or there are more than `u32::MAX - 1` samples or areas.
    pub fn new(areas: &[u32], count: usize) -> Result<Self, LayoutError> {
        let mut plan = Self { order: Vec::new(), offsets: Vec::new() };
        plan.rebuild(areas, count)?;
        Ok(plan)
    }

    /// As [`RoutePlan::new`], in the memory of this plan. After an error the plan is as it was.
    ///
    /// # Errors
    /// As [`RoutePlan::new`].
    pub fn rebuild(&mut self, areas: &[u32], count: usize) -> Result<(), LayoutError> {
        check_count("samples", areas.len())?;
        check_count("areas", count)?;
        if let Some((sample, &got)) = areas.iter().enumerate().find(|&(_, &a)| a as usize >= count)
        {
            return Err(LayoutError::Area { sample, got, areas: count });
        }
        // offsets[k + 1] counts area k, then becomes where area k starts, and ends as where it ends.
        self.offsets.clear();
        self.offsets.resize(count + 1, 0);
        for &a in areas {
            self.offsets[a as usize + 1] += 1;
        }
        let mut start = 0;
        for end in &mut self.offsets[1..] {
            let n = *end;
            *end = start;
            start += n;
        }
        self.order.clear();
        self.order.resize(areas.len(), 0);
        for (sample, &a) in areas.iter().enumerate() {
            let next = &mut self.offsets[a as usize + 1];
            self.order[*next as usize] = sample as u32;
            *next += 1;
        }
        Ok(())
    }

    /// All samples in one area: the plan of an ordinary dense layer.
    ///
    /// # Errors
    /// If there are more than `u32::MAX - 1` samples.
    pub fn single(batch: usize) -> Result<Self, LayoutError> {
        let mut plan = Self { order: Vec::new(), offsets: Vec::new() };
        plan.rebuild_single(batch, 1)?;
        Ok(plan)
    }

    /// All samples in the first of `count` areas, at least one, in the memory of this plan. After an error the plan is
    /// as it was.
    pub(crate) fn rebuild_single(&mut self, batch: usize, count: usize) -> Result<(), LayoutError> {
        check_count("samples", batch)?;
        check_count("areas", count)?;
        self.order.clear();
        self.order.extend(0..batch as u32);
        self.offsets.clear();
        self.offsets.resize(count.max(1) + 1, batch as u32);
        self.offsets[0] = 0;
        Ok(())
    }

    /// Number of samples.
    pub fn batch(&self) -> usize {
        self.order.len()
    }

    /// Number of areas, empty ones included.
    pub fn areas(&self) -> usize {
        self.offsets.len() - 1
    }

    /// All samples, grouped by area: a permutation of `0..batch`.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Where the samples of `area` stand in [`RoutePlan::order`]; panics if there is no such area.
    pub fn range(&self, area: usize) -> Range<usize> {
        self.offsets[area] as usize..self.offsets[area + 1] as usize
    }

    /// The samples of `area` in ascending order; panics if there is no such area.
    pub fn rows(&self, area: usize) -> &[u32] {
        &self.order[self.range(area)]
    }

    /// Number of samples in `area`; panics if there is no such area.
    pub fn occupancy(&self, area: usize) -> usize {
        self.range(area).len()
    }
}

fn check_count(what: &'static str, got: usize) -> Result<(), LayoutError> {
    let max = u32::MAX as usize - 1;
    if got > max { Err(LayoutError::TooMany { what, got, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_area_out_of_range_leaves_the_plan_alone() {
        let mut plan = RoutePlan::new(&[0, 1], 2).unwrap();
        let before = plan.clone();
        let error = plan.rebuild(&[0, 1, 3], 3).unwrap_err();
        assert_eq!(error, LayoutError::Area { sample: 2, got: 3, areas: 3 });
        assert_eq!(plan, before);
        assert!(plan.rebuild(&[0], 0).is_err());
        assert_eq!(RoutePlan::new(&[], 0).unwrap().areas(), 0);
    }

    #[test]
    fn the_plan_of_a_dense_layer_is_that_of_samples_in_area_0() {
        let mut plan = RoutePlan::new(&[1, 0, 1], 2).unwrap();
        for (batch, count) in [(0, 1), (5, 1), (3, 4), (0, 3)] {
            plan.rebuild_single(batch, count).unwrap();
            assert_eq!(plan, RoutePlan::new(&vec![0; batch], count).unwrap());
        }
        let before = plan.clone();
        assert!(plan.rebuild_single(usize::MAX, 1).is_err());
        assert!(plan.rebuild_single(1, usize::MAX).is_err());
        assert_eq!(plan, before);
        plan.clone_from(&RoutePlan::new(&[1, 0, 1], 2).unwrap());
        assert_eq!(plan.rows(1), [0, 2]);
    }

    proptest! {
        #[test]
        fn order_is_a_stable_permutation(areas in prop::collection::vec(0u32..7, 0..200)) {
            let plan = RoutePlan::new(&areas, 7).unwrap();
            let mut sorted: Vec<u32> = (0..areas.len() as u32).collect();
            sorted.sort_by_key(|&s| areas[s as usize]); // the library's stable sort
            prop_assert_eq!(plan.order(), &sorted[..]);
            for k in 0..7 {
                prop_assert!(plan.rows(k).iter().all(|&s| areas[s as usize] as usize == k));
            }
            prop_assert_eq!((0..7).map(|k| plan.occupancy(k)).sum::<usize>(), areas.len());
        }
    }
}
