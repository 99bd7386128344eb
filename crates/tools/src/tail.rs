//! A feed subscriber: the client side of protocol.md, "Feed connections".
//!
//! [`Client`] connects, reconnects and resumes, and returns [`Event`]s. It prints nothing. The command `tail` prints
//! the events. Benches and tests use the client as well.
//!
//! * `link` is one connection: bytes, heartbeats, answers to PING.
//!
//! The position is the resume token: log id and next offset, taken from DELIVER, GAP and PROGRESS. It survives a crash
//! of the daemon, because only durable frames are delivered.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use client::Backoff;
use wire::{Deliver, ErrorCode, ErrorMessage, FeedMessage, Gap, Start, Subscribe, Subscribed, WireError};

mod link;
#[cfg(test)]
mod tests;

use link::{Ended, Link};

/// After a connection that lived this long or delivered anything, the next pause is short.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// Longest pause before a reconnect, unless the daemon asks for more.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The position of a subscriber, from which it resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The log that offsets belong to.
    pub log_id: u64,
    /// Every frame below was delivered, filtered out or named in a GAP.
    pub next_offset: u64,
}

/// An event of a subscription.
#[derive(Clone, Debug)]
pub enum Event {
    /// A connection is up. It is the first one or it resumes.
    Subscribed(Subscribed),
    /// A live subscription found another log when it reconnected. It continues with the newest frames of that log.
    LogChanged {
        /// The log that it followed before.
        from: u64,
        /// The SUBSCRIBED of the other log.
        to: Subscribed,
    },
    /// A durable frame.
    Frame(Deliver),
    /// Offsets that are not delivered.
    Gap(Gap),
    /// The connection is lost or could not be opened. The next attempt follows after `pause`.
    Lost {
        /// The reason, for people.
        trouble: String,
        /// Time until the next attempt.
        pause: Duration,
    },
}

/// Why a subscription ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// The daemon sent ERROR and marked it as not retryable.
    #[error("the daemon refused: {}: {text}", code_name(*code))]
    Refused {
        /// The code on the wire, see [`ErrorCode`].
        code: u16,
        /// A number whose meaning depends on the code.
        detail: u64,
        /// For people.
        text: String,
    },
    /// The peer violates the protocol.
    #[error("the daemon breaks the protocol: {0}")]
    Peer(#[from] WireError),
    /// The daemon serves another log, in which the known offsets have no meaning.
    #[error("the daemon serves log {found}, and the offset belongs to log {expected} of another archive")]
    LogChanged {
        /// The log that the client followed.
        expected: u64,
        /// The log that the daemon serves.
        found: u64,
    },
    /// There was no connection for longer than the limit.
    #[error("gave up after {after:?} without a connection: {trouble}")]
    GaveUp {
        /// The limit.
        after: Duration,
        /// The last failure.
        trouble: String,
    },
}

/// Where to subscribe, and to what.
#[derive(Clone, Debug)]
pub struct Target {
    /// The feed listener, `HOST:PORT`.
    pub address: String,
    /// TLS of the connections, if they are encrypted.
    pub tls: Option<tls::Client>,
    /// What to subscribe to, and where to start at first.
    pub subscribe: Subscribe,
    /// How long to try without a connection. The silence before the client gave up a connection counts. `None`:
    /// forever.
    pub retry_for: Option<Duration>,
}

/// A subscription that outlives its connections; see the module.
#[derive(Debug)]
pub struct Client {
    target: Target,
    position: Option<Position>,
    link: Option<Link>,
    backoff: Backoff,
    /// When the next connection may be tried.
    attempt_at: Instant,
    /// Since when there is no connection.
    without_since: Instant,
}

impl Client {
    /// Creates a subscription. [`Client::next`] connects it.
    #[must_use]
    pub fn new(target: Target) -> Self {
        let now = Instant::now();
        let position = match target.subscribe.start {
            Start::Offset { offset, log_id } if log_id != 0 => Some(Position { log_id, next_offset: offset }),
            _ => None,
        };
        Self {
            target,
            position,
            link: None,
            backoff: Backoff::new(PAUSE_MAX),
            attempt_at: now,
            without_since: now,
        }
    }

    /// The position from which it would resume. `None` before the first SUBSCRIBED, unless the caller gave both log and
    /// offset.
    ///
    /// It is behind all returned events. PROGRESS moves it without an event.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// Waits for the next event. Meanwhile it connects, reconnects and answers the daemon.
    ///
    /// # Errors
    /// [`TailError`]. There are no events after it.
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost. An attempt to connect starts again at the next call.
    pub async fn next(&mut self) -> Result<Event, TailError> {
        loop {
            let Some(link) = &mut self.link else {
                sleep_until(self.attempt_at).await;
                return self.open().await;
            };
            let event = match link.next().await {
                Ok(message) => self.take(message)?,
                Err(ended) => Some(self.end(ended)?),
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// The next event in the bytes that were already read. `None` if [`Client::next`] would have to wait.
    ///
    /// # Errors
    /// As [`Client::next`].
    pub fn at_hand(&mut self) -> Result<Option<Event>, TailError> {
        while let Some(link) = &mut self.link {
            let event = match link.at_hand() {
                Ok(None) => return Ok(None),
                Ok(Some(message)) => self.take(message)?,
                Err(ended) => Some(self.end(ended)?),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Keeps the connection alive while the caller cannot take events. It reads nothing, so the daemon waits.
    ///
    /// # Cancel safety
    /// Cancel safe. It never returns.
    pub async fn hold(&mut self) -> Infallible {
        if let Some(link) = &mut self.link {
            // The lost connection is reported by the next read, after all data that came before.
            let ended = link.hold().await;
            tracing::debug!(reason = %ended, "connection lost while frames are not read");
        }
        std::future::pending().await
    }

    /// Makes one attempt to connect.
    async fn open(&mut self) -> Result<Event, TailError> {
        let subscribe = self.resumed(self.start());
        let error = match self.attempt(&subscribe).await {
            Ok((link, subscribed)) => return self.subscribed(link, subscribed),
            Err(error) => error,
        };
        match (&error, self.position) {
            (Ended::Refused(refusal), Some(position)) if refusal.code == ErrorCode::Protocol as u16 => {
                self.open_elsewhere(position, error).await
            }
            _ => self.end(error),
        }
    }

    /// Handles a refused offset. It connects to the newest frames, because only SUBSCRIBED names the log.
    async fn open_elsewhere(&mut self, position: Position, refused: Ended) -> Result<Event, TailError> {
        let (link, found) = match self.attempt(&self.resumed(Start::Live)).await {
            Ok(opened) => opened,
            Err(error) => return self.end(error),
        };
        if found.log_id == position.log_id {
            return self.end(refused);
        }
        if self.target.subscribe.start != Start::Live {
            return Err(TailError::LogChanged { expected: position.log_id, found: found.log_id });
        }
        self.position = None;
        self.subscribed(link, found)?;
        Ok(Event::LogChanged { from: position.log_id, to: found })
    }

    /// Opens a connection within the remaining time.
    async fn attempt(&self, subscribe: &Subscribe) -> Result<(Link, Subscribed), Ended> {
        let address = &self.target.address;
        let opening = Link::open(address, self.target.tls.as_ref(), subscribe);
        match self.target.retry_for.and_then(|limit| self.without_since.checked_add(limit)) {
            None => opening.await,
            Some(at) => match timeout_at(at, opening).await {
                Ok(opened) => opened,
                Err(_) => Err(Ended::Lost(format!("no answer from {address}"))),
            },
        }
    }

    /// The start of the next connection.
    fn start(&self) -> Start {
        self.position.map_or(self.target.subscribe.start, |position| Start::Offset {
            offset: position.next_offset,
            log_id: position.log_id,
        })
    }

    fn resumed(&self, start: Start) -> Subscribe {
        Subscribe { start, ..self.target.subscribe.clone() }
    }

    fn subscribed(&mut self, link: Link, subscribed: Subscribed) -> Result<Event, TailError> {
        let Subscribed { log_id, start_offset, .. } = subscribed;
        let position = self.position.unwrap_or(Position { log_id, next_offset: start_offset });
        if position.log_id != log_id {
            return Err(TailError::LogChanged { expected: position.log_id, found: log_id });
        }
        self.position = Some(position);
        self.link = Some(link);
        Ok(Event::Subscribed(subscribed))
    }

    /// Processes one message of the open connection.
    fn take(&mut self, message: FeedMessage) -> Result<Option<Event>, TailError> {
        let (Some(position), Some(link)) = (&mut self.position, &mut self.link) else {
            return Ok(None);
        };
        let next = &mut position.next_offset;
        match message {
            FeedMessage::Deliver(deliver) => {
                if deliver.offset < *next {
                    let text = format!(
                        "offset {} is delivered, but offsets below {next} were delivered \
                                        before",
                        deliver.offset
                    );
                    return Err(WireError::protocol(text).into());
                }
                *next = deliver.offset.saturating_add(1);
                self.backoff.reset();
                Ok(Some(Event::Frame(deliver)))
            }
            FeedMessage::Gap(gap) => {
                *next = gap.offsets.end.max(*next);
                Ok(Some(Event::Gap(gap)))
            }
            FeedMessage::Progress(offset) => {
                *next = offset.max(*next);
                Ok(None)
            }
            FeedMessage::Ping(nonce) => {
                link.answer(nonce);
                Ok(None)
            }
            FeedMessage::Error(error) => self.end(Ended::Refused(error)).map(Some),
            FeedMessage::Subscribed(_) => Err(WireError::protocol("a second SUBSCRIBED").into()),
            FeedMessage::Pong(_) | FeedMessage::Ignored(_) => Ok(None),
        }
    }

    /// Handles the end of a connection or of an attempt: retries, or ends the subscription.
    fn end(&mut self, ended: Ended) -> Result<Event, TailError> {
        let trouble = ended.to_string();
        let mut silent = Duration::ZERO;
        let retry_after = match ended {
            Ended::Refused(ErrorMessage { retryable: false, code, detail, text, .. }) => {
                return Err(TailError::Refused { code, detail, text });
            }
            Ended::Peer(error) => return Err(error.into()),
            Ended::Refused(error) => error.retry_after,
            Ended::Lost(_) => Duration::ZERO,
            Ended::Silent(silence) => {
                silent = silence;
                Duration::ZERO
            }
        };
        let now = Instant::now();
        if let Some(link) = self.link.take() {
            self.without_since = now.checked_sub(silent).unwrap_or(now);
            if now.saturating_duration_since(link.opened_at()) >= SETTLED_AFTER {
                self.backoff.reset();
            }
        }
        let without = now.saturating_duration_since(self.without_since);
        let pause = self.backoff.next(retry_after);
        if let Some(after) = self.target.retry_for.filter(|limit| without + pause > *limit) {
            return Err(TailError::GaveUp { after, trouble });
        }
        self.attempt_at = now + pause;
        Ok(Event::Lost { trouble, pause })
    }
}

/// The name of an ERROR code. A code of a later version has a name too.
fn code_name(code: u16) -> String {
    ErrorCode::from_wire(code).map_or_else(|| format!("error {code}"), |code| code.name().to_owned())
}
