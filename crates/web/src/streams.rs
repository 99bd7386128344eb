//! `POST /api/v1/streams/forget`: forgets streams that are not needed any longer, many at once.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{self, Extension};
use axum::http::StatusCode;
use axum::response::Response;

use super::State;
use super::answer::{ApiError, Content, body};
use super::server::Peer;
use api::{ForgetAnswer, ForgetRequest, ForgottenStream, Refusal, Whole};
use frame::StreamKey;
use ingest::{EditError, ForgetRefused, Selected, Selector};

/// At most this many forgotten and this many refused streams are named in a response.
const NAMED_MAX: usize = 1_000;
/// At most this many sources in one request.
const SOURCE_IDS_MAX: usize = 512;
/// At most this many characters of a station or a pattern in a request.
const STATION_CHARS_MAX: usize = 256;
/// About thirty years.
const OFFLINE_FOR_S_MAX: u64 = 1_000_000_000;

pub(super) async fn forget(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    request: extract::Request,
) -> Result<Response, ApiError> {
    state.check(peer, request.headers())?;
    let asked: ForgetRequest = body(request).await?;
    let is_dry_run = asked.dry_run;
    let selector = selector(asked)?;
    let unready = state.handles.unready();
    if !is_dry_run && !unready.is_empty() {
        return Err(ApiError::unavailable(format!("no stream is forgotten now: {}", unready.join("; "))));
    }
    let (turn, edits) = (state.answers.to_build().await?, state.controls.edits.clone());
    let chosen = selector.clone();
    let selected = turn.run(move || edits.select(&chosen, is_dry_run)).await?;
    let Selected { forgetting, refused, remaining } = selected;
    let answer = ForgetAnswer {
        dry_run: is_dry_run,
        forgotten: forgetting.streams().len(),
        streams: forgetting.streams().take(NAMED_MAX).map(forgotten).collect(),
        refused: refused.len(),
        refusals: refused.iter().take(NAMED_MAX).map(refusal).collect(),
        remaining,
    };
    if !is_dry_run && answer.forgotten > 0 {
        state.controls.edits.forget(forgetting, selector, peer.0).await.map_err(|error| failed(&error))?;
    }
    state.answers.to_build().await?.answer(move || Content::json(&answer)).await
}

fn selector(asked: ForgetRequest) -> Result<Selector, ApiError> {
    let refused = |reason: String| Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, reason));
    let sources = asked.source_ids.as_ref().map(Vec::len);
    if sources.is_some_and(|found| !(1..=SOURCE_IDS_MAX).contains(&found)) {
        let found = sources.unwrap_or(0);
        return refused(format!("source_ids has {found} numbers, it may have 1 to {SOURCE_IDS_MAX}"));
    }
    for (name, text) in [("station", &asked.station), ("station_glob", &asked.station_glob)] {
        let chars = text.as_ref().map_or(0, |text| text.chars().count());
        if chars > STATION_CHARS_MAX {
            return refused(format!(
                "{name} has {chars} characters, at most {STATION_CHARS_MAX} are allowed"
            ));
        }
    }
    if let Some(Whole(found)) = asked.offline_for_s.filter(|Whole(found)| *found > OFFLINE_FOR_S_MAX) {
        return refused(format!("offline_for_s is {found}, it may be 0 to {OFFLINE_FOR_S_MAX}"));
    }
    let selector = Selector {
        source_ids: asked.source_ids.unwrap_or_default().into_iter().map(|Whole(id)| id).collect(),
        kind: asked.kind.map(Into::into),
        station: asked.station,
        station_glob: asked.station_glob,
        offline_for: asked.offline_for_s.map(|Whole(seconds)| Duration::from_secs(seconds)),
    };
    if selector.is_empty() {
        let fields = "source_ids, kind, station, station_glob or offline_for_s";
        return refused(format!(
            "the request selects every stream: give {fields}; offline_for_s = 0 selects all that are offline"
        ));
    }
    Ok(selector)
}

fn failed(error: &EditError) -> ApiError {
    match error {
        EditError::ArchiveFailed => ApiError::unavailable(
            "the archive failed meanwhile; /api/v1/sources shows after the restart whether the streams were forgotten",
        ),
        error => ApiError::unavailable(error.to_string()),
    }
}

fn forgotten((key, offline_since_ns): (&StreamKey, Option<i64>)) -> ForgottenStream {
    ForgottenStream {
        source_id: key.source_id,
        kind: key.source_kind.into(),
        station: key.station.as_str().to_owned(),
        offline_since_ms: offline_since_ns.map(|since| since / 1_000_000),
    }
}

fn refusal((key, why): &(StreamKey, ForgetRefused)) -> Refusal {
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
    Refusal {
        source_id: key.source_id,
        kind: key.source_kind.into(),
        station: key.station.as_str().to_owned(),
        reason,
    }
}
