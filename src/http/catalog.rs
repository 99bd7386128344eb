//! `/api/v1/catalog`: where the satellites are now, the TLE text itself, and a new one.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Extension, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use http_body_util::LengthLimitError;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::State;
use super::answer::{ApiError, Content, aside, asked, in_time, json};
use super::server::Peer;
use crate::catalog::{Catalog, CatalogError, SubPoint, TEXT_BYTES_MAX};
use crate::frame::unix_now_ns;
use crate::logging::{Kind, by_peer};

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
        if is_text { Ok(Content::of(TEXT, catalog.text().clone())) } else { positions(&catalog) }
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
    let Ok(putting) = Arc::clone(&state.putting).try_lock_owned() else {
        return Err(ApiError::new(StatusCode::CONFLICT, "another catalog is being put; ask again"));
    };
    let text = in_time(to_bytes(body, TEXT_BYTES_MAX)).await?.map_err(unread)?;
    let view = Arc::clone(&state.view);
    let replaced = aside(move || {
        // Whoever put it may be gone by now.
        let _putting = putting;
        view.catalog.replace(text)
    })
    .await?;
    match replaced {
        Ok(catalog) => {
            by_peer!(Kind::Changed, INFO, version = catalog.version(), peer = %peer.0, "catalog put over HTTP");
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

fn unread(error: axum::Error) -> ApiError {
    if std::error::Error::source(&error).is_some_and(|source| source.is::<LengthLimitError>()) {
        let reason = format!("the text has more than the {TEXT_BYTES_MAX} bytes that are taken");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, reason);
    }
    ApiError::bad_request(format!("the text cannot be read: {error}"))
}
