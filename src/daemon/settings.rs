//! The configuration in force while the daemon runs, and the one place that changes it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::archive::Tuning;
use crate::config::{Config, ConfigHandle, Link};
use crate::ingest::StreamTable;
use crate::{feed, ingest, outputs};

/// Brings a configuration into force and hands it to the parts of the daemon.
///
/// Parts above the configuration read [`Settings::live`]. Parts below it do not know its types, so each part
/// gets its own: the source side and the subscriber side read theirs when a client connects, and the archive
/// has a copy.
pub struct Settings {
    live: ConfigHandle,
    ingest_tx: watch::Sender<Arc<ingest::SessionPolicy>>,
    feed_tx: watch::Sender<Arc<feed::SessionPolicy>>,
    links_tx: watch::Sender<Vec<Arc<Link>>>,
    outputs_tx: watch::Sender<outputs::Configs>,
    parts: Parts,
}

/// The parts that must learn of a change.
pub(super) struct Parts {
    pub(super) table: Arc<StreamTable>,
    pub(super) archive: Tuning,
}

impl Settings {
    /// `config` is in force, and `parts` were built with it.
    pub(super) fn new(config: Config, parts: Parts) -> Arc<Self> {
        let ingest_tx = watch::Sender::new(config.ingest_policy());
        let feed_tx = watch::Sender::new(config.feed_policy(config.ingest.max_message));
        let links_tx = watch::Sender::new(links(&config));
        let outputs_tx = watch::Sender::new(outputs(&config));
        Arc::new(Self { live: ConfigHandle::new(config), ingest_tx, feed_tx, links_tx, outputs_tx, parts })
    }

    /// The handle of the configuration in force.
    #[must_use]
    pub const fn live(&self) -> &ConfigHandle {
        &self.live
    }

    pub(super) fn ingest_policy(&self) -> watch::Receiver<Arc<ingest::SessionPolicy>> {
        self.ingest_tx.subscribe()
    }

    pub(super) fn feed_policy(&self) -> watch::Receiver<Arc<feed::SessionPolicy>> {
        self.feed_tx.subscribe()
    }

    pub(super) fn links(&self) -> watch::Receiver<Vec<Arc<Link>>> {
        self.links_tx.subscribe()
    }

    pub(super) fn outputs(&self) -> watch::Receiver<outputs::Configs> {
        self.outputs_tx.subscribe()
    }

    /// Brings `config` into force. A client that connects after this call gets its policy.
    ///
    /// `config` must come from a [`Change`](crate::config::Change) of the configuration in force.
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
        if config.links != before.links {
            self.links_tx.send_replace(links(&config));
        }
        if config.outputs != before.outputs || config.links != before.links {
            self.outputs_tx.send_replace(outputs(&config));
        }
        self.live.replace(Arc::new(config));
    }
}

fn links(config: &Config) -> Vec<Arc<Link>> {
    config.links.iter().cloned().map(Arc::new).collect()
}

fn outputs(config: &Config) -> outputs::Configs {
    let outputs = config.outputs.iter().cloned().map(Arc::new).collect();
    outputs::Configs { outputs, links: config.links.as_slice().into() }
}
