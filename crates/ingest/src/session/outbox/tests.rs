//! When each message is sent, and that newer values replace older ones.

use frame::Lanes;
use std::sync::Arc;

use super::*;
use catalog::{Catalog, sample::text_of};
use wire::next_body;

const WINDOW: u64 = 1 << 20;
const MESSAGE_MAX: u64 = 128 << 10;

fn outbox() -> Outbox {
    Outbox::new(Welcome {
        version: 1,
        heartbeat_s: 15,
        max_message_bytes: 1 << 17,
        session_id: 1,
        epoch: 1,
        resume_next: Lanes::default(),
        server_time_ns: 0,
        takes_zstd: None,
    })
}

fn intake(no_ack: bool) -> Intake {
    Intake::new(Lanes::default(), Lanes::both(WINDOW), MESSAGE_MAX, no_ack)
}

/// Takes everything that was encoded, like a socket that accepts all bytes.
fn drain(outbox: &mut Outbox) -> Vec<ServerMessage> {
    let mut messages = vec![];
    while let Some(body) = next_body(&mut outbox.bytes, 1 << 17).unwrap() {
        messages.push(ServerMessage::decode(body).unwrap());
    }
    messages
}

fn ack(message: &ServerMessage) -> Ack {
    match message {
        ServerMessage::Ack(ack) => *ack,
        other => panic!("{other:?} is no ACK"),
    }
}

#[test]
fn one_ack_per_lane_directly_follows_welcome() {
    let (mut outbox, mut intake) = (outbox(), intake(false));
    outbox.pong(7);
    outbox.refresh(Lanes::new(3, 4), Lanes::new(0, 100), &mut intake, Instant::now());
    let messages = drain(&mut outbox);
    assert!(matches!(messages[0], ServerMessage::Welcome(_)));
    let (emergency, routine) = (ack(&messages[1]), ack(&messages[2]));
    assert_eq!((emergency.durable_next, emergency.credit_limit), (3, WINDOW));
    assert_eq!((routine.durable_next, routine.credit_limit), (4, WINDOW - 100));
    assert_eq!(messages[3..], [ServerMessage::Pong(7)]);
}

#[test]
fn a_no_ack_client_gets_no_acks() {
    let (mut outbox, mut intake) = (outbox(), intake(true));
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, Instant::now());
    outbox.bytes.clear();
    outbox.refresh(Lanes::new(9, 9), Lanes::default(), &mut intake, Instant::now());
    assert!(outbox.is_empty());
}

#[test]
fn new_values_replace_unwritten_ones() {
    let (mut outbox, mut intake) = (outbox(), intake(false));
    let now = Instant::now();
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, now);
    let unwritten = outbox.bytes.len();
    for next in 1..1000 {
        outbox.ping(next);
        outbox.pong(next);
        outbox.refresh(Lanes::new(next, 0), Lanes::default(), &mut intake, now);
    }
    assert_eq!(outbox.bytes.len(), unwritten, "a client that does not read costs nothing more");
    drain(&mut outbox);
    outbox.refresh(Lanes::new(1000, 0), Lanes::default(), &mut intake, now);
    let messages = drain(&mut outbox);
    assert_eq!(ack(&messages[0]).durable_next, 1000);
    assert_eq!(messages[1..], [ServerMessage::Pong(999), ServerMessage::Ping(999)]);
    outbox.refresh(Lanes::new(1000, 0), Lanes::default(), &mut intake, now);
    assert!(outbox.is_empty(), "nothing is sent twice");
}

#[test]
fn small_growth_of_credit_is_sent_after_a_delay_without_a_commit() {
    let (mut outbox, mut intake) = (outbox(), intake(false));
    let start = Instant::now();
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, start);
    drain(&mut outbox);
    intake.credit(FramePriority::Routine).consume(300).unwrap();
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, start);
    assert!(outbox.is_empty());
    assert_eq!(outbox.credit_due(), Some(start + CREDIT_DELAY));
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, start + CREDIT_DELAY / 2);
    assert!(outbox.is_empty());
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, start + CREDIT_DELAY);
    let messages = drain(&mut outbox);
    assert_eq!((messages.len(), ack(&messages[0]).credit_limit), (1, WINDOW + 300));
    assert_eq!(outbox.credit_due(), None);
}

/// The lanes' next sequences are `next`, no frame is durable, and the first ACKs are sent.
fn accepted(next: [u64; 2], now: Instant) -> (Outbox, Intake) {
    let (mut outbox, mut intake) =
        (outbox(), Intake::new(next.into(), Lanes::both(WINDOW), MESSAGE_MAX, false));
    for priority in FramePriority::ALL {
        intake.credit(priority).grant(WINDOW);
    }
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, now);
    drain(&mut outbox);
    (outbox, intake)
}

#[test]
fn routine_that_became_durable_waits_until_its_ack_is_due() {
    let start = Instant::now();
    let (mut outbox, mut intake) = accepted([0, 1000], start);
    assert!(!outbox.refresh(Lanes::new(0, 100), Lanes::default(), &mut intake, start));
    assert!(outbox.is_empty());
    assert_eq!(outbox.credit_due(), None, "the session is woken when it is due");
    outbox.set_routine_due();
    assert!(outbox.refresh(Lanes::new(0, 300), Lanes::default(), &mut intake, start));
    assert_eq!(ack(&drain(&mut outbox)[0]).durable_next, 300);
    assert!(!outbox.refresh(Lanes::new(0, 1000), Lanes::default(), &mut intake, start), "it was due once");
}

#[test]
fn a_due_ack_without_news_does_not_make_the_next_ack_due() {
    let start = Instant::now();
    let (mut outbox, mut intake) = accepted([0, 1000], start);
    outbox.set_routine_due();
    assert!(!outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, start));
    assert!(!outbox.refresh(Lanes::new(0, 100), Lanes::default(), &mut intake, start));
}

#[test]
fn an_ack_of_an_emergency_carries_the_ack_of_routine() {
    let start = Instant::now();
    let (mut outbox, mut intake) = accepted([1000, 1000], start);
    assert!(outbox.refresh(Lanes::new(1, 100), Lanes::default(), &mut intake, start));
    let messages = drain(&mut outbox);
    assert_eq!((ack(&messages[0]).durable_next, ack(&messages[1]).durable_next), (1, 100));
}

#[test]
fn credit_is_sent_in_time_while_frames_are_in_flight() {
    let start = Instant::now();
    let (mut outbox, mut intake) = accepted([0, 1000], start);
    let mut use_up = |outbox: &mut Outbox, cost| {
        intake.credit(FramePriority::Routine).consume(cost).unwrap();
        outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, start)
    };
    assert!(!use_up(&mut outbox, WINDOW / 8));
    let due = Some(start + STALLED_CREDIT_DELAY);
    assert_eq!(outbox.credit_due(), due, "the client has plenty, and the ACK of its frames is to follow");
    assert!(use_up(&mut outbox, WINDOW / 8), "a quarter of the window");
    assert_eq!(outbox.credit_due(), None);
}

#[test]
fn credit_is_sent_without_a_commit() {
    let start = Instant::now();
    let (mut outbox, mut intake) = accepted([0, 1000], start);
    intake.credit(FramePriority::Routine).consume(300).unwrap();
    assert!(!outbox.refresh(Lanes::default(), Lanes::new(0, 300), &mut intake, start));
    let due = start + STALLED_CREDIT_DELAY;
    assert_eq!(outbox.credit_due(), Some(due), "it grows when the queue runs empty");
    assert!(!outbox.refresh(Lanes::default(), Lanes::new(0, 300), &mut intake, due));
    let due = due + STALLED_CREDIT_DELAY;
    assert_eq!(outbox.credit_due(), Some(due), "the queue has not run empty");
    assert!(outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, due));
    assert_eq!(ack(&drain(&mut outbox)[0]).credit_limit, WINDOW + 300);
    assert_eq!(outbox.credit_due(), None);
}

#[test]
fn a_client_without_credit_for_any_message_is_not_kept_waiting_for_a_commit() {
    let start = Instant::now();
    let mut outbox = outbox();
    let mut intake = Intake::new(Lanes::new(0, 1000), Lanes::both(WINDOW), WINDOW, false);
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, start);
    drain(&mut outbox);
    intake.credit(FramePriority::Routine).consume(300).unwrap();
    assert_eq!(intake.awaits_empty(), Lanes::new(false, true));
    assert!(!outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, start));
    assert_eq!(outbox.credit_due(), Some(start + CREDIT_DELAY));
    assert!(outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, start + CREDIT_DELAY));
    assert_eq!(ack(&drain(&mut outbox)[0]).credit_limit, WINDOW + 300);
}

#[test]
fn a_durable_emergency_is_acknowledged_at_once() {
    let now = Instant::now();
    let (mut outbox, mut intake) = accepted([1000, 0], now);
    outbox.refresh(Lanes::new(1, 0), Lanes::default(), &mut intake, now);
    assert_eq!(ack(&drain(&mut outbox)[0]).durable_next, 1);
}

#[test]
fn the_final_acks_are_not_delayed() {
    let now = Instant::now();
    let (outbox, mut intake) = accepted([0, 1000], now);
    let mut rest = outbox.finish(Lanes::new(0, 100), Lanes::default(), &mut intake, now);
    let body = next_body(&mut rest, 1 << 17).unwrap().unwrap();
    assert_eq!(ack(&ServerMessage::decode(body).unwrap()).durable_next, 100);
}

/// A client that stopped reading must not keep a timer due for ever.
#[test]
fn credit_is_not_due_while_older_bytes_wait_to_be_written() {
    let (mut outbox, mut intake) = (outbox(), intake(false));
    let start = Instant::now();
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, start);
    drain(&mut outbox);
    intake.credit(FramePriority::Routine).consume(300).unwrap();
    outbox.pong(1);
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, start);
    assert!(!outbox.is_empty(), "a PONG is on its way");
    assert_eq!(outbox.credit_due(), None);
    drain(&mut outbox);
    assert_eq!(outbox.credit_due(), Some(start + CREDIT_DELAY));
}

#[test]
fn large_growth_of_credit_is_sent_at_once() {
    let (mut outbox, mut intake) = (outbox(), intake(false));
    let now = Instant::now();
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, now);
    drain(&mut outbox);
    intake.credit(FramePriority::Emergency).consume(WINDOW / 4).unwrap();
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, now);
    assert_eq!(ack(&drain(&mut outbox)[0]).credit_limit, WINDOW + WINDOW / 4);
}

#[test]
fn the_final_acks_follow_a_message_that_is_partly_written() {
    let (mut outbox, mut intake) = (outbox(), intake(false));
    let now = Instant::now();
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, now);
    outbox.bytes.advance(10);
    let half_written = outbox.bytes.clone();
    outbox.ping(1);
    let rest = outbox.finish(Lanes::new(5, 0), Lanes::default(), &mut intake, now);
    assert_eq!(rest[..half_written.len()], half_written[..]);
    let mut news = BytesMut::from(&rest[half_written.len()..]);
    let body = next_body(&mut news, 1 << 17).unwrap().unwrap();
    assert_eq!(ack(&ServerMessage::decode(body).unwrap()).durable_next, 5);
    assert!(news.is_empty(), "no PING to a connection that ends");
}

#[test]
fn one_part_of_the_catalog_at_a_time_follows_short_messages() {
    let (mut outbox, mut intake) = (outbox(), intake(false));
    let now = Instant::now();
    let catalog = Arc::new(Catalog::new(3, text_of(200).into()).unwrap());
    let (_tx, current) = tokio::sync::watch::channel(catalog);
    let mut owed = CatalogCursor::new(current, 1 << 17);
    outbox.pong(7);
    outbox.refresh(Lanes::default(), Lanes::default(), &mut intake, now);
    outbox.append_catalog(&mut owed);
    let unwritten = outbox.bytes.len();
    outbox.append_catalog(&mut owed);
    assert_eq!(outbox.bytes.len(), unwritten, "a client that does not read costs one part");
    let messages = drain(&mut outbox);
    assert!(matches!(messages[1..3], [ServerMessage::Ack(_), ServerMessage::Ack(_)]), "{messages:?}");
    assert_eq!(messages[3], ServerMessage::Pong(7));
    let [ServerMessage::Catalog(part)] = &messages[4..] else { panic!("one part is due: {messages:?}") };
    assert_eq!((part.part, part.parts, part.version), (0, 2, 3));
    assert!(owed.is_due());
}
