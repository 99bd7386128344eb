//! One source: its connections one after the other, until its feed is over and acknowledged.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shared;
use super::conversation::{Conversation, End};
use super::error::SourceError;
use super::ledger::{Ledger, Mode};
use super::pace::{BACKOFF_MAX, Backoff, Feed, Schedule};
use crate::frame::StreamKey;
use crate::wire::{
    HANDSHAKE_BODY_BYTES_MAX, Hello, HelloFlags, ServerMessage, VERSION, Welcome, WireError, next_body,
    take_bodies,
};

/// Time for a connection to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the server to answer HELLO.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed write: time for what the server said before it closed.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// Unsent bytes the socket holds at most: what was written earlier goes earlier, so an emergency waits for them.
const NOTSENT_LOWAT_BYTES: u32 = 32 << 10;
/// What a read has room for at least.
const READ_BYTES: usize = 4 << 10;

/// See the module.
pub(super) struct Source {
    shared: Arc<Shared>,
    stream: StreamKey,
    ledger: Ledger,
    schedule: Schedule,
    feed: Feed,
    backoff: Backoff,
    was_welcome: bool,
    trouble: String,
}

/// How an attempt to connect failed.
enum Refusal {
    Lost(End),
    Final(SourceError),
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self::Final(error)
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self::Final(error.into())
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Lost(End::lost(error.to_string()))
    }
}

impl Source {
    /// Source number `index` of the run.
    pub(super) fn new(shared: Arc<Shared>, index: u32, stop: watch::Receiver<bool>) -> Self {
        let plan = &shared.plan;
        let until = plan.duration.and_then(|duration| shared.started.checked_add(duration));
        Self {
            stream: plan.stream(index),
            ledger: Ledger::new(plan.content(index), plan.frames_per_source(), shared.mode()),
            schedule: Schedule::new(shared.started + plan.phase(index), plan.rate),
            feed: Feed::new(stop, until, plan.linger),
            backoff: Backoff::new(),
            was_welcome: false,
            trouble: "no attempt".to_owned(),
            shared,
        }
    }

    /// Runs the source to its end.
    ///
    /// # Errors
    /// What ended it with frames unacknowledged, with the stream's name in front.
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
                    self.shared.progress.set_trouble(&trouble);
                    self.trouble = trouble;
                    retry_after
                }
            };
            if self.is_hopeless() {
                return self.conclude();
            }
            let wait = sleep(self.backoff.next(retry_after));
            tokio::select! {
                () = wait => {}
                () = self.feed.given_up(self.ledger.unacked() == 0) => return self.conclude(),
            }
        }
    }

    /// Whether another connection could change nothing: the time is up, or what is missing is beyond knowing.
    fn is_hopeless(&self) -> bool {
        let nobody_tells = self.ledger.mode() == Mode::Unacked && self.feed.is_over();
        nobody_tells || self.feed.gives_up_at().is_some_and(|at| at <= Instant::now())
    }

    /// The books at the end.
    fn conclude(&mut self) -> Result<(), SourceError> {
        let trouble = std::mem::take(&mut self.trouble);
        match self.ledger.unacked() {
            _ if !self.was_welcome => Err(SourceError::NeverConnected { trouble }),
            0 => Ok(()),
            missing => Err(SourceError::Missing { missing, trouble }),
        }
    }

    /// One connection from connect to its end.
    async fn connection(&mut self) -> Result<End, SourceError> {
        let hello = self.hello();
        let opened = tokio::select! {
            opened = open(&self.shared.plan.connect, &hello) => opened,
            () = self.feed.given_up(self.ledger.unacked() == 0) => return Ok(End::lost(self.trouble.clone())),
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
        let _connected = shared.progress.connected();
        let mut conversation = Conversation::new(
            &shared,
            &mut self.ledger,
            self.schedule,
            self.stream.source_kind,
            &welcome,
            began,
        )?;
        let ended = converse(socket, incoming, &mut conversation, &mut self.feed).await;
        if conversation.made_progress() || began.elapsed() >= BACKOFF_MAX {
            self.backoff.reset();
        }
        ended
    }

    fn hello(&self) -> Hello {
        let flags = match self.ledger.mode() {
            Mode::Acked => HelloFlags::default(),
            Mode::Unacked => HelloFlags::NO_ACK,
        };
        Hello {
            version_min: VERSION,
            version_max: VERSION,
            stream: self.stream.clone(),
            flags,
            heartbeat_s: 0,
            epoch: self.shared.epoch,
            token: self.shared.plan.token.clone(),
        }
    }
}

/// Connects and shakes hands; what came behind WELCOME is handed on. Cancel safe: a connection cut here sent
/// no frame.
async fn open(address: &str, hello: &Hello) -> Result<(TcpStream, Welcome, BytesMut), Refusal> {
    let mut socket = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))??;
    socket.set_nodelay(true)?;
    hold_little_unsent(&socket);
    let mut out = BytesMut::new();
    hello.encode(&mut out);
    socket.write_all(&out).await?;
    let mut incoming = BytesMut::with_capacity(READ_BYTES);
    let welcome = timeout(WELCOME_TIMEOUT, read_welcome(&mut socket, &mut incoming))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no WELCOME in time"))??;
    Ok((socket, welcome, incoming))
}

async fn read_welcome(socket: &mut TcpStream, incoming: &mut BytesMut) -> Result<Welcome, Refusal> {
    loop {
        while let Some(body) = next_body(incoming, HANDSHAKE_BODY_BYTES_MAX)? {
            match ServerMessage::decode(body)? {
                ServerMessage::Welcome(welcome) => return Ok(welcome),
                ServerMessage::Ignored(_) => {}
                ServerMessage::Error(error) => return Err(Refusal::Lost(End::refused(error)?)),
                other => return Err(WireError::protocol(format!("{other:?} before WELCOME")).into()),
            }
        }
        if socket.read_buf(incoming).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before WELCOME").into());
        }
    }
}

/// Where the system has no such limit, small writes have to do.
fn hold_little_unsent(socket: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(socket).set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES) {
        tracing::debug!(%error, "cannot limit unsent bytes");
    }
}

/// Carries bytes between the socket and `conversation` until one of them ends it. Reading and writing do not
/// wait for one another.
async fn converse(
    mut socket: TcpStream,
    mut incoming: BytesMut,
    conversation: &mut Conversation<'_>,
    feed: &mut Feed,
) -> Result<End, SourceError> {
    let (mut reader, mut writer) = socket.split();
    let mut out = BytesMut::new();
    let mut broken: Option<(Instant, End)> = None;
    if let Some(end) = receive_all(&mut incoming, conversation, Instant::now())? {
        return Ok(end);
    }
    loop {
        let now = Instant::now();
        if conversation.is_exhausted() {
            feed.end(now);
        }
        if out.is_empty() && broken.is_none() {
            // What was written lies before the buffer's start: this moves the start back, and allocates nothing.
            let _ = out.try_reclaim(out.capacity() + 1);
            conversation.fill(&mut out, feed.is_over(), now);
        }
        let wake_at = [
            conversation.wake_at(out.is_empty(), feed.is_over(), now),
            feed.gives_up_at(),
            broken.as_ref().map(|(at, _)| *at),
        ]
        .into_iter()
        .flatten()
        .min();
        incoming.reserve(READ_BYTES);
        tokio::select! {
            read = reader.read_buf(&mut incoming) => {
                let now = Instant::now();
                match read {
                    Ok(0) => return Ok(broken.map_or_else(|| End::lost("the server closed"), |(_, end)| end)),
                    Ok(_) => conversation.heard(now),
                    Err(error) => return Ok(End::lost(error.to_string())),
                }
                if let Some(end) = receive_all(&mut incoming, conversation, now)? {
                    return Ok(end);
                }
            }
            wrote = writer.write_buf(&mut out), if !out.is_empty() => {
                let now = Instant::now();
                if let Err(error) = wrote {
                    // An ERROR that says why may still lie in the receive buffer.
                    out.clear();
                    broken = Some((now + LAST_WORDS_TIMEOUT, End::lost(error.to_string())));
                }
                conversation.wrote(out.is_empty(), now);
            }
            () = feed.over(), if !feed.is_over() => {}
            () = wake_up(wake_at) => {
                let now = Instant::now();
                if let Some((at, end)) = broken.take_if(|(at, _)| *at <= now) {
                    tracing::trace!(?at, "no last words");
                    return Ok(end);
                }
                if feed.gives_up_at().is_some_and(|at| at <= now) {
                    return Ok(End::lost("the time to linger is over"));
                }
                if let Some(end) = conversation.wake(&mut out, now) {
                    return Ok(end);
                }
            }
        }
    }
}

async fn wake_up(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Hands over every whole message.
fn receive_all(
    incoming: &mut BytesMut,
    conversation: &mut Conversation<'_>,
    now: Instant,
) -> Result<Option<End>, SourceError> {
    let (bodies, judged) = take_bodies(incoming, conversation.max_message_bytes());
    for body in bodies {
        if let Some(end) = conversation.receive(ServerMessage::decode(body)?, now)? {
            return Ok(Some(end));
        }
    }
    judged?;
    Ok(None)
}
