//! Responses: `ResponseLimiter` limits the long ones and makes them off the runtime's threads. Errors are JSON with a
//! reason.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{self, FromRequest, Query};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{Deserialize, DeserializeOwned};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::gzip;
use api::Problem;
use wire::ErrorCode;

/// At most this many responses read the archive at once. Others wait.
const READERS_MAX: usize = config::HTTP_READERS;
/// Upper bound in bytes of a response from memory while it is being built. Only one is built at a time.
pub(super) const BUILDING_BYTES: usize = 12 << 20;
/// Upper bound in bytes of the metrics while they are being built, in both formats. Only one is built at a time.
pub(super) const SCRAPING_BYTES: usize = 16 << 20;
/// Upper bound in bytes of all responses that wait for their readers. A response beyond the bound is refused.
pub(super) const UNREAD_BYTES: usize = 8 << 20;
/// Upper bound in bytes of all metrics that wait for their readers. Other responses cannot take this room. Beyond the
/// bound, clients share metrics that wait already.
pub(super) const UNREAD_SCRAPES_BYTES: usize = 8 << 20;
/// A request must send its body within this time.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// A response up to this size counts within the memory share of its connection.
const SMALL_BYTES: usize = 16 << 10;
/// Seconds after which a client may repeat a request that the daemon cannot answer now.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");
pub(super) const JSON: &str = "application/json";

/// The reason why a request gets an error.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    problem: Problem,
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

    /// The error code under which a refusal is counted.
    pub(super) fn code(&self) -> ErrorCode {
        match self.status {
            StatusCode::UNAUTHORIZED => ErrorCode::Unauthorized,
            StatusCode::FORBIDDEN => ErrorCode::Forbidden,
            StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Busy,
            _ => ErrorCode::Protocol,
        }
    }

    /// The reason, for people.
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

/// The query parameters, or an error that names the wrong one.
pub(super) fn parameters<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(asked)| asked).map_err(|error| ApiError::bad_request(error.body_text()))
}

/// The query parameter `name`, which must be one of the words of `T`. `words` lists them for people.
pub(super) fn word<'de, T: Deserialize<'de>>(
    name: &str,
    asked: Option<&'de str>,
    words: &str,
) -> Result<Option<T>, ApiError> {
    let read = |text| {
        T::deserialize(StrDeserializer::<Error>::new(text))
            .map_err(|_| ApiError::bad_request(format!("{name} is \"{text}\", it may be {words}")))
    };
    asked.map(read).transpose()
}

/// Reads the JSON body of `request`. The caller checks first whether the client may send the request.
pub(super) async fn body<T: DeserializeOwned>(request: extract::Request) -> Result<T, ApiError> {
    let read: Result<Json<T>, JsonRejection> = in_time(Json::from_request(request, &())).await?;
    read.map(|Json(body)| body).map_err(|error| ApiError::new(error.status(), error.body_text()))
}

/// The requested limit, or `default` without one. An error unless it is 1 to `max`.
pub(super) fn limit(asked: Option<usize>, default: usize, max: usize) -> Result<usize, ApiError> {
    let limit = asked.unwrap_or(default);
    if (1..=max).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::bad_request(format!("limit is {limit}, it may be 1 to {max}")))
}

/// Limits long responses: how many are made at once, and how many bytes wait for their readers in total.
pub(super) struct ResponseLimiter {
    building: Arc<Semaphore>,
    scraping: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    zipping: Arc<Semaphore>,
    waiting: Arc<Waiting>,
}

/// Responses that wait for their readers.
struct Waiting {
    /// One permit per byte that may still wait.
    room: Arc<Semaphore>,
    /// The newest response of `/api/v1/catalog`. It counts as waiting too.
    catalog: Mutex<Option<Tagged>>,
    scrapes: Scrapes,
}

/// Metrics that wait for their readers.
struct Scrapes {
    /// One permit per byte that may still wait.
    room: Arc<Semaphore>,
    /// All that wait, oldest first.
    unread: Mutex<Vec<Weak<Scrape>>>,
}

/// A response that is the same for all clients.
#[derive(Clone)]
pub(super) struct Tagged {
    pub(super) tag: HeaderValue,
    pub(super) plain: Bytes,
    /// The compressed response, after the first client has asked for it.
    pub(super) zipped: Option<Bytes>,
}

impl Default for ResponseLimiter {
    fn default() -> Self {
        let permits = |count| Arc::new(Semaphore::new(count));
        Self {
            building: permits(1),
            scraping: permits(1),
            reading: permits(READERS_MAX),
            zipping: permits(gzip::AT_A_TIME),
            waiting: Arc::new(Waiting {
                room: permits(UNREAD_BYTES),
                catalog: Mutex::default(),
                scrapes: Scrapes { room: permits(UNREAD_SCRAPES_BYTES), unread: Mutex::default() },
            }),
        }
    }
}

/// The right to make one long response now.
pub(super) struct Permit {
    permit: OwnedSemaphorePermit,
    waiting: Arc<Waiting>,
}

impl ResponseLimiter {
    /// Waits until a response from memory may be made.
    pub(super) async fn to_build(&self) -> Result<Permit, ApiError> {
        self.turn(&self.building).await
    }

    /// Waits until metrics may be made. They wait only for other metrics.
    pub(super) async fn to_scrape(&self) -> Result<Permit, ApiError> {
        self.turn(&self.scraping).await
    }

    /// Waits until a response that reads the archive may be made.
    pub(super) async fn to_read(&self) -> Result<Permit, ApiError> {
        self.turn(&self.reading).await
    }

    /// Compresses `text` on a blocking thread. `None` if the result is more than half as long, or if there is no room.
    pub(super) async fn zipped(&self, text: Bytes) -> Option<Bytes> {
        let bytes_max = (text.len() / 2).min(UNREAD_BYTES);
        let _turn = Arc::clone(&self.zipping).acquire_owned().await.ok()?;
        let mut permit = self.waiting.room(bytes_max)?;
        let zipped = run_blocking(move || gzip::zip(&text, bytes_max)).await.ok()??;
        drop(permit.split(bytes_max - zipped.len()));
        Some(Bytes::from_owner(Unread { text: zipped, _permit: permit }))
    }

    /// The kept response of `/api/v1/catalog`, if it has `tag`.
    pub(super) fn catalog(&self, tag: &HeaderValue) -> Option<Tagged> {
        self.waiting.catalog().clone().filter(|kept| kept.tag == tag)
    }

    /// Keeps the newest response of `/api/v1/catalog`.
    pub(super) fn keep_catalog(&self, answer: Tagged) {
        *self.waiting.catalog() = Some(answer);
    }

    /// Turns `text` into a response. It counts as waiting until its last copy is dropped.
    pub(super) fn waiting(&self, text: Vec<u8>) -> Result<Bytes, ApiError> {
        let length = text.len();
        let permit = self.waiting.room(length.min(UNREAD_BYTES)).ok_or_else(|| too_slow(length))?;
        Ok(Bytes::from_owner(Unread { text: text.into(), _permit: permit }))
    }

    async fn turn(&self, turns: &Arc<Semaphore>) -> Result<Permit, ApiError> {
        let permit = Arc::clone(turns).acquire_owned().await;
        let permit = permit.map_err(|_| ApiError::unavailable("the daemon is ending"))?;
        Ok(Permit { permit, waiting: Arc::clone(&self.waiting) })
    }
}

impl Waiting {
    /// Reserves `bytes` of the room for waiting responses. Drops the kept catalog response if there is no room
    /// otherwise.
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
    /// Runs `work` on a blocking thread. The permit is released when `work` ends, even if the client has disconnected.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        run_blocking(move || {
            let _turn = self.permit;
            work()
        })
        .await
    }

    /// Responds with the content that `make` returns.
    pub(super) async fn answer(
        self,
        make: impl FnOnce() -> Result<Content, ApiError> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let waiting = Arc::clone(&self.waiting);
        self.run(move || make()?.charged(&waiting)).await?
    }

    /// Responds with the metrics that `make` returns.
    pub(super) async fn answer_scrape(
        self,
        make: impl FnOnce() -> Result<Content, ApiError> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let waiting = Arc::clone(&self.waiting);
        self.run(move || waiting.scrapes.charge(make()?)).await?
    }
}

/// The content of a response, with its type.
pub(super) struct Content {
    content_type: &'static str,
    text: Bytes,
}

impl Content {
    pub(super) fn new(content_type: &'static str, mut text: Vec<u8>) -> Self {
        // The content may wait for its reader. Unused capacity must not take memory meanwhile.
        text.shrink_to_fit();
        Self { content_type, text: text.into() }
    }

    /// Content that is kept in memory anyway.
    pub(super) const fn of(content_type: &'static str, text: Bytes) -> Self {
        Self { content_type, text }
    }

    pub(super) fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self::new(JSON, serde_json::to_vec(value)?))
    }

    /// Turns the content into a response that counts as waiting until the socket has taken all of it.
    fn charged(self, waiting: &Waiting) -> Result<Response, ApiError> {
        let Self { content_type, text } = self;
        if text.len() <= SMALL_BYTES {
            return Ok(now(content_type, text));
        }
        // A response larger than the whole room takes the whole room.
        let Some(permit) = waiting.room(text.len().min(UNREAD_BYTES)) else {
            return Err(too_slow(text.len()));
        };
        Ok(now(content_type, Bytes::from_owner(Unread { text, _permit: permit })))
    }
}

impl Scrapes {
    /// Turns metrics into a response that counts as waiting until the socket has taken all of it. Without room, the
    /// response is the newest one that waits already. It is at most as old as a client may take to read.
    fn charge(&self, Content { content_type, text }: Content) -> Result<Response, ApiError> {
        let length = text.len();
        if length <= SMALL_BYTES {
            return Ok(now(content_type, text));
        }
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        unread.retain(|scrape| scrape.strong_count() > 0);
        let bytes = length.min(UNREAD_SCRAPES_BYTES) as u32;
        let scrape = match Arc::clone(&self.room).try_acquire_many_owned(bytes) {
            Ok(permit) => {
                let scrape = Arc::new(Scrape { content_type, text: Unread { text, _permit: permit } });
                unread.push(Arc::downgrade(&scrape));
                scrape
            }
            Err(_) => unread.iter().rev().find_map(Weak::upgrade).ok_or_else(|| too_slow(length))?,
        };
        Ok(now(scrape.content_type, Bytes::from_owner(SharedScrape(scrape))))
    }
}

/// Metrics with their format.
struct Scrape {
    content_type: &'static str,
    text: Unread,
}

/// Metrics that several clients may be reading.
struct SharedScrape(Arc<Scrape>);

impl AsRef<[u8]> for SharedScrape {
    fn as_ref(&self) -> &[u8] {
        self.0.text.as_ref()
    }
}

fn too_slow(bytes: usize) -> ApiError {
    ApiError::unavailable(format!(
        "there is no room for these {bytes} bytes, because clients are too slow to read other answers; ask again"
    ))
}

/// Content that waits for its reader. It is dropped when the socket has taken it.
struct Unread {
    text: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// Waits for `body`. An error if it takes longer than [`BODY_TIME_MAX`].
pub(super) async fn in_time<T>(body: impl Future<Output = T>) -> Result<T, ApiError> {
    timeout(BODY_TIME_MAX, body).await.map_err(|_| {
        let reason = format!("the body did not come within {} s", BODY_TIME_MAX.as_secs());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, reason)
    })
}

/// Runs the blocking `work` on the blocking pool.
pub(super) async fn run_blocking<T: Send + 'static>(
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

/// A response with `body` as `content_type`. Caches must not store it, because it shows one moment.
pub(super) fn now(content_type: &'static str, body: impl Into<Body>) -> Response {
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")];
    (headers, body.into()).into_response()
}

/// A response with the small `value` as JSON.
pub(super) fn json(value: &impl Serialize) -> Response {
    match Content::json(value) {
        Ok(Content { content_type, text }) => now(content_type, text),
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(response: Response) -> Bytes {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap()
    }

    async fn scrape(limiter: &ResponseLimiter, text: Vec<u8>) -> Response {
        let turn = limiter.to_scrape().await.unwrap();
        turn.answer_scrape(move || Ok(Content::new("text/plain", text))).await.unwrap()
    }

    #[tokio::test]
    async fn metrics_have_room_of_their_own_and_are_shared_beyond_it() {
        let limiter = ResponseLimiter::default();
        let all = limiter.waiting(vec![0; UNREAD_BYTES]).unwrap();
        assert!(limiter.waiting(vec![0; 1]).is_err(), "there is no room for other responses");
        let half = UNREAD_SCRAPES_BYTES / 2;
        let unread = [scrape(&limiter, vec![1; half]).await, scrape(&limiter, vec![2; half]).await];
        assert_eq!(limiter.waiting.scrapes.room.available_permits(), 0);
        let shared = body(scrape(&limiter, vec![3; half]).await).await;
        assert_eq!((shared.len(), shared[0]), (half, 2), "the newest that waits");
        drop((unread, shared));
        assert_eq!(body(scrape(&limiter, vec![4; half]).await).await[0], 4);
        assert_eq!(limiter.waiting.scrapes.room.available_permits(), UNREAD_SCRAPES_BYTES);
        drop(all);
        assert!(limiter.waiting(vec![0; UNREAD_BYTES]).is_ok());
    }
}
