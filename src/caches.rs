//! The caches of this machine: what block sizes and working sets are chosen by.
//!
//! ```text
//! Linux     /sys/devices/system/cpu/cpu0/cache/index*/{level,type,size}: the caches that the first core sees
//! others    do not tell: 32 KiB, 512 KiB and 8 MiB are assumed
//! ```
//! Read once; in a virtual machine it is what the host tells, and neighbours may share the last level.

use std::fmt;
use std::sync::OnceLock;

/// What a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheKind {
    /// Data only.
    Data,
    /// Instructions only.
    Instruction,
    /// Both.
    Unified,
}

impl fmt::Display for CacheKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Data => "data",
            Self::Instruction => "instruction",
            Self::Unified => "unified",
        })
    }
}

/// One cache of the first core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cache {
    /// 1 is the nearest.
    pub level: u32,
    /// What it holds.
    pub kind: CacheKind,
    /// Its size in bytes.
    pub bytes: usize,
}

/// The caches of the first core, nearest first; empty where the system does not tell.
///
/// ```
/// for cache in sal_kernels::caches::caches() {
///     println!("L{} {} {} bytes", cache.level, cache.kind, cache.bytes);
/// }
/// ```
pub fn caches() -> &'static [Cache] {
    static CACHES: OnceLock<Vec<Cache>> = OnceLock::new();
    CACHES.get_or_init(|| {
        let mut all: Vec<Cache> = (0..16)
            .filter_map(|index| {
                let folder = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
                parse(|file| std::fs::read_to_string(format!("{folder}/{file}")).ok())
            })
            .collect();
        all.sort();
        all
    })
}

/// Bytes of the first-level data cache; 32 KiB where the system tells of no cache.
pub fn l1d() -> usize {
    up_to(caches(), 1).unwrap_or(32 << 10)
}

/// Bytes of L2, or of L1 where the system tells of no L2; 512 KiB where it tells of no cache.
pub fn l2() -> usize {
    up_to(caches(), 2).unwrap_or(512 << 10)
}

/// Bytes of L3, or of the cache before it where the system tells of no L3; 8 MiB where it tells of no cache.
pub fn l3() -> usize {
    up_to(caches(), 3).unwrap_or(8 << 20)
}

/// Bytes of the last cache for data up to this level.
fn up_to(caches: &[Cache], level: u32) -> Option<usize> {
    let data = caches.iter().filter(|c| c.level <= level && c.kind != CacheKind::Instruction);
    data.max_by_key(|c| c.level).map(|c| c.bytes)
}

/// One cache, from the text of its files.
fn parse(read: impl Fn(&str) -> Option<String>) -> Option<Cache> {
    let kind = match read("type")?.trim() {
        "Data" => CacheKind::Data,
        "Instruction" => CacheKind::Instruction,
        "Unified" => CacheKind::Unified,
        _ => return None,
    };
    let level = read("level")?.trim().parse().ok()?;
    let bytes = bytes(read("size")?.trim()).filter(|&n| n > 0)?;
    Some(Cache { level, kind, bytes })
}

/// `32K` -> 32768.
fn bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_linux_writes_them() {
        assert_eq!(bytes("32K"), Some(32_768));
        assert_eq!(bytes("2M"), Some(2_097_152));
        assert_eq!(bytes("512"), Some(512));
        for odd in
            ["", "K", "1KK", "1 K", "-1K", "x", "99999999999999999999K", "99999999999999999G"]
        {
            assert_eq!(bytes(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_cache_is_read_as_a_whole_or_not_at_all() {
        let of = |level: &str, kind: &str, size: &str| {
            let files = [("level", level), ("type", kind), ("size", size)];
            parse(|name| {
                files.iter().find(|(n, _)| *n == name).map(|(_, text)| format!("{text}\n"))
            })
        };
        let unified = Cache { level: 2, kind: CacheKind::Unified, bytes: 512 << 10 };
        assert_eq!(of("2", "Unified", "512K"), Some(unified));
        for odd in
            [("", "Data", "1K"), ("1", "Trace", "1K"), ("1", "Data", "0K"), ("1", "Data", "")]
        {
            assert_eq!(of(odd.0, odd.1, odd.2), None, "{odd:?}");
        }
        assert_eq!(parse(|_| None), None);
    }

    #[test]
    fn a_level_that_is_not_there_is_the_one_before() {
        let cache = |level, kind, bytes| Cache { level, kind, bytes };
        let (data, code) = (CacheKind::Data, CacheKind::Instruction);
        let some = [cache(1, data, 10), cache(1, code, 99), cache(2, CacheKind::Unified, 20)];
        assert_eq!([1, 2, 3].map(|level| up_to(&some, level)), [Some(10), Some(20), Some(20)]);
        assert_eq!(up_to(&some[1..2], 1), None);
        assert_eq!(up_to(&[], 3), None);
        assert!(l1d() > 0 && l1d() <= l2() && l2() <= l3());
    }
}
