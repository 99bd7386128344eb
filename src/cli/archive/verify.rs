//! `archive verify`: reads every byte and reports damage.

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::CommandError;
use crate::cli::directory::resolve;
use archive::inspect::{self, IndexState};
use archive::{Damage, Filter, Item, Reader};

/// Arguments of `archive verify`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct VerifyArgs {
    /// The archive directory, or a data directory that holds it
    dir: PathBuf,
}

/// Reads the whole archive and reports each damage with file, position and lost offsets. Returns `false` if there was
/// any.
///
/// * Holes that recovery or a repair has recorded are listed, but do not count as damage, because nothing can be done
///   about them.
/// * Bytes behind the last whole block are not damage. They belong to a block being written, or to a torn tail that the
///   next start cuts off.
/// * An index that contradicts its segment is damage. It loses no frame, but a query may have missed some.
/// * A missing index only makes queries slow.
///
/// # Errors
/// [`CommandError`].
pub(super) fn verify(args: &VerifyArgs, out: &mut impl Write) -> Result<bool, CommandError> {
    let dir = resolve(&args.dir)?;
    let found = read(&dir, out)?;
    let misnamed = report_misnamed(&dir, out)?;
    let bad_indexes = check_indexes(&dir, out)?;
    summarize(&found, misnamed, out)?;
    Ok(found.fresh.places == 0 && bad_indexes == 0 && misnamed == 0)
}

/// What reading the whole archive found.
#[derive(Default)]
struct Found {
    /// Frames that can be read.
    frames: u64,
    /// One past the last offset of the log.
    next_offset: u64,
    /// Damage that the log does not record.
    fresh: Losses,
    /// Holes that recovery or a repair has recorded.
    known: Losses,
}

/// A summary of what cannot be read.
#[derive(Default)]
struct Losses {
    /// How many times the reader reported damage; each is one range of offsets.
    places: u64,
    /// Offsets in them, each of which was a frame.
    offsets: u64,
}

/// Reads the whole archive and reports missing frames.
fn read(dir: &Path, out: &mut impl Write) -> Result<Found, CommandError> {
    let mut found = Found::default();
    let mut reader = Reader::open(dir, Filter::default())?;
    for item in &mut reader {
        match item? {
            Item::Frame(_) => found.frames += 1,
            Item::Expired(offsets) if offsets.start == 0 => {}
            Item::Expired(Range { start: from, end: to }) => {
                writeln!(out, "offsets {from}..{to} were removed by retention meanwhile")?;
            }
            Item::Damage(damage) => {
                found.add(&damage);
                report(&damage, out)?;
            }
        }
    }
    let torn = reader.torn_bytes()?;
    if torn > 0 {
        writeln!(
            out,
            "{torn} bytes behind the last whole block: being written, or torn by a crash and never acknowledged"
        )?;
    }
    found.next_offset = reader.next_offset();
    Ok(found)
}

impl Found {
    fn add(&mut self, damage: &Damage) {
        let losses = if damage.recorded { &mut self.known } else { &mut self.fresh };
        losses.places += 1;
        losses.offsets += damage.offsets.end - damage.offsets.start;
    }
}

/// Writes the last lines: the recorded holes, and whether the archive is undamaged.
fn summarize(found: &Found, misnamed: u64, out: &mut impl Write) -> io::Result<()> {
    let Found { frames, next_offset: next, fresh, known } = found;
    if known.places > 0 {
        writeln!(out, "{} offsets are lost in {} recorded holes", known.offsets, known.places)?;
    }
    if fresh.places == 0 && misnamed == 0 {
        return writeln!(out, "ok: {frames} frames, next offset {next}");
    }
    let places = fresh.places + misnamed;
    writeln!(
        out,
        "damaged: {places} places, {} frames lost, {frames} frames read, next offset {next}",
        fresh.offsets
    )
}

fn report(damage: &Damage, out: &mut impl Write) -> io::Result<()> {
    let Range { start: from, end: to } = damage.offsets;
    if damage.recorded {
        return writeln!(out, "hole: offsets {from}..{to} lost, recorded by recovery or repair");
    }
    let what = match damage.offsets.is_empty() {
        true => "no frames lost".to_owned(),
        false => format!("offsets {from}..{to} lost"),
    };
    let (segment, bytes) = (damage.segment.display(), &damage.bytes);
    writeln!(out, "damage: {segment} bytes {}..{}: {what}", bytes.start, bytes.end)
}

/// Names the segments under wrong names and returns how many there are.
fn report_misnamed(dir: &Path, out: &mut impl Write) -> Result<u64, CommandError> {
    let found = inspect::misnamed_segments(dir)?;
    let mut hidden = 0;
    for one in &found {
        writeln!(out, "{}", one.explain())?;
        hidden += one.hidden_offsets()?;
    }
    if hidden > 0 {
        writeln!(
            out,
            "{hidden} offsets are there under wrong names, and count as lost here: archive repair recovers them"
        )?;
    }
    Ok(found.len() as u64)
}

/// Compares every index with its segment and returns how many differ.
fn check_indexes(dir: &Path, out: &mut impl Write) -> Result<u64, CommandError> {
    let (mut bad, mut missing) = (0, 0_u64);
    for index in inspect::check_indexes(dir)? {
        let index = index?;
        match index.state {
            IndexState::Matches | IndexState::NotNeeded => {}
            IndexState::Missing => missing += 1,
            IndexState::Differs => {
                bad += 1;
                let path = index.path.display();
                writeln!(out, "index {path} does not match its segment; delete it to have it built again")?;
            }
        }
    }
    if missing > 0 {
        writeln!(out, "{missing} sealed segments have no index yet: queries read them in full")?;
    }
    Ok(bad)
}
