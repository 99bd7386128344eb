//! `/api/v1/frames`: durable frames with their payloads, page by page.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::QueryRejection;
use axum::extract::{self, Extension, Query};
use axum::http::HeaderMap;
use axum::response::Response;

use super::State;
use super::answer::{ApiError, Content, JSON, limit, parameters, word};
use super::server::Peer;
use api::{self, FramesQuery, Gap, GapKind, Priority};
use archive::line::Line;
use archive::{Filter, History, Item, ReadError, StoredFrame};
use frame::Selection;
use support::logging::{Kind, by_peer};

/// Maximum number of frames in a page, and the default.
const FRAMES_MAX: usize = 1_000;
const FRAMES_DEFAULT: usize = 100;
/// A page ends when its payloads reach this size.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// A page ends when it has this many gaps.
const GAPS_MAX: usize = 1_000;
/// A page ends after this time with the frames found so far. The next page continues there.
const TIME_MAX: Duration = Duration::from_secs(1);
/// The clock is read after at least this many offsets. The stride doubles while it takes less than [`STRIDE_TIME_MAX`].
const STRIDE_MIN: u64 = 1_024;
const STRIDE_TIME_MAX: Duration = Duration::from_millis(20);

pub(super) async fn frames(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    query: Result<Query<FramesQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    state.check(peer, &headers)?;
    let asked = parameters(query)?;
    let limit = limit(asked.limit, FRAMES_DEFAULT, FRAMES_MAX)?;
    let (filter, has_from) = (filter(&asked)?, asked.from.is_some());
    // Few answers may read the archive at a time. This waits for a turn, and refuses if too many wait.
    let turn = state.answers.to_read().await?;
    turn.answer(move || page(&state.handles.history, filter, has_from, limit)).await
}

fn filter(asked: &FramesQuery) -> Result<Filter, ApiError> {
    let ns = |ms: Option<i64>| ms.map(|ms| ms.saturating_mul(1_000_000));
    let sources = asked.source.as_deref().into_iter().flat_map(|list| list.split(','));
    let sources: Result<Vec<u32>, _> = sources.map(|text| text.trim().parse()).collect();
    let sources = sources.map_err(|_| {
        ApiError::bad_request("source must be numbers from 0 to 4294967295 with commas in between")
    })?;
    let priority = word::<Priority>("priority", asked.priority.as_deref(), "emergency or routine")?;
    let kind = word::<api::Kind>("kind", asked.kind.as_deref(), "live or replay")?;
    Ok(Filter {
        from_offset: asked.from.unwrap_or(0),
        to_offset: asked.to,
        from_received_ns: ns(asked.from_ms),
        to_received_ns: ns(asked.to_ms),
        selection: Selection::of_sources(sources)
            .with_priority(priority.map(Into::into))
            .with_kind(kind.map(Into::into)),
        ..Filter::default()
    })
}

/// Reads one page and reports where the next one begins. `more` is true if more requested frames may be durable now.
/// Frames that become durable later have offsets from `next` on.
fn page(history: &History, filter: Filter, has_from: bool, limit: usize) -> Result<Content, ApiError> {
    let unreadable = |error: ReadError| {
        by_peer!(Kind::Unread, ERROR, %error, "frames cannot be read for HTTP");
        ApiError::unavailable(format!("the archive cannot be read: {error}"))
    };
    let began = Instant::now();
    let end = filter.to_offset.unwrap_or(u64::MAX).min(history.watermark());
    let mut reached = filter.from_offset.max(history.first_offset()).min(end);
    let mut reader = history.read(Filter { from_offset: reached, ..filter.clone() }).map_err(unreadable)?;
    let mut page = Page::new();
    // Without `from` the user wants what there is, and does not miss what retention has removed.
    if has_from {
        page.gap(GapKind::Expired, filter.from_offset..reached);
    }
    // The offsets are read in stretches, so that the clock is read even if no frame matches the filter. A `Reader` that
    // has returned `None` goes on when `set_to_offset` is raised. No item reaches beyond a stretch: of a gap that does,
    // the rest comes with the next stretch.
    let mut stride = STRIDE_MIN;
    'page: while reached < end && began.elapsed() < TIME_MAX {
        let (stretch, stretch_began) = (reached.saturating_add(stride).min(end), Instant::now());
        reader.set_to_offset(Some(stretch));
        for item in &mut reader {
            match item.map_err(unreadable)? {
                Item::Frame(stored) => {
                    page.frame(&stored)?;
                    reached = stored.offset + 1;
                }
                Item::Damage(damage) => {
                    reached = page.gap(GapKind::Damaged, damage.offsets).unwrap_or(reached)
                }
                Item::Expired(offsets) => reached = page.gap(GapKind::Expired, offsets).unwrap_or(reached),
            }
            if page.is_full(limit) {
                break 'page;
            }
        }
        reached = reached.max(stretch);
        let is_quick = stretch_began.elapsed() < STRIDE_TIME_MAX;
        stride = if is_quick { stride.saturating_mul(2) } else { (stride / 2).max(STRIDE_MIN) };
    }
    Ok(page.end(reached.max(filter.from_offset), reached < end)?)
}

/// The response while it is being built.
struct Page {
    text: Vec<u8>,
    frames: usize,
    payload_bytes: usize,
    gaps: Vec<Gap>,
}

impl Page {
    fn new() -> Self {
        Self { text: b"{\"frames\":[".to_vec(), frames: 0, payload_bytes: 0, gaps: Vec::new() }
    }

    fn frame(&mut self, stored: &StoredFrame) -> serde_json::Result<()> {
        if self.frames > 0 {
            self.text.push(b',');
        }
        self.frames += 1;
        self.payload_bytes += stored.frame.payload.len();
        serde_json::to_writer(&mut self.text, &Line::of(stored))
    }

    /// Adds a gap and returns its end. Returns `None` for an empty range.
    fn gap(&mut self, kind: GapKind, Range { start: from, end: to }: Range<u64>) -> Option<u64> {
        (from < to).then(|| {
            self.gaps.push(Gap { kind, from, to });
            to
        })
    }

    fn is_full(&self, limit: usize) -> bool {
        self.frames == limit || self.payload_bytes >= PAYLOAD_BYTES_MAX || self.gaps.len() >= GAPS_MAX
    }

    fn end(mut self, next: u64, more: bool) -> serde_json::Result<Content> {
        self.text.extend_from_slice(b"],\"gaps\":");
        serde_json::to_writer(&mut self.text, &self.gaps)?;
        self.text.extend_from_slice(b",\"next\":");
        serde_json::to_writer(&mut self.text, &next)?;
        self.text.extend_from_slice(b",\"more\":");
        serde_json::to_writer(&mut self.text, &more)?;
        self.text.push(b'}');
        Ok(Content::new(JSON, self.text))
    }
}
