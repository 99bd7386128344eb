//! Heartbeats and draining, on a clock of their own: no socket, no waiting.

use std::sync::Arc;

use super::*;
use crate::sim::Plan;
use crate::wire::{ClientMessage, GoAway, next_body};

const HEARTBEAT: Duration = Duration::from_secs(15);

fn shared() -> Shared {
    let plan = Plan { frames: Some(1000), emergency_ratio: 0.0, ..Plan::default() };
    Shared::new(plan, Arc::default())
}

fn ledger(shared: &Shared) -> Ledger {
    Ledger::new(shared.plan.content(0), 1000, Mode::Acked)
}

fn begin<'a>(shared: &'a Shared, ledger: &'a mut Ledger, now: Instant) -> Conversation<'a> {
    let welcome = Welcome {
        version: 1,
        heartbeat_s: 15,
        max_message_bytes: 4096,
        session_id: 0,
        epoch: 1,
        resume_next: [0; 2],
        server_time_ns: 0,
    };
    let schedule = Schedule::new(now, 0.0);
    Conversation::new(shared, ledger, schedule, SourceKind::LiveUplink, &welcome, now).unwrap()
}

fn messages(out: &mut BytesMut) -> Vec<ClientMessage> {
    std::iter::from_fn(|| next_body(out, 4096).unwrap())
        .map(|body| ClientMessage::decode(body).unwrap())
        .collect()
}

fn credit(conversation: &mut Conversation<'_>, credit_limit: u64, now: Instant) {
    let ack = Ack { priority: FramePriority::Routine, duplicates: 0, durable_next: 0, credit_limit };
    conversation.receive(ServerMessage::Ack(ack), now).unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_is_asked_about_twice_and_then_ends_the_connection() {
    let (shared, start) = (shared(), Instant::now());
    let mut ledger = ledger(&shared);
    let mut conversation = begin(&shared, &mut ledger, start);
    let mut out = BytesMut::new();
    for beat in 1..SILENT_HEARTBEATS_MAX {
        let due = start + HEARTBEAT * beat;
        assert_eq!(conversation.wake_at(true, false, start), Some(due));
        assert_eq!(conversation.wake(&mut out, due - Duration::from_millis(1)), None);
        assert!(out.is_empty());
        assert_eq!(conversation.wake(&mut out, due), None);
        assert!(matches!(messages(&mut out)[..], [ClientMessage::Ping(_)]));
        conversation.wrote(true, due);
    }
    let due = start + HEARTBEAT * SILENT_HEARTBEATS_MAX;
    assert_eq!(conversation.wake(&mut out, due), Some(End::lost("nothing heard for 45s")));
}

#[tokio::test(start_paused = true)]
async fn any_byte_is_a_sign_of_life() {
    let (shared, start) = (shared(), Instant::now());
    let mut ledger = ledger(&shared);
    let mut conversation = begin(&shared, &mut ledger, start);
    let mut out = BytesMut::new();
    let mut now = start;
    for _ in 0..10 {
        now += HEARTBEAT;
        assert_eq!(conversation.wake(&mut out, now), None);
        conversation.wrote(true, now);
        now += HEARTBEAT / 2;
        conversation.heard(now);
    }
    assert_eq!(conversation.wake_at(true, false, now), Some(now + HEARTBEAT));
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_silence_stands_still_while_a_write_is_blocked() {
    let (shared, start) = (shared(), Instant::now());
    let mut ledger = ledger(&shared);
    let mut conversation = begin(&shared, &mut ledger, start);
    let mut out = BytesMut::new();
    let began = start + Duration::from_secs(5);
    credit(&mut conversation, 1 << 20, began);
    conversation.fill(&mut out, false, began);
    assert!(!out.is_empty());
    assert_eq!(conversation.wake_at(false, false, began), None);
    let much_later = began + HEARTBEAT * 100;
    assert_eq!(conversation.wake(&mut out, much_later), None);
    conversation.wrote(false, much_later);
    assert_eq!(conversation.wake_at(false, false, much_later), None);
    let done = much_later + HEARTBEAT;
    conversation.wrote(true, done);
    // 5 of the 15 seconds had passed before the write.
    assert_eq!(conversation.wake_at(true, false, done), Some(done + Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_ping_is_answered() {
    let (shared, now) = (shared(), Instant::now());
    let mut ledger = ledger(&shared);
    let mut conversation = begin(&shared, &mut ledger, now);
    let mut out = BytesMut::new();
    for nonce in [1, 2] {
        assert_eq!(conversation.receive(ServerMessage::Ping(nonce), now), Ok(None));
    }
    conversation.fill(&mut out, false, now);
    assert_eq!(messages(&mut out), [ClientMessage::Pong(2)]);
}

#[tokio::test(start_paused = true)]
async fn draining_stops_frames_and_is_given_its_time() {
    let (shared, now) = (shared(), Instant::now());
    let mut ledger = ledger(&shared);
    let mut conversation = begin(&shared, &mut ledger, now);
    let mut out = BytesMut::new();
    let deadline = Duration::from_secs(5);
    let goaway = GoAway { deadline, text: String::new() };
    credit(&mut conversation, 1 << 20, now);
    assert_eq!(conversation.receive(ServerMessage::GoAway(goaway), now), Ok(None));
    conversation.fill(&mut out, false, now);
    assert!(out.is_empty());
    let end = now + deadline + GOAWAY_GRACE;
    assert_eq!(conversation.wake_at(true, false, now), Some(end));
    assert!(conversation.wake(&mut out, end).is_some());
    // A feed that ends now is finished with BYE all the same.
    conversation.fill(&mut out, true, now);
    assert_eq!(messages(&mut out), [ClientMessage::Bye(Bye { next: [0; 2] })]);
}

#[tokio::test(start_paused = true)]
async fn latency_runs_from_the_first_write_to_the_ack() {
    let (shared, now) = (shared(), Instant::now());
    let mut ledger = ledger(&shared);
    let mut conversation = begin(&shared, &mut ledger, now);
    let mut out = BytesMut::new();
    credit(&mut conversation, 10 * 276, now);
    conversation.fill(&mut out, false, now);
    assert_eq!(messages(&mut out).len(), 10);
    let ack =
        Ack { priority: FramePriority::Routine, duplicates: 4, durable_next: 9, credit_limit: 10 * 276 };
    let later = now + Duration::from_secs(20);
    assert_eq!(conversation.receive(ServerMessage::Ack(ack), later), Ok(None));
    let [emergency, routine] = shared.latency.quantiles();
    assert_eq!(emergency.max, 0);
    for quantile in [routine.p50, routine.max] {
        assert!((19_980_000..=20_020_000).contains(&quantile), "{quantile}");
    }
    let counts = shared.progress.counts();
    assert_eq!((counts.sent, counts.acked, counts.duplicates), (10, 9, 4));
}
