//! The commands `archive ls`, `verify`, `cat`, `export` and `repair`. All but `repair` take no lock and work while the
//! daemon runs.

mod cat;
mod error;
mod export;
mod ls;
mod misnamed;
mod repair;
#[cfg(test)]
mod tests;
mod verify;

use std::io::{self, BufWriter, Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use super::{BAD_USAGE, FAILED, fail};
use support::stdio::{Report, note};

use error::CommandError;

/// What can be asked of an archive directory.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the segments
    Ls(ls::LsArgs),
    /// Read everything and report damage; exit code 1 if there is any
    Verify(verify::VerifyArgs),
    /// Write frames to standard output
    Cat(cat::CatArgs),
    /// Copy all that can be read into a new directory that the daemon starts on
    Repair(repair::RepairArgs),
    /// Write frames to files for other tools: Parquet, CSV or JSON lines
    Export(export::ExportArgs),
}

/// Runs `command` with its output on stdout.
pub(super) fn execute(command: &Command) -> ExitCode {
    let mut out = BufWriter::new(stdout().lock());
    let ran = match command {
        // Their result is their output.
        Command::Ls(_) | Command::Cat(_) => run(command, &mut out),
        _ => run(command, &mut Report::new(out)),
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error @ CommandError::Filter(_)) => fail(BAD_USAGE, error),
        Err(error) => fail(FAILED, error),
    }
}

/// Runs `command` and writes its output to `out`; `false` if damage was found.
///
/// If a reader closes the output early (`| head`), the command ends without an error, because the reader has all that it
/// wanted.
///
/// # Errors
/// [`CommandError`].
fn run(command: &Command, out: &mut impl Write) -> Result<bool, CommandError> {
    let result = match command {
        Command::Ls(args) => ls::ls(args, out).map(|()| true),
        Command::Verify(args) => verify::verify(args, out),
        Command::Cat(args) => cat::cat(args, out).map(|()| true),
        Command::Repair(args) => repair::repair(args, out).map(|()| true),
        Command::Export(args) => export::export(args, out).map(|()| true),
    };
    let flushed = result.and_then(|sound| Ok(out.flush().map(|()| sound)?));
    match flushed {
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        result => result,
    }
}

/// Reports on stderr that the output is empty because no frame in `dir` matches the filter.
fn note_no_match(dir: &Path) {
    note(format_args!("telemetry-aggregator: no frame in {} matches", dir.display()));
}
