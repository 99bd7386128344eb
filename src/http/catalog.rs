//! `/api/v1/catalog`: where the satellites are now, the TLE text itself, and a new one.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Extension, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use super::State;
use super::answer::{ApiError, Content, aside, asked, json};
use super::server::Peer;
use crate::catalog::{Catalog, CatalogError, SubPoint, TEXT_BYTES_MAX};
use crate::frame::unix_now_ns;

/// For a text to come, after which another may be put.
const TEXT_TIME_MAX: Duration = Duration::from_secs(30);
const TEXT: &str = "text/plain; charset=utf-8";

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
    let is_text = match asked.format.as_deref() {
        None | Some("json") => false,
        Some("tle") => true,
        Some(other) => {
            return Err(ApiError::bad_request(format!("format is \"{other}\", it may be json or tle")));
        }
    };
    let turn = state.answers.to_tell().await?;
    turn.answer(move || {
        let catalog = state.view.catalog.current();
        if is_text {
            Ok(Content { content_type: TEXT, text: catalog.text().clone() })
        } else {
            positions(&catalog)
        }
    })
    .await
}

/// Where the satellites are.
#[derive(Serialize)]
struct Positions {
    version: u64,
    count: usize,
    /// Without those of which it cannot be told where they are now.
    sets: Vec<SubPoint>,
}

fn positions(catalog: &Catalog) -> Result<Content, ApiError> {
    let sets = catalog.sub_points(unix_now_ns());
    Content::json(&Positions { version: catalog.version(), count: catalog.sets().len(), sets })
}

pub(super) async fn put(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    state.check(peer, &headers)?;
    // Not before it is known that the peer may, and one at a time, for the text may be long.
    let Ok(_putting) = state.putting.try_lock() else {
        return Err(ApiError::new(StatusCode::CONFLICT, "another catalog is being put; ask again"));
    };
    let text = whole(body).await?;
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

async fn whole(body: Body) -> Result<Bytes, ApiError> {
    let text = timeout(TEXT_TIME_MAX, to_bytes(body, TEXT_BYTES_MAX)).await.map_err(|_| {
        let reason = format!("the text did not come within {} s", TEXT_TIME_MAX.as_secs());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, reason)
    })?;
    text.map_err(|_| {
        let reason =
            format!("the text ended early, or has more than the {TEXT_BYTES_MAX} bytes that are taken");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    })
}
