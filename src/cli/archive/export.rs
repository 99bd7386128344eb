//! `archive export`: the archive as files that other tools read.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{CommandError, misnamed, note_no_match};
use crate::cli::directory::resolve;
use crate::cli::filter::FilterArgs;
use archive::inspect::misnamed_segments;
use export::{ExportConfig, ExportFormat, Exported, Exporter, Progress};

/// How often the progress on the terminal is updated.
const REFRESH: Duration = Duration::from_millis(200);

/// Arguments of `archive export`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ExportArgs {
    /// The archive directory, or a data directory that holds it
    dir: PathBuf,
    /// Which frames
    #[command(flatten)]
    filter: FilterArgs,
    /// How files are written
    #[arg(long, value_enum, default_value_t = Format::Parquet)]
    format: Format,
    /// The directory of the export; it holds one export, whose files are written again
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// How files are written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// Apache Parquet: typed columns, zstd
    Parquet,
    /// Comma-separated values with a header, the payload in base64
    Csv,
    /// The lines of `archive cat`
    Jsonl,
}

impl From<Format> for ExportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Parquet => Self::Parquet,
            Format::Csv => Self::Csv,
            Format::Jsonl => Self::Jsonl,
        }
    }
}

/// Writes the selected frames to files and reports the result. It skips damage and reports it as an error at the end.
///
/// # Errors
/// [`CommandError`]. [`CommandError::Damaged`] if some frames could not be read. All readable frames are written then.
pub(super) fn export(args: &ExportArgs, out: &mut impl Write) -> Result<(), CommandError> {
    args.filter.check()?;
    let dir = resolve(&args.dir)?;
    let config = ExportConfig { dir: dir.clone(), out: args.out.clone(), format: args.format.into() };
    let started = Instant::now();
    let bar = io::stderr().is_terminal().then(new_bar);
    let exported = Exporter::new(config).export_all(&args.filter.filter(), &|progress| show(&bar, progress));
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let exported = exported?;
    report(&exported, started.elapsed(), out)?;
    if exported.rows == 0 {
        note_no_match(&args.dir);
    }
    let named = misnamed::note(&misnamed_segments(&dir)?);
    match exported.first_lost {
        None => named,
        Some(first) => Err(CommandError::Damaged { offsets: exported.lost, first }),
    }
}

fn report(exported: &Exported, elapsed: Duration, out: &mut impl Write) -> io::Result<()> {
    let Exported { files, rows, bytes, expired, .. } = exported;
    let seconds = elapsed.as_secs_f64();
    let rate = *rows as f64 / seconds.max(1e-3);
    writeln!(
        out,
        "exported {rows} rows to {files} files, {bytes} bytes, in {seconds:.1} s ({rate:.0} rows/s)"
    )?;
    match expired {
        0 => Ok(()),
        _ => writeln!(out, "{expired} segments were removed by retention before they were exported"),
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed} [{bar:30}] {percent}% {msg}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(REFRESH);
    bar
}

fn show(bar: &Option<ProgressBar>, progress: Progress) {
    if let Some(bar) = bar {
        bar.set_length(progress.total);
        bar.set_position(progress.passed);
        bar.set_message(format!("{} rows", progress.rows));
    }
}
