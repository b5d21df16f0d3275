//! Where samples come from, and which of them train and which measure.
//!
//! ```text
//! digits                           train 64 %  validation 16 %  test 20 %      with --validate
//! digits, or no test part in DIR   train 80 %                   test 20 %
//! test part in DIR                 train 80 %  validation 20 %  test as it is  with --validate
//! ```
//! Splits are stratified. One seed has one test part, with or without `--validate`.

use crate::failure::Failure;
use sal_kernels::data::Scaling;
use sal_kernels::data::{self, DataError, Dataset, Standardizer, idx, stratified};
use std::path::Path;

/// The fraction that is held out.
const HELD_OUT: f64 = 0.2;

/// The part of the data that a network is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Validation,
    Test,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Samples of each part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) train: usize,
    pub(crate) validation: usize,
    pub(crate) test: usize,
}

impl Sizes {
    pub(crate) fn total(self) -> usize {
        self.train + self.validation + self.test
    }
}

/// A training part and the part that a network is measured on, not scaled yet.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) train: Dataset,
    pub(crate) measured: Dataset,
    pub(crate) part: Part,
    pub(crate) sizes: Sizes,
}

impl Source {
    /// Reads `digits` or a directory, and splits it by the seed.
    pub(crate) fn load(from: &Path, seed: u64, validate: bool) -> Result<Self, Failure> {
        let (all, given_test) = if from == Path::new("digits") {
            (data::digits(), None)
        } else {
            check_directory(from)?;
            idx::read_directory(from)?
        };
        let test = if given_test.is_some() { 0.0 } else { HELD_OUT };
        let validation = if validate { HELD_OUT * (1.0 - test) } else { 0.0 };
        let split = stratified(all.labels(), all.classes(), seed, validation, test)?;
        let sizes = Sizes {
            train: split.train.len(),
            validation: split.validation.len(),
            test: given_test.as_ref().map_or(split.test.len(), Dataset::len),
        };
        let part = if validate { Part::Validation } else { Part::Test };
        let measured = match (part, given_test) {
            (Part::Validation, _) => all.select(&split.validation)?,
            (Part::Test, Some(given)) => given,
            (Part::Test, None) => all.select(&split.test)?,
        };
        if measured.is_empty() {
            let (name, n) = (part.name(), all.len());
            let message = format!("{}: too few samples ({n}) for a {name} part", from.display());
            return Err(Failure::Run(message));
        }
        Ok(Self { train: all.select(&split.train)?, measured, part, sizes })
    }

    /// Scales both parts by what is fitted to the training part alone.
    pub(crate) fn scale(&mut self, scaling: Scaling) -> Result<(), DataError> {
        let standardizer = Standardizer::fit(scaling, &self.train)?;
        self.train = standardizer.apply(&self.train)?;
        self.measured = standardizer.apply(&self.measured)?;
        Ok(())
    }
}

fn check_directory(path: &Path) -> Result<(), Failure> {
    let refuse = |why: &dyn std::fmt::Display| {
        let want = "want `digits` or a directory of IDX files";
        Err(Failure::Run(format!("{}: {why}; {want}", path.display())))
    };
    match path.metadata() {
        Ok(there) if there.is_dir() => Ok(()),
        Ok(_) => refuse(&"not a directory"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => refuse(&"no such directory"),
        Err(error) => refuse(&error),
    }
}
