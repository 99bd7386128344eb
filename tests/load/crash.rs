//! kill -9 at random moments, under load. No acknowledged frame is lost, and no frame is archived twice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use sim::Plan;

use crate::alone;
use crate::support::command::aggregator;
use crate::support::fleet::{Fleet, FleetLog};
use crate::support::{
    Client, Daemon, EMERGENCY, Frame, Hello, LIMIT, Port, ROUTINE, Received, Server, connect_when_up, cost,
};

const ROUNDS: usize = 20;
/// Most frames of the fleet that are acknowledged between two kills. Most kills thus fall into the flood after a
/// restart.
const LIFE_FRAMES_MAX: u64 = 30_000;
/// Longest time, in microseconds, from that count of frames, or from the start, to the kill.
const LIFE_US_MAX: u64 = 50_000;
/// Longest time, in microseconds, from a start to the kill that interrupts its recovery.
const RECOVERY_US_MAX: u64 = 40_000;
/// Source ids of the recorders. No source of the fleet has them.
const RECORDERS: [u32; 2] = [1_000, 1_001];

#[test]
fn twenty_kills_lose_nothing_that_was_acknowledged() {
    let _alone = alone();
    let seed = std::env::var("CRASH_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("CRASH_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let port = Port::hold();
    let address = port.address();
    let config = format!("[ingest]\nlisten = \"{address}\"\n[archive]\nreserve = \"4 MiB\"");
    let plan = Plan {
        connect: address.to_string(),
        satellites: 8,
        replays: 2,
        rate: 2_000.0,
        payload_bytes: 200,
        emergency_ratio: 0.05,
        seed,
        linger: LIMIT,
        ..Plan::default()
    };

    let mut daemon = Daemon::start(&config);
    let fleet = Fleet::start(plan.clone());
    let recorders = RECORDERS.map(|source_id| Recorder::start(address, source_id, seed));
    for round in 0..ROUNDS {
        if rng.random_bool(0.8) {
            fleet.wait_acked(rng.random_range(1..LIFE_FRAMES_MAX));
        }
        // The kill comes at a random moment.
        std::thread::sleep(Duration::from_micros(rng.random_range(0..LIFE_US_MAX)));
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.wait_exit(LIMIT).code, None, "it ended before it was killed");
        let acknowledged = (fleet.counts().acked, recorders.each_ref().map(Recorder::acked));
        let (fleet_frames, recorded) = read(&plan, &daemon);
        assert!(
            fleet_frames >= acknowledged.0,
            "round {round}: {} frames of the fleet were acknowledged, {fleet_frames} are there",
            acknowledged.0
        );
        for (recorder, acked) in recorders.iter().zip(acknowledged.1) {
            recorder.check_below(acked, &recorded);
        }
        if rng.random_bool(0.5) {
            kill_in_recovery(&daemon, Duration::from_micros(rng.random_range(0..RECOVERY_US_MAX)));
        }
        let started = Instant::now();
        daemon = daemon.restart();
        assert!(started.elapsed() < Duration::from_secs(10), "round {round}: a start of {started:?}");
    }

    let report = fleet.stop_connected();
    assert!(report.is_complete(), "{report}");
    assert!(report.reconnects >= ROUNDS as u64, "the fleet did not live through the kills: {report}");
    let recorders = recorders.map(Recorder::finish);
    let books = daemon.stop();
    println!("fleet: {report}\nlast life: {books:?}");
    let (fleet_frames, recorded) = read(&plan, &daemon);
    assert_eq!(fleet_frames, report.sent, "frames of the fleet in the archive");
    for (source_id, record) in RECORDERS.into_iter().zip(recorders) {
        for lane in [EMERGENCY, ROUTINE] {
            let sent = &record.sent[lane];
            assert!(sent.len() > 100, "a recorder that hardly sent anything proves nothing: {}", sent.len());
            assert_eq!(record.acked[lane], sent[sent.len() - 1] + 1);
            assert_eq!(recorded.get(&(source_id, lane)), Some(sent), "source {source_id} lane {lane}");
        }
    }
}

/// Starts a new process on the archive of `daemon`, which has ended, and kills the new process too.
fn kill_in_recovery(daemon: &Daemon, after: Duration) {
    let mut command = aggregator(["run", "--config"]);
    command.arg(daemon.config_path()).current_dir(daemon.config_path().parent().expect("a directory"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the daemon cannot be started");
    // Nothing announces the parts of a recovery: the kill comes at a random moment.
    std::thread::sleep(after);
    assert_eq!(child.try_wait().expect("waiting fails"), None, "it ended before it was killed");
    child.kill().expect("it cannot be killed");
    child.wait().expect("waiting fails");
}

/// Checks the frames of the fleet. Returns their number and the sequences of the recorders by source and lane, in the
/// order of the log.
fn read(plan: &Plan, daemon: &Daemon) -> (u64, HashMap<(u32, usize), Vec<u64>>) {
    let mut recorded: HashMap<_, Vec<_>> = HashMap::new();
    let fleet_frames = FleetLog::read(plan, &daemon.archive_dir(), |frame| {
        let lane = frame.priority as usize;
        assert_eq!(frame.payload, payload(frame.source_id, lane, frame.sequence), "payload of {frame:?}");
        recorded.entry((frame.source_id, lane)).or_default().push(frame.sequence);
    });
    (fleet_frames, recorded)
}

/// A payload of 0 to 511 bytes, unique to this source, lane and sequence.
fn payload(source_id: u32, lane: usize, sequence: u64) -> Vec<u8> {
    let word = (u64::from(source_id) << 1 | lane as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ sequence;
    let bytes = word.wrapping_mul(0xD6E8_FEB8_6659_FD93).to_le_bytes();
    bytes.iter().copied().cycle().take(sequence as usize % 512).collect()
}

/// A client that records which frames it sent and which were acknowledged. It keeps the other frames for the next
/// connection.
struct Recorder {
    source_id: u32,
    record: Arc<Mutex<Record>>,
    thread: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Record {
    /// Every sequence that was written, per lane.
    sent: [Vec<u64>; 2],
    /// The highest `durable_next` that was received, per lane.
    acked: [u64; 2],
    /// Send no new frames. Send BYE when all frames are acknowledged.
    finish: bool,
}

impl Recorder {
    fn start(address: SocketAddr, source_id: u32, seed: u64) -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let thread = std::thread::spawn({
            let record = Arc::clone(&record);
            let mut rng = StdRng::seed_from_u64(seed ^ u64::from(source_id));
            move || while !connection(address, source_id, &record, &mut rng) {}
        });
        Self { source_id, record, thread }
    }

    fn acked(&self) -> [u64; 2] {
        self.record.lock().expect("the recorder panicked").acked
    }

    /// Asserts that the archive holds every frame below `acked`, once and in order.
    fn check_below(&self, acked: [u64; 2], recorded: &HashMap<(u32, usize), Vec<u64>>) {
        let sent = &self.record.lock().expect("the recorder panicked").sent;
        for lane in [EMERGENCY, ROUTINE] {
            let found = recorded.get(&(self.source_id, lane)).map_or(&[][..], Vec::as_slice);
            let below = |list: &[u64]| list.partition_point(|sequence| *sequence < acked[lane]);
            assert!(found.is_sorted_by(|a, b| a < b), "source {} lane {lane}: order", self.source_id);
            assert_eq!(
                found[..below(found)],
                sent[lane][..below(&sent[lane])],
                "source {} lane {lane}: acknowledged below {}",
                self.source_id,
                acked[lane]
            );
        }
    }

    fn finish(self) -> Record {
        self.record.lock().expect("the recorder panicked").finish = true;
        self.thread.join().expect("the recorder panicked");
        let record = self.record.lock().expect("the recorder panicked");
        record.clone()
    }
}

/// Runs one connection. Returns `true` if the server answered BYE when all frames were acknowledged.
fn connection(address: SocketAddr, source_id: u32, record: &Mutex<Record>, rng: &mut StdRng) -> bool {
    let mut client = Client::over(connect_when_up(address));
    let mut lanes = [Lane::default(), Lane::default()];
    if client.try_send(&Hello::new(source_id).station("CRASH").bytes()).is_err() {
        return false;
    }
    let Received::Message(Server::Welcome(welcome)) = client.receive(LIMIT) else { return false };
    for (lane, state) in lanes.iter_mut().enumerate() {
        let record = record.lock().expect("the test panicked");
        let next = welcome.resume_next[lane];
        assert!(next >= record.acked[lane], "resume_next {next} falls below {}", record.acked[lane]);
        state.resend = record.sent[lane].partition_point(|sequence| *sequence < next);
    }
    let mut said_bye = false;
    loop {
        let finish = record.lock().expect("the test panicked").finish;
        // Send as many frames as credit allows, in bursts of random length.
        for (lane, state) in lanes.iter_mut().enumerate() {
            for _ in 0..rng.random_range(1..20) {
                let Some(sequence) = state.next(lane, record, finish, rng) else { break };
                let frame = Frame::new(lane, sequence, &payload(source_id, lane, sequence));
                if state.spent + cost(frame.body().len()) > state.credit {
                    break;
                }
                state.spent += cost(frame.body().len());
                state.sent(lane, record, sequence);
                if client.try_send(&frame.bytes()).is_err() {
                    return false;
                }
            }
        }
        if finish && !said_bye && lanes.iter().enumerate().all(|(lane, state)| state.is_done(lane, record)) {
            let next = record
                .lock()
                .expect("the test panicked")
                .sent
                .each_ref()
                .map(|sent| sent[sent.len() - 1] + 1);
            said_bye = true;
            if client.try_send(&crate::support::message::bye(next)).is_err() {
                return false;
            }
        }
        match client.receive(Duration::from_millis(rng.random_range(1..8))) {
            Received::Message(Server::Ack(ack)) => {
                lanes[ack.lane].credit = ack.credit_limit;
                let acked = &mut record.lock().expect("the test panicked").acked[ack.lane];
                *acked = ack.durable_next.max(*acked);
            }
            Received::Message(Server::Bye(next)) => {
                record.lock().expect("the test panicked").acked = next;
                return true;
            }
            Received::Message(Server::Ping(nonce)) => {
                drop(client.try_send(&crate::support::message::pong(nonce)));
            }
            Received::Message(other) => panic!("unexpected {other:?}"),
            Received::End | Received::Reset => return false,
            Received::Silence => {}
        }
    }
}

/// The state of one connection on one lane.
#[derive(Default)]
struct Lane {
    /// Index in the record of the next frame to resend.
    resend: usize,
    spent: u64,
    credit: u64,
}

impl Lane {
    /// The next sequence to send: first the recorded frames that the server has not accepted, then new frames, with
    /// gaps.
    fn next(&self, lane: usize, record: &Mutex<Record>, finish: bool, rng: &mut StdRng) -> Option<u64> {
        let record = record.lock().expect("the test panicked");
        match record.sent[lane].get(self.resend) {
            Some(sequence) => Some(*sequence),
            None if finish => None,
            None => {
                let gap = if rng.random_bool(0.1) { rng.random_range(1..1_000) } else { 0 };
                Some(record.sent[lane].last().map_or(0, |last| last + 1) + gap)
            }
        }
    }

    fn sent(&mut self, lane: usize, record: &Mutex<Record>, sequence: u64) {
        let sent = &mut record.lock().expect("the test panicked").sent[lane];
        if self.resend == sent.len() {
            sent.push(sequence);
        }
        self.resend += 1;
    }

    fn is_done(&self, lane: usize, record: &Mutex<Record>) -> bool {
        self.resend == record.lock().expect("the test panicked").sent[lane].len()
    }
}
