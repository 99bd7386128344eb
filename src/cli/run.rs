//! `run`: the daemon, from the configuration to the exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{BAD_USAGE, ConfigArgs, FAILED, fail, log};
use crate::config::{Config, Loaded, raise_open_file_limit};
use crate::daemon::signals::Signals;
use crate::daemon::{Daemon, Outcome, ready_file};

#[derive(Clone, Debug, Default, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Once everything is up, write the bound addresses as JSON to this file.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Add 48 satellites and 2 replays from the bundled simulator, at a gentle rate, for a first look.
    #[arg(long)]
    simulate: bool,
}

pub(super) fn execute(args: &RunArgs) -> ExitCode {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(BAD_USAGE, error),
    };
    log::init(&loaded.config.log);
    note(&loaded);
    if let Err(error) = raise_open_file_limit(loaded.config.open_files_needed()) {
        return fail(FAILED, error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format_args!("cannot start the runtime: {error}")),
    };
    let ran = runtime.block_on(run(loaded.config, args));
    // Whatever still runs was named as a straggler and must not delay the exit.
    runtime.shutdown_background();
    match ran {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => fail(FAILED, format_args!("{error:#}")),
    }
}

fn note(loaded: &Loaded) {
    match &loaded.file {
        Some(file) => {
            tracing::info!(file = %file.display(), overrides = ?loaded.overrides, "configuration read")
        }
        None => {
            tracing::info!(overrides = ?loaded.overrides, "no configuration file found, defaults are in force")
        }
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}

async fn run(config: Config, args: &RunArgs) -> anyhow::Result<Outcome> {
    let mut signals = Signals::catch()?;
    let daemon = Daemon::start(config).await?;
    let addresses = daemon.addresses();
    tracing::info!(ingest = %addresses.ingest, "listening");
    if let Some(path) = &args.ready_file {
        ready_file::write(path, addresses)
            .map_err(|error| anyhow::anyhow!("cannot write the ready file {}: {error}", path.display()))?;
    }
    let (stop_tx, stop_rx) = tokio::sync::oneshot::channel::<()>();
    let (again_tx, again_rx) = tokio::sync::oneshot::channel::<()>();
    let listen = async {
        tracing::info!(signal = signals.next().await, "stopping");
        drop(stop_tx);
        tracing::warn!(signal = signals.next().await, "stopping at once");
        drop(again_tx);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = daemon.run(async { drop(stop_rx.await) }, async { drop(again_rx.await) }) => Ok(outcome),
        () = listen => unreachable!("it listens for ever"),
    }
}
