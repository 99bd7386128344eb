//! `archive cat`: frames as JSON lines or as bare payloads.

use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;

use super::{CommandError, misnamed, note_no_match};
use crate::cli::directory::resolve;
use crate::cli::filter::FilterArgs;
use archive::line::Line;
use archive::{Item, Reader, StoredFrame};
use support::stdio::note;

/// Arguments of `archive cat`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CatArgs {
    /// The archive directory, or a data directory that holds it
    dir: PathBuf,
    /// Which frames
    #[command(flatten)]
    filter: FilterArgs,
    /// How frames are written
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
}

/// How frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// One JSON object a line, the payload in base64
    Jsonl,
    /// The bare payloads back to back
    Payload,
}

/// Writes the selected frames. It skips damage and reports it as an error at the end. It names offsets that retention
/// has removed on stderr, if the user gave an offset or if they were removed during the read.
///
/// # Errors
/// [`CommandError`]. [`CommandError::Damaged`] if some frames could not be read. All readable frames are written then.
pub(super) fn cat(args: &CatArgs, out: &mut impl Write) -> Result<(), CommandError> {
    args.filter.check()?;
    let dir = resolve(&args.dir)?;
    let mut out = io::BufWriter::with_capacity(64 << 10, out);
    let mut damaged: Option<(u64, u64)> = None;
    let mut is_empty = true;
    let mut reader = Reader::open(&dir, args.filter.filter())?;
    for item in &mut reader {
        match item? {
            Item::Frame(stored) => {
                is_empty = false;
                write_frame(&mut out, &stored, args.format)?;
            }
            Item::Expired(offsets) => note_expired(&args.filter, &offsets),
            Item::Damage(damage) if damage.offsets.is_empty() => {}
            Item::Damage(damage) => {
                let (offsets, _) = damaged.get_or_insert((0, damage.offsets.start));
                *offsets += damage.offsets.end - damage.offsets.start;
            }
        }
    }
    out.flush()?;
    if is_empty {
        note_no_match(&dir);
    }
    let named = misnamed::note(reader.misnamed());
    match damaged {
        None => named,
        Some((offsets, first)) => Err(CommandError::Damaged { offsets, first }),
    }
}

fn note_expired(filter: &FilterArgs, offsets: &Range<u64>) {
    if is_news(filter, offsets) {
        note(format_args!(
            "telemetry-aggregator: offsets {}..{} were removed by retention",
            offsets.start, offsets.end
        ));
    }
}

/// Whether to report that `offsets` are gone. A user who gives no offset wants only what exists.
fn is_news(filter: &FilterArgs, offsets: &Range<u64>) -> bool {
    filter.from_offset.is_some() || offsets.start > 0
}

fn write_frame(out: &mut impl Write, stored: &StoredFrame, format: Format) -> io::Result<()> {
    match format {
        Format::Jsonl => Line::of(stored).write_json(out),
        Format::Payload => out.write_all(&stored.frame.payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_offsets_are_reported_if_they_were_requested() {
        let everything = FilterArgs::default();
        assert!(!is_news(&everything, &(0..9)));
        assert!(is_news(&everything, &(4..9)), "they went while the archive was read");
        assert!(is_news(&FilterArgs { from_offset: Some(0), ..everything }, &(0..9)));
    }
}
