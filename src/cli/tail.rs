//! `tail`: follows the durable frames of a running daemon and writes them to stdout.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::filter::{Kind, Priority};
use super::{BAD_USAGE, FAILED, fail};
use config::Secret;
use frame::{FramePriority, Selection, SourceKind};
use sim::cli::host_and_port;
use support::causes::with_causes;
use support::moment::parse_moment;
use support::number::number;
use support::stdio::note;
use tools::tail::{Client, Event, Position, Target};
use wire::feed::SOURCES_MAX;
use wire::{Policy, Start, Subscribe};

mod output;
#[cfg(test)]
mod tests;

use output::Output;

/// The environment variable that may hold the token.
const TOKEN_VARIABLE: &str = "TELEMETRY_AGGREGATOR_TOKEN";
/// How often to check whether the whole log was searched without a match.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a signal waits for a reader of stdout that does not read.
const LAST_WRITE_TIME_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct TailArgs {
    /// Feed listener of the daemon
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7481", value_parser = host_and_port)]
    connect: String,
    #[command(flatten)]
    tls: tls::ClientArgs,
    /// Where to begin: `live`, `earliest`, an offset of the log, or a time of receipt as RFC 3339
    /// (2026-08-01T12:00:00Z, 2026-08-01T14:00:00+02:00), a date (2026-08-01, midnight UTC), a time before now (-1h,
    /// -2d), unix seconds with a fraction (1785585600.0) or nanoseconds with their unit (1785585600000000000ns)
    #[arg(long, value_name = "WHERE", default_value = "live", value_parser = parse_start, allow_hyphen_values = true)]
    from: Start,
    /// With an offset as --from: the id of the log that it belongs to; it is an error if the daemon serves another log
    #[arg(long, value_name = "ID", value_parser = number(1..=u64::MAX))]
    log_id: Option<u64>,
    /// Only frames of this source; may be repeated
    #[arg(long = "source", value_name = "ID", value_parser = number(0..=u32::MAX))]
    sources: Vec<u32>,
    /// Only this lane
    #[arg(long, value_enum)]
    priority: Option<Priority>,
    /// Only this kind of source
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// What happens when the output is slower than the log
    #[arg(long, value_enum, default_value_t = Falling::Complete)]
    policy: Falling,
    /// Format of the frames
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// End after this many frames
    #[arg(long, value_name = "COUNT", value_parser = number(1..=u64::MAX))]
    limit: Option<u64>,
    /// File with the credential [default: the environment variable TELEMETRY_AGGREGATOR_TOKEN, if set]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Give up after this time without a connection, such as 30s or 5m [default: never]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    retry_for: Option<Duration>,
}

/// What happens to an output that falls behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Falling {
    /// Nothing is skipped
    Complete,
    /// Skip to the newest frames, and report the gap on stderr
    Timely,
}

/// Format of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object per line, as `archive cat` writes it
    Jsonl,
    /// Only the payloads, without separators
    Payload,
    /// A readable line per frame, without the payload
    Text,
}

pub(super) fn execute(args: &TailArgs) -> ExitCode {
    let target = match args.target() {
        Ok(target) => target,
        Err(error) => return fail(BAD_USAGE, with_causes(error.as_ref())),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format_args!("cannot start the runtime: {error}")),
    };
    let followed = runtime.block_on(async {
        let signals = Signals::catch().context("cannot catch signals")?;
        let output = Output::new(io::stdout(), args.format);
        Follower::new(target, output, args.limit).follow(signals).await
    });
    // A blocked write must not delay the exit.
    runtime.shutdown_background();
    match followed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, with_causes(error.as_ref())),
    }
}

impl TailArgs {
    fn target(&self) -> anyhow::Result<Target> {
        let sources = self.sources.len();
        anyhow::ensure!(
            sources <= SOURCES_MAX,
            "--source is given {sources} times, at most {SOURCES_MAX} are allowed"
        );
        let selection = Selection::of_sources(self.sources.iter().copied())
            .with_priority(self.priority.map(FramePriority::from))
            .with_kind(self.kind.map(SourceKind::from));
        let policy = match self.policy {
            Falling::Complete => Policy::Complete,
            Falling::Timely => Policy::Timely,
        };
        let start = match (self.from, self.log_id) {
            (Start::Offset { offset, .. }, Some(log_id)) => Start::Offset { offset, log_id },
            (_, Some(_)) => anyhow::bail!("--log-id needs an offset as --from"),
            (from, None) => from,
        };
        let token = token(self.token_file.as_deref())?;
        let subscribe = Subscribe { token, ..Subscribe::new(policy, start, selection) };
        let tls = self.tls.client().context("TLS")?;
        Ok(Target { address: self.connect.clone(), tls, subscribe, retry_for: self.retry_for })
    }
}

/// The credential. Empty without one. No message contains it.
pub(super) fn token(file: Option<&Path>) -> anyhow::Result<String> {
    let (text, place) = match file {
        Some(file) => {
            let place = file.display().to_string();
            (
                std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read the token file {place}"))?,
                place,
            )
        }
        None => match std::env::var_os(TOKEN_VARIABLE) {
            Some(value) => (value.to_string_lossy().into_owned(), TOKEN_VARIABLE.to_owned()),
            None => return Ok(String::new()),
        },
    };
    let token =
        Secret::new(text.trim_end_matches(['\r', '\n'])).with_context(|| format!("the token in {place}"))?;
    Ok(token.expose().to_owned())
}

fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "live" => Ok(Start::Live),
        "earliest" => Ok(Start::Earliest),
        _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            let offset = text.parse().map_err(|_| format!("{text} is larger than any offset"))?;
            Ok(Start::Offset { offset, log_id: 0 })
        }
        _ => match parse_moment(text) {
            Ok(from_ns) => Ok(Start::Received { from_ns }),
            Err(error) => Err(format!("expected live, earliest, an offset or a time: {error}")),
        },
    }
}

/// The signals that end the command.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them. Cancel safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Copies frames from a subscription to an output, and reports all other events on stderr.
struct Follower<W> {
    client: Client,
    output: Output<W>,
    /// How many more frames may be written.
    left: Option<u64>,
    /// The trouble that was reported last. It is not repeated while the daemon is away.
    reported: String,
    /// Whether no frame has come yet.
    is_empty: bool,
    /// Whether the user asked for frames that are already in the log.
    wants_history: bool,
    /// The end of the log when the subscription began. It is cleared when the result of the search is known.
    history_end: Option<u64>,
}

/// Why the command ends without an error.
enum End {
    /// A signal came. Frames that were taken are still written, within [`LAST_WRITE_TIME_MAX`].
    Signal,
    /// As many frames as `--limit` says were taken.
    Limit,
    /// The reader has closed the output.
    Unread,
}

impl<W: io::Write + Send + 'static> Follower<W> {
    fn new(target: Target, output: Output<W>, limit: Option<u64>) -> Self {
        let wants_history = target.subscribe.start != Start::Live;
        let client = Client::new(target);
        let reported = String::new();
        Self { client, output, left: limit, reported, is_empty: true, wants_history, history_end: None }
    }

    async fn follow(mut self, mut signals: Signals) -> anyhow::Result<()> {
        let end = tokio::select! {
            end = self.carry() => end,
            () = signals.next() => Ok(End::Signal),
        };
        let written = match &end {
            Ok(End::Unread) => return Ok(()),
            // A write that does not finish in time does not count. The position printed below does not include it.
            Ok(End::Signal) => {
                let last = self.output.finish(self.client.position());
                tokio::time::timeout(LAST_WRITE_TIME_MAX, last).await.unwrap_or(Ok(()))
            }
            Ok(End::Limit) | Err(_) => self.output.finish(self.client.position()).await,
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return end.map(|_| ()),
            result => result.context("cannot write the output")?,
        }
        self.say_where_to_go_on();
        end.map(|_| ())
    }

    /// Runs until the subscription ends, the limit is reached, or the reader closes the output.
    async fn carry(&mut self) -> anyhow::Result<End> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.left == Some(0) {
                return Ok(End::Limit);
            }
            self.output.begin(self.client.position());
            let is_full = self.output.is_full();
            let event = async {
                if is_full {
                    self.client.hold().await;
                }
                self.client.next().await
            };
            tokio::select! {
                wrote = self.output.wrote() => match wrote {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(End::Unread),
                    result => result.context("cannot write the output")?,
                },
                _ = looks.tick(), if self.history_end.is_some() => self.note_history(),
                event = event => {
                    self.take(event?)?;
                    while !self.output.is_full() && self.left != Some(0) {
                        let Some(event) = self.client.at_hand()? else { break };
                        self.take(event)?;
                    }
                }
            }
        }
    }

    fn take(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Frame(frame) => {
                self.is_empty = false;
                self.output.put(frame).context("cannot write a frame")?;
                self.left = self.left.map(|left| left - 1);
            }
            Event::Subscribed(subscribed) => {
                let next = self.client.position().map_or(subscribed.start_offset, |at| at.next_offset);
                say(format_args!("connected to log {}, from offset {next}", subscribed.log_id));
                self.reported.clear();
                if std::mem::take(&mut self.wants_history) {
                    self.history_end = Some(subscribed.head_offset);
                }
                self.output.starts_at(self.client.position());
            }
            Event::LogChanged { from, to } => say(format_args!(
                "the daemon serves another archive: log {from} has ended, continuing with log {} from offset {}",
                to.log_id, to.start_offset
            )),
            Event::Gap(gap) => {
                let missing = gap.offsets.end.saturating_sub(gap.offsets.start);
                let (from, to) = (gap.offsets.start, gap.offsets.end);
                say(format_args!(
                    "gap: {missing} offsets from {from} to {to} (exclusive) {}",
                    gap.reason.name()
                ));
            }
            Event::Lost { trouble, pause } => {
                if self.reported != trouble {
                    say(format_args!("no connection: {trouble}; trying again in {pause:.1?}"));
                    self.reported = trouble;
                }
            }
        }
        Ok(())
    }

    /// Reports that no frame of the log matches, after the whole log was searched.
    fn note_history(&mut self) {
        let Some(end) = self.history_end else { return };
        let is_through = self.client.position().is_some_and(|position| position.next_offset >= end);
        if is_through && self.is_empty {
            say(format_args!("no frame before offset {end} matches; waiting for new ones"));
        }
        self.history_end = Some(end).filter(|_| self.is_empty && !is_through);
    }

    fn say_where_to_go_on(&self) {
        if let Some(Position { log_id, next_offset }) = self.output.written() {
            let none = if self.is_empty { "no frame matched; " } else { "" };
            say(format_args!(
                "{none}next offset {next_offset} of log {log_id}; continue with --from {next_offset} --log-id {log_id}"
            ));
        }
    }
}

fn say(line: std::fmt::Arguments<'_>) {
    note(format_args!("telemetry-aggregator: {line}"));
}
