//! A source for the demo: connects, sends a batch in a single write, and waits for the answers of the daemon.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use frame::{FrameFlags, FramePriority, Lanes, SourceKind, Station, StreamKey, unix_now_ns};
use wire::{Ack, Bye, ErrorCode, FrameMessage, Hello, HelloFlags, ServerMessage, Welcome, next_body};

/// One connection and its position.
pub(super) struct Uplink {
    /// The connection to the daemon.
    socket: TcpStream,
    /// Bytes from the daemon that are not decoded yet.
    input: BytesMut,
    /// The daemon's answer to HELLO: how to send.
    welcome: Welcome,
    /// One past the last sequence sent, per lane.
    sent_next: Lanes<u64>,
    /// One past the last sequence that the daemon has acknowledged, per lane.
    durable_next: Lanes<u64>,
}

impl Uplink {
    pub(super) async fn connect(
        address: SocketAddr,
        source_id: u32,
        source_kind: SourceKind,
    ) -> anyhow::Result<Self> {
        let mut socket = TcpStream::connect(address).await.context("cannot connect to the daemon")?;
        let mut hello = BytesMut::new();
        let stream = StreamKey { source_id, source_kind, station: Station::new("DEMO")? };
        let epoch = unix_now_ns().unsigned_abs() / 1_000_000;
        // Both lanes use one sequence counter.
        let flags = HelloFlags::SHARED_SEQUENCE;
        Hello { flags, ..Hello::new(stream, epoch) }.encode(&mut hello);
        socket.write_all(&hello).await?;
        let mut input = BytesMut::new();
        let ServerMessage::Welcome(welcome) = read(&mut socket, &mut input).await? else {
            bail!("the daemon refused source {source_id}");
        };
        Ok(Self { socket, input, welcome, sent_next: Lanes::default(), durable_next: Lanes::default() })
    }

    pub(super) const fn session_id(&self) -> u64 {
        self.welcome.session_id
    }

    /// Sends frames of these priorities in a single write. Sequences begin at 0.
    pub(super) async fn send(&mut self, priorities: &[FramePriority]) -> anyhow::Result<()> {
        let mut batch = BytesMut::new();
        for (sequence, priority) in (0..).zip(priorities) {
            let payload = Bytes::from_static(b"demo telemetry");
            FrameMessage::new(*priority, FrameFlags::default(), sequence, unix_now_ns(), payload)
                .encode(&mut batch);
            self.sent_next[*priority] = sequence + 1;
        }
        let written = self.socket.write(&batch).await?;
        ensure!(written == batch.len(), "the socket took {written} of {} bytes", batch.len());
        Ok(())
    }

    /// Waits until every frame that was sent is acknowledged.
    pub(super) async fn await_acknowledged(&mut self) -> anyhow::Result<()> {
        while self.durable_next != self.sent_next {
            match read(&mut self.socket, &mut self.input).await? {
                ServerMessage::Ack(Ack { priority, durable_next, .. }) => {
                    self.durable_next[priority] = durable_next;
                }
                other => bail!("unexpected {other:?}"),
            }
        }
        Ok(())
    }

    /// Waits for the ERROR that informs a source of its removal.
    pub(super) async fn await_removed(&mut self) -> anyhow::Result<()> {
        loop {
            match read(&mut self.socket, &mut self.input).await? {
                ServerMessage::Ack(_) => {}
                ServerMessage::Error(error) if error.code == ErrorCode::Removed as u16 => return Ok(()),
                other => bail!("unexpected {other:?}"),
            }
        }
    }

    /// Sends BYE and waits for the daemon's BYE, which means that everything is on disk.
    pub(super) async fn finish(&mut self) -> anyhow::Result<()> {
        let mut bye = BytesMut::new();
        Bye { next: self.sent_next }.encode(&mut bye);
        self.socket.write_all(&bye).await?;
        loop {
            match read(&mut self.socket, &mut self.input).await? {
                ServerMessage::Ack(_) => {}
                ServerMessage::Bye(bye) => {
                    let (sent, durable) = (self.sent_next, bye.next);
                    ensure!(
                        durable == sent,
                        "sent {} emergency and {} routine frames, but {} and {} are durable",
                        sent.emergency,
                        sent.routine,
                        durable.emergency,
                        durable.routine
                    );
                    return Ok(());
                }
                other => bail!("unexpected {other:?}"),
            }
        }
    }
}

/// Waits for the next message of the daemon.
async fn read(socket: &mut TcpStream, input: &mut BytesMut) -> anyhow::Result<ServerMessage> {
    loop {
        if let Some(body) = next_body(input, 1 << 20)? {
            return Ok(ServerMessage::decode(body)?);
        }
        ensure!(socket.read_buf(input).await? > 0, "the daemon closed the connection");
    }
}
