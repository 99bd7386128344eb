//! `run`: runs the daemon, from the configuration to the exit code.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use tokio::sync::watch;

use super::preflight::{can_hold_the_archive, preflight};
use super::reload::Reload;
use super::{BAD_USAGE, ConfigArgs, FAILED, fail, log, simulate};
use crate::daemon::signals::{Request, Signals};
use crate::daemon::{Daemon, Outcome, ready_file};
use crate::systemd::Manager;
use archive::DiskStorage;
use config::{Config, Loaded, Token};
use support::causes::with_causes;
use support::logging;

/// Tasks that a worker runs before it looks for sockets that became ready.
const TURNS_BETWEEN_POLLS: u32 = 8;
/// How long the last log lines may wait for a reader of stderr, within the deadline of the drain.
const FLUSH_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Once everything is up, write the bound addresses as JSON to this file.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Also run the bundled simulator with 48 satellites and 2 replays at a low rate, for a first look.
    #[arg(long)]
    simulate: bool,
}

pub(super) fn execute(args: &RunArgs) -> ExitCode {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(BAD_USAGE, error),
    };
    let level = match log::init(&loaded.config.log) {
        Ok(level) => level,
        Err(error) => return fail(FAILED, format_args!("cannot start the log: {error}")),
    };
    let mut flush = FlushAtEnd { exit_by: None };
    let (code, exit_by) = serve(loaded, level, args);
    flush.exit_by = Some(exit_by);
    code
}

/// Waits when dropped until the log is written, so also if a panic ends the process.
struct FlushAtEnd {
    /// When the process must have exited, if known.
    exit_by: Option<Instant>,
}

impl Drop for FlushAtEnd {
    fn drop(&mut self) {
        let left = self.exit_by.map(|exit_by| exit_by.saturating_duration_since(Instant::now()));
        logging::flush(left.map_or(FLUSH_MAX, |left| left.min(FLUSH_MAX)));
    }
}

/// Runs the daemon. Returns the exit code and the time at which the process must have exited.
fn serve(loaded: Loaded, level: log::LevelSwitch, args: &RunArgs) -> (ExitCode, Instant) {
    let deadline = loaded.config.shutdown.deadline;
    let failed = |error: &dyn std::fmt::Display| (fail(FAILED, error), Instant::now() + deadline);
    note(&loaded);
    let manager = match Manager::from_env() {
        Ok(manager) => manager,
        Err(error) => return failed(&error),
    };
    let notifier = manager.notifier.clone();
    let not_started = |error: &anyhow::Error| {
        let why = with_causes(error.as_ref());
        notifier.status(&format!("not started: {why}"));
        failed(&why)
    };
    match preflight(&loaded.config) {
        Ok(warnings) => warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
        Err(error) => return not_started(&error),
    }
    if let Err(error) = can_hold_the_archive(&loaded.config) {
        return not_started(&error.into());
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format_args!("cannot start the runtime: {error}")),
    };
    let ran = runtime.block_on(run(loaded, level, args, manager));
    // Remaining tasks were already named as stragglers. They must not delay the exit.
    runtime.shutdown_background();
    match ran {
        Ok(outcome) => (ExitCode::from(outcome.exit_code()), outcome.exit_by),
        Err(error) => not_started(&error),
    }
}

/// Builds the runtime. Under load every session always has something to read. By default a tokio worker polls the
/// sockets only after 61 tasks, and takes the tasks that the commit thread wakes one by one in between. An emergency
/// would then wait tens of milliseconds at both ends.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(TURNS_BETWEEN_POLLS)
        .global_queue_interval(1)
        .build()
}

/// Logs which configuration is in force, with its warnings.
fn note(loaded: &Loaded) {
    let overrides = (!loaded.overrides.is_empty()).then(|| loaded.overrides.join(", "));
    match &loaded.file {
        Some(file) => tracing::info!(file = %file.display(), overrides, "configuration read"),
        None => tracing::info!(overrides, "no configuration file found, defaults are in force"),
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}

/// Runs the daemon until it has ended. Three things run at once: the daemon, the simulated fleet if it is wanted, and
/// the loop that obeys signals. The first signal makes the daemon drain and the fleet end, a second one cuts the drain
/// short.
///
/// # Errors
/// The daemon cannot be started.
async fn run(
    loaded: Loaded,
    level: log::LevelSwitch,
    args: &RunArgs,
    manager: Manager,
) -> anyhow::Result<Outcome> {
    let Loaded { config, file, names, .. } = loaded;
    let notifier = manager.notifier.clone();
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let token = fleet_token(&config);
    anyhow::ensure!(
        !args.simulate || token.is_some(),
        "--simulate needs a token in ingest.tokens that admits all sources and stations: leave its lists of \
         sources and stations empty"
    );
    anyhow::ensure!(
        !args.simulate || config.ingest.clients.is_empty() || !config.ingest.tokens.is_empty(),
        "--simulate shows no certificate, and ingest.clients asks for one: add a token to ingest.tokens that admits all \
         sources and stations"
    );
    let fleet_tls =
        config.tls.files.sides.ingest.as_ref().map(|_| tls::Client::of_this_host()).transpose()?;
    notifier.status("recovering the archive");
    let daemon = Daemon::start_under(manager, config, DiskStorage).await?;
    let addresses = daemon.addresses();
    tracing::info!(ingest = %addresses.ingest, feed = addresses.feed.map(tracing::field::display), http = addresses.http.map(tracing::field::display), "listening");
    if let Some(path) = &args.ready_file {
        ready_file::write(path, addresses)
            .with_context(|| format!("cannot write the ready file {}", path.display()))?;
    }
    notifier.ready();
    let (handles, catalog) = (daemon.handles(), daemon.catalog());
    let mut reload = Reload {
        args: args.config.clone(),
        file,
        is_empty: names.is_empty(),
        settings: daemon.settings(),
        catalog: Arc::clone(&catalog),
        level,
    };
    let (stop_tx, stop) = watch::channel(false);
    let (at_once_tx, at_once) = watch::channel(false);
    let (ended_tx, ended) = watch::channel(false);
    let serve = async {
        let outcome = daemon.run(is_true(stop.clone()), is_true(at_once)).await;
        ended_tx.send_replace(true);
        outcome
    };
    let play = async {
        if args.simulate {
            tokio::select! {
                () = simulate::play(addresses.ingest, fleet_tls, token.unwrap_or_default(), handles, &catalog, stop.clone()) => {}
                () = is_true(ended) => {}
            }
        }
    };
    let listen = async {
        let signal = loop {
            match signals.next().await {
                Request::Stop(signal) => break signal,
                // These messages enclose the whole reload.
                Request::Reload => {
                    notifier.reloading();
                    tokio::select! {
                        outcome = reload.reload() => {
                            notifier.status(&format!("reloaded: {outcome}"));
                            notifier.ready();
                        }
                        signal = signals.stop() => break signal,
                    }
                }
            }
        };
        tracing::info!(signal, "stopping");
        stop_tx.send_replace(true);
        let signal = signals.stop().await;
        tracing::warn!(signal, "stopping at once");
        at_once_tx.send_replace(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        (outcome, ()) = async { tokio::join!(serve, play) } => Ok(outcome),
        () = listen => unreachable!("the listener never ends"),
    }
}

/// The token for the simulated fleet. `None` if no token admits all of the fleet.
fn fleet_token(config: &Config) -> Option<String> {
    if config.ingest.tokens.is_empty() {
        return Some(String::new());
    }
    let is_unrestricted = |token: &&Token| token.sources.is_empty() && token.stations.is_empty();
    let unrestricted = config.ingest.tokens.iter().find(is_unrestricted)?;
    Some(unrestricted.token.expose().to_owned())
}

/// Waits until `flag` is true. If its sender is gone before, it waits forever.
async fn is_true(mut flag: watch::Receiver<bool>) {
    if flag.wait_for(|flag| *flag).await.is_err() {
        std::future::pending::<()>().await;
    }
}
