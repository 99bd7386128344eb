//! `/api/v1/refusals`: the refused connections, with reasons.

use std::sync::Arc;

use axum::extract::{self, Extension};
use axum::http::HeaderMap;
use axum::response::Response;

use super::State;
use super::answer::{ApiError, json};
use super::server::Peer;

/// Needs the token if one is configured, because the newest refusals name peers.
pub(super) async fn refusals(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    state.check_token(peer, &headers)?;
    Ok(json(&state.handles.refused()))
}
