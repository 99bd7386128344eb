//! The configuration of each part of the daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::memory::BATCH_BYTES;
use super::{Config, Link, NamedClient, Token};
use connection::{CertifiedClient, Credential, Credentials, Rights};
use export::ExportConfig;
use feed::{self, FeedConfig};
use frame::{Lanes, StreamKey};
use ingest::pipeline::fan_in::FanInConfig;
use ingest::{self, IngestConfig};
use upload::UploadConfig;

/// There is room for the positions of at least this many streams whose sources the peers of links have chosen, so that a
/// reload can add links.
const INVENTED_STREAMS_MIN: usize = 256;

/// A session reads for at most this long in a drain (protocol.md, GOAWAY).
const DRAIN_READ_MAX: Duration = Duration::from_secs(2);

impl Config {
    /// The directory of the segments.
    #[must_use]
    pub fn archive_dir(&self) -> PathBuf {
        self.data_dir.join("archive")
    }

    /// Most streams with a position whose sources the peers of links have chosen.
    #[must_use]
    pub fn invented_streams(&self) -> usize {
        self.links.iter().map(Link::invented_max).sum::<usize>().max(INVENTED_STREAMS_MIN)
    }

    /// The link whose peer may have chosen the source of `stream`.
    #[must_use]
    pub fn inventor_of(&self, stream: &StreamKey) -> Option<Arc<str>> {
        let link =
            self.links.iter().find(|link| link.invented_max() > 0 && link.may_have_invented(stream))?;
        Some(link.name.as_str().into())
    }

    /// The configuration of the archive.
    #[must_use]
    pub fn archive_config(&self) -> archive::Config {
        archive::Config {
            dir: self.archive_dir(),
            commit_delay: self.archive.commit_delay,
            segment_bytes: self.archive.segment_size,
            reserve_bytes: self.archive.reserve,
            max_streams: self.ingest.max_streams.get() + self.invented_streams(),
            payload_bytes_max: self.ingest.max_message as usize,
            retention: archive::Retention {
                age: self.archive.retention_age,
                bytes: self.archive.retention_size,
            },
            direct_io: self.archive.direct_io,
        }
    }

    /// The configuration of the export of sealed segments, if one is configured.
    #[must_use]
    pub fn export_config(&self) -> Option<ExportConfig> {
        let out = self.archive.export.clone()?;
        Some(ExportConfig { dir: self.archive_dir(), out, format: self.archive.export_format })
    }

    /// The configuration of the uploads to object storage, if exports are uploaded.
    #[must_use]
    pub fn upload_config(&self) -> Option<UploadConfig> {
        let (out, store) = (self.archive.export.clone()?, self.export.store.clone()?);
        Some(UploadConfig { out, store, retention: self.export.local_retention })
    }

    /// The configuration of the source side.
    #[must_use]
    pub fn ingest_config(&self) -> IngestConfig {
        let ingest = &self.ingest;
        IngestConfig {
            max_connections: ingest.max_connections.get(),
            max_connections_per_address: ingest.max_connections_per_address.get(),
            hello_timeout: ingest.hello_timeout,
            heartbeat: ingest.heartbeat,
            message_bytes_max: ingest.max_message as usize,
            windows: Lanes::new(ingest.emergency_window, ingest.routine_window),
            max_streams: ingest.max_streams.get(),
            max_streams_per_source: ingest.max_streams_per_source.get(),
            max_invented_streams: self.invented_streams(),
            // Frames that are read in the drain must still be archived and acknowledged within the deadline.
            drain_read_max: DRAIN_READ_MAX.min(self.shutdown.deadline * 2 / 5),
            max_takeovers_per_minute: ingest.max_takeovers_per_minute.get() as usize,
        }
    }

    /// The policy of the source side, with the sources that each credential may send for.
    #[must_use]
    pub fn ingest_policy(&self) -> Arc<ingest::SessionPolicy> {
        let ingest = &self.ingest;
        let credentials = credentials(&ingest.tokens, &ingest.clients);
        ingest::SessionPolicy::new(self.ingest_config(), credentials, self.tls.files.sides.ingest.clone())
    }

    /// The configuration of the subscriber side.
    #[must_use]
    pub fn feed_config(&self) -> FeedConfig {
        FeedConfig {
            max_subscribers: self.feed.max_subscribers.get(),
            subscribe_timeout: self.ingest.hello_timeout,
            heartbeat: self.ingest.heartbeat,
            message_bytes_max: self.ingest.max_message as usize,
        }
    }

    /// Upper bound in bytes of the newest durable frames that are kept for subscribers.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.pipeline.broadcast_capacity.get().saturating_mul(BATCH_BYTES as usize)
    }

    /// The policy of the subscriber side, with the sources that each credential may read. Messages have at most
    /// `message_bytes_max` bytes.
    #[must_use]
    pub fn feed_policy(&self, message_bytes_max: u64) -> Arc<feed::SessionPolicy> {
        let config = FeedConfig { message_bytes_max: message_bytes_max as usize, ..self.feed_config() };
        let credentials = credentials(&self.feed.tokens, &self.feed.clients);
        Arc::new(feed::SessionPolicy { config, credentials, tls: self.tls.files.sides.feed.clone() })
    }

    /// The configuration of the fan-in.
    #[must_use]
    pub fn fan_in_config(&self) -> FanInConfig {
        FanInConfig {
            batch_frames_max: self.pipeline.processor_capacity.get(),
            routine_max_delay: self.pipeline.routine_max_delay,
        }
    }
}

fn credentials(tokens: &[Token], clients: &[NamedClient]) -> Credentials {
    let credential = |token: &Token| Credential {
        token: token.token.expose().to_owned(),
        rights: Rights { sources: token.sources.clone(), stations: token.stations.clone() },
    };
    let certified = |client: &NamedClient| CertifiedClient {
        name: client.name.clone(),
        rights: Rights { sources: client.sources.clone(), stations: client.stations.clone() },
    };
    Credentials::new(tokens.iter().map(credential).collect(), clients.iter().map(certified).collect())
}
