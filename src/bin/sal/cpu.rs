//! What the machine has: instruction sets, the features behind them, caches.

use crate::failure::Failure;
use sal_kernels::Isa;

/// The instruction set of that name; without one, the best, or the one that `SAL_ISA` names.
pub(crate) fn choose(name: Option<&str>) -> Result<Isa, Failure> {
    let (flag, isa) = match name {
        Some(name) => ("--isa", Isa::from_name(name)),
        None => ("SAL_ISA", Isa::detect()),
    };
    isa.map_err(|error| Failure::Usage(format!("{flag}: {error}")))
}

/// The largest register tile of an instruction set, rows x columns.
pub(crate) fn tile(isa: Isa) -> String {
    let height = isa.tile_heights().first().copied().unwrap_or(1);
    format!("{height}x{}", isa.panel_width())
}

/// One cache of the first core.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) level: u32,
    /// `data`, `instruction` or `unified`.
    pub(crate) kind: String,
    pub(crate) bytes: u64,
}

/// The caches of the first core in ascending order; none where the system does not tell (only Linux does).
pub(crate) fn caches() -> Vec<Cache> {
    let mut caches: Vec<Cache> = (0..16).filter_map(cache).collect();
    caches.sort_by(|a, b| (a.level, &a.kind).cmp(&(b.level, &b.kind)));
    caches
}

fn cache(index: u32) -> Option<Cache> {
    let read = |file| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}");
        Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
    };
    Some(Cache {
        level: read("level")?.parse().ok()?,
        kind: read("type")?.to_lowercase(),
        bytes: bytes(&read("size")?)?,
    })
}

/// `32K` -> 32768.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::bytes;

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
}
