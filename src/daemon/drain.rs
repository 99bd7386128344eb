//! The drain: each stage ends after the stage before it, and all stages end within the deadline.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Daemon, Failure};
use actor::Tasks;
use archive::{Archive, ArchiveError, Status, Summary};
use equipment::links::Links;
use ingest::{Router, Totals};
use support::logging::SUMMARY;
use wire::{ErrorCode, WireError};

/// This fraction (1/n) of the deadline is kept for the report and the exit itself.
const MARGIN_DIVISOR: u32 = 10;
/// Most time that is kept.
const MARGIN_MAX: Duration = Duration::from_millis(250);

/// Most sessions that the log names when the drain is cut short.
const STRAGGLERS_MAX: usize = 20;

/// The outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The books at the end.
    pub totals: Totals,
    /// A part failed, or the drain was cut short by a second signal.
    pub failed: bool,
    /// Every task had ended and was joined within the deadline.
    pub complete: bool,
    /// When the process must be gone: `shutdown.deadline` after the drain began.
    pub exit_by: std::time::Instant,
}

impl Outcome {
    /// The exit code: 0 done, 1 failed, 3 accepted frames did not reach the archive before the deadline.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self { failed: true, .. } => 1,
            Self { totals, .. } if totals.undelivered() > 0 => 3,
            _ => 0,
        }
    }
}

/// Takes the daemon down: no new connections, sessions finish, fan-in and processor become empty, the archive
/// syncs.
pub(super) async fn drain(
    daemon: Daemon,
    failure: Option<Failure>,
    stop_at_once: impl Future<Output = ()>,
) -> Outcome {
    let Daemon {
        settings,
        shutdown_tx,
        sources,
        router,
        links,
        archive,
        feed,
        http,
        mut stages,
        handles,
        ..
    } = daemon;
    let time = settings.live().current().shutdown.deadline;
    let exit_by = Instant::now() + time;
    let deadline = exit_by - margin(time);
    let is_flowing = failure.as_ref().is_none_or(|failure| failure.is_flowing);
    tracing::info!(target: SUMMARY, deadline = ?time, "draining");
    shutdown_tx.send_replace(true);
    feed.begin_drain();
    let books = Arc::clone(&handles.books);
    drop(handles);

    let mut ended = Ended { archive_status: archive.status(), archive: None };
    let stages_end = async {
        settle_links(&links, &mut ended.archive_status, is_flowing).await;
        settle_sessions(&router, &mut ended.archive_status, is_flowing).await;
        // The router reports to the fan-in that no session is left that could push. A router that failed has not done so.
        sources.finish();
        join_stages(&mut stages, &mut ended.archive_status).await;
        let finished = finish(archive).await;
        let head = finished.as_ref().ok().map(|summary| summary.next_offset);
        ended.archive = Some(finished.map(|_| ()));
        feed.finish(head, deadline).await;
    };
    let cut_short = tokio::select! {
        in_time = timeout_at(deadline, stages_end) => in_time.is_err().then_some("the deadline has passed"),
        () = stop_at_once => Some("stopped at once by a second signal"),
    };
    if let Some(why) = cut_short {
        // Stages that have ended and are not joined yet are no stragglers.
        while let Ok(Some(_)) = timeout(Duration::ZERO, stages.join_next()).await {}
        name_stragglers(why, &router, &stages.names()).await;
    }
    // Up to here, HTTP reports that the daemon drains, and how far it has come.
    http.finish().await;
    let archived = matches!(ended.archive, Some(Ok(())));
    let archive_failed = matches!(*ended.archive_status.borrow(), Status::Failed { .. });
    let stopped_at_once = cut_short.is_some_and(|why| why.starts_with("stopped"));
    let outcome = Outcome {
        totals: books.totals(),
        failed: failure.is_some()
            || stopped_at_once
            || archive_failed
            || matches!(ended.archive, Some(Err(_))),
        complete: cut_short.is_none() && archived,
        exit_by: exit_by.into_std(),
    };
    report(&outcome);
    outcome
}

/// What is known of the end of the archive, even if the drain is cut short.
struct Ended {
    /// Tells when the archive has failed, after which nothing becomes durable any more.
    archive_status: watch::Receiver<Status>,
    /// How the archive ended; `None` until then.
    archive: Option<Result<(), ArchiveError>>,
}

/// Waits until every link has read what its socket holds: until then, links may open streams. When their frames can
/// never become durable, nothing is waited for.
async fn settle_links(links: &Links, status: &mut watch::Receiver<Status>, is_flowing: bool) {
    if !is_flowing {
        return;
    }
    tokio::select! {
        // Links that have ended already cannot answer.
        _ = links.drain(Duration::MAX) => {}
        _ = status.wait_for(|status| matches!(status, Status::Failed { .. })) => {}
    }
}

/// Waits until every session has ended. When their frames can never become durable, orders the sessions to
/// end.
async fn settle_sessions(router: &Router, status: &mut watch::Receiver<Status>, is_flowing: bool) {
    let storage_failed =
        || WireError::new(ErrorCode::StorageFailed, "the daemon has failed and ends: resume when it is back");
    if !is_flowing {
        router.stop_all(storage_failed()).await;
    }
    // The router answers when the last session is gone. A router that is gone has no sessions.
    let drained = router.drain(Duration::MAX);
    tokio::pin!(drained);
    tokio::select! {
        _ = &mut drained => return,
        _ = status.wait_for(|status| matches!(status, Status::Failed { .. })) => {}
    }
    router.stop_all(storage_failed()).await;
    let _ = drained.await;
}

/// Waits until the stages have ended. A processor whose archive has failed waits for room that never comes.
async fn join_stages(stages: &mut Tasks, status: &mut watch::Receiver<Status>) {
    tokio::select! {
        () = async { while stages.join_next().await.is_some() {} } => return,
        _ = status.wait_for(|status| matches!(status, Status::Failed { .. })) => {}
    }
    stages.abort_all();
    while stages.join_next().await.is_some() {}
}

async fn finish(archive: Archive) -> Result<Summary, ArchiveError> {
    let finished = archive.finish().await;
    match &finished {
        Ok(summary) => {
            tracing::info!(target: SUMMARY, next_offset = summary.next_offset, frames = summary.frames, "archive closed")
        }
        Err(error) => tracing::error!(target: SUMMARY, %error, "the archive was closed with an error"),
    }
    finished
}

async fn name_stragglers(why: &str, router: &Router, stages: &[Arc<str>]) {
    let sessions = tokio::time::timeout(Duration::from_millis(100), router.names()).await;
    let mut sessions = sessions.ok().and_then(Result::ok).unwrap_or_default();
    let others = sessions.split_off(sessions.len().min(STRAGGLERS_MAX)).len();
    let (sessions, stages) = (sessions.join(", "), stages.join(", "));
    tracing::error!(
        target: SUMMARY, sessions, others, stages,
        "drain cut short: {why}; these sessions and stages had not ended"
    );
}

fn report(outcome: &Outcome) {
    let Totals { received, archived, duplicates, rejected, not_stored, .. } = outcome.totals;
    let undelivered = outcome.totals.undelivered();
    // Logged only if there are any.
    let not_stored = (not_stored > 0).then_some(not_stored);
    if undelivered == 0 {
        tracing::info!(target: SUMMARY, received, archived, duplicates, rejected, undelivered, not_stored, "drained");
    } else {
        // The senders have no acknowledgement for these frames, and send them again.
        tracing::error!(target: SUMMARY, received, archived, duplicates, rejected, undelivered, not_stored, "drained");
    }
}

/// How long before the deadline the drain is cut short, so that there is time left to log why and to exit.
fn margin(deadline: Duration) -> Duration {
    (deadline / MARGIN_DIVISOR).min(MARGIN_MAX)
}
