//! `archive verify`: reads every byte and says what cannot be trusted.

use std::io::Write;
use std::path::PathBuf;

use super::{CommandError, resolve};
use crate::archive::{Filter, Item, Reader};

/// Arguments of `archive verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The archive directory, or a data directory that holds it
    pub dir: PathBuf,
}

/// Reads the whole archive and reports each damage with file, position and the offsets lost; `false` if there was any.
///
/// Bytes behind the last whole block are no damage: a block being written, or a tail that the next start cuts off.
///
/// # Errors
/// [`CommandError`].
pub fn verify(args: &VerifyArgs, out: &mut impl Write) -> Result<bool, CommandError> {
    let dir = resolve(&args.dir)?;
    let mut reader = Reader::open(&dir, Filter::default())?;
    let (mut frames, mut lost, mut damages) = (0_u64, 0_u64, 0_u64);
    for item in &mut reader {
        match item? {
            Item::Frame(_) => frames += 1,
            Item::Expired(_) => {}
            Item::Damage(damage) => {
                damages += 1;
                lost += damage.offsets.end - damage.offsets.start;
                let what = if damage.offsets.is_empty() {
                    "no frames lost".to_owned()
                } else {
                    format!("offsets {}..{} lost", damage.offsets.start, damage.offsets.end)
                };
                writeln!(
                    out,
                    "damage: {} bytes {}..{}: {what}",
                    damage.segment.display(),
                    damage.bytes.start,
                    damage.bytes.end,
                )?;
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
    let next = reader.next_offset();
    if damages == 0 {
        writeln!(out, "ok: {frames} frames, next offset {next}")?;
    } else {
        writeln!(
            out,
            "damaged: {damages} places, {lost} frames lost, {frames} frames read, next offset {next}"
        )?;
    }
    Ok(damages == 0)
}
