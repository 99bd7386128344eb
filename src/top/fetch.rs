//! Fetches the state of the daemon and parses it.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::model::Snapshot;
use crate::api::{Links, Outputs, Sources};
use crate::http::client::{Limits, Url};

/// At most this many streams are requested.
const STREAMS_MAX: usize = 10_000;
/// Maximum number of `--source` options. Each needs its own request.
pub const CHOSEN_MAX: usize = 64;
/// The limits of each response.
const LIMITS: Limits = Limits { time: Duration::from_secs(3), body_bytes: 16 << 20 };

/// What to request.
#[derive(Clone, Debug)]
pub struct Question {
    /// The daemon.
    pub url: Url,
    /// Only these sources; empty for all.
    pub chosen: Vec<u32>,
}

impl Question {
    /// Requests everything once.
    ///
    /// # Errors
    /// The reason why there is no response, as text.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn ask(&self) -> Result<Snapshot, String> {
        let stats = self.get("/api/v1/stats").await?;
        let Sources { total, sources } = if self.chosen.is_empty() {
            self.all().await?
        } else {
            let mut chosen = Sources::default();
            for source_id in &self.chosen {
                let page: Sources = self.get(&format!("/api/v1/sources?source={source_id}")).await?;
                chosen.total += page.total;
                chosen.sources.extend(page.sources);
            }
            chosen
        };
        let Links { links } = self.get("/api/v1/links").await?;
        let Outputs { outputs } = self.get("/api/v1/outputs").await?;
        Ok(Snapshot { stats, sources, total, links, outputs })
    }

    /// The first [`STREAMS_MAX`] streams, page by page.
    async fn all(&self) -> Result<Sources, String> {
        let mut all = Sources::default();
        loop {
            let known = all.sources.len();
            let page: Sources = self.get(&format!("/api/v1/sources?offset={known}")).await?;
            all.total = page.total;
            all.sources.extend(page.sources);
            let read = all.sources.len();
            if read == known || read >= all.total || read >= STREAMS_MAX {
                return Ok(all);
            }
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        self.url.get(path, LIMITS).await.map_err(|error| error.to_string())?.json()
    }
}
