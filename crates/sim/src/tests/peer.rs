//! A scripted server: real sockets, and a peer that checks every frame that it gets.

use std::future::Future;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::super::*;
use frame::FramePriority::{self, Emergency, Routine};
use wire::{
    Ack, Bye, ClientMessage, ErrorCode, ErrorMessage, FrameMessage, Hello, ServerMessage, Welcome, WireError,
    next_body,
};

/// Only an operation that hangs takes longer.
const HANGS: Duration = Duration::from_secs(20);
/// Credit that is never used up.
pub(super) const PLENTY: u64 = 1 << 40;
pub(super) const SEED: u64 = 42;

pub(super) struct Server {
    listener: TcpListener,
}

/// The server's end of one connection. Panics on a frame beyond the credit, out of order, or with wrong content.
pub(super) struct Peer {
    socket: TcpStream,
    buffer: BytesMut,
    pub(super) hello: Hello,
    plan: Plan,
    credit: [u64; 2],
    cost: [u64; 2],
    above: [u64; 2],
}

impl Server {
    pub(super) async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// One satellite with emergencies, sending flat out.
    pub(super) fn plan(&self) -> Plan {
        Plan {
            connect: self.listener.local_addr().unwrap().to_string(),
            satellites: 1,
            replays: 0,
            payload_bytes: 300,
            emergency_ratio: 0.2,
            token: "secret".to_owned(),
            epoch: Some(77),
            seed: SEED,
            ..Plan::default()
        }
    }

    /// Accepts the next connection and reads its HELLO.
    pub(super) async fn accept(&self, plan: &Plan) -> Peer {
        let (socket, _) = within(self.listener.accept()).await.unwrap();
        let mut peer = Peer {
            socket,
            buffer: BytesMut::new(),
            hello: Hello::new(plan.stream(0), 0),
            plan: plan.clone(),
            credit: [0; 2],
            cost: [0; 2],
            above: [0; 2],
        };
        let body = peer.body().await.expect("HELLO");
        peer.hello = Hello::decode(&body).unwrap();
        peer
    }

    /// Accepts, welcomes, and sends the first two ACKs: durable from `durable_next`, with credit for each
    /// lane.
    pub(super) async fn welcome(
        &self,
        plan: &Plan,
        resume_next: [u64; 2],
        durable_next: [u64; 2],
        credit: [u64; 2],
    ) -> Peer {
        let mut peer = self.accept(plan).await;
        peer.send(ServerMessage::Welcome(Welcome {
            version: 1,
            heartbeat_s: 15,
            max_message_bytes: 128 << 10,
            session_id: 1,
            epoch: peer.hello.epoch,
            resume_next: resume_next.into(),
            server_time_ns: 0,
            takes_zstd: None,
        }))
        .await;
        if !plan.no_ack {
            for lane in FramePriority::ALL {
                peer.ack(lane, durable_next[lane.lane()], credit[lane.lane()]).await;
            }
        }
        peer
    }
}

impl Peer {
    pub(super) async fn send(&mut self, message: ServerMessage) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        self.socket.write_all(&out).await.unwrap();
    }

    pub(super) async fn ack(&mut self, priority: FramePriority, durable_next: u64, credit_limit: u64) {
        self.ack_with_duplicates(priority, durable_next, credit_limit, 0).await;
    }

    pub(super) async fn ack_with_duplicates(
        &mut self,
        priority: FramePriority,
        durable_next: u64,
        credit: u64,
        duplicates: u32,
    ) {
        self.credit[priority.lane()] = credit;
        let ack = Ack { priority, duplicates, durable_next, credit_limit: credit };
        self.send(ServerMessage::Ack(ack)).await;
    }

    pub(super) async fn error(&mut self, code: ErrorCode, retry_after: Duration) {
        let error = ErrorMessage::new(&WireError::new(code, "scripted"), retry_after);
        self.send(ServerMessage::Error(error)).await;
    }

    pub(super) async fn body(&mut self) -> Option<Bytes> {
        loop {
            if let Some(body) = next_body(&mut self.buffer, 1 << 20).unwrap() {
                return Some(body);
            }
            if within(self.socket.read_buf(&mut self.buffer)).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// The next message; `None` at the end of file.
    pub(super) async fn next(&mut self) -> Option<ClientMessage> {
        let message = ClientMessage::decode(self.body().await?).unwrap();
        if let ClientMessage::Frame(frame) = &message {
            self.check(frame);
        }
        Some(message)
    }

    pub(super) fn check(&mut self, frame: &FrameMessage) {
        let (lane, sequence, plan) = (frame.priority.lane(), frame.sequence, &self.plan);
        assert!(sequence >= self.above[lane], "{sequence} is not above the one before");
        self.above[lane] = sequence + 1;
        self.cost[lane] += frame.cost;
        assert!(plan.no_ack || self.cost[lane] <= self.credit[lane], "past the credit");
        let id = self.hello.stream.source_id;
        assert_eq!(priority(plan.seed, id, sequence, plan.emergency_ratio), frame.priority);
        match &plan.input {
            None => assert_eq!(
                payload(plan.seed, id, sequence, frame.priority, plan.payload_bytes),
                frame.payload
            ),
            Some(packets) => assert_eq!(packets[sequence as usize], frame.payload),
        }
    }

    pub(super) async fn frame(&mut self) -> (FramePriority, u64) {
        match self.next().await {
            Some(ClientMessage::Frame(frame)) => (frame.priority, frame.sequence),
            other => panic!("{other:?} where a frame is due"),
        }
    }

    /// The next `count` frames, as sequences per lane.
    pub(super) async fn frames(&mut self, count: usize) -> [Vec<u64>; 2] {
        let mut lanes = [Vec::new(), Vec::new()];
        for _ in 0..count {
            let (priority, sequence) = self.frame().await;
            lanes[priority.lane()].push(sequence);
        }
        lanes
    }

    /// All frames up to BYE, and the positions of BYE.
    pub(super) async fn frames_to_bye(&mut self) -> ([Vec<u64>; 2], [u64; 2]) {
        let mut lanes = [Vec::new(), Vec::new()];
        loop {
            match self.next().await {
                Some(ClientMessage::Frame(frame)) => lanes[frame.priority.lane()].push(frame.sequence),
                Some(ClientMessage::Bye(bye)) => return (lanes, bye.next.into()),
                other => panic!("{other:?} where a frame or BYE is due"),
            }
        }
    }

    /// Checks that the client answers a PING and sends nothing before.
    pub(super) async fn is_quiet(&mut self) {
        self.send(ServerMessage::Ping(99)).await;
        assert_eq!(self.next().await, Some(ClientMessage::Pong(99)));
    }

    pub(super) async fn bye(&mut self, next: [u64; 2]) {
        self.send(ServerMessage::Bye(Bye { next: next.into() })).await;
    }
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(HANGS, future).await.expect("the test hangs")
}

/// Runs `plan` and the server's script at the same time.
pub(super) async fn against<T>(plan: Plan, script: impl Future<Output = T>) -> (Report, T) {
    let (_stop_tx, stop_rx) = watch::channel(false);
    within(async { tokio::join!(run(plan, stop_rx, Arc::default()), script) }).await
}

/// The first `count` sequences by lane, as a source with the tests' seed and ratio sends them.
pub(super) fn by_lane(count: u64) -> [Vec<u64>; 2] {
    let of = |lane| (0..count).filter(|&sequence| priority(SEED, 0, sequence, 0.2) == lane).collect();
    [of(Emergency), of(Routine)]
}

pub(super) fn next_of(lanes: &[Vec<u64>; 2]) -> [u64; 2] {
    lanes.each_ref().map(|lane| lane.last().map_or(0, |last| last + 1))
}
