//! Sets up logging to stderr as configured.

use std::io::{self, stdout};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

use config::{Log, LogFormat, LogLevel};
use support::logging::Stderr;

/// Sets up logging for the whole process. A second call changes nothing.
///
/// # Errors
/// The system has no descriptor or no thread left.
pub(super) fn init(log: &Log) -> io::Result<LevelSwitch> {
    let (level, switch) = reload::Layer::new(filter(log.level));
    let stderr = Stderr::start()?;
    let lines = fmt::layer().with_writer(stderr.clone()).with_target(false);
    let registry = tracing_subscriber::registry().with(level);
    let set = match log.format {
        LogFormat::Text => registry.with(lines.with_ansi(stderr.is_terminal)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    // Only tests that run several commands in one process set it twice.
    if set.is_ok() {
        stderr.install();
    }
    Ok(LevelSwitch { level: log.level, switch })
}

/// Changes the least severe level that is written.
pub(super) struct LevelSwitch {
    /// The level in force.
    level: LogLevel,
    /// Changes the filter of the subscriber that [`init`] has set up.
    switch: reload::Handle<LevelFilter, Registry>,
}

impl LevelSwitch {
    /// Sets `level`. Calls `say` under the more verbose of the old and the new level.
    pub(super) fn set(&mut self, level: LogLevel, say: impl FnOnce()) {
        let is_quieter = filter(level) < filter(self.level);
        if is_quieter {
            say();
            self.turn(level);
        } else {
            self.turn(level);
            say();
        }
    }

    fn turn(&mut self, level: LogLevel) {
        match self.switch.reload(filter(level)) {
            Ok(()) => self.level = level,
            // The subscriber lives as long as the process. Only tests that set up several subscribers can get here.
            Err(error) => tracing::error!(%error, "the log level cannot be changed"),
        }
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Logging of the demo: the story and a line per frame, on stdout, with nothing around them.
pub(super) fn init_demo() {
    let targets = Targets::new().with_targets([
        ("telemetry_aggregator::demo", LevelFilter::INFO),
        ("ingest::pipeline", LevelFilter::DEBUG),
        ("telemetry_aggregator::daemon", LevelFilter::INFO),
    ]);
    let lines = fmt::layer().with_writer(stdout).without_time().with_level(false).with_target(false);
    // Only tests that run several commands in one process set it twice.
    drop(tracing_subscriber::registry().with(targets).with(lines.with_ansi(false)).try_init());
}
