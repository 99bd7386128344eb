//! The checks of FRAME, one after the other, and their effects.

use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use FramePriority::{Emergency, Routine};
use frame::{FrameFlags, Lanes, SourceKind, Station, StreamKey, weight_max};
use wire::FrameMessage;

const WINDOW: u64 = 256 * 10;

fn origin() -> Arc<Origin> {
    let stream = StreamKey { source_id: 7, source_kind: SourceKind::LiveUplink, station: Station::default() };
    Arc::new(Origin { stream, epoch: 3 })
}

fn intake(accepted_next: [u64; 2], no_ack: bool) -> Intake {
    let mut intake = Intake::new(accepted_next.into(), Lanes::both(WINDOW), WINDOW, no_ack);
    for priority in FramePriority::ALL {
        let credit = intake.credit(priority);
        credit.grant(credit.grantable(0));
    }
    intake
}

fn body(message: &ClientMessage) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes);
    bytes.split_off(4).freeze()
}

fn frame(priority: FramePriority, sequence: u64) -> Bytes {
    frame_of(priority, sequence, Bytes::from_static(b"payload"))
}

fn frame_of(priority: FramePriority, sequence: u64, payload: Bytes) -> Bytes {
    body(&ClientMessage::Frame(FrameMessage::new(priority, FrameFlags(2), sequence, -5, payload)))
}

/// Collects the bytes of a read, body by body.
struct Reading {
    intake: Intake,
    read: ReadBuffer,
}

impl Reading {
    fn new(accepted_next: [u64; 2], no_ack: bool) -> Self {
        Self { intake: intake(accepted_next, no_ack), read: ReadBuffer::default() }
    }

    fn take(&mut self, body: Bytes) -> Result<Taken, WireError> {
        let at = self.read.bytes.len();
        self.read.bytes.extend_from_slice(&body);
        self.intake.take(at, &body, &mut self.read.metas)
    }

    fn batch(&mut self) -> Option<HandOver> {
        let read = std::mem::take(&mut self.read);
        self.intake.take_batch(read, &BufferPool::new(1, 0), &origin(), 99)
    }
}

fn take(reading: &mut Reading, body: Bytes) -> Result<Taken, ErrorCode> {
    reading.take(body).map_err(|error| error.code)
}

#[test]
fn a_frame_keeps_its_fields() {
    let mut reading = Reading::new([0; 2], false);
    take(&mut reading, frame(Emergency, 0)).unwrap();
    let batch = reading.batch().unwrap();
    let frame = batch.lanes.emergency.as_ref().unwrap().iter().next().unwrap();
    assert_eq!(
        (frame.origin.stream.source_id, frame.sequence, frame.ert_ns, frame.received_ns),
        (7, 0, -5, 99)
    );
    assert_eq!((frame.flags, frame.payload), (FrameFlags(2), &b"payload"[..]));
    assert_eq!((batch.received, batch.duplicates, batch.rejected), (1, 0, None));
    assert_eq!(reading.intake.accepted_next(), Lanes::new(1, 0));
}

#[test]
fn sequences_rise_within_a_lane_and_gaps_are_legal() {
    let mut reading = Reading::new([0; 2], false);
    take(&mut reading, frame(Routine, 5)).unwrap();
    take(&mut reading, frame(Emergency, 3)).unwrap();
    take(&mut reading, frame(Routine, 9)).unwrap();
    let error = reading.take(frame(Routine, 9)).unwrap_err();
    assert_eq!((error.code, error.detail), (ErrorCode::SequenceRegression, 9));
    assert_eq!(reading.intake.accepted_next(), Lanes::new(4, 10), "the offender changed nothing");
    assert_eq!(reading.batch().unwrap().rejected, Some(ErrorCode::SequenceRegression));
}

#[test]
fn a_duplicate_is_dropped_and_counted_and_costs_credit() {
    let mut reading = Reading::new([0, 8], false);
    for sequence in 6..10 {
        take(&mut reading, frame(Routine, sequence)).unwrap();
    }
    let batch = reading.batch().unwrap();
    assert_eq!(
        (batch.received, batch.duplicates, batch.lanes.routine.as_ref().map(FrameRun::len)),
        (4, 2, Some(2))
    );
    assert_eq!(reading.intake.duplicates(Routine), 2);
    assert_eq!(reading.intake.credit(Routine).grantable(2 * 256), WINDOW + 2 * 256, "credited at once");
    assert_eq!(take(&mut reading, frame(Routine, 7)), Err(ErrorCode::SequenceRegression), "not a duplicate");
}

#[test]
fn credit_is_judged_after_the_sequence_and_per_lane() {
    let mut reading = Reading::new([0; 2], false);
    for sequence in 0..10 {
        take(&mut reading, frame(Routine, sequence)).unwrap();
    }
    assert_eq!(take(&mut reading, frame(Routine, 9)), Err(ErrorCode::SequenceRegression));
    assert_eq!(take(&mut reading, frame(Routine, 10)), Err(ErrorCode::FlowControl));
    take(&mut reading, frame(Emergency, 10)).unwrap();
    assert_eq!(reading.intake.accepted_next(), Lanes::new(11, 10));
}

#[test]
fn without_acks_there_is_no_credit_and_the_windows_bound_reading() {
    let mut reading = Reading::new([0; 2], true);
    for sequence in 0..100 {
        take(&mut reading, frame(Routine, sequence)).unwrap();
    }
    assert_eq!(reading.intake.read_bytes_max(Lanes::new(WINDOW - 1, WINDOW - 1)), 4 << 10);
    assert_eq!(reading.intake.read_bytes_max(Lanes::new(0, WINDOW)), 0);
    assert_eq!(reading.intake.read_bytes_max(Lanes::new(WINDOW, 0)), 0);
    let large = Intake::new(Lanes::default(), Lanes::new(256 << 10, 1 << 20), 1 << 17, true);
    assert_eq!(large.read_bytes_max(Lanes::new(100 << 10, 0)), 52 << 10);
    assert_eq!(
        intake([0; 2], false).read_bytes_max(Lanes::new(WINDOW, WINDOW)),
        usize::MAX,
        "credit bounds it"
    );
}

#[test]
fn after_bye_frames_and_a_second_bye_are_refused() {
    let mut reading = Reading::new([0; 2], false);
    let bye = ClientMessage::Bye(Bye { next: Lanes::new(0, 1) });
    assert_eq!(take(&mut reading, body(&bye)), Ok(Taken::Other(bye.clone())));
    assert_eq!(take(&mut reading, frame(Routine, 0)), Err(ErrorCode::Protocol));
    assert_eq!(take(&mut reading, body(&bye)), Err(ErrorCode::Protocol));
    assert_eq!(take(&mut reading, body(&ClientMessage::Ping(1))), Ok(Taken::Other(ClientMessage::Ping(1))));
}

#[test]
fn an_invalid_frame_is_counted_as_received_and_rejected() {
    let mut reading = Reading::new([0; 2], false);
    assert_eq!(take(&mut reading, Bytes::from_static(&[3, 7])), Err(ErrorCode::BadPriority));
    let batch = reading.batch().unwrap();
    assert_eq!((batch.received, batch.rejected), (1, Some(ErrorCode::BadPriority)));
    assert_eq!(take(&mut reading, Bytes::from_static(&[0x7F])), Err(ErrorCode::UnknownType));
    assert!(reading.batch().is_none(), "only FRAMEs are counted");
}

/// A queued frame must not keep the memory of many frames that were skipped or have already left.
#[test]
fn a_payload_is_copied_if_its_lane_would_keep_more_memory_than_its_cost() {
    let pool = BufferPool::new(60_000, 1);
    let (mut intake, mut read) = (intake([0; 2], false), pool.take());
    let at = read.bytes.as_ptr();
    for body in [frame_of(Emergency, 0, Bytes::from(vec![1; 2_000])), frame(Routine, 0)] {
        let from = read.bytes.len();
        read.bytes.put_slice(&body);
        intake.take(from, &body, &mut read.metas).unwrap();
    }
    read.bytes.put_bytes(0xEE, 50_000);
    let batch = intake.take_batch(read, &pool, &origin(), 99).unwrap();
    let Lanes { emergency: Some(emergencies), routine: Some(routine) } = &batch.lanes else {
        panic!("two lanes")
    };
    assert_eq!(routine.iter().next().unwrap().payload, b"payload");
    assert_eq!(emergencies.iter().next().unwrap().payload, [1; 2_000]);
    assert!(routine.weight() <= weight_max(routine.cost()) + 10 && emergencies.weight() < 2_500);
    assert_eq!(pool.take().bytes.as_ptr(), at, "the buffer is used again at once");
}

#[test]
fn a_longer_header_of_a_later_version_counts_in_the_cost() {
    let mut reading = Reading::new([0; 2], false);
    let mut longer = frame_of(Routine, 0, Bytes::from(vec![1; 500])).to_vec();
    longer[2] = 255;
    take(&mut reading, longer.into()).unwrap();
    let batch = reading.batch().unwrap();
    let run = batch.lanes.routine.as_ref().unwrap();
    assert_eq!((run.cost(), run.iter().next().unwrap().payload.len()), (520, 265));
    assert_eq!(reading.intake.credit(Routine).grantable(run.cost()), WINDOW, "credit and queue agree");
}
