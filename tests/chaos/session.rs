//! One connection of a [`Source`](crate::source::Source).

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::content::{FrameId, count_below, sequence};
use crate::scene::pass;
use crate::source::{Shared, Uplink, kind_of, station_of};
use crate::support::{Ack, EMERGENCY, ErrorMessage, Frame, Hello, ROUTINE, Server, code, cost, message};
use crate::wire::{Connection, Event};

/// The heartbeat of all connections: three of silence end one.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Most bytes of one write. Emergencies go first in each write.
const WRITE_BYTES: usize = 64 << 10;
/// Time between two looks at what is due.
const TICK: Duration = Duration::from_millis(20);
/// Routine frames for each emergency.
const ROUTINE_PER_EMERGENCY: f64 = 20.0;
/// Most new emergencies in a second.
const EMERGENCIES_MAX: f64 = 20.0;
/// Longest wait that a retryable error causes.
const RETRY_MAX: Duration = Duration::from_millis(200);

/// A connection after WELCOME.
pub struct Session<'a> {
    id: u32,
    uplink: &'a Uplink,
    shared: &'a Shared,
    connection: Connection,
    /// Index of the next frame to write, per lane.
    next: [u64; 2],
    spent: [u64; 2],
    credit: [u64; 2],
    /// New frames that the rate allows, per lane.
    due: [f64; 2],
    looked_at: Instant,
    is_draining: bool,
    has_said_bye: bool,
}

impl<'a> Session<'a> {
    /// Connects and reads WELCOME.
    pub fn open(id: u32, uplink: &'a Uplink, shared: &'a Shared) -> std::io::Result<Self> {
        shared.is_greeting.store(true, Relaxed);
        let opened = Self::connect(id, uplink, shared);
        shared.is_greeting.store(false, Relaxed);
        opened
    }

    fn connect(id: u32, uplink: &'a Uplink, shared: &'a Shared) -> std::io::Result<Self> {
        let hello = Hello::new(id).kind(kind_of(id)).station(&station_of(id)).token(&uplink.entrance.token);
        let hello = hello.heartbeat(HEARTBEAT.as_secs() as u16).bytes();
        let connection = Connection::open(uplink.entrance.address, &hello, HEARTBEAT)?;
        let mut session = Self {
            id,
            uplink,
            shared,
            connection,
            next: [0; 2],
            spent: [0; 2],
            credit: [0; 2],
            due: [0.0; 2],
            looked_at: Instant::now(),
            is_draining: false,
            has_said_bye: false,
        };
        session.greet()?;
        Ok(session)
    }

    fn greet(&mut self) -> std::io::Result<()> {
        let broken = || std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
        match self.connection.receive(3 * HEARTBEAT) {
            Event::Body(body) => match Server::decode(&body) {
                Server::Welcome(welcome) => {
                    self.resume(welcome.resume_next);
                    self.shared.welcomes.fetch_add(1, Relaxed);
                    Ok(())
                }
                Server::Error(error) => {
                    self.check_error(&error);
                    Err(broken())
                }
                other => panic!("source {}: WELCOME is due, not {other:?}", self.id),
            },
            Event::Broken | Event::Silence => {
                self.shared.broken_handshakes.fetch_add(1, Relaxed);
                Err(broken())
            }
        }
    }

    /// Continues where WELCOME says. Acknowledged frames must not be asked for.
    fn resume(&mut self, resume_next: [u64; 2]) {
        let books = self.shared.books();
        for lane in [EMERGENCY, ROUTINE] {
            self.next[lane] = count_below(resume_next[lane]);
            let (next, book) = (self.next[lane], books[lane]);
            let is_known = (book.acked..=book.written).contains(&next);
            assert!(is_known, "source {} lane {lane}: resume at frame {next}, but {book:?}", self.id);
        }
    }

    /// Runs the connection to its end. Returns whether the daemon answered BYE.
    pub fn run(mut self) -> bool {
        while !self.shared.stop.load(Relaxed) {
            let is_busy = match self.write() {
                Ok(bytes) => bytes >= WRITE_BYTES,
                Err(_) => return false,
            };
            let mut wait = if is_busy { Duration::from_millis(1) } else { TICK };
            loop {
                match self.connection.receive(wait) {
                    Event::Body(body) => match self.take(&Server::decode(&body)) {
                        Next::Continue => {}
                        Next::End(is_done) => return is_done,
                    },
                    Event::Broken => return false,
                    Event::Silence => break,
                }
                // Take what has come with the first message, then write.
                wait = Duration::ZERO;
            }
            if !self.connection.is_alive() {
                return false;
            }
        }
        false
    }

    /// Writes what is due and within credit, and BYE at the end. Returns the number of bytes.
    fn write(&mut self) -> std::io::Result<usize> {
        self.look_at_the_clock();
        let mut bytes = Vec::new();
        for lane in [EMERGENCY, ROUTINE] {
            while bytes.len() < WRITE_BYTES
                && let Some(frame) = self.frame(lane)
            {
                bytes.extend_from_slice(&frame);
            }
        }
        let books = *self.shared.books();
        let is_done = (0..2).all(|lane| self.next[lane] == books[lane].written);
        if self.shared.finish.load(Relaxed) && is_done && !self.has_said_bye {
            self.has_said_bye = true;
            let ends = books.map(|book| book.written.checked_sub(1).map_or(0, |last| sequence(last) + 1));
            bytes.extend_from_slice(&message::bye(ends));
        }
        if !bytes.is_empty() {
            self.connection.send(&bytes)?;
        }
        Ok(bytes.len())
    }

    fn look_at_the_clock(&mut self) {
        let rate = f64::from(self.uplink.rate.load(Relaxed));
        let elapsed = self.looked_at.elapsed().as_secs_f64().min(0.5);
        self.looked_at = Instant::now();
        // At most what a second brings is owed.
        self.due[ROUTINE] = self.due[ROUTINE].min(rate) + rate * elapsed;
        let rate = (rate / ROUTINE_PER_EMERGENCY).min(EMERGENCIES_MAX);
        self.due[EMERGENCY] = self.due[EMERGENCY].min(rate) + rate * elapsed;
    }

    /// The next frame of `lane`: first those that the daemon has not accepted, then new ones as the rate allows.
    fn frame(&mut self, lane: usize) -> Option<Vec<u8>> {
        let index = self.next[lane];
        let is_new = index == self.shared.books()[lane].written;
        let may_be_new = !self.is_draining && !self.shared.finish.load(Relaxed) && self.due[lane] >= 1.0;
        if self.has_said_bye || is_new && !may_be_new {
            return None;
        }
        let payload = FrameId { source: self.id, lane, index }.payload();
        let frame = Frame::new(lane, sequence(index), &payload);
        let cost = cost(frame.body().len());
        if self.spent[lane] + cost > self.credit[lane] {
            return None;
        }
        self.spent[lane] += cost;
        self.next[lane] += 1;
        if is_new {
            self.due[lane] -= 1.0;
            // Noted before the write: the archive may then hold the frame.
            self.shared.books()[lane].written = self.next[lane];
        }
        Some(frame.bytes())
    }

    fn take(&mut self, message: &Server) -> Next {
        match message {
            Server::Ack(ack) => self.acknowledge(ack),
            Server::Bye(next) => {
                for lane in [EMERGENCY, ROUTINE] {
                    self.note_durable(lane, next[lane]);
                }
                let books = *self.shared.books();
                let is_whole = books.iter().all(|book| book.acked == book.written);
                assert!(is_whole || !self.has_said_bye, "source {}: BYE, but {books:?}", self.id);
                return Next::End(self.has_said_bye);
            }
            Server::Ping(nonce) => {
                if self.connection.send(&message::pong(*nonce)).is_err() {
                    return Next::End(false);
                }
            }
            Server::GoAway { .. } => self.is_draining = true,
            Server::Pong(_) => {}
            Server::Error(error) => {
                self.check_error(error);
                return Next::End(false);
            }
            Server::Welcome(_) | Server::Catalog { .. } => panic!("source {}: {message:?}", self.id),
        }
        Next::Continue
    }

    fn acknowledge(&mut self, ack: &Ack) {
        assert!(ack.credit_limit >= self.credit[ack.lane], "source {}: credit falls: {ack:?}", self.id);
        self.credit[ack.lane] = ack.credit_limit;
        self.note_durable(ack.lane, ack.durable_next);
    }

    fn note_durable(&self, lane: usize, durable_next: u64) {
        let acked = count_below(durable_next);
        let book = &mut self.shared.books()[lane];
        assert!(acked <= book.written, "source {} lane {lane}: {acked} acknowledged, {book:?}", self.id);
        assert!(acked >= book.acked, "source {} lane {lane}: acknowledged {acked} after {book:?}", self.id);
        book.acked = acked;
    }

    fn check_error(&self, error: &ErrorMessage) {
        // A connection of this source that the network swallowed may be alive for the daemon. The daemon ends it.
        let is_expected = code::is_retryable(error.code) || error.code == code::TAKEN_OVER;
        assert!(is_expected, "source {}: {error:?}", self.id);
        pass(Duration::from_millis(error.retry_after_ms.into()).min(RETRY_MAX));
    }
}

enum Next {
    Continue,
    /// The connection is over: whether the daemon answered BYE.
    End(bool),
}
