//! Sizes of the blocks that products and updates are cut into, from the caches of this machine. They change no bit of a
//! result: sums go on from one block to the next.
//!
//! ```text
//! depth KC   part of a panel, KC rows of NR values, fills L1
//! packed     rows or columns that all panels pass over take half of L2; the rest is for the weights that pass by
//! ```

use crate::caches;

/// Depth KC of a block for panels `nr` wide, at least some hundreds: each block reads and writes its sums once.
pub(crate) fn depth(nr: usize) -> usize {
    (caches::l1d() / (nr * size_of::<f32>())).clamp(256, 4096)
}

/// f32 values that stay in L2 while all panels pass over them.
pub(crate) fn packed() -> usize {
    caches::l2() / 2 / size_of::<f32>()
}
