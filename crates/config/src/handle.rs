//! The configuration in force, which may change while the daemon runs.

use std::sync::Arc;

use tokio::sync::watch;

use super::Config;

/// The configuration in force. Clones are cheap and share one value.
///
/// [`ConfigHandle::current`] takes a lock for a moment. A part reads it once per connection or request, never per
/// frame.
#[derive(Clone, Debug)]
pub struct ConfigHandle {
    at_start: Arc<Config>,
    in_force: watch::Sender<Arc<Config>>,
}

impl ConfigHandle {
    /// A handle with `config` in force.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let at_start = Arc::new(config);
        Self { in_force: watch::Sender::new(Arc::clone(&at_start)), at_start }
    }

    /// The configuration in force.
    #[must_use]
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.in_force.borrow())
    }

    /// The configuration at the start. Some parts keep the sizes of the start until the daemon ends.
    #[must_use]
    pub fn at_start(&self) -> &Config {
        &self.at_start
    }

    /// The configuration in force, and a signal when it changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.in_force.subscribe()
    }

    /// Brings `config` into force.
    pub fn replace(&self, config: Arc<Config>) {
        self.in_force.send_replace(config);
    }
}
