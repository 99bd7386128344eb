//! `/api/v1/links` and `/api/v1/outputs`: the input and output links, what belongs to each, and the switch of each.

use std::ops::Range;
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{self, Extension, Path, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::State;
use super::answer::{ApiError, Content, limit, parameters};
use super::server::Peer;
use api::{ListQuery, PartsQuery};
use equipment::switchboard::Switchboard;
use observe::Handles;
use support::logging::{Kind, by_peer};

/// Maximum number of links or outputs in one response, and the default.
const LINKS_MAX: usize = 64;
/// Maximum number of channels or readers in one response, and the default.
const PARTS_MAX: usize = 1_000;

pub(super) async fn links(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    which: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let which = parameters(which)?;
    let page = page(which.offset, which.limit, LINKS_MAX)?;
    let may_read_payloads = state.may_read_payloads(peer, &headers);
    let turn = state.answers.to_build().await?;
    turn.answer(move || {
        let links = state.handles.links(page);
        Content::json(&if may_read_payloads { links } else { links.without_payloads() })
    })
    .await
}

pub(super) async fn channels(
    extract::State(state): extract::State<Arc<State>>,
    name: Result<Path<String>, PathRejection>,
    which: Result<Query<PartsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    parts(state, "link", name, which, Handles::link_channels).await
}

pub(super) async fn outputs(
    extract::State(state): extract::State<Arc<State>>,
    which: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let which = parameters(which)?;
    let page = page(which.offset, which.limit, LINKS_MAX)?;
    let turn = state.answers.to_build().await?;
    turn.answer(move || Content::json(&state.handles.outputs(page))).await
}

pub(super) async fn readers(
    extract::State(state): extract::State<Arc<State>>,
    name: Result<Path<String>, PathRejection>,
    which: Result<Query<PartsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    parts(state, "output", name, which, Handles::output_readers).await
}

/// A page of what belongs to the link or output `name`, which `find` returns.
async fn parts<T: Serialize + 'static>(
    state: Arc<State>,
    kind: &'static str,
    name: Result<Path<String>, PathRejection>,
    which: Result<Query<PartsQuery>, QueryRejection>,
    find: fn(&Handles, &str, Range<usize>) -> Option<T>,
) -> Result<Response, ApiError> {
    let which = parameters(which)?;
    let page = page(which.offset, which.limit, PARTS_MAX)?;
    let name = named(kind, name)?;
    let turn = state.answers.to_build().await?;
    turn.answer(move || match find(&state.handles, &name, page) {
        Some(parts) => Content::json(&parts),
        None => Err(unknown(kind, &name)),
    })
    .await
}

fn page(offset: Option<usize>, asked: Option<usize>, max: usize) -> Result<Range<usize>, ApiError> {
    let offset = offset.unwrap_or(0);
    Ok(offset..offset.saturating_add(limit(asked, max, max)?))
}

/// The name in the path. A path that is not UTF-8 names nothing.
fn named(kind: &str, name: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    name.map(|Path(name)| name).map_err(|_| unknown(kind, "(not text)"))
}

fn unknown(kind: &str, name: &str) -> ApiError {
    ApiError::not_found(format!("there is no {kind} {name:?}; /api/v1/{kind}s has the {kind}s"))
}

/// Switches the link `name` on or off.
pub(super) async fn switch_link<const IS_ON: bool>(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    state.check(peer, &headers)?;
    let name = named("link", name)?;
    let status = switch(&state.controls.links, &name, IS_ON).await?;
    by_peer!(Kind::Changed, INFO, link = name, is_on = IS_ON, peer = %peer.0, "link switched over HTTP");
    Ok(status)
}

/// Switches the output `name` on or off.
pub(super) async fn switch_output<const IS_ON: bool>(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    state.check(peer, &headers)?;
    let name = named("output", name)?;
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
        Ok(false) => Err(unknown(kind, name)),
        Err(error) => Err(ApiError::unavailable(error.to_string())),
    }
}
