//! Is a result right? f64 sums at some entries, before anything is timed.

/// Fails unless `got` is the sum of the products of `terms` within the bound of an f32 sum in any order,
/// (depth + 3) 2^-24 sum |a||b|. `then` is what happened to the sum: the identity, or ReLU.
pub(crate) fn close(
    what: &str,
    got: f32,
    terms: impl Iterator<Item = (f32, f32)>,
    then: impl Fn(f64) -> f64,
) -> Result<(), String> {
    let (mut sum, mut size, mut depth) = (0.0, 0.0, 0);
    for (a, b) in terms {
        sum += f64::from(a) * f64::from(b);
        size += (f64::from(a) * f64::from(b)).abs();
        depth += 1;
    }
    let (want, bound) = (then(sum), f64::from(depth + 3) * 2f64.powi(-24) * size);
    let fits = (f64::from(got) - want).abs() <= bound; // false for a NaN
    if fits { Ok(()) } else { Err(format!("{what}: got {got}, want {want} +- {bound:e}")) }
}

/// `max(x, 0)`.
pub(crate) fn relu(x: f64) -> f64 {
    x.max(0.0)
}

/// Some indices below `n`: both ends and two between.
pub(crate) fn some(n: usize) -> [usize; 4] {
    [0, n / 3, n / 2, n.saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_sum_is_caught() {
        let terms = || [(1.0, 2.0), (3.0, -4.0)].into_iter();
        assert!(close("sum", -10.0, terms(), |x| x).is_ok());
        assert!(close("sum", 0.0, terms(), relu).is_ok());
        for wrong in [-10.001, 10.0, f32::NAN] {
            assert!(close("sum", wrong, terms(), |x| x).is_err(), "{wrong}");
        }
    }
}
