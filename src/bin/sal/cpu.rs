//! What the machine has: instruction sets and memory.

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

/// A pool of so many threads, or of as many as rayon chooses.
pub(crate) fn pool(threads: Option<usize>) -> Result<rayon::ThreadPool, Failure> {
    // 0 leaves the number to rayon.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build();
    pool.map_err(|error| Failure::Run(format!("threads: {error}")))
}

/// Bytes of memory that can be had, as far as the system tells (only Linux does): what is available, and no more than
/// the control group of this process may have.
pub(crate) fn free_memory() -> Option<u64> {
    let read = |path| std::fs::read_to_string(path).ok();
    let available = read("/proc/meminfo").and_then(|text| available(&text));
    let most = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    available.into_iter().chain(most).min()
}

/// The line `MemAvailable:   123456 kB`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::available;

    #[test]
    fn available_memory_is_read_as_linux_writes_it() {
        let text = "MemTotal:  24000000 kB\nMemAvailable:   22000001 kB\nBuffers: 1 kB\n";
        assert_eq!(available(text), Some(22_000_001 * 1024));
        for odd in
            ["", "MemAvailable: 1", "MemAvailable: x kB", "MemAvailable: 99999999999999999999 kB"]
        {
            assert_eq!(available(odd), None, "{odd:?}");
        }
    }
}
