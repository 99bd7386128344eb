//! The configuration in force while the daemon runs, and the one place that changes it.

use std::sync::Arc;

use tokio::sync::watch;

use archive::Tuning;
use config::{Config, ConfigError, ConfigHandle, Listening};
use ingest::StreamTable;

/// Brings a configuration into force and hands it to the parts of the daemon.
///
/// Parts above the configuration read [`Settings::live`]. Parts below it do not know its types, so each part
/// gets its own: the source side and the subscriber side read theirs when a client connects, and the archive
/// has a copy.
pub struct Settings {
    /// The configuration in force.
    live: ConfigHandle,
    /// Where the daemon listens; see [`validate`](Self::validate).
    listening: Listening,
    /// What the source side needs of the configuration.
    ingest_tx: watch::Sender<Arc<ingest::SessionPolicy>>,
    /// What the subscriber side needs of it.
    feed_tx: watch::Sender<Arc<feed::SessionPolicy>>,
    /// The parts that are told directly.
    parts: Parts,
}

/// The parts that must learn of a change.
pub(super) struct Parts {
    /// Has the limits of the streams.
    pub(super) table: Arc<StreamTable>,
    /// Has the limits of the archive that can change while it runs.
    pub(super) archive: Tuning,
}

impl Settings {
    /// `config` is in force, the daemon listens on `listening`, and `parts` were built with it.
    pub(super) fn new(config: Config, listening: Listening, parts: Parts) -> Arc<Self> {
        let ingest_tx = watch::Sender::new(config.ingest_policy());
        let feed_tx = watch::Sender::new(config.feed_policy(config.ingest.max_message));
        Arc::new(Self { live: ConfigHandle::new(config), listening, ingest_tx, feed_tx, parts })
    }

    /// The handle of the configuration in force.
    #[must_use]
    pub const fn live(&self) -> &ConfigHandle {
        &self.live
    }

    /// Checks `config` with the addresses where the daemon listens, and returns warnings. Sockets that were handed over
    /// may have others than the configuration.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all conflicts.
    pub fn validate(&self, config: &Config) -> Result<Vec<String>, ConfigError> {
        config.validate_at(self.listening)
    }

    pub(super) fn ingest_policy(&self) -> watch::Receiver<Arc<ingest::SessionPolicy>> {
        self.ingest_tx.subscribe()
    }

    pub(super) fn feed_policy(&self) -> watch::Receiver<Arc<feed::SessionPolicy>> {
        self.feed_tx.subscribe()
    }

    /// Brings `config` into force. A client that connects after this call gets its policy.
    ///
    /// `config` must come from a [`Change`](config::Change) of the configuration in force: that keeps the keys which
    /// need a restart as they were at the start.
    pub fn apply(&self, config: Config) {
        let before = self.live.current();
        let archive = config.archive_config();
        if archive != before.archive_config() {
            self.parts.archive.set(&archive);
        }
        self.parts.table.set_limits(config.ingest_config().stream_limits());
        self.ingest_tx.send_replace(config.ingest_policy());
        // The archive holds frames up to the size that was allowed at the start, and subscribers read them.
        self.feed_tx.send_replace(config.feed_policy(self.live.at_start().ingest.max_message));
        self.live.replace(Arc::new(config));
    }
}
