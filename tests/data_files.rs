//! Reads the real MNIST, if it is there: in `$SAL_DATA/mnist`, or in `shared/data/mnist` beside this repository or a
//! directory above it. With `SAL_DATA` set, absent files fail the test; otherwise it says that it was skipped.
#![cfg(feature = "gzip")]

use sal_kernels::data::{Scaling, Standardizer, idx};
use std::path::{Path, PathBuf};

fn mnist() -> Option<PathBuf> {
    if let Some(data) = std::env::var_os("SAL_DATA") {
        return Some(Path::new(&data).join("mnist"));
    }
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(1);
    above.map(|dir| dir.join("shared/data/mnist")).find(|dir| dir.is_dir())
}

#[test]
fn mnist_is_what_it_is_known_to_be() {
    let Some(directory) = mnist() else {
        eprintln!("skipped: no shared/data/mnist above this repository, and SAL_DATA is not set");
        return;
    };
    let (train, test) = idx::read_directory(directory).expect("MNIST");
    let test = test.expect("the test part of MNIST");
    assert_eq!((train.len(), train.features(), train.classes()), (60_000, 784, 10));
    assert_eq!((test.len(), test.features(), test.classes()), (10_000, 784, 10));
    assert_eq!(train.name(), "mnist");
    assert_eq!(train.labels()[..3], [5, 0, 4]);
    assert_eq!(test.labels()[..3], [7, 2, 1]);

    let mut counts = [0; 10];
    train.labels().iter().for_each(|&label| counts[label as usize] += 1);
    assert_eq!(counts, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    // The mean that is usually quoted, 0.1307 of 255.
    let standardizer = Standardizer::fit(Scaling::Centred, &train).expect("a fit");
    let mean = standardizer.mean().iter().sum::<f64>() / 784.0 / 255.0;
    assert!((mean - 0.1307).abs() < 5e-5, "mean {mean}");
    let test = standardizer.apply(&test).expect("the same features");
    assert_eq!(test.inputs().rows(), 10_000);
}
