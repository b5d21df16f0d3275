//! What was measured: a table for people, CSV for programs.
//!
//! ```text
//! ratio        time of a peer / time of ours, of minima and of medians: above 1 we are ahead
//! closest      the peer with the smallest ratio of minima
//! behind       a ratio of minima below 0.97
//! ```

use crate::measure::Times;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Below this ratio a peer is ahead of us.
pub(crate) const BEHIND: f64 = 0.97;

/// The columns of the CSV file.
const COLUMNS: &str = "machine,date,isa,threads,verb,profile,batch,d_in,d_out,areas,who,min_us,median_us,gflops,\
                       ratio_min,ratio_median";

/// What is the same for a whole run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// What the CPU is called.
    pub(crate) machine: String,
    /// Of the first measurement, as 2026-01-31.
    pub(crate) date: String,
    /// Ours.
    pub(crate) isa: String,
    /// Of everybody.
    pub(crate) threads: usize,
}

/// Where it was measured.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// A verb, or a network.
    pub(crate) verb: String,
    /// Of the areas, or of the inputs of a network.
    pub(crate) profile: String,
    /// Samples.
    pub(crate) batch: usize,
    /// Width of the input.
    pub(crate) d_in: usize,
    /// Width of the output.
    pub(crate) d_out: usize,
    /// Number of areas.
    pub(crate) areas: usize,
}

/// One of ours and all peers at one place.
#[derive(Debug, Clone)]
pub(crate) struct Duel {
    /// Where.
    pub(crate) place: Place,
    /// FLOPs of one call.
    pub(crate) flop: f64,
    /// FMA peak of the threads in FLOP per second, measured beside it.
    pub(crate) peak: f64,
    /// Ours.
    pub(crate) ours: (String, Times),
    /// Theirs.
    pub(crate) peers: Vec<(String, Times)>,
}

impl Duel {
    /// The closest peer and its ratio of minima.
    pub(crate) fn closest(&self) -> Option<(&str, f64)> {
        let ratios = self.peers.iter().map(|(name, t)| (name.as_str(), t.min / self.ours.1.min));
        ratios.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// One line: where, ours, then each peer with its ratios.
    pub(crate) fn line(&self) -> String {
        let Place { verb, profile, batch, d_in, d_out, areas } = &self.place;
        let ours = self.ours.1;
        let rate = self.flop / ours.min;
        let mut line = format!(
            "{verb:<21} {profile:<8} {batch:>5} {:>9} {areas:>3} {:>10.1} {:>6.1} {:>4.0} % |",
            format!("{d_in}x{d_out}"),
            ours.min * 1e6,
            rate / 1e9,
            100.0 * rate / self.peak,
        );
        let closest = self.closest().map(|(name, _)| name.to_owned());
        for (name, times) in &self.peers {
            let (min, median) = (times.min / ours.min, times.median / ours.median);
            let mark = match (closest.as_ref() == Some(name), min < BEHIND) {
                (_, true) => " <<",
                (true, false) => " <",
                (false, false) => "",
            };
            line += &format!("  {name} {min:.2}/{median:.2}{mark}");
        }
        line
    }

    /// Lines of the CSV file: ours, then each peer.
    pub(crate) fn csv(&self, run: &Run) -> String {
        let Place { verb, profile, batch, d_in, d_out, areas } = &self.place;
        let Run { machine, date, isa, threads } = run;
        let machine = machine.replace(',', " ");
        let all = std::iter::once(&self.ours).chain(&self.peers);
        all.map(|(who, t)| {
            format!(
                "{machine},{date},{isa},{threads},{verb},{profile},{batch},{d_in},{d_out},{areas},{who},\
                 {:.3},{:.3},{:.2},{:.4},{:.4}\n",
                t.min * 1e6,
                t.median * 1e6,
                self.flop / t.min / 1e9,
                t.min / self.ours.1.min,
                t.median / self.ours.1.median,
            )
        })
        .collect()
    }
}

/// The heads of the columns of [`Duel::line`].
pub(crate) fn heading() -> String {
    format!(
        "{:<21} {:<8} {:>5} {:>9} {:>3} {:>10} {:>6} {:>6} |  {}",
        "verb",
        "profile",
        "batch",
        "shape",
        "k",
        "sal us",
        "GF/s",
        "peak",
        "peer  ratio of minima/of medians   < closest   << ahead of us"
    )
}

/// The places where a peer comes closest, closest first, and how many are behind.
pub(crate) fn summary(duels: &[Duel]) -> String {
    let mut all: Vec<(&Duel, &str, f64)> =
        duels.iter().filter_map(|d| d.closest().map(|(name, ratio)| (d, name, ratio))).collect();
    all.sort_by(|a, b| a.2.total_cmp(&b.2));
    let behind = all.iter().filter(|(_, _, ratio)| *ratio < BEHIND).count();
    let mut text = format!(
        "\n{behind} of {} points are below {BEHIND} x the best peer. Where a peer comes closest:\n",
        all.len()
    );
    for (duel, name, ratio) in all.iter().take(behind.max(10)) {
        let Place { verb, profile, batch, d_in, d_out, areas } = &duel.place;
        text += &format!(
            "  {ratio:.2}  {name:<16} {verb} {profile} n={batch} {d_in}x{d_out} k={areas}\n"
        );
    }
    text
}

/// Adds lines to a CSV file, with the columns' names if it is new or empty.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn append(path: &Path, lines: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    if file.metadata()?.len() == 0 {
        writeln!(file, "{COLUMNS}")?;
    }
    file.write_all(lines.as_bytes())
}

/// Today in UTC.
pub(crate) fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    date(seconds / 86_400)
}

/// The day that comes `days` after 1970-01-01.
fn date(mut days: u64) -> String {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

/// What the CPU calls itself, or its architecture.
pub(crate) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':'));
    model.map_or(std::env::consts::ARCH.into(), |(_, name)| name.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duel() -> Duel {
        let times = |min, median| Times { min, median };
        Duel {
            place: Place {
                verb: "forward".into(),
                profile: "balanced".into(),
                batch: 64,
                d_in: 784,
                d_out: 256,
                areas: 16,
            },
            flop: 2e9,
            peak: 4e9,
            ours: ("sal".into(), times(1.0, 2.0)),
            peers: vec![("a".into(), times(2.0, 3.0)), ("b".into(), times(0.5, 4.0))],
        }
    }

    #[test]
    fn csv_has_a_value_in_every_column() {
        let run = Run {
            machine: "A, B".into(),
            date: "2026-01-31".into(),
            isa: "avx2".into(),
            threads: 1,
        };
        let csv = duel().csv(&run);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[2],
            "A  B,2026-01-31,avx2,1,forward,balanced,64,784,256,16,b,500000.000,4000000.000,4.00,0.5000,2.0000"
        );
        for line in lines {
            assert_eq!(line.split(',').count(), COLUMNS.split(',').count());
        }
    }

    #[test]
    fn the_closest_peer_is_marked() {
        assert_eq!(duel().closest(), Some(("b", 0.5)));
        let line = duel().line();
        assert!(line.contains("a 2.00/1.50  b 0.50/2.00 <<"), "{line}");
        assert!(line.contains("50 %"), "{line}");
        assert!(summary(&[duel()]).contains("1 of 1 points"));
        let mut alone = duel();
        alone.peers.clear();
        assert_eq!(alone.closest(), None);
    }

    #[test]
    fn days_have_dates() {
        for (days, want) in [(0, "1970-01-01"), (58, "1970-02-28"), (59, "1970-03-01")] {
            assert_eq!(date(days), want);
        }
        assert_eq!(date(19_782), "2024-02-29"); // seconds 1_709_164_800
        assert_eq!(date(20_088), "2024-12-31");
        assert_eq!(date(20_089), "2025-01-01");
    }

    #[test]
    fn a_file_gets_its_head_once() {
        let path = std::env::temp_dir().join(format!("sal-peers-{}.csv", std::process::id()));
        append(&path, "1\n").unwrap();
        append(&path, "2\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, format!("{COLUMNS}\n1\n2\n"));
    }
}
