//! The books against a model of the server, and the layout of the written frames.

use frame::Lanes;
use proptest::prelude::*;

use super::*;
use crate::content::{payload, priority};
use frame::FramePriority::{Emergency, Routine};
use wire::{ClientMessage, next_body};

const SEED: u64 = 5;
const RATIO: f64 = 0.3;
const PAYLOAD_BYTES: usize = 300;
const COST: u64 = 320;
const BODY_BYTES_MAX: u32 = 1 << 17;
const PLENTY: u64 = 1 << 40;

fn resend(limit: u64, mode: Mode) -> ResendBuffer {
    ResendBuffer::new(Content::generated(SEED, 1, RATIO, PAYLOAD_BYTES), limit, mode)
}

fn ack(priority: FramePriority, durable_next: u64, credit_limit: u64) -> Ack {
    Ack { priority, duplicates: 0, durable_next, credit_limit }
}

fn decode(out: &mut BytesMut) -> Vec<FrameMessage> {
    let mut frames = Vec::new();
    while let Some(body) = next_body(out, BODY_BYTES_MAX as usize).unwrap() {
        match ClientMessage::decode(body).unwrap() {
            ClientMessage::Frame(frame) => frames.push(frame),
            other => panic!("{other:?}"),
        }
    }
    assert!(out.is_empty());
    frames
}

fn with_credit(limit: u64) -> ResendBuffer {
    let mut resend = resend(limit, Mode::Acked);
    resend.open(Lanes::default(), BODY_BYTES_MAX).unwrap();
    for lane in FramePriority::ALL {
        resend.acknowledge(&ack(lane, 0, PLENTY), |_, _| {}).unwrap();
    }
    resend
}

#[test]
fn a_write_begins_with_the_emergencies_and_is_bounded() {
    let mut resend = with_credit(u64::MAX);
    let mut out = BytesMut::new();
    resend.fill(&mut out, Due::FlatOut, 0, None);
    assert!((WRITE_BYTES..WRITE_BYTES + 400).contains(&out.len()), "{}", out.len());
    // Flat out, the emergency lane may lead so far that the first write holds only emergencies.
    assert!(decode(&mut out).iter().all(|frame| frame.priority == Emergency));

    let mut resend = with_credit(u64::MAX);
    resend.fill(&mut out, Due::Below(100), 0, None);
    let frames = decode(&mut out);
    assert_eq!(frames.len(), 100);
    assert!(frames.is_sorted_by_key(|frame| frame.priority));
    assert!(frames[0].priority == Emergency && frames[99].priority == Routine);
}

#[test]
fn a_frame_depends_on_its_sequence_and_is_the_same_when_resent() {
    let mut resend = with_credit(3);
    let mut out = BytesMut::new();
    resend.fill(&mut out, Due::Below(1), 40, Some(1_000));
    resend.fill(&mut out, Due::Below(3), 50, Some(1_000));
    let first = decode(&mut out);
    for frame in &first {
        assert_eq!(frame.payload, payload(SEED, 1, frame.sequence, frame.priority, PAYLOAD_BYTES));
        assert_eq!(frame.priority, priority(SEED, 1, frame.sequence, RATIO));
        assert_eq!(frame.ert_ns, if frame.sequence == 0 { 1_040 } else { 1_050 });
    }
    resend.open(Lanes::default(), BODY_BYTES_MAX).unwrap();
    for lane in FramePriority::ALL {
        resend.acknowledge(&ack(lane, 0, PLENTY), |_, _| {}).unwrap();
    }
    assert!(!resend.is_written());
    let filled = resend.fill(&mut out, Due::Nothing, 99, Some(1_000));
    assert_eq!(filled, Filled { sent: 0, resent: 3 });
    let mut again = decode(&mut out);
    again.sort_by_key(|frame| frame.sequence);
    let mut first = first;
    first.sort_by_key(|frame| frame.sequence);
    assert_eq!(again, first);
}

#[test]
fn a_lane_keeps_no_more_than_its_limit_and_an_ack_makes_room() {
    let content = Content::generated(SEED, 1, 0.0, 0);
    let mut resend = ResendBuffer::new(content, u64::MAX, Mode::Acked);
    resend.open(Lanes::default(), BODY_BYTES_MAX).unwrap();
    resend.acknowledge(&ack(Routine, 0, PLENTY), |_, _| {}).unwrap();
    let mut out = BytesMut::new();
    let mut sent = 0;
    loop {
        let filled = resend.fill(&mut out, Due::FlatOut, 0, None);
        sent += filled.sent;
        out.clear();
        if filled.sent == 0 {
            break;
        }
    }
    assert_eq!(sent, UNACKED_FRAMES_MAX as u64);
    resend.acknowledge(&ack(Routine, 10, PLENTY), |_, _| {}).unwrap();
    assert_eq!(resend.fill(&mut out, Due::FlatOut, 0, None).sent, 10);
}

#[test]
fn without_a_rate_a_lane_is_ahead_by_at_most_its_limit() {
    let mut resend = resend(u64::MAX, Mode::Acked);
    resend.open(Lanes::default(), BODY_BYTES_MAX).unwrap();
    resend.acknowledge(&ack(Emergency, 0, PLENTY), |_, _| {}).unwrap();
    let first_routine = (0..).find(|&sequence| priority(SEED, 1, sequence, RATIO) == Routine).unwrap();
    let mut out = BytesMut::new();
    for _ in 0..20 {
        resend.fill(&mut out, Due::FlatOut, 0, None);
        out.clear();
    }
    let Lanes { emergency, routine } = resend.sent_next();
    assert_eq!(routine, 0);
    assert!(emergency <= first_routine + LANE_LEAD_MAX && emergency > LANE_LEAD_MAX - 100, "{emergency}");
}

#[test]
fn latencies_are_reported_per_write() {
    let mut resend = with_credit(20);
    let mut out = BytesMut::new();
    resend.fill(&mut out, Due::Below(10), 7, None);
    resend.fill(&mut out, Due::Below(20), 9, None);
    let mut runs = Vec::new();
    let routine_next = resend.sent_next().routine;
    let (settled, _) =
        resend.acknowledge(&ack(Routine, routine_next, PLENTY), |at, count| runs.push((at, count))).unwrap();
    let routine = |range: std::ops::Range<u64>| {
        range.filter(|&sequence| priority(SEED, 1, sequence, RATIO) == Routine).count() as u64
    };
    assert_eq!(runs, [(7, routine(0..10)), (9, routine(10..20))]);
    assert_eq!(settled.frames, routine(0..20));
    assert_eq!(settled.bytes, settled.frames * PAYLOAD_BYTES as u64);
}

#[test]
fn impossible_positions_are_refused() {
    let mut resend = with_credit(10);
    let mut out = BytesMut::new();
    resend.fill(&mut out, Due::FlatOut, 0, None);
    let routine = resend.sent_next().routine;
    let beyond = resend.acknowledge(&ack(Routine, routine + 1, PLENTY), |_, _| {});
    assert!(matches!(beyond, Err(SourceError::AckedUnsent { .. })));
    resend.acknowledge(&ack(Routine, routine, PLENTY), |_, _| {}).unwrap();
    let lost = resend.open(Lanes::new(0, routine - 1), BODY_BYTES_MAX);
    assert!(matches!(lost, Err(SourceError::PromiseBroken { .. })));
    let ahead = resend.open(Lanes::new(0, routine + 1), BODY_BYTES_MAX);
    assert!(matches!(ahead, Err(SourceError::StateLost { .. })));
    let small = resend.open(Lanes::new(0, routine), 319);
    assert!(matches!(small, Err(SourceError::FrameTooLarge { body_bytes: 320, .. })));
    resend.open(Lanes::new(0, routine), 320).unwrap();
}

/// What a server knows about one lane.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Every frame ever accepted, ascending.
    accepted: Vec<u64>,
    /// How many of them are durable.
    durable: usize,
    credit: u64,
    cost: u64,
    last_here: Option<u64>,
}

impl Model {
    fn next(&self, count: usize) -> u64 {
        count.checked_sub(1).map_or(0, |last| self.accepted[last] + 1)
    }

    /// Accepts a frame by the rules of protocol.md.
    fn take(&mut self, frame: &FrameMessage) {
        self.cost += frame.cost;
        assert!(self.cost <= self.credit, "past the credit");
        assert!(self.last_here < Some(frame.sequence), "sequence regression");
        self.last_here = Some(frame.sequence);
        assert!(frame.sequence >= self.next(self.accepted.len()), "sent again though accepted");
        self.accepted.push(frame.sequence);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Fill(u64),
    /// Lane, share of the accepted frames that become durable, additional credit in frames.
    Ack(usize, prop::sample::Index, u64),
    /// The connection ends, and the server forgets a share of each lane's frames that are not durable (it
    /// restarted).
    Reconnect([prop::sample::Index; 2]),
}

fn step() -> impl Strategy<Value = Step> {
    use prop::sample::Index;
    prop_oneof![
        3 => (0..60u64).prop_map(Step::Fill),
        3 => (0..2usize, any::<Index>(), 0..30u64).prop_map(|(lane, at, credit)| Step::Ack(lane, at, credit)),
        1 => any::<[Index; 2]>().prop_map(Step::Reconnect),
    ]
}

proptest! {
    #[test]
    fn every_frame_becomes_durable_and_no_accepted_frame_is_resent(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let limit = 400;
        let mut resend = resend(limit, Mode::Acked);
        let mut models = [Model::default(), Model::default()];
        resend.open(Lanes::default(), BODY_BYTES_MAX).unwrap();
        let mut due = 0;
        let fill = |resend: &mut ResendBuffer, models: &mut [Model; 2], due| {
            let mut out = BytesMut::new();
            let filled = resend.fill(&mut out, Due::Below(due), 0, None);
            let frames = decode(&mut out);
            assert_eq!(frames.len() as u64, filled.sent + filled.resent);
            frames.iter().for_each(|frame| models[frame.priority.lane()].take(frame));
        };
        for step in steps {
            match step {
                Step::Fill(more) => {
                    due += more;
                    fill(&mut resend, &mut models, due);
                }
                Step::Ack(lane, at, credit) => {
                    let model = &mut models[lane];
                    model.credit += credit * COST;
                    model.durable = model.durable.max(at.index(model.accepted.len() + 1));
                    let ack = ack(FramePriority::ALL[lane], model.next(model.durable), model.credit);
                    resend.acknowledge(&ack, |_, _| {}).unwrap();
                }
                Step::Reconnect(shares) => {
                    for (model, share) in models.iter_mut().zip(shares) {
                        let kept = model.durable + share.index(model.accepted.len() - model.durable + 1);
                        model.accepted.truncate(kept);
                        (model.cost, model.credit, model.last_here) = (0, 0, None);
                    }
                    let resume_next = models.each_ref().map(|model| model.next(model.accepted.len()));
                    resend.open(resume_next.into(), BODY_BYTES_MAX).unwrap();
                }
            }
            let durable: usize = models.iter().map(|model| model.durable).sum();
            prop_assert_eq!(resend.acked, durable as u64);
        }
        // With credit and time for all remaining frames, nothing is missing and nothing hangs.
        for (lane, model) in models.iter_mut().enumerate() {
            model.credit += PLENTY;
            let ack = ack(FramePriority::ALL[lane], 0, model.credit);
            resend.acknowledge(&ack, |_, _| {}).unwrap();
        }
        for _ in 0..20 {
            fill(&mut resend, &mut models, limit);
        }
        prop_assert!(resend.is_exhausted() && resend.is_written());
        let mut all: Vec<_> = models.iter().flat_map(|model| model.accepted.clone()).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..limit).collect::<Vec<_>>());
        for lane in FramePriority::ALL {
            let next = models[lane.lane()].next(models[lane.lane()].accepted.len());
            resend.finish(lane, next, |_, _| {}).unwrap();
        }
        prop_assert_eq!((resend.unacked(), resend.sent), (0, limit));
    }
}

#[test]
fn without_acks_nothing_is_kept_and_bye_settles_only_this_connection() {
    let mut resend = resend(100, Mode::Unacked);
    let mut out = BytesMut::new();
    resend.open(Lanes::default(), BODY_BYTES_MAX).unwrap();
    assert_eq!(resend.fill(&mut out, Due::Below(40), 0, None).sent, 40);
    assert!(resend.lanes.values().all(|lane| lane.books.kept_frames() == 0));
    resend.open(Lanes::default(), BODY_BYTES_MAX).unwrap();
    assert_eq!(resend.fill(&mut out, Due::Below(100), 0, None), Filled { sent: 60, resent: 0 });
    let next = resend.sent_next();
    let emergencies = resend.finish(Emergency, next.emergency, |_, _| {}).unwrap();
    let routine = resend.finish(Routine, 70, |_, _| {}).unwrap();
    let of = |lane, range: std::ops::Range<u64>| {
        range.filter(|&sequence| priority(SEED, 1, sequence, RATIO) == lane).count() as u64
    };
    assert_eq!(emergencies.frames, of(Emergency, 40..100));
    assert_eq!(routine.frames, of(Routine, 40..70));
    assert_eq!(routine.bytes, routine.frames * PAYLOAD_BYTES as u64);
    assert_eq!(resend.unacked(), 40 + of(Routine, 70..100));
}
