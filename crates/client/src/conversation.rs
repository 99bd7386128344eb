//! One connection after WELCOME, as decisions without I/O: what to write, what a message means, when to wake
//! up.

use std::cell::RefCell;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::Script;
use super::error::{SourceError, code_name};
use wire::packed::Packer;
use wire::{Bye, ClientMessage, ErrorMessage, ServerMessage, Welcome, WireError};

/// A draining server may take this much longer than announced. Then the client gives the connection up.
const GOAWAY_GRACE: Duration = Duration::from_secs(1);
/// After this many silent heartbeats the client takes the server for dead.
const SILENT_HEARTBEATS_MAX: u32 = 3;

/// The level of zstd: its own default. A higher one takes much more time for little less.
const ZSTD_LEVEL: i32 = 3;

/// How a connection ended, if no error ended the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides said BYE and nothing is missing.
    Complete,
    /// Another connection may help, but not before `retry_after`.
    Lost {
        /// Text for people.
        trouble: String,
        /// The wait that the server asked for.
        retry_after: Duration,
    },
}

impl End {
    /// The connection broke, or was never open. The next attempt may follow at once.
    pub fn lost(trouble: impl Into<String>) -> Self {
        Self::Lost { trouble: trouble.into(), retry_after: Duration::ZERO }
    }

    /// The server sent ERROR.
    ///
    /// # Errors
    /// When the error is not retryable.
    pub(super) fn refused(error: ErrorMessage) -> Result<Self, SourceError> {
        if !error.retryable {
            return Err(SourceError::Refused { code: error.code, detail: error.detail, text: error.text });
        }
        Ok(Self::Lost {
            trouble: format!("{}: {}", code_name(error.code), error.text),
            retry_after: error.retry_after,
        })
    }
}

/// One connection after WELCOME; see the module.
pub struct Conversation<'a, S> {
    script: &'a mut S,
    silence: Silence,
    /// HELLO asked for ZSTD and WELCOME granted it: what the script sends is compressed.
    packs: bool,
    max_message_bytes: u32,
    pong: Option<u64>,
    said_bye: bool,
    drained_at: Option<Instant>,
    made_progress: bool,
}

impl<'a, S: Script> Conversation<'a, S> {
    /// Starts after `welcome`.
    ///
    /// # Errors
    /// The error of [`Script::welcome`].
    pub fn new(script: &'a mut S, welcome: &Welcome, now: Instant) -> Result<Self, SourceError> {
        script.welcome(welcome)?;
        let heartbeat = Duration::from_secs(u64::from(welcome.heartbeat_s.max(1)));
        Ok(Self {
            script,
            silence: Silence::new(heartbeat, now),
            packs: welcome.takes_zstd.unwrap_or(false),
            max_message_bytes: welcome.max_message_bytes,
            pong: None,
            said_bye: false,
            drained_at: None,
            made_progress: false,
        })
    }

    /// The script of the connection.
    pub(super) fn script(&mut self) -> &mut S {
        self.script
    }

    /// Longest body the server may send.
    pub(super) fn max_message_bytes(&self) -> usize {
        self.max_message_bytes as usize
    }

    /// Whether frames became durable on this connection.
    pub fn made_progress(&self) -> bool {
        self.made_progress
    }

    /// Adds the next bytes to the empty `out`: answers, then frames, then BYE when no frames are left.
    ///
    /// # Errors
    /// The error of [`Script::fill`].
    pub(super) fn fill(&mut self, out: &mut BytesMut, now: Instant) -> Result<(), SourceError> {
        if let Some(nonce) = self.pong.take() {
            ClientMessage::Pong(nonce).encode(out);
        }
        if !self.said_bye && self.drained_at.is_none() {
            let begin = out.len();
            self.script.fill(out, now)?;
            if self.packs {
                pack(out, begin, self.max_message_bytes as usize);
            }
        }
        if !self.said_bye
            && let Some(bye) = self.script.bye()
        {
            bye.encode(out);
            self.said_bye = true;
        }
        if !out.is_empty() {
            self.silence.write_began(now);
        }
        Ok(())
    }

    /// Notes that the socket took bytes; `out_is_empty` says whether it took all.
    pub(super) fn wrote(&mut self, out_is_empty: bool, now: Instant) {
        self.silence.write_moved(out_is_empty, now);
    }

    /// Notes that bytes came in.
    pub(super) fn heard(&mut self, now: Instant) {
        self.silence.heard(now);
    }

    /// Handles one message. `Some` ends the connection.
    ///
    /// # Errors
    /// The error that ends the source.
    pub(super) fn receive(
        &mut self,
        message: ServerMessage,
        now: Instant,
    ) -> Result<Option<End>, SourceError> {
        match message {
            ServerMessage::Ack(ack) => self.made_progress |= self.script.acknowledge(&ack, now)?,
            ServerMessage::Ping(nonce) => self.pong = Some(nonce),
            ServerMessage::Bye(bye) => return self.finish(bye, now).map(Some),
            ServerMessage::GoAway(goaway) => self.drained_at = Some(now + goaway.deadline + GOAWAY_GRACE),
            ServerMessage::Error(error) => return End::refused(error).map(Some),
            ServerMessage::Welcome(_) => {
                return Err(WireError::protocol("a second WELCOME").into());
            }
            ServerMessage::Catalog(part) => self.script.catalog(&part),
            ServerMessage::Pong(_) | ServerMessage::Ignored(_) => {}
        }
        Ok(None)
    }

    fn finish(&mut self, bye: Bye, now: Instant) -> Result<End, SourceError> {
        self.made_progress |= self.script.finish(bye, now)?;
        if self.said_bye && self.script.is_settled() {
            return Ok(End::Complete);
        }
        Ok(End::lost("the server said BYE before everything was durable"))
    }

    /// When [`Conversation::wake`] is due; `out_is_empty` says whether no write is pending.
    pub(super) fn wake_at(&self, out_is_empty: bool, now: Instant) -> Option<Instant> {
        let may_send = out_is_empty && self.drained_at.is_none();
        let next_frame = may_send.then(|| self.script.next_due(now)).flatten();
        let times = [next_frame, self.silence.due_at(), self.drained_at, self.script.gives_up_at()];
        times.into_iter().flatten().min()
    }

    /// Acts on time: adds a PING to `out`, or ends a dead or hopeless connection.
    pub(super) fn wake(&mut self, out: &mut BytesMut, now: Instant) -> Option<End> {
        if self.script.gives_up_at().is_some_and(|at| at <= now) {
            return Some(End::lost("the time to linger is over"));
        }
        if self.drained_at.is_some_and(|at| at <= now) {
            return Some(End::lost("the server did not finish draining in time"));
        }
        if self.silence.due_at().is_some_and(|at| at <= now) {
            if self.silence.is_last() {
                return Some(End::lost(format!(
                    "nothing received for {:?}",
                    self.silence.heartbeat * SILENT_HEARTBEATS_MAX
                )));
            }
            self.silence.pings += 1;
            ClientMessage::Ping(u64::from(self.silence.pings)).encode(out);
            self.silence.write_began(now);
        }
        None
    }
}

/// A packer, and the messages that it packs.
struct Packing {
    packer: Packer,
    packed: BytesMut,
}

thread_local! {
    /// The packer of this thread: one takes 1 MiB, and there may be many connections. `None` without memory for it.
    static PACKING: RefCell<Option<Packing>> = RefCell::new(
        Packer::new(ZSTD_LEVEL).ok().map(|packer| Packing { packer, packed: BytesMut::new() })
    );
}

/// Compresses the messages in `out` from `begin` on, if that makes them smaller and they fit one message.
fn pack(out: &mut BytesMut, begin: usize, raw_bytes_max: usize) {
    PACKING.with_borrow_mut(|packing| {
        let Some(Packing { packer, packed }) = packing else { return };
        let raw = &out[begin..];
        packed.clear();
        if !raw.is_empty()
            && raw.len() <= raw_bytes_max
            && packer.pack(raw, packed).is_ok()
            && packed.len() < raw.len()
        {
            out.truncate(begin);
            out.extend_from_slice(packed);
        }
    });
}

/// How long the server has been silent. The clock stops while a write is pending.
#[derive(Debug)]
struct Silence {
    heartbeat: Duration,
    heard_at: Instant,
    /// PINGs sent since `heard_at`.
    pings: u32,
    writing_since: Option<Instant>,
}

impl Silence {
    fn new(heartbeat: Duration, now: Instant) -> Self {
        Self { heartbeat, heard_at: now, pings: 0, writing_since: None }
    }

    fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.pings = 0;
        if let Some(since) = &mut self.writing_since {
            *since = now;
        }
    }

    fn write_began(&mut self, now: Instant) {
        self.writing_since.get_or_insert(now);
    }

    fn write_moved(&mut self, done: bool, now: Instant) {
        if let Some(since) = self.writing_since.take() {
            self.heard_at += now.saturating_duration_since(since);
        }
        if !done {
            self.writing_since = Some(now);
        }
    }

    /// When the next silent heartbeat ends; `None` while a write is pending.
    fn due_at(&self) -> Option<Instant> {
        self.writing_since.is_none().then(|| self.heard_at + self.heartbeat * (self.pings + 1))
    }

    /// Whether the next silent heartbeat reaches the limit.
    fn is_last(&self) -> bool {
        self.pings + 1 >= SILENT_HEARTBEATS_MAX
    }
}

#[cfg(test)]
mod tests;
