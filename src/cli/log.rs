//! Logging to stderr, as the configuration wants it.

use std::io::{IsTerminal, stderr, stdout};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Log, LogFormat, LogLevel};

/// Sets up logging for the whole process. A second call changes nothing.
pub(super) fn init(log: &Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(stderr).with_target(false);
    let set = match log.format {
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only tests that run several commands in one process set it twice.
    drop(set);
}

/// The demo's output: the story and a line per frame, on stdout, nothing around them.
pub(super) fn init_demo() {
    let filter = EnvFilter::new(
        "telemetry_aggregator::demo=info,telemetry_aggregator::pipeline=debug,telemetry_aggregator::daemon=info",
    );
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stdout);
    // Only tests that run several commands in one process set it twice.
    drop(builder.without_time().with_level(false).with_target(false).with_ansi(false).try_init());
}
