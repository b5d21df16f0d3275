//! How the learning rate goes over the steps of a run.

/// The course of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// The same at every step.
    Constant,
    /// `(1 + cos(pi t / steps)) / 2` at step t: from 1 to almost 0.
    Cosine,
}

impl Schedule {
    /// Factor of the learning rate at `step` of `steps`.
    pub fn factor(self, step: u64, steps: u64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine => {
                let done = step as f64 / steps.max(1) as f64;
                (1.0 + libm::cos(std::f64::consts::PI * done)) / 2.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_starts_at_one_and_ends_near_zero() {
        assert_eq!(Schedule::Cosine.factor(0, 100), 1.0);
        assert!((Schedule::Cosine.factor(50, 100) - 0.5).abs() < 1e-12);
        assert!(Schedule::Cosine.factor(99, 100) < 3e-4);
        assert_eq!(Schedule::Constant.factor(99, 100), 1.0);
    }
}
