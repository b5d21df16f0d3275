//! The flags of `sal bench`.

use super::case::Layer;
use super::profile::Profile;
use crate::choices;
use crate::flags::{Machine, RUN, positive, whole};
use sal_kernels::kernels::Verb;

const GRID: &str = "Grid";

const NOTES: &str = "\
Columns:
  path       of most areas: tiles; few rows (reading the weights decides); zero-skipping (few rows,
             and weights that meet only zeros are not read); lookups (of sums of signed values)
  tile       rows x columns of the sums that registers hold
  MB         weights of the areas that have samples, read once (by an update: read and written),
             without those that are skipped, and what comes in and goes out
  min us     shortest call, median us: the one in the middle, in microseconds
  rate       of the shortest call, in the unit of what bounds it
  roof       the limit of this machine in the same unit: multiply-adds in registers, or the
             bandwidth of the level that holds the weights of all areas together
  share      rate / roof; above 100 % where a kernel needs less than the roof supposes: signs are
             looked up instead of multiplied, small weights lie in L1, and some of those that are
             too many for a cache are still there when they are needed again (with --zeros, more)

Keys of --json, all times in seconds:
  version, isa, threads, profile, zeros (per cent), checked (true: every result was)
  caches     l2_bytes of these threads together, l3_bytes
  limits     fma (FLOP/s); l2_read, l2_update, l3_read, l3_update, memory_read, memory_update
             (bytes/s; an update counts what it reads and what it writes)
  limits_after  the same, measured again at the end
  points     one for each line: verb, d_in, d_out, areas, batch, profile, zeros, isa, tile (rows
             and columns), path, label, flop, bytes (both without what is skipped), working_set
             (bytes), checked_entries, calls, seconds_min, seconds_median, flop_per_second,
             bytes_per_second (both of the shortest call), roof_seconds, bound, share

Examples:
  sal bench
  sal bench --shapes 784x256 --areas 16 --batches 64 --verbs forward,update --seconds 1
  sal bench --shapes 784x256 --batches 1,16,64 --zeros 80
  sal bench --profile hot80 --threads 2 --json";

/// Check every kernel against an f64 oracle, time it, and compare it with the limits of this machine
///
/// First it measures what the machine can do at most: multiply-adds, and bytes read and updated in L2, in L3 and in
/// memory. Then each point of the grid: verbs x shapes x areas x batches. The areas of the samples rotate from call to
/// call, so that the weights come from where they would come from in training.
///
/// Of large results 16 x 16 entries are checked (of an update: of each area), of small ones all. A wrong entry is
/// named and ends the command with code 1.
///
/// Other work on the machine costs more than half of some figures: measure on an idle one, and on one thread pin it to a
/// core (taskset -c 1 sal bench --threads 1).
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(crate) struct Flags {
    /// Kernels, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = choices::VERB.parser())]
    #[arg(default_value = "route,forward,feedback,feedback_signs,update", help_heading = GRID)]
    pub(crate) verbs: Vec<Verb>,

    /// Layers, inputs x outputs, separated by commas; feedback goes from the outputs to the inputs
    #[arg(long, value_delimiter = ',', value_parser = layer, default_value = "784x256,1024x1024")]
    #[arg(value_name = "INxOUT", help_heading = GRID)]
    pub(crate) shapes: Vec<Layer>,

    /// Areas of a layer, separated by commas; feedback has one matrix for all of them
    #[arg(long, value_name = "K", value_delimiter = ',', value_parser = whole::<4096>)]
    #[arg(default_value = "1,16", allow_negative_numbers = true, help_heading = GRID)]
    pub(crate) areas: Vec<usize>,

    /// Samples of a call, separated by commas
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = whole::<1_000_000>)]
    #[arg(default_value = "1,16,256", allow_negative_numbers = true, help_heading = GRID)]
    pub(crate) batches: Vec<usize>,

    /// How the samples are spread over the areas
    #[arg(long, value_name = "NAME", value_parser = choices::PROFILE.parser())]
    #[arg(default_value = "balanced", help_heading = GRID)]
    pub(crate) profile: Profile,

    /// Share of the inputs that is exactly zero, in per cent: whole columns, the same in all samples, as the edges of
    /// images are
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "0")]
    #[arg(allow_negative_numbers = true, help_heading = GRID)]
    pub(crate) zeros: u8,

    /// Seconds of each point
    #[arg(long, value_name = "TIME", value_parser = seconds, default_value = "0.2")]
    #[arg(allow_negative_numbers = true, help_heading = RUN)]
    pub(crate) seconds: f64,

    #[command(flatten)]
    pub(crate) machine: Machine,

    /// Print one JSON object instead of the table
    #[arg(long, help_heading = RUN)]
    pub(crate) json: bool,
}

/// `784x256`.
fn layer(text: &str) -> Result<Layer, String> {
    let sides = text.split_once('x');
    let parsed = sides.map(|(d_in, d_out)| (side(d_in), side(d_out)));
    match parsed {
        Some((Ok(d_in), Ok(d_out))) => Ok(Layer { d_in, d_out }),
        _ => Err("want two whole numbers from 1 to 1000000, as in 784x256".into()),
    }
}

fn side(text: &str) -> Result<usize, String> {
    whole::<1_000_000>(text)
}

fn percent(text: &str) -> Result<u8, &'static str> {
    text.parse().ok().filter(|&n| n <= 100).ok_or("want a whole number from 0 to 100")
}

fn seconds(text: &str) -> Result<f64, &'static str> {
    let number = positive(text).ok().map(f64::from).filter(|&x| x <= 3600.0);
    number.ok_or("want a number above 0, at most 3600")
}
