//! How the work of one verb is cut into tasks, and how tasks run.
//!
//! ```text
//! product   (area, rows of the area, panels)      an area is cut by panels first, then by rows, or the other way
//! update    (area, panels, weight rows)           neighbouring memory, so each task owns its slice
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
fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    1
}

/// Threads that share `work` multiply-adds: one, where handing over would cost more than it saves.
pub(crate) fn threads_for(work: usize) -> usize {
    if work < 2 * GRAIN { 1 } else { threads() }
}

/// Multiply-adds that one task should have, for `total` of them.
fn task_size(total: usize, threads: usize) -> usize {
    if threads == 1 { usize::MAX } else { (total / (threads * TASKS_PER_THREAD)).max(GRAIN) }
}

/// Cuts `range` into `pieces` nearly equal ranges, each (but the last) a multiple of `unit`.
fn cut(
    range: Range<usize>,
    pieces: usize,
    unit: usize,
) -> impl Iterator<Item = Range<usize>> + Clone {
    let step = range.len().div_ceil(pieces.max(1)).next_multiple_of(unit).max(1);
    range.clone().step_by(step).map(move |start| start..(start + step).min(range.end))
}

/// Rows that passing over weights costs at least, however few there are: they come from memory.
const LEAST_ROWS: usize = 4;

/// Multiply-adds of `rows` rows through weights whose one row costs `cost`.
fn work(rows: usize, cost: usize) -> usize {
    rows.max(LEAST_ROWS).saturating_mul(cost)
}

/// Multiply-adds of all areas that have samples; `shared`: all use the one matrix.
pub(crate) fn total_work(plan: &RoutePlan, shared: bool, cost: usize) -> usize {
    if shared {
        return work(plan.batch(), cost);
    }
    let occupied = (0..plan.areas()).map(|k| plan.occupancy(k)).filter(|&n| n > 0);
    occupied.fold(0, |sum, n| sum.saturating_add(work(n, cost)))
}

/// How a product may be cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// All areas use the one matrix of area 0.
    pub(crate) shared: bool,
    /// Panels of each area.
    pub(crate) panels: usize,
    /// Multiply-adds of one row and panel.
    pub(crate) cost: usize,
    /// Cut rows before panels: where something is made for each row that all panels use.
    pub(crate) rows_first: bool,
}

/// The blocks of a product over all areas of `plan` that have samples.
///
/// `tallest` is the height of the tallest tile.
pub(crate) fn product_blocks(
    plan: &RoutePlan,
    Cut { shared, panels, cost, rows_first }: Cut,
    tallest: usize,
    threads: usize,
) -> impl Iterator<Item = Block> {
    let cost = cost.saturating_mul(panels);
    let size = task_size(total_work(plan, shared, cost), threads);
    let groups = if shared { 1 } else { plan.areas() };
    (0..groups).flat_map(move |area| {
        let order = if shared { 0..plan.batch() } else { plan.range(area) };
        let used = !order.is_empty() && panels > 0;
        let pieces = work(order.len(), cost).div_ceil(size).max(1);
        let (along, across) = if rows_first {
            let along = pieces.min(order.len().div_ceil(tallest)).max(1);
            (along, pieces.div_ceil(along).min(panels))
        } else {
            (pieces.div_ceil(panels.max(1)), pieces.min(panels))
        };
        let rows = cut(order, along, tallest).filter(move |_| used);
        let parts = cut(0..panels, across, 1);
        rows.flat_map(move |order| {
            parts.clone().map(move |panels| Block { area, order: order.clone(), panels })
        })
    })
}

/// Neighbouring weights of one area: some rows of one panel, or whole panels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) area: usize,
    pub(crate) panels: Range<usize>,
    pub(crate) rows: Range<usize>,
}

/// The parts of an update over all areas of `plan` that have samples, in ascending order.
///
/// `panels` is the number of panels of each area, `rows` of each panel's weight rows, `nr` their width.
pub(crate) fn update_parts(
    plan: &RoutePlan,
    panels: usize,
    rows: usize,
    nr: usize,
    tallest: usize,
    threads: usize,
) -> impl Iterator<Item = Part> {
    let cost = rows.saturating_mul(nr).saturating_mul(panels);
    let size = task_size(total_work(plan, false, cost), threads);
    let occupied = (0..plan.areas()).filter(|&k| plan.occupancy(k) > 0);
    occupied.flat_map(move |area| {
        let pieces = work(plan.occupancy(area), cost).div_ceil(size).max(1);
        let (across, along) = (pieces.min(panels), pieces.div_ceil(panels.max(1)));
        cut(0..panels, across, 1).flat_map(move |panels| {
            let along = if panels.len() == 1 { along } else { 1 };
            cut(0..rows, along, tallest).map(move |rows| Part {
                area,
                panels: panels.clone(),
                rows,
            })
        })
    })
}

/// Runs every task: on this thread if `threads` is 1, else in the caller's rayon pool.
pub(crate) fn run<T: Send>(
    tasks: impl Iterator<Item = T>,
    threads: usize,
    f: impl Fn(T) + Sync + Send,
) {
    #[cfg(feature = "rayon")]
    if threads > 1 {
        use rayon::prelude::*;
        let tasks: Vec<T> = tasks.collect();
        return tasks.into_par_iter().with_max_len(1).for_each(f);
    }
    let _ = threads;
    tasks.for_each(f);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_cover_every_row_and_panel_once(
            areas in prop::collection::vec(0u32..5, 0..300),
            panels in 0usize..9, threads in 1usize..9, shared: bool, rows_first: bool,
            cost in 1usize..1_000_000,
        ) {
            let plan = RoutePlan::new(&areas, 5).unwrap();
            let mut seen = vec![0; plan.batch() * panels];
            let how = Cut { shared, panels, cost, rows_first };
            for b in product_blocks(&plan, how, 6, threads) {
                for o in b.order.clone() {
                    let area = areas[plan.order()[o] as usize] as usize;
                    prop_assert_eq!(b.area, if shared { 0 } else { area });
                    b.panels.clone().for_each(|p| seen[o * panels + p] += 1);
                }
            }
            prop_assert!(seen.iter().all(|&n| n == 1));
        }

        #[test]
        fn parts_cover_every_weight_row_of_occupied_areas_in_order(
            areas in prop::collection::vec(0u32..5, 0..300),
            panels in 0usize..9, rows in 0usize..5000, threads in 1usize..9,
        ) {
            let plan = RoutePlan::new(&areas, 5).unwrap();
            let mut next = [0; 5];
            for part in update_parts(&plan, panels, rows, 16, 6, threads) {
                prop_assert!(part.rows == (0..rows) || part.panels.len() == 1);
                prop_assert_eq!(part.panels.start * rows + part.rows.start, next[part.area]);
                next[part.area] += part.panels.len() * part.rows.len();
            }
            for (k, &end) in next.iter().enumerate() {
                prop_assert_eq!(end, if plan.occupancy(k) > 0 { panels * rows } else { 0 });
            }
        }
    }
}
