//! The least work of a receiver of the same frames: one thread with epoll receives and discards.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use rustix::event::epoll::{self, EventData, EventFlags};

use super::support::{Receiver, Usage};

/// First argument with which the bench's own binary becomes a loop.
const ARGUMENT: &str = "--bare";
const READ_BYTES: usize = 64 << 10;
/// Most events taken at a time.
const EVENTS_MAX: usize = 256;
/// An answer with the length of an ACK and its prefix.
const ANSWER: [u8; 28] = [0; 28];

/// A loop in its own process.
pub struct Bare {
    process: Receiver,
    pub address: SocketAddr,
}

impl Bare {
    /// Starts a loop for `connections` connections. If `answers`, the loop answers each read with as many bytes as an
    /// ACK.
    pub fn start(connections: usize, answers: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([ARGUMENT, &connections.to_string(), &answers.to_string()]).stdout(Stdio::piped());
        let mut process = Receiver::spawn(&mut command);
        let mut line = String::new();
        BufReader::new(process.stdout()).read_line(&mut line).unwrap();
        Self { process, address: line.trim().parse().unwrap() }
    }

    /// Becomes a loop if the arguments ask for one. A loop does not return.
    pub fn serve_if_asked() {
        let args: Vec<String> = std::env::args().collect();
        if let [_, ARGUMENT, connections, answers] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            serve(connections.parse().unwrap(), answers.parse().unwrap());
        }
    }

    pub fn usage(&self) -> Usage {
        self.process.usage()
    }
}

/// Receives until the process is killed.
fn serve(connections: usize, answers: bool) -> ! {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let mut sockets: Vec<TcpStream> = Vec::new();
    for at in 0..connections as u64 {
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        epoll::add(&epoll, &socket, EventData::new_u64(at), EventFlags::IN | EventFlags::ET).unwrap();
        sockets.push(socket);
    }
    let mut buffer = vec![0; READ_BYTES];
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        for event in &events {
            let mut socket = &sockets[event.data.u64() as usize];
            match socket.read(&mut buffer) {
                // At the end the peer resets the connection, and the answers fail.
                Ok(1..) if answers => drop(socket.write_all(&ANSWER)),
                Ok(_) | Err(_) => {}
            }
        }
    }
}
