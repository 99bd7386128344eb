//! From the first byte to WELCOME: identifies the client and checks whether it may speak.

use std::io;
use std::sync::Arc;

use tls::Socket;

use super::Ended;
use super::catalog::CatalogCursor;
use super::earlier;
use super::intake::Intake;
use super::outbox::Outbox;
use crate::acks::AckSignal;
use crate::opened::Opened;
use crate::router::{Epoch, Opening, Router};
use crate::stream::StreamOwner;
use crate::{Context, IngestConfig};
use actor::{Mailbox, Received};
use archive::History;
use connection::entrance::{First, Permit};
use connection::{Proof, SessionId, Stop, renewed};
use frame::{Origin, unix_now_ns};
use wire::{ErrorCode, Hello, HelloFlags, VERSION, Welcome, WireError, frame_cost};

/// The inputs of a handshake.
pub(super) struct Greeting<'a> {
    /// The id that the router gave.
    pub(super) session_id: SessionId,
    /// The limits that were in force when the connection came.
    pub(super) config: &'a Arc<IngestConfig>,
    /// What wakes the session.
    pub(super) signal: &'a Arc<AckSignal>,
    /// What all sessions share.
    pub(super) context: &'a Context,
    /// Opens the stream.
    pub(super) router: &'a Router,
    /// The place at the entrance.
    pub(super) permit: &'a Permit,
    /// TLS that was in force when the connection came.
    pub(super) tls: Option<tls::Server>,
}

/// The result of a handshake: the initial state of a session.
pub(super) struct Greeted {
    /// The right to speak for the stream.
    pub(super) opened: Opened,
    /// Holds WELCOME.
    pub(super) outbox: Outbox,
    /// Continues at the resume position.
    pub(super) intake: Intake,
    /// The catalog, if the client wants it.
    pub(super) catalog: Option<CatalogCursor>,
    /// The bytes that came behind HELLO.
    pub(super) rest: Vec<u8>,
}

impl Greeting<'_> {
    /// Reads HELLO and checks it in the order version, token, source, limits, epoch.
    pub(super) async fn greet(
        self,
        socket: &mut Socket,
        mailbox: &mut Mailbox<Stop>,
    ) -> Result<Greeted, Ended> {
        let First { body, rest } = self.await_hello(socket, mailbox).await?;
        let hello = Hello::decode(&body)?;
        // The credentials in force at this moment: a token that was withdrawn since the connection came is
        // refused.
        let policy = self.context.policy();
        // An authority that was withdrawn since then proves nothing.
        if policy.tls != self.tls {
            return Err(renewed().into());
        }
        let names = socket.peer_names();
        let proof = Proof { token: &hello.token, names: names.as_deref() };
        policy.credentials.check(proof, &hello.stream)?;
        let owner = StreamOwner {
            session_id: self.session_id,
            session: mailbox.address(),
            room: Arc::clone(self.signal.changed()),
            acks: Some(Arc::clone(self.signal)),
            shares_sequence: hello.flags.contains(HelloFlags::SHARED_SEQUENCE),
            link: None,
        };
        let epoch = if hello.epoch == 0 { Epoch::Anonymous } else { Epoch::Named(hello.epoch) };
        let config = Arc::clone(self.config);
        let opening = Opening { stream: hello.stream.clone(), epoch, owner, config, via: hello.via.clone() };
        let opened = match (self.router.open(opening.clone()).await, &self.context.history) {
            (Err(error), Some(history))
                if error.code == ErrorCode::Fenced && !hello.via.as_str().is_empty() =>
            {
                self.open_earlier(opening, hello.epoch, history.clone()).await?
            }
            (opened, _) => opened?,
        };
        let config = self.config;
        let no_ack = hello.flags.contains(HelloFlags::NO_ACK);
        // Without credit, what is read is bounded by its size on the wire.
        let takes_zstd = hello.flags.contains(HelloFlags::ZSTD).then_some(!no_ack);
        let welcome = Welcome {
            version: VERSION,
            heartbeat_s: u16::try_from(hello.heartbeat(config.heartbeat).as_secs()).unwrap_or(u16::MAX),
            max_message_bytes: u32::try_from(config.message_bytes_max).unwrap_or(u32::MAX),
            session_id: self.session_id,
            epoch: opened.origin.epoch,
            resume_next: opened.position.accepted_next,
            server_time_ns: unix_now_ns(),
            takes_zstd,
        };
        let message_max = frame_cost(config.message_bytes_max);
        let intake = Intake::new(opened.position.accepted_next, config.windows(), message_max, no_ack)
            .with_zstd(takes_zstd == Some(true));
        let wants_catalog = hello.flags.contains(HelloFlags::WANT_CATALOG);
        let catalog =
            wants_catalog.then(|| CatalogCursor::new(self.context.catalog.clone(), config.message_bytes_max));
        Ok(Greeted { opened, outbox: Outbox::new(welcome), intake, catalog, rest })
    }

    /// Opens the stream in `epoch`, which is over: a forwarder brings frames that its archive still holds.
    async fn open_earlier(&self, opening: Opening, epoch: u64, history: History) -> Result<Opened, Ended> {
        let origin = Origin { stream: opening.stream.clone(), epoch };
        let position = tokio::task::spawn_blocking(move || earlier::position(&history, &origin)).await;
        let next = position.map_err(io::Error::other).and_then(|next| next.map_err(io::Error::other));
        let next = next.map_err(|error| {
            let text = format!("the archive does not say where epoch {epoch} of this stream ended: {error}");
            WireError::new(ErrorCode::StorageFailed, text)
        })?;
        Ok(self.router.open(Opening { epoch: Epoch::Earlier { epoch, next }, ..opening }).await?)
    }

    /// Waits for the first message. Ends with the error that the client gets if the daemon drains first.
    async fn await_hello(&self, socket: &mut Socket, mailbox: &mut Mailbox<Stop>) -> Result<First, Ended> {
        let mut shutdown = self.context.shutdown.clone();
        tokio::select! {
            first = self.permit.first_message(socket, self.config.hello_timeout, "HELLO") => Ok(first?),
            order = mailbox.recv() => match order {
                Some(Received::Message(Stop(error))) => Err(error.into()),
                _ => Err(draining().into()),
            },
            _ = shutdown.wait_for(|stop| *stop) => Err(draining().into()),
        }
    }
}

fn draining() -> WireError {
    WireError::new(ErrorCode::Draining, "the daemon is shutting down")
}
