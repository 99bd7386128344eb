//! `archive repair`: copies the readable part of a damaged archive, and reports what was copied and what was lost.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::CommandError;
use crate::cli::directory::resolve;
use archive::{self, LostFrames, RepairReport};

/// Arguments of `archive repair`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RepairArgs {
    /// The archive directory, or a data directory that holds it; no daemon may be running on it
    dir: PathBuf,
    /// The directory to write, which must be empty or missing: `<data_dir>/archive` of the daemon to come
    #[arg(long, value_name = "NEWDIR")]
    out: PathBuf,
}

/// Copies everything readable into a new directory, and reports what was copied and what was lost.
///
/// # Errors
/// [`CommandError`]. See [`archive::RepairError`] for the state of the copy after an error.
pub(super) fn repair(args: &RepairArgs, out: &mut impl Write) -> Result<(), CommandError> {
    let dir = resolve(&args.dir)?;
    let report = archive::repair(&dir, &args.out)?;
    print(&report, &args.out, out)?;
    Ok(())
}

fn print(report: &RepairReport, dir: &Path, out: &mut impl Write) -> io::Result<()> {
    print_lost(&report.lost, out)?;
    print_left_out(report, out)?;
    let lost: u64 = report.lost.iter().map(|lost| lost.offsets.end - lost.offsets.start).sum();
    writeln!(
        out,
        "copied: {} frames of {} streams in {} segments to {}, offsets {}..{}; {lost} offsets lost in {} places",
        report.frames,
        report.streams,
        report.segments,
        dir.display(),
        report.first_offset,
        report.next_offset,
        report.lost.len(),
    )
}

fn print_lost(lost: &[LostFrames], out: &mut impl Write) -> io::Result<()> {
    for LostFrames { offsets, segment, bytes } in lost {
        writeln!(
            out,
            "lost: offsets {}..{}: {} bytes {}..{}",
            offsets.start,
            offsets.end,
            segment.display(),
            bytes.start,
            bytes.end
        )?;
    }
    Ok(())
}

fn print_left_out(report: &RepairReport, out: &mut impl Write) -> io::Result<()> {
    for segment in &report.foreign {
        writeln!(out, "left out: {} belongs to another log", segment.display())?;
    }
    if report.torn_bytes > 0 {
        let torn = report.torn_bytes;
        writeln!(
            out,
            "left out: {torn} bytes behind the last whole block, torn by a crash and never acknowledged"
        )?;
    }
    if report.has_new_log_id {
        writeln!(out, "no segment holds the log's id: the copy has a new one, and subscribers start again")?;
    }
    Ok(())
}
