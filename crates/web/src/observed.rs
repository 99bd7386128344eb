//! `/api/v1/stats` and `/api/v1/sources`, the removal of a source's connection, and the operator's trust in the clock.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{self, Extension, Path, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::State;
use super::answer::{ApiError, Content, limit, parameters, word};
use super::server::Peer;
use api::{Sources, SourcesQuery, StateChoice};
use archive::AgeHold;
use ingest::{StreamState, StreamView};
use support::logging::{Kind, by_peer};

const NO_NUMBER: &str = "sessions are whole numbers; /api/v1/sources has those of the sources connected";
/// The words for a state in a request.
const STATES: &str = "connected, ended, lost, removed, offline or disconnected";
/// Maximum number of streams in one response, and the default.
const SOURCES_MAX: usize = 1_000;

pub(super) async fn stats(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let may_read_payloads = state.may_read_payloads(peer, &headers);
    let turn = state.answers.to_build().await?;
    turn.answer(move || {
        let stats = state.handles.stats(&state.handles.table.views());
        Content::json(&if may_read_payloads { stats } else { stats.without_payloads() })
    })
    .await
}

pub(super) async fn sources(
    extract::State(state): extract::State<Arc<State>>,
    which: Result<Query<SourcesQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let which = parameters(which)?;
    let wanted = word("state", which.state.as_deref(), STATES)?;
    let limit = limit(which.limit, SOURCES_MAX, SOURCES_MAX)?;
    let turn = state.answers.to_build().await?;
    let registered = state.handles.registered.current().await;
    turn.answer(move || {
        let mut streams = state.handles.table.views();
        streams.retain(|stream| {
            which.source.is_none_or(|source| source == stream.key.source_id) && is_in(stream, wanted)
        });
        let total = streams.len();
        let page = streams.into_iter().skip(which.offset.unwrap_or(0)).take(limit).collect();
        Content::json(&Sources { total, sources: state.handles.sources(page, &registered) })
    })
    .await
}

fn is_in(stream: &StreamView, wanted: Option<StateChoice>) -> bool {
    match wanted {
        None => true,
        Some(StateChoice::Connected) => stream.state == StreamState::Connected,
        Some(StateChoice::Ended) => stream.state == StreamState::Ended,
        Some(StateChoice::Lost) => stream.state == StreamState::Lost,
        Some(StateChoice::Removed) => stream.state == StreamState::Removed,
        Some(StateChoice::Offline) => stream.state == StreamState::Offline,
        Some(StateChoice::Disconnected) => stream.state != StreamState::Connected,
    }
}

/// Ends the connection `session` with ERROR `removed`. Its stream stays and may connect again.
pub(super) async fn remove(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    session: Result<Path<u64>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    state.check(peer, &headers)?;
    // A path that is not a number names no session.
    let Path(session) = session.map_err(|_| ApiError::not_found(NO_NUMBER))?;
    match state.controls.router.remove(session).await {
        Ok(true) => {
            by_peer!(Kind::Changed, INFO, session, peer = %peer.0, "source removed over HTTP");
            Ok(StatusCode::NO_CONTENT)
        }
        Ok(false) => Err(ApiError::not_found(format!(
            "no source is connected with session {session}; /api/v1/sources has those that are"
        ))),
        Err(_) if *state.handles.draining.borrow() => {
            Err(ApiError::unavailable("the daemon is shutting down: its sources are ending"))
        }
        Err(error) => Err(ApiError::unavailable(error.to_string())),
    }
}

/// Lets segments expire by age, after an operator has confirmed that the clock is right.
pub(super) async fn trust_clock(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    state.check(peer, &headers)?;
    let refused = |hold: AgeHold| ApiError::new(StatusCode::CONFLICT, hold.reason);
    state.controls.archive.trust_clock().map_err(refused)?;
    tracing::warn!(peer = %peer.0, "an operator says over HTTP that the clock is right: segments expire by age");
    Ok(StatusCode::NO_CONTENT)
}
