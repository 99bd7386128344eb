//! SIGTERM and SIGINT end the daemon, SIGHUP reloads its configuration.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the daemon obeys.
#[derive(Debug)]
pub struct Signals {
    /// SIGTERM.
    terminate: Signal,
    /// SIGINT.
    interrupt: Signal,
    /// SIGHUP.
    hangup: Signal,
}

/// The request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT, with its name: end. What the first and the second one do is decided in `src/cli/run.rs`.
    Stop(&'static str),
    /// SIGHUP: reload the configuration. Several that arrive before [`Signals::next`] is called count as one.
    Reload,
}

impl Signals {
    /// Catches the signals from here on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next request. Cancel safe.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            Some(()) = self.terminate.recv() => Request::Stop("SIGTERM"),
            Some(()) = self.interrupt.recv() => Request::Stop("SIGINT"),
            Some(()) = self.hangup.recv() => Request::Reload,
            else => std::future::pending().await,
        }
    }

    /// Waits for the next SIGTERM or SIGINT, and returns its name. A SIGHUP meanwhile is kept for [`Signals::next`].
    /// Cancel safe.
    pub async fn stop(&mut self) -> &'static str {
        tokio::select! {
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            else => std::future::pending().await,
        }
    }
}
