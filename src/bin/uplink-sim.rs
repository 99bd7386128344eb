//! `uplink-sim`: simulated satellites and replay feeds against a running daemon.
//!
//! Exit codes: 0 all sent frames were acknowledged and no source failed, 1 otherwise, 2 bad usage or input.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};
use sim::cli::Args;
use sim::link::{self, LinkPlan};
use sim::{self, Plan, Progress, Report};
use support::causes::with_causes;
use support::stdio::note;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Time between two updates of the terminal.
const REFRESH: Duration = Duration::from_millis(200);
/// Time after which a connection attempt without an answer is reported.
const HANGS_AFTER: Duration = Duration::from_secs(1);
/// Open files that the process needs besides one socket per source.
const FILES_BESIDE_SOURCES: u64 = 64;

fn main() -> ExitCode {
    let args = Args::parse();
    match start(&args) {
        Ok(code) => code,
        Err(error) => {
            note(format_args!("uplink-sim: {}", with_causes(error.as_ref())));
            ExitCode::from(1)
        }
    }
}

fn start(args: &Args) -> anyhow::Result<ExitCode> {
    if let Ok(filter) = std::env::var("RUST_LOG") {
        let filter: Targets = filter.parse().with_context(|| format!("RUST_LOG is \"{filter}\""))?;
        tracing_subscriber::registry().with(filter).with(fmt::layer().with_writer(io::stderr)).init();
    }
    match args.link_plan() {
        Ok(Some(plan)) => return send_to_link(args, &plan),
        Ok(None) => {}
        Err(error) => {
            note(format_args!("uplink-sim: {error}"));
            return Ok(ExitCode::from(2));
        }
    }
    let plan = match args.plan() {
        Ok(plan) => plan,
        Err(error) => {
            note(format_args!("uplink-sim: {}", with_causes(&error)));
            return Ok(ExitCode::from(2));
        }
    };
    raise_open_files(u64::from(plan.sources()) + FILES_BESIDE_SOURCES)?;
    let runtime = start_runtime()?;
    let progress = Arc::new(Progress::default());
    let report = runtime.block_on(simulate(plan, &progress))?;
    let Some(report) = report else {
        return Ok(ExitCode::from(1));
    };
    args.report.print(&report)?;
    if let Some(path) = &args.save_catalog {
        let text = progress.newest_catalog().context("--save-catalog: no catalog was received completely")?;
        std::fs::write(path, text)
            .with_context(|| format!("cannot write the catalog to {}", path.display()))?;
    }
    Ok(ExitCode::from(u8::from(!report.is_complete())))
}

fn start_runtime() -> anyhow::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")
}

/// Sends as equipment does.
fn send_to_link(args: &Args, plan: &LinkPlan) -> anyhow::Result<ExitCode> {
    note(format_args!("uplink-sim: a link of the daemon reads this with\n{}", plan.configuration()));
    let report = start_runtime()?.block_on(async {
        let mut signals = Signals::new().context("cannot listen for signals")?;
        let (stop_tx, stop_rx) = watch::channel(false);
        let run = link::run(plan, stop_rx, |line| note(format_args!("uplink-sim: {line}")));
        tokio::pin!(run);
        loop {
            tokio::select! {
                report = &mut run => return Ok::<_, anyhow::Error>(Some(report?)),
                () = signals.next() => if stop_tx.send_replace(true) {
                    note("uplink-sim: stopped at once");
                    return Ok(None);
                }
            }
        }
    })?;
    let Some(report) = report else {
        return Ok(ExitCode::from(1));
    };
    args.report.print(&report)?;
    Ok(ExitCode::from(u8::from(!report.is_complete())))
}

/// Raises the soft limit on open files to `needed`. Fails if the hard limit is lower.
fn raise_open_files(needed: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    limit.current = Some(needed);
    setrlimit(Resource::Nofile, limit).with_context(|| {
        let allowed = limit.maximum.unwrap_or(u64::MAX);
        format!("{needed} open files are needed, at most {allowed} are allowed")
    })
}

/// Runs the plan. Returns `None` when a second signal stops it at once.
async fn simulate(plan: Plan, progress: &Arc<Progress>) -> anyhow::Result<Option<Report>> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let mut view = View::new(&plan);
    let (stop_tx, stop_rx) = watch::channel(false);
    let run = sim::run(plan, stop_rx, Arc::clone(progress));
    tokio::pin!(run);
    let mut refresh = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            report = &mut run => {
                view.close();
                return Ok(Some(report));
            }
            () = signals.next() => {
                if stop_tx.send_replace(true) {
                    view.close();
                    let counts = progress.counts();
                    let missing = counts.sent - counts.acked.min(counts.sent);
                    note(format_args!("uplink-sim: stopped at once, {missing} frames not acknowledged"));
                    return Ok(None);
                }
            }
            _ = refresh.tick() => view.show(progress),
        }
    }
}

/// SIGINT and SIGTERM, which have the same effect.
struct Signals {
    /// SIGINT.
    interrupt: Signal,
    /// SIGTERM.
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The output on stderr during the run: a bar on a terminal, elsewhere only the first problem.
struct View {
    /// The bar; `None` if stderr is no terminal.
    bar: Option<ProgressBar>,
    /// How many sources the plan has.
    sources: u32,
    /// Whether the first problem was written; only without a bar.
    said_trouble: bool,
    /// When the run began.
    began: Instant,
}

impl View {
    fn new(plan: &Plan) -> Self {
        let frames = plan.frames_per_source().checked_mul(u64::from(plan.sources()));
        Self {
            bar: io::stderr().is_terminal().then(|| new_bar(frames)),
            sources: plan.sources(),
            said_trouble: false,
            began: Instant::now(),
        }
    }

    fn show(&mut self, progress: &Progress) {
        let counts = progress.counts();
        let trouble = progress.connections.trouble();
        if let Some(bar) = &self.bar {
            bar.set_position(counts.acked);
            let waiting = counts.connected + counts.finished < u64::from(self.sources);
            let trouble = trouble.filter(|_| waiting).unwrap_or_default();
            bar.set_message(format!(
                "acked, {} sent, {}/{} connected {trouble}",
                counts.sent, counts.connected, self.sources
            ));
            bar.tick();
        } else if !self.said_trouble && counts.connected == 0 && counts.finished == 0 {
            // Also report a server that does not answer at all.
            let hangs = || (self.began.elapsed() >= HANGS_AFTER).then(|| "no answer yet".to_owned());
            if let Some(trouble) = trouble.or_else(hangs) {
                note(format_args!("uplink-sim: no connection, trying again: {trouble}"));
                self.said_trouble = true;
            }
        }
    }

    fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(frames: Option<u64>) -> ProgressBar {
    let (bar, template) = match frames {
        Some(frames) => (ProgressBar::new(frames), "{elapsed} [{bar:30}] {human_pos}/{human_len} {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {elapsed} {human_pos} {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
