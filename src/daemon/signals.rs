//! SIGTERM and SIGINT end the daemon, SIGHUP has it read its configuration again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the daemon obeys.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To end: the first drains, the second stops at once. With the name of the signal.
    Stop(&'static str),
    /// To read the configuration again. Those that come while none is waited for are one.
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

    /// Waits for the next one. Cancel safe.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            Some(()) = self.terminate.recv() => Request::Stop("SIGTERM"),
            Some(()) = self.interrupt.recv() => Request::Stop("SIGINT"),
            Some(()) = self.hangup.recv() => Request::Reload,
            else => std::future::pending().await,
        }
    }

    /// Waits for the next one that asks to end, and names it; others are left for [`Signals::next`]. Cancel safe.
    pub async fn stop(&mut self) -> &'static str {
        tokio::select! {
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            else => std::future::pending().await,
        }
    }
}
