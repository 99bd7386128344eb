//! `archive ls`: the segments at a glance.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::format::SegmentHeader;
use crate::index;

use super::{CommandError, resolve};
use crate::dir::{list_segments, segment_name};
use crate::scan::{Head, Scanner, Step};
use crate::{DiskStorage, ReadError, StorageError};

/// Arguments of `archive ls`.
#[derive(Debug, clap::Args)]
pub struct LsArgs {
    /// The archive directory, or a data directory that holds it
    pub dir: PathBuf,
}

/// Lists the segments: file, offsets, frames, bytes, time of creation, and what their indexes say: the earliest and the
/// latest time at which a frame was received.
///
/// Only the newest segment is read in full; of the others the headers and the name of the next tell enough.
///
/// # Errors
/// [`CommandError`].
pub fn ls(args: &LsArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let dir = resolve(&args.dir)?;
    let bases = list_segments(&DiskStorage, &dir)?;
    writeln!(
        out,
        "{:24} {:>12} {:>12} {:>10} {:>12}  {:20}  {:5}  {:20}  RECEIVED TO",
        "SEGMENT", "FROM", "TO", "FRAMES", "BYTES", "CREATED", "INDEX", "RECEIVED FROM"
    )?;
    for (index, base) in bases.iter().enumerate() {
        let scanner = match Scanner::open(&DiskStorage, &dir.join(segment_name(*base))) {
            // Retention was quicker.
            Err(error)
                if error.source.kind() == std::io::ErrorKind::NotFound
                    && list_segments(&DiskStorage, &dir)?.first().is_some_and(|oldest| oldest > base) =>
            {
                continue;
            }
            result => result?,
        };
        let created = created(&scanner, *base)?;
        let bytes = scanner.size()?;
        let received = received(&dir, &scanner, bytes);
        let next = match bases.get(index + 1) {
            Some(next) => *next,
            None => end_of(scanner, *base)?,
        };
        let name = segment_name(*base);
        let frames = next - base;
        writeln!(out, "{name:24} {base:>12} {next:>12} {frames:>10} {bytes:>12}  {created:20}  {received}")?;
    }
    Ok(())
}

fn created(scanner: &Scanner, base: u64) -> Result<String, CommandError> {
    match scanner.head() {
        Head::Sound(header) if header.base_offset != base => Ok(format!("(header: {})", header.base_offset)),
        Head::Sound(header) => Ok(time(header.created_ns)),
        Head::Damaged => Ok("(header damaged)".to_owned()),
        Head::Version(found) => {
            let path = scanner.path().to_owned();
            Err(ReadError::Version { path, found }.into())
        }
    }
}

fn time(unix_ns: i64) -> String {
    let since = Duration::from_nanos(unix_ns.max(0).unsigned_abs());
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

/// Whether there is an index, and the times it tells.
fn received(dir: &Path, scanner: &Scanner, segment_len: u64) -> String {
    let header = |segment: SegmentHeader| index::header(&DiskStorage, dir, &segment, segment_len);
    let header = match scanner.head() {
        Head::Sound(segment) => header(segment),
        Head::Damaged | Head::Version(_) => None,
    };
    match header {
        Some(header) => {
            let (from, to) = (time(header.times.min_ns), time(header.times.max_ns));
            format!("{:5}  {from:20}  {to}", "yes")
        }
        None => format!("{:5}  {:20}  -", "no", "-"),
    }
}

fn end_of(mut scanner: Scanner, base: u64) -> Result<u64, StorageError> {
    let mut next = base;
    loop {
        match scanner.next()? {
            Step::Block(header, _) => next = next.max(header.next_offset()),
            Step::Damage(_) => {}
            Step::End(_) => return Ok(next),
        }
    }
}
