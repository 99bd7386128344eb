//! What is in force while the daemon runs, and the one place that changes it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::archive::Tuning;
use crate::config::{Config, ConfigHandle};
use crate::ingest::StreamTable;
use crate::{feed, ingest};

/// Brings a configuration into force, and tells what is.
///
/// Parts above the configuration read [`Settings::live`]. Those below it, which do not know it, are told here in their own
/// terms: sources and subscribers read theirs when somebody connects, the archive has its own copy.
pub struct Settings {
    live: ConfigHandle,
    ingest_tx: watch::Sender<Arc<ingest::Terms>>,
    feed_tx: watch::Sender<Arc<feed::Terms>>,
    parts: Parts,
}

/// The parts that are told what has changed.
pub(super) struct Parts {
    pub(super) table: Arc<StreamTable>,
    pub(super) archive: Tuning,
}

impl Settings {
    /// `config` is in force and `parts` were built with it.
    pub(super) fn new(config: Config, parts: Parts) -> Arc<Self> {
        let ingest_tx = watch::Sender::new(config.ingest_terms());
        let feed_tx = watch::Sender::new(config.feed_terms(config.ingest.max_message));
        Arc::new(Self { live: ConfigHandle::new(config), ingest_tx, feed_tx, parts })
    }

    /// What is in force.
    #[must_use]
    pub const fn live(&self) -> &ConfigHandle {
        &self.live
    }

    pub(super) fn ingest_terms(&self) -> watch::Receiver<Arc<ingest::Terms>> {
        self.ingest_tx.subscribe()
    }

    pub(super) fn feed_terms(&self) -> watch::Receiver<Arc<feed::Terms>> {
        self.feed_tx.subscribe()
    }

    /// Brings `config` into force; when this returns, whoever connects is taken on its terms.
    ///
    /// It may differ from what is in force in what [`Change`](crate::config::Change) lets through, and must fit together.
    pub fn apply(&self, config: Config) {
        let before = self.live.current();
        let archive = config.archive_config();
        if archive != before.archive_config() {
            self.parts.archive.set(&archive);
        }
        self.parts.table.set_limits(config.ingest_config().stream_limits());
        self.ingest_tx.send_replace(config.ingest_terms());
        // Frames of the size at the start lie in the archive and come again, whatever is the limit for new ones.
        self.feed_tx.send_replace(config.feed_terms(self.live.at_start().ingest.max_message));
        self.live.replace(Arc::new(config));
    }
}
