//! Request and response: a message that carries a reply channel.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time;

use super::Address;
use super::core::LaneName;

/// The reply channel of one [`Address::call`].
#[derive(Debug)]
#[must_use = "if it is dropped, the caller gets no answer"]
pub struct Reply<R>(oneshot::Sender<R>);

impl<R> Reply<R> {
    /// Answers the caller.
    ///
    /// # Errors
    /// Returns `response` if the caller has given up.
    pub fn send(self, response: R) -> Result<(), R> {
        self.0.send(response)
    }
}

/// Why a call got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The actor is gone. It may or may not have handled the message.
    #[error("the actor has ended")]
    Gone,
    /// The actor dropped the [`Reply`] without an answer.
    #[error("the actor gave no answer")]
    Dropped,
    /// There was no answer in time. The actor may handle the message later.
    #[error("no answer in time")]
    Timeout,
}

impl<M> Address<M> {
    /// Sends the message that `make` returns in the routine lane, and waits for the answer.
    ///
    /// `timeout` includes the wait for room. It begins when the caller has to wait and other ready tasks have run. An
    /// existing answer takes precedence over the end of the actor and over the timeout.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// If dropped, the message may or may not have been sent. The actor's answer then fails.
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
/// Most calls are answered soon. For them a timer, or even a read of the clock, would be a large part of the cost. So
/// the time begins only when the worker has run all ready tasks and there is still no answer.
async fn expired(timeout: Duration) {
    yield_now().await;
    time::sleep(timeout).await;
}
