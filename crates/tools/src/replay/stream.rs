//! One stream of a replay: its connections, one after the other, until its frames are durable.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::sender::{Books, Order, ReplaySender};
use client::{self, BACKOFF_MAX, Backoff, Conversation, End, Refusal, SourceError};
use frame::StreamKey;
use wire::{ErrorCode, Hello, HelloFlags};

/// Runs the connections of one stream; see the module.
pub(super) struct Stream {
    shared: Arc<Shared>,
    stream: StreamKey,
    sender: ReplaySender,
    backoff: Backoff,
    was_welcome: bool,
    trouble: String,
}

/// How a stream ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) stream: StreamKey,
    pub(super) books: Books,
    /// Why it ended before its last frame.
    pub(super) error: Option<SourceError>,
    /// The last trouble of its connections.
    pub(super) trouble: String,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, stream: StreamKey, orders: mpsc::Receiver<Order>) -> Self {
        Self {
            sender: ReplaySender::new(Arc::clone(&shared), orders),
            shared,
            stream,
            backoff: Backoff::new(BACKOFF_MAX),
            was_welcome: false,
            trouble: String::new(),
        }
    }

    /// Runs the stream until its orders end.
    pub(super) async fn run(mut self) -> Ended {
        let error = self.play().await.err();
        self.sender.take_back();
        if let Some(error) = &error {
            tracing::debug!(stream = %self.stream, %error, "the stream is refused");
            self.shared.progress.connections.set_trouble(&format!("{}: {error}", self.stream));
            if is_for_all(error) {
                // The same error would end every other stream.
                self.shared.control.stop();
            }
        }
        self.sender.discard().await;
        Ended { stream: self.stream, books: self.sender.books, error, trouble: self.trouble }
    }

    async fn play(&mut self) -> Result<(), SourceError> {
        while self.sender.wanted().await {
            self.connections().await?;
        }
        match self.sender.behind() {
            Some(epoch) => {
                let text = format!(
                    "the daemon is in epoch {epoch} of this stream, which is above those of a replay of this \
                     range with --epoch {}: another replay came in between, so replay the range as a new replay, \
                     without --epoch",
                    self.shared.epoch
                );
                Err(SourceError::Refused { code: ErrorCode::Fenced as u16, detail: epoch, text })
            }
            None => Ok(()),
        }
    }

    /// Connects until all kept frames are durable, or until the stream gives up.
    async fn connections(&mut self) -> Result<(), SourceError> {
        loop {
            let retry_after = match self.connection().await {
                Ok(End::Complete) => {
                    self.trouble.clear();
                    self.sender.go_on();
                    return Ok(());
                }
                Ok(End::Lost { trouble, retry_after }) => {
                    tracing::debug!(stream = %self.stream, %trouble, ?retry_after, "connection lost");
                    self.shared.progress.connections.set_trouble(&trouble);
                    self.trouble = trouble;
                    retry_after
                }
                Err(error) => return self.catch_up(error),
            };
            if self.sender.kept() == 0 || self.sender.has_given_up(Instant::now()) {
                return Ok(());
            }
            let wait = sleep(self.backoff.next(retry_after));
            tokio::select! {
                () = wait => {}
                () = self.sender.given_up() => return Ok(()),
            }
        }
    }

    /// Runs one connection: waits for a slot, connects, sends until the connection ends.
    async fn connection(&mut self) -> Result<End, SourceError> {
        let shared = Arc::clone(&self.shared);
        let hello = self.hello();
        let opening = async {
            let slot = shared.slots.acquire().await;
            (slot, client::open(&shared.connect, shared.tls.as_ref(), &hello).await)
        };
        let (_slot, opened) = tokio::select! {
            opened = opening => opened,
            () = self.sender.given_up() => return Ok(End::lost(self.trouble.clone())),
        };
        let (socket, welcome, incoming) = match opened {
            Ok(opened) => opened,
            Err(Refusal::Lost(end)) => return Ok(end),
            Err(Refusal::Final(error)) => return Err(error),
        };
        if std::mem::replace(&mut self.was_welcome, true) && !self.trouble.is_empty() {
            shared.progress.reconnects.fetch_add(1, Relaxed);
        }
        let began = Instant::now();
        let _connected = shared.progress.connections.add();
        let mut conversation = Conversation::new(&mut self.sender, &welcome, began)?;
        let ended = client::converse(socket, incoming, &mut conversation).await;
        if conversation.made_progress() || began.elapsed() >= BACKOFF_MAX {
            self.backoff.reset();
        }
        ended
    }

    /// Handles `fenced` in a continued run: the earlier run may have reached a later epoch of the stream.
    fn catch_up(&mut self, error: SourceError) -> Result<(), SourceError> {
        match error {
            SourceError::Refused { code, detail, .. }
                if code == ErrorCode::Fenced as u16
                    && self.shared.goes_on
                    && self.sender.is_fresh(detail) =>
            {
                self.sender.catch_up(detail);
                Ok(())
            }
            other => Err(other),
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            flags: if self.shared.shared_sequence {
                HelloFlags::SHARED_SEQUENCE
            } else {
                HelloFlags::default()
            },
            token: self.shared.token.clone(),
            ..Hello::new(self.stream.clone(), self.sender.epoch())
        }
    }
}

/// Whether the error concerns every stream: the credential or the version.
fn is_for_all(error: &SourceError) -> bool {
    let for_all = [ErrorCode::Unauthorized as u16, ErrorCode::Version as u16];
    matches!(error, SourceError::Refused { code, .. } if for_all.contains(code))
}
