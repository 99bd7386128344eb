//! A small fleet against a daemon that is killed and stopped during the run. Every frame is archived exactly once.

use std::net::SocketAddr;
use std::sync::mpsc;

use crate::alone;
use crate::support::{Client, Daemon, EMERGENCY, Hello, LIMIT, ROUTINE, Received, Server, Signal, code};

const SATELLITES: u32 = 12;
const FRAMES: u64 = 600;

/// A sender that keeps the frames that are not durable, and resends from the position in WELCOME.
struct Uplink {
    source_id: u32,
    /// Next sequence to send, per lane. There are a tenth as many emergencies as routine frames.
    next: [u64; 2],
    durable: [u64; 2],
}

impl Uplink {
    const COUNT: [u64; 2] = [FRAMES / 10, FRAMES];

    fn new(source_id: u32) -> Self {
        Self { source_id, next: [0; 2], durable: [0; 2] }
    }

    fn is_done(&self) -> bool {
        self.durable == Self::COUNT
    }

    /// Sends until all frames are durable or the connection ends. Reports how many routine frames are durable.
    fn run(&mut self, address: SocketAddr, progress: &mpsc::Sender<(u32, u64)>) {
        let hello = Hello::new(self.source_id).station(&format!("station {}", self.source_id % 3));
        let (mut client, welcome) = Client::open(address, &hello);
        for lane in [EMERGENCY, ROUTINE] {
            let resume = welcome.resume_next[lane];
            assert!(
                resume >= self.durable[lane],
                "acknowledged up to {}, resume at {resume}",
                self.durable[lane]
            );
            assert!(resume <= self.next[lane], "sent up to {}, resume at {resume}", self.next[lane]);
            self.next[lane] = resume;
            // More frames may be durable than the last connection received ACKs for.
            self.durable[lane] = client.ack(lane).durable_next;
        }
        while !self.is_done() {
            let _ = progress.send((self.source_id, self.durable[ROUTINE]));
            for lane in [EMERGENCY, ROUTINE] {
                for _ in 0..if lane == ROUTINE { 20 } else { 2 } {
                    if self.next[lane] < Self::COUNT[lane] && client.credit(lane) >= 256 {
                        client.spend(lane, 256);
                        let payload = payload(self.source_id, lane, self.next[lane]);
                        let frame = crate::support::message::frame(lane, self.next[lane], &payload);
                        self.next[lane] += 1;
                        if client.try_send(&frame).is_err() {
                            break;
                        }
                    }
                }
            }
            let all_sent = self.next == Self::COUNT;
            let patience = if all_sent { LIMIT } else { std::time::Duration::from_millis(1) };
            match client.receive(patience) {
                Received::Message(Server::Ack(ack)) => {
                    self.durable[ack.lane] = ack.durable_next;
                }
                Received::Message(Server::Error(error)) => {
                    assert_eq!(error.code, code::DRAINING, "{error:?}");
                    return;
                }
                Received::Message(Server::GoAway { .. } | Server::Ping(_)) => {}
                Received::Silence if !all_sent => {}
                Received::End | Received::Reset => return,
                other => panic!("source {}: {other:?}", self.source_id),
            }
        }
        let _ = progress.send((self.source_id, self.durable[ROUTINE]));
    }
}

fn payload(source_id: u32, lane: usize, sequence: u64) -> Vec<u8> {
    format!("{source_id}/{lane}/{sequence}").into_bytes()
}

/// Runs all uplinks until they are done or the connection ends. When each uplink has `until` durable routine frames,
/// sends `signal` to the daemon.
fn pass(daemon: &Daemon, fleet: &mut [Uplink], until: u64, signal: Option<Signal>) {
    let (progress_tx, progress) = mpsc::channel();
    let mut durable = vec![0; fleet.len()];
    std::thread::scope(|scope| {
        for uplink in fleet {
            let progress_tx = progress_tx.clone();
            scope.spawn(move || uplink.run(daemon.address(), &progress_tx));
        }
        drop(progress_tx);
        while durable.iter().any(|next| *next < until) {
            // This ends when an uplink fails. Its panic fails the test at the end of the scope.
            let Ok((source_id, next)) = progress.recv() else { break };
            durable[source_id as usize] = next;
        }
        if let Some(signal) = signal {
            daemon.signal(signal);
        }
    });
}

#[test]
fn every_frame_of_a_fleet_is_archived_exactly_once() {
    let _alone = alone();
    let mut fleet: Vec<_> = (0..SATELLITES).map(Uplink::new).collect();
    let mut daemon = Daemon::start("[ingest]\nroutine_window = \"32 KiB\"\nemergency_window = \"16 KiB\"");
    for (until, signal) in [(100, Signal::KILL), (250, Signal::TERM), (400, Signal::KILL)] {
        pass(&daemon, &mut fleet, until, Some(signal));
        daemon.wait_exit(LIMIT);
        daemon = daemon.restart();
    }
    pass(&daemon, &mut fleet, u64::MAX, None);
    assert!(fleet.iter().all(Uplink::is_done));
    daemon.stop();

    let archived = daemon.archived();
    for source_id in 0..SATELLITES {
        for lane in [EMERGENCY, ROUTINE] {
            let kept = archived.iter().filter(|frame| frame.source_id == source_id && frame.lane == lane);
            let sequences: Vec<_> = kept.clone().map(|frame| frame.sequence).collect();
            assert!(
                sequences.iter().copied().eq(0..Uplink::COUNT[lane]),
                "source {source_id}, lane {lane}: {sequences:?}"
            );
            for frame in kept {
                assert_eq!(frame.payload, payload(source_id, lane, frame.sequence));
                assert_eq!(frame.station, format!("station {}", source_id % 3));
            }
        }
    }
}
