//! Named random streams: one per tensor, derived from (seed, layer, area, role).
//!
//! ```text
//! ChaCha8 key = seed (8 bytes) | layer (4) | area (4) | role (up to 16 bytes of ASCII, zero-padded)
//! ```
//! The key is injective, so two tensors never share a stream, and a value depends on its name alone: neither the
//! order in which tensors are filled nor the number of threads changes a bit.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// One named stream of random numbers.
///
/// ```
/// use sal_kernels::random::Stream;
/// let mut a = Stream::new(7, 0, 3, "weights");
/// let mut b = Stream::new(7, 0, 3, "weights");
/// assert_eq!(a.normal(), b.normal());
/// ```
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of one tensor; `role` names it in at most 16 ASCII bytes (longer names are a bug and panic).
    pub fn new(seed: u64, layer: u32, area: u32, role: &str) -> Self {
        assert!(role.len() <= 16 && role.is_ascii(), "role {role:?} is not short ASCII");
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..12].copy_from_slice(&layer.to_le_bytes());
        key[12..16].copy_from_slice(&area.to_le_bytes());
        key[16..16 + role.len()].copy_from_slice(role.as_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A draw from N(0, 1).
    pub fn normal(&mut self) -> f32 {
        StandardNormal.sample(&mut self.0)
    }

    /// Fills `out` with draws from N(0, `variance`).
    pub fn fill_normal(&mut self, variance: f64, out: &mut [f32]) {
        let scale = variance.sqrt() as f32;
        out.iter_mut().for_each(|x| *x = scale * self.normal());
    }

    /// A fair coin.
    pub fn coin(&mut self) -> bool {
        self.0.random()
    }

    /// A uniform index below `n`; panics if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    /// Shuffles `items` uniformly.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_name_matters() {
        let draw = |seed, layer, area, role| Stream::new(seed, layer, area, role).normal();
        let all = [
            draw(1, 2, 3, "weights"),
            draw(2, 2, 3, "weights"),
            draw(1, 3, 3, "weights"),
            draw(1, 2, 4, "weights"),
            draw(1, 2, 3, "feedback"),
        ];
        for i in 0..all.len() {
            for j in 0..i {
                assert_ne!(all[i].to_bits(), all[j].to_bits(), "{i} and {j}");
            }
        }
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let mut x = vec![0.0; 200_000];
        Stream::new(0, 0, 0, "test").fill_normal(4.0, &mut x);
        let n = x.len() as f64;
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 5.0 * 2.0 / n.sqrt(), "mean {mean}"); // five standard errors
        assert!((var - 4.0).abs() < 5.0 * 4.0 * (2.0 / n).sqrt(), "variance {var}");
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_moves_things() {
        let mut items: Vec<u32> = (0..1000).collect();
        Stream::new(0, 0, 0, "test").shuffle(&mut items);
        let fixed = items.iter().enumerate().filter(|&(i, &x)| i as u32 == x).count();
        assert!(fixed < 20, "{fixed} fixed points");
        items.sort_unstable();
        assert!(items.iter().enumerate().all(|(i, &x)| i as u32 == x));
    }
}
