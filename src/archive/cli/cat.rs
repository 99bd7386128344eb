//! `archive cat`: frames as JSON lines or as bare payloads.

use std::io::{self, Write};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{CommandError, FilterArgs, resolve};
use crate::archive::{Item, Reader, StoredFrame};

/// Arguments of `archive cat`.
#[derive(Debug, clap::Args)]
pub struct CatArgs {
    /// The archive directory, or a data directory that holds it
    pub dir: PathBuf,
    /// Which frames
    #[command(flatten)]
    pub filter: FilterArgs,
    /// How frames are written
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub format: Format,
}

/// How frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line, the payload in base64
    Jsonl,
    /// The bare payloads back to back
    Payload,
}

/// Writes the frames asked for. Damage is passed over, and reported as an error at the end.
///
/// # Errors
/// [`CommandError`]; [`CommandError::Damaged`] when everything readable was written and something was not.
pub fn cat(args: &CatArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let dir = resolve(&args.dir)?;
    let mut out = io::BufWriter::with_capacity(64 << 10, out);
    let mut damaged: Option<(u64, u64)> = None;
    for item in Reader::open(&dir, args.filter.filter())? {
        match item? {
            Item::Frame(stored) => write_frame(&mut out, &stored, args.format)?,
            Item::Expired(_) => {}
            Item::Damage(damage) if damage.offsets.is_empty() => {}
            Item::Damage(damage) => {
                let (offsets, _) = damaged.get_or_insert((0, damage.offsets.start));
                *offsets += damage.offsets.end - damage.offsets.start;
            }
        }
    }
    out.flush()?;
    match damaged {
        None => Ok(()),
        Some((offsets, first)) => Err(CommandError::Damaged { offsets, first }),
    }
}

/// One line of output; the order of the fields is part of the interface.
#[derive(Serialize)]
struct Line<'a> {
    offset: u64,
    source_id: u32,
    source_kind: &'static str,
    station: &'a str,
    epoch: u64,
    priority: &'static str,
    sequence: u64,
    flags: u8,
    ert_ns: i64,
    received_ns: i64,
    payload: String,
}

fn write_frame(out: &mut impl Write, stored: &StoredFrame, format: Format) -> io::Result<()> {
    let frame = &stored.frame;
    if format == Format::Payload {
        return out.write_all(&frame.payload);
    }
    let line = Line {
        offset: stored.offset,
        source_id: frame.source_id,
        source_kind: frame.source_kind.name(),
        station: frame.origin.stream.station.as_str(),
        epoch: frame.origin.epoch,
        priority: frame.priority.name(),
        sequence: frame.sequence,
        flags: frame.flags.0,
        ert_ns: frame.ert_ns,
        received_ns: frame.received_ns,
        payload: STANDARD.encode(&frame.payload),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
