//! `/api/v1/catalog`: the current positions of the satellites, the TLE text, and the upload of a new text.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Extension, Query};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::State;
use super::answer::{ApiError, Content, JSON, Tagged, in_time, json, now, parameters, run_blocking, word};
use super::gzip;
use super::server::Peer;
use api::{Catalog, CatalogFormat, CatalogPut, CatalogQuery, SubPoint};
use catalog::{self, CatalogError, TEXT_BYTES_MAX};
use frame::unix_now_ns;
use support::logging::{Kind, by_peer};

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
/// Positions are computed again after this time. A low orbit moves 40 km meanwhile.
const POSITIONS_FOR_MS: i64 = 5_000;
/// The buffer for the text of a request grows in steps of this size.
const STEP_BYTES: usize = 64 << 10;

pub(super) async fn get(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
    query: Result<Query<CatalogQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let asked = parameters(query)?;
    match word("format", asked.format.as_deref(), "json or tle")?.unwrap_or_default() {
        CatalogFormat::Json => positions(&state, &headers).await,
        CatalogFormat::Tle => text(&state, &headers).await,
    }
}

/// Responds with the TLE text. Its tag changes only with the version.
async fn text(state: &State, headers: &HeaderMap) -> Result<Response, ApiError> {
    let catalog = state.handles.catalog.borrow().clone();
    let tag = tag(format_args!("{}-tle", catalog.version()));
    if has_tag(headers, &tag) {
        return Ok(unchanged(tag));
    }
    let turn = state.answers.to_build().await?;
    let answer = turn.answer(move || Ok(Content::of(TEXT, catalog.text().clone()))).await?;
    Ok(tagged(answer, tag))
}

/// Responds with the positions of the satellites. All clients that ask within [`POSITIONS_FOR_MS`] share one response.
async fn positions(state: &Arc<State>, headers: &HeaderMap) -> Result<Response, ApiError> {
    let now_ns = unix_now_ns();
    let moment = now_ns / 1_000_000 / POSITIONS_FOR_MS;
    let current = || tag(format_args!("{}-{moment}", state.handles.catalog.borrow().clone().version()));
    if has_tag(headers, &current()) {
        return Ok(unchanged(current()));
    }
    let mut kept = match state.answers.catalog(&current()) {
        Some(kept) => kept,
        None => make(state, current, now_ns).await?,
    };
    if gzip::is_worth_it(kept.plain.len()) && gzip::is_accepted(headers) {
        if kept.zipped.is_none() {
            kept.zipped = state.answers.zipped(kept.plain.clone()).await;
            state.answers.keep_catalog(kept.clone());
        }
        if let Some(zipped) = kept.zipped {
            let mut answer = now(JSON, zipped);
            gzip::mark(answer.headers_mut());
            return Ok(tagged(answer, kept.tag));
        }
    }
    Ok(tagged(now(JSON, kept.plain), kept.tag))
}

async fn make(
    state: &Arc<State>,
    current: impl Fn() -> HeaderValue,
    now_ns: i64,
) -> Result<Tagged, ApiError> {
    let turn = state.answers.to_build().await?;
    // Another client may have asked for the same response meanwhile.
    if let Some(kept) = state.answers.catalog(&current()) {
        return Ok(kept);
    }
    let (state, tag) = (Arc::clone(state), current());
    let catalog = state.handles.catalog.borrow().clone();
    turn.run(move || {
        let positions = Catalog {
            version: catalog.version(),
            count: catalog.sets().len(),
            time_ms: now_ns / 1_000_000,
            sets: catalog.sub_points(now_ns).into_iter().map(sub_point).collect(),
        };
        let mut text = serde_json::to_vec(&positions)?;
        text.shrink_to_fit();
        let kept = Tagged { tag, plain: state.answers.waiting(text)?, zipped: None };
        state.answers.keep_catalog(kept.clone());
        Ok(kept)
    })
    .await?
}

fn tag(text: std::fmt::Arguments<'_>) -> HeaderValue {
    // The tag is weak: the compressed and the plain response are the same.
    HeaderValue::from_str(&format!("W/\"{text}\"")).unwrap_or(HeaderValue::from_static("W/\"\""))
}

fn has_tag(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let asked = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    asked.flat_map(|tags| tags.split(',')).any(|asked| {
        let strong = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
        strong(asked.trim().as_bytes()) == strong(tag.as_bytes())
    })
}

fn unchanged(tag: HeaderValue) -> Response {
    tagged(StatusCode::NOT_MODIFIED.into_response(), tag)
}

/// Lets a client keep the response. The client must revalidate it before each use.
fn tagged(mut answer: Response, tag: HeaderValue) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

fn sub_point(point: catalog::SubPoint) -> SubPoint {
    let catalog::SubPoint { norad_id, name, latitude_deg, longitude_deg, altitude_km, elements_age_days } =
        point;
    SubPoint { norad_id, name: name.into(), latitude_deg, longitude_deg, altitude_km, elements_age_days }
}

pub(super) async fn put(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    state.check(peer, &headers)?;
    // The lock is taken only after the upload, so that a slow upload does not block another one.
    let (text, room) = in_time(read(&state.put_room, &headers, body)).await??;
    let Ok(putting) = Arc::clone(&state.putting).try_lock_owned() else {
        return Err(ApiError::new(StatusCode::CONFLICT, "another catalog is being put; ask again"));
    };
    let catalog = Arc::clone(&state.controls.catalog);
    let replaced = run_blocking(move || {
        // The client may have disconnected. The lock and the room are held until the work ends.
        let _held = (putting, room);
        catalog.replace(text)
    })
    .await?;
    match replaced {
        Ok(catalog) => {
            by_peer!(Kind::Changed, INFO, version = catalog.version(), peer = %peer.0, "catalog put over HTTP");
            Ok(json(&CatalogPut { count: catalog.sets().len(), version: catalog.version() }))
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

/// Reads the text of a new catalog. The buffer grows with the text. All uploads share `room`.
async fn read(
    room: &Arc<Semaphore>,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), ApiError> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|bytes| bytes > TEXT_BYTES_MAX as u64) {
        return Err(too_long());
    }
    let (mut text, mut held) = (Vec::new(), None::<OwnedSemaphorePermit>);
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| ApiError::bad_request(format!("the text cannot be read: {error}")))?;
        let Ok(piece) = frame.into_data() else { continue };
        let length = text.len() + piece.len();
        if length > TEXT_BYTES_MAX {
            return Err(too_long());
        }
        if length > text.capacity() {
            // The buffer grows in steps. It does not double, and it does not trust the length that the client
            // announces.
            let capacity = length.next_multiple_of(STEP_BYTES).min(TEXT_BYTES_MAX);
            let more = (capacity - text.capacity()) as u32;
            let permit = Arc::clone(room).try_acquire_many_owned(more).map_err(|_| {
                ApiError::unavailable(
                    "other catalogs are being put and take all the room there is; ask again",
                )
            })?;
            match &mut held {
                Some(held) => held.merge(permit),
                None => held = Some(permit),
            }
            text.reserve_exact(capacity - text.len());
        }
        text.extend_from_slice(&piece);
    }
    Ok((text, held))
}

fn too_long() -> ApiError {
    let reason = format!("the text has more than the {TEXT_BYTES_MAX} bytes that are taken");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
}
