//! A daemon with a healthy session beside whatever a test does to it.

use crate::support::message::framed;
use crate::support::{Books, Client, Daemon, EMERGENCY, ErrorMessage, Hello, ROUTINE};

/// The healthy session's source.
pub const HEALTHY: u32 = 900;
/// The source of those who offend.
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

    /// With another HELLO of the healthy session; its source must be [`HEALTHY`].
    pub fn with_healthy(config: &str, hello: &Hello) -> Self {
        let daemon = Daemon::start(config);
        let (healthy, _) = Client::open(daemon.address(), hello);
        let mut bench = Self { daemon, healthy, sent: 0 };
        bench.prove_healthy();
        bench
    }

    /// The healthy session has a frame of each lane acknowledged.
    pub fn prove_healthy(&mut self) {
        self.healthy.deliver(ROUTINE, self.sent, b"healthy");
        self.healthy.deliver(EMERGENCY, self.sent, b"healthy");
        self.sent += 1;
    }

    /// Connects and says hello as the offender.
    pub fn offender(&self) -> Client {
        Client::open(self.daemon.address(), &Hello::new(OFFENDER)).0
    }

    /// The healthy session is untouched and ends in order, the daemon stops in order, the books balance.
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

    /// Frames that the healthy session has sent by the end, once [`Self::finish`] has proved it again.
    pub fn healthy_frames(&self) -> u64 {
        2 * (self.sent + 1)
    }
}

/// Much harmless data, though less than the 1 MiB a server discards behind an ERROR.
pub fn trailer() -> Vec<u8> {
    framed(&[0xC1; 10_000]).repeat(80)
}

/// Sends `bytes` as the first of a connection, with much behind them, and expects ERROR `code`.
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

/// Sends a good frame, then `bytes`, with much behind them, and expects ERROR `code`, the good frame kept.
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
