//! The caches of this machine, and where data of a given size lies when every byte of it is used once before any is
//! used again.

use std::fmt;
use std::sync::OnceLock;

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
        let (l2, l3) = sizes();
        match bytes {
            b if b <= l2 => Self::L2,
            b if b <= l3 => Self::L3,
            _ => Self::Memory,
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

/// Bytes of the second and the last level. Where the system does not say: 512 KiB and 32 MiB.
pub fn sizes() -> (u64, u64) {
    static SIZES: OnceLock<(u64, u64)> = OnceLock::new();
    *SIZES.get_or_init(|| {
        let l2 = of_level("2").unwrap_or(512 << 10);
        (l2, of_level("3").unwrap_or(32 << 20).max(l2))
    })
}

fn of_level(level: &str) -> Option<u64> {
    (0..8).find_map(|index| {
        let read = |file| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}");
            std::fs::read_to_string(path).ok()
        };
        let fits = read("level")?.trim() == level && read("type")?.trim() != "Instruction";
        let size = read("size").filter(|_| fits)?;
        let (digits, unit) = match size.trim() {
            s if s.ends_with('K') => (&s[..s.len() - 1], 1 << 10),
            s if s.ends_with('M') => (&s[..s.len() - 1], 1 << 20),
            s => (s, 1),
        };
        Some(digits.parse::<u64>().ok()? * unit)
    })
}
