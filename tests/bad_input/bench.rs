//! A daemon with a healthy session, which runs while a test misuses the daemon.

use crate::support::message::framed;
use crate::support::{Books, Client, Daemon, EMERGENCY, ErrorMessage, Hello, ROUTINE};

/// The source of the healthy session.
pub const HEALTHY: u32 = 900;
/// The source of the offending sessions.
pub const OFFENDER: u32 = 7;

pub struct Bench {
    pub daemon: Daemon,
    healthy: Client,
    sent: u64,
}

impl Bench {
    pub fn new(config: &str) -> Self {
        Self::with_healthy(config, &Hello::new(HEALTHY).station("Healthy"))
    }

    /// Starts with `hello` as the HELLO of the healthy session. Its source must be [`HEALTHY`].
    pub fn with_healthy(config: &str, hello: &Hello) -> Self {
        let daemon = Daemon::start(config);
        let (healthy, _) = Client::open(daemon.address(), hello);
        let mut bench = Self { daemon, healthy, sent: 0 };
        bench.prove_healthy();
        bench
    }

    /// Sends a frame on each lane of the healthy session and waits for the ACKs.
    pub fn prove_healthy(&mut self) {
        self.healthy.deliver(ROUTINE, self.sent, b"healthy");
        self.healthy.deliver(EMERGENCY, self.sent, b"healthy");
        self.sent += 1;
    }

    /// Connects and sends HELLO as the offender.
    pub fn offender(&self) -> Client {
        Client::open(self.daemon.address(), &Hello::new(OFFENDER)).0
    }

    /// Checks that the healthy session is unharmed and ends in order. Stops the daemon and checks that the books
    /// balance.
    pub fn finish(mut self) -> Books {
        self.prove_healthy();
        let next = [self.sent, self.sent];
        assert_eq!(self.healthy.bye(next), next);
        let books = self.daemon.stop();
        let kept = self.daemon.archived().into_iter().filter(|frame| frame.source_id == HEALTHY);
        assert_eq!(kept.count() as u64, 2 * self.sent, "frames of the healthy session");
        let panics = self.daemon.lines().into_iter().filter(|line| line.contains("panicked"));
        assert_eq!(panics.collect::<Vec<_>>(), Vec::<String>::new());
        books
    }

    /// The number of frames that the healthy session has sent when [`Self::finish`] is done with its last check.
    pub fn healthy_frames(&self) -> u64 {
        2 * (self.sent + 1)
    }
}

/// Many harmless bytes, fewer than the 1 MiB that a server discards after an ERROR.
pub fn trailer() -> Vec<u8> {
    framed(&[0xC1; 10_000]).repeat(80)
}

/// Sends `bytes` first on a connection, followed by many more bytes, and expects ERROR `code`.
pub fn refused_at_first(bytes: &[u8], code: u16) -> ErrorMessage {
    let bench = Bench::new("");
    let mut client = Client::connect(bench.daemon.address());
    client.send(&[bytes, &trailer()].concat());
    let error = client.expect_error(code);
    client.assert_not_reset();
    let frames = bench.healthy_frames();
    assert_eq!(bench.finish().archived, frames);
    error
}

/// Sends a valid frame, then `bytes`, then many more bytes. Expects ERROR `code`, and that the valid frame is
/// archived.
pub fn refused_in_session(bytes: &[u8], code: u16) -> ErrorMessage {
    let bench = Bench::new("");
    let mut client = bench.offender();
    client.deliver(ROUTINE, 0, b"good");
    client.send(&[bytes, &trailer()].concat());
    let error = client.expect_error(code);
    client.assert_not_reset();
    assert_eq!(client.ack(ROUTINE).durable_next, 1);
    let frames = bench.healthy_frames() + 1;
    assert_eq!(bench.finish().archived, frames);
    error
}
