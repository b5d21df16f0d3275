//! No intrinsic of the kernels is a call: one forgotten `#[inline(always)]` still gives right numbers, but leaves
//! `core::core_arch` functions in the binary, and each vector operation then costs a call.
//!
//! The test reads its own symbol table, so it has to be optimised: `cargo test --release --test outlined`.

mod common;

use common::calls::{Call, Router};
use common::{Pad, say};
use object::{Object, ObjectSymbol};
use sal_kernels::kernels::{Activation, Averaging, Optimizer, Similarity, UpdateRule};
use sal_kernels::reference::Shape;
use sal_kernels::{Isa, limits};
use std::time::Duration;

/// Calls every verb once, so that its code is in this binary, for each instruction set that it was compiled for.
fn link_every_kernel() {
    let isa = Isa::detect().unwrap();
    let shape = Shape { areas: 1, d_in: 1, d_out: 1 };
    let call = Call { isa, z: &[0], areas: 1, pads: [Pad::default(); 4], fill: 0.0 };
    let one = [1.0];
    assert_eq!(call.forward(shape, &one, &one, Some(&one), Activation::Relu), [2.0]);
    assert_eq!(call.feedback(shape, &one, &one, Some(&one)), [1.0]);
    let router = Router {
        d_in: 1,
        width: 1,
        areas: 1,
        projection: vec![1.0],
        prototypes: vec![1.0],
        mean: None,
        bias: vec![0.0],
        similarity: Similarity::Cosine,
    };
    assert_eq!(call.route(&router, &one).areas(), [0]);
    for optimizer in [Optimizer::Sgd, Optimizer::Momentum { momentum: 0.5 }, Optimizer::ADAMW] {
        let averaging = Averaging::Area;
        let rule = UpdateRule { optimizer, lr: 0.5, weight_decay: 0.0, averaging };
        let mut layer = call.layer(shape, &one, None, optimizer);
        call.update(&mut layer, &one, &one, &rule);
        assert!(layer.weights.get(0, 0, 0) < 1.0);
    }
    assert!(limits::fma_peak(isa, Duration::ZERO) > 0.0);
    assert!(limits::read_bandwidth(isa, 1000, Duration::ZERO).unwrap() > 0.0);
    assert!(limits::update_bandwidth(isa, 1000, Duration::ZERO).unwrap() > 0.0);
}

/// Two parts each of names that must be there, at least as often as there are kinds of kernels: doors on x86-64, and the
/// verbs where NEON belongs to the baseline, so that a door may be inlined as well.
fn wanted() -> &'static [[&'static str; 2]] {
    match std::env::consts::ARCH {
        "x86_64" => &[["4simd4avx2", "4door"], ["4simd6avx512", "4door"]],
        _ => &[["11sal_kernels", "7kernels"]],
    }
}

/// The forward product, the gated one, the update and the peak.
const KINDS: usize = 4;

/// Modules of `core_arch` that the standard library itself calls, to find out what the CPU has.
const DETECTION: [&str; 2] = ["5cpuid", "5xsave"];

/// What is wrong with a binary that has these symbols. Names are mangled, in either scheme: `4door` is `door`.
fn complaints(names: &[String], wanted: &[[&str; 2]]) -> Vec<String> {
    let mut all: Vec<String> = names
        .iter()
        .filter(|n| n.contains("core_arch") && !DETECTION.iter().any(|d| n.contains(d)))
        .map(|n| format!("an intrinsic was not inlined: {n}"))
        .collect();
    for parts in wanted {
        let found = names.iter().filter(|n| parts.iter().all(|p| n.contains(p))).count();
        if found < KINDS {
            all.push(format!("{found} times {parts:?} in {} symbols, want {KINDS}", names.len()));
        }
    }
    all
}

#[test]
fn no_intrinsic_is_a_call() {
    if cfg!(debug_assertions) {
        return say(
            "skipped: outlined intrinsics are looked for in release builds (cargo test --release)",
        );
    }
    link_every_kernel();
    let binary = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let file = object::File::parse(&*binary).unwrap();
    let names: Vec<String> =
        file.symbols().filter_map(|s| s.name().ok().map(str::to_owned)).collect();
    let complaints = complaints(&names, wanted());
    assert!(complaints.is_empty(), "{complaints:#?}");
    say(format_args!("no outlined intrinsic among {} symbols", names.len()));
}

#[test]
fn the_check_can_fail() {
    let strings = |names: &[&str]| -> Vec<String> { names.iter().map(|&n| n.into()).collect() };
    let door = "_ZN11sal_kernels4simd4avx24Avx25enter4door17h0123456789abcdefE";
    let avx2 = [["4simd4avx2", "4door"]];
    assert!(complaints(&strings(&[door; KINDS]), &avx2).is_empty());
    assert_eq!(complaints(&strings(&[door; KINDS - 1]), &avx2).len(), 1);
    assert_eq!(complaints(&[], &[avx2[0], ["4simd6avx512", "4door"]]).len(), 2);
    let with = |name: &str| {
        let mut names = strings(&[door; KINDS]);
        names.push(name.to_owned());
        complaints(&names, &avx2).len()
    };
    assert_eq!(with("_ZN4core9core_arch3x863fma15_mm256_fmadd_ps17h0123456789abcdefE"), 1);
    assert_eq!(with("_RNvNtNtNtCsgEmfK2I1SDS_4core9core_arch3x865xsave7__xgetbv"), 0);
}
