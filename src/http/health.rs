//! `/healthz`: the daemon answers. `/readyz`: the daemon accepts all data, or reports why it does not.

use std::sync::Arc;

use axum::extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::State;
use super::answer::json;
use crate::observe::report::SERVICE;

pub(super) async fn alive() -> Response {
    json(&json!({ "service": SERVICE, "status": "ok" }))
}

pub(super) async fn ready(extract::State(state): extract::State<Arc<State>>) -> Response {
    let reasons = state.view.unready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, json(&json!({ "service": SERVICE, "ready": reasons.is_empty(), "reasons": reasons })))
        .into_response()
}
