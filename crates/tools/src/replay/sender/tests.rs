//! What a stream sends and how it handles responses, without a connection.

use super::*;
use crate::replay::{Control, Progress};
use FramePriority::{Emergency, Routine};
use frame::{self, Lanes, Origin, SourceKind, Station, StreamKey};
use std::time::Duration;
use tokio::sync::Semaphore;
use wire::{ClientMessage, next_body};

const PLENTY: u64 = 1 << 40;

struct Bench {
    sender: ReplaySender,
    shared: Arc<Shared>,
    orders_tx: mpsc::Sender<Order>,
    room: Arc<Semaphore>,
}

fn bench(goes_on: bool) -> Bench {
    let shared = Arc::new(Shared {
        connect: String::new(),
        tls: None,
        token: String::new(),
        epoch: 100,
        goes_on,
        shared_sequence: false,
        linger: Duration::from_secs(10),
        control: Arc::new(Control::default()),
        progress: Arc::new(Progress::default()),
        slots: Semaphore::new(1),
    });
    let (orders_tx, orders) = mpsc::channel(1_000);
    let sender = ReplaySender::new(Arc::clone(&shared), orders);
    Bench { sender, shared, orders_tx, room: Arc::new(Semaphore::new(1_000)) }
}

impl Bench {
    /// Orders frames of a lane. The offset of each is its sequence.
    async fn frames(&mut self, priority: FramePriority, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            let stream =
                StreamKey { source_id: 1, source_kind: SourceKind::LiveUplink, station: Station::default() };
            let frame = frame::Frame {
                source_id: 1,
                source_kind: SourceKind::LiveUplink,
                priority,
                flags: FrameFlags(2),
                sequence,
                ert_ns: 5,
                received_ns: 0,
                origin: Arc::new(Origin { stream, epoch: 1 }),
                payload: Bytes::from_static(b"payload"),
            };
            let room = Arc::clone(&self.room).acquire_owned().await.unwrap();
            self.order(Order::Frame(Frame::new(StoredFrame { offset: sequence, frame }, room))).await;
        }
    }

    async fn order(&mut self, order: Order) {
        self.orders_tx.send(order).await.unwrap();
        self.sender.changed().await;
    }

    fn welcome(&mut self, resume_next: [u64; 2]) -> Result<(), SourceError> {
        self.sender.welcome(&Welcome {
            version: 1,
            heartbeat_s: 15,
            max_message_bytes: 4096,
            session_id: 0,
            epoch: 100,
            resume_next: resume_next.into(),
            server_time_ns: 0,
            takes_zstd: None,
        })
    }

    fn ack(&mut self, priority: FramePriority, durable_next: u64, credit_limit: u64) {
        let ack = Ack { priority, duplicates: 0, durable_next, credit_limit };
        self.sender.acknowledge(&ack, Instant::now()).unwrap();
    }

    /// The frames that the sender writes now.
    fn written(&mut self) -> Vec<(FramePriority, u64)> {
        let mut out = BytesMut::new();
        self.sender.fill(&mut out, Instant::now()).unwrap();
        let bodies = std::iter::from_fn(|| next_body(&mut out, 4096).unwrap());
        bodies
            .map(|body| match ClientMessage::decode(body).unwrap() {
                ClientMessage::Frame(frame) => {
                    assert_eq!((frame.flags, frame.ert_ns), (FrameFlags(2), 5));
                    (frame.priority, frame.sequence)
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_without_credit_does_not_hold_up_the_other() {
    let mut bench = bench(false);
    bench.frames(Routine, 0..3).await;
    bench.frames(Emergency, 10..12).await;
    bench.welcome([0; 2]).unwrap();
    assert_eq!(bench.written(), []);
    bench.ack(Emergency, 0, PLENTY);
    assert_eq!(bench.written(), [(Emergency, 10), (Emergency, 11)]);
    bench.ack(Routine, 0, 2 * 256);
    assert_eq!(bench.written(), [(Routine, 0), (Routine, 1)]);
}

#[tokio::test(start_paused = true)]
async fn frames_are_kept_until_durable_and_sent_again_from_where_the_daemon_is() {
    let mut bench = bench(false);
    bench.frames(Routine, 0..6).await;
    bench.welcome([0; 2]).unwrap();
    bench.ack(Routine, 0, PLENTY);
    assert_eq!(bench.written().len(), 6);
    bench.ack(Routine, 2, PLENTY);
    assert_eq!((bench.sender.kept(), bench.room.available_permits()), (4, 996));
    bench.welcome([0, 4]).unwrap();
    bench.ack(Routine, 2, PLENTY);
    assert_eq!(bench.written(), [(Routine, 4), (Routine, 5)]);
    bench.ack(Routine, 6, PLENTY);
    assert_eq!((bench.sender.kept(), bench.room.available_permits()), (0, 1_000));
    let counts = bench.shared.progress.counts();
    assert_eq!((counts.sent, counts.resent, counts.acked, counts.already), (6, 2, 6, 0));
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_lost_its_position_gets_the_kept_frames() {
    let mut bench = bench(false);
    bench.frames(Routine, 0..6).await;
    bench.welcome([0; 2]).unwrap();
    bench.ack(Routine, 0, PLENTY);
    bench.written();
    bench.ack(Routine, 4, PLENTY);
    bench.welcome([0; 2]).unwrap();
    bench.ack(Routine, 0, PLENTY);
    assert_eq!(bench.written(), [(Routine, 4), (Routine, 5)]);
    assert!(bench.sender.books.forgot);
}

#[tokio::test(start_paused = true)]
async fn only_a_resumed_run_accepts_frames_that_it_did_not_send() {
    let mut fresh = bench(false);
    fresh.frames(Routine, 0..3).await;
    assert!(matches!(fresh.welcome([0, 2]), Err(SourceError::StateLost { .. })));

    let mut bench = bench(true);
    bench.frames(Routine, 0..3).await;
    bench.welcome([0, 4]).unwrap();
    bench.ack(Routine, 1, PLENTY);
    bench.frames(Routine, 3..6).await;
    assert_eq!(bench.written(), [(Routine, 4), (Routine, 5)]);
    bench.ack(Routine, 6, PLENTY);
    let counts = bench.shared.progress.counts();
    assert_eq!((counts.sent, counts.acked, counts.already), (2, 6, 4));
}

#[tokio::test(start_paused = true)]
async fn epochs_below_the_epoch_of_the_daemon_are_skipped() {
    let mut bench = bench(true);
    bench.frames(Routine, 0..3).await;
    assert!(bench.sender.is_fresh(102) && !bench.sender.is_fresh(100));
    bench.sender.catch_up(102);
    bench.frames(Routine, 3..5).await;
    bench.order(Order::NextEpoch).await;
    let wanted = async {
        assert!(bench.sender.wanted().await);
        bench.sender.epoch()
    };
    let tx = bench.orders_tx.clone();
    let room = Arc::clone(&bench.room);
    let orders = async {
        tx.send(Order::NextEpoch).await.unwrap();
        let stream =
            StreamKey { source_id: 1, source_kind: SourceKind::LiveUplink, station: Station::default() };
        let frame = frame::Frame {
            source_id: 1,
            source_kind: SourceKind::LiveUplink,
            priority: Routine,
            flags: FrameFlags::default(),
            sequence: 0,
            ert_ns: 0,
            received_ns: 0,
            origin: Arc::new(Origin { stream, epoch: 3 }),
            payload: Bytes::new(),
        };
        let room = room.acquire_owned().await.unwrap();
        tx.send(Order::Frame(Frame::new(StoredFrame { offset: 9, frame }, room))).await.unwrap();
    };
    let (epoch, ()) = tokio::join!(wanted, orders);
    assert_eq!((epoch, bench.sender.behind(), bench.sender.kept()), (102, None, 1));
    assert_eq!(bench.sender.books.acked, 5);
    bench.sender.take_back();
    assert_eq!(bench.sender.books.acked, 5, "it has come there");
}

#[tokio::test(start_paused = true)]
async fn frames_skipped_for_an_epoch_that_never_comes_are_missing() {
    let mut bench = bench(true);
    bench.frames(Emergency, 7..9).await;
    bench.frames(Routine, 2..3).await;
    bench.sender.catch_up(102);
    bench.order(Order::NextEpoch).await;
    bench.sender.go_on();
    bench.frames(Routine, 11..12).await;
    assert_eq!((bench.sender.behind(), bench.sender.books.acked), (Some(102), 4));
    bench.sender.take_back();
    assert_eq!((bench.sender.books.acked, bench.sender.books.missing), (0, Some(2)));
    let counts = bench.shared.progress.counts();
    assert_eq!((counts.acked, counts.already), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_paused_sender_writes_and_resends_nothing() {
    let mut bench = bench(false);
    bench.frames(Routine, 0..3).await;
    bench.welcome([0; 2]).unwrap();
    bench.ack(Routine, 0, PLENTY);
    bench.shared.control.toggle_pause();
    assert_eq!(bench.written(), []);
    bench.shared.control.toggle_pause();
    bench.sender.changed().await;
    assert_eq!(bench.written().len(), 3);
    bench.welcome([0; 2]).unwrap();
    bench.ack(Routine, 0, PLENTY);
    bench.shared.control.toggle_pause();
    assert_eq!(bench.written(), []);
    // A stop ends the pause, so that sent frames can be acknowledged.
    bench.shared.control.stop();
    while bench.sender.gives_up_at().is_none() {
        bench.sender.changed().await;
    }
    assert_eq!(bench.written().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stop_drops_unsent_frames_and_names_the_first() {
    let mut bench = bench(false);
    bench.frames(Routine, 0..5).await;
    bench.welcome([0; 2]).unwrap();
    bench.ack(Routine, 0, 2 * 256);
    assert_eq!(bench.written().len(), 2);
    assert_eq!(bench.sender.bye(), None);
    bench.shared.control.stop();
    bench.sender.given_up().await;
    assert_eq!((bench.sender.kept(), bench.sender.books.missing), (2, Some(2)));
    assert_eq!(bench.sender.bye(), Some(Bye { next: Lanes::new(0, 2) }));
    bench.sender.finish(Bye { next: Lanes::new(0, 2) }, Instant::now()).unwrap();
    assert!(bench.sender.is_settled() && bench.room.available_permits() == 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_resting_sender_says_bye_and_later_frames_wait_for_a_connection() {
    let mut bench = bench(false);
    bench.frames(Routine, 0..2).await;
    bench.order(Order::Rest).await;
    bench.welcome([0; 2]).unwrap();
    assert_eq!(bench.sender.bye(), None, "there are frames to write");
    bench.ack(Routine, 0, PLENTY);
    bench.written();
    assert_eq!(bench.sender.bye(), Some(Bye { next: Lanes::new(0, 2) }));
    bench.sender.finish(Bye { next: Lanes::new(0, 2) }, Instant::now()).unwrap();
    bench.sender.go_on();
    assert_eq!((bench.sender.epoch(), bench.sender.bye()), (100, None));
}

#[tokio::test(start_paused = true)]
async fn a_frame_above_the_message_limit_ends_the_stream() {
    let mut bench = bench(false);
    bench.frames(Routine, 0..1).await;
    bench.sender.message_bytes_max = 26;
    assert!(matches!(
        bench.sender.fill(&mut BytesMut::new(), Instant::now()),
        Err(SourceError::FrameTooLarge { body_bytes: 27, max_message_bytes: 26 })
    ));
}
