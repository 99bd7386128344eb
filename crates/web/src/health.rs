//! `/healthz`: the daemon answers. `/readyz`: the daemon accepts all data, or reports why it does not.

use std::sync::Arc;

use axum::extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::State;
use super::answer::json;
use api::{Health, Readiness, Service};

pub(super) async fn alive() -> Response {
    json(&Health::default())
}

pub(super) async fn ready(extract::State(state): extract::State<Arc<State>>) -> Response {
    let reasons = state.handles.unready();
    let (ready, degraded) = (reasons.is_empty(), state.handles.late());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, json(&Readiness { ready, reasons, degraded, service: Service::default() })).into_response()
}
