//! Processes to compare a daemon with: they read bytes from the same kind of sockets and discard them.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{ChildStdout, Command, Stdio};

use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::receiver::{Receiver, Usage};

const READ_BYTES: usize = 64 << 10;
const PREFIX_BYTES: usize = 4;
/// First argument with which the bench's own binary becomes a sink.
const ARGUMENT: &str = "--sink";

/// What a sink does with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// Only finds where frames end.
    Split,
    /// Makes one `Bytes` for each frame, as the codec of `tokio_util` does.
    Codec,
}

/// A sink in its own process.
pub struct Sink {
    process: Receiver,
    lines: Lines<BufReader<ChildStdout>>,
    pub address: SocketAddr,
}

impl Sink {
    /// Starts a sink for this many connections.
    pub fn start(kind: SinkKind, connections: u32) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = if kind == SinkKind::Split { "split" } else { "codec" };
        command.args([ARGUMENT, name, &connections.to_string()]).stdout(Stdio::piped());
        let mut process = Receiver::spawn(&mut command);
        let mut lines = BufReader::new(process.stdout()).lines();
        let address = lines.next().unwrap().unwrap().parse().unwrap();
        Self { process, lines, address }
    }

    /// Becomes a sink if the arguments ask for one. Call this first in the `main` of every bench that starts a sink.
    pub fn serve_if_asked() {
        let args: Vec<String> = std::env::args().collect();
        if let [_, ARGUMENT, name, connections] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            let kind = if name == "split" { SinkKind::Split } else { SinkKind::Codec };
            Runtime::new().unwrap().block_on(serve(kind, connections.parse().unwrap()));
        }
    }

    pub fn usage(&self) -> Usage {
        self.process.usage()
    }

    /// The number of frames received. Waits until all connections have ended.
    pub fn frames(&mut self) -> u64 {
        self.lines.next().unwrap().unwrap().parse().unwrap()
    }
}

async fn serve(kind: SinkKind, connections: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let mut sessions = JoinSet::new();
    for _ in 0..connections {
        let (socket, _) = listener.accept().await.unwrap();
        match kind {
            SinkKind::Split => sessions.spawn(split(socket)),
            SinkKind::Codec => sessions.spawn(decode(socket)),
        };
    }
    println!("{}", sessions.join_all().await.into_iter().sum::<u64>());
    // Keep the process alive, so that the parent can read its figures.
    std::future::pending::<()>().await;
}

async fn split(mut socket: TcpStream) -> u64 {
    let mut buffer = vec![0; READ_BYTES];
    let (mut filled, mut frames) = (0, 0);
    loop {
        let bytes = socket.read(&mut buffer[filled..]).await.unwrap();
        if bytes == 0 {
            assert_eq!(filled, 0, "the last frame is cut");
            return frames;
        }
        filled += bytes;
        let mut at = 0;
        while let Some((length, rest)) = buffer[at..filled].split_first_chunk::<PREFIX_BYTES>() {
            let length = u32::from_be_bytes(*length) as usize;
            if rest.len() < length {
                break;
            }
            at += PREFIX_BYTES + length;
            frames += 1;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
}

async fn decode(socket: TcpStream) -> u64 {
    let mut frames = FramedRead::with_capacity(socket, LengthDelimitedCodec::new(), READ_BYTES);
    let mut count = 0;
    while let Some(frame) = frames.next().await {
        drop(std::hint::black_box(frame.unwrap()));
        count += 1;
    }
    count
}
