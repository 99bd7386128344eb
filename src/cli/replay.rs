//! `replay`: sends a range of an archive to a daemon.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::directory::resolve;
use super::filter::FilterArgs;
use super::{BAD_USAGE, FAILED, fail};
use crate::archive::Filter;
use crate::archive::inspect::oldest_offset;
use crate::causes::told;
use crate::config::{Secret, raise_open_file_limit};
use crate::number::number;
use crate::replay::{self, Control, Plan, Progress, Report, Speed};
use crate::sim::cli::{Form, duration, host_and_port};

mod keys;
mod view;

use keys::Keys;
use view::View;

/// The environment variable with the credential, used when no file is named.
const TOKEN_VARIABLE: &str = "TELEMETRY_AGGREGATOR_TOKEN";
/// Files that the process needs besides one socket per connection.
const FILES_BESIDE_CONNECTIONS: u64 = 64;

/// Send a range of an archive to a daemon, as archived replays with their original sequences and timing.
///
/// Enter or p, and SIGUSR1, pause and go on. SIGINT and SIGTERM end the replay when what was sent is acknowledged, and
/// say how to go on; a second one ends it at once. Exit codes: 0 every frame of the range is acknowledged, 1 not every
/// one, 2 bad usage.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The archive directory, or a data directory that holds it
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,
    /// Ingest listener of the daemon
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7480", value_parser = host_and_port)]
    connect: String,
    #[command(flatten)]
    filter: FilterArgs,
    /// How many times as fast as recorded, or max for as fast as the daemon takes it
    #[arg(long, value_name = "N|max", default_value = "1", allow_hyphen_values = true)]
    speed: Speed,
    /// Shorten longer times without a frame in the recording to this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_gap: Option<Duration>,
    /// Go on with an earlier replay of this range, which said its epoch when it started
    #[arg(long, value_name = "N", value_parser = number(1..=u64::MAX >> 1))]
    epoch: Option<u64>,
    /// Frames below this offset are acknowledged to the replay that is gone on with: they are not sent again, and no time
    /// passes for them
    #[arg(long, value_name = "OFFSET", requires = "epoch", value_parser = number(0..=u64::MAX))]
    skip_to: Option<u64>,
    /// Tell the daemon that both lanes of each stream drew their sequences from one counter (SHARED_SEQUENCE), as those of
    /// uplink-sim do; without it the daemon counts what is missing in each lane by itself. The archive does not tell
    #[arg(long)]
    shared_sequence: bool,
    /// Connections at a time, one per source and station; the one idle longest makes room
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = number(1..=65_536_u32))]
    connections: u32,
    /// File with the credential; else it is taken from TELEMETRY_AGGREGATOR_TOKEN, if set
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How long to wait after SIGINT or SIGTERM for what was sent and is not acknowledged
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    linger: Duration,
    /// Form of the report on stdout
    #[arg(long, value_enum, default_value_t = Form::Text)]
    report: Form,
}

impl ReplayArgs {
    fn plan(&self, token: String) -> anyhow::Result<Plan> {
        let dir = resolve(&self.archive)?;
        let (filter, end) = (self.filter.filter(), replay::end_of(&dir)?);
        let to_offset = Some(filter.to_offset.map_or(end, |to| to.min(end)));
        let filter = Filter { from_offset: self.beginning(&dir)?, to_offset, ..filter };
        Ok(Plan {
            dir,
            filter,
            connect: self.connect.clone(),
            token,
            speed: self.speed,
            gap_max: self.max_gap,
            epoch: self.epoch.unwrap_or_else(Plan::epoch_now),
            goes_on: self.epoch.is_some(),
            skip_to: self.skip_to.unwrap_or(0),
            shared_sequence: self.shared_sequence,
            connections: self.connections as usize,
            linger: self.linger,
        })
    }

    /// The first offset of the range. A later run must begin at the same offset, even if retention removes frames
    /// meanwhile.
    fn beginning(&self, dir: &Path) -> anyhow::Result<u64> {
        match self.filter.from_offset {
            Some(offset) => Ok(offset),
            None if self.epoch.is_some() => Ok(0),
            None => Ok(oldest_offset(dir)?),
        }
    }

    /// The credential. Empty without one.
    fn token(&self) -> anyhow::Result<String> {
        let (text, source) = match (&self.token_file, std::env::var(TOKEN_VARIABLE)) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path);
                let source = path.display().to_string();
                (text.with_context(|| format!("cannot read the token file {source}"))?, source)
            }
            (None, Ok(text)) => (text, TOKEN_VARIABLE.to_owned()),
            (None, Err(_)) => return Ok(String::new()),
        };
        let secret = Secret::new(text.trim()).with_context(|| format!("the token of {source}"))?;
        Ok(secret.expose().to_owned())
    }
}

pub(super) fn execute(args: &ReplayArgs) -> ExitCode {
    let token = match args.filter.check().map_err(anyhow::Error::from).and_then(|()| args.token()) {
        Ok(token) => token,
        Err(error) => return fail(BAD_USAGE, told(error.as_ref())),
    };
    match start(args, token) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => fail(FAILED, told(error.as_ref())),
    }
}

fn start(args: &ReplayArgs, token: String) -> anyhow::Result<bool> {
    let plan = args.plan(token)?;
    raise_open_file_limit(u64::from(args.connections) + FILES_BESIDE_CONNECTIONS)?;
    let (epoch, filter) = (plan.epoch, plan.filter.clone());
    let command = |skip_to| go_on(std::env::args(), epoch, &filter, skip_to);
    if filter.to_offset.is_some_and(|to| to > filter.from_offset) {
        say(&format!("epoch {epoch}; to go on after an interruption: {}", command(args.skip_to)));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let report = runtime.block_on(replay(plan));
    // A blocked read of the archive must not delay the exit.
    runtime.shutdown_background();
    let Some(report) = report? else {
        say(&format!("stopped at once; to go on: {}", command(args.skip_to)));
        return Ok(false);
    };
    args.report.print(&report).context("cannot write the report")?;
    if report.complete && report.read == 0 && args.skip_to.is_none() {
        say("no frame of the range matches, nothing was sent");
    }
    if !report.complete {
        say(&format!("not complete; to go on: {}", command(report.go_on_from)));
    }
    Ok(report.complete)
}

/// Runs the plan. `None` if a second signal stopped it at once.
async fn replay(plan: Plan) -> anyhow::Result<Option<Report>> {
    let mut signals = Signals::catch().context("cannot listen for signals")?;
    let mut keys = Keys::of_terminal();
    let (control, progress) = (Arc::new(Control::default()), Arc::new(Progress::default()));
    let mut view = View::new(Arc::clone(&progress), Arc::clone(&control));
    let run = replay::run(plan, Arc::clone(&control), progress);
    tokio::pin!(run);
    loop {
        let wish = tokio::select! {
            report = &mut run => {
                view.close();
                return Ok(Some(report?));
            }
            wish = signals.next() => wish,
            () = keys.pressed() => Wish::Pause,
            () = view.refresh() => continue,
        };
        match wish {
            Wish::Stop if control.stop() => {
                view.close();
                return Ok(None);
            }
            Wish::Stop => view.say("stopping, what was sent is waited for"),
            Wish::Pause if control.toggle_pause() => view.say("paused"),
            Wish::Pause => view.say("going on"),
        }
    }
}

/// What the user asks for.
enum Wish {
    Stop,
    Pause,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    pause: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            pause: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next signal. Cancel safe.
    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.pause.recv() => Wish::Pause,
        }
    }
}

/// The command line that continues this run. It has the same range, with `epoch` and the acknowledged offset. Times are
/// written as absolute times, because "before now" would mean another time later.
fn go_on(args: impl Iterator<Item = String>, epoch: u64, filter: &Filter, skip_to: Option<u64>) -> String {
    let replaced =
        |arg: &str| ["--epoch", "--from-offset", "--to-offset", "--from", "--to", "--skip-to"].contains(&arg);
    let mut words = Vec::new();
    let mut args = args;
    while let Some(arg) = args.next() {
        match arg.split_once('=') {
            Some((name, _)) if replaced(name) => {}
            _ if replaced(&arg) => drop(args.next()),
            _ => words.push(quoted(arg)),
        }
    }
    words.push(format!("--from-offset {}", filter.from_offset));
    words.extend(filter.to_offset.map(|to| format!("--to-offset {to}")));
    words.extend(filter.from_received_ns.map(|ns| format!("--from {ns}ns")));
    words.extend(filter.to_received_ns.map(|ns| format!("--to {ns}ns")));
    words.push(format!("--epoch {epoch}"));
    words.extend(skip_to.map(|offset| format!("--skip-to {offset}")));
    words.join(" ")
}

/// Quotes a word for a shell.
fn quoted(word: String) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@+%[]".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word;
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Writes one line to stderr. An error of stderr is ignored.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "replay: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(line: &str, skip_to: Option<u64>) -> String {
        let filter = Filter { from_offset: 9, to_offset: Some(400), ..Filter::default() };
        go_on(line.split(' ').map(str::to_owned), 77, &filter, skip_to)
    }

    #[test]
    fn the_command_to_go_on_has_the_same_times_whenever_it_is_run() {
        let filter = Filter { from_received_ns: Some(5), to_received_ns: Some(6), ..Filter::default() };
        let args = "ta replay --from -1h --to=-1m".split(' ').map(str::to_owned);
        assert_eq!(
            go_on(args, 77, &filter, None),
            "ta replay --from-offset 0 --from 5ns --to 6ns --epoch 77"
        );
    }

    #[test]
    fn the_command_to_go_on_is_this_one_with_its_epoch() {
        assert_eq!(
            after("ta replay --archive d --speed max", None),
            "ta replay --archive d --speed max --from-offset 9 --to-offset 400 --epoch 77"
        );
        let again = "ta replay --epoch 5 --from-offset=9 --to-offset 999 --archive d --skip-to 10 --epoch=6";
        let pinned = "ta replay --archive d --from-offset 9 --to-offset 400 --epoch 77";
        assert_eq!(after(again, None), pinned);
        assert_eq!(after(again, Some(12)), format!("{pinned} --skip-to 12"));
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_cut_them() {
        assert_eq!(quoted("it's here".to_owned()), r"'it'\''s here'");
        assert_eq!(quoted(String::new()), "''");
        assert_eq!(quoted("a/b-c_1.seg".to_owned()), "a/b-c_1.seg");
    }
}
