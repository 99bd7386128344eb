//! `/api/v1/catalog`: where the satellites are now, the TLE text itself, and a new one.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Extension, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::State;
use super::answer::{ApiError, aside, asked, json, now};
use super::server::Peer;
use crate::catalog::{Catalog, CatalogError, TEXT_BYTES_MAX};
use crate::frame::unix_now_ns;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    format: Option<String>,
}

pub(super) async fn get(
    extract::State(state): extract::State<Arc<State>>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, ApiError> {
    let asked = asked(query)?;
    let catalog = state.view.catalog.current();
    match asked.format.as_deref() {
        None | Some("json") => aside(move || positions(&catalog)).await,
        Some("tle") => Ok(now("text/plain; charset=utf-8", catalog.text().clone())),
        Some(other) => Err(ApiError::bad_request(format!("format is \"{other}\", it may be json or tle"))),
    }
}

/// Satellites of which it cannot be told where they are now are left out of `sets`, not of `count`.
fn positions(catalog: &Catalog) -> Response {
    let sets = catalog.sub_points(unix_now_ns());
    json(&json!({ "version": catalog.version(), "count": catalog.sets().len(), "sets": sets }))
}

pub(super) async fn put(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    state.check(peer, &headers)?;
    // Not before it is known that the peer may.
    let text = to_bytes(body, TEXT_BYTES_MAX).await.map_err(|_| {
        let reason =
            format!("the text ended early, or has more than the {TEXT_BYTES_MAX} bytes that are taken");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    })?;
    let view = Arc::clone(&state.view);
    let replaced = aside(move || view.catalog.replace(text)).await?;
    match replaced {
        Ok(catalog) => {
            tracing::info!(version = catalog.version(), peer = %peer.0, "catalog put over HTTP");
            Ok(json(&json!({ "version": catalog.version(), "count": catalog.sets().len() })))
        }
        Err(error @ CatalogError::Text(_)) => {
            Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
        }
        Err(error) => {
            tracing::error!(%error, "a catalog put over HTTP could not be kept");
            Err(ApiError::unavailable(error.to_string()))
        }
    }
}
