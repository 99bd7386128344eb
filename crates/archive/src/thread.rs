//! Threads whose end can be awaited.

use std::io;
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

/// A running thread.
pub(crate) struct OwnedThread<T> {
    /// Fails when the thread drops the sender: nothing is ever sent.
    ended_rx: oneshot::Receiver<()>,
    /// The handle that [`Self::join`] joins.
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> OwnedThread<T> {
    /// Starts a thread.
    pub(crate) fn spawn(name: &str, run: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (ended_tx, ended_rx) = oneshot::channel::<()>();
        let thread = Builder::new().name(name.into()).spawn(move || {
            let _ended_tx = ended_tx;
            run()
        })?;
        Ok(Self { ended_rx, thread })
    }

    /// Waits until the thread has ended. Cancel safe; must not be called after it has returned.
    pub(crate) async fn ended(&mut self) {
        // The sender is never used: its drop is the signal.
        _ = (&mut self.ended_rx).await;
    }

    /// The result of the thread, or its panic. Blocks until the thread has ended.
    pub(crate) fn join(self) -> std::thread::Result<T> {
        self.thread.join()
    }
}
