//! Properties of the codec of the subscriber side, its documented bytes, and each check of "Feed
//! connections".

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::{ErrorCode, HANDSHAKE_BODY_BYTES_MAX, next_body};
use frame::FramePriority::{Emergency, Routine};
use frame::SourceKind::{ArchivedReplay, LiveUplink};
use frame::{Frame, FrameFlags, FramePriority, Origin, Selection, SourceKind, Station, StreamKey};

fn lane() -> impl Strategy<Value = FramePriority> {
    prop_oneof![Just(Emergency), Just(Routine)]
}

fn source_kind() -> impl Strategy<Value = SourceKind> {
    prop_oneof![Just(LiveUplink), Just(ArchivedReplay)]
}

fn frame() -> impl Strategy<Value = Frame> {
    let stream = (any::<u32>(), source_kind(), "[a-z0-9é ]{0,32}");
    let numbers = any::<(u8, u64, u64, i64, i64)>();
    let payload = prop::collection::vec(any::<u8>(), 0..600);
    (stream, lane(), numbers, payload).prop_map(
        |((source_id, source_kind, station), priority, n, payload)| {
            let (flags, sequence, epoch, ert_ns, received_ns) = n;
            let station = Station::new(&station).unwrap();
            Frame {
                source_id,
                source_kind,
                priority,
                flags: FrameFlags(flags),
                sequence,
                ert_ns,
                received_ns,
                origin: Arc::new(Origin { stream: StreamKey { source_id, source_kind, station }, epoch }),
                payload: payload.into(),
            }
        },
    )
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Live),
        any::<(u64, u64)>().prop_map(|(offset, log_id)| Start::Offset { offset, log_id }),
        (0..i64::MAX).prop_map(|from_ns| Start::Received { from_ns }),
        Just(Start::Earliest),
    ]
}

fn subscribe() -> impl Strategy<Value = Subscribe> {
    let selection = (
        prop::collection::vec(any::<u32>(), 0..=SOURCES_MAX),
        prop::option::of(lane()),
        prop::option::of(source_kind()),
    );
    let selection = selection.prop_map(|(sources, priority, kind)| {
        Selection::of_sources(sources).with_priority(priority).with_kind(kind)
    });
    let policy = prop_oneof![Just(Policy::Complete), Just(Policy::Timely)];
    (0..=1u8, 1..=9u8, policy, start(), selection, "[!-~]{0,64}").prop_map(
        |(version_min, version_max, policy, start, selection, token)| Subscribe {
            version_min,
            version_max,
            policy,
            start,
            selection,
            token,
        },
    )
}

fn subscriber_message() -> impl Strategy<Value = SubscriberMessage> {
    prop_oneof![
        any::<u64>().prop_map(SubscriberMessage::Ping),
        any::<u64>().prop_map(SubscriberMessage::Pong),
        (0x95u8..).prop_map(SubscriberMessage::Ignored),
    ]
}

fn feed_message() -> impl Strategy<Value = FeedMessage> {
    let subscribed = any::<(u8, u16, u32, u64, u64, u64)>().prop_map(|n| {
        let (version, heartbeat_s, max_message_bytes, log_id, start_offset, head_offset) = n;
        Subscribed { version, heartbeat_s, max_message_bytes, log_id, start_offset, head_offset }
    });
    let reason = prop_oneof![Just(GapReason::Skipped), Just(GapReason::Expired), Just(GapReason::Damaged)];
    let gap =
        (reason, any::<u64>(), any::<u64>()).prop_map(|(reason, from, to)| Gap { reason, offsets: from..to });
    let error = any::<(u16, bool, u32, u64, String)>().prop_map(|(code, retryable, ms, detail, text)| {
        ErrorMessage { code, retryable, retry_after: Duration::from_millis(ms.into()), detail, text }
    });
    prop_oneof![
        subscribed.prop_map(FeedMessage::Subscribed),
        (any::<u64>(), frame()).prop_map(|(offset, frame)| FeedMessage::Deliver(Deliver { offset, frame })),
        gap.prop_map(FeedMessage::Gap),
        any::<u64>().prop_map(FeedMessage::Progress),
        any::<u64>().prop_map(FeedMessage::Ping),
        any::<u64>().prop_map(FeedMessage::Pong),
        error.prop_map(FeedMessage::Error),
        (0x95u8..).prop_map(FeedMessage::Ignored),
    ]
}

/// Every field of a message as text, including the shared fields of a frame.
fn shown(message: &FeedMessage) -> String {
    format!("{message:?}")
}

fn only_body(buffer: &mut BytesMut) -> Bytes {
    let body = next_body(buffer, 1 << 20).unwrap().unwrap();
    assert!(buffer.is_empty(), "one message leaves nothing behind");
    body
}

fn body_of(message: &FeedMessage) -> Bytes {
    let mut buffer = BytesMut::new();
    message.encode(&mut buffer);
    only_body(&mut buffer)
}

/// Bytes that look like a message: an existing type, then arbitrary bytes.
fn plausible_body() -> impl Strategy<Value = Bytes> {
    (any::<u8>(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(pick, mut body)| {
        let known = [5, 6, 9, 0x10, 0x11, 0x12, 0x13, 0x94, 0x7F, 0xFF];
        if let Some(first) = body.first_mut() {
            *first = known[usize::from(pick) % known.len()];
        }
        Bytes::from(body)
    })
}

proptest! {
    #[test]
    fn subscribe_decodes_as_encoded_and_fits_the_handshake(subscribe in subscribe()) {
        let mut buffer = BytesMut::new();
        subscribe.encode(&mut buffer);
        let body = next_body(&mut buffer, HANDSHAKE_BODY_BYTES_MAX).unwrap().unwrap();
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(Subscribe::decode(&body).unwrap(), subscribe);
    }

    #[test]
    fn subscriber_messages_decode_as_encoded(message in subscriber_message()) {
        let mut buffer = BytesMut::new();
        message.encode(&mut buffer);
        prop_assert_eq!(SubscriberMessage::decode(&only_body(&mut buffer)).unwrap(), message);
    }

    #[test]
    fn feed_messages_decode_as_encoded(message in feed_message()) {
        let decoded = FeedMessage::decode(body_of(&message)).unwrap();
        prop_assert_eq!(shown(&decoded), shown(&message));
    }

    #[test]
    fn a_delivery_has_the_announced_size(offset: u64, frame in frame()) {
        let mut buffer = BytesMut::new();
        Deliver::encode(offset, &frame, &mut buffer);
        prop_assert_eq!(buffer.len(), deliver_bytes(&frame));
    }

    #[test]
    fn any_body_gives_a_value_or_an_error(body in plausible_body()) {
        let _ = Subscribe::decode(&body);
        let _ = SubscriberMessage::decode(&body);
        let _ = FeedMessage::decode(body);
    }

    #[test]
    fn a_subscribe_damaged_anywhere_gives_a_value_or_an_error(
        subscribe in subscribe(), at: prop::sample::Index, byte: u8,
    ) {
        let mut buffer = BytesMut::new();
        subscribe.encode(&mut buffer);
        let mut body = only_body(&mut buffer).to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let _ = Subscribe::decode(&body);
    }

    #[test]
    fn a_cut_message_is_an_error(message in feed_message(), keep in 0.0..1.0f64) {
        let body = body_of(&message);
        let fixed = match &message {
            FeedMessage::Subscribed(_) => 32,
            FeedMessage::Deliver(deliver) => 52 + deliver.frame.origin.stream.station.as_str().len(),
            FeedMessage::Gap(_) => 24,
            FeedMessage::Progress(_) | FeedMessage::Error(_) => 16,
            FeedMessage::Ping(_) | FeedMessage::Pong(_) => 9,
            FeedMessage::Ignored(_) => 1,
        };
        let cut = (fixed as f64 * keep) as usize;
        prop_assert_eq!(FeedMessage::decode(body.slice(..cut)).unwrap_err().code, ErrorCode::Protocol);
    }

    #[test]
    fn a_cut_subscribe_is_an_error(subscribe in subscribe(), keep in 0.0..1.0f64) {
        let mut buffer = BytesMut::new();
        subscribe.encode(&mut buffer);
        let body = only_body(&mut buffer);
        let cut = (body.len() as f64 * keep) as usize;
        prop_assert_eq!(Subscribe::decode(&body[..cut]).unwrap_err().code, ErrorCode::Protocol);
    }

    #[test]
    fn extra_bytes_are_ignored_except_behind_a_payload(message in feed_message(), extra in 1..20usize) {
        let mut longer = BytesMut::from(&body_of(&message)[..]);
        longer.put_bytes(b'x', extra);
        let decoded = FeedMessage::decode(longer.freeze()).unwrap();
        match (&message, &decoded) {
            (FeedMessage::Deliver(sent), FeedMessage::Deliver(seen)) => {
                prop_assert_eq!(seen.frame.payload.len(), sent.frame.payload.len() + extra);
            }
            (FeedMessage::Error(sent), FeedMessage::Error(seen)) => {
                prop_assert_eq!(&seen.text, &(sent.text.clone() + &"x".repeat(extra)));
            }
            _ => prop_assert_eq!(shown(&decoded), shown(&message)),
        }
    }

    #[test]
    fn bytes_behind_the_token_are_ignored(subscribe in subscribe(), extra in 1..20usize) {
        let mut buffer = BytesMut::new();
        subscribe.encode(&mut buffer);
        let mut longer = only_body(&mut buffer).to_vec();
        longer.resize(longer.len() + extra, 0xEE);
        prop_assert_eq!(Subscribe::decode(&longer).unwrap(), subscribe);
    }
}

/// The layouts of protocol.md, byte by byte, so that encoder and decoder cannot deviate together.
#[test]
fn subscribe_has_the_documented_bytes() {
    let selection = Selection::of_sources([7, 0x0102_0304]).with_priority(Some(Routine));
    let start = Start::Offset { offset: 0x1112_1314_1516_1718, log_id: 0x2122_2324_2526_2728 };
    let subscribe = Subscribe {
        version_max: 2,
        token: "tk".to_owned(),
        ..Subscribe::new(Policy::Timely, start, selection.with_kind(Some(LiveUplink)))
    };
    let mut buffer = BytesMut::new();
    subscribe.encode(&mut buffer);
    let mut expected = vec![0, 0, 0, 42, 0x10, 1, 2, 1];
    expected.extend(b"TMA1");
    expected.extend([1, 2, 1, 0, 0, 2, 0, 2]);
    expected.extend([0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
    expected.extend([0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28]);
    expected.extend([0, 0, 0, 7, 1, 2, 3, 4]);
    expected.extend(b"tk");
    assert_eq!(&buffer[..], &expected[..]);
}

#[test]
fn each_start_and_choice_has_its_documented_value() {
    let bytes = |start, selection| {
        let mut buffer = BytesMut::new();
        Subscribe::new(Policy::Complete, start, selection).encode(&mut buffer);
        only_body(&mut buffer)
    };
    let all = Selection::default;
    for (start, value) in [
        (Start::Live, 0),
        (Start::Offset { offset: 1, log_id: 0 }, 1),
        (Start::Received { from_ns: 1 }, 2),
        (Start::Earliest, 3),
    ] {
        assert_eq!(bytes(start, all())[8], value, "{start:?}");
    }
    assert_eq!(bytes(Start::Live, all())[9..11], [0, 0]);
    assert_eq!(bytes(Start::Live, all().with_priority(Some(Emergency)))[9..11], [1, 0]);
    assert_eq!(bytes(Start::Live, all().with_priority(Some(Routine)))[9..11], [2, 0]);
    assert_eq!(bytes(Start::Live, all().with_kind(Some(LiveUplink)))[9..11], [0, 1]);
    assert_eq!(bytes(Start::Live, all().with_kind(Some(ArchivedReplay)))[9..11], [0, 2]);
}

#[test]
fn subscribed_has_the_documented_bytes() {
    let subscribed = Subscribed {
        version: 1,
        heartbeat_s: 15,
        max_message_bytes: 0x0002_0000,
        log_id: 0x0102_0304_0506_0708,
        start_offset: 9,
        head_offset: 0x1000,
    };
    let body = body_of(&FeedMessage::Subscribed(subscribed));
    let mut expected = vec![0x11, 1, 0, 15, 0, 2, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    expected.extend([0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0x10, 0]);
    assert_eq!(&body[..], &expected[..]);
}

#[test]
fn deliver_has_the_documented_bytes() {
    let (source_id, source_kind) = (7, ArchivedReplay);
    let stream = StreamKey { source_id, source_kind, station: Station::new("KIR").unwrap() };
    let frame = Frame {
        source_id,
        source_kind,
        priority: Routine,
        flags: FrameFlags(0x82),
        sequence: 0x0102_0304_0506_0708,
        ert_ns: -2,
        received_ns: 5,
        origin: Arc::new(Origin { stream, epoch: 9 }),
        payload: Bytes::from_static(b"hi"),
    };
    let body = body_of(&FeedMessage::Deliver(Deliver { offset: 0x1112, frame }));
    let mut expected = vec![0x12, 1, 55, 0x82, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0x11, 0x12];
    expected.extend([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9]);
    expected.extend([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 0, 0, 0, 0, 0, 0, 0, 5]);
    expected.extend([1, 3, 0, 0]);
    expected.extend(b"KIRhi");
    assert_eq!(&body[..], &expected[..]);
}

#[test]
fn gap_and_progress_have_the_documented_bytes() {
    for (reason, value) in [(GapReason::Skipped, 1), (GapReason::Expired, 2), (GapReason::Damaged, 3)] {
        let mut expected = vec![0x13, value, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4];
        expected.extend([0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(&body_of(&FeedMessage::Gap(Gap { reason, offsets: 4..256 }))[..], &expected[..]);
    }
    let expected = [0x94, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
    assert_eq!(&body_of(&FeedMessage::Progress(0x0102))[..], &expected[..]);
}

/// A valid SUBSCRIBE: live, everything, one source, token `t`.
fn good() -> Vec<u8> {
    let mut buffer = BytesMut::new();
    let selection = Selection::of_sources([7]);
    Subscribe { token: "t".to_owned(), ..Subscribe::new(Policy::Complete, Start::Live, selection) }
        .encode(&mut buffer);
    buffer[4..].to_vec()
}

/// Decodes a valid SUBSCRIBE whose byte at `at` is replaced by `byte`.
fn with(at: usize, byte: u8) -> Result<Subscribe, ErrorCode> {
    let mut bytes = good();
    bytes[at] = byte;
    Subscribe::decode(&bytes).map_err(|error| error.code)
}

#[test]
fn an_unsupported_subscribe_is_refused() {
    assert!(with(0, 0x10).is_ok());
    assert_eq!(with(0, 5), Err(ErrorCode::Protocol), "PING before SUBSCRIBE");
    assert_eq!(with(0, 1), Err(ErrorCode::Protocol), "HELLO before SUBSCRIBE");
    assert_eq!(with(0, 0x7F), Err(ErrorCode::Protocol), "an unknown type before SUBSCRIBE");
    assert_eq!(with(0, 0xFF), Err(ErrorCode::Protocol), "an ignorable type before SUBSCRIBE");
    assert_eq!(with(1, 2), Err(ErrorCode::Version), "min above ours");
    assert_eq!(with(2, 0), Err(ErrorCode::Version), "max below min");
    assert_eq!(with(3, 2), Err(ErrorCode::Protocol), "reserved policy");
    assert_eq!(with(4, b'X'), Err(ErrorCode::Protocol), "magic");
    assert_eq!(with(8, 4), Err(ErrorCode::Protocol), "reserved start");
    assert_eq!(with(13, 2), Err(ErrorCode::Protocol), "sources past the end");
    assert_eq!(with(15, 2), Err(ErrorCode::Protocol), "token past the end");
    assert_eq!(with(36, 0xFF), Err(ErrorCode::Protocol), "a token that is no text");
    assert_eq!(with(11, 9).map(|_| ()), Ok(()), "the zero byte is room to grow");
    assert_eq!(Subscribe::decode(&[]).unwrap_err().code, ErrorCode::Protocol);
}

#[test]
fn the_version_is_judged_before_fields_that_a_later_version_may_change() {
    let mut bytes = good();
    (bytes[1], bytes[2], bytes[3], bytes[8]) = (2, 3, 9, 9);
    assert_eq!(Subscribe::decode(&bytes).unwrap_err().code, ErrorCode::Version);
    bytes[4] = b'X';
    assert_eq!(Subscribe::decode(&bytes).unwrap_err().code, ErrorCode::Protocol, "but not before the magic");
}

#[test]
fn counts_beyond_their_limits_are_refused_by_name() {
    let sources = |count: u16| {
        let mut bytes = good();
        bytes[12..14].copy_from_slice(&count.to_be_bytes());
        bytes.resize(32 + usize::from(count) * 4 + 1, 0);
        Subscribe::decode(&bytes)
    };
    assert!(sources(512).is_ok());
    let error = sources(513).unwrap_err();
    assert_eq!(error.code, ErrorCode::Protocol);
    assert!(error.text.contains("513") && error.text.contains("512"), "{error}");
    let token = |count: u16| {
        let mut bytes = good();
        bytes[14..16].copy_from_slice(&count.to_be_bytes());
        bytes.resize(36 + usize::from(count), b't');
        Subscribe::decode(&bytes)
    };
    assert_eq!(token(1_024).unwrap().token.len(), 1_024);
    let error = token(1_025).unwrap_err();
    assert!(error.text.contains("1025") && error.text.contains("1024"), "{error}");
}

#[test]
fn masks_select_by_their_known_bits() {
    let priority = |mask| with(9, mask).map(|subscribe| subscribe.selection.priority);
    assert_eq!(priority(0), Ok(None));
    assert_eq!(priority(1), Ok(Some(Emergency)));
    assert_eq!(priority(2), Ok(Some(Routine)));
    assert_eq!(priority(3), Ok(None));
    assert_eq!(priority(0xFD), Ok(Some(Emergency)), "unknown bits beside a known one are ignored");
    assert_eq!(priority(4), Err(ErrorCode::Protocol), "unknown bits alone choose nothing");
    let kind = |mask| with(10, mask).map(|subscribe| subscribe.selection.kind);
    assert_eq!(kind(0), Ok(None));
    assert_eq!(kind(1), Ok(Some(LiveUplink)));
    assert_eq!(kind(2), Ok(Some(ArchivedReplay)));
    assert_eq!(kind(3), Ok(None));
    assert_eq!(kind(0x82), Ok(Some(ArchivedReplay)));
    assert_eq!(kind(0x80), Err(ErrorCode::Protocol));
}

#[test]
fn a_position_is_read_as_start_says() {
    let mut bytes = good();
    bytes[16..24].copy_from_slice(&u64::MAX.to_be_bytes());
    bytes[24..32].copy_from_slice(&5u64.to_be_bytes());
    let start = |value: u8| {
        let mut bytes = bytes.clone();
        bytes[8] = value;
        Subscribe::decode(&bytes).unwrap().start
    };
    assert_eq!(start(0), Start::Live);
    assert_eq!(start(1), Start::Offset { offset: u64::MAX, log_id: 5 });
    assert_eq!(start(2), Start::Received { from_ns: i64::MAX }, "no clock gets there");
    assert_eq!(start(3), Start::Earliest);
}

#[test]
fn a_subscription_never_prints_its_token() {
    let subscribe = Subscribe { token: "hunter2".to_owned(), ..Subscribe::decode(&good()).unwrap() };
    assert!(!format!("{subscribe:?}").contains("hunter2"));
}

#[test]
fn types_have_their_direction() {
    let subscriber = |kind: u8| SubscriberMessage::decode(&[kind; 60]).map_err(|error| error.code);
    assert_eq!(subscriber(0x7F), Err(ErrorCode::UnknownType));
    assert_eq!(subscriber(0), Err(ErrorCode::UnknownType));
    assert_eq!(subscriber(0xF0), Ok(SubscriberMessage::Ignored(0xF0)));
    for kind in [1, 2, 3, 4, 7, 8, 9, 0x10, 0x11, 0x12, 0x13, 0x8A, 0x94] {
        assert_eq!(subscriber(kind), Err(ErrorCode::Protocol), "{kind:#x} from a subscriber");
    }
    assert_eq!(SubscriberMessage::decode(&[]).unwrap_err().code, ErrorCode::Protocol);
    let server = |kind: u8| FeedMessage::decode(Bytes::from(vec![kind; 60])).map_err(|error| error.code);
    assert_eq!(server(0x7F).unwrap_err(), ErrorCode::UnknownType);
    assert!(matches!(server(0xF0), Ok(FeedMessage::Ignored(0xF0))));
    for kind in [1, 2, 3, 4, 7, 8, 0x10, 0x8A] {
        assert_eq!(server(kind).unwrap_err(), ErrorCode::Protocol, "{kind:#x} from the daemon");
    }
    assert_eq!(FeedMessage::decode(Bytes::new()).unwrap_err().code, ErrorCode::Protocol);
}

#[test]
fn a_delivery_with_reserved_values_or_a_header_that_does_not_fit_is_refused() {
    let body = |changes: &[(usize, u8)]| {
        let mut body = vec![0; 60];
        (body[0], body[2], body[49]) = (0x12, 55, 3);
        changes.iter().for_each(|(at, byte)| body[*at] = *byte);
        Deliver::decode(body.into()).map_err(|error| error.code)
    };
    // The station is three zero bytes, which are control characters.
    assert_eq!(body(&[]).unwrap_err(), ErrorCode::Protocol);
    let station = [(52, b'K'), (53, b'I'), (54, b'R')];
    let with = |changes: &[(usize, u8)]| body(&[&station[..], changes].concat());
    assert_eq!(with(&[]).unwrap().frame.payload.len(), 5);
    for (what, change) in [
        ("priority", (1, 2)),
        ("header_len before the station's end", (2, 54)),
        ("header_len past the body", (2, 61)),
        ("source kind", (48, 2)),
        ("station past the body", (49, 9)),
        ("station that is no text", (52, 0xFF)),
    ] {
        assert_eq!(with(&[change]).unwrap_err(), ErrorCode::Protocol, "{what}");
    }
    // The header of a later version is longer. The payload starts at the given header length.
    assert_eq!(with(&[(2, 58)]).unwrap().frame.payload.len(), 2);
}

#[test]
fn a_reserved_reason_of_a_gap_is_refused() {
    for reason in [0, 4, 0xFF] {
        let mut body = [0; 24];
        (body[0], body[1]) = (0x13, reason);
        assert_eq!(Gap::decode(&body).unwrap_err().code, ErrorCode::Protocol);
    }
}
