//! The actor of one output: it makes connections and watches over them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tls::Socket;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{Instant, sleep, sleep_until};

use super::forward::aggregator::AggregatorSide;
use super::forward::lag::Lag;
use super::forward::nats::NatsSide;
use super::forward::{self, lane};
use super::reader::{Part, Reader};
use super::status::{ClientStatus, OutputStatus};
use super::{Context, Leave, session, udp};
use crate::switchboard::End;
use actor::{ActorHandle, Address, Capacity, Down, Mailbox, MonitorId, Received, spawn};
use api::OutputState;
use config::{Output, OutputTransport};
use connection::tcp::{self, BACKOFF_MIN, Backoff, STABLE_AFTER};
use feed::Ending;
use frame::FramePriority;
use support::logging::{Kind, by_peer};

/// Room in the mailbox of a connection. Every order means "end", so an order that finds no room is not needed.
const CAPACITY: Capacity = Capacity { urgent: 4, routine: 1 };

/// The actor of an output.
struct Actor {
    /// The configuration of the output. A change of it starts another actor.
    config: Arc<Output>,
    /// The state and the counts, which outlive the actor.
    status: Arc<OutputStatus>,
    /// What outputs need from the rest of the daemon.
    context: Arc<Context>,
    /// Receives the order to end, and the ends of connections.
    mailbox: Mailbox<End>,
    /// The connections that run, by their monitors.
    connections: HashMap<MonitorId, Connection>,
}

/// A connection that runs.
struct Connection {
    /// The mailbox for the order to end.
    session: Address<Leave>,
    /// What operators see of the reader.
    client: Arc<ClientStatus>,
    /// When it began.
    began: Instant,
    /// The lane of a forwarder.
    lane: Option<FramePriority>,
    /// It was ordered to end because the other lane has ended, whose trouble is shown.
    follows: bool,
    /// Dropping it aborts the connection.
    _task: ActorHandle,
}

/// Where to send.
enum Target {
    /// A connection.
    Tcp(Socket),
    /// A socket for datagrams, and the rate in bytes per second.
    Udp(UdpSocket, u64),
    /// A lane of a forwarder into NATS.
    Nats(Box<NatsSide>, Part),
    /// A lane of a forwarder into another aggregator.
    Aggregator(Box<AggregatorSide>, Part),
}

/// Why an output ends.
enum Over {
    /// It was ordered to.
    Ended,
    /// The daemon drains.
    Draining,
}

/// Runs an output until it is ordered to end or the daemon has drained.
pub(super) async fn run(
    config: Arc<Output>,
    status: Arc<OutputStatus>,
    context: Arc<Context>,
    mailbox: Mailbox<End>,
) {
    let mut output = Actor { config, status, context, mailbox, connections: HashMap::new() };
    let over = match output.config.transport.clone() {
        OutputTransport::Listen { at, peers, clients } => {
            let is_allowed = |peer: SocketAddr| {
                peers.is_empty() || peers.iter().any(|network| network.contains(peer.ip()))
            };
            output.listen(at, is_allowed, clients).await
        }
        OutputTransport::Connect { to } => output.connect(to.as_str()).await,
        OutputTransport::Udp { to, bytes_per_s } => output.send(to, bytes_per_s).await,
        OutputTransport::Nats(_) | OutputTransport::Aggregator(_) => output.forward().await,
    };
    let Err(over) = over;
    output.close(over).await;
}

impl Actor {
    /// Accepts readers, as many as there are places.
    async fn listen(
        &mut self,
        address: SocketAddr,
        is_allowed: impl Fn(SocketAddr) -> bool,
        clients_max: usize,
    ) -> Result<Infallible, Over> {
        let listener = self.bind(address).await?;
        loop {
            let accepted = {
                let Self { mailbox, context, .. } = self;
                tokio::select! {
                    accepted = listener.accept() => Ok(accepted),
                    received = mailbox.recv() => Err(received),
                    () = drains(context) => return Err(Over::Draining),
                }
            };
            match accepted {
                Ok(Ok((_, peer))) if !is_allowed(peer) => {
                    self.refuse(peer, "it is not in peers");
                }
                Ok(Ok((socket, peer))) => {
                    if self.connections.len() < clients_max || self.make_room(peer, clients_max).await? {
                        self.start(Target::Tcp(socket.into()), peer);
                    } else {
                        self.refuse(peer, "all places are taken (clients)");
                    }
                }
                // The peer has gone, or the process has no file descriptor left.
                Ok(Err(error)) => {
                    by_peer!(Kind::Linked, WARN, output = self.config.name, %error, "cannot accept a connection");
                    self.status.note_trouble(format!("cannot accept a connection: {error}"));
                    sleep(BACKOFF_MIN).await;
                }
                Err(received) => {
                    self.received(received)?;
                }
            }
        }
    }

    /// Listens on `address`. Tries again until that succeeds.
    async fn bind(&mut self, address: SocketAddr) -> Result<TcpListener, Over> {
        let mut backoff = Backoff::default();
        loop {
            match tcp::listen(address) {
                Ok(listener) => {
                    let bound = listener.local_addr().ok();
                    self.status.bound(bound);
                    self.status.enter(OutputState::Listening);
                    tracing::info!(
                        output = self.config.name, address = %bound.unwrap_or(address), "output ready"
                    );
                    return Ok(listener);
                }
                Err(error) => {
                    self.status.enter(OutputState::Failed);
                    self.note_trouble(format!("cannot listen on {address}: {error}"));
                }
            }
            self.pause(&mut backoff).await?;
        }
    }

    fn refuse(&self, peer: SocketAddr, why: &str) {
        self.status.count(|counts| counts.refused += 1);
        self.note_trouble(format!("{peer} was refused: {why}"));
    }

    /// Ends a connection in favour of `newer`: one whose reader may have gone, or the only one. Returns false if there
    /// is none.
    async fn make_room(&mut self, newer: SocketAddr, clients_max: usize) -> Result<bool, Over> {
        let gives_way =
            |connection: &&Connection| clients_max == 1 || connection.client.is_half_closed.load(Relaxed);
        let Some(connection) = self.connections.values().find(gives_way) else { return Ok(false) };
        order(connection, &format!("{newer} has connected and takes the place"));
        let before = self.connections.len();
        while self.connections.len() >= before {
            let received = self.mailbox.recv().await;
            self.received(received)?;
        }
        Ok(true)
    }

    /// Connects again and again.
    async fn connect(&mut self, host: &str) -> Result<Infallible, Over> {
        let mut backoff = Backoff::default();
        loop {
            self.status.enter(OutputState::Connecting);
            let connected = tokio::select! {
                connected = tcp::dial(host, None) => connected,
                over = ended(&mut self.mailbox, &self.context) => return Err(over),
            };
            match connected {
                Ok((socket, peer)) => self.serve(Target::Tcp(socket), peer, &mut backoff).await?,
                Err(error) => self.note_trouble(format!("cannot connect to {host}: {error}")),
            }
            self.pause(&mut backoff).await?;
        }
    }

    /// Sends datagrams.
    async fn send(&mut self, to: SocketAddr, bytes_per_s: u64) -> Result<Infallible, Over> {
        let mut backoff = Backoff::default();
        loop {
            self.status.enter(OutputState::Connecting);
            match udp::socket(to).await {
                Ok(socket) => self.serve(Target::Udp(socket, bytes_per_s), to, &mut backoff).await?,
                Err(error) => self.note_trouble(format!("cannot send to {to}: {error}")),
            }
            self.pause(&mut backoff).await?;
        }
    }

    /// Serves one reader until its connection has ended.
    async fn serve(&mut self, target: Target, peer: SocketAddr, backoff: &mut Backoff) -> Result<(), Over> {
        let began = Instant::now();
        self.start(target, peer);
        while !self.connections.is_empty() {
            let received = self.mailbox.recv().await;
            self.received(received)?;
        }
        if began.elapsed() >= STABLE_AFTER {
            *backoff = Backoff::default();
        }
        Ok(())
    }

    /// Forwards both lanes, again and again.
    async fn forward(&mut self) -> Result<Infallible, Over> {
        let mut backoff = Backoff::default();
        let mut lag = Lag::load(&self.config, &self.status, &self.context).await;
        loop {
            self.status.enter(OutputState::Connecting);
            let (config, context) = (Arc::clone(&self.config), Arc::clone(&self.context));
            let lanes = tokio::select! {
                lanes = lanes(&config, &self.status, &context) => lanes,
                over = ended(&mut self.mailbox, &self.context) => return Err(over),
            };
            let has_paused = lanes.is_ok();
            match lanes {
                Ok(lanes) => self.serve_lanes(lanes, &mut backoff).await?,
                Err(why) => {
                    by_peer!(Kind::Linked, WARN, output = self.config.name, "{why}");
                    self.status.note_trouble(why);
                }
            }
            tokio::select! {
                () = lag.look(&self.config, &self.status, &self.context) => {}
                over = ended(&mut self.mailbox, &self.context) => return Err(over),
            }
            if !has_paused {
                self.pause(&mut backoff).await?;
            }
        }
    }

    /// Forwards both lanes until one ends. The other one goes on for the pause, so that an emergency does not wait for a
    /// routine frame that is refused.
    async fn serve_lanes(&mut self, lanes: Vec<(Target, String)>, backoff: &mut Backoff) -> Result<(), Over> {
        let (began, forwarded) = (Instant::now(), self.status.counts().bytes);
        for (lane, peer) in lanes {
            self.start(lane, peer);
        }
        let all = self.connections.len();
        while self.connections.len() == all {
            let received = self.mailbox.recv().await;
            self.received(received)?;
        }
        if began.elapsed() >= STABLE_AFTER || self.status.counts().bytes > forwarded {
            *backoff = Backoff::default();
        }
        let until = Instant::now() + backoff.pause();
        loop {
            let received = tokio::select! {
                received = self.mailbox.recv() => received,
                () = sleep_until(until) => break,
                () = drains(&self.context) => break,
            };
            self.received(received)?;
        }
        if *self.context.ending.borrow() == Ending::NotYet {
            for lane in self.connections.values_mut() {
                lane.follows = true;
                order(lane, "the other lane has ended");
            }
        }
        while !self.connections.is_empty() {
            let received = self.mailbox.recv().await;
            self.received(received)?;
        }
        Ok(())
    }

    /// Starts a connection and monitors it.
    fn start(&mut self, target: Target, peer: impl ToString) {
        let peer = peer.to_string();
        let client = self.status.connected(&peer);
        if !self.config.is_forwarder() {
            self.status.clear_trouble();
        }
        let status = Arc::clone(&client.status);
        by_peer!(Kind::Linked, INFO, output = self.config.name, %peer, "output connected");
        let (config, own) = (Arc::clone(&self.config), Arc::clone(&self.status));
        let context = Arc::clone(&self.context);
        let name = format!("output {} to {peer}", config.name);
        let lane = match &target {
            Target::Nats(_, part) | Target::Aggregator(_, part) => Some(part.lane),
            Target::Tcp(_) | Target::Udp(..) => None,
        };
        let (session, task) = spawn(name, CAPACITY, move |mailbox| async move {
            let ending = context.ending.clone();
            match target {
                Target::Tcp(socket) => {
                    let reader = Reader::start(config, own, client, &context, None).await?;
                    session::run(socket, reader, mailbox, ending).await
                }
                Target::Udp(socket, rate) => {
                    let reader = Reader::start(config, own, client, &context, None).await?;
                    udp::run(socket, rate, reader, mailbox, ending).await
                }
                Target::Nats(side, part) => {
                    lane::run(*side, part, (config, own, client), &context, mailbox).await
                }
                Target::Aggregator(side, part) => {
                    lane::run(*side, part, (config, own, client), &context, mailbox).await
                }
            }
        });
        let monitor = self.mailbox.monitor(&session);
        let began = Instant::now();
        let connection = Connection { session, client: status, began, lane, follows: false, _task: task };
        self.connections.insert(monitor, connection);
    }

    /// Acts on what the mailbox has received. The error is the order to end.
    fn received(&mut self, received: Option<Received<End>>) -> Result<(), Over> {
        match received {
            Some(Received::Down(down)) => self.connection_down(&down),
            Some(Received::Exit(_)) => {}
            Some(Received::Message(End)) | None => return Err(Over::Ended),
        }
        Ok(())
    }

    fn connection_down(&mut self, down: &Down) {
        let Some(connection) = self.connections.remove(&down.monitor) else { return };
        let (peer, lasted) = (&connection.client.peer, connection.began.elapsed());
        by_peer!(
            Kind::Linked, INFO, output = self.config.name, %peer, ?lasted, reason = %down.reason, "output disconnected"
        );
        if !connection.follows {
            self.status.note_trouble_of(connection.lane, format!("{peer}: {}", down.reason));
        }
    }

    fn note_trouble(&self, why: String) {
        tracing::debug!(output = self.config.name, "{why}");
        self.status.note_trouble(why);
    }

    async fn pause(&mut self, backoff: &mut Backoff) -> Result<(), Over> {
        tokio::select! {
            () = sleep(backoff.pause()) => Ok(()),
            over = ended(&mut self.mailbox, &self.context) => Err(over),
        }
    }

    /// Waits until every connection has ended. In a drain, they end by themselves.
    async fn close(&mut self, mut over: Over) {
        loop {
            if matches!(over, Over::Ended) {
                self.connections
                    .values()
                    .for_each(|connection| order(connection, "the output is switched off"));
            }
            loop {
                if self.connections.is_empty() {
                    return;
                }
                let received = self.mailbox.recv().await;
                if let Err(ordered) = self.received(received) {
                    over = ordered;
                    break;
                }
            }
        }
    }
}

/// Connects the lanes of a forwarder. Each comes with its name for operators.
///
/// # Errors
/// Why the output cannot forward.
async fn lanes(
    config: &Output,
    status: &Arc<OutputStatus>,
    context: &Context,
) -> Result<Vec<(Target, String)>, String> {
    let named = |other: String, part: &Part| format!("{other}, {}", part.lane.name());
    match &config.transport {
        OutputTransport::Nats(nats) => {
            let lanes = forward::nats::lanes(config, nats, context).await?.into_iter();
            let lane = |(side, part): (NatsSide, _)| {
                let name = named(side.server(), &part);
                (Target::Nats(Box::new(side), part), name)
            };
            Ok(lanes.map(lane).collect())
        }
        OutputTransport::Aggregator(to) => {
            let lanes = forward::aggregator::lanes(config, to, status, context).await?.into_iter();
            let lane = |(side, part)| {
                let name = named(to.to.as_str().to_owned(), &part);
                (Target::Aggregator(Box::new(side), part), name)
            };
            Ok(lanes.map(lane).collect())
        }
        _ => Err("this output is no forwarder".to_owned()),
    }
}

/// Waits until the output is ordered to end or the daemon drains.
async fn ended(mailbox: &mut Mailbox<End>, context: &Context) -> Over {
    tokio::select! {
        () = async { while !matches!(mailbox.recv().await, Some(Received::Message(End)) | None) {} } => Over::Ended,
        () = drains(context) => Over::Draining,
    }
}

/// Completes when the daemon drains.
async fn drains(context: &Context) {
    // A dropped sender means the same.
    let _ = context.ending.clone().wait_for(|ending| *ending != Ending::NotYet).await;
}

fn order(connection: &Connection, why: &str) {
    // A full or closed mailbox means that the connection is ending already.
    let _ = connection.session.try_send_urgent(Leave(why.to_owned()));
}
