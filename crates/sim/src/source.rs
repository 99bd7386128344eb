//! One source: its connections one after the other, until its feed is over and acknowledged.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::catalogs::{Assembly, CatalogWish};
use super::pace::{Feed, Schedule};
use super::resend_buffer::{Mode, ResendBuffer};
use super::script::SourceScript;
use client::{self, BACKOFF_MAX, Backoff, Conversation, End, Refusal, SourceError, Trouble};
use frame::{SourceKind, StreamKey};
use wire::{Hello, HelloFlags};

/// One source; see the module.
pub(super) struct Source {
    shared: Arc<Shared>,
    stream: StreamKey,
    script: SourceScript,
    backoff: Backoff,
    was_welcome: bool,
    trouble: Trouble,
    /// The feed ended while there was no connection.
    was_cut_off: bool,
}

impl Source {
    /// Source number `index` of the run.
    pub(super) fn new(shared: Arc<Shared>, index: u32, stop: watch::Receiver<bool>) -> Self {
        let plan = &shared.plan;
        let until = plan.duration.and_then(|duration| shared.started.checked_add(duration));
        let stream = plan.stream(index);
        let is_live = stream.source_kind == SourceKind::LiveUplink;
        Self {
            script: SourceScript {
                resend: ResendBuffer::new(plan.content(index), plan.frames_per_source(), shared.mode()),
                schedule: Schedule::new(shared.started + plan.phase(index), plan.rate),
                feed: Feed::new(stop, until, plan.linger),
                sent: 0,
                catalog: Assembly::default(),
                ert_base_ns: is_live.then_some(shared.started_unix_ns),
                shared: Arc::clone(&shared),
            },
            stream,
            backoff: Backoff::new(BACKOFF_MAX),
            was_welcome: false,
            trouble: Trouble::default(),
            was_cut_off: false,
            shared,
        }
    }

    /// Runs the source to its end.
    ///
    /// # Errors
    /// Why the source ended with unacknowledged frames; the name of the stream comes first.
    pub(super) async fn run(mut self) -> Result<(), String> {
        let ended = self.connections().await;
        self.shared.progress.add_finished();
        ended.map_err(|error| format!("{}: {error}", self.stream))
    }

    async fn connections(&mut self) -> Result<(), SourceError> {
        loop {
            let retry_after = match self.connection().await? {
                End::Complete => return self.conclude(),
                End::Lost { trouble, retry_after } => {
                    tracing::debug!(stream = %self.stream, %trouble, ?retry_after, "connection lost");
                    self.shared.progress.connections.set_trouble(&trouble);
                    self.trouble.note(trouble);
                    retry_after
                }
            };
            if self.is_hopeless() {
                return self.conclude();
            }
            let wait = sleep(self.backoff.next(retry_after));
            let was_over = self.script.feed.is_over();
            let given_up = tokio::select! {
                () = wait => false,
                () = self.script.feed.given_up(self.script.resend.unacked() == 0) => true,
            };
            self.was_cut_off |= !was_over && self.script.feed.is_over();
            if given_up {
                return self.conclude();
            }
        }
    }

    /// Whether another connection is useless: the time is up, or what is missing can never be known.
    fn is_hopeless(&self) -> bool {
        let is_unknowable = self.script.resend.mode() == Mode::Unacked && self.script.feed.is_over();
        is_unknowable || self.script.feed.gives_up_at().is_some_and(|at| at <= Instant::now())
    }

    /// Checks the books at the end.
    fn conclude(&mut self) -> Result<(), SourceError> {
        let trouble = self.trouble.to_string();
        let (sent, due) = (self.script.sent, self.script.due());
        match self.script.resend.unacked() {
            _ if !self.was_welcome => Err(SourceError::NeverConnected { trouble }),
            0 if self.was_cut_off && sent < due => Err(SourceError::ShutOut { sent, due, trouble }),
            0 => Ok(()),
            missing => Err(SourceError::Missing { missing, trouble }),
        }
    }

    /// Runs one connection from connect to its end.
    async fn connection(&mut self) -> Result<End, SourceError> {
        let hello = self.hello();
        let address = &self.shared.plan.connect;
        let began = Instant::now();
        let mut hanging = "no connection to";
        let opening = async {
            let socket = client::connect(address, self.shared.plan.tls.as_ref()).await?;
            hanging = "no answer to HELLO from";
            client::greet(socket, &hello).await
        };
        let was_over = self.script.feed.is_over();
        let opened = tokio::select! {
            opened = opening => Some(opened),
            () = self.script.feed.given_up(self.script.resend.unacked() == 0) => None,
        };
        self.was_cut_off |= !was_over && self.script.feed.is_over();
        let Some(opened) = opened else {
            let waited = began.elapsed();
            // An attempt that was cut short says less than the one before.
            let before = self.trouble.newest().filter(|_| waited < BACKOFF_MAX);
            return Ok(End::lost(
                before.map_or_else(|| format!("{hanging} {address} for {waited:.1?}"), str::to_owned),
            ));
        };
        let (socket, welcome, incoming) = match opened {
            Ok(opened) => opened,
            Err(Refusal::Lost(end)) => return Ok(end),
            Err(Refusal::Final(error)) => return Err(error),
        };
        if std::mem::replace(&mut self.was_welcome, true) {
            self.shared.progress.add_reconnect();
        }
        let began = Instant::now();
        let shared = Arc::clone(&self.shared);
        let _connected = shared.progress.connections.add();
        let mut conversation = Conversation::new(&mut self.script, &welcome, began)?;
        let ended = client::converse(socket, incoming, &mut conversation).await;
        if conversation.made_progress() || began.elapsed() >= BACKOFF_MAX {
            self.backoff.reset();
        }
        ended
    }

    fn hello(&self) -> Hello {
        // Both lanes of the resend buffer take their sequences from one counter.
        let mut flags = match self.script.resend.mode() {
            Mode::Acked => HelloFlags::SHARED_SEQUENCE,
            Mode::Unacked => HelloFlags::SHARED_SEQUENCE.and(HelloFlags::NO_ACK),
        };
        if self.shared.plan.catalog != CatalogWish::No {
            flags = flags.and(HelloFlags::WANT_CATALOG);
        }
        if self.shared.plan.zstd {
            flags = flags.and(HelloFlags::ZSTD);
        }
        let token = self.shared.plan.token.clone();
        Hello { flags, token, ..Hello::new(self.stream.clone(), self.shared.epoch) }
    }
}
