//! The registry: the actor that owns every session, enforces the limits, and decides which session speaks for
//! a stream.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::acks::AckPacer;
use super::registry::{Message, Opened, Registry};
use super::session;
use super::slots::{Candidate, Slots};
use super::stream::{StreamOwner, StreamTable};
use super::{Context, IngestConfig};
use crate::actor::{ActorHandle, Address, Capacity, Mailbox, MonitorId, Received, Reply, spawn, spawn_stage};
use crate::connection::entrance::Permit;
use crate::frame::ANONYMOUS_EPOCH_MIN;
use crate::pipeline::{SessionId, SourceQueue, Sources, Stop};
use crate::wire::{ErrorCode, Hello, WireError};

/// Room in the registry's mailbox. While a lane is full, the listener and new sessions wait.
const CAPACITY: Capacity = Capacity { urgent: 16, routine: 1024 };
/// Room in a session's mailbox. Every order means "end", so an order that finds no room is not needed.
const SESSION_CAPACITY: Capacity = Capacity { urgent: 4, routine: 1 };

impl Registry {
    /// Starts the registry over `table`; queues of new streams report to `sources`.
    pub fn start(
        context: Arc<Context>,
        table: Arc<StreamTable>,
        sources: Arc<Sources>,
    ) -> (Self, ActorHandle) {
        let entrance = Arc::clone(&context.entrance);
        let (address, handle) = spawn_stage("session registry", CAPACITY, |mailbox| {
            let anonymous_next = first_anonymous_epoch();
            let state = State {
                registry: Self { address: mailbox.address(), entrance: Arc::clone(&context.entrance) },
                mailbox,
                context,
                table,
                sources,
                sessions: HashMap::new(),
                by_monitor: HashMap::new(),
                slots: Slots::default(),
                session_id_next: 1,
                anonymous_next,
                clock_origin: Instant::now(),
                acks: AckPacer::default(),
                drained: None,
            };
            state.run()
        });
        (Self { address, entrance }, handle)
    }
}

/// The first epoch of anonymous streams. Epochs stay unique across restarts, as long as the clock moves
/// forward, so archived frames of different connections have different epochs.
fn first_anonymous_epoch() -> u64 {
    ANONYMOUS_EPOCH_MIN | crate::frame::unix_now_ns().unsigned_abs()
}

struct State {
    mailbox: Mailbox<Message>,
    registry: Registry,
    context: Arc<Context>,
    table: Arc<StreamTable>,
    sources: Arc<Sources>,
    sessions: HashMap<SessionId, Live>,
    by_monitor: HashMap<MonitorId, SessionId>,
    slots: Slots,
    session_id_next: SessionId,
    anonymous_next: u64,
    /// The instant from which the heartbeats of all sessions are counted.
    clock_origin: Instant,
    /// Wakes the sessions whose ACK is due.
    acks: AckPacer,
    drained: Option<Reply<()>>,
}

/// A session task that this actor owns. Dropping the handle aborts the task.
struct Live {
    handle: ActorHandle,
    session: Address<Stop>,
    peer: SocketAddr,
}

impl State {
    async fn run(mut self) {
        loop {
            let received = tokio::select! {
                received = self.mailbox.recv() => received,
                () = self.acks.turn(&self.table.acks) => continue,
            };
            match received {
                Some(Received::Message(message)) => self.handle(message),
                Some(Received::Down(down)) => self.forget(down.monitor),
                Some(Received::Exit(_)) => {}
                None => return,
            }
            if self.sessions.is_empty()
                && let Some(drained) = self.drained.take()
            {
                let _ = drained.send(());
                return;
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Accepted { socket, peer, permit } => self.accept(socket, peer, permit),
            Message::Open { hello, speaker, config, reply } => {
                let _ = reply.send(self.open(&hello, speaker, &config));
            }
            Message::StopAll(error) => {
                for live in self.sessions.values() {
                    // A full or closed mailbox means that the session is being stopped already.
                    let _ = live.session.try_send_urgent(Stop(error.clone()));
                }
            }
            Message::Drain { reply } => self.drained = Some(reply),
            Message::Names { reply } => {
                let _ =
                    reply.send(self.sessions.values().map(|live| live.handle.name().to_owned()).collect());
            }
        }
    }

    fn accept(&mut self, socket: TcpStream, peer: SocketAddr, permit: Permit) {
        if self.drained.is_some() {
            return;
        }
        let config = Arc::clone(&self.context.policy.borrow().config);
        let session_id = self.session_id_next;
        self.session_id_next += 1;
        let (context, registry) = (Arc::clone(&self.context), self.registry.clone());
        let clock_origin = self.clock_origin;
        let name = format!("session {session_id} from {peer}");
        let (session, handle) = spawn(name, SESSION_CAPACITY, move |mailbox| {
            session::run(
                session::Arrival { session_id, clock_origin, socket, peer, config, permit },
                mailbox,
                context,
                registry,
            )
        });
        let monitor = self.mailbox.monitor(&session);
        self.by_monitor.insert(monitor, session_id);
        self.sessions.insert(session_id, Live { handle, session, peer });
    }

    fn open(
        &mut self,
        hello: &Hello,
        speaker: StreamOwner,
        config: &IngestConfig,
    ) -> Result<Opened, WireError> {
        if self.drained.is_some() {
            return Err(WireError::new(ErrorCode::Draining, "the daemon is draining"));
        }
        let session_id = speaker.session_id;
        let Some(peer) = self.sessions.get(&session_id).map(|live| live.peer) else {
            return Err(WireError::new(ErrorCode::Draining, "the session has ended"));
        };
        let key = (hello.epoch != 0).then_some(&hello.stream);
        let known = key.and_then(|key| self.table.find(key));
        // An older epoch takes no stream over.
        let heir = known.as_ref().filter(|stream| hello.epoch >= stream.position().epoch);
        let candidate = Candidate {
            address: peer.ip(),
            key: key.filter(|_| heir.is_some()),
            stream: heir,
            bytes: config.connection_bytes(),
        };
        self.slots.judge(&candidate, &self.context.policy().config)?;
        let (stream, epoch) = if hello.epoch == 0 {
            let epoch = self.anonymous_next;
            self.anonymous_next += 1;
            (self.table.anonymous(hello.stream.clone(), epoch, self.queue(config)), epoch)
        } else {
            (self.table.named(&hello.stream, || self.queue(config))?, hello.epoch)
        };
        let takeovers_max = config.max_takeovers_per_minute;
        let (origin, position) = stream.open(speaker, epoch, takeovers_max, Instant::now())?;
        stream.queue.set_windows(config.windows());
        self.slots.take(session_id, &Candidate { key, ..candidate }, &stream);
        Ok(Opened { stream, origin, position, ended: None, session_id, table: Arc::clone(&self.table) })
    }

    fn queue(&self, config: &IngestConfig) -> Arc<SourceQueue> {
        SourceQueue::new(Arc::clone(&self.sources), config.windows())
    }

    fn forget(&mut self, monitor: MonitorId) {
        let session_id = self.by_monitor.remove(&monitor);
        if let Some(session_id) = session_id {
            self.sessions.remove(&session_id);
            self.slots.release(session_id);
        }
    }
}
