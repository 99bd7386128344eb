//! `telemetry-aggregator`: the daemon and its tools on the command line.

use std::process::ExitCode;

use clap::Parser;
use telemetry_aggregator::cli::Cli;

fn main() -> ExitCode {
    // clap itself prints usage errors and exits with 2.
    Cli::parse().execute()
}
