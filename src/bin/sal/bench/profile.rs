//! How the samples of a batch are spread over the areas.
//!
//! ```text
//! weight of area k       balanced 1      hot50 and hot80: area 0 that share, the others alike      zipf 1 / (k + 1)
//! area of sample s of n  where the sum of the weights passes (s + 1/2) / n of the whole; then shuffled
//! ```

use sal_kernels::random::Stream;

/// An occupancy profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Balanced,
    Hot50,
    Hot80,
    Zipf,
}

impl Profile {
    /// The area of each of `batch` samples, for `areas` areas (at least one): the same at each call.
    pub(crate) fn areas(self, batch: usize, areas: usize) -> Vec<u32> {
        let hot =
            |share: f64, area| if area == 0 { share } else { (1.0 - share) / (areas - 1) as f64 };
        let weights: Vec<f64> = (0..areas)
            .map(|area| match self {
                Self::Balanced => 1.0,
                Self::Hot50 => hot(0.5, area),
                Self::Hot80 => hot(0.8, area),
                Self::Zipf => 1.0 / (area + 1) as f64,
            })
            .collect();
        let whole: f64 = weights.iter().sum();
        let (mut area, mut passed) = (0, weights[0]);
        let mut all: Vec<u32> = (0..batch)
            .map(|sample| {
                let at = (sample as f64 + 0.5) / batch as f64 * whole;
                while passed < at && area + 1 < areas {
                    area += 1;
                    passed += weights[area];
                }
                area as u32
            })
            .collect();
        Stream::new(0, 0, 0, "areas").shuffle(&mut all);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_as_the_name_says() {
        let counts = |profile: Profile, batch, areas: usize| {
            let z = profile.areas(batch, areas);
            (0..areas as u32).map(|k| z.iter().filter(|&&a| a == k).count()).collect::<Vec<_>>()
        };
        assert_eq!(counts(Profile::Balanced, 64, 4), [16; 4]);
        assert_eq!(counts(Profile::Hot50, 60, 4), [30, 10, 10, 10]);
        assert_eq!(counts(Profile::Hot80, 60, 4), [48, 4, 4, 4]);
        assert_eq!(counts(Profile::Zipf, 110, 3), [60, 30, 20]);
        for profile in [Profile::Balanced, Profile::Hot50, Profile::Hot80, Profile::Zipf] {
            assert_eq!(counts(profile, 7, 1), [7]);
            assert_eq!(counts(profile, 1, 9).iter().sum::<usize>(), 1);
        }
    }
}
