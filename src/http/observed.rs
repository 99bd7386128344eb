//! `/api/v1/stats` and `/api/v1/sources`, the removal of a source's connection, and the operator's trust in the clock.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{self, Extension, Path, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;

use super::State;
use super::answer::{ApiError, Content, asked, limit};
use super::server::Peer;
use crate::archive::AgeHold;
use crate::ingest::{StreamState, StreamView};
use crate::logging::{Kind, by_peer};
use crate::observe::report::Sources;

const NO_NUMBER: &str = "sessions are whole numbers; /api/v1/sources has those of the sources connected";
/// Matches all states except connected.
const DISCONNECTED: &str = "disconnected";
/// Maximum number of streams in one response, and the default.
const SOURCES_MAX: usize = 1_000;

pub(super) async fn stats(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let may_read_payloads = state.may_read_payloads(peer, &headers);
    let turn = state.answers.to_tell().await?;
    turn.answer(move || {
        let stats = state.view.stats(&state.view.table.views());
        Content::json(&if may_read_payloads { stats } else { stats.without_payloads() })
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    state: Option<String>,
    source: Option<u32>,
    offset: Option<usize>,
    limit: Option<usize>,
}

pub(super) async fn sources(
    extract::State(state): extract::State<Arc<State>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, ApiError> {
    let which = asked(which)?;
    if let Some(state) = which.state.as_deref().filter(|state| !is_state(state)) {
        let known = StreamState::ALL.map(StreamState::name).join(", ");
        return Err(ApiError::bad_request(format!(
            "state is \"{state}\", it may be {known} or {DISCONNECTED}"
        )));
    }
    let limit = limit(which.limit, SOURCES_MAX, SOURCES_MAX)?;
    let turn = state.answers.to_tell().await?;
    let registered = state.view.registered().await;
    turn.answer(move || {
        let mut streams = state.view.table.views();
        streams.retain(|stream| which.has(stream));
        let total = streams.len();
        let page = streams.into_iter().skip(which.offset.unwrap_or(0)).take(limit).collect();
        Content::json(&Sources { total, sources: state.view.sources(page, &registered) })
    })
    .await
}

fn is_state(name: &str) -> bool {
    name == DISCONNECTED || StreamState::ALL.iter().any(|state| state.name() == name)
}

impl Which {
    fn has(&self, stream: &StreamView) -> bool {
        let is_connected = stream.state == StreamState::Connected;
        let is_in = |wanted: &str| wanted == stream.state.name() || (wanted == DISCONNECTED && !is_connected);
        self.state.as_deref().is_none_or(is_in)
            && self.source.is_none_or(|wanted| wanted == stream.key.source_id)
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
    let Some(router) = state.view.router() else {
        return Err(ApiError::unavailable("the daemon is draining: its sources are ending"));
    };
    match router.remove(session).await {
        Ok(true) => {
            by_peer!(Kind::Changed, INFO, session, peer = %peer.0, "source removed over HTTP");
            Ok(StatusCode::NO_CONTENT)
        }
        Ok(false) => Err(ApiError::not_found(format!(
            "no source is connected with session {session}; /api/v1/sources has those that are"
        ))),
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
    state.view.archive_tuning.trust_clock().map_err(refused)?;
    tracing::warn!(peer = %peer.0, "an operator says over HTTP that the clock is right: segments expire by age");
    Ok(StatusCode::NO_CONTENT)
}
