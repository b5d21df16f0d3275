//! Every vector operation of every instruction set against plain f32 arithmetic, and the rules of the choice.

use super::*;

/// One operation on whole arrays, so that a test can see what the vectors hold.
struct Lanewise<'a> {
    a: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
}

/// What each operation gives, in the order of the trait.
type Results = Vec<(&'static str, Vec<f32>)>;

impl Op for Lanewise<'_> {
    type Out = Results;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Results {
        let n = S::LANES;
        assert!(self.a.len() >= n && self.b.len() >= n && self.c.len() >= n);
        // SAFETY: each slice holds at least one vector, as just checked.
        let (a, b, c) =
            unsafe { (s.load(self.a.as_ptr()), s.load(self.b.as_ptr()), s.load(self.c.as_ptr())) };
        let mut all = Results::new();
        for (name, v) in [
            ("splat", s.splat(self.a[0])),
            ("add", s.add(a, b)),
            ("sub", s.sub(a, b)),
            ("mul", s.mul(a, b)),
            ("div", s.div(a, b)),
            ("sqrt", s.sqrt(a)),
            ("mul_add", s.mul_add(a, b, c)),
            ("relu", s.relu(a)),
            ("where_positive", s.where_positive(a, b)),
        ] {
            let mut out = vec![f32::NAN; n];
            // SAFETY: `out` has room for one vector.
            unsafe { s.store(out.as_mut_ptr(), v) };
            all.push((name, out));
        }
        all
    }
}

/// Loads the first `n` values and stores them into a buffer of sentinels.
struct Tails<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
    n: usize,
}

impl Op for Tails<'_> {
    /// Lanes of the vector that was loaded.
    type Out = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<f32> {
        assert!(self.n <= S::LANES && self.from.len() >= self.n && self.to.len() >= self.n);
        let mut lanes = vec![f32::NAN; S::LANES];
        // SAFETY: both slices hold at least n values, as just checked, and `lanes` one vector.
        unsafe {
            let v = s.load_first(self.from.as_ptr(), self.n);
            s.store(lanes.as_mut_ptr(), v);
            s.store_first(self.to.as_mut_ptr(), s.splat(7.0), self.n);
        }
        lanes
    }
}

/// Same bits, except that any NaN equals any NaN and the sign of zero does not count.
fn same(a: f32, b: f32) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

#[test]
fn every_operation_agrees_with_scalar_arithmetic() {
    let special = [
        1.5,
        -2.25,
        0.0,
        -0.0,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1e-40,
        -1e-40,
        3e38,
        7.0,
    ];
    for isa in Isa::available() {
        let fused = isa.name() != IsaName::Portable;
        let n = isa.lanes();
        for shift in 0..special.len() {
            for shift_b in 0..special.len() {
                let pick = |s: usize| -> Vec<f32> {
                    (0..n).map(|i| special[(i + s) % special.len()]).collect()
                };
                let (a, b, c) = (pick(shift), pick(shift_b), pick(shift + 2 * shift_b));
                let results = isa.run(Lanewise { a: &a, b: &b, c: &c });
                for (name, got) in results {
                    for i in 0..n {
                        let (x, y, z) = (a[i], b[i], c[i]);
                        let want = match name {
                            "splat" => a[0],
                            "add" => x + y,
                            "sub" => x - y,
                            "mul" => x * y,
                            "div" => x / y,
                            "sqrt" => x.sqrt(),
                            "mul_add" if fused => x.mul_add(y, z),
                            "mul_add" => x * y + z,
                            "relu" => {
                                if x <= 0.0 {
                                    0.0
                                } else {
                                    x
                                }
                            }
                            "where_positive" => {
                                if x > 0.0 {
                                    y
                                } else {
                                    0.0
                                }
                            }
                            other => unreachable!("{other}"),
                        };
                        assert!(same(got[i], want), "{isa} {name}({x}, {y}, {z}) = {}", got[i]);
                    }
                }
            }
        }
    }
}

#[test]
fn tails_touch_the_first_values_only() {
    let from: Vec<f32> = (1..=16).map(|i| i as f32).collect();
    for isa in Isa::available() {
        for n in 0..=isa.lanes() {
            let mut to = vec![-1.0; 16];
            // The exact-size copy lets a sanitizer see a read of one value too many.
            let exact = from[..n].to_vec();
            let lanes = isa.run(Tails { from: &exact, to: &mut to, n });
            for (i, &x) in lanes.iter().enumerate() {
                assert_eq!(x, if i < n { from[i] } else { 0.0 }, "{isa} load_first {n}");
            }
            for (i, &x) in to.iter().enumerate() {
                assert_eq!(x, if i < n { 7.0 } else { -1.0 }, "{isa} store_first {n}");
            }
        }
    }
}

/// Looks up eight rows of signs.
struct Lookups<'a> {
    /// Eight errors.
    errors: &'a [f32],
    /// The signs of each lane, and one word more.
    words: &'a [u8],
    /// Byte of the words to begin with.
    byte: usize,
}

impl Op for Lookups<'_> {
    /// For each lane the sum of all eight signed errors.
    type Out = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<f32> {
        assert!(self.byte < 4 && self.words.len() >= 4 * S::LANES + 4);
        let (mut table, mut out) = (vec![f32::NAN; S::ENTRIES], vec![f32::NAN; S::LANES]);
        let mut sum = s.splat(1000.0);
        // SAFETY: the words hold a vector from each of their first four bytes on, as just checked; `out` holds one.
        unsafe {
            let mut signs = s.signs(self.words.as_ptr().add(self.byte));
            for errors in self.errors.chunks_exact(S::SIGNS) {
                s.table(errors, &mut table);
                sum = s.add_lookup(sum, table.as_ptr(), s.key(signs));
                signs = s.skip(signs);
            }
            s.store(out.as_mut_ptr(), sum);
        }
        out
    }
}

#[test]
fn lookups_find_the_sums_that_the_signs_name() {
    let errors = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
    for isa in Isa::available() {
        for byte in 0..4 {
            for shift in 0..=255u8 {
                let words: Vec<u8> = (0..4 * isa.lanes() + 4)
                    .map(|i| (i as u8).wrapping_mul(37).wrapping_add(shift))
                    .collect();
                let got = isa.run(Lookups { errors: &errors, words: &words, byte });
                for (lane, got) in got.into_iter().enumerate() {
                    // The errors are the values of the bits: those that are set, less the others.
                    let want = 1000.0 + 2.0 * f32::from(words[4 * lane + byte]) - 255.0;
                    assert_eq!(got, want, "{isa}, byte {byte} of lane {lane}, {shift}");
                }
            }
        }
    }
}

#[test]
fn tile_heights_cover_every_row_count() {
    for isa in Isa::available() {
        let heights = isa.tile_heights();
        assert!(heights.is_sorted_by(|a, b| a > b), "{isa}: {heights:?}");
        assert_eq!(*heights.last().unwrap(), 1, "{isa}");
        assert_eq!(isa.panel_width() % isa.lanes(), 0, "{isa}");
    }
}

#[test]
fn a_name_that_is_not_there_is_an_error_that_lists_what_is() {
    let unknown = Isa::from_name("sse9").unwrap_err().to_string();
    assert!(unknown.contains("sse9") && unknown.contains("unknown"), "{unknown}");
    assert!(unknown.contains("portable"), "{unknown}");
    let there = Isa::available();
    for name in IsaName::ALL {
        match Isa::from_name(name.as_str()) {
            Ok(isa) => assert_eq!(isa.name(), name),
            Err(e) => {
                assert!(there.iter().all(|isa| isa.name() != name));
                assert!(e.to_string().contains("not available on this CPU"), "{e}");
            }
        }
    }
}
