//! Stratified, seeded splits: every class is shuffled by its own random stream and dealt out in the same proportions.
//!
//! ```text
//! shuffled rows of one class   | test: first t | validation: next v | train: the rest |
//! t = floor(test * rows), or one more where the remainder is largest, until the total is round(test * all rows)
//! v likewise, where t leaves room
//! ```
//! `t` does not depend on the fraction for validation: one seed has one test part.

use super::{DataError, check_labels};
use crate::random::Stream;
use std::collections::BTreeMap;

/// Rows of a dataset in three disjoint parts that cover it; each part is ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows to choose settings by.
    pub validation: Vec<usize>,
    /// Rows to report on.
    pub test: Vec<usize>,
}

/// Splits the rows `0..labels.len()` so that every class is divided alike; the parts for validation and test have
/// `round(fraction * labels.len())` rows. The test part depends on `seed` and `test` alone, not on `validation`.
///
/// # Errors
/// If a label is not less than `classes`, a fraction is not in `[0, 1)`, their sum is not below 1, or rounding leaves
/// no row to train on.
///
/// ```
/// use sal_kernels::data::{digits, stratified};
/// let digits = digits();
/// let split = stratified(digits.labels(), digits.classes(), 0, 0.1, 0.2)?;
/// assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (1258, 180, 359));
/// let train = digits.select(&split.train)?;
/// # Ok::<(), sal_kernels::data::DataError>(())
/// ```
pub fn stratified(
    labels: &[u32],
    classes: usize,
    seed: u64,
    validation: f64,
    test: f64,
) -> Result<Split, DataError> {
    let fraction = 0.0..1.0; // NaN is not in it
    if !fraction.contains(&validation)
        || !fraction.contains(&test)
        || !fraction.contains(&(validation + test))
    {
        return Err(DataError::Fraction { validation, test });
    }
    check_labels(labels, classes)?;
    let mut by_class = BTreeMap::<u32, Vec<usize>>::new();
    for (row, &label) in labels.iter().enumerate() {
        by_class.entry(label).or_default().push(row);
    }
    let sizes: Vec<usize> = by_class.values().map(Vec::len).collect();
    let tests = apportion(test, &sizes, &sizes);
    let room: Vec<usize> = sizes.iter().zip(&tests).map(|(n, t)| n - t).collect();
    let validations = apportion(validation, &sizes, &room);

    let mut split = Split { train: vec![], validation: vec![], test: vec![] };
    for ((class, mut rows), (t, v)) in by_class.into_iter().zip(tests.into_iter().zip(validations))
    {
        Stream::new(seed, 0, class, "split").shuffle(&mut rows);
        split.test.extend(&rows[..t]);
        split.validation.extend(&rows[t..t + v]);
        split.train.extend(&rows[t + v..]);
    }
    if split.train.is_empty() {
        return Err(DataError::Empty { what: "rows left to train on" });
    }
    split.train.sort_unstable();
    split.validation.sort_unstable();
    split.test.sort_unstable();
    Ok(split)
}

/// `round(fraction * sum of sizes)` seats, by largest remainders of `fraction * size`, at most `room` for each.
fn apportion(fraction: f64, sizes: &[usize], room: &[usize]) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    let total = ((fraction * all as f64).round() as usize).min(room.iter().sum());
    let quotas: Vec<f64> = sizes.iter().map(|&n| fraction * n as f64).collect();
    let mut seats: Vec<usize> = quotas.iter().zip(room).map(|(&q, &r)| r.min(q as usize)).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| quotas[b].fract().total_cmp(&quotas[a].fract())); // stable: ties to the lower class
    let mut left = total.saturating_sub(seats.iter().sum());
    // Ends: `left` is at most the room that is left, and every round over the order fills some of it.
    for k in order.into_iter().cycle() {
        if left == 0 {
            break;
        }
        if seats[k] < room[k] {
            seats[k] += 1;
            left -= 1;
        }
    }
    seats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits;
    use proptest::prelude::*;

    /// Rows of every class among `rows`.
    fn counts(labels: &[u32], classes: usize, rows: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; classes];
        rows.iter().for_each(|&r| counts[labels[r] as usize] += 1);
        counts
    }

    proptest! {
        #[test]
        fn parts_are_disjoint_cover_all_rows_and_follow_the_classes(
            labels in prop::collection::vec(0u32..7, 1..300),
            seed: u64,
            validation in 0.0..1.0,
            test in 0.0..1.0,
        ) {
            let n = labels.len();
            let split = match stratified(&labels, 7, seed, validation, test) {
                Ok(split) => split,
                Err(DataError::Fraction { .. }) => {
                    prop_assert!(validation + test >= 1.0);
                    return Ok(());
                }
                Err(e) => {
                    prop_assert!(matches!(e, DataError::Empty { .. }), "{e}");
                    prop_assert!((validation + test) * n as f64 >= n as f64 - 1.0, "{e}");
                    return Ok(());
                }
            };
            prop_assert_eq!(split.test.len(), (test * n as f64).round() as usize);
            prop_assert_eq!(split.validation.len(), (validation * n as f64).round() as usize);
            let parts = [&split.train, &split.validation, &split.test];
            for part in parts {
                prop_assert!(part.is_sorted());
            }
            let mut rows = parts.into_iter().flatten().copied().collect::<Vec<_>>();
            rows.sort_unstable();
            prop_assert!(rows.into_iter().eq(0..n));
            // Every class gets its quota to within a row of the test part.
            let all = counts(&labels, 7, &(0..n).collect::<Vec<_>>());
            for (class, got) in counts(&labels, 7, &split.test).into_iter().enumerate() {
                prop_assert!((got as f64 - test * all[class] as f64).abs() < 1.0);
            }
            // One seed has one test part.
            if let Ok(alone) = stratified(&labels, 7, seed, 0.0, test) {
                prop_assert_eq!(alone.test, split.test);
            }
        }
    }

    #[test]
    fn classes_are_divided_alike() {
        let d = digits();
        let split = stratified(d.labels(), 10, 1, 0.1, 0.2).unwrap();
        // 20 % of 178, 182, 177, 183, 181, 182, 181, 179, 174, 180, 359 rows in all
        let test = counts(d.labels(), 10, &split.test);
        assert_eq!(test, [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]);
    }

    #[test]
    fn a_seed_means_the_same_rows_for_ever() {
        let d = digits();
        let split = stratified(d.labels(), 10, 0, 0.1, 0.2).unwrap();
        let bytes: Vec<u8> = split.test.iter().flat_map(|&r| (r as u32).to_le_bytes()).collect();
        assert_eq!(xxhash_rust::xxh3::xxh3_64(&bytes), 0xefe3_b594_8c35_4e99);
        let other = stratified(d.labels(), 10, 1, 0.1, 0.2).unwrap();
        assert_ne!(split.test, other.test);
    }

    #[test]
    fn room_that_the_test_took_is_not_given_twice() {
        // Remainders are largest in the same classes for both parts.
        for n in 1..8 {
            for classes in 1..6 {
                let labels: Vec<u32> = (0..n * classes).map(|i| i % classes).collect();
                for (validation, test) in [(0.45, 0.45), (0.1, 0.85), (0.85, 0.1), (0.3, 0.6)] {
                    match stratified(&labels, classes as usize, 0, validation, test) {
                        Ok(s) => assert_eq!(
                            s.train.len() + s.validation.len() + s.test.len(),
                            labels.len()
                        ),
                        Err(e) => assert_eq!(e.to_string(), "no rows left to train on"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_split_is_an_error() {
        let nan = f64::NAN;
        for (v, t) in [(-0.1, 0.2), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (nan, 0.0), (0.0, nan)] {
            let r = stratified(&[0, 1, 0], 2, 0, v, t);
            assert!(matches!(r, Err(DataError::Fraction { .. })), "{v} {t}");
        }
        let r = stratified(&[0, 1, 2], 2, 0, 0.0, 0.0);
        assert!(matches!(r, Err(DataError::Label { sample: 2, got: 2, classes: 2 })));
        assert!(matches!(stratified(&[], 2, 0, 0.0, 0.0), Err(DataError::Empty { .. })));
        assert!(matches!(stratified(&[0], 2, 0, 0.0, 0.9), Err(DataError::Empty { .. })));
    }
}
