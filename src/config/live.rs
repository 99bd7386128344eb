//! The configuration in force, which may change while the daemon runs.

use std::sync::Arc;

use tokio::sync::watch;

use super::Config;

/// What is in force, for everybody who has to know. Cheap to clone; all clones are the same.
///
/// [`Live::current`] takes a lock for a moment: it is read where it is needed, once for a connection or a request, and
/// never for a frame.
#[derive(Clone, Debug)]
pub struct Live {
    at_start: Arc<Config>,
    in_force: watch::Sender<Arc<Config>>,
}

impl Live {
    /// `config` is in force.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let at_start = Arc::new(config);
        Self { in_force: watch::Sender::new(Arc::clone(&at_start)), at_start }
    }

    /// What is in force now.
    #[must_use]
    pub fn current(&self) -> Arc<Config> {
        Arc::clone(&self.in_force.borrow())
    }

    /// What was in force at the start: what was laid out then has this size to the end.
    #[must_use]
    pub fn at_start(&self) -> &Config {
        &self.at_start
    }

    /// Tells of each change, for whoever cannot read at use.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.in_force.subscribe()
    }

    /// From now on `config` is in force.
    pub fn replace(&self, config: Arc<Config>) {
        self.in_force.send_replace(config);
    }
}
