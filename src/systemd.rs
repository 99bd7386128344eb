//! The service manager: what it hands over at the start, and what it is told from then on.
//!
//! * [`activation`]: listening sockets that outlive the daemon, so that no connection is refused across a restart,
//! * [`notify`]: READY, RELOADING, STOPPING, STATUS and the rest of `sd_notify(3)`,
//! * [`watchdog`]: WATCHDOG, as long as every stage turns.
//!
//! All of it comes through the environment and is absent without systemd; everything then does nothing.

use std::time::Duration;

pub mod activation;
pub mod notify;
pub mod watchdog;

pub use activation::{ActivationError, Sockets};
pub use notify::Notifier;
pub use watchdog::Watchdog;

/// What the service manager gives a daemon. The default is none at all.
#[derive(Debug, Default)]
pub struct Manager {
    /// Sockets that listen already.
    pub sockets: Sockets,
    /// Whom to tell.
    pub notifier: Notifier,
    /// How often it must hear that all is well, if it wants to know.
    pub watchdog: Option<Duration>,
}

impl Manager {
    /// What this process was given. To be asked once, before other threads read the environment past the
    /// standard library: the sockets' variables are taken out of it.
    ///
    /// # Errors
    /// [`ActivationError`] when sockets were handed over that this daemon has no use for.
    pub fn from_env() -> Result<Self, ActivationError> {
        Ok(Self {
            sockets: Sockets::from_env()?,
            notifier: Notifier::from_env(),
            watchdog: watchdog::interval_from_env(),
        })
    }
}
