//! `POST /api/v1/streams/forget`: forgets streams that are not needed any longer, many at once.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{self, Extension};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Deserializer, Serialize};

use super::State;
use super::answer::{ApiError, Content, body};
use super::epoch::{Kind, whole};
use super::server::Peer;
use crate::frame::StreamKey;
use crate::ingest::{EditError, ForgetRefused, Selected, Selector};

/// At most this many forgotten and this many refused streams are named in a response.
const NAMED_MAX: usize = 1_000;
/// At most this many sources in one request.
const SOURCE_IDS_MAX: usize = 512;
/// At most this many characters of a station or a pattern in a request.
const STATION_CHARS_MAX: usize = 256;
/// About thirty years.
const OFFLINE_FOR_S_MAX: u64 = 1_000_000_000;

/// Selects streams. All given conditions must hold, and at least one must be given.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// Any of these sources.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub source_ids: Option<Vec<Whole<u32>>>,
    /// `live` or `replay`.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Exactly this one.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub station: Option<String>,
    /// A pattern: `*` stands for any characters, `?` for one.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub station_glob: Option<String>,
    /// At least this long without a connection, in seconds. 0 selects all that are offline.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub offline_for_s: Option<Whole<u64>>,
    /// If true, the daemon only reports the streams.
    #[serde(default)]
    pub dry_run: bool,
}

/// A whole number. It may be written with a point, as in `7.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Whole<T>(pub T);

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        whole(deserializer).map(Self)
    }
}

/// Reads the value of a key that is present. A null is an error.
fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The result of the request.
#[derive(Debug, Serialize, Deserialize)]
pub struct ForgetAnswer {
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// How many streams were forgotten, or would be.
    pub forgotten: usize,
    /// The first 1,000 of them.
    pub streams: Vec<ForgottenStream>,
    /// How many selected streams were refused.
    pub refused: usize,
    /// The first 1,000 of them.
    pub refusals: Vec<Refusal>,
    /// How many selected streams are beyond the limit of one request. Repeat the request for them.
    pub remaining: usize,
}

/// A stream that was forgotten.
#[derive(Debug, Serialize, Deserialize)]
pub struct ForgottenStream {
    /// The satellite or recording.
    pub source_id: u32,
    /// `live` or `replay`.
    pub kind: String,
    /// The ground station, may be empty.
    pub station: String,
    /// When its last connection ended.
    pub offline_since_ms: Option<i64>,
}

/// A stream that was not forgotten.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The satellite or recording.
    pub source_id: u32,
    /// `live` or `replay`.
    pub kind: String,
    /// The ground station, may be empty.
    pub station: String,
    /// Why it was refused, and what to do.
    pub reason: String,
}

pub(super) async fn forget(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    request: extract::Request,
) -> Result<Response, ApiError> {
    state.check(peer, request.headers())?;
    let asked: ForgetRequest = body(request).await?;
    let is_dry_run = asked.dry_run;
    let selector = asked.selector()?;
    let unready = state.view.unready();
    if !is_dry_run && !unready.is_empty() {
        return Err(ApiError::unavailable(format!("no stream is forgotten now: {}", unready.join("; "))));
    }
    let (turn, edits) = (state.answers.to_tell().await?, state.edits.clone());
    let chosen = selector.clone();
    let selected = turn.run(move || edits.select(&chosen, is_dry_run)).await?;
    let Selected { forgetting, refused, remaining } = selected;
    let answer = ForgetAnswer {
        dry_run: is_dry_run,
        forgotten: forgetting.streams().len(),
        streams: forgetting.streams().take(NAMED_MAX).map(ForgottenStream::new).collect(),
        refused: refused.len(),
        refusals: refused.iter().take(NAMED_MAX).map(Refusal::new).collect(),
        remaining,
    };
    if !is_dry_run && answer.forgotten > 0 {
        state.edits.forget(forgetting, selector, peer.0).await.map_err(|error| failed(&error))?;
    }
    state.answers.to_tell().await?.answer(move || Content::json(&answer)).await
}

impl ForgetRequest {
    fn selector(self) -> Result<Selector, ApiError> {
        let refused = |reason: String| Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, reason));
        let sources = self.source_ids.as_ref().map(Vec::len);
        if sources.is_some_and(|found| !(1..=SOURCE_IDS_MAX).contains(&found)) {
            let found = sources.unwrap_or(0);
            return refused(format!("source_ids has {found} numbers, it may have 1 to {SOURCE_IDS_MAX}"));
        }
        for (name, text) in [("station", &self.station), ("station_glob", &self.station_glob)] {
            let chars = text.as_ref().map_or(0, |text| text.chars().count());
            if chars > STATION_CHARS_MAX {
                return refused(format!(
                    "{name} has {chars} characters, at most {STATION_CHARS_MAX} are allowed"
                ));
            }
        }
        if let Some(Whole(found)) = self.offline_for_s.filter(|Whole(found)| *found > OFFLINE_FOR_S_MAX) {
            return refused(format!("offline_for_s is {found}, it may be 0 to {OFFLINE_FOR_S_MAX}"));
        }
        let selector = Selector {
            source_ids: self.source_ids.unwrap_or_default().into_iter().map(|Whole(id)| id).collect(),
            kind: self.kind.map(Into::into),
            station: self.station,
            station_glob: self.station_glob,
            offline_for: self.offline_for_s.map(|Whole(seconds)| Duration::from_secs(seconds)),
        };
        if selector.is_empty() {
            let fields = "source_ids, kind, station, station_glob or offline_for_s";
            return refused(format!(
                "this means every stream: say which by {fields}; offline_for_s = 0 is all offline"
            ));
        }
        Ok(selector)
    }
}

fn failed(error: &EditError) -> ApiError {
    match error {
        EditError::ArchiveFailed => ApiError::unavailable(
            "the archive failed meanwhile; /api/v1/sources tells after the restart whether the streams were forgotten",
        ),
        error => ApiError::unavailable(error.to_string()),
    }
}

impl ForgottenStream {
    fn new((key, offline_since_ns): (&StreamKey, Option<i64>)) -> Self {
        Self {
            source_id: key.source_id,
            kind: key.source_kind.name().to_owned(),
            station: key.station.as_str().to_owned(),
            offline_since_ms: offline_since_ns.map(|since| since / 1_000_000),
        }
    }
}

impl Refusal {
    fn new((key, why): &(StreamKey, ForgetRefused)) -> Self {
        let reason = match why {
            ForgetRefused::Connected(session) => format!(
                "session {session} speaks for it: stop that client, or end it with DELETE /api/v1/sources/{session}"
            ),
            ForgetRefused::Queued(frames) => format!("{frames} frames of it wait for the archive; ask again"),
            ForgetRefused::Unsynced(frames) => {
                format!("{frames} frames of it are on their way to the disk; ask again")
            }
            ForgetRefused::UnderWay => "it is being reset or forgotten already; ask again".to_owned(),
        };
        Self {
            source_id: key.source_id,
            kind: key.source_kind.name().to_owned(),
            station: key.station.as_str().to_owned(),
            reason,
        }
    }
}
