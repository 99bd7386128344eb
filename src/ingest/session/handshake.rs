//! From the first byte to WELCOME: who is there, and may they speak.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Ended;
use super::catalog::CatalogOwed;
use super::input::Input;
use super::intake::Intake;
use super::outbox::Outbox;
use crate::actor::{Mailbox, Received};
use crate::frame::unix_now_ns;
use crate::ingest::registry::{Opened, Registry};
use crate::ingest::stream::Speaker;
use crate::ingest::{Context, IngestConfig};
use crate::pipeline::router::RouterError;
use crate::pipeline::{SessionId, SourceInfo, Stop};
use crate::wire::{ErrorCode, Hello, HelloFlags, VERSION, Welcome, WireError};

/// What a handshake needs to know.
pub(super) struct Greeting<'a> {
    pub(super) session_id: SessionId,
    pub(super) peer: SocketAddr,
    pub(super) config: &'a Arc<IngestConfig>,
    pub(super) changed: &'a Arc<Notify>,
    pub(super) context: &'a Context,
    pub(super) registry: &'a Registry,
}

/// What a session starts with.
pub(super) struct Greeted {
    pub(super) opened: Opened,
    pub(super) outbox: Outbox,
    pub(super) intake: Intake,
    pub(super) catalog: Option<CatalogOwed>,
}

impl Greeting<'_> {
    /// Reads HELLO and judges it in the order version, token, source, limits, epoch.
    pub(super) async fn greet(
        self,
        socket: &mut TcpStream,
        input: &mut Input,
        mailbox: &mut Mailbox<Stop>,
    ) -> Result<Greeted, Ended> {
        let hello = self.await_hello(socket, input, mailbox).await?;
        // Those in force by now: a token that has been withdrawn since the connection came opens nothing.
        self.context.terms().credentials.check(&hello.token, &hello.stream)?;
        let speaker = Speaker {
            session_id: self.session_id,
            session: mailbox.address(),
            changed: Arc::clone(self.changed),
            shares_sequence: hello.flags.contains(HelloFlags::SHARED_SEQUENCE),
        };
        let opened = self.registry.open(hello.clone(), speaker, Arc::clone(self.config)).await?;
        self.register(&opened, mailbox).await?;
        let config = self.config;
        let welcome = Welcome {
            version: VERSION,
            heartbeat_s: u16::try_from(hello.heartbeat(config.heartbeat).as_secs()).unwrap_or(u16::MAX),
            max_message_bytes: u32::try_from(config.message_bytes_max).unwrap_or(u32::MAX),
            session_id: self.session_id,
            epoch: opened.origin.epoch,
            resume_next: opened.position.accepted_next,
            server_time_ns: unix_now_ns(),
        };
        let no_ack = hello.flags.contains(HelloFlags::NO_ACK);
        let intake = Intake::new(opened.position.accepted_next, config.windows(), no_ack);
        let wants_catalog = hello.flags.contains(HelloFlags::WANT_CATALOG);
        let catalog =
            wants_catalog.then(|| CatalogOwed::new(self.context.catalog.clone(), config.message_bytes_max));
        Ok(Greeted { opened, outbox: Outbox::new(welcome), intake, catalog })
    }

    async fn await_hello(
        &self,
        socket: &TcpStream,
        input: &mut Input,
        mailbox: &mut Mailbox<Stop>,
    ) -> Result<Hello, Ended> {
        let limit = self.config.hello_timeout;
        let mut shutdown = self.context.shutdown.clone();
        tokio::select! {
            hello = timeout(limit, read_hello(socket, input)) => hello.unwrap_or_else(|_| {
                let text = format!("no complete HELLO within {limit:?}");
                Err(WireError::new(ErrorCode::Idle, text).into())
            }),
            order = mailbox.recv() => match order {
                Some(Received::Message(Stop(error))) => Err(error.into()),
                _ => Err(draining().into()),
            },
            _ = shutdown.wait_for(|stop| *stop) => Err(draining().into()),
        }
    }

    async fn register(&self, opened: &Opened, mailbox: &Mailbox<Stop>) -> Result<(), WireError> {
        let source = SourceInfo {
            session_id: self.session_id,
            origin: Arc::clone(&opened.origin),
            peer: self.peer,
            since_ns: unix_now_ns(),
        };
        self.context.router.add(source, mailbox.address()).await.map_err(|error| match error {
            RouterError::Refused(error) => error,
            RouterError::Call(_) => draining(),
        })
    }
}

fn draining() -> WireError {
    WireError::new(ErrorCode::Draining, "the daemon is draining")
}

async fn read_hello(socket: &TcpStream, input: &mut Input) -> Result<Hello, Ended> {
    loop {
        if let Some(body) = input.next_body()? {
            return Ok(Hello::decode(&body)?);
        }
        socket.readable().await?;
        match input.read_hello(socket) {
            None => {}
            Some(end) => {
                end?;
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}
