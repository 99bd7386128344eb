//! Fetches the state of the daemon and parses it.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::model::Snapshot;
use api::{Links, Outputs, Sources};
use http_client::{Limits, Url};

/// At most this many streams, links or outputs are requested.
const ITEMS_MAX: usize = 10_000;
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
            let page = |Sources { total, sources }| (total, sources);
            let (total, sources) = self.all("sources", page).await?;
            Sources { total, sources }
        } else {
            let mut chosen = Sources::default();
            for source_id in &self.chosen {
                let page: Sources = self.get(&format!("/api/v1/sources?source={source_id}")).await?;
                chosen.total += page.total;
                chosen.sources.extend(page.sources);
            }
            chosen
        };
        let (_, links) = self.all("links", |Links { total, links }| (total, links)).await?;
        let (_, outputs) = self.all("outputs", |Outputs { total, outputs }| (total, outputs)).await?;
        Ok(Snapshot { stats, sources, total, links, outputs })
    }

    /// How many `kind` there are, and the first [`ITEMS_MAX`] of them, page by page.
    async fn all<P: DeserializeOwned, T>(
        &self,
        kind: &str,
        read: impl Fn(P) -> (usize, Vec<T>),
    ) -> Result<(usize, Vec<T>), String> {
        let mut all = Vec::new();
        loop {
            let known = all.len();
            let (total, page) = read(self.get(&format!("/api/v1/{kind}?offset={known}")).await?);
            all.extend(page);
            if all.len() == known || all.len() >= total || all.len() >= ITEMS_MAX {
                return Ok((total, all));
            }
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        self.url.get(path, LIMITS).await.map_err(|error| error.to_string())?.json()
    }
}
