//! Many sources that send as much as they may.

use std::net::SocketAddr;
use std::time::Duration;

use frame::SourceKind;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::{Connection, Credit, hello};
use super::frames::Frames;
use super::receiver::own_thread_cpu_ns;

/// Time between two sends of a paced source. Each sends all frames that are due.
const PACE_STEP: Duration = Duration::from_millis(2);

/// The amount that each connection sends.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    Frames(u64),
    Time(Duration),
}

/// Sources that send routine frames of one size, all from one thread.
#[derive(Clone, Debug)]
pub struct Flood {
    pub address: SocketAddr,
    /// TLS of the connections, if they are encrypted.
    pub tls: Option<tls::Client>,
    pub credit: Credit,
    pub connections: u32,
    /// The id of the first source. The others follow.
    pub first_source_id: u32,
    pub source_kind: SourceKind,
    pub payload_bytes: usize,
    pub amount: Amount,
    /// Frames per second of each connection. `None` means as fast as possible.
    pub pace: Option<f64>,
}

/// The result of a flood.
#[derive(Clone, Copy, Debug)]
pub struct Flooded {
    pub frames: u64,
    /// From the first byte to the last BYE. Everything is durable then.
    pub elapsed: Duration,
    pub sender_cpu_ns: u64,
}

impl Flood {
    /// A flood from 48 live sources to a daemon, as fast as possible.
    pub fn new(address: SocketAddr, payload_bytes: usize, amount: Amount) -> Self {
        Self {
            address,
            tls: None,
            credit: Credit::Obeyed,
            connections: 48,
            first_source_id: 1,
            source_kind: SourceKind::LiveUplink,
            payload_bytes,
            amount,
            pace: None,
        }
    }

    /// Sends everything and waits for the last BYE. Runs on the calling thread and blocks it.
    pub fn run(&self) -> Flooded {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connections = Vec::new();
            for source_id in (self.first_source_id..).take(self.connections as usize) {
                connections.push(self.open(source_id).await);
            }
            let (started, cpu_ns) = (Instant::now(), own_thread_cpu_ns());
            let mut sources = JoinSet::new();
            for connection in connections {
                sources.spawn(self.clone().send(connection));
            }
            let frames = sources.join_all().await.into_iter().sum();
            let (elapsed, sender_cpu_ns) = (started.elapsed(), own_thread_cpu_ns() - cpu_ns);
            Flooded { frames, elapsed, sender_cpu_ns }
        })
    }

    async fn open(&self, source_id: u32) -> Connection {
        let frames = Frames::new(self.payload_bytes);
        match self.credit {
            Credit::Obeyed => {
                let hello = hello(source_id, self.source_kind, 0);
                Connection::open_with(self.address, self.tls.as_ref(), &hello, frames).await
            }
            Credit::Unlimited => Connection::open_raw(self.address, frames).await,
        }
    }

    /// Sends and returns the number of frames sent.
    async fn send(self, mut connection: Connection) -> u64 {
        let (started, first) = (Instant::now(), connection.routine().sent_next);
        loop {
            let sent = connection.routine().sent_next - first;
            let left = match self.amount {
                Amount::Frames(frames) => frames - sent,
                Amount::Time(time) if started.elapsed() < time => u64::MAX,
                Amount::Time(_) => 0,
            };
            if left == 0 {
                break;
            }
            let due = self.pace.map(|pace| (started.elapsed().as_secs_f64() * pace) as u64 - sent);
            connection.take_routine(left.min(due.unwrap_or(u64::MAX)));
            connection.turn(due.map(|_| Instant::now() + PACE_STEP)).await;
        }
        while !connection.is_written() {
            connection.turn(None).await;
        }
        connection.say_bye(self.credit).await;
        while !connection.has_ended() {
            connection.turn(None).await;
        }
        connection.routine().sent_next - first
    }
}

impl Flooded {
    pub fn frames_per_s(&self) -> f64 {
        self.frames as f64 / self.elapsed.as_secs_f64()
    }

    pub fn sender_cpu_ns_per_frame(&self) -> f64 {
        self.sender_cpu_ns as f64 / self.frames as f64
    }
}
