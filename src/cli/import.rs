//! `import`: sends a recording in a format of equipment to a daemon.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::sending::{Keys, SendingArgs, Subject, args_without, attend, raise_limit, say, start_runtime};
use super::{BAD_USAGE, FAILED, fail};
use config::{Link, RecordingOptions};
use sim::cli::host_and_port;
use support::causes::with_causes;
use support::number::number;
use tools::import::{self, Import, Report};
use tools::replay::{Control, Progress, Sending};

/// The name of the command in its lines on stderr.
const NAME: &str = "import";
/// The name of stdin as a file.
const STDIN: &str = "-";

/// Send a recording of equipment to a daemon, as archived replays: CADUs, packets, or any framing of an input link.
///
/// The options --framing to --bad-source are the keys of a link in aggregator.toml, with the same values. Enter, p and
/// SIGUSR1 pause and resume the import. SIGINT and SIGTERM end it when all sent frames are acknowledged. A second one
/// of these signals ends it at once. The command in the first line continues an import: it sends only what the daemon
/// does not have. Exit codes: 0 the recording was read to its end and every frame is acknowledged, 1 otherwise, 2 bad
/// usage.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The recording, or - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How the bytes are cut into units, as `framing` of a link: '{ kind = "cadu", length = 1024, strip = 128 }', or
    /// short 'cadu, length = 1024, strip = 128', or packet
    #[arg(long, value_name = "TABLE")]
    framing: String,
    /// What a unit is, as `decode` of a link: '{ kind = "tm", fecf = "crc16" }', or short 'tm, fecf = "crc16"', or aos
    /// [default: packet with packets, else none]
    #[arg(long, value_name = "TABLE")]
    decode: Option<String>,
    /// The source of the frames: scid, apid, scid-vcid, or a number
    #[arg(long, value_name = "SOURCE", default_value = "scid")]
    source: String,
    /// The station of the frames
    #[arg(long, value_name = "NAME")]
    station: Option<String>,
    /// The spacecraft whose frames are taken, such as 157 or 157,158 [default: all]
    #[arg(long, value_name = "IDS")]
    spacecraft: Option<String>,
    /// Rules that say which frames are emergencies, such as `{ vcid = [3] }, { offset = 6, mask = 0x80, value = 0x80 }`
    #[arg(long, value_name = "RULES")]
    emergency: Option<String>,
    /// Whether idle frames are kept
    #[arg(long, value_name = "keep|drop", default_value = "keep")]
    idle: String,
    /// Whether frames whose check fails are kept
    #[arg(long, value_name = "keep|drop", default_value = "keep")]
    bad: String,
    /// The source of bad frames, unless --spacecraft names exactly one
    #[arg(long, value_name = "ID")]
    bad_source: Option<String>,
    /// Ingest listener of the daemon
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7480", value_parser = host_and_port)]
    connect: String,
    /// Continue an earlier import of this recording with the same options, which printed its epoch when it started. The
    /// part behind the hyphen stands for the options
    #[arg(long, value_name = "N[-OPTIONS]", value_parser = earlier)]
    epoch: Option<Earlier>,
    #[command(flatten)]
    sending: SendingArgs,
}

/// The epoch of an earlier import.
#[derive(Clone, Copy, Debug)]
struct Earlier {
    /// The epoch of its frames.
    epoch: u64,
    /// [`Link::checksum`] of its options, unless the user left it out.
    options: Option<u32>,
}

fn earlier(text: &str) -> Result<Earlier, String> {
    let (epoch, options) = match text.split_once('-') {
        Some((epoch, options)) => (epoch, Some(options)),
        None => (text, None),
    };
    let checksum = |text: &str| u32::from_str_radix(text, 16);
    let options = options.map(checksum).transpose();
    let options = options.map_err(|_| "expected hex digits behind the hyphen".to_owned())?;
    Ok(Earlier { epoch: number(1..=u64::MAX >> 1)(epoch)?, options })
}

impl ImportArgs {
    fn rules(&self) -> anyhow::Result<Link> {
        let mut options = RecordingOptions::default().kind("framing", &self.framing);
        if let Some(text) = &self.decode {
            options = options.kind("decode", text);
        }
        options = options.value("source", &self.source).value("idle", &self.idle).value("bad", &self.bad);
        for (name, text) in [("spacecraft", &self.spacecraft), ("emergency", &self.emergency)] {
            if let Some(text) = text {
                options = options.list(name, text);
            }
        }
        if let Some(station) = &self.station {
            options = options.text("station", station);
        }
        if let Some(text) = &self.bad_source {
            options = options.value("bad_source", text);
        }
        let rules = options.read().map_err(|problems| anyhow::anyhow!(problems.join("\n")))?;
        // With other options, frames would get sequences that the earlier import gave to others.
        let is_other = |earlier: &Earlier| earlier.options.is_some_and(|options| options != rules.checksum());
        if let Some(earlier) = self.epoch.filter(is_other) {
            anyhow::bail!(
                "--epoch: the import of epoch {} had other options: use the options of its first line, or leave out \
                 --epoch to begin a new import",
                earlier.epoch
            );
        }
        Ok(rules)
    }

    fn import(&self, rules: Link) -> anyhow::Result<Import> {
        let rules = Arc::new(rules);
        if self.file == Path::new(STDIN) {
            return Ok(Import { input: Box::new(io::stdin()), length: None, rules });
        }
        let (file, length) =
            open(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        Ok(Import { input: file, length, rules })
    }
}

/// Opens a file, and says how long it is. A pipe has no length.
fn open(path: &Path) -> io::Result<(Box<dyn Read + Send>, Option<u64>)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

pub(super) fn execute(args: &ImportArgs) -> ExitCode {
    let epoch = args.epoch.map(|earlier| earlier.epoch);
    let checked = args.rules().and_then(|rules| {
        let token = args.sending.token()?;
        Ok((rules, args.sending.sending(args.connect.clone(), token, epoch)?))
    });
    let (rules, sending) = match checked {
        Ok(checked) => checked,
        Err(error) => return fail(BAD_USAGE, with_causes(error.as_ref())),
    };
    match args.import(rules).and_then(|import| start(args, import, sending)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => fail(FAILED, with_causes(error.as_ref())),
    }
}

fn start(args: &ImportArgs, import: Import, sending: Sending) -> anyhow::Result<bool> {
    raise_limit(&sending)?;
    let epoch = sending.epoch;
    let mut again = args_without(std::env::args(), &["--epoch"]);
    again.push(format!("--epoch {epoch}-{:08x}", import.rules.checksum()));
    let again = again.join(" ");
    say(NAME, &format!("epoch {epoch}; to continue after an interruption: {again}"));
    let keys = if args.file == Path::new(STDIN) { Keys::none } else { Keys::of_terminal };
    let runtime = start_runtime()?;
    let report = runtime.block_on(run(import, sending, keys));
    // A blocked read of the recording must not delay the exit.
    runtime.shutdown_background();
    let Some(report) = report? else {
        say(NAME, &format!("stopped at once; to continue: {again}"));
        return Ok(false);
    };
    args.sending.print(&report)?;
    if report.recording.bytes == 0 && report.replay.complete {
        say(NAME, "the recording is empty, nothing was sent");
    }
    if !report.replay.complete {
        say(NAME, &format!("not complete; to continue: {again}"));
    }
    Ok(report.replay.complete)
}

/// Runs the import. `None` if a second signal stopped it at once. `keys` needs the runtime.
async fn run(import: Import, sending: Sending, keys: fn() -> Keys) -> anyhow::Result<Option<Report>> {
    let (control, progress) = (Arc::new(Control::default()), Arc::new(Progress::default()));
    let subject = Subject { command: NAME, position: "byte", is_timed: false };
    let run = import::run(import, sending, Arc::clone(&control), Arc::clone(&progress));
    attend(run, subject, keys(), control, progress).await
}
