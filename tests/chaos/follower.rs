//! A subscriber that resumes by its position, and checks that each frame comes once, in order, without a hole.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::scene::pass;
use crate::session::HEARTBEAT;
use crate::source::Entrance;
use crate::support::{Feed, Subscribe, code, message};
use crate::track::Track;
use crate::wire::{Connection, Event};

/// Time between two attempts to connect.
const RETRY: Duration = Duration::from_millis(25);
/// Longest wait for a message before the follower looks at its heartbeat.
const LOOK: Duration = Duration::from_millis(100);
/// The bits of the lanes in SUBSCRIBE.
pub const EMERGENCIES: u8 = 1;
pub const ROUTINES: u8 = 2;
/// Both lanes in SUBSCRIBE.
pub const ALL: u8 = 0;

/// A follower on a thread of its own. It reconnects by itself.
pub struct Follower {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    track: Mutex<Track>,
    next_offset: AtomicU64,
    stop: AtomicBool,
}

impl Follower {
    /// Follows the lanes `priorities` from the first offset on.
    pub fn start(entrance: Entrance, priorities: u8) -> Self {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || follow(&entrance, priorities, &shared)
        });
        Self { shared, thread: Some(thread) }
    }

    /// The offset from which the follower would continue.
    pub fn next_offset(&self) -> u64 {
        self.shared.next_offset.load(Relaxed)
    }

    /// What the follower has found so far.
    pub fn track(&self) -> MutexGuard<'_, Track> {
        self.shared.track.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails the test if the follower has panicked.
    pub fn assert_running(&mut self) {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join();
        }
    }

    pub fn stop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the follower failed, see above");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

fn follow(entrance: &Entrance, priorities: u8, shared: &Shared) {
    entrance.enter();
    let mut log_id = 0;
    while !shared.stop.load(Relaxed) {
        let mut subscribe =
            Subscribe::offset(shared.next_offset.load(Relaxed)).log(log_id).token(&entrance.token);
        subscribe.priorities = priorities;
        if let Ok(mut connection) = Connection::open(entrance.address, &subscribe.bytes(), HEARTBEAT) {
            drop(listen(&mut connection, priorities, shared, &mut log_id));
        }
        pass(RETRY);
    }
}

/// Follows one connection to its end.
fn listen(
    connection: &mut Connection,
    priorities: u8,
    shared: &Shared,
    log_id: &mut u64,
) -> std::io::Result<()> {
    while !shared.stop.load(Relaxed) {
        match connection.receive(LOOK) {
            Event::Silence => {}
            Event::Broken => return Ok(()),
            Event::Body(body) => match Feed::decode(&body) {
                Feed::Subscribed(subscribed) => {
                    *log_id = subscribed.log_id;
                }
                Feed::Ping(nonce) => connection.send(&message::pong(nonce))?,
                Feed::Error(error) => {
                    assert!(code::is_retryable(error.code), "the feed answers {error:?}");
                    return Ok(());
                }
                other => note(&other, priorities, shared),
            },
        }
        if !connection.is_alive() {
            return Ok(());
        }
    }
    Ok(())
}

fn note(message: &Feed, priorities: u8, shared: &Shared) {
    let next = shared.next_offset.load(Relaxed);
    let next = match message {
        Feed::Deliver(frame) => {
            let is_next = frame.offset == next || priorities != ALL && frame.offset > next;
            assert!(is_next, "offset {} after {next}", frame.offset);
            shared.track.lock().unwrap_or_else(PoisonError::into_inner).take(frame);
            frame.offset + 1
        }
        Feed::Progress(offset) => next.max(*offset),
        Feed::Gap { .. } => panic!("the feed names a hole: {message:?}"),
        _ => next,
    };
    shared.next_offset.store(next, Relaxed);
}
