//! `archive ls`: a list of the segments.

use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::CommandError;
use crate::cli::directory::resolve;
use archive::inspect::{self, SegmentInfo};

/// Arguments of `archive ls`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LsArgs {
    /// The archive directory, or a data directory that holds it
    dir: PathBuf,
}

/// Lists the segments: file, offsets, frames, bytes, time of creation, and the earliest and latest receive time from
/// the index.
///
/// # Errors
/// [`CommandError`].
pub(super) fn ls(args: &LsArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let segments = inspect::segments(&resolve(&args.dir)?)?;
    writeln!(
        out,
        "{:24} {:>12} {:>12} {:>10} {:>12}  {:20}  {:5}  {:20}  RECEIVED TO",
        "SEGMENT", "FROM", "TO", "FRAMES", "BYTES", "CREATED", "INDEX", "RECEIVED FROM"
    )?;
    for segment in segments {
        let segment = segment?;
        let (created, received) = (created(&segment), received(segment.received_ns.as_ref()));
        let SegmentInfo { name, base_offset: base, next_offset: next, bytes, .. } = segment;
        // Offsets of holes count too: `verify` lists them.
        let frames = next - base;
        writeln!(out, "{name:24} {base:>12} {next:>12} {frames:>10} {bytes:>12}  {created:20}  {received}")?;
    }
    Ok(())
}

/// When the segment was created, or why its header is not believed. The file of a segment is named after its first
/// offset; a header with another one means that the file was renamed, and readers skip it.
fn created(segment: &SegmentInfo) -> String {
    match segment.header {
        Some(header) if header.base_offset != segment.base_offset => {
            format!("(header: {})", header.base_offset)
        }
        Some(header) => time(header.created_ns),
        None => "(header damaged)".to_owned(),
    }
}

/// Formats whether there is an index, and its receive times.
fn received(received_ns: Option<&RangeInclusive<i64>>) -> String {
    match received_ns {
        Some(times) => {
            let (from, to) = (time(*times.start()), time(*times.end()));
            format!("{:5}  {from:20}  {to}", "yes")
        }
        None => format!("{:5}  {:20}  -", "no", "-"),
    }
}

fn time(unix_ns: i64) -> String {
    let since = Duration::from_nanos(unix_ns.max(0).unsigned_abs());
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
