//! Times contenders against each other: A B C A B C ... in one process.
//!
//! ```text
//! round    one burst of each contender, then the next round
//! burst    some calls that are not counted, so that its own weights are in the cache and not the others'; then samples
//! sample   one call, or the mean of as many as take 20 us
//! ```
//! Neighbours of a shared machine change its speed by minutes, which A and B of one round feel alike.

use std::time::{Duration, Instant};

/// What a clock can measure well.
const SAMPLE: f64 = 20e-6;

/// Rounds in the time of one point, if calls are short.
const ROUNDS: f64 = 8.0;

/// Seconds a call: the best and the median of all samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Times {
    /// The best.
    pub(crate) min: f64,
    /// The middle one.
    pub(crate) median: f64,
}

impl Times {
    /// Of samples, at least one.
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Self { min: samples[0], median: samples[samples.len() / 2] }
    }
}

/// Calls `count` contenders by turns for about `time`, at least two rounds; `call(contender, turn)` does the work.
pub(crate) fn interleave(
    count: usize,
    time: Duration,
    mut call: impl FnMut(usize, usize),
) -> Vec<Times> {
    let begin = Instant::now();
    let budget = time.as_secs_f64() / (ROUNDS * count as f64);
    let mut samples = vec![Vec::new(); count];
    let mut turns = vec![0; count];
    let mut round = 0;
    while round < 2 || begin.elapsed() < time {
        for who in 0..count {
            burst(budget, &mut samples[who], || {
                call(who, turns[who]);
                turns[who] += 1;
            });
        }
        round += 1;
    }
    samples.into_iter().map(Times::of).collect()
}

/// The best of one burst, in seconds a call.
pub(crate) fn trial(time: Duration, mut call: impl FnMut(usize)) -> f64 {
    let (mut samples, mut turn) = (Vec::new(), 0);
    burst(time.as_secs_f64(), &mut samples, || {
        call(turn);
        turn += 1;
    });
    Times::of(samples).min
}

/// Calls for about `budget` seconds, of which a third is not counted; a call that is longer is counted, alone.
fn burst(budget: f64, samples: &mut Vec<f64>, mut call: impl FnMut()) {
    let start = Instant::now();
    call();
    let first = start.elapsed().as_secs_f64();
    if first > budget {
        samples.push(first);
        return;
    }
    let mut last = first;
    while start.elapsed().as_secs_f64() < budget / 3.0 {
        let begin = Instant::now();
        call();
        last = begin.elapsed().as_secs_f64();
    }
    let calls = (SAMPLE / last).ceil().clamp(1.0, 1000.0) as usize;
    loop {
        let begin = Instant::now();
        (0..calls).for_each(|_| call());
        samples.push(begin.elapsed().as_secs_f64() / calls as f64);
        if start.elapsed().as_secs_f64() > budget {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_and_the_middle() {
        let times = Times::of(vec![3.0, 1.0, 9.0]);
        assert_eq!(times, Times { min: 1.0, median: 3.0 });
    }

    #[test]
    fn contenders_take_turns() {
        let mut calls = Vec::new();
        let times = interleave(2, Duration::ZERO, |who, turn| calls.push((who, turn)));
        assert_eq!(calls, [(0, 0), (1, 0), (0, 1), (1, 1)]);
        assert!(times.iter().all(|t| t.min > 0.0 && t.min <= t.median));
    }
}
