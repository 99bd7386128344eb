//! The command line: the arguments of each command, and the exit codes.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 the deadline of the drain passed before all accepted
//! frames were archived.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, Loaded, environment};

mod archive;
mod check;
mod demo;
mod directory;
mod filter;
mod health;
mod log;
mod preflight;
mod reload;
mod replay;
mod run;
mod simulate;
mod streams;
mod tail;
mod top;
mod whom;

/// The command has failed.
const FAILED: u8 = 1;
/// Bad usage or configuration.
const BAD_USAGE: u8 = 2;

/// Telemetry aggregator: satellite uplinks over TCP into a durable archive, emergencies first.
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
    /// Look into an archive directory, also while a daemon writes it.
    #[command(subcommand)]
    Archive(archive::Command),
    // The help text is at `ReplayArgs`. It includes signals and exit codes.
    Replay(Box<replay::ReplayArgs>),
    /// Follow the durable frames of a running daemon.
    Tail(tail::TailArgs),
    // The help text is at `TopArgs`. It includes the keys.
    Top(top::TopArgs),
    /// List the streams of a running daemon, or have it forget those that are done with.
    #[command(subcommand)]
    Streams(streams::Command),
    /// Ask a running daemon whether it is well, for container health checks: exit 0, or 1 and a line that says why not.
    Health(health::HealthArgs),
}

#[derive(Clone, Debug, Default, Args)]
struct ConfigArgs {
    /// The configuration; else ./aggregator.toml, config/aggregator.toml or
    /// /etc/telemetry-aggregator/aggregator.toml, whichever is found first, or the defaults.
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
            Command::Tail(args) => tail::execute(&args),
            Command::Top(args) => top::execute(&args),
            Command::Streams(command) => streams::execute(&command),
            Command::Health(args) => health::execute(&args),
        }
    }
}

/// Writes the reason for a failure to stderr.
#[allow(clippy::print_stderr, reason = "command output")]
fn fail(code: u8, error: impl std::fmt::Display) -> ExitCode {
    let line = format!("telemetry-aggregator: {error}");
    if !crate::logging::say(&line) {
        eprintln!("{line}");
    }
    ExitCode::from(code)
}
