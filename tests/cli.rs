//! The `sal` binary as its users meet it: what it prints, what it writes, how it fails.
#![cfg(feature = "cli")]

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a finished command left behind.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn sal(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sal"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Done {
    finish(sal(args))
}

fn finish(mut command: Command) -> Done {
    let output = command.output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Done {
    /// Nothing on standard error, code 0: what was printed.
    fn good(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        assert!(!self.stdout.contains(['\x1b', '\r']), "not plain: {:?}", self.stdout);
        self.stdout
    }

    /// One line on standard error that begins with `error: `, and nothing on standard output: what follows it.
    fn refused(self, code: i32) -> String {
        assert_eq!(self.stdout, "", "{}", self.stderr);
        self.failed(code)
    }

    /// As `refused`, but after something was printed.
    fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let line = self.stderr.strip_suffix('\n').expect("a whole line");
        assert_eq!(line.lines().count(), 1, "{line}");
        line.strip_prefix("error: ").expect("an error").to_owned()
    }

    /// A usage error of the parser: the first line of several, code 2.
    fn misused(self) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""));
        let line = self.stderr.lines().next().expect("a line");
        line.strip_prefix("error: ").expect("an error").to_owned()
    }
}

/// A directory that goes when the test ends.
struct Temporary(PathBuf);

impl Temporary {
    fn new(test: &str) -> Self {
        let name = format!("cli-{test}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.0.join(file), bytes).unwrap();
    }

    /// Names in the directory, sorted.
    fn list(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Writes `n` images of 3x3 and their labels: class 1 is bright where class 0 is dark.
    fn write_images(&self, part: &str, n: usize) {
        let label = |i: usize| (i % 2) as u8;
        let pixel = |i: usize, p: usize| {
            let noise = (i * 7 + p * 13) % 50;
            (if p < 5 { 200 * label(i) as usize + noise } else { noise }) as u8
        };
        let images: Vec<u8> = (0..n).flat_map(|i| (0..9).map(move |p| pixel(i, p))).collect();
        let labels: Vec<u8> = (0..n).map(label).collect();
        self.write(&format!("{part}-images-idx3-ubyte"), &idx(&[n, 3, 3], &images));
        self.write(&format!("{part}-labels-idx1-ubyte"), &idx(&[n], &labels));
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn idx(dims: &[usize], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|&d| file.extend((d as u32).to_be_bytes()));
    file.extend(bytes);
    file
}

/// Two epochs of a small network on digits, and `more` flags.
fn digits(more: &[&str]) -> Done {
    run(&[&["train", "digits", "--epochs", "2", "--hidden", "32"], more].concat())
}

/// The text after a label at the start of a line.
fn field<'a>(stdout: &'a str, label: &str) -> &'a str {
    let rows = || stdout.lines().filter_map(|line| line.strip_prefix(label));
    let row = rows().find(|rest| rest.starts_with(' '));
    row.unwrap_or_else(|| panic!("no {label:?} in\n{stdout}")).trim()
}

fn hash(stdout: &str) -> &str {
    field(stdout, "weights hash")
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).expect("the JSON file")).expect("JSON")
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_run_prints_a_header_a_line_an_epoch_and_a_summary() {
    let out = digits(&["--threads", "2", "--isa", "portable"]).good();
    let (header, rest) = out.split_once("\n\n").unwrap();
    let (table, closing) = rest.split_once("\n\n").unwrap();

    let labels: Vec<_> = header.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    let want =
        "data split network parameters router feedback preset training optimizer isa threads seed";
    assert_eq!(labels.join(" "), want);
    assert_eq!(field(&out, "data"), "digits, 1797 samples of 64 features, 10 classes");
    assert_eq!(field(&out, "split"), "1438 train, 359 test");
    assert_eq!(field(&out, "network"), "64 -> 32 (4 areas) -> 10 (1 area)");
    let (all, active) = (4 * 65 * 32 + 33 * 10, 65 * 32 + 33 * 10);
    assert_eq!(field(&out, "parameters"), format!("{all}, of which {active} active per sample"));
    assert_eq!(field(&out, "preset"), "tuned");
    assert_eq!(field(&out, "feedback"), "fa, gaussian entries");
    assert!(field(&out, "training").starts_with("2 epochs"));
    assert_eq!(field(&out, "isa"), "portable, tile 4x8");
    assert_eq!(field(&out, "threads"), "2");
    assert_eq!(field(&out, "seed"), "0");

    let lines: Vec<_> = table.lines().collect();
    let head = "epoch  mode    train loss  test accuracy  entropy  empty areas  samples/s";
    assert_eq!((lines[0], lines.len()), (head, 3));
    for (i, line) in lines[1..].iter().enumerate() {
        assert_eq!(line.len(), head.len(), "not aligned: {line}");
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells.len(), 8, "{line}");
        assert_eq!(cells[0], (i + 1).to_string());
        assert!(["dense", "routed"].contains(&cells[1]), "{line}");
        assert_eq!(cells[4], "%");
        for cell in [2, 3, 5, 6, 7] {
            assert!(cells[cell].parse::<f64>().unwrap().is_finite(), "{line}");
        }
    }

    let labels = ["test accuracy", "seconds", "samples per second", "weights hash"];
    assert_eq!(closing.lines().count(), labels.len());
    labels.iter().for_each(|label| assert!(!field(closing, label).is_empty()));
    let accuracy: f64 = field(closing, labels[0]).strip_suffix(" %").unwrap().parse().unwrap();
    assert!((60.0..=100.0).contains(&accuracy), "{accuracy} %");
    assert!(hash(closing).len() == 16 && u64::from_str_radix(hash(closing), 16).is_ok());
}

#[test]
fn the_json_file_holds_the_whole_run() {
    let dir = Temporary::new("json");
    let path = dir.path("run.json");
    let out = digits(&["--json", &path, "--seed", "3"]).good();
    assert_eq!(field(&out, "json"), path);
    assert_eq!(dir.list(), ["run.json"]);
    assert!(fs::read_to_string(&path).unwrap().ends_with("}\n"));

    let run = json(&path);
    assert_eq!(keys(&run), ["config", "epochs", "final"]);
    let config = &run["config"];
    for key in ["version", "data", "evaluated_on", "preset", "schedule", "averaging", "feedback"]
        .iter()
        .chain(&["feedback_entries", "scaling", "isa"])
    {
        assert!(config[key].is_string(), "{key}: {}", config[key]);
    }
    for key in ["samples", "features", "classes", "seed", "areas", "output_areas", "epochs"]
        .iter()
        .chain(&["batch", "warm_epochs", "threads", "parameters", "active_parameters"])
    {
        assert!(config[key].is_u64(), "{key}: {}", config[key]);
    }
    for key in ["lr", "warm_start", "weight_decay"] {
        assert!(config[key].is_number(), "{key}: {}", config[key]);
    }
    for key in ["tie", "shared_feedback", "zero_output"] {
        assert!(config[key].is_boolean(), "{key}: {}", config[key]);
    }
    assert_eq!(keys(&config["split"]), ["train", "validation", "test"]);
    let router = ["rule", "similarity", "width", "tau", "alpha", "gamma", "lr", "centred"];
    assert_eq!(keys(&config["router"]), router);
    assert_eq!(keys(&config["optimizer"]), ["name", "beta1", "beta2", "eps"]);
    assert_eq!(config["data"], "digits");
    assert_eq!(config["evaluated_on"], "test");
    assert_eq!(config["seed"], 3);
    assert_eq!(config["hidden"], serde_json::json!([32]));
    assert_eq!(config["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(config["optimizer"]["beta1"], 0.9); // the shortest decimal of the f32

    let epochs = run["epochs"].as_array().unwrap();
    assert_eq!(epochs.len(), 2);
    for (i, epoch) in epochs.iter().enumerate() {
        let want = ["epoch", "dense", "train_loss", "test_accuracy", "occupancy_entropy"];
        assert_eq!(keys(epoch), [&want[..], &["empty_areas", "samples_per_second"]].concat());
        assert_eq!(epoch["epoch"], i + 1);
        assert!(epoch["dense"].is_boolean() && epoch["empty_areas"].is_u64());
        for key in ["train_loss", "test_accuracy", "occupancy_entropy", "samples_per_second"] {
            assert!(epoch[key].as_f64().unwrap().is_finite(), "{key}");
        }
    }
    let last = &run["final"];
    assert_eq!(keys(last), ["test_accuracy", "seconds", "samples_per_second", "weights_hash"]);
    assert_eq!(last["test_accuracy"], epochs[1]["test_accuracy"]);
    assert!((0.6..=1.0).contains(&last["test_accuracy"].as_f64().unwrap()));
    assert!(last["seconds"].as_f64().unwrap() > 0.0);
    assert!(last["samples_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(last["weights_hash"], hash(&out));
}

#[test]
fn every_flag_reaches_the_run() {
    let dir = Temporary::new("flags");
    let path = dir.path("run.json");
    let flags = [
        "train digits --hidden 24,16 --areas 2 --output-areas all --tie --feedback dfa --epochs 4",
        "--feedback-entries sign --shared-feedback --batch 50 --lr 0.001 --weight-decay 0.25 --optimizer momentum --averaging load --warm-start 0.5",
        "--router label --seed 7 --threads 1 --isa portable --validate --json",
    ];
    let flags = flags.iter().flat_map(|line| line.split(' '));
    let out = run(&flags.chain([path.as_str()]).collect::<Vec<_>>()).good();
    assert_eq!(field(&out, "network"), "64 -> 24 (2 areas) -> 16 (2 areas) -> 10 (2 areas)");
    assert_eq!(field(&out, "router"), "label, cosine, once for all layers");
    assert_eq!(field(&out, "feedback"), "dfa, sign entries, shared by the areas");
    assert_eq!(field(&out, "training"), "4 epochs (2 dense), batch 50, lr 0.001 cosine");
    assert_eq!(field(&out, "optimizer"), "momentum, weight decay 0.25, averaging load");
    assert_eq!(out.matches("  dense ").count(), 2);
    assert_eq!(out.matches("  routed ").count(), 2);

    let config = &json(&path)["config"];
    let want = serde_json::json!({
        "seed": 7, "areas": 2, "hidden": [24, 16], "output_areas": 2, "tie": true, "epochs": 4, "batch": 50,
        "lr": 0.001, "warm_start": 0.5, "warm_epochs": 2, "optimizer": { "name": "momentum", "momentum": 0.9 },
        "weight_decay": 0.25, "averaging": "load", "feedback": "dfa", "feedback_entries": "sign", "shared_feedback": true,
        "isa": "portable", "threads": 1, "evaluated_on": "validation",
    });
    for (key, value) in want.as_object().unwrap() {
        assert_eq!(&config[key], value, "{key}");
    }
    assert_eq!(config["router"]["rule"], "label");
}

#[test]
fn presets_and_the_other_choices_run() {
    let out = digits(&["--preset", "paper"]).good();
    assert_eq!(field(&out, "network"), "64 -> 32 (4 areas) -> 10 (4 areas)");
    assert_eq!(field(&out, "training"), "2 epochs, batch 16, lr 0.0001 constant");
    for (flag, values) in [
        ("--feedback", "fa dfa bp"),
        ("--feedback-entries", "gaussian sign"),
        ("--router", "fixed sharp label"),
        ("--averaging", "area batch load sqrt sum"),
        ("--optimizer", "sgd momentum adamw"),
        ("--output-areas", "one all"),
    ] {
        for value in values.split(' ') {
            // A step so small that the plain sum does not diverge.
            digits(&[flag, value, "--lr", "0.0001"]).good();
        }
    }
    let out = digits(&["--feedback", "bp", "--shared-feedback"]).good();
    assert_eq!(field(&out, "feedback"), "bp");
    let message = digits(&["--feedback", "bp", "--feedback-entries", "sign"]).refused(2);
    assert!(message.starts_with("feedback entries: got sign, want gaussian"), "{message}");
    let out = digits(&["--areas", "1"]).good();
    assert_eq!(field(&out, "router"), "none");
    assert_eq!(out.matches("  dense ").count(), 2, "{out}");
}

#[test]
fn weights_depend_on_the_seed_and_not_on_threads() {
    // Large enough for the work to be split.
    let of = |more: &[&str]| {
        let flags = ["train", "digits", "--epochs", "2", "--hidden", "32", "--batch", "512"];
        hash(&run(&[&flags, more].concat()).good()).to_owned()
    };
    let one = of(&["--threads", "1"]);
    assert_eq!(of(&["--threads", "1"]), one);
    assert_eq!(of(&["--threads", "2"]), one);
    assert_eq!(of(&["--threads", "7"]), one);
    assert_ne!(of(&["--threads", "1", "--seed", "1"]), one);
}

#[test]
fn validation_takes_its_samples_from_the_training_part() {
    let dir = Temporary::new("validate");
    let path = dir.path("run.json");
    let out = digits(&["--validate", "--json", &path]).good();
    assert_eq!(field(&out, "split"), "1150 train, 288 validation, 359 test, not touched");
    assert!(out.contains("  validation accuracy  ") && !out.contains("test accuracy"), "{out}");
    assert!(field(&out, "validation accuracy").ends_with(" %"));
    let config = &json(&path)["config"];
    assert_eq!(config["evaluated_on"], "validation");
    assert_eq!(config["split"], serde_json::json!({"train": 1150, "validation": 288, "test": 359}));
    assert_eq!(config["samples"], 1797);
}

#[test]
fn a_directory_of_idx_files_trains() {
    let dir = Temporary::new("idx");
    dir.write_images("train", 40);
    let train = |more: &[&str]| {
        let at = dir.0.to_str().unwrap();
        let flags = ["train", at, "--hidden", "8", "--areas", "2", "--epochs", "30"];
        run(&[&flags, more].concat()).good()
    };
    let name = dir.0.file_name().unwrap().to_str().unwrap();

    let out = train(&[]);
    assert_eq!(field(&out, "data"), format!("{name}, 40 samples of 9 features, 2 classes"));
    assert_eq!(field(&out, "split"), "32 train, 8 test");
    assert_eq!(field(&out, "test accuracy"), "100.00 %");
    // No batch is larger than the training part.
    assert!(field(&train(&["--batch", "1000000"]), "training").contains("batch 32,"));
    assert_eq!(
        field(&train(&["--validate"]), "split"),
        "26 train, 6 validation, 8 test, not touched"
    );

    dir.write_images("t10k", 20);
    let out = train(&[]);
    assert_eq!(field(&out, "split"), "40 train, 20 test");
    assert_eq!(field(&out, "test accuracy"), "100.00 %");
    let out = train(&["--validate"]);
    assert_eq!(field(&out, "split"), "32 train, 8 validation, 20 test, not touched");

    dir.write_images("train", 2);
    fs::remove_file(dir.path("t10k-images-idx3-ubyte")).unwrap();
    fs::remove_file(dir.path("t10k-labels-idx1-ubyte")).unwrap();
    let message = run(&["train", dir.0.to_str().unwrap()]).refused(1);
    assert!(message.ends_with("too few samples (2) for a test part"), "{message}");
}

#[test]
fn damaged_files_are_named() {
    let dir = Temporary::new("damaged");
    let refused = || run(&["train", dir.0.to_str().unwrap()]).refused(1);
    let fresh = || {
        dir.write_images("train", 40);
        dir.write_images("t10k", 10);
    };
    let expect = |file: &str, what: &str| {
        let message = refused();
        assert!(message.starts_with(&format!("{}: ", dir.path(file))), "{message}");
        assert!(message.contains(what), "{message}");
    };

    assert!(refused().contains("no file train-images-idx3-ubyte"));
    fresh();
    dir.write("train-images-idx3-ubyte", &idx(&[40, 3, 3], &[0; 359]));
    expect("train-images-idx3-ubyte", "announces 360 bytes");
    fresh();
    dir.write("train-labels-idx1-ubyte", &idx(&[39], &[0; 39]));
    expect("train-labels-idx1-ubyte", "39 labels, but 40 images");
    fresh();
    dir.write("t10k-labels-idx1-ubyte", &idx(&[10], &[0, 1, 0, 1, 2, 1, 0, 1, 0, 1]));
    expect("t10k-labels-idx1-ubyte", "label of sample 4: got 2, want less than 2");
    fresh();
    dir.write("t10k-images-idx3-ubyte", b"not a tensor");
    expect("t10k-images-idx3-ubyte", "no IDX file");
    fresh();
    dir.write("t10k-images-idx3-ubyte", &idx(&[10, 2, 2], &[0; 40]));
    expect("t10k-images-idx3-ubyte", "images of 4 bytes");
    fs::remove_file(dir.path("t10k-images-idx3-ubyte")).unwrap();
    assert!(refused().contains("no file t10k-images-idx3-ubyte"));
}

#[test]
fn what_cannot_be_asked_for_is_a_usage_error() {
    let whole = "want a whole number from 1 to ";
    for (flag, value, want) in [
        ("--areas", "0", whole),
        ("--areas", "-1", whole),
        ("--hidden", "0", whole),
        ("--hidden", "8,,8", "or several separated by commas"),
        ("--epochs", "0", whole),
        ("--batch", "0", whole),
        ("--batch", "18446744073709551616", whole),
        ("--threads", "0", whole),
        ("--lr", "0", "want a finite number above 0"),
        ("--lr", "-1", "want a finite number above 0"),
        ("--lr", "inf", "want a finite number above 0"),
        ("--lr", "NaN", "want a finite number above 0"),
        ("--weight-decay", "-0.1", "want a finite number, 0 or more"),
        ("--warm-start", "1.5", "want a number from 0 to 1"),
        ("--warm-start", "-0.5", "want a number from 0 to 1"),
        ("--seed", "x", "want a whole number from 0 to "),
    ] {
        let message = digits_with(flag, value).misused();
        let start = format!("invalid value '{value}' for '{flag} <");
        assert!(message.starts_with(&start) && message.contains(want), "{message}");
    }
    for flag in ["--preset", "--output-areas", "--optimizer", "--averaging"].iter().chain(&[
        "--router",
        "--feedback",
        "--feedback-entries",
    ]) {
        let message = digits_with(flag, "nonsense").misused();
        assert!(
            message.starts_with(&format!("invalid value 'nonsense' for '{flag} <")),
            "{message}"
        );
    }
    assert!(run(&["train", "digits", "--hidden", ""]).misused().contains("--hidden <"));
    assert!(run(&["train", "digits", "--epoch", "1"]).misused().contains("'--epoch'"));
    assert!(run(&["train"]).misused().contains("required"));
    assert!(run(&["trian", "digits"]).misused().contains("'trian'"));
    let nothing = run(&[]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(2), ""));
    assert!(nothing.stderr.contains("Usage: sal <COMMAND>"));
}

fn digits_with(flag: &str, value: &str) -> Done {
    run(&["train", "digits", flag, value])
}

#[test]
fn instruction_sets_are_chosen_by_name() {
    let names: Vec<_> =
        sal_kernels::Isa::available().iter().map(|isa| isa.name().as_str()).collect();
    for name in &names {
        let out = digits(&["--isa", name]).good();
        assert!(field(&out, "isa").starts_with(&format!("{name}, tile ")));
    }
    let with_variable = |name: &str, args: &[&str]| {
        let mut command = sal(args);
        command.env("SAL_ISA", name);
        finish(command)
    };
    let train = ["train", "digits", "--epochs", "1", "--hidden", "8"];
    let out = with_variable("portable", &train).good();
    assert_eq!(field(&out, "isa"), "portable, tile 4x8");

    let unknown = format!("\"nonsense\" is unknown; this machine has: {}", names.join(", "));
    let want = |from| format!("{from}: instruction set {unknown}");
    assert_eq!(digits(&["--isa", "nonsense"]).refused(2), want("--isa"));
    assert_eq!(with_variable("nonsense", &train).refused(2), want("SAL_ISA"));
    assert_eq!(with_variable("nonsense", &["info"]).refused(2), want("SAL_ISA"));
    let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    assert!(digits(&["--isa", foreign]).refused(2).contains("is not available on this CPU"));
    // The flag goes before the variable.
    let both = [&train[..], &["--isa", "portable"]].concat();
    with_variable("nonsense", &both).good();
}

#[test]
fn data_that_is_not_there_is_an_error() {
    let dir = Temporary::new("absent");
    let want = "want `digits` or a directory of IDX files";
    let path = dir.path("nothing");
    assert_eq!(run(&["train", &path]).refused(1), format!("{path}: no such directory; {want}"));
    dir.write("file", b"");
    let path = dir.path("file");
    assert_eq!(run(&["train", &path]).refused(1), format!("{path}: not a directory; {want}"));
}

#[test]
fn a_json_file_that_cannot_be_written_is_an_error_before_training() {
    let dir = Temporary::new("unwritable");
    let path = dir.path("missing/run.json");
    let message = digits(&["--json", &path]).refused(1);
    assert_eq!(message, format!("{path}: no directory {}", dir.path("missing")));
    let here = dir.0.to_str().unwrap();
    assert_eq!(
        digits(&["--json", here]).refused(1),
        format!("{here}: is a directory, want a file")
    );
    assert_eq!(dir.list(), [""; 0]);
    assert!(run(&["train", "digits", "--json", ""]).misused().contains("--json"));
    #[cfg(target_os = "linux")]
    {
        // Where not even root makes a file.
        let message = digits(&["--json", "/sys/run.json"]).refused(1);
        assert!(message.starts_with("/sys/run.json: cannot write in /sys: "), "{message}");
    }
    #[cfg(unix)]
    for stream in ["/dev/null", "/dev/stdout", "/dev/fd/1"] {
        let message = digits(&["--json", stream]).refused(1);
        assert!(message.contains("ordinary file"), "{message}");
    }
}

#[test]
fn a_json_file_is_replaced_as_a_whole_or_not_at_all() {
    let dir = Temporary::new("replace");
    dir.write("run.json", b"old");
    let path = dir.path("run.json");
    let old = || {
        assert_eq!(
            (fs::read(&path).unwrap(), dir.list()),
            (b"old".to_vec(), vec!["run.json".into()])
        )
    };

    let message = digits(&["--json", &path, "--lr", "1e30"]).failed(1);
    assert!(message.starts_with("training diverged at step "), "{message}");
    old();
    run(&["train", &dir.path("nothing"), "--json", &path]).refused(1);
    old();
    digits(&["--json", &path]).good();
    assert_eq!(json(&path)["epochs"].as_array().unwrap().len(), 2);
    assert_eq!(dir.list(), ["run.json"]);

    #[cfg(unix)]
    {
        let link = dir.path("latest.json");
        std::os::unix::fs::symlink("run.json", &link).unwrap();
        digits(&["--json", &link, "--seed", "9"]).good();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(json(&path)["config"]["seed"], 9);
        assert_eq!(dir.list(), ["latest.json", "run.json"]);
    }
}

#[test]
fn a_relative_json_file_lands_in_the_working_directory() {
    let dir = Temporary::new("relative");
    let mut command =
        sal(&["train", "digits", "--epochs", "1", "--hidden", "8", "--json", "r.json"]);
    command.current_dir(&dir.0);
    finish(command).good();
    assert_eq!(dir.list(), ["r.json"]);
}

#[test]
fn a_reader_that_leaves_ends_the_run_quietly() {
    // Hours of training, unless the closed pipe ends them.
    let mut command = sal(&["train", "digits", "--hidden", "8", "--epochs", "1000000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.trim_start().starts_with("2 ") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    drop(reader);
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));

    let bench = ["bench", "--shapes", "8x8", "--seconds", "0.01", "--threads", "1"];
    for args in [&["info"][..], &["--help"], &["train", "--help"], &bench] {
        let mut child = sal(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_reader_that_leaves_does_not_cost_the_json_file() {
    let dir = Temporary::new("closed");
    let path = dir.path("run.json");
    let mut command = sal(&["train", "digits", "--hidden", "8", "--epochs", "2", "--json", &path]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(json(&path)["epochs"].as_array().unwrap().len(), 2);
}

#[test]
fn help_texts_name_every_flag() {
    let long = run(&["train", "--help"]).good();
    for help in [run(&["train", "-h"]).good(), long] {
        for flag in [
            "<DATA>",
            "--preset",
            "--areas",
            "--hidden",
            "--output-areas",
            "--epochs",
            "--batch",
            "--lr",
            "--weight-decay",
            "--optimizer",
            "--averaging",
            "--router",
            "--feedback",
            "--feedback-entries",
            "--shared-feedback",
            "--warm-start",
            "--tie",
            "--seed",
            "--threads",
            "--isa",
            "--validate",
            "--json",
        ] {
            assert!(
                help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")),
                "{flag}"
            );
        }
        for text in [
            "Network:",
            "Training:",
            "Router:",
            "Run:",
            "Presets:",
            "Examples:",
            "sal train digits",
            "[default: tuned]",
            "[default: gaussian]",
            "[default: 4]",
            "[default: 256]",
            "[default: 0]",
        ] {
            assert!(help.contains(text), "{text}");
        }
        let widest = help.lines().map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|n| n <= 100), "a line of {widest:?} characters");
    }
    let help = run(&["--help"]).good();
    for text in ["train", "info", "bench", "Examples:", "sal train digits", "SAL_ISA"] {
        assert!(help.contains(text), "{text}");
    }
    let help = run(&["info", "--help"]).good();
    assert!(help.contains("--json") && help.contains("Examples:"));
    for help in [run(&["bench", "-h"]).good(), run(&["bench", "--help"]).good()] {
        let flags =
            "--verbs --shapes --areas --batches --profile --zeros --seconds --threads --isa --json";
        for text in
            flags.split(' ').chain(["Grid:", "Run:", "Columns:", "Keys of --json", "Examples:"])
        {
            assert!(help.contains(text), "{text}");
        }
        let widest = help.lines().map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|n| n <= 100), "a line of {widest:?} characters");
    }
    let version = format!("sal {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--version"]).good(), version);
}

#[test]
fn info_tells_what_the_machine_offers() {
    let info = |name: Option<&str>, args: &[&str]| {
        let mut command = sal(args);
        match name {
            Some(name) => command.env("SAL_ISA", name),
            None => command.env_remove("SAL_ISA"),
        };
        finish(command).good()
    };
    let out = info(None, &["info"]);
    for label in ["version", "target", "features", "caches", "threads", "isa"] {
        assert!(!field(&out, label).is_empty());
    }
    assert!(field(&out, "isa").ends_with(", the best of this CPU"), "{out}");
    assert_eq!(field(&info(Some("portable"), &["info"]), "isa"), "portable, chosen by SAL_ISA");

    let available = sal_kernels::Isa::available();
    for isa in &available {
        assert!(
            out.lines().any(|line| line.starts_with(&format!("{:11} ", isa.to_string()))),
            "{isa}"
        );
    }
    let json = |name| serde_json::from_str::<Value>(&info(name, &["info", "--json"])).unwrap();
    let machine = json(None);
    let want = ["version", "target", "features", "caches", "threads", "isa", "available_isas"];
    assert_eq!(keys(&machine), want);
    assert_eq!(machine["target"]["arch"], std::env::consts::ARCH);
    assert!(machine["features"].as_object().unwrap().values().all(Value::is_boolean));
    assert!(machine["threads"]["default"].is_u64());
    let best = available.last().unwrap();
    assert_eq!(
        machine["isa"],
        serde_json::json!({"chosen": best.to_string(), "by_sal_isa": false})
    );
    assert_eq!(machine["available_isas"].as_array().unwrap().len(), available.len());
    for (told, isa) in machine["available_isas"].as_array().unwrap().iter().zip(&available) {
        assert_eq!(told["name"], isa.to_string());
        assert_eq!(told["lanes"], isa.lanes());
        assert_eq!(told["panel_width"], isa.panel_width());
        assert_eq!(told["tile_heights"], serde_json::json!(isa.tile_heights()));
    }
    for cache in machine["caches"].as_array().into_iter().flatten() {
        assert!(cache["level"].is_u64() && cache["type"].is_string() && cache["bytes"].is_u64());
    }
    let chosen = &json(Some("portable"))["isa"];
    assert_eq!(chosen, &serde_json::json!({"chosen": "portable", "by_sal_isa": true}));
}

/// A grid that takes a moment, and `more` flags.
fn bench(more: &[&str]) -> Done {
    run(&[&["bench", "--shapes", "40x24", "--seconds", "0.01", "--threads", "1"], more].concat())
}

#[test]
fn a_bench_prints_the_limits_and_a_line_for_each_point() {
    let out = bench(&["--areas", "1,3", "--batches", "1,30", "--isa", "portable"]).good();
    let (header, rest) = out.split_once("\n\n").unwrap();
    let (table, closing) = rest.split_once("\n\n").unwrap();
    // Verbs of one area, then of three; the router has 32 directions and a score for each area.
    let one = 31 * (33 + 24 + 40 + 40) + 2 * 40 * 24;
    let three = 31 * (35 + 24) + 2 * 3 * 40 * 24;
    assert_eq!(field(closing, "checked"), format!("{} entries, all right", one + three));
    let labels = ["isa", "threads", "profile", "zeros", "caches", "fma peak", "read", "update"];
    assert_eq!(header.lines().count(), labels.len());
    labels.iter().for_each(|label| assert!(!field(header, label).is_empty()));
    assert_eq!(field(header, "isa"), "portable, tile 4x8");
    assert_eq!(field(header, "profile"), "balanced");
    assert_eq!(field(header, "zeros"), "0 % of the input columns");
    let peak: f64 = field(header, "fma peak").strip_suffix(" GFLOP/s").unwrap().parse().unwrap();
    assert!(peak > 0.0);

    let lines: Vec<_> = table.lines().collect();
    let columns =
        "verb shape areas batch path tile MB min us median us rate roof unit share bound by";
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>().join(" "), columns);
    // Feedback has one matrix for any number of areas.
    let (one, three) = ("route forward feedback feedback_signs update", "route forward update");
    let verbs = [(one, "1"), (three, "3")].into_iter().flat_map(|(verbs, areas)| {
        verbs.split(' ').flat_map(move |verb| [(verb, areas, "1"), (verb, areas, "30")])
    });
    let verbs: Vec<_> = verbs.collect();
    assert_eq!(lines.len(), 1 + verbs.len(), "{table}");
    let share = lines[0].find("share").unwrap();
    for (line, (verb, areas, batch)) in lines[1..].iter().zip(verbs) {
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells[..4], [verb, "40x24", areas, batch], "{line}");
        assert!(line[share..share + 5].ends_with(" %"), "not aligned: {line}");
        let path = match (verb, areas, batch) {
            ("feedback_signs", ..) => "lookups",
            (_, _, "1") | ("update", ..) => "few rows", // an update of three panels packs nothing
            _ => "tiles",
        };
        assert_eq!(line[lines[0].find("path").unwrap()..].split("  ").next(), Some(path), "{line}");
        assert!(["arithmetic", "L2"].contains(cells.last().unwrap()), "{line}");
    }
}

#[test]
fn a_bench_as_json_has_what_the_help_says() {
    let flags = ["--areas", "3", "--batches", "7", "--profile", "zipf", "--json"];
    let text = bench(&flags).good();
    let told: Value = serde_json::from_str(&text).unwrap();
    let top = ["version", "isa", "threads", "profile", "zeros", "checked", "caches", "limits"];
    let top = [&top[..], &["limits_after", "points"]].concat();
    assert_eq!(keys(&told), top);
    assert_eq!((&told["checked"], &told["threads"]), (&Value::Bool(true), &Value::from(1)));
    let limits = ["fma", "l2_read", "l2_update", "l3_read", "l3_update", "memory_read"];
    assert_eq!(keys(&told["limits"]), [&limits[..], &["memory_update"]].concat());
    assert_eq!(keys(&told["caches"]), ["l2_bytes", "l3_bytes"]);
    let positive = |value: &Value, key: &str| {
        assert!(value[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {}", value[key]);
    };
    limits.iter().for_each(|key| positive(&told["limits"], key));
    assert_eq!(keys(&told["limits_after"]), keys(&told["limits"]));

    let points = told["points"].as_array().unwrap();
    let verbs: Vec<_> = points.iter().map(|p| p["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["route", "forward", "feedback", "feedback_signs", "update"]);
    let names = ["verb", "profile", "isa", "path", "label", "bound"];
    let figures = [
        "d_in",
        "d_out",
        "areas",
        "batch",
        "flop",
        "bytes",
        "working_set",
        "checked_entries",
        "calls",
        "seconds_min",
        "seconds_median",
        "flop_per_second",
        "bytes_per_second",
        "roof_seconds",
        "share",
    ];
    let help = run(&["bench", "--help"]).good();
    top.iter().chain(&limits).for_each(|key| assert!(help.contains(key), "{key}"));
    for point in points {
        names.iter().for_each(|key| assert!(point[key].is_string(), "{key}: {}", point[key]));
        figures.iter().for_each(|key| positive(point, key));
        assert_eq!(point["tile"].as_array().unwrap().len(), 2);
        for key in keys(point) {
            assert!(help.contains(key), "{key}");
            let known = [&names[..], &figures, &["tile", "zeros"]].concat();
            assert!(known.contains(&key), "{key}");
        }
        assert_eq!(point["zeros"], 0);
        assert!(point["seconds_min"].as_f64() <= point["seconds_median"].as_f64());
    }
    assert_eq!(points[1]["flop"], 2.0 * 7.0 * 40.0 * 24.0);
    assert_eq!(points[1]["checked_entries"], 7 * 24);
    assert_eq!(points[4]["checked_entries"], 3 * 40 * 24);
    assert_eq!(points[2]["areas"], 1);
}

#[test]
fn a_bench_with_zeros_shows_where_they_are_skipped() {
    let told = |zeros: &str, batch: &str| {
        let shape = ["bench", "--shapes", "100x70", "--areas", "1", "--seconds", "0.01"];
        let flags = ["--threads", "1", "--isa", "portable", "--json", "--zeros", zeros];
        let text = run(&[&shape[..], &flags, &["--batches", batch]].concat()).good();
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["zeros"].to_string(), zeros);
        told["points"].as_array().unwrap().clone()
    };
    let paths = |points: &[Value]| {
        let of = |point: &Value| point["path"].as_str().unwrap().to_owned();
        points.iter().map(of).collect::<Vec<_>>()
    };
    let (skip, few) = ("zero-skipping", "few rows");
    let (none, most) = (told("0", "2"), told("90", "2"));
    assert_eq!(paths(&none), [few, few, few, "lookups", few]);
    assert_eq!(paths(&most), [skip, skip, skip, "lookups", skip]);
    assert_eq!(paths(&told("90", "30")), ["tiles", "tiles", "tiles", "lookups", "tiles"]);
    // 10 of 100 columns are used; panels of 8 make 72 columns of 70.
    assert_eq!(most[1]["flop"], 2.0 * 2.0 * 10.0 * 70.0);
    assert_eq!(most[1]["bytes"], 4.0 * (10.0 * 72.0 + 2.0 * 170.0));
    assert_eq!(most[1]["working_set"], none[1]["working_set"]);
    assert_eq!((&most[1]["zeros"], &most[1]["checked_entries"]), (&90.into(), &140.into()));

    let out = bench(&["--areas", "1", "--batches", "1", "--verbs", "update", "--zeros", "100"]);
    assert_eq!(field(&out.good(), "zeros"), "100 % of the input columns");
}

#[test]
fn a_bench_runs_every_profile_on_any_number_of_threads() {
    for profile in ["balanced", "hot50", "hot80", "zipf"] {
        let flags = ["--profile", profile, "--threads", "3", "--verbs", "forward,update"];
        let out =
            run(&[&["bench", "--shapes", "600x333", "--seconds", "0.01"], &flags[..]].concat());
        let out = out.good();
        assert_eq!((field(&out, "profile"), field(&out, "threads")), (profile, "3"));
    }
}

#[test]
fn what_a_bench_cannot_do_is_refused() {
    for (flag, value, want) in [
        ("--shapes", "784", "want two whole numbers from 1 to 1000000, as in 784x256"),
        ("--shapes", "0x5", "want two whole numbers"),
        ("--shapes", "5x", "want two whole numbers"),
        ("--areas", "0", "want a whole number from 1 to 4096"),
        ("--batches", "1000001", "want a whole number from 1 to 1000000"),
        ("--threads", "0", "want a whole number from 1 to "),
        ("--zeros", "101", "want a whole number from 0 to 100"),
        ("--zeros", "-1", "want a whole number from 0 to 100"),
        ("--zeros", "0.5", "want a whole number from 0 to 100"),
        ("--seconds", "0", "want a number above 0, at most 3600"),
        ("--seconds", "-1", "want a number above 0"),
        ("--seconds", "1e9", "want a number above 0"),
        ("--verbs", "backward", ""),
        ("--profile", "hot", ""),
    ] {
        let message = run(&["bench", flag, value]).misused();
        let start = format!("invalid value '{value}' for '{flag} <");
        assert!(message.starts_with(&start) && message.contains(want), "{message}");
    }
    assert!(bench(&["--areas", "1,,2"]).misused().contains("invalid value '' for '--areas <"));
    assert!(bench(&["--isa", "nonsense"]).refused(2).starts_with("--isa: instruction set"));
    // Four terabytes.
    let huge = ["bench", "--shapes", "1000000x1000000", "--areas", "1", "--batches", "1"];
    let message = run(&[&huge[..], &["--verbs", "forward"]].concat()).failed(1);
    assert!(message.contains("memory"), "{message}");
    #[cfg(target_os = "linux")]
    assert!(message.starts_with("forward 1000000x1000000, areas 1, batch 1: wants "), "{message}");
}
