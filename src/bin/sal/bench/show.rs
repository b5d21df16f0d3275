//! What `sal bench` tells: the machine's limits, a line for each point, or all of it as JSON.

use super::Point;
use super::profile::Profile;
use crate::choices::PROFILE;
use crate::cpu;
use crate::info::size;
use sal_kernels::Isa;
use sal_kernels::kernels::{Bound, Explanation};
use sal_kernels::limits::Limits;
use serde_json::{Value, json};

/// Times of one point, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) calls: usize,
    pub(crate) min: f64,
    pub(crate) median: f64,
}

/// What was measured at one point.
pub(crate) struct Measured<'a> {
    pub(crate) point: &'a Point,
    pub(crate) told: Explanation,
    pub(crate) checked: usize,
    pub(crate) times: Times,
}

/// What holds for all points.
pub(crate) struct Setting {
    pub(crate) isa: Isa,
    pub(crate) profile: Profile,
    /// Of the inputs, in per cent.
    pub(crate) zeros: u8,
    pub(crate) limits: Limits,
}

impl Setting {
    /// What is measured, and the limits.
    pub(crate) fn header(&self) -> Vec<String> {
        let l = &self.limits;
        let bandwidth = |l2: f64, l3: f64, memory: f64| {
            let giga = [l2, l3, memory].map(|rate| format!("{:.1}", rate / 1e9));
            format!("L2 {}, L3 {}, memory {} GB/s", giga[0], giga[1], giga[2])
        };
        let rows = [
            ("isa", format!("{}, tile {}", self.isa, cpu::tile(self.isa))),
            ("threads", l.threads.to_string()),
            ("profile", PROFILE.name(self.profile).into()),
            ("zeros", format!("{} % of the input columns", self.zeros)),
            (
                "caches",
                format!("L2 {} a thread, L3 {}", size(l.l2_bytes / l.threads), size(l.l3_bytes)),
            ),
            ("fma peak", format!("{:.1} GFLOP/s", l.fma / 1e9)),
            ("read", bandwidth(l.l2_read, l.l3_read, l.memory_read)),
            ("update", bandwidth(l.l2_update, l.l3_update, l.memory_update) + ", read + written"),
        ];
        rows.into_iter().map(|(what, text)| format!("{what:11} {text}")).collect()
    }

    /// How much was checked, and whether the machine was the same at the end.
    pub(crate) fn closing(&self, points: &[Measured<'_>], after: &Limits) -> Vec<String> {
        let entries: usize = points.iter().map(|m| m.checked).sum();
        let mut lines = vec![format!("checked     {entries} entries, all right")];
        if let Some((what, before, after)) = moved(&self.limits, after) {
            lines.push(format!(
                "note        {what} went from {before:.1} to {after:.1} G/s while this ran: other work on this machine? \
                 Then shares mislead."
            ));
        }
        lines
    }

    pub(crate) fn json(&self, points: &[Measured<'_>], after: &Limits) -> Value {
        let object = |l: &Limits| {
            Value::Object(rates(l).into_iter().map(|(key, x)| (key.to_owned(), x.into())).collect())
        };
        let l = &self.limits;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "isa": self.isa.name().as_str(),
            "threads": l.threads,
            "profile": PROFILE.name(self.profile),
            "zeros": self.zeros,
            "checked": true, // a wrong entry would have ended the run
            "caches": { "l2_bytes": l.l2_bytes, "l3_bytes": l.l3_bytes },
            "limits": object(l),
            "limits_after": object(after),
            "points": points.iter().map(|m| m.json(self)).collect::<Vec<_>>(),
        })
    }
}

/// Change of a limit that is worth a word: neighbours cost this much now and then.
const MOVED: f64 = 1.25;

fn rates(l: &Limits) -> [(&'static str, f64); 7] {
    [
        ("fma", l.fma),
        ("l2_read", l.l2_read),
        ("l2_update", l.l2_update),
        ("l3_read", l.l3_read),
        ("l3_update", l.l3_update),
        ("memory_read", l.memory_read),
        ("memory_update", l.memory_update),
    ]
}

/// The limit that moved most, if it did: its name, before and after, in units of 10^9.
fn moved(before: &Limits, after: &Limits) -> Option<(&'static str, f64, f64)> {
    let factor = |&(_, a, b): &(&str, f64, f64)| (a / b).max(b / a);
    let pairs = rates(before).into_iter().zip(rates(after));
    let most = pairs
        .map(|((what, a), (_, b))| (what, a / 1e9, b / 1e9))
        .max_by(|a, b| factor(a).total_cmp(&factor(b)));
    most.filter(|of| factor(of) > MOVED)
}

/// The columns of the table.
pub(crate) struct Table {
    /// Width of the widest shape.
    shape: usize,
}

impl Table {
    pub(crate) fn new(points: &[Point]) -> Self {
        let widths = points.iter().map(|p| p.layer.to_string().len());
        Self { shape: widths.max().unwrap_or(0).max("shape".len()) }
    }

    pub(crate) fn head(&self) -> String {
        format!(
            "{:14}  {:shape$}  areas  batch  {:13}  {:5}  {:>7}  {:>9}  {:>9}  {:>6}  {:>6}  {:7}  share  bound by",
            "verb",
            "shape",
            "path",
            "tile",
            "MB",
            "min us",
            "median us",
            "rate",
            "roof",
            "unit",
            shape = self.shape,
        )
    }

    pub(crate) fn row(&self, m: &Measured<'_>, limits: &Limits) -> String {
        let (Point { verb, layer, areas, batch, .. }, told) = (m.point, &m.told);
        let roof = told.roof(limits);
        let (work, unit) = match roof.bound {
            Bound::Arithmetic => (told.flop, "GFLOP/s"),
            _ => (told.bytes, "GB/s"),
        };
        let (tile, path) = (format!("{}x{}", told.tile.0, told.tile.1), told.path);
        format!(
            "{verb:14}  {layer:shape$}  {areas:>5}  {batch:>5}  {path:13}  {tile:5}  {:>7.2}  {:>9.1}  {:>9.1}  \
             {:>6.1}  {:>6.1}  {unit:7}  {:>3.0} %  {}",
            told.bytes / 1e6,
            1e6 * m.times.min,
            1e6 * m.times.median,
            work / m.times.min / 1e9,
            work / roof.seconds / 1e9,
            100.0 * roof.seconds / m.times.min,
            roof.bound,
            shape = self.shape,
        )
    }
}

impl Measured<'_> {
    fn json(&self, setting: &Setting) -> Value {
        let (Point { verb, layer, areas, batch, .. }, told) = (self.point, &self.told);
        let (times, roof) = (self.times, told.roof(&setting.limits));
        json!({
            "verb": verb.as_str(),
            "d_in": layer.d_in,
            "d_out": layer.d_out,
            "areas": areas,
            "batch": batch,
            "profile": PROFILE.name(setting.profile),
            "zeros": setting.zeros,
            "isa": told.isa.as_str(),
            "tile": [told.tile.0, told.tile.1],
            "path": told.path.to_string(),
            "label": told.label,
            "flop": told.flop,
            "bytes": told.bytes,
            "working_set": told.working_set,
            "checked_entries": self.checked,
            "calls": times.calls,
            "seconds_min": times.min,
            "seconds_median": times.median,
            "flop_per_second": told.flop / times.min,
            "bytes_per_second": told.bytes / times.min,
            "roof_seconds": roof.seconds,
            "bound": roof.bound.to_string(),
            "share": roof.seconds / times.min,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_moved_most_is_told() {
        let one = Limits {
            threads: 1,
            l2_bytes: 1,
            l3_bytes: 1,
            fma: 1e11,
            l2_read: 1e11,
            l2_update: 1e11,
            l3_read: 5e10,
            l3_update: 5e10,
            memory_read: 1e10,
            memory_update: 2e10,
        };
        assert_eq!(moved(&one, &one), None);
        let after = Limits { l3_read: 4.5e10, ..one };
        assert_eq!(moved(&one, &after), None);
        let after = Limits { l3_read: 2.5e10, memory_update: 6e10, ..one };
        assert_eq!(moved(&one, &after), Some(("memory_update", 20.0, 60.0)));
    }
}
