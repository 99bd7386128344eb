//! Heartbeats and draining, on a simulated clock: no socket, no waiting.

use super::*;
use bytes::Bytes;
use frame::{FrameFlags, FramePriority, Lanes};
use wire::packed::unpack;
use wire::{Ack, ClientMessage, FrameMessage, GoAway, kind, next_body};

const HEARTBEAT: Duration = Duration::from_secs(15);

/// Sends frames as long as it has some, and BYE when it is over.
#[derive(Default)]
struct Fake {
    has_frames: bool,
    is_over: bool,
    payload: Bytes,
}

impl Script for Fake {
    fn welcome(&mut self, _: &Welcome) -> Result<(), SourceError> {
        Ok(())
    }

    fn fill(&mut self, out: &mut BytesMut, _: Instant) -> Result<(), SourceError> {
        if self.has_frames && !self.is_over {
            let payload = self.payload.clone();
            FrameMessage::new(FramePriority::Routine, FrameFlags::default(), 0, 0, payload).encode(out);
        }
        Ok(())
    }

    fn bye(&self) -> Option<Bye> {
        self.is_over.then(Bye::default)
    }

    fn acknowledge(&mut self, _: &Ack, _: Instant) -> Result<bool, SourceError> {
        Ok(false)
    }

    fn finish(&mut self, _: Bye, _: Instant) -> Result<bool, SourceError> {
        Ok(false)
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn next_due(&self, _: Instant) -> Option<Instant> {
        None
    }

    fn gives_up_at(&self) -> Option<Instant> {
        None
    }

    async fn changed(&mut self) {
        std::future::pending().await
    }
}

fn begin(script: &mut Fake, now: Instant) -> Conversation<'_, Fake> {
    Conversation::new(script, &welcome(), now).unwrap()
}

fn welcome() -> Welcome {
    Welcome {
        version: 1,
        heartbeat_s: 15,
        max_message_bytes: 4096,
        session_id: 0,
        epoch: 1,
        resume_next: Lanes::default(),
        server_time_ns: 0,
        takes_zstd: None,
    }
}

fn messages(out: &mut BytesMut) -> Vec<ClientMessage> {
    std::iter::from_fn(|| next_body(out, 4096).unwrap())
        .map(|body| ClientMessage::decode(body).unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_pinged_twice_and_then_given_up() {
    let (mut script, start) = (Fake::default(), Instant::now());
    let mut conversation = begin(&mut script, start);
    let mut out = BytesMut::new();
    for beat in 1..SILENT_HEARTBEATS_MAX {
        let due = start + HEARTBEAT * beat;
        assert_eq!(conversation.wake_at(true, start), Some(due));
        assert_eq!(conversation.wake(&mut out, due - Duration::from_millis(1)), None);
        assert!(out.is_empty());
        assert_eq!(conversation.wake(&mut out, due), None);
        assert!(matches!(messages(&mut out)[..], [ClientMessage::Ping(_)]));
        conversation.wrote(true, due);
    }
    let due = start + HEARTBEAT * SILENT_HEARTBEATS_MAX;
    assert_eq!(conversation.wake(&mut out, due), Some(End::lost("nothing received for 45s")));
}

#[tokio::test(start_paused = true)]
async fn frames_are_compressed_where_that_is_granted_and_makes_them_smaller() {
    for (takes_zstd, payload, max_message_bytes, first_type) in [
        (Some(true), vec![7; 1000], 4096, kind::ZSTD),
        (Some(true), vec![7; 4], 4096, kind::FRAME),
        (Some(true), vec![7; 1000], 1023, kind::FRAME),
        (Some(false), vec![7; 1000], 4096, kind::FRAME),
        (None, vec![7; 1000], 4096, kind::FRAME),
    ] {
        let mut script = Fake { has_frames: true, payload: payload.into(), ..Fake::default() };
        let now = Instant::now();
        let mut plain = BytesMut::new();
        script.fill(&mut plain, now).unwrap();
        let welcome = Welcome { takes_zstd, max_message_bytes, ..welcome() };
        let mut conversation = Conversation::new(&mut script, &welcome, now).unwrap();
        for _ in 0..2 {
            let mut out = BytesMut::new();
            conversation.fill(&mut out, now).unwrap();
            let body = next_body(&mut out, 4096).unwrap().unwrap();
            assert_eq!(body[0], first_type, "{takes_zstd:?}, at most {max_message_bytes}");
            if first_type == kind::ZSTD {
                let mut raw = Vec::new();
                unpack(&body, 4096, &mut raw).unwrap();
                assert_eq!(raw, plain);
            } else {
                assert_eq!(body, plain[4..]);
            }
            assert!(out.is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn any_byte_ends_the_silence() {
    let (mut script, start) = (Fake::default(), Instant::now());
    let mut conversation = begin(&mut script, start);
    let mut out = BytesMut::new();
    let mut now = start;
    for _ in 0..10 {
        now += HEARTBEAT;
        assert_eq!(conversation.wake(&mut out, now), None);
        conversation.wrote(true, now);
        now += HEARTBEAT / 2;
        conversation.heard(now);
    }
    assert_eq!(conversation.wake_at(true, now), Some(now + HEARTBEAT));
}

#[tokio::test(start_paused = true)]
async fn silence_does_not_count_while_a_write_is_blocked() {
    let (mut script, start) = (Fake::default(), Instant::now());
    let mut conversation = begin(&mut script, start);
    let mut out = BytesMut::new();
    let began = start + Duration::from_secs(5);
    conversation.script().has_frames = true;
    conversation.fill(&mut out, began).unwrap();
    assert!(!out.is_empty());
    assert_eq!(conversation.wake_at(false, began), None);
    let much_later = began + HEARTBEAT * 100;
    assert_eq!(conversation.wake(&mut out, much_later), None);
    conversation.wrote(false, much_later);
    assert_eq!(conversation.wake_at(false, much_later), None);
    let done = much_later + HEARTBEAT;
    conversation.wrote(true, done);
    // 5 of the 15 seconds had passed before the write.
    assert_eq!(conversation.wake_at(true, done), Some(done + Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_ping_is_answered() {
    let (mut script, now) = (Fake::default(), Instant::now());
    let mut conversation = begin(&mut script, now);
    let mut out = BytesMut::new();
    for nonce in [1, 2] {
        assert_eq!(conversation.receive(ServerMessage::Ping(nonce), now), Ok(None));
    }
    conversation.fill(&mut out, now).unwrap();
    assert_eq!(messages(&mut out), [ClientMessage::Pong(2)]);
}

#[tokio::test(start_paused = true)]
async fn goaway_stops_frames_and_sets_the_deadline() {
    let (mut script, now) = (Fake::default(), Instant::now());
    let mut conversation = begin(&mut script, now);
    let mut out = BytesMut::new();
    let deadline = Duration::from_secs(5);
    let goaway = GoAway { deadline, text: String::new() };
    conversation.script().has_frames = true;
    assert_eq!(conversation.receive(ServerMessage::GoAway(goaway), now), Ok(None));
    conversation.fill(&mut out, now).unwrap();
    assert!(out.is_empty());
    let end = now + deadline + GOAWAY_GRACE;
    assert_eq!(conversation.wake_at(true, now), Some(end));
    assert!(conversation.wake(&mut out, end).is_some());
    // A feed that ends at this point is finished with BYE nevertheless.
    conversation.script().is_over = true;
    conversation.fill(&mut out, now).unwrap();
    assert_eq!(messages(&mut out), [ClientMessage::Bye(Bye { next: Lanes::default() })]);
}
