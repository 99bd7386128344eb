//! Request and response: a message that carries the way to answer it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time;

use super::Address;
use super::core::LaneName;

/// The way to answer one [`Address::call`].
#[derive(Debug)]
#[must_use = "dropping it tells the caller that there is no answer"]
pub struct Reply<R>(oneshot::Sender<R>);

impl<R> Reply<R> {
    /// Answers the caller.
    ///
    /// # Errors
    /// Gives `response` back when the caller has given up.
    pub fn send(self, response: R) -> Result<(), R> {
        self.0.send(response)
    }
}

/// Why a call brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The actor is gone; it may have handled the message or not.
    #[error("the actor is gone")]
    Gone,
    /// The actor dropped the [`Reply`] unanswered.
    #[error("the actor gave no answer")]
    Dropped,
    /// No answer within the time; the actor may handle the message later.
    #[error("no answer in time")]
    Timeout,
}

impl<M> Address<M> {
    /// Sends the message made by `make` in the routine lane and waits for the answer.
    ///
    /// `timeout` covers the wait for room as well, and begins when the caller gets to wait: once other tasks have had
    /// their turn. An answer that was given wins over the actor's end and over the timeout.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// When dropped, the message was sent or not, and the actor's answer fails.
    pub async fn call<R>(&self, timeout: Duration, make: impl FnOnce(Reply<R>) -> M) -> Result<R, CallError> {
        self.call_in(LaneName::Routine, timeout, make).await
    }

    /// Sends in the urgent lane and waits for the answer. Otherwise like [`Address::call`].
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call_urgent<R>(
        &self,
        timeout: Duration,
        make: impl FnOnce(Reply<R>) -> M,
    ) -> Result<R, CallError> {
        self.call_in(LaneName::Urgent, timeout, make).await
    }

    async fn call_in<R>(
        &self,
        lane: LaneName,
        timeout: Duration,
        make: impl FnOnce(Reply<R>) -> M,
    ) -> Result<R, CallError> {
        let (reply_tx, reply_rx) = oneshot::channel();
        let message = make(Reply(reply_tx));
        let answer = async {
            self.send_in(lane, message).await.map_err(|_| CallError::Gone)?;
            reply_rx.await.map_err(|_| self.unanswered())
        };
        let mut answer = pin!(answer);
        let mut expired = pin!(expired(timeout));
        poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Pending => expired.as_mut().poll(cx).map(|()| Err(CallError::Timeout)),
            answered => answered,
        })
        .await
    }

    fn unanswered(&self) -> CallError {
        if self.core.is_abandoned() { CallError::Gone } else { CallError::Dropped }
    }
}

/// Waits for `timeout`.
///
/// A timer, and even a look at the clock, costs much beside a call that is answered soon, and most are: the time begins
/// when the worker has run what was ready and the answer is still not there.
async fn expired(timeout: Duration) {
    yield_now().await;
    time::sleep(timeout).await;
}
