//! `/api/v1/stream`: server-sent events. What changes is put into words once a second, once for all who listen.
//!
//! `stats` is what `/api/v1/stats` says. `sources` has all streams; `changes` those that changed since the event before,
//! and whoever missed one gets `sources` again. A listener that does not read gets the newest when it reads again, and is
//! cut off when that takes too long (see [`server`](super::server)): it holds one event, and no other waits for it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::extract;
use axum::response::Response;
use futures_util::stream;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use super::State;
use super::answer::{ApiError, aside, now};
use crate::frame::is_anonymous;
use crate::observe::View;
use crate::observe::report::{Source, Stats};

/// Listeners at a time; one more gets 503.
pub const LISTENERS_MAX: usize = 128;
/// Streams told of in events; `/api/v1/sources` has all.
const SOURCES_MAX: usize = 1_000;

/// What is told to all who listen.
pub(super) struct Events {
    moments: watch::Receiver<Arc<Moment>>,
    listeners: Arc<AtomicUsize>,
}

/// One second's events, in words.
#[derive(Default)]
struct Moment {
    number: u64,
    stats: Bytes,
    all: Bytes,
    changes: Bytes,
}

struct Listener(Arc<AtomicUsize>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Events {
    /// The events, and what makes them: a task that runs until nobody can listen any more.
    pub(super) fn new(view: Arc<View>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (moments_tx, moments) = watch::channel(Arc::default());
        let listeners = Arc::<AtomicUsize>::default();
        let make = make(view, moments_tx, Arc::clone(&listeners));
        (Self { moments, listeners }, make)
    }

    fn listen(&self) -> Result<Listener, ApiError> {
        let listener = Listener(Arc::clone(&self.listeners));
        if self.listeners.fetch_add(1, Ordering::AcqRel) >= LISTENERS_MAX {
            return Err(ApiError::unavailable(format!(
                "{LISTENERS_MAX} clients listen to events already; ask /api/v1/stats instead"
            )));
        }
        Ok(listener)
    }
}

async fn make(view: Arc<View>, moments_tx: watch::Sender<Arc<Moment>>, listeners: Arc<AtomicUsize>) {
    let mut rates = view.rates.clone();
    let mut told = Told::default();
    loop {
        tokio::select! {
            // Just behind the rates, so that they are as new as can be.
            changed = rates.changed() => if changed.is_err() { return },
            () = moments_tx.closed() => return,
        }
        if listeners.load(Ordering::Acquire) == 0 {
            told = Told::default();
            continue;
        }
        let registered = view.registered().await;
        let view = Arc::clone(&view);
        let made = aside(move || {
            let mut told = told;
            let streams = view.table.views();
            let moment = told.moment(&view.stats(&streams), view.sources(streams, &registered));
            (told, moment)
        });
        let Ok((next, moment)) = made.await else { return };
        told = next;
        moments_tx.send_replace(Arc::new(moment));
    }
}

/// What was told last.
#[derive(Default)]
struct Told {
    number: u64,
    sources: HashMap<(u32, String, String, Option<u64>), Source>,
}

impl Told {
    fn moment(&mut self, stats: &Stats, mut sources: Vec<Source>) -> Moment {
        self.number += 1;
        let total = sources.len();
        sources.truncate(SOURCES_MAX);
        let key = |source: &Source| {
            // Connections without an epoch of their own share the rest of the key.
            let session = source.session.filter(|_| is_anonymous(source.epoch));
            (source.source_id, source.kind.clone(), source.station.clone(), session)
        };
        let changed: Vec<&Source> =
            sources.iter().filter(|source| self.sources.get(&key(source)) != Some(source)).collect();
        // Who is gone can only be told by telling who is there.
        let is_same_set = total == self.sources.len()
            && sources.iter().all(|source| self.sources.contains_key(&key(source)));
        let all = event("sources", &json!({ "total": total, "sources": sources }));
        let changes =
            if is_same_set { event("changes", &json!({ "sources": changed })) } else { all.clone() };
        self.sources = sources.into_iter().map(|source| (key(&source), source)).collect();
        Moment { number: self.number, stats: event("stats", stats), all, changes }
    }
}

fn event(name: &str, data: &impl Serialize) -> Bytes {
    // JSON has no line feeds of its own.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// A listener's way through the moments.
struct Way {
    moments: watch::Receiver<Arc<Moment>>,
    seen: Option<u64>,
    pending: Option<Bytes>,
    _listener: Listener,
}

pub(super) async fn stream(extract::State(state): extract::State<Arc<State>>) -> Result<Response, ApiError> {
    let listener = state.events.listen()?;
    let mut moments = state.events.moments.clone();
    moments.borrow_and_update();
    let way = Way { moments, seen: None, pending: None, _listener: listener };
    let events = stream::unfold(way, |mut way| async move {
        let event = way.next().await?;
        Some((Ok::<_, Infallible>(event), way))
    });
    Ok(now("text/event-stream", Body::from_stream(events)))
}

impl Way {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(pending) = self.pending.take() {
            return Some(pending);
        }
        self.moments.changed().await.ok()?;
        let moment = Arc::clone(&self.moments.borrow_and_update());
        let is_next = self.seen.is_some_and(|seen| seen + 1 == moment.number);
        self.pending = Some(if is_next { moment.changes.clone() } else { moment.all.clone() });
        self.seen = Some(moment.number);
        Some(moment.stats.clone())
    }
}
