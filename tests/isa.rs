//! Which instruction sets are there, that the required ones really run, and what `SAL_ISA` may choose.
//!
//! `SAL_REQUIRE_ISA=avx2,avx512` makes a missing one a failure: a test that is skipped in silence proves nothing.
//! Some tests start this binary again; under an emulator, `SAL_TEST_RUNNER`, or else the variable with which cargo was
//! told (`CARGO_TARGET_.._RUNNER`), says how.

mod common;

use common::calls::Call;
use common::{Pad, isas, required, say};
use sal_kernels::kernels::Activation;
use sal_kernels::reference::Shape;
use sal_kernels::{Isa, IsaName};
use std::process::Command;

#[test]
fn required_instruction_sets_are_there_and_run() {
    let names: Vec<String> = Isa::available().iter().map(|isa| isa.to_string()).collect();
    say(format_args!("available: {}", names.join(", ")));
    assert_eq!(names[0], "portable");
    isas();
    for name in required().iter().chain(&names) {
        let isa = Isa::from_name(name).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(isa.to_string(), *name);
        let shape = Shape { areas: 2, d_in: 2, d_out: 1 };
        let z = [1, 0, 1];
        let call = Call { isa, z: &z, areas: 2, pads: [Pad::default(); 4], fill: f32::NAN };
        let (x, w) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 10.0, 100.0, 1000.0]);
        let y = call.forward(shape, &x, &w, None, Activation::Identity);
        assert_eq!(y, [2100.0, 43.0, 6500.0], "{isa}");
        say(format_args!("ran: {isa}"));
    }
}

#[test]
fn a_required_name_that_is_missing_fails() {
    let missing = IsaName::ALL.iter().find(|n| Isa::from_name(n.as_str()).is_err()).unwrap();
    for (wish, fine) in [("portable", true), ("portable, sse9", false), (missing.as_str(), false)] {
        let test = "required_instruction_sets_are_there_and_run";
        let (passed, text) = again(test, "SAL_REQUIRE_ISA", wish);
        assert_eq!(passed, fine, "{wish}: {text}");
        assert!(fine || text.contains("this machine has: portable"), "{text}");
    }
}

/// What a child process finds: not a test of its own unless [`PROBE`] is set.
#[test]
fn probe() {
    if std::env::var_os(PROBE).is_some() {
        match Isa::detect() {
            Ok(isa) => println!("detected {isa}"),
            Err(e) => println!("refused {e}"),
        }
    }
}

const PROBE: &str = "SAL_TEST_PROBE";

#[test]
fn sal_isa_lowers_the_choice_and_nothing_else() {
    let available = Isa::available();
    let best = format!("detected {}", available.last().unwrap());
    for isa in &available {
        let (_, text) = again("probe", "SAL_ISA", isa.name().as_str());
        assert!(text.contains(&format!("detected {isa}")), "{text}");
    }
    let (_, text) = again("probe", "SAL_ISA", "");
    assert!(text.contains(&best), "an empty name is no choice: {text}");

    let list = available.iter().map(|isa| isa.name().as_str()).collect::<Vec<_>>().join(", ");
    let (_, text) = again("probe", "SAL_ISA", "sse9");
    let want = format!("refused instruction set \"sse9\" is unknown; this machine has: {list}");
    assert!(text.contains(&want), "{text}");
    for name in IsaName::ALL.map(IsaName::as_str) {
        if Isa::from_name(name).is_err() {
            let (_, text) = again("probe", "SAL_ISA", name);
            let want = format!("refused instruction set {name:?} is not available on this CPU");
            assert!(text.contains(&want), "{text}");
        }
    }
}

/// What has to stand before the path of this binary to start it.
fn runner() -> String {
    let ours = format!("CARGO_TARGET_{}_", std::env::consts::ARCH.to_uppercase());
    let of_cargo =
        |(name, _): &(String, String)| name.starts_with(&ours) && name.ends_with("_RUNNER");
    std::env::var("SAL_TEST_RUNNER").unwrap_or_else(|_| {
        std::env::vars().find(of_cargo).map_or(String::new(), |(_, runner)| runner)
    })
}

/// Runs one test of this file in a process of its own, with a variable set: (passed, what it printed).
fn again(test: &str, variable: &str, value: &str) -> (bool, String) {
    let binary = std::env::current_exe().unwrap();
    let runner = runner();
    let mut words = runner.split_whitespace().map(Into::into).chain([binary.into_os_string()]);
    let output = Command::new(words.next().unwrap())
        .args(words)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env_remove("SAL_ISA")
        .env_remove("SAL_REQUIRE_ISA")
        .env(PROBE, "1")
        .env(variable, value)
        .output()
        .unwrap_or_else(|e| panic!("{e}; does this binary need a SAL_TEST_RUNNER?"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("1 passed") || text.contains("1 failed"), "no test {test}: {text}");
    (output.status.success(), text)
}
