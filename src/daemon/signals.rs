//! SIGTERM and SIGINT end the daemon, SIGHUP does not.

use std::io;

use crate::systemd::Notifier;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the daemon: the first drains, the second stops at once.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    notifier: Notifier,
}

impl Signals {
    /// Catches the signals from here on; `notifier` is told of reloads.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn catch(notifier: Notifier) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            notifier,
        })
    }

    /// Waits for the next one and names it. Cancel safe.
    pub async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                Some(()) = self.terminate.recv() => return "SIGTERM",
                Some(()) = self.interrupt.recv() => return "SIGINT",
                Some(()) = self.hangup.recv() => {
                    self.notifier.reloading();
                    tracing::warn!("SIGHUP: this release cannot reload its configuration, nothing has changed");
                    self.notifier.ready();
                }
                else => std::future::pending().await,
            }
        }
    }
}
