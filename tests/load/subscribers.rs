//! Many subscribers on a daemon under load: each gets every frame once, through stalls, kills and restarts.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use frame::Selection;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sim::Plan;
use tools::tail;
use wire::{Policy, Start};

use crate::alone;
use crate::support::fleet::Fleet;
use crate::support::process::rss_max_kib;
use crate::support::{Archived, Daemon, Feed, Heard, LIMIT, Port, Subscribe, Subscriber, connect_when_up};

/// How long a test waits for a message before it checks whether more messages are due.
const LOOK: Duration = Duration::from_millis(20);
/// Longest time in which a whole test gets all frames to all subscribers.
const ALL_WITHIN: Duration = Duration::from_secs(90);

/// A summary of a frame. All of its fields are in `hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    offset: u64,
    source_id: u32,
    sequence: u64,
    hash: u64,
}

impl From<&Archived> for Seen {
    fn from(frame: &Archived) -> Self {
        let mut hasher = DefaultHasher::new();
        (frame.kind, &frame.station, frame.epoch, frame.lane, frame.flags).hash(&mut hasher);
        (frame.ert_ns, frame.received_ns, &frame.payload).hash(&mut hasher);
        let Archived { offset, source_id, sequence, .. } = *frame;
        Self { offset, source_id, sequence, hash: hasher.finish() }
    }
}

fn archived(daemon: &Daemon) -> Vec<Seen> {
    daemon.archived().iter().map(Seen::from).collect()
}

/// The offset that every subscriber must reach. Unknown while the fleet sends.
#[derive(Clone, Default)]
struct Goal(Arc<AtomicU64>);

impl Goal {
    fn set(&self, offset: u64) {
        self.0.store(offset, Ordering::Release);
    }

    fn is_reached_by(&self, next_offset: u64) -> bool {
        let goal = self.0.load(Ordering::Acquire);
        goal > 0 && next_offset >= goal
    }
}

/// Reads until the goal or the end of the connection. Returns `true` at the goal.
fn read_to(subscriber: &mut Subscriber, goal: &Goal, mut take: impl FnMut(Archived)) -> bool {
    let started = Instant::now();
    while !goal.is_reached_by(subscriber.next_offset()) {
        assert!(started.elapsed() < ALL_WITHIN, "stuck at {}", subscriber.next_offset());
        match subscriber.receive(LOOK) {
            Heard::Message(Feed::Deliver(frame)) => take(frame),
            Heard::Message(Feed::Ping(nonce)) => {
                drop(subscriber.try_send(&crate::support::message::pong(nonce)))
            }
            Heard::Message(Feed::Error(error)) if error.flags & 1 == 0 => panic!("refused: {error:?}"),
            Heard::Message(Feed::Gap { from, to, .. }) => panic!("complete, but a gap from {from} to {to}"),
            Heard::Message(_) | Heard::Silence => {}
            Heard::End | Heard::Reset => return false,
        }
    }
    true
}

/// Asserts that both are equal, without printing thousands of frames.
fn assert_same(seen: &[Seen], expected: &[Seen], who: &str) {
    let first = seen.iter().zip(expected).find(|(seen, expected)| seen != expected);
    assert_eq!(first, None, "{who}: seen and archived differ");
    assert_eq!(seen.len(), expected.len(), "{who}: number of frames");
}

/// What a subscriber of the first test does besides reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Steady,
    /// Reads nothing until the daemon has acknowledged this many frames of the fleet.
    StalledUntil(u64),
    /// Disconnects without a message after this many frames, and reconnects.
    Leaving(usize),
}

#[test]
fn ten_subscribers_that_join_stall_and_leave_each_get_every_frame_once() {
    let _alone = alone();
    let seed = std::env::var("FEED_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("FEED_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    // The tail holds a small part of the flood, so subscribers read most frames from the log.
    let mut daemon = Daemon::start("[pipeline]\nbroadcast_capacity = 8");
    let feed = daemon.feed();
    let plan = Plan {
        connect: daemon.address().to_string(),
        satellites: 48,
        replays: 0,
        frames: Some(1_000),
        payload_bytes: 500,
        emergency_ratio: 0.02,
        seed,
        linger: ALL_WITHIN,
        ..Plan::default()
    };
    let total = plan.frames.unwrap() * u64::from(plan.satellites);
    let goal = Goal::default();
    let fleet = Fleet::start(plan);
    let seen: Vec<_> = std::thread::scope(|scope| {
        let subscribers: Vec<_> = (0..10_u64)
            .map(|index| {
                fleet.wait_acked_in_all(index * total / 20, ALL_WITHIN);
                // Acknowledged frames are durable, so this is an offset of the log.
                let start = rng.random_range(0..=fleet.counts().acked);
                let habit = match index {
                    2 | 5 => Habit::StalledUntil(fleet.counts().acked + total / 4),
                    7 => Habit::Leaving(rng.random_range(500..3_000)),
                    _ => Habit::Steady,
                };
                let (goal, fleet) = (&goal, &fleet);
                (start, habit, scope.spawn(move || follow(feed, start, habit, goal, fleet)))
            })
            .collect();
        fleet.wait_acked_in_all(total, ALL_WITHIN);
        goal.set(total);
        let join = |(start, habit, thread): (_, _, ScopedJoinHandle<'_, _>)| {
            (start, habit, thread.join().expect("a subscriber failed"))
        };
        subscribers.into_iter().map(join).collect()
    });
    let report = fleet.wait();
    assert!(report.is_complete(), "{report}");
    let archived = archived(&daemon);
    assert_eq!(archived.len() as u64, total);
    for (start, habit, seen) in seen {
        assert_same(&seen, &archived[start as usize..], &format!("{habit:?} from {start}"));
    }
    daemon.stop();
}

fn follow(feed: SocketAddr, start: u64, habit: Habit, goal: &Goal, fleet: &Fleet) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let (mut subscriber, subscribed) = Subscriber::open(feed, &Subscribe::offset(start));
    if let Habit::StalledUntil(frames) = habit {
        fleet.wait_acked_in_all(frames, ALL_WITHIN);
    }
    let Habit::Leaving(after) = habit else {
        assert!(read_to(&mut subscriber, goal, |frame| seen.push(Seen::from(&frame))));
        return seen;
    };
    loop {
        for _ in 0..after {
            if goal.is_reached_by(subscriber.next_offset()) {
                return seen;
            }
            match subscriber.next() {
                Feed::Deliver(frame) => seen.push(Seen::from(&frame)),
                Feed::Ping(nonce) => subscriber.send(&crate::support::message::pong(nonce)),
                Feed::Progress(_) => {}
                other => panic!("a frame is due, not {other:?}"),
            }
        }
        let resume = Subscribe::offset(subscriber.next_offset()).log(subscribed.log_id);
        subscriber = Subscriber::open(feed, &resume).0;
    }
}

const ROUNDS: usize = 12;

#[test]
fn no_offset_changes_through_kills_and_subscribers_resume() {
    let _alone = alone();
    let seed = std::env::var("FEED_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("FEED_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let ports = [Port::hold(), Port::hold()];
    let [ingest, feed] = ports.each_ref().map(Port::address);
    let config = format!(
        "[ingest]\nlisten = \"{ingest}\"\n[feed]\nlisten = \"{feed}\"\n[archive]\nreserve = \"4 MiB\""
    );
    let plan = Plan {
        connect: ingest.to_string(),
        satellites: 8,
        replays: 2,
        rate: 1_000.0,
        payload_bytes: 200,
        emergency_ratio: 0.05,
        seed,
        linger: LIMIT,
        ..Plan::default()
    };
    let mut daemon = Daemon::start(&config);
    let fleet = Fleet::start(plan);
    let goal = Goal::default();
    let resuming = std::thread::spawn({
        let goal = goal.clone();
        move || resume_through_kills(feed, &goal)
    });
    let looking_back = std::thread::spawn({
        let goal = goal.clone();
        move || look_back_through_kills(feed, &goal)
    });
    let client = std::thread::spawn({
        let goal = goal.clone();
        move || tail_through_kills(feed, &goal)
    });
    for _ in 0..ROUNDS {
        let more = rng.random_range(1..8_000);
        fleet.wait_acked(more);
        // The kill comes at a random moment.
        std::thread::sleep(Duration::from_micros(rng.random_range(0..30_000)));
        daemon = daemon.kill_and_restart();
    }
    let report = fleet.stop_connected();
    assert!(report.is_complete(), "{report}");
    goal.set(report.sent);
    let (resumed, reconnects) = resuming.join().expect("a subscriber failed");
    let (changed_never, looked_back) = looking_back.join().expect("a subscriber failed");
    let (tailed, lost) = client.join().expect("the client failed");
    let archived = archived(&daemon);
    assert_same(&resumed, &archived, "resuming");
    assert_same(&tailed, &archived, "the client");
    for seen in changed_never.values() {
        assert_eq!(seen, &archived[seen.offset as usize]);
    }
    assert_eq!(changed_never.len(), archived.len());
    println!("{} frames, {reconnects} reconnects, {looked_back} seen again, {lost} lost", archived.len());
    // A subscriber pauses before it reconnects, and may miss a daemon that is killed soon.
    assert!(reconnects > ROUNDS / 2 && lost > ROUNDS / 2, "they did not live through the kills");
    assert!(looked_back > 100, "nothing was seen again");
    daemon.stop();
}

/// Connects as soon as the daemon listens.
fn reconnect(feed: SocketAddr, subscribe: &Subscribe) -> Option<Subscriber> {
    let mut subscriber = Subscriber::over(connect_when_up(feed));
    subscriber.try_ask(subscribe).ok()?;
    match subscriber.receive(LIMIT) {
        Heard::Message(Feed::Subscribed(_)) => Some(subscriber),
        Heard::Message(Feed::Error(error)) if error.flags & 1 == 1 => None,
        Heard::Message(other) => panic!("SUBSCRIBED is due, not {other:?}"),
        _ => None,
    }
}

/// Reads through all kills. Each connection continues where the last one ended, by log and offset.
fn resume_through_kills(feed: SocketAddr, goal: &Goal) -> (Vec<Seen>, usize) {
    let (mut seen, mut reconnects) = (Vec::new(), 0);
    let mut subscribe = Subscribe::earliest();
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < ALL_WITHIN, "stuck: {subscribe:?}");
        let Some(mut subscriber) = reconnect(feed, &subscribe) else { continue };
        if read_to(&mut subscriber, goal, |frame| seen.push(Seen::from(&frame))) {
            return (seen, reconnects);
        }
        reconnects += 1;
        subscribe = Subscribe::offset(subscriber.next_offset()).log(subscriber.log_id());
    }
}

/// Reads through all kills. Each connection begins some offsets earlier than the last one ended. Frames that come
/// twice must be equal.
fn look_back_through_kills(feed: SocketAddr, goal: &Goal) -> (HashMap<u64, Seen>, usize) {
    let (mut seen, mut again) = (HashMap::<u64, Seen>::new(), 0);
    let mut subscribe = Subscribe::earliest();
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < ALL_WITHIN, "stuck: {subscribe:?}");
        let Some(mut subscriber) = reconnect(feed, &subscribe) else { continue };
        let is_done = read_to(&mut subscriber, goal, |frame| {
            let frame = Seen::from(&frame);
            if let Some(before) = seen.insert(frame.offset, frame) {
                assert_eq!(before, frame, "an offset has changed its content");
                again += 1;
            }
        });
        if is_done {
            return (seen, again);
        }
        let back = subscriber.next_offset().saturating_sub(2_000);
        subscribe = Subscribe::offset(back).log(subscriber.log_id());
    }
}

/// Reads through all kills with the client of the library, which reconnects by itself.
fn tail_through_kills(feed: SocketAddr, goal: &Goal) -> (Vec<Seen>, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let subscribe = wire::Subscribe::new(Policy::Complete, Start::Earliest, Selection::default());
    let mut client = runtime.block_on(async {
        tail::Client::new(tail::Target {
            address: feed.to_string(),
            tls: None,
            subscribe,
            retry_for: Some(LIMIT),
        })
    });
    let (mut seen, mut lost) = (Vec::new(), 0);
    let started = Instant::now();
    while client.position().is_none_or(|position| !goal.is_reached_by(position.next_offset)) {
        assert!(started.elapsed() < ALL_WITHIN, "stuck at {:?}", client.position());
        let next = async { tokio::time::timeout(LOOK, client.next()).await };
        match runtime.block_on(next).map(|event| event.expect("the subscription continues")) {
            Ok(tail::Event::Frame(frame)) => {
                seen.push(Seen::from(&crate::support::archive::plain(frame.offset, &frame.frame)))
            }
            Ok(tail::Event::Lost { .. }) => lost += 1,
            Ok(tail::Event::Subscribed(_)) | Err(_) => {}
            Ok(other) => panic!("complete, but {other:?}"),
        }
    }
    (seen, lost)
}

#[test]
fn subscribers_that_never_read_cost_neither_memory_nor_ingest() {
    let _alone = alone();
    let config = "[ingest]\nroutine_window = \"64 KiB\"\nemergency_window = \"32 KiB\"\n\
                  [pipeline]\nbroadcast_capacity = 8";
    let mut daemon = Daemon::start(config);
    let feed = daemon.feed();
    let deaf = [
        Subscribe::live(),
        Subscribe::earliest(),
        Subscribe::live().timely(),
        Subscribe::offset(0),
        Subscribe::live().priorities(2),
    ]
    .map(|subscribe| Subscriber::open(feed, &subscribe).0);
    let plan = Plan {
        connect: daemon.address().to_string(),
        satellites: 48,
        replays: 2,
        frames: Some(2_000),
        payload_bytes: 1_000,
        linger: ALL_WITHIN,
        ..Plan::default()
    };
    let total = plan.frames.unwrap() * u64::from(plan.sources());
    let goal = Goal::default();
    let reader = std::thread::spawn({
        let goal = goal.clone();
        move || {
            let mut seen = Vec::new();
            let (mut subscriber, _) = Subscriber::open(feed, &Subscribe::live());
            assert!(read_to(&mut subscriber, &goal, |frame| seen.push(Seen::from(&frame))));
            seen
        }
    });
    let report = Fleet::start(plan).wait();
    assert!(report.is_complete(), "{report}");
    goal.set(total);
    let seen = reader.join().expect("the reader failed");
    let memory_kib = rss_max_kib(daemon.pid());
    println!("{total} frames of 1000 bytes, VmHWM {memory_kib} KiB");
    // The frames are 100 MB. A daemon that kept them all for slow subscribers would use far more memory.
    assert!(memory_kib < 80 << 10, "{memory_kib} KiB");
    let archived = archived(&daemon);
    // The reader joined before the first frame, or soon after.
    let first = seen.first().expect("it saw frames").offset as usize;
    assert_same(&seen, &archived[first..], "reader");
    assert!(seen.len() as u64 > total / 2, "it joined too late to prove anything: {}", seen.len());
    drop(deaf);
    daemon.stop();
}
