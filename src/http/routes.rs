//! The handler of each path.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};

use super::answer::ApiError;
use super::{
    State, catalog, dashboard, epoch, events, frames, gzip, health, metrics, observed, openapi, refusals,
    streams,
};

/// Largest body of a request, except for a catalog.
const BODY_BYTES_MAX: usize = 8 << 10;

pub(super) fn all(state: Arc<State>) -> Router {
    Router::new()
        .route("/", get(dashboard::page))
        .route("/dashboard", get(dashboard::to_page))
        .route("/dashboard/", get(dashboard::to_page))
        .route("/dashboard/{file}", get(dashboard::file))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/openapi.json", get(openapi::openapi))
        .route("/api/v1/stats", get(observed::stats))
        .route("/api/v1/sources", get(observed::sources))
        .route("/api/v1/sources/epoch", post(epoch::reset))
        .route("/api/v1/sources/{session}", delete(observed::remove))
        .route("/api/v1/refusals", get(refusals::refusals))
        .route("/api/v1/streams/forget", post(streams::forget))
        .route("/api/v1/archive/trust-clock", post(observed::trust_clock))
        .route("/api/v1/frames", get(frames::frames))
        .route("/api/v1/catalog", get(catalog::get).put(catalog::put))
        .route("/api/v1/stream", get(events::stream))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&state), gzip::compress))
        .with_state(state)
}

async fn nothing_here(uri: Uri) -> ApiError {
    ApiError::not_found(format!(
        "there is nothing at {}; /api/v1/openapi.json lists what there is",
        uri.path()
    ))
}

async fn wrong_method(uri: Uri) -> ApiError {
    let reason =
        format!("{} does not take this method; /api/v1/openapi.json lists what it takes", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, reason)
}
