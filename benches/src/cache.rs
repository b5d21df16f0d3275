//! Where data of a given size lies when every byte of it is used once before any is used again.

use sal_kernels::caches;
use std::fmt;

/// Where operands come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Within the second level (or the first).
    L2,
    /// Within the last level, beyond the second.
    L3,
    /// Beyond all caches.
    Memory,
}

impl Level {
    /// The smallest level that holds `bytes`.
    pub fn of(bytes: u64) -> Self {
        let fits = |size: usize| bytes <= size as u64;
        if fits(caches::l2()) {
            Self::L2
        } else if fits(caches::l3()) {
            Self::L3
        } else {
            Self::Memory
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::Memory => "memory",
        })
    }
}
