//! The paths of the server. One table has every path of the API with its handler and its description. The router and
//! the OpenAPI document are made from this table.

use std::sync::Arc;

use axum::Router;
use axum::extract::{self, DefaultBodyLimit};
use axum::http::{StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;

use super::answer::{ApiError, Content};
use super::openapi::{self, Operation};
use super::{
    State, catalog, dashboard, epoch, events, frames, guard, gzip, health, links, metrics, observed,
    refusals, streams,
};

/// Largest body of a request, except for a catalog.
const BODY_BYTES_MAX: usize = 8 << 10;

pub(super) fn all(state: Arc<State>) -> Router {
    let pages = Router::new()
        .route("/", get(dashboard::page))
        .route("/dashboard", get(dashboard::to_page))
        .route("/dashboard/", get(dashboard::to_page))
        .route("/dashboard/{file}", get(dashboard::file));
    operations()
        .into_iter()
        .fold(pages, |router, operation| router.route(operation.path, operation.handler))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&state), gzip::compress))
        .layer(from_fn_with_state(Arc::clone(&state), guard::refuse_ambiguous))
        .with_state(state)
}

/// Every operation of the API.
fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/healthz", health::alive, "alive", "Whether the daemon answers")
            .json::<api::Health>(200, "The daemon answers."),
        Operation::get(
            "/readyz",
            health::ready,
            "ready",
            "Whether the daemon accepts all data that clients offer",
        )
        .json::<api::Readiness>(200, "It accepts everything.")
        .json::<api::Readiness>(503, "It does not, for these reasons."),
        Operation::get("/metrics", metrics::metrics, "metrics", "All counters, for Prometheus")
            .details(
                "OpenMetrics for clients that `Accept` it, else the older text format. The answer itself \
                 describes each metric.",
            )
            .text(200, "The metrics.", &[metrics::CLASSIC, metrics::OPENMETRICS])
            .problems(&[503]),
        Operation::get("/api/v1/openapi.json", document, "openapi", "This description")
            .object(200, "This description.")
            .problems(&[503]),
        Operation::get("/api/v1/stats", observed::stats, "stats", "The daemon as a whole, now")
            .json::<api::Stats>(200, "The daemon as a whole.")
            .problems(&[503]),
        Operation::get("/api/v1/sources", observed::sources, "sources", "All streams, page by page")
            .query::<api::SourcesQuery>()
            .json::<api::Sources>(200, "A page of streams.")
            .problems(&[503]),
        Operation::delete(
            "/api/v1/sources/{session}",
            observed::remove,
            "removeSource",
            "End the connection of a source",
        )
        .details("The source gets ERROR `removed`. Its stream stays and may connect again.")
        .path_number("session", "The session as `/api/v1/sources` has it.")
        .empty(204, "The connection is ending.")
        .guarded(&[403, 404, 503]),
        Operation::post(
            "/api/v1/sources/epoch",
            epoch::reset,
            "resetEpoch",
            "Begin a stream again in a lower epoch",
        )
        .details(
            "For a stream whose right client is fenced, because a client came with a mistaken epoch. \
             First stop the mistaken client and remove its connection. From the answer on, the daemon \
             accepts HELLO with this epoch or a higher one, and the epoch begins at sequence 0, also \
             after a crash. The daemon does not recognize frames that the right client sent in this epoch \
             before: the client sends again what it still has, and the archive holds those frames twice.",
        )
        .body::<api::EpochReset>()
        .json::<api::EpochAnswer>(200, "The new epoch is durable.")
        .guarded(&[403, 404, 408, 409, 413, 415, 422, 503]),
        Operation::get("/api/v1/links", links::links, "links", "The input links, page by page")
            .details(
                "Each link has its first 64 channels. `trouble_bytes` is null for a client that may not read payloads: \
                 with `http.token`, a client without the token.",
            )
            .query::<api::ListQuery>()
            .json::<api::Links>(200, "A page of links, by name.")
            .problems(&[503]),
        Operation::get("/api/v1/links/{name}/channels", links::channels, "linkChannels", "The continuity of a link, channel by channel")
            .path_text("name", "The name of the link.")
            .query::<api::PartsQuery>()
            .json::<api::LinkChannels>(200, "A page of channels, by source and channel.")
            .problems(&[404, 503]),
        Operation::post("/api/v1/links/{name}/disable", links::switch_link::<false>, "disableLink", "Switch a link off")
            .details(
                "Its connection ends, and its streams are free for others. The link stays off until it is switched on, its \
                 configuration changes, or the daemon restarts.",
            )
            .path_text("name", "The name of the link.")
            .empty(204, "The link is ending, or is off already.")
            .guarded(&[403, 404, 503]),
        Operation::post("/api/v1/links/{name}/enable", links::switch_link::<true>, "enableLink", "Switch a link on")
            .path_text("name", "The name of the link.")
            .empty(204, "The link is starting, or runs already.")
            .guarded(&[403, 404, 503]),
        Operation::get("/api/v1/outputs", links::outputs, "outputs", "The output links, page by page")
            .details("Each output has its first 64 readers.")
            .query::<api::ListQuery>()
            .json::<api::Outputs>(200, "A page of outputs, by name.")
            .problems(&[503]),
        Operation::get("/api/v1/outputs/{name}/readers", links::readers, "outputReaders", "The connected readers of an output")
            .path_text("name", "The name of the output.")
            .query::<api::PartsQuery>()
            .json::<api::OutputReaders>(200, "A page of readers, by time of connection.")
            .problems(&[404, 503]),
        Operation::post("/api/v1/outputs/{name}/disable", links::switch_output::<false>, "disableOutput", "Switch an output off")
            .details(
                "Its readers are disconnected; a cursor is saved. The output stays off until it is switched on, its \
                 configuration changes, or the daemon restarts.",
            )
            .path_text("name", "The name of the output.")
            .empty(204, "The output is ending, or is off already.")
            .guarded(&[403, 404, 503]),
        Operation::post("/api/v1/outputs/{name}/enable", links::switch_output::<true>, "enableOutput", "Switch an output on")
            .path_text("name", "The name of the output.")
            .empty(204, "The output is starting, or runs already.")
            .guarded(&[403, 404, 503]),
        Operation::get(
            "/api/v1/refusals",
            refusals::refusals,
            "refusals",
            "Connections that were refused, and why",
        )
        .details("A token is needed if one is configured, because the answer names peers.")
        .json::<api::Refusals>(200, "Counts by listener and reason, and the newest 64 refusals.")
        .guarded(&[]),
        Operation::post("/api/v1/streams/forget", streams::forget, "forgetStreams", "Forget streams")
            .details(
                "The daemon gives up their positions, counters and places under `ingest.max_streams`, \
                 also after a crash. Their frames stay in the archive. **The daemon accepts old epochs \
                 and duplicates again**: a client that comes back begins as a new stream, and frames that \
                 it sends a second time are archived twice. A stream is refused while a connection speaks \
                 for it, while frames of it wait, and while frames of it are on their way to the disk. \
                 One request forgets at most 4,096 streams: the first by source, kind and station.",
            )
            .body::<api::ForgetRequest>()
            .json::<api::ForgetAnswer>(
                200,
                "The streams are forgotten durably. With `dry_run`, nothing is changed.",
            )
            .guarded(&[403, 408, 413, 415, 422, 503]),
        Operation::post(
            "/api/v1/archive/trust-clock",
            observed::trust_clock,
            "trustClock",
            "Say that the clock is right",
        )
        .details(
            "Ends the hold that `archive.age_hold` of `/api/v1/stats` reports: segments expire by age, at \
             most one a minute, until the wall clock is stepped. First compare the clock of this host \
             with another.",
        )
        .empty(204, "The clock is trusted.")
        .guarded(&[403, 409]),
        Operation::get(
            "/api/v1/frames",
            frames::frames,
            "frames",
            "Durable frames with their payloads, page by page",
        )
        .details(
            "A page ends at `limit`, at 1 MiB of payloads, or after a second of searching. While `more` \
             is true, continue with `from` = `next`. Later, continue there for new frames.",
        )
        .query::<api::FramesQuery>()
        .json::<api::Frames>(200, "A page of frames.")
        .guarded(&[403, 503]),
        Operation::get(
            "/api/v1/catalog",
            catalog::get,
            "catalog",
            "Where the satellites are now, or the text of the catalog",
        )
        .query::<api::CatalogQuery>()
        .json::<api::Catalog>(200, "The positions, or the text.")
        .text(200, "The positions, or the text.", &[catalog::TEXT])
        .empty(304, "The client has this answer already: its `ETag` came in `If-None-Match`.")
        .problems(&[503]),
        Operation::put("/api/v1/catalog", catalog::put, "putCatalog", "Put another catalog in force")
            .details("It replaces the current catalog durably. Clients that ask for catalogs get it.")
            .text_body("TLE text, with or without names, 4 MiB at most.")
            .json::<api::CatalogPut>(200, "The catalog is in force.")
            .guarded(&[403, 408, 409, 413, 422, 503]),
        Operation::get(
            "/api/v1/stream",
            events::stream,
            "stream",
            "Server-sent events, once a second, without an end",
        )
        .details(
            "The event `stats` has a `Stats`. `sources` has a `Sources` with all streams, at most 1,000. \
             `changes` has under `sources` the streams that changed since the event before. A client that \
             missed an event gets `sources` again.",
        )
        .text(200, "Events.", &[events::CONTENT_TYPE])
        .problems(&[503]),
    ]
}

/// `/api/v1/openapi.json`: the description of the API, for programs that generate clients and for tests.
async fn document(extract::State(state): extract::State<Arc<State>>) -> Result<Response, ApiError> {
    let turn = state.answers.to_build().await?;
    turn.answer(move || {
        let has_token = state.handles.live.current().http.token.is_some();
        Content::json(&openapi::document(operations(), has_token)?)
    })
    .await
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
