//! The service manager: the sockets that it passes at the start, and the notifications that it receives.
//!
//! * [`activation`]: listening sockets that outlive the daemon, so that no connection is refused across a restart,
//! * [`notify`]: READY, RELOADING, STOPPING, STATUS and the rest of `sd_notify(3)`,
//! * [`watchdog`]: WATCHDOG, as long as every stage makes progress.
//!
//! Everything comes through environment variables. Without systemd they are absent, and nothing here has an effect.

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
    /// Sockets that are already listening.
    pub sockets: Sockets,
    /// Sends notifications to the service manager.
    pub notifier: Notifier,
    /// The longest time between two watchdog notifications. `None` if the service manager has no watchdog.
    pub watchdog: Option<Duration>,
}

impl Manager {
    /// Reads the environment of this process and removes the variables of the sockets. Call this once, before other
    /// threads read the environment without the standard library.
    ///
    /// # Errors
    /// [`ActivationError`] if the service manager passed sockets that this daemon does not use.
    pub fn from_env() -> Result<Self, ActivationError> {
        Ok(Self {
            sockets: Sockets::from_env()?,
            notifier: Notifier::from_env(),
            watchdog: watchdog::interval_from_env(),
        })
    }
}
