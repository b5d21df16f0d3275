//! What `sal bench` tells: the machine's limits, a line for each point, or all of it as JSON.

use super::Point;
use super::profile::Profile;
use crate::choices::PROFILE;
use crate::cpu;
use crate::info::size;
use sal_kernels::Isa;
use sal_kernels::kernels::Bound;
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
    pub(crate) checked: usize,
    pub(crate) times: Times,
}

/// What holds for all points.
pub(crate) struct Setting {
    pub(crate) isa: Isa,
    pub(crate) profile: Profile,
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
            ("caches", format!("L2 {} of all threads, L3 {}", size(l.l2_bytes), size(l.l3_bytes))),
            ("fma peak", format!("{:.1} GFLOP/s", l.fma / 1e9)),
            ("read", bandwidth(l.l2_read, l.l3_read, l.memory_read)),
            ("update", bandwidth(l.l2_update, l.l3_update, l.memory_update) + ", read + written"),
        ];
        rows.into_iter().map(|(what, text)| format!("{what:11} {text}")).collect()
    }

    pub(crate) fn json(&self, points: &[Measured<'_>]) -> Value {
        let l = &self.limits;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "isa": self.isa.name().as_str(),
            "threads": l.threads,
            "profile": PROFILE.name(self.profile),
            "checked": true, // a wrong entry would have ended the run
            "caches": { "l2_bytes": l.l2_bytes, "l3_bytes": l.l3_bytes },
            "limits": {
                "fma": l.fma,
                "l2_read": l.l2_read,
                "l2_update": l.l2_update,
                "l3_read": l.l3_read,
                "l3_update": l.l3_update,
                "memory_read": l.memory_read,
                "memory_update": l.memory_update,
            },
            "points": points.iter().map(|m| m.json(self)).collect::<Vec<_>>(),
        })
    }
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
            "{:14}  {:shape$}  areas  batch  {:8}  {:5}  {:>7}  {:>9}  {:>9}  {:>6}  {:>6}  {:7}  share  bound by",
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
        let Point { verb, layer, areas, batch, told, .. } = m.point;
        let roof = told.roof(limits);
        let (work, unit) = match roof.bound {
            Bound::Arithmetic => (told.flop, "GFLOP/s"),
            _ => (told.bytes, "GB/s"),
        };
        let (tile, path) = (format!("{}x{}", told.tile.0, told.tile.1), told.path);
        format!(
            "{verb:14}  {layer:shape$}  {areas:>5}  {batch:>5}  {path:8}  {tile:5}  {:>7.2}  {:>9.1}  {:>9.1}  \
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
        let Point { verb, layer, areas, batch, told, .. } = self.point;
        let (times, roof) = (self.times, told.roof(&setting.limits));
        json!({
            "verb": verb.as_str(),
            "d_in": layer.d_in,
            "d_out": layer.d_out,
            "areas": areas,
            "batch": batch,
            "profile": PROFILE.name(setting.profile),
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
