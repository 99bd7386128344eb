//! Starts the commit thread.

use std::any::Any;
use std::io;
use std::sync::Arc;

use super::commit::CommitObserver;
use super::committer::Committer;
use super::published::{Published, Status, Summary};
use super::shared::Shared;
use super::writer::LogWriter;
use crate::storage::StorageError;
use crate::storage::dir::Lock;
use crate::thread::OwnedThread;

/// Name of the commit thread.
pub(crate) const NAME: &str = "archive-commit";

/// The running commit thread.
pub(crate) type CommitThread = OwnedThread<Result<Summary, StorageError>>;

/// Starts the commit thread. `lock` is held until it ends.
pub(crate) fn start(
    log: LogWriter,
    shared: &Arc<Shared>,
    published: &Arc<Published>,
    observer: impl CommitObserver,
    lock: Lock,
) -> io::Result<CommitThread> {
    let (shared, published) = (Arc::clone(shared), Arc::clone(published));
    let end = EndGuard {
        shared: Arc::clone(&shared),
        published: Arc::clone(&published),
        error: Some("the commit thread could not be started".into()),
    };
    let mut committer = Committer::new(shared, published, observer, log);
    committer.publish();
    OwnedThread::spawn(NAME, move || {
        // The directory stays locked until the last byte is written.
        let _lock = lock;
        let mut end = end;
        end.error = Some("the commit thread panicked".into());
        let result = committer.run();
        end.error = result.as_ref().err().map(|error| error.to_string().into());
        result
    })
}

/// Reports the end of the commit thread to all other parts when it is dropped, also after a panic.
struct EndGuard {
    /// Its queue refuses all batches from then on, and maintenance ends.
    shared: Arc<Shared>,
    /// Its status becomes [`Status::Failed`] if there is an error.
    published: Arc<Published>,
    /// Why the thread has ended; `None` if it has ended as ordered. Set in advance to the text for a thread that is not
    /// started, then to the text for one that panics.
    error: Option<Arc<str>>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.shared.queue.liveness().end();
        self.shared.signal.stop();
        let Some(error) = self.error.take() else {
            self.shared.queue.fail("the archive has ended".into());
            return;
        };
        tracing::error!(%error, "archive failed");
        // In this order: once the status says `Failed`, the queue already refuses batches.
        self.shared.queue.fail(Arc::clone(&error));
        self.published.status.send_replace(Status::Failed { error });
    }
}

/// The message of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
