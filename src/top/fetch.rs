//! Fetches the state of the daemon and parses it.

use std::time::Duration;

use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::model::Snapshot;
use crate::http::client::{Limits, Url};
use crate::observe::report::{SERVICE, Sources};

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

/// The answers as the API gives them.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// The response of `/api/v1/stats`.
    pub stats: Value,
    /// The response of `/api/v1/sources`. Several responses are joined into one.
    pub sources: Value,
}

impl Question {
    /// Requests everything once.
    ///
    /// # Errors
    /// The reason why there is no response, as text.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn ask(&self) -> Result<Answers, String> {
        let stats = self.get("/api/v1/stats").await?;
        if stats["service"] != SERVICE {
            return Err(format!(
                "this is no {SERVICE}: /api/v1/stats does not say \"service\": \"{SERVICE}\""
            ));
        }
        let sources = match &self.chosen[..] {
            [] => self.all().await?,
            [one] => self.get(&of_one(*one)).await?,
            several => {
                let (mut total, mut all) = (0, Vec::new());
                for one in several {
                    total += self.page(&of_one(*one), &mut all).await?;
                }
                json!({ "total": total, "sources": all })
            }
        };
        Ok(Answers { stats, sources })
    }

    /// The first [`STREAMS_MAX`] streams, page by page.
    async fn all(&self) -> Result<Value, String> {
        let mut all = Vec::new();
        loop {
            let known = all.len();
            let total = self.page(&format!("/api/v1/sources?offset={known}"), &mut all).await?;
            if all.len() == known || all.len() as u64 >= total || all.len() >= STREAMS_MAX {
                return Ok(json!({ "total": total, "sources": all }));
            }
        }
    }

    /// Adds the streams of `path` to `all`. Returns how many streams there are in total.
    async fn page(&self, path: &str, all: &mut Vec<Value>) -> Result<u64, String> {
        let mut answer = self.get(path).await?;
        if let Some(sources) = answer["sources"].as_array_mut() {
            all.append(sources);
        }
        Ok(answer["total"].as_u64().unwrap_or(0))
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let answer = self.url.get(path, LIMITS).await.map_err(|error| error.to_string())?;
        if answer.status != StatusCode::OK {
            return Err(answer.problem());
        }
        serde_json::from_slice(&answer.body).map_err(|error| format!("{path} is not JSON: {error}"))
    }
}

fn of_one(source_id: u32) -> String {
    format!("/api/v1/sources?source={source_id}")
}

impl Answers {
    /// Parses both responses.
    ///
    /// # Errors
    /// The part that is not as expected, as text.
    pub fn understood(self) -> Result<Snapshot, String> {
        let stats = understand("/api/v1/stats", self.stats)?;
        let Sources { total, sources } = understand("/api/v1/sources", self.sources)?;
        Ok(Snapshot { stats, sources, total })
    }
}

fn understand<T: DeserializeOwned>(path: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| {
        format!(
            "{path} is not understood ({error}): is that another version than {}?",
            env!("CARGO_PKG_VERSION")
        )
    })
}
