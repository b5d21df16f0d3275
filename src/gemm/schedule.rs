//! How the work of one verb is cut into tasks, and how tasks run.
//!
//! ```text
//! product   (area, rows of the area, panels)      an area is cut by panels first, then by rows
//! update    (area, range of packed weight rows)   contiguous memory, so each task owns its slice
//! ```
//! Every element of a result is summed by one task in one order, so the cut never changes a bit.

use crate::plan::RoutePlan;
use std::ops::Range;

/// Multiply-adds below which a task costs more to hand over than to do (about 10 us of one AVX2 core).
const GRAIN: usize = 1 << 19;

/// Tasks per thread: enough that the last ones to finish are short.
const TASKS_PER_THREAD: usize = 8;

/// The part of a product that one task computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) area: usize,
    /// Positions in the plan's order.
    pub(crate) order: Range<usize>,
    pub(crate) panels: Range<usize>,
}

/// Threads of the pool that the caller runs in.
pub(crate) fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    1
}

/// Multiply-adds that one task should have, for `total` of them.
fn task_size(total: usize, threads: usize) -> usize {
    if threads == 1 { usize::MAX } else { (total / (threads * TASKS_PER_THREAD)).max(GRAIN) }
}

/// Cuts `n` into `pieces` nearly equal ranges, each (but the last) a multiple of `unit`.
fn cut(range: Range<usize>, pieces: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let step = range.len().div_ceil(pieces.max(1)).next_multiple_of(unit).max(1);
    range.clone().step_by(step).map(move |start| start..(start + step).min(range.end))
}

/// The blocks of a product over all areas of `plan` that have samples.
///
/// `panels` is the number of panels of each area, `cost` the multiply-adds of one row and panel, `tallest` the
/// height of the tallest tile. `shared`: all areas use the one matrix of area 0.
pub(crate) fn product_blocks(
    plan: &RoutePlan,
    shared: bool,
    panels: usize,
    cost: usize,
    tallest: usize,
    threads: usize,
) -> Vec<Block> {
    let size = task_size(plan.batch().saturating_mul(panels).saturating_mul(cost), threads);
    let groups = if shared { 1 } else { plan.areas() };
    let mut blocks = Vec::with_capacity(groups);
    for area in 0..groups {
        let order = if shared { 0..plan.batch() } else { plan.range(area) };
        if order.is_empty() || panels == 0 {
            continue;
        }
        let work = order.len().saturating_mul(panels).saturating_mul(cost);
        let pieces = work.div_ceil(size).max(1);
        let row_pieces = pieces.div_ceil(panels);
        for rows in cut(order, row_pieces, tallest) {
            for part in cut(0..panels, pieces.min(panels), 1) {
                blocks.push(Block { area, order: rows.clone(), panels: part });
            }
        }
    }
    blocks
}

/// Ranges of the packed weight rows of each area that has samples, in ascending order: (area, rows).
///
/// `rows` is the number of packed rows of one area (panels times depth), `nr` their width.
pub(crate) fn update_ranges(
    plan: &RoutePlan,
    rows: usize,
    nr: usize,
    tallest: usize,
    threads: usize,
) -> Vec<(usize, Range<usize>)> {
    // A row costs its n multiply-adds a lane, and at least a read and a write from memory.
    let cost = |n: usize| n.max(8).saturating_mul(nr);
    let occupied = || (0..plan.areas()).filter(|&k| plan.occupancy(k) > 0);
    let total = occupied().map(|k| rows.saturating_mul(cost(plan.occupancy(k)))).sum();
    let size = task_size(total, threads);
    occupied()
        .flat_map(|k| {
            let pieces = rows.saturating_mul(cost(plan.occupancy(k))).div_ceil(size);
            cut(0..rows, pieces, tallest).map(move |r| (k, r))
        })
        .collect()
}

/// Runs every task: in the caller's rayon pool if there is more than one, on this thread otherwise.
pub(crate) fn run<T: Send>(tasks: Vec<T>, f: impl Fn(T) + Sync + Send) {
    #[cfg(feature = "rayon")]
    if tasks.len() > 1 && threads() > 1 {
        use rayon::prelude::*;
        return tasks.into_par_iter().with_max_len(1).for_each(f);
    }
    tasks.into_iter().for_each(f);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_cover_every_row_and_panel_once(
            areas in prop::collection::vec(0u32..5, 0..300),
            panels in 0usize..9, threads in 1usize..9, shared: bool, cost in 1usize..1_000_000,
        ) {
            let plan = RoutePlan::new(&areas, 5).unwrap();
            let mut seen = vec![0; plan.batch() * panels];
            for b in product_blocks(&plan, shared, panels, cost, 6, threads) {
                for o in b.order.clone() {
                    let area = areas[plan.order()[o] as usize] as usize;
                    prop_assert_eq!(b.area, if shared { 0 } else { area });
                    b.panels.clone().for_each(|p| seen[o * panels + p] += 1);
                }
            }
            prop_assert!(seen.iter().all(|&n| n == 1));
        }

        #[test]
        fn ranges_cover_every_weight_row_of_occupied_areas(
            areas in prop::collection::vec(0u32..5, 0..300), rows in 0usize..5000, threads in 1usize..9,
        ) {
            let plan = RoutePlan::new(&areas, 5).unwrap();
            let mut next = [0; 5];
            for (k, r) in update_ranges(&plan, rows, 16, 6, threads) {
                prop_assert_eq!(r.start, next[k]);
                next[k] = r.end;
            }
            for (k, &end) in next.iter().enumerate() {
                prop_assert_eq!(end, if plan.occupancy(k) > 0 { rows } else { 0 });
            }
        }
    }
}
