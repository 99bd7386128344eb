//! `/api/v1/links` and `/api/v1/outputs`: the input and output links, and the switch of each.

use std::sync::Arc;

use axum::extract::{self, Extension, Path};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::State;
use super::answer::{ApiError, Content};
use super::server::Peer;
use crate::logging::{Kind, by_peer};
use crate::switchboard::Switchboard;

pub(super) async fn links(extract::State(state): extract::State<Arc<State>>) -> Result<Response, ApiError> {
    let turn = state.answers.to_tell().await?;
    turn.answer(move || Content::json(&state.handles.links())).await
}

pub(super) async fn outputs(extract::State(state): extract::State<Arc<State>>) -> Result<Response, ApiError> {
    let turn = state.answers.to_tell().await?;
    turn.answer(move || Content::json(&state.handles.outputs())).await
}

/// Switches the link `name` on or off.
pub(super) async fn switch_link<const IS_ON: bool>(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.check(peer, &headers)?;
    let status = switch(&state.controls.links, &name, IS_ON).await?;
    by_peer!(Kind::Changed, INFO, link = name, is_on = IS_ON, peer = %peer.0, "link switched over HTTP");
    Ok(status)
}

/// Switches the output `name` on or off.
pub(super) async fn switch_output<const IS_ON: bool>(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.check(peer, &headers)?;
    let status = switch(&state.controls.outputs, &name, IS_ON).await?;
    by_peer!(Kind::Changed, INFO, output = name, is_on = IS_ON, peer = %peer.0, "output switched over HTTP");
    Ok(status)
}

async fn switch<R: Clone + 'static>(
    switchboard: &Switchboard<R>,
    name: &str,
    is_on: bool,
) -> Result<StatusCode, ApiError> {
    let kind = switchboard.kind();
    match switchboard.switch(name, is_on).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => {
            Err(ApiError::not_found(format!("there is no {kind} {name:?}; /api/v1/{kind}s has the {kind}s")))
        }
        Err(error) => Err(ApiError::unavailable(error.to_string())),
    }
}
