//! The command line: the arguments of each command, and the exit codes.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 the deadline of the drain passed before all accepted
//! frames were archived.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use config::{Config, ConfigError, Loaded, environment};

mod archive;
mod check;
mod daemon_args;
mod demo;
mod directory;
mod export;
mod filter;
mod health;
mod import;
mod log;
mod preflight;
mod reload;
mod replay;
mod run;
mod sending;
mod simulate;
mod streams;
mod tail;
mod top;

/// The command has failed.
const FAILED: u8 = 1;
/// Bad usage or configuration.
const BAD_USAGE: u8 = 2;

/// Telemetry aggregator: receives satellite telemetry over TCP and archives it durably, emergencies first.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default).
    Run(run::RunArgs),
    /// Check a configuration and print it in full, with defaults.
    Check(ConfigArgs),
    /// Play the RFC's scenario end to end, over loopback TCP and a temporary archive.
    Demo,
    /// Inspect an archive directory, even while a daemon writes it.
    #[command(subcommand)]
    Archive(archive::Command),
    // The help text is at `ReplayArgs`. It includes signals and exit codes.
    Replay(Box<replay::ReplayArgs>),
    // The help text is at `ImportArgs`. It includes signals and exit codes.
    Import(Box<import::ImportArgs>),
    /// Follow the durable frames of a running daemon.
    Tail(tail::TailArgs),
    // The help text is at `TopArgs`. It includes the keys.
    Top(top::TopArgs),
    /// List the streams of a running daemon, or make it forget streams that are not used any more.
    #[command(subcommand)]
    Streams(streams::Command),
    /// Show the exports of sealed segments.
    #[command(subcommand)]
    Export(export::Command),
    /// Check the health of a running daemon, for containers: exit 0, or 1 and a line with the reason.
    Health(health::HealthArgs),
}

#[derive(Clone, Debug, Default, Args)]
struct ConfigArgs {
    /// The configuration file [default: the first that exists of ./aggregator.toml, config/aggregator.toml and
    /// /etc/telemetry-aggregator/aggregator.toml, else the built-in defaults].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(self.config.as_deref(), environment())
    }
}

impl Cli {
    /// Runs the command and returns its exit code.
    #[must_use]
    pub fn execute(self) -> ExitCode {
        match self.command.unwrap_or(Command::Run(self.run)) {
            Command::Run(args) => run::execute(&args),
            Command::Check(args) => check::execute(&args),
            Command::Demo => demo::execute(),
            Command::Archive(command) => archive::execute(&command),
            Command::Replay(args) => replay::execute(&args),
            Command::Import(args) => import::execute(&args),
            Command::Tail(args) => tail::execute(&args),
            Command::Top(args) => top::execute(&args),
            Command::Streams(command) => streams::execute(&command),
            Command::Export(command) => export::execute(&command),
            Command::Health(args) => health::execute(&args),
        }
    }
}

/// Writes the reason for a failure to stderr.
fn fail(code: u8, error: impl std::fmt::Display) -> ExitCode {
    let line = format!("telemetry-aggregator: {error}");
    if !support::logging::say(&line) {
        support::stdio::note(line);
    }
    ExitCode::from(code)
}
