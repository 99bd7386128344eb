//! `streams`: lists the streams of a running daemon, and forgets streams that are not needed any longer.

use std::io::Stdout;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Error, bail, ensure};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use super::daemon_args::DaemonArgs;
use super::filter::Kind;
use super::tail::token;
use super::{BAD_USAGE, FAILED, fail};
use api::{self, ForgetAnswer, ForgetRequest, Source, Sources, Whole};
use config::Secret;
use frame::{SourceKind, is_hidden, unix_now_ns};
use http_client::{Answer, ClientError, Limits, Url};
use ingest::Selector;
use support::number::number;
use support::stdio::{self, Report};

/// Largest response that is read. It fits a page of 1,000 streams.
const BODY_BYTES_MAX: u64 = 16 << 20;
/// At most this many pages of 1,000 streams are listed.
const PAGES_MAX: usize = 1_100;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List streams: name, state, since when, epoch.
    Ls(LsArgs),
    /// Forget streams durably; their frames stay in the archive.
    ///
    /// A stream is refused while it is connected, or while frames of it are not on the disk yet. Old epochs and
    /// duplicates of forgotten streams are accepted again. Exit codes: 0 all selected streams are forgotten, 1 a stream
    /// was refused or the daemon does not answer.
    Forget(ForgetArgs),
}

#[derive(Debug, Args)]
struct WhichArgs {
    /// Only this source; may be repeated
    #[arg(long = "source", value_name = "ID", value_parser = number(0..=u32::MAX))]
    sources: Vec<u32>,
    /// Only this station; * stands for any characters, ? for one
    #[arg(long, value_name = "PATTERN")]
    station: Option<String>,
    /// Only this kind
    #[arg(long)]
    kind: Option<Kind>,
    /// Only streams without a connection for at least this time, counted from the start of the daemon at the earliest;
    /// 0s for all that are offline
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    offline_for: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// How long to wait for each answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct ForgetArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// Only print the streams, forget none
    #[arg(long)]
    dry_run: bool,
    /// File with the credential of http.token [default: the environment variable TELEMETRY_AGGREGATOR_TOKEN; without
    /// it, no credential is sent, which is enough on the host of a daemon without http.token]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How long to wait for each answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

pub(super) fn execute(command: &Command) -> ExitCode {
    let (daemon, which, timeout) = match command {
        Command::Ls(LsArgs { daemon, which, timeout }) => (daemon, which, *timeout),
        Command::Forget(ForgetArgs { daemon, which, timeout, .. }) => (daemon, which, *timeout),
    };
    let limits = Limits { time: timeout, body_bytes: BODY_BYTES_MAX };
    let usage = || {
        let credential = match command {
            Command::Ls(_) => String::new(),
            Command::Forget(args) => {
                ensure!(
                    !which.selector().is_empty(),
                    "say which streams: --source, --station, --kind or --offline-for; --offline-for 0s selects all that are offline"
                );
                token(args.token_file.as_deref())?
            }
        };
        Ok((daemon.url()?, Secret::new(&credential).ok()))
    };
    let (url, token) = match usage() {
        Ok(known) => known,
        Err(error) => return fail(BAD_USAGE, format_args!("{error:#}")),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format_args!("cannot start the runtime: {error}")),
    };
    let done = runtime.block_on(async {
        match command {
            Command::Ls(_) => list(&url, which, limits).await,
            Command::Forget(args) => forget(&url, args, token.as_ref(), limits).await,
        }
    });
    // A pending name lookup must not delay the exit.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, format_args!("{url}: {error:#}")),
    }
}

impl WhichArgs {
    /// The streams that these flags name. `forget` sends the flags to the daemon, which selects by the same rules.
    fn selector(&self) -> Selector {
        Selector {
            source_ids: self.sources.clone(),
            kind: self.kind.map(Into::into),
            station: None,
            station_glob: self.station.clone(),
            offline_for: self.offline_for,
        }
    }

    /// Whether `source`, as the API of the daemon lists it, is one of them. The list itself cannot be filtered.
    fn has(&self, source: &Source, now_ms: i64) -> bool {
        let is_offline_for = |min: Duration| {
            let offline = source.offline_since_ms.map(|since| now_ms.saturating_sub(since));
            offline.is_some_and(|ms| u128::from(ms.max(0).unsigned_abs()) >= min.as_millis())
        };
        self.selector().has_name(source.source_id, source.kind.into(), &source.station)
            && self.offline_for.is_none_or(is_offline_for)
    }
}

async fn list(url: &Url, which: &WhichArgs, limits: Limits) -> anyhow::Result<()> {
    let (mut seen, mut shown) = (0, 0);
    for _ in 0..PAGES_MAX {
        let path = format!("/api/v1/sources?offset={seen}");
        let page: Sources = read(url.get(&path, limits).await)?;
        seen += page.sources.len();
        let now_ms = unix_now_ns() / 1_000_000;
        for source in page.sources.iter().filter(|source| which.has(source, now_ms)) {
            shown += 1;
            stdio::print(line(source) + "\n").context("cannot write the output")?;
        }
        if page.sources.is_empty() || seen >= page.total {
            break;
        }
    }
    if shown == 0 {
        note("no stream matches");
    }
    Ok(())
}

fn line(source: &Source) -> String {
    let since = match (source.since_ms, source.offline_since_ms) {
        (Some(since), _) | (None, Some(since)) => format!(" since {}", time(since)),
        (None, None) => String::new(),
    };
    let Source { source_id, kind, station, state, epoch, .. } = source;
    format!("{}  {state}{since}  epoch {epoch}", name(*kind, *source_id, station))
}

async fn forget(url: &Url, args: &ForgetArgs, token: Option<&Secret>, limits: Limits) -> anyhow::Result<()> {
    let which = &args.which;
    let request = ForgetRequest {
        source_ids: (!which.sources.is_empty()).then(|| which.sources.iter().copied().map(Whole).collect()),
        kind: which.kind.map(|kind| SourceKind::from(kind).into()),
        station: None,
        station_glob: which.station.clone(),
        offline_for_s: which.offline_for.map(|time| Whole(whole_seconds(time))),
        dry_run: args.dry_run,
    };
    let body = serde_json::to_vec(&request)?;
    let mut report = Report::on_stdout();
    let (mut forgotten, mut refused) = (0, 0);
    let remaining = loop {
        let answer: ForgetAnswer = read(url.post("/api/v1/streams/forget", &body, token, limits).await)?;
        print_forgotten(&answer, &mut report);
        forgotten += answer.forgotten;
        refused = answer.refused.max(refused);
        // The loop ends, because each round forgets at least one stream.
        if args.dry_run || answer.remaining == 0 || answer.forgotten == 0 {
            break answer.remaining;
        }
    };
    let done = if args.dry_run { "would be forgotten" } else { "forgotten" };
    if forgotten + refused + remaining == 0 {
        note("no stream matches");
        return Ok(());
    }
    report.print(format_args!("{forgotten} streams {done}, {refused} refused\n"));
    ensure!(refused == 0, "{refused} streams were refused");
    if remaining > 0 && !args.dry_run {
        bail!(
            "{remaining} more selected streams were not tried: first do what the refusals say, then run this again"
        );
    }
    if remaining > 0 {
        note(&format!("{remaining} more streams are selected"));
    }
    Ok(())
}

/// Rounds `time` up to whole seconds, so that no stream is forgotten too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// Prints one line for each stream: forgotten streams on stdout, refused ones on stderr.
fn print_forgotten(answer: &ForgetAnswer, report: &mut Report<Stdout>) {
    for stream in &answer.streams {
        let since =
            stream.offline_since_ms.map_or(String::new(), |since| format!("  offline since {}", time(since)));
        report.print(format_args!("{}{since}\n", name(stream.kind, stream.source_id, &stream.station)));
    }
    if answer.forgotten > answer.streams.len() {
        report.print(format_args!("and {} more\n", answer.forgotten - answer.streams.len()));
    }
    for stream in &answer.refusals {
        let name = name(stream.kind, stream.source_id, &stream.station);
        note(&format!("{name} is refused: {}", stream.reason));
    }
    if answer.refused > answer.refusals.len() {
        note(&format!("and {} more are refused", answer.refused - answer.refusals.len()));
    }
}

/// The answer of the daemon, or why there is none.
fn read<T: DeserializeOwned>(answer: Result<Answer, ClientError>) -> anyhow::Result<T> {
    answer.map_err(|error| error.to_string()).and_then(|answer| answer.json()).map_err(Error::msg)
}

/// The name of a stream as in the log. Control characters and invisible ones are replaced, because it goes to a
/// terminal.
fn name(kind: api::Kind, source_id: u32, station: &str) -> String {
    let at = if station.is_empty() { String::new() } else { format!("@{station}") };
    format!("{kind}/{source_id}{at}").replace(is_hidden, " ")
}

fn time(unix_ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    match UNIX_EPOCH.checked_add(since).filter(|_| unix_ms < YEAR_10000_MS) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => format!("{unix_ms} ms"),
    }
}

/// RFC 3339 cannot express times from here on.
const YEAR_10000_MS: i64 = 253_402_300_800_000;

fn note(line: &str) {
    stdio::note(format_args!("telemetry-aggregator: {line}"));
}
