//! The rules of the house, read off the source: imports point down, `unsafe` stays in its few files and says why it is
//! sound, instruction sets are named in `simd/` only, and no code outlives its caller in a thread pool.
//!
//! ```text
//! 6 bin | 5 train, over data and report | 4 model | 3 kernels | 2 gemm | 1 caches matrix panels plan random signs limits | 0 simd
//! ```

#[path = "common/source.rs"]
mod source;

use source::Source;
use std::path::Path;

/// Rooms from the ground up: a room may import those before it. Neighbours of one floor are in order too.
const ROOMS: [&str; 14] = [
    "simd", "caches", "matrix", "panels", "plan", "random", "signs", "limits", "gemm", "kernels",
    "model", "data", "report", "train",
];

/// Rooms of floors 0 and 1.
const LOW: usize = 8;

/// It may use the lowest floors, and only tests may use it.
const ORACLE: &str = "reference";

/// But for this file: `sal bench` times nothing that the oracle has not agreed with, so it takes the oracle along.
const CHECKER: &str = "src/bin/sal/bench/check.rs";

/// Where `unsafe` may be written; a folder ends with a slash.
const UNSAFE: [&str; 5] =
    ["src/simd/", "src/gemm/tile.rs", "src/gemm/store.rs", "src/gemm/few_rows.rs", "src/matrix.rs"];

/// All of `src/`. Nothing, with a word about it, where the tests run without their source: in an emulated machine.
fn sources() -> Option<Vec<Source>> {
    fn visit(folder: &Path, root: &Path, all: &mut Vec<Source>) {
        let mut entries: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                visit(&path, root, all);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                all.push(Source::new(&name, &std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !root.exists() {
        eprintln!("skipped: there is no source at {}", root.display());
        return None;
    }
    let mut all = Vec::new();
    visit(&root.join("src"), root, &mut all);
    assert!(all.iter().any(|s| s.path == "src/lib.rs"), "no source found");
    Some(all)
}

#[track_caller]
fn assert_none(check: impl Fn(&[Source]) -> Vec<String>) {
    if let Some(sources) = sources() {
        let complaints = check(&sources);
        assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    }
}

/// Each of the sources must be complained about, and `fine` must not.
#[track_caller]
fn assert_catches(
    check: impl Fn(&[Source]) -> Vec<String>,
    fine: &[(&str, &str)],
    wrong: &[(&str, &str)],
) {
    let parse = |&(path, text): &(&str, &str)| Source::new(path, text);
    let complaints = check(&fine.iter().map(parse).collect::<Vec<_>>());
    assert!(complaints.is_empty(), "{complaints:?}");
    for one in wrong {
        let sources: Vec<Source> = fine.iter().chain([one]).map(parse).collect();
        assert!(!check(&sources).is_empty(), "not caught: {one:?}");
    }
}

/// Imports that do not point down. Names that `lib.rs` exports again count as their room's.
fn upward_imports(sources: &[Source]) -> Vec<String> {
    let mut exported = Vec::new();
    for lib in sources.iter().filter(|s| s.path == "src/lib.rs") {
        for room in ROOMS {
            exported.extend(lib.paths(room).into_iter().map(|(_, path)| (path[0].clone(), room)));
        }
    }
    let room_of = |first: &str| {
        let found = exported.iter().find(|(name, _)| name == first);
        found.map_or(first.to_owned(), |(_, room)| (*room).to_owned())
    };
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|s| s.path != "src/lib.rs") {
        let module = source.module();
        let from = module[0].as_str();
        let of_binary = from == "bin";
        if !of_binary && from != ORACLE && !ROOMS.contains(&from) {
            complaints.push(format!("{}: the room {from} is on no floor", source.path));
            continue;
        }
        for (i, path) in imports(source).into_iter().filter(|&(i, _)| !source.in_tests(i)) {
            let to = room_of(&path[0]);
            let allowed = if of_binary {
                to != ORACLE || source.path == CHECKER
            } else if from == ORACLE {
                to == ORACLE || ROOMS[..LOW].contains(&&*to)
            } else {
                let floor = |room: &str| ROOMS.iter().position(|r| *r == room);
                floor(&to).is_some_and(|to| Some(to) <= floor(from))
            };
            if !allowed {
                complaints.push(format!("{}: {from} imports {to}", source.place(i)));
            }
        }
    }
    complaints
}

/// Paths into this crate, from its root: `crate::a`, what `super` leads to, and `sal_kernels::a` in the binary.
fn imports(source: &Source) -> Vec<(usize, Vec<String>)> {
    if source.path.starts_with("src/bin/") {
        return source.paths("sal_kernels");
    }
    let mut all = source.paths("crate");
    for (i, path) in source.paths("super") {
        let mut from = source.module();
        from.extend(source.tokens[i].modules.iter().cloned());
        from.pop();
        for part in path {
            match part.as_str() {
                "super" => drop(from.pop()),
                _ => from.push(part),
            }
        }
        all.push((i, from));
    }
    all.retain(|(_, path)| !path.is_empty());
    all
}

#[test]
fn imports_point_down() {
    assert_none(upward_imports);
}

#[test]
fn an_upward_import_is_caught() {
    assert_catches(
        upward_imports,
        &[
            (
                "src/lib.rs",
                "pub mod kernels; pub use kernels::{Routes, route as r}; pub use plan::RoutePlan;",
            ),
            ("src/panels.rs", "use crate::matrix::Matrix; // crate::model"),
            (
                "src/gemm/area.rs",
                "use super::pack; use super::super::plan::RoutePlan; use crate::RoutePlan;",
            ),
            ("src/train/mod.rs", "use crate::{data::Split, report, model::*};"),
            (
                "src/kernels/mod.rs",
                "mod tests { use super::*; use crate::reference; use crate::model; }",
            ),
            ("src/reference.rs", "use crate::plan::RoutePlan; mod tests { use super::*; }"),
            (
                "src/bin/sal/main.rs",
                "use sal_kernels::train::{self, Trainer}; mod args; use crate::args;",
            ),
            (CHECKER, "use sal_kernels::{kernels, reference};"),
        ],
        &[
            ("src/matrix.rs", "use crate::panels::Panels;"),
            ("src/simd/mod.rs", "fn f() { crate::matrix::g() }"),
            ("src/gemm/pack.rs", "use crate::{plan::RoutePlan, kernels::{self, route}};"),
            ("src/gemm/pack.rs", "use crate::Routes;"),
            ("src/gemm/pack.rs", "use super::super::model;"),
            ("src/plan.rs", "mod inner { use super::super::gemm; }"),
            ("src/data/idx.rs", "use crate::train::Trainer;"),
            ("src/model/layer.rs", "use crate::reference::forward;"),
            ("src/bin/sal/eval.rs", "use sal_kernels::{model, reference};"),
            ("src/bin/sal/bench/mod.rs", "use sal_kernels::reference::forward;"),
            ("src/reference.rs", "use crate::kernels::Averaging;"),
            ("src/attic/mod.rs", "fn f() {}"),
        ],
    );
}

fn may_be_unsafe(path: &str) -> bool {
    UNSAFE.iter().any(|u| if u.ends_with('/') { path.starts_with(u) } else { path == *u })
}

/// `unsafe` outside of its files, permission for it elsewhere, and `unsafe` that gives no reason.
fn unsafe_off_the_map(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let denied = |s: &Source| {
        (0..s.tokens.len()).any(|i| s.is_at(i, &["#", "!", "[", "deny", "(", "unsafe_code", ")"]))
    };
    if !sources.iter().any(|s| s.path == "src/lib.rs" && denied(s)) {
        complaints.push("src/lib.rs does not deny unsafe_code".to_owned());
    }
    for source in sources {
        for i in 0..source.tokens.len() {
            match source.at(i) {
                "unsafe" if !may_be_unsafe(&source.path) => {
                    complaints.push(format!("{}: unsafe", source.place(i)));
                }
                "unsafe" => complaints.extend(without_reason(source, i)),
                "unsafe_code" => complaints.extend(wrong_permission(source, i)),
                _ => {}
            }
        }
    }
    complaints
}

/// What is missing at the `unsafe` at token `i`.
fn without_reason(source: &Source, i: usize) -> Option<String> {
    let line = source.tokens[i].line;
    let lines = |from: usize| source.lines[from..=line].iter().map(|l| l.trim_start());
    let (fine, wants) = match source.at(i + 1) {
        "{" | "impl" => {
            let near = line.saturating_sub(3);
            (lines(near).any(|l| l.contains("// SAFETY:")), "a comment // SAFETY:")
        }
        // A type, or a method that a trait has documented.
        "fn" if source.at(i + 2) == "(" || source.tokens[i].in_trait_impl => return None,
        "fn" | "trait" => {
            let above = (0..line).rev().take_while(|&l| {
                let text = source.lines[l].trim_start();
                text.starts_with("//") || text.starts_with("#[")
            });
            let first = above.last().unwrap_or(line);
            (lines(first).any(|l| l.starts_with("/// # Safety")), "a section # Safety")
        }
        _ => (false, "a rule in tests/house.rs"),
    };
    (!fine).then(|| format!("{}: unsafe {} wants {wants}", source.place(i), source.at(i + 1)))
}

/// What is wrong with the lint level of `unsafe_code` at token `i`.
fn wrong_permission(source: &Source, i: usize) -> Option<String> {
    let open = (0..i).rev().find(|&n| source.at(n) == "(")?;
    if matches!(source.at(open - 1), "deny" | "forbid") {
        return None;
    }
    let close = (i..source.tokens.len()).find(|&n| source.at(n) == "]")?;
    let inner = source.at(open - 3) == "!";
    let module = (close..close + 6).find(|&n| source.at(n) == "mod");
    let fine = match module {
        _ if inner => may_be_unsafe(&source.path),
        Some(n) if source.at(n + 2) == ";" => {
            let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let name = source.at(n + 1);
            may_be_unsafe(&format!("{folder}/{name}.rs"))
                || may_be_unsafe(&format!("{folder}/{name}/"))
        }
        _ => false,
    };
    (!fine).then(|| format!("{}: permission for unsafe_code", source.place(i)))
}

#[test]
fn unsafe_stays_on_its_map_and_gives_reasons() {
    assert_none(unsafe_off_the_map);
}

#[test]
fn unsafe_off_its_map_or_without_reason_is_caught() {
    let lib = "#![deny(unsafe_code)]\n#[allow(unsafe_code)]\nmod simd;";
    assert_catches(
        unsafe_off_the_map,
        &[
            ("src/lib.rs", lib),
            ("src/plan.rs", "// unsafe { }\nfn f() { \"unsafe\"; }"),
            ("src/gemm/mod.rs", "#[allow(unsafe_code)]\npub(crate) mod tile;"),
            (
                "src/gemm/tile.rs",
                "/// Reads.\n///\n/// # Safety\n/// - `p` is valid\n#[inline(always)]\npub(crate) unsafe fn f() {}\n\
                 // SAFETY: checked\n// above.\nlet x =\n    unsafe { f() };\n\
                 // SAFETY: one owner\nunsafe impl Send for X {}\n\
                 impl T for X { unsafe fn g() {} }\n\
                 type F = unsafe fn(usize);",
            ),
        ],
        &[
            ("src/plan.rs", "// SAFETY: fine\nunsafe { f() }"),
            ("src/gemm/area.rs", "/// # Safety\nunsafe fn f() {}"),
            ("src/simd/x.rs", "unsafe { f() }"),
            ("src/simd/x.rs", "// SAFETY: far\n\n\n\nunsafe { f() }"),
            ("src/simd/x.rs", "unsafe impl Send for X {}"),
            ("src/simd/x.rs", "/// Reads.\nunsafe fn f() {}"),
            ("src/simd/x.rs", "impl X {\n    unsafe fn f() {}\n}"),
            ("src/simd/x.rs", "unsafe trait T {}"),
            ("src/gemm/pack.rs", "#![allow(unsafe_code)]"),
            ("src/kernels/mod.rs", "#[allow(dead_code, unsafe_code)]\nmod loss;"),
            ("src/plan.rs", "#[expect(unsafe_code)]\nfn f() {}"),
        ],
    );
    assert!(!unsafe_off_the_map(&[Source::new("src/lib.rs", "mod simd;")]).is_empty());
}

/// Instruction sets and architectures outside of `simd/`.
fn architecture_outside_of_simd(sources: &[Source]) -> Vec<String> {
    const WORDS: [&str; 4] =
        ["target_arch", "target_feature", "is_x86_feature_detected", "is_aarch64_feature_detected"];
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|s| !s.path.starts_with("src/simd/")) {
        let word = |&i: &usize| WORDS.contains(&source.at(i));
        let path = ["core", "std"].into_iter().flat_map(|root| source.paths(root));
        let path = path.filter(|(_, path)| path[0] == "arch").map(|(i, _)| i);
        for i in (0..source.tokens.len()).filter(word).chain(path) {
            complaints.push(format!("{}: {} outside of simd", source.place(i), source.at(i)));
        }
    }
    complaints
}

#[test]
fn architectures_are_known_to_simd_only() {
    assert_none(architecture_outside_of_simd);
}

#[test]
fn an_architecture_elsewhere_is_caught() {
    assert_catches(
        architecture_outside_of_simd,
        &[
            (
                "src/simd/avx2.rs",
                "use std::arch::x86_64::*; #[cfg(target_arch = \"x86_64\")] fn f() {}",
            ),
            ("src/bin/sal/info.rs", "fn f() { std::env::consts::ARCH; } // std::arch"),
        ],
        &[
            ("src/gemm/tile.rs", "#[cfg(target_arch = \"x86_64\")] fn f() {}"),
            ("src/gemm/tile.rs", "#[target_feature(enable = \"avx2\")] fn f() {}"),
            ("src/gemm/tile.rs", "use std::{arch::x86_64::_mm_pause, fmt};"),
            ("src/gemm/tile.rs", "fn f() { core::arch::x86_64::_mm_pause() }"),
            ("src/kernels/mod.rs", "fn f() -> bool { is_x86_feature_detected!(\"avx2\") }"),
        ],
    );
}

/// Work that outlives its caller, and changes to the pool that everyone shares. A panic in `rayon::spawn` aborts.
fn loose_threads(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (i, path) in source.paths("rayon") {
            if path.iter().any(|part| part.starts_with("spawn")) {
                complaints.push(format!("{}: rayon::{}", source.place(i), path.join("::")));
            }
        }
        for i in (0..source.tokens.len()).filter(|&i| source.at(i) == "build_global") {
            complaints.push(format!("{}: build_global", source.place(i)));
        }
    }
    complaints
}

#[test]
fn threads_stay_with_their_caller() {
    assert_none(loose_threads);
}

#[test]
fn a_loose_thread_is_caught() {
    assert_catches(
        loose_threads,
        &[(
            "src/gemm/schedule.rs",
            "use rayon::prelude::*; fn f() { rayon::current_num_threads(); }",
        )],
        &[
            ("src/gemm/schedule.rs", "fn f() { rayon::spawn(|| ()); }"),
            ("src/train/mod.rs", "use rayon::{prelude::*, spawn_fifo};"),
            (
                "src/bin/sal/main.rs",
                "fn f() { rayon::ThreadPoolBuilder::new().build_global().unwrap(); }",
            ),
        ],
    );
}
