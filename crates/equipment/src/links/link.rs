//! The actor of one link: it makes connections, one at a time, and watches over them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tls::Socket;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::handshakes::Handshakes;
use super::session::{self, Input};
use super::status::LinkStatus;
use super::udp::{UdpOptions, UdpReceiver};
use super::{Context, allows};
use crate::switchboard::End;
use actor::{ActorHandle, Address, Capacity, ExitReason, Mailbox, Received, spawn};
use api::LinkState;
use config::{Link, LinkTransport, TlsSides};
use connection::Stop;
use connection::tcp::{self, BACKOFF_MIN, Backoff, STABLE_AFTER};
use support::logging::{Kind, by_peer};
use wire::{ErrorCode, WireError};

/// Room in the mailbox of a connection. Every order means "end", so an order that finds no room is not needed.
const CAPACITY: Capacity = Capacity { urgent: 4, routine: 1 };

/// The actor of a link.
struct Actor {
    /// The configuration of the link. A change of it starts another actor.
    config: Arc<Link>,
    /// The state and the counts, which outlive the actor.
    status: Arc<LinkStatus>,
    /// What links need from the rest of the daemon.
    context: Arc<Context>,
    /// Receives the order to end, and the ends of connections.
    mailbox: Mailbox<End>,
}

/// Why a link ends. It is the error of everything that runs until then, so that `?` leads out.
enum Over {
    /// It was ordered to end, or the daemon drains.
    Ended,
}

/// A connection that runs.
struct Connection {
    /// The mailbox for the order to end.
    session: Address<Stop>,
    /// Dropping it aborts the connection.
    _task: ActorHandle,
}

/// Runs a link until it is ordered to end or the daemon drains.
pub(super) async fn run(
    config: Arc<Link>,
    status: Arc<LinkStatus>,
    context: Arc<Context>,
    mailbox: Mailbox<End>,
) {
    let mut link = Actor { config, status, context, mailbox };
    let over = match link.config.transport.clone() {
        LinkTransport::Connect { to, greeting } => link.connect(to.as_str(), &greeting).await,
        LinkTransport::Listen { at, .. } => link.listen(at).await,
        LinkTransport::Udp { at, multicast, interface, receive_buffer, .. } => {
            link.receive(&UdpOptions { address: at, multicast, interface, receive_buffer }).await
        }
    };
    match over {
        Err(Over::Ended) => {}
        Ok(never) => match never {},
    }
}

impl Actor {
    /// Connects again and again.
    async fn connect(&mut self, host: &str, greeting: &[u8]) -> Result<Infallible, Over> {
        let mut backoff = Backoff::default();
        loop {
            self.status.enter(LinkState::Connecting);
            let client = self.tls(self.sides().connecting_link);
            let connected = tokio::select! {
                connected = async { tcp::dial(host, client?.as_ref()).await } => connected,
                over = ended(&mut self.mailbox, &self.context) => return Err(over),
            };
            match connected {
                Ok((mut socket, peer)) => match send_greeting(&mut socket, greeting).await {
                    Ok(()) => {
                        let connection = self.start(Input::Tcp(socket), peer);
                        self.watch(&connection, &mut backoff).await?;
                    }
                    Err(error) => self.note_trouble(format!("cannot send the greeting to {peer}: {error}")),
                },
                Err(error) => self.note_trouble(format!("cannot connect to {host}: {error}")),
            }
            self.pause(&mut backoff).await?;
        }
    }

    /// Accepts one peer at a time. A new peer ends the connection of the one before, with TLS only once its handshake
    /// is complete.
    async fn listen(&mut self, address: SocketAddr) -> Result<Infallible, Over> {
        let listener = self.bind(|| tcp::listen(address), &format!("cannot listen on {address}")).await?;
        let (mut current, mut handshakes) = (None, Handshakes::default());
        self.bound(listener.local_addr().ok(), None);
        self.status.enter(LinkState::Listening);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((_, peer)) if !allows(&self.config, peer.ip()) => {
                        self.status.count(|counts| counts.strangers += 1);
                        self.status.note_trouble(format!("{peer} may not connect: it is not in peers"));
                    }
                    Ok((socket, peer)) => match self.accepted(socket) {
                        Ok(socket) if socket.is_encrypted() => {
                            if let Some(evicted) = handshakes.begin(socket, peer) {
                                self.note_trouble(format!("{evicted}: newer peers have connected before its handshake was complete"));
                            }
                        }
                        Ok(socket) => self.take_over(&mut current, socket, peer).await,
                        Err(error) => self.note_trouble(format!("{peer}: {error}")),
                    },
                    // The peer has gone, or the process has no file descriptor left.
                    Err(error) => {
                        by_peer!(Kind::Linked, WARN, link = self.config.name, %error, "cannot accept a connection");
                        self.status.note_trouble(format!("cannot accept a connection: {error}"));
                        sleep(BACKOFF_MIN).await;
                    }
                },
                (peer, shaken) = handshakes.next() => match shaken {
                    Ok(socket) => self.take_over(&mut current, socket, peer).await,
                    Err(error) => self.note_trouble(format!("{peer}: {error}")),
                },
                received = self.mailbox.recv() => match received {
                    Some(Received::Down(down)) => {
                        current = None;
                        self.status.enter(LinkState::Listening);
                        self.note_end(&down.reason);
                    }
                    Some(Received::Exit(_)) => {}
                    Some(Received::Message(End)) | None => {
                        return Err(self.close(current.as_ref()).await);
                    }
                },
                () = drains(&self.context) => return Err(self.close(current.as_ref()).await),
            }
        }
    }

    /// Receives datagrams.
    async fn receive(&mut self, options: &UdpOptions) -> Result<Infallible, Over> {
        let mut backoff = Backoff::default();
        loop {
            let what = format!("cannot receive datagrams on {}", options.address);
            let receiver = self.bind(|| UdpReceiver::bind(options), &what).await?;
            self.bound(receiver.local_address(), Some(receiver.receive_buffer()));
            let connection = self.start(Input::Udp(receiver), options.address);
            self.watch(&connection, &mut backoff).await?;
            self.pause(&mut backoff).await?;
        }
    }

    /// Makes a socket with `bind`. Tries again until that succeeds.
    async fn bind<T>(&mut self, bind: impl Fn() -> io::Result<T>, what: &str) -> Result<T, Over> {
        let mut backoff = Backoff::default();
        loop {
            match bind() {
                Ok(socket) => return Ok(socket),
                Err(error) => {
                    self.status.enter(LinkState::Failed);
                    self.note_trouble(format!("{what}: {error}"));
                }
            }
            self.pause(&mut backoff).await?;
        }
    }

    /// Starts a connection and monitors it.
    fn start(&mut self, input: Input, peer: SocketAddr) -> Connection {
        if let Input::Tcp(socket) = &input {
            tcp::keep_alive(socket.tcp());
        }
        let is_udp = matches!(input, Input::Udp(_));
        self.status.connected((!is_udp).then_some(peer));
        by_peer!(Kind::Linked, INFO, link = self.config.name, %peer, "link connected");
        let (config, status) = (Arc::clone(&self.config), Arc::clone(&self.status));
        let context = Arc::clone(&self.context);
        let name = format!("link {} with {peer}", config.name);
        let (session, task) =
            spawn(name, CAPACITY, move |mailbox| session::run(config, status, input, peer, mailbox, context));
        self.mailbox.monitor(&session);
        Connection { session, _task: task }
    }

    /// Waits until `connection` has ended.
    async fn watch(&mut self, connection: &Connection, backoff: &mut Backoff) -> Result<(), Over> {
        let began = tokio::time::Instant::now();
        loop {
            tokio::select! {
                received = self.mailbox.recv() => match received {
                    Some(Received::Down(down)) => {
                        self.status.enter(LinkState::Connecting);
                        self.note_end(&down.reason);
                        if began.elapsed() >= STABLE_AFTER {
                            *backoff = Backoff::default();
                        }
                        return Ok(());
                    }
                    Some(Received::Exit(_)) => {}
                    Some(Received::Message(End)) | None => return Err(self.close(Some(connection)).await),
                },
                () = drains(&self.context) => return Err(self.close(Some(connection)).await),
            }
        }
    }

    /// The socket of a peer that has connected.
    fn accepted(&self, tcp: TcpStream) -> io::Result<Socket> {
        let server = self.tls(self.sides().listening_link)?;
        Socket::accepted(tcp, server.as_ref())
    }

    /// Serves `peer` in place of the `current` one, which ends first.
    async fn take_over(&mut self, current: &mut Option<Connection>, socket: Socket, peer: SocketAddr) {
        if let Some(connection) = current.take() {
            let text =
                format!("{peer} has connected to link {}; the newest connection wins", self.config.name);
            order(&connection, WireError::new(ErrorCode::TakenOver, text));
            self.wait_for_end().await;
        }
        *current = Some(self.start(Input::Tcp(socket), peer));
    }

    /// Ends the link with its `connection`. In a drain, the connection ends by itself.
    async fn close(&mut self, connection: Option<&Connection>) -> Over {
        if let Some(connection) = connection {
            if !*self.context.shutdown.borrow() {
                order(connection, WireError::new(ErrorCode::Removed, "the link was switched off or changed"));
            }
            self.wait_for_end().await;
        }
        Over::Ended
    }

    /// Waits for the `Down` of the connection.
    async fn wait_for_end(&mut self) {
        let down = self.mailbox.recv_match(|received| matches!(received, Received::Down(_)));
        if let Ok(Some(Received::Down(down))) = down.await {
            self.note_end(&down.reason);
        }
    }

    /// What is needed to speak TLS now.
    fn sides(&self) -> TlsSides {
        self.context.live.current().tls.files.sides.clone()
    }

    /// `side`, if this link is encrypted. Never plain text in place of TLS.
    fn tls<T>(&self, side: Option<T>) -> io::Result<Option<T>> {
        match (self.config.tls, side) {
            (false, _) => Ok(None),
            (true, Some(side)) => Ok(Some(side)),
            (true, None) => Err(io::Error::other("there is no certificate or authority for TLS any more")),
        }
    }

    fn bound(&self, address: Option<SocketAddr>, receive_buffer: Option<u64>) {
        self.status.bound(address, receive_buffer);
        if let Some(address) = address {
            tracing::info!(link = self.config.name, %address, receive_buffer, "link ready");
        }
    }

    fn note_end(&self, reason: &ExitReason) {
        by_peer!(Kind::Linked, INFO, link = self.config.name, %reason, "link disconnected");
        self.status.note_trouble(reason.to_string());
    }

    fn note_trouble(&self, why: String) {
        tracing::debug!(link = self.config.name, "{why}");
        self.status.note_trouble(why);
    }

    async fn pause(&mut self, backoff: &mut Backoff) -> Result<(), Over> {
        tokio::select! {
            () = sleep(backoff.pause()) => Ok(()),
            over = ended(&mut self.mailbox, &self.context) => Err(over),
        }
    }
}

async fn send_greeting(socket: &mut Socket, greeting: &[u8]) -> io::Result<()> {
    socket.write_all(greeting).await?;
    socket.flush().await
}

/// Waits until the link is ordered to end or the daemon drains.
async fn ended(mailbox: &mut Mailbox<End>, context: &Context) -> Over {
    tokio::select! {
        () = async { while !matches!(mailbox.recv().await, Some(Received::Message(End)) | None) {} } => {}
        () = drains(context) => {}
    }
    Over::Ended
}

/// Completes when the daemon drains.
async fn drains(context: &Context) {
    // A dropped sender means the same.
    let _ = context.shutdown.clone().wait_for(|stop| *stop).await;
}

fn order(connection: &Connection, error: WireError) {
    // A full or closed mailbox means that the connection is being ended already.
    let _ = connection.session.try_send_urgent(Stop(error));
}
