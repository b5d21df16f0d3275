//! What the tests of the verbs share: instruction sets, random cases that can be repeated, strided parents.
//!
//! | variable | effect |
//! |---|---|
//! | `SAL_REQUIRE_ISA=a,b` | test these instruction sets and no others; fail if one of them is not there |
//! | `SAL_CASES=n` | random cases of each verb on each instruction set (2000) |
//! | `SAL_STEPS=n` | per cent of the steps whose allocations are counted (100) |
//! | `SAL_SEED=n` | only the case with this seed: what a failure prints |
#![allow(dead_code)] // each test binary uses its own part

pub(crate) mod bounds;
pub(crate) mod calls;

use sal_kernels::{Isa, IsaName, MatrixMut, MatrixRef};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::{Once, OnceLock};

/// Prints a line even where the test harness captures output.
pub(crate) fn say(line: impl fmt::Display) {
    // In one piece: other tests write at the same time.
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// The names in `SAL_REQUIRE_ISA`.
pub(crate) fn required() -> Vec<String> {
    let names = std::env::var("SAL_REQUIRE_ISA").unwrap_or_default();
    names.split(',').map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect()
}

/// The instruction sets to test: the required ones, or all of this CPU. Says which are skipped; panics if a required
/// one is not there.
pub(crate) fn isas() -> Vec<Isa> {
    static SAID: Once = Once::new();
    let required = required();
    let find =
        |name: &String| Isa::from_name(name).unwrap_or_else(|e| panic!("SAL_REQUIRE_ISA: {e}"));
    let chosen = match required.is_empty() {
        true => Isa::available(),
        false => required.iter().map(find).collect(),
    };
    SAID.call_once(|| {
        for name in IsaName::ALL.into_iter().filter(|n| chosen.iter().all(|i| i.name() != *n)) {
            let why = match Isa::from_name(name.as_str()) {
                Ok(_) => "is not in SAL_REQUIRE_ISA",
                Err(_) => "is not available on this CPU",
            };
            say(format_args!("skipped: {name} {why}"));
        }
    });
    chosen
}

/// What `SAL_STEPS` says.
pub(crate) fn percent_of_steps() -> usize {
    number("SAL_STEPS").map_or(100, |n| n as usize)
}

/// Runs `f` in a pool of `threads` threads; each pool is built once.
pub(crate) fn in_pool<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    static POOLS: [OnceLock<rayon::ThreadPool>; 9] = [const { OnceLock::new() }; 9];
    let build = || rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    POOLS[threads].get_or_init(build).install(f)
}

/// SplitMix64: any seed is a good seed.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// In [0, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// One tensor: of one magnitude, or from 2^-12 to 2^4, or from 2^-60 to 2^20; zeros and denormals in some.
    pub(crate) fn values(&mut self, len: usize) -> Vec<f32> {
        let spread = self.pick(&[0, 0, 4, 20]);
        let odd = self.one_in(4);
        let value = |_| {
            if odd && self.one_in(8) {
                return self.pick(&[0.0, -0.0, 1e-40, -3e-42]);
            }
            let exponent = spread as i32 - self.below(4 * spread + 1) as i32;
            let size = (1.0 + self.unit()) * 2f32.powi(exponent);
            if self.one_in(2) { -size } else { size }
        };
        (0..len).map(value).collect()
    }

    /// Whole numbers in -limit..=limit.
    pub(crate) fn integers(&mut self, len: usize, limit: usize) -> Vec<f32> {
        (0..len).map(|_| (self.below(2 * limit + 1) as i32 - limit as i32) as f32).collect()
    }
}

/// How the samples of a batch fall on the areas.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Profile {
    Balanced,
    /// All in one area.
    Hot,
    /// Some areas get none.
    Gaps,
    /// Fewer samples than areas.
    Few,
    One,
}

/// A random layer and batch. Everything follows from verb, instruction set and seed; if a test panics while it is
/// alive, it prints how to run it again.
pub(crate) struct Case {
    pub(crate) rng: Rng,
    pub(crate) isa: Isa,
    pub(crate) batch: usize,
    pub(crate) d_in: usize,
    pub(crate) d_out: usize,
    pub(crate) areas: usize,
    /// The area of each sample.
    pub(crate) z: Vec<u32>,
    pub(crate) threads: usize,
    verb: &'static str,
    seed: u64,
    profile: Profile,
    /// What outputs hold before a call.
    pub(crate) fill: f32,
    pads: [Pad; 4],
}

impl Case {
    pub(crate) fn new(verb: &'static str, isa: Isa, seed: u64) -> Self {
        let name = format!("{verb} {isa} {seed}");
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut rng = Rng::new(hash);
        let profiles = [Profile::Balanced, Profile::Hot, Profile::Gaps, Profile::Few, Profile::One];
        let profile = rng.pick(&profiles);
        let areas = 1 + rng.below(8);
        // Now and then enough work for several threads, or a width beyond what one block of `gemm/area.rs` sums over.
        let (d_in, d_out, batch) = if rng.one_in(256) {
            (90 + rng.below(50), 90 + rng.below(50), 90 + rng.below(50))
        } else if rng.one_in(64) {
            let deep = rng.pick(&[512, 1024, 1536, 2048]) + rng.below(3);
            let (wide, batch) = (rng.below(isa.panel_width() + 2), rng.pick(&[3, 30, 150]));
            if rng.one_in(2) { (deep, wide, batch) } else { (wide, deep, batch) }
        } else {
            let batch = near(&mut rng, isa.tile_heights(), 40);
            (width(&mut rng, isa), width(&mut rng, isa), batch)
        };
        let batch = match profile {
            Profile::One => 1,
            Profile::Few => batch.min(areas - 1),
            _ => batch,
        };
        let z = areas_of(&mut rng, profile, batch, areas);
        let threads = rng.pick(&[1, 2, 3]);
        let pads = [(); 4].map(|()| Pad { lead: rng.below(16), gap: 1 + rng.below(9) });
        Self {
            rng,
            isa,
            batch,
            d_in,
            d_out,
            areas,
            z,
            threads,
            verb,
            seed,
            profile,
            fill: f32::NAN,
            pads,
        }
    }

    /// A case of given (batch, d_in, d_out, areas).
    pub(crate) fn sized(
        verb: &'static str,
        isa: Isa,
        seed: u64,
        (batch, d_in, d_out, areas): (usize, usize, usize, usize),
    ) -> Self {
        let mut case = Self::new(verb, isa, seed);
        case.z = areas_of(&mut case.rng, case.profile, batch, areas);
        (case.batch, case.d_in, case.d_out, case.areas) = (batch, d_in, d_out, areas);
        case
    }

    /// A kernel call with this case's batch and strides.
    pub(crate) fn call(&self) -> calls::Call<'_> {
        calls::Call {
            isa: self.isa,
            z: &self.z,
            areas: self.areas,
            pads: self.pads,
            fill: self.fill,
        }
    }

    /// Samples of each area.
    pub(crate) fn occupancy(&self) -> Vec<usize> {
        (0..self.areas).map(|k| self.z.iter().filter(|&&z| z as usize == k).count()).collect()
    }

    /// Rows of `cols` values, one for each sample; in some cases most columns are zero, of either sign, in all rows.
    pub(crate) fn rows(&mut self, cols: usize) -> Vec<f32> {
        let mut values = self.rng.values(self.batch * cols);
        if self.rng.one_in(3) {
            let kept = self.rng.pick(&[2, 3, 8]);
            for column in (0..cols).filter(|_| !self.rng.one_in(kept)).collect::<Vec<_>>() {
                let zero = self.rng.pick(&[0.0, -0.0]);
                values.iter_mut().skip(column).step_by(cols).for_each(|x| *x = zero);
            }
        }
        values
    }

    /// Fills `values` (areas, anything) with NaN where an area has no samples.
    pub(crate) fn poison_idle(&self, values: &mut [f32]) {
        let per_area = values.len() / self.areas;
        for (k, n) in self.occupancy().into_iter().enumerate() {
            if n == 0 {
                values[k * per_area..][..per_area].fill(f32::from_bits(0x7fc0_0000 + k as u32));
            }
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, isa, seed, batch, d_in, d_out, areas, profile, threads, .. } = self;
        let pads = self.pads.map(|p| (p.lead, p.gap));
        write!(
            f,
            "SAL_REPRO verb={verb} isa={isa} seed={seed} batch={batch} d_in={d_in} d_out={d_out} areas={areas} \
             profile={profile:?} threads={threads} strides=cols+gap, (lead, gap)={pads:?}; \
             again: SAL_SEED={seed} cargo test --test {}",
            env!("CARGO_CRATE_NAME"),
        )
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(self);
        }
    }
}

/// A number up to `limit`: any, or around a small multiple of one of `units`.
fn near(rng: &mut Rng, units: &[usize], limit: usize) -> usize {
    if rng.one_in(3) {
        return rng.below(limit + 1);
    }
    let unit = rng.pick(units);
    (unit * rng.below(4) + rng.below(3)).saturating_sub(1).min(limit)
}

/// A width up to three panels, weighted to where tiles begin and end.
fn width(rng: &mut Rng, isa: Isa) -> usize {
    let units = [isa.lanes(), isa.panel_width(), isa.tile_heights()[0]];
    near(rng, &units, 3 * isa.panel_width() + 1)
}

fn areas_of(rng: &mut Rng, profile: Profile, batch: usize, areas: usize) -> Vec<u32> {
    let mut z: Vec<u32> = match profile {
        Profile::Hot => vec![rng.below(areas) as u32; batch],
        Profile::Gaps => {
            let gap = rng.below(areas);
            let used: Vec<usize> = (0..areas).filter(|&k| k != gap && !rng.one_in(3)).collect();
            let used = if used.is_empty() { vec![(gap + 1) % areas] } else { used };
            (0..batch).map(|_| rng.pick(&used) as u32).collect()
        }
        _ => {
            let first = rng.below(areas);
            (0..batch).map(|s| ((s + first) % areas) as u32).collect()
        }
    };
    rng.shuffle(&mut z);
    z
}

/// The number in a variable.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().expect(name))
}

/// The seeds of a run.
fn seeds() -> std::ops::Range<u64> {
    match number("SAL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SAL_CASES").unwrap_or(2000),
    }
}

/// Runs `check` on every random case of a verb, and says what part of the error bounds was used.
pub(crate) fn for_each_case(
    verb: &'static str,
    isas: &[Isa],
    check: impl Fn(&mut Case, &mut Worst) + Sync,
) {
    for &isa in isas {
        let mut worst = Worst::default();
        for seed in seeds() {
            let mut case = Case::new(verb, isa, seed);
            in_pool(case.threads, || check(&mut case, &mut worst));
        }
        say(format_args!("{verb} {isa}: {} cases{worst}", seeds().count()));
    }
}

/// The largest part of its error bound that each quantity has used.
#[derive(Default)]
pub(crate) struct Worst(BTreeMap<&'static str, f64>);

impl Worst {
    /// Panics unless each `|got - want| <= bound`; a NaN fails.
    #[track_caller]
    pub(crate) fn check(
        &mut self,
        what: &'static str,
        got: &[f32],
        want: &[f64],
        bound: impl Fn(usize) -> f64,
    ) {
        assert_eq!(got.len(), want.len(), "{what}");
        let worst = self.0.entry(what).or_insert(0.0);
        for (n, (&got, &want)) in got.iter().zip(want).enumerate() {
            let (error, bound) = ((f64::from(got) - want).abs(), bound(n));
            assert!(error <= bound, "{what}[{n}] = {got:e}, want {want:e} within {bound:e}");
            if error > 0.0 {
                *worst = worst.max(error / bound);
            }
        }
    }
}

impl fmt::Display for Worst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "; largest part of the bound: ";
        for (what, part) in &self.0 {
            write!(f, "{before}{what} {part:.2}")?;
            before = ", ";
        }
        Ok(())
    }
}

/// Where a matrix lies in its parent: elements before it, and between the end of a row and the next.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pad {
    pub(crate) lead: usize,
    pub(crate) gap: usize,
}

/// What surrounds every matrix: a NaN, so that reading it shows, with a payload, so that writing it shows.
const SENTINEL: u32 = 0x7fcb_adad;

/// A row-major matrix inside of a larger buffer full of sentinels.
pub(crate) struct Strided {
    parent: Vec<f32>,
    pad: Pad,
    rows: usize,
    cols: usize,
}

impl Strided {
    pub(crate) fn new(rows: usize, cols: usize, pad: Pad, values: &[f32]) -> Self {
        let len = pad.lead + rows * (cols + pad.gap) + pad.gap;
        let mut m = Self { parent: vec![f32::from_bits(SENTINEL); len], pad, rows, cols };
        for r in 0..rows {
            let at = m.start(r);
            m.parent[at..at + cols].copy_from_slice(&values[r * cols..][..cols]);
        }
        m
    }

    fn start(&self, row: usize) -> usize {
        self.pad.lead + row * (self.cols + self.pad.gap)
    }

    pub(crate) fn view(&self) -> MatrixRef<'_> {
        let stride = self.cols + self.pad.gap;
        MatrixRef::with_stride(&self.parent[self.pad.lead..], self.rows, self.cols, stride).unwrap()
    }

    pub(crate) fn view_mut(&mut self) -> MatrixMut<'_> {
        let (stride, rows, cols) = (self.cols + self.pad.gap, self.rows, self.cols);
        MatrixMut::with_stride(&mut self.parent[self.pad.lead..], rows, cols, stride).unwrap()
    }

    /// The elements in row-major order; panics if anything around them was written.
    pub(crate) fn into_values(mut self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.rows * self.cols);
        for r in 0..self.rows {
            let at = self.start(r);
            let row = &mut self.parent[at..at + self.cols];
            values.extend_from_slice(row);
            row.fill(f32::from_bits(SENTINEL));
        }
        let written = self.parent.iter().position(|x| x.to_bits() != SENTINEL);
        assert_eq!(written, None, "the kernel wrote outside of its output");
        values
    }
}

pub(crate) fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// Bit patterns: equality that tells zeros and NaNs apart.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// The rows (of `cols` values) in the order `rows`.
pub(crate) fn rows_of(values: &[f32], cols: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|&r| values[r * cols..][..cols].iter().copied()).collect()
}
