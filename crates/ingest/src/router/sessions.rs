//! The actor behind [`Router`]: it owns every session, enforces the limits, and decides which session speaks for a
//! stream.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Epoch, Message, Opening, Router, SourceInfo};
use crate::acks::AckPacer;
use crate::link_stream::Carrier;
use crate::opened::Opened;
use crate::pipeline::{SourceQueue, Sources};
use crate::slots::{Candidate, Slots};
use crate::stream::{LinkOwner, Stream, StreamOwner, StreamTable};
use crate::{Context, session};
use actor::{ActorHandle, Address, Capacity, Down, Mailbox, MonitorId, Received, Reply, spawn, spawn_stage};
use connection::entrance::Permit;
use connection::{SessionId, Stop};
use frame::{ANONYMOUS_EPOCH_MIN, Origin, Station, StreamKey, unix_now_ns};
use support::logging::{Kind, by_peer};
use wire::{ErrorCode, WireError};

/// Room in the router's mailbox. While a lane is full, the listener and new sessions wait.
const CAPACITY: Capacity = Capacity { urgent: 16, routine: 1024 };
/// Room in a session's mailbox. Every order means "end", so an order that finds no room is not needed.
const SESSION_CAPACITY: Capacity = Capacity { urgent: 4, routine: 1 };

impl Router {
    /// Starts the router over `table`; queues of new streams report to `sources`.
    pub fn start(
        context: Arc<Context>,
        table: Arc<StreamTable>,
        sources: Arc<Sources>,
    ) -> (Self, ActorHandle) {
        let entrance = Arc::clone(&context.entrance);
        let (address, handle) = spawn_stage("router", CAPACITY, |mailbox| {
            let anonymous_next = first_anonymous_epoch();
            let state = State {
                router: Self { address: mailbox.address(), entrance: Arc::clone(&context.entrance) },
                mailbox,
                context,
                table,
                sources,
                sessions: BTreeMap::new(),
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
    ANONYMOUS_EPOCH_MIN | frame::unix_now_ns().unsigned_abs()
}

/// The state of the actor.
struct State {
    /// Receives requests, and the ends of sessions.
    mailbox: Mailbox<Message>,
    /// The handle that new sessions get.
    router: Router,
    /// What all sessions share.
    context: Arc<Context>,
    /// All streams.
    table: Arc<StreamTable>,
    /// Where the queues of new streams report.
    sources: Arc<Sources>,
    /// The sessions, and the streams of links, by id.
    sessions: BTreeMap<SessionId, Live>,
    /// The session of each monitor.
    by_monitor: HashMap<MonitorId, SessionId>,
    /// The slots of `ingest.max_connections`.
    slots: Slots,
    /// The id of the next session.
    session_id_next: SessionId,
    /// The epoch of the next anonymous stream. No two connections get the same.
    anonymous_next: u64,
    /// The instant from which the heartbeats of all sessions are counted.
    clock_origin: Instant,
    /// Wakes the sessions whose ACK is due.
    acks: AckPacer,
    /// The request that waits for the end of all sessions. While there is one, nothing new is let in.
    drained: Option<Reply<()>>,
}

/// A session, or a stream of a link.
struct Live {
    /// The name for the log.
    name: Arc<str>,
    /// The task of a session. Dropping the handle aborts the task. A link owns its tasks itself.
    _task: Option<ActorHandle>,
    /// The mailbox for the order to end.
    session: Address<Stop>,
    /// Names the session in the message of its end. Set by [`State::watch`].
    monitor: Option<MonitorId>,
    /// Where the connection comes from.
    peer: SocketAddr,
    /// The source, from HELLO on.
    source: Option<SourceInfo>,
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
                Some(Received::Down(down)) => self.forget(&down),
                Some(Received::Exit(_)) => {}
                None => return,
            }
            if self.sessions.is_empty()
                && let Some(drained) = self.drained.take()
            {
                // No session is left that could push.
                self.sources.finish();
                let _ = drained.send(());
                return;
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Accepted { socket, peer, permit } => self.accept(socket, peer, permit),
            Message::Open { opening, reply } => {
                let _ = reply.send(self.open(*opening));
            }
            Message::Carry { stream, epoch, carrier, reply } => {
                let _ = reply.send(self.carry(stream, epoch, carrier));
            }
            Message::Released(session_id) => self.released(session_id),
            Message::Remove { session_id, reply } => {
                let _ = reply.send(self.remove(session_id));
            }
            Message::List { reply } => {
                let sources = self.sessions.values().filter_map(|live| live.source.clone());
                let _ = reply.send(sources.collect());
            }
            Message::StopAll(error) => {
                for live in self.sessions.values() {
                    // A full or closed mailbox means that the session is being stopped already.
                    let _ = live.session.try_send_urgent(Stop(error.clone()));
                }
            }
            Message::Drain { reply } => self.drained = Some(reply),
            Message::Names { reply } => {
                let _ = reply.send(self.sessions.values().map(|live| live.name.to_string()).collect());
            }
        }
    }

    fn accept(&mut self, socket: TcpStream, peer: SocketAddr, permit: Permit) {
        if self.drained.is_some() {
            return;
        }
        let config = Arc::clone(&self.context.policy.borrow().config);
        let session_id = self.next_session_id();
        let (context, router) = (Arc::clone(&self.context), self.router.clone());
        let clock_origin = self.clock_origin;
        let name: Arc<str> = format!("session {session_id} from {peer}").into();
        let (session, task) = spawn(Arc::clone(&name), SESSION_CAPACITY, move |mailbox| {
            session::run(
                session::Arrival { session_id, clock_origin, socket, peer, config, permit },
                mailbox,
                context,
                router,
            )
        });
        self.watch(session_id, Live { name, _task: Some(task), session, monitor: None, peer, source: None });
    }

    fn next_session_id(&mut self) -> SessionId {
        let session_id = self.session_id_next;
        self.session_id_next += 1;
        session_id
    }

    /// Registers `live` and monitors its session.
    fn watch(&mut self, session_id: SessionId, mut live: Live) {
        let monitor = self.mailbox.monitor(&live.session);
        live.monitor = Some(monitor);
        self.by_monitor.insert(monitor, session_id);
        self.sessions.insert(session_id, live);
    }

    /// Opens `stream` for a link. Each stream of a link is a session of its own here.
    fn carry(&mut self, stream: StreamKey, epoch: Epoch, carrier: Carrier) -> Result<Opened, WireError> {
        let session_id = self.next_session_id();
        let Carrier { link, peer, session, room, queued } = carrier;
        let name = format!("link {link}, stream {stream}").into();
        let owner = StreamOwner {
            session_id,
            session: session.clone(),
            room,
            acks: None,
            shares_sequence: false,
            link: Some(LinkOwner { name: link, queued }),
        };
        let config = Arc::clone(&self.context.policy().config);
        let live = Live { name, _task: None, session, monitor: None, peer, source: None };
        self.sessions.insert(session_id, live);
        let opened = self.open(Opening { stream, epoch, owner, config, via: Station::default() });
        match self.sessions.remove(&session_id) {
            Some(live) if opened.is_ok() => self.watch(session_id, live),
            _ => {}
        }
        opened
    }

    fn open(&mut self, opening: Opening) -> Result<Opened, WireError> {
        let Opening { stream: wanted, epoch, owner, config, via } = opening;
        if self.drained.is_some() {
            return Err(WireError::new(ErrorCode::Draining, "the daemon is shutting down"));
        }
        let session_id = owner.session_id;
        let Some(live) = self.sessions.get(&session_id) else {
            return Err(WireError::new(ErrorCode::Draining, "the session has ended"));
        };
        let peer = live.peer;
        let link = owner.link.as_ref().map(|link| Arc::clone(&link.name));
        let is_apart = matches!(epoch, Epoch::Anonymous | Epoch::Earlier { .. });
        let known = if is_apart { None } else { self.table.find(&wanted) };
        let is_older =
            |stream: &Stream| matches!(epoch, Epoch::Named(epoch) if epoch < stream.position().epoch);
        // An older epoch takes no stream over.
        let heir = known.as_ref().filter(|stream| !is_older(stream));
        let candidate = Candidate {
            address: peer.ip(),
            key: heir.map(|_| &wanted),
            stream: heir,
            bytes: config.connection_bytes(),
        };
        // A link has a window of its own for all its streams, which the memory bound counts apart.
        if link.is_none() {
            self.slots.judge(&candidate, &self.context.policy().config)?;
        }
        let queue = || SourceQueue::new(Arc::clone(&self.sources), config.windows());
        let (stream, epoch) = match (epoch, &link) {
            (Epoch::Named(epoch), _) => (self.table.named(&wanted, queue)?, Some(epoch)),
            (Epoch::Earlier { epoch, next }, _) => {
                let origin = Arc::new(Origin { stream: wanted.clone(), epoch });
                (self.table.earlier(&origin, next, queue)?, Some(epoch))
            }
            (Epoch::Current, _) => (self.table.named(&wanted, queue)?, None),
            (Epoch::Invented { max }, Some(link)) => match self.table.of_link(&wanted, link, max, queue) {
                Some(stream) => (stream, None),
                None => self.anonymous(&wanted, queue()),
            },
            (Epoch::Anonymous | Epoch::Invented { .. }, _) => self.anonymous(&wanted, queue()),
        };
        let takeovers_max = config.max_takeovers_per_minute;
        let (origin, position) = stream.open(owner, epoch, takeovers_max, Instant::now())?;
        stream.queue.set_windows(config.windows());
        if link.is_none() {
            let key = (!is_apart && !origin.is_anonymous()).then_some(&wanted);
            self.slots.take(session_id, &Candidate { key, ..candidate }, &stream);
        }
        by_peer!(
            Kind::Registered, INFO,
            session = session_id, stream = %origin.stream, epoch = origin.epoch, %peer, via = via.as_str(),
            "source registered"
        );
        let source =
            SourceInfo { session_id, origin: Arc::clone(&origin), peer, since_ns: unix_now_ns(), via };
        if let Some(live) = self.sessions.get_mut(&session_id) {
            live.source = Some(source);
        }
        Ok(Opened { stream, origin, position, ended: None, session_id, table: Arc::clone(&self.table) })
    }

    /// A stream for one connection only, and its epoch.
    fn anonymous(&mut self, wanted: &StreamKey, queue: Arc<SourceQueue>) -> (Arc<Stream>, Option<u64>) {
        let epoch = self.anonymous_next;
        self.anonymous_next += 1;
        (self.table.anonymous(wanted.clone(), epoch, queue), Some(epoch))
    }

    fn remove(&self, session_id: SessionId) -> bool {
        let Some(live) = self.sessions.get(&session_id).filter(|live| live.source.is_some()) else {
            return false;
        };
        let order = Stop(WireError::new(ErrorCode::Removed, "removed by an operator"));
        // A full or closed mailbox means that the session is being stopped already.
        let _ = live.session.try_send_urgent(order);
        true
    }

    /// Removes a session that has ended.
    fn forget(&mut self, down: &Down) {
        let Some(session_id) = self.by_monitor.remove(&down.monitor) else { return };
        self.slots.release(session_id);
        self.gone(session_id, &down.reason);
    }

    /// A link has released a stream, and its connection goes on.
    fn released(&mut self, session_id: SessionId) {
        let Some(monitor) = self.sessions.get(&session_id).and_then(|live| live.monitor) else { return };
        self.mailbox.demonitor(monitor);
        self.by_monitor.remove(&monitor);
        self.gone(session_id, "the link gave its place to another source");
    }

    fn gone(&mut self, session_id: SessionId, reason: impl std::fmt::Display) {
        let source = self.sessions.remove(&session_id).and_then(|live| live.source);
        if let Some(source) = source {
            let (session, stream) = (session_id, &source.origin.stream);
            by_peer!(Kind::Gone, INFO, session, %stream, %reason, "source gone");
        }
    }
}
