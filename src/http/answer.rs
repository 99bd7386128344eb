//! ResponseLimiter: long ones in turn and off the runtime's threads, and errors as JSON with a reason.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{self, FromRequest, Query};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::gzip;
use crate::wire::ErrorCode;

/// ResponseLimiter that read the archive are made so many at a time; the next waits.
const READERS_MAX: usize = crate::config::HTTP_READERS;
/// What an answer made of what is in memory takes in the making, at most; one is made at a time.
pub(super) const TELLING_BYTES: usize = 12 << 20;
/// What metrics take in the making, in both formats; they are made one at a time.
pub(super) const SCRAPING_BYTES: usize = 16 << 20;
/// What answers that wait to be taken may come to; one that would be more is refused.
pub(super) const UNTAKEN_BYTES: usize = 8 << 20;
/// For the body of a request to come.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// An answer up to this size is part of its connection's share.
const SMALL_BYTES: usize = 16 << 10;
/// When to ask again what cannot be answered now, in seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");
pub(super) const JSON: &str = "application/json";

/// Why a request is not answered as asked.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    problem: Problem,
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, Deserialize)]
pub struct Problem {
    /// For programs: `bad_request`, `unauthorized`, `forbidden`, `not_found`, `conflict`, ...
    pub error: String,
    /// For people: what was wrong with which value, and the way out.
    pub reason: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        let error = status.canonical_reason().unwrap_or("error").to_lowercase().replace([' ', '-'], "_");
        Self { status, problem: Problem { error, reason: reason.into() } }
    }

    pub(super) fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    pub(super) fn not_found(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, reason)
    }

    /// The code that stands for a refusal in the counts.
    pub(super) fn code(&self) -> ErrorCode {
        match self.status {
            StatusCode::UNAUTHORIZED => ErrorCode::Unauthorized,
            StatusCode::FORBIDDEN => ErrorCode::Forbidden,
            StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Busy,
            _ => ErrorCode::Protocol,
        }
    }

    /// For people.
    pub(super) fn reason(&self) -> &str {
        &self.problem.reason
    }

    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason)
    }
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S);
        }
        response
    }
}

/// What was asked for behind the question mark, or which of it is wrong.
pub(super) fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(asked)| asked).map_err(|error| ApiError::bad_request(error.body_text()))
}

/// The JSON that `request` carries. Reads it only when it is called, so that the caller checks first who asks.
pub(super) async fn body<T: DeserializeOwned>(request: extract::Request) -> Result<T, ApiError> {
    let read: Result<Json<T>, JsonRejection> = in_time(Json::from_request(request, &())).await?;
    read.map(|Json(body)| body).map_err(|error| ApiError::new(error.status(), error.body_text()))
}

/// How many of something are asked for, of `max` at most.
pub(super) fn limit(asked: Option<usize>, default: usize, max: usize) -> Result<usize, ApiError> {
    let limit = asked.unwrap_or(default);
    if (1..=max).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::bad_request(format!("limit is {limit}, it may be 1 to {max}")))
}

/// Makes long answers: few at a time, and those not yet taken by their readers have a limit together.
pub(super) struct ResponseLimiter {
    telling: Arc<Semaphore>,
    scraping: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    zipping: Arc<Semaphore>,
    waiting: Arc<Waiting>,
}

/// ResponseLimiter that wait to be taken.
struct Waiting {
    /// Bytes that may still wait.
    room: Arc<Semaphore>,
    /// The newest answer of `/api/v1/catalog`, which counts as waiting as well.
    catalog: Mutex<Option<Tagged>>,
}

/// An answer that is the same for all who ask.
#[derive(Clone)]
pub(super) struct Tagged {
    pub(super) tag: HeaderValue,
    pub(super) plain: Bytes,
    /// The same compressed, once somebody has asked for it.
    pub(super) zipped: Option<Bytes>,
}

impl Default for ResponseLimiter {
    fn default() -> Self {
        let permits = |count| Arc::new(Semaphore::new(count));
        Self {
            telling: permits(1),
            scraping: permits(1),
            reading: permits(READERS_MAX),
            zipping: permits(gzip::AT_A_TIME),
            waiting: Arc::new(Waiting { room: permits(UNTAKEN_BYTES), catalog: Mutex::default() }),
        }
    }
}

/// The right to make one long answer now.
pub(super) struct Permit {
    permit: OwnedSemaphorePermit,
    waiting: Arc<Waiting>,
}

impl ResponseLimiter {
    /// Waits for the turn of an answer that is made of what is in memory.
    pub(super) async fn to_tell(&self) -> Result<Permit, ApiError> {
        self.turn(&self.telling).await
    }

    /// Waits for the turn of metrics, which wait for nothing else.
    pub(super) async fn to_scrape(&self) -> Result<Permit, ApiError> {
        self.turn(&self.scraping).await
    }

    /// Waits for the turn of an answer that reads the archive.
    pub(super) async fn to_read(&self) -> Result<Permit, ApiError> {
        self.turn(&self.reading).await
    }

    /// `text` compressed where that holds up no source; `None` where it would not be half as long, or there is no room.
    pub(super) async fn zipped(&self, text: Bytes) -> Option<Bytes> {
        let bytes_max = (text.len() / 2).min(UNTAKEN_BYTES);
        let _turn = Arc::clone(&self.zipping).acquire_owned().await.ok()?;
        let mut permit = self.waiting.room(bytes_max)?;
        let zipped = aside(move || gzip::zip(&text, bytes_max)).await.ok()??;
        drop(permit.split(bytes_max - zipped.len()));
        Some(Bytes::from_owner(Untaken { text: zipped, _permit: permit }))
    }

    /// The answer of `/api/v1/catalog` that has `tag`, if it is kept.
    pub(super) fn catalog(&self, tag: &HeaderValue) -> Option<Tagged> {
        self.waiting.catalog().clone().filter(|kept| kept.tag == tag)
    }

    /// Keeps the newest answer of `/api/v1/catalog`.
    pub(super) fn keep_catalog(&self, answer: Tagged) {
        *self.waiting.catalog() = Some(answer);
    }

    /// `text` as an answer that counts as waiting until nobody has it any more.
    pub(super) fn waiting(&self, text: Vec<u8>) -> Result<Bytes, ApiError> {
        let length = text.len();
        let permit = self.waiting.room(length.min(UNTAKEN_BYTES)).ok_or_else(|| too_slow(length))?;
        Ok(Bytes::from_owner(Untaken { text: text.into(), _permit: permit }))
    }

    async fn turn(&self, turns: &Arc<Semaphore>) -> Result<Permit, ApiError> {
        let permit = Arc::clone(turns).acquire_owned().await;
        let permit = permit.map_err(|_| ApiError::unavailable("the daemon is ending"))?;
        Ok(Permit { permit, waiting: Arc::clone(&self.waiting) })
    }
}

impl Waiting {
    /// Room for so many bytes that wait; an answer that is only kept gives way.
    fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let acquire = || Arc::clone(&self.room).try_acquire_many_owned(bytes as u32).ok();
        acquire().or_else(|| {
            drop(self.catalog().take());
            acquire()
        })
    }

    fn catalog(&self) -> MutexGuard<'_, Option<Tagged>> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Runs `work` where it holds up no source. The turn ends with the work, also when whoever asked is gone by then.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        aside(move || {
            let _turn = self.permit;
            work()
        })
        .await
    }

    /// ResponseLimiter with what `make` makes, the content type first.
    pub(super) async fn answer(
        self,
        make: impl FnOnce() -> Result<Content, ApiError> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let waiting = Arc::clone(&self.waiting);
        self.run(move || make()?.charged(&waiting)).await?
    }
}

/// What is answered, and as what.
pub(super) struct Content {
    content_type: &'static str,
    text: Bytes,
}

impl Content {
    pub(super) fn new(content_type: &'static str, mut text: Vec<u8>) -> Self {
        // It may wait for its reader; what it grew by is for others.
        text.shrink_to_fit();
        Self { content_type, text: text.into() }
    }

    /// What is kept anyway.
    pub(super) const fn of(content_type: &'static str, text: Bytes) -> Self {
        Self { content_type, text }
    }

    pub(super) fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self::new(JSON, serde_json::to_vec(value)?))
    }

    /// As a response that counts as not taken until the socket has all of it.
    fn charged(self, waiting: &Waiting) -> Result<Response, ApiError> {
        let Self { content_type, text } = self;
        if text.len() <= SMALL_BYTES {
            return Ok(now(content_type, text));
        }
        // One that is larger than all the room has it for itself.
        let Some(permit) = waiting.room(text.len().min(UNTAKEN_BYTES)) else {
            return Err(too_slow(text.len()));
        };
        Ok(now(content_type, Bytes::from_owner(Untaken { text, _permit: permit })))
    }
}

fn too_slow(bytes: usize) -> ApiError {
    ApiError::unavailable(format!(
        "this would be {bytes} bytes more of answers whose readers are too slow; ask again"
    ))
}

/// Is dropped when it is in the socket.
struct Untaken {
    text: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Untaken {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// What comes of `body`, unless it takes longer than [`BODY_TIME_MAX`].
pub(super) async fn in_time<T>(body: impl Future<Output = T>) -> Result<T, ApiError> {
    timeout(BODY_TIME_MAX, body).await.map_err(|_| {
        let reason = format!("the body did not come within {} s", BODY_TIME_MAX.as_secs());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, reason)
    })
}

/// Runs `work`, which blocks, where it holds up nobody.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Ok(value),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ApiError::unavailable("the daemon is ending")),
        },
    }
}

/// `body` as `content_type`. What a moment shows is not for caches.
pub(super) fn now(content_type: &'static str, body: impl Into<Body>) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")];
    (headers, body.into()).into_response()
}

/// `value`, which is small, as JSON.
pub(super) fn json(value: &impl Serialize) -> Response {
    match Content::json(value) {
        Ok(Content { content_type, text }) => now(content_type, text),
        Err(error) => error.into_response(),
    }
}
