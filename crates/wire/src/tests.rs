//! Properties of the codec: encoded values decode to the same values, and any bytes give a value or an error.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use frame::{FrameFlags, FramePriority, Lanes, SourceKind, Station, StreamKey};

fn lane() -> impl Strategy<Value = FramePriority> {
    prop_oneof![Just(FramePriority::Emergency), Just(FramePriority::Routine)]
}

fn payload() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..600).prop_map(Bytes::from)
}

fn frame() -> impl Strategy<Value = FrameMessage> {
    (lane(), any::<u8>(), 0..u64::MAX, any::<i64>(), payload()).prop_map(
        |(priority, flags, sequence, ert_ns, payload)| {
            FrameMessage::new(priority, FrameFlags(flags), sequence, ert_ns, payload)
        },
    )
}

fn hello() -> impl Strategy<Value = Hello> {
    let stream =
        (any::<u32>(), any::<bool>(), "[a-z0-9é ]{0,32}").prop_map(|(source_id, live, station)| StreamKey {
            source_id,
            source_kind: if live { SourceKind::LiveUplink } else { SourceKind::ArchivedReplay },
            station: Station::new(&station).unwrap(),
        });
    let texts = ("[!-~]{0,64}", "[a-z0-9é ]{0,32}");
    (0..=1u8, 1..=9u8, stream, any::<u16>(), any::<u16>(), 0..1u64 << 63, texts).prop_map(
        |(version_min, version_max, stream, flags, heartbeat_s, epoch, (token, via))| Hello {
            version_min,
            version_max,
            stream,
            flags: if via.is_empty() { HelloFlags(flags) } else { HelloFlags(flags).and(HelloFlags::VIA) },
            heartbeat_s,
            epoch,
            token,
            via: Station::new(&via).unwrap(),
        },
    )
}

fn client_message() -> impl Strategy<Value = ClientMessage> {
    prop_oneof![
        frame().prop_map(ClientMessage::Frame),
        any::<u64>().prop_map(ClientMessage::Ping),
        any::<u64>().prop_map(ClientMessage::Pong),
        lanes().prop_map(|next| ClientMessage::Bye(Bye { next })),
        (0x95u8..).prop_map(ClientMessage::Ignored),
    ]
}

fn lanes() -> impl Strategy<Value = Lanes<u64>> {
    any::<(u64, u64)>().prop_map(|(emergency, routine)| Lanes { emergency, routine })
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    let welcome =
        (any::<(u8, u16, u32)>(), (any::<u64>(), any::<u64>(), lanes(), any::<(i64, Option<bool>)>()))
            .prop_map(
                |(
                    (version, heartbeat_s, max_message_bytes),
                    (session_id, epoch, resume_next, (server_time_ns, takes_zstd)),
                )| {
                    Welcome {
                        version,
                        heartbeat_s,
                        max_message_bytes,
                        session_id,
                        epoch,
                        resume_next,
                        server_time_ns,
                        takes_zstd,
                    }
                },
            );
    let ack = (lane(), any::<(u32, u64, u64)>()).prop_map(
        |(priority, (duplicates, durable_next, credit_limit))| Ack {
            priority,
            duplicates,
            durable_next,
            credit_limit,
        },
    );
    let goaway = (any::<u32>(), ".{0,40}")
        .prop_map(|(ms, text)| GoAway { deadline: Duration::from_millis(ms.into()), text });
    let error = any::<(u16, bool, u32, u64, String)>().prop_map(|(code, retryable, ms, detail, text)| {
        ErrorMessage { code, retryable, retry_after: Duration::from_millis(ms.into()), detail, text }
    });
    let catalog =
        (any::<(u8, u16, u16, u64)>(), payload()).prop_map(|((format, part, parts, version), data)| {
            CatalogPart { format, part, parts, version, data }
        });
    prop_oneof![
        welcome.prop_map(ServerMessage::Welcome),
        ack.prop_map(ServerMessage::Ack),
        any::<u64>().prop_map(ServerMessage::Ping),
        any::<u64>().prop_map(ServerMessage::Pong),
        lanes().prop_map(|next| ServerMessage::Bye(Bye { next })),
        goaway.prop_map(ServerMessage::GoAway),
        error.prop_map(ServerMessage::Error),
        catalog.prop_map(ServerMessage::Catalog),
        (0x95u8..).prop_map(ServerMessage::Ignored),
    ]
}

fn only_body(buffer: &mut BytesMut) -> Bytes {
    let body = next_body(buffer, 1 << 20).unwrap().unwrap();
    assert!(buffer.is_empty(), "one message leaves nothing behind");
    body
}

/// Bytes that look like a message: an existing type, then arbitrary bytes.
fn plausible_body() -> impl Strategy<Value = Bytes> {
    (any::<u8>(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(pick, mut body)| {
        let known = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0x10, 0x8A, 0x94, 0x7F, 0xFF];
        if let Some(first) = body.first_mut() {
            *first = known[usize::from(pick) % known.len()];
        }
        Bytes::from(body)
    })
}

proptest! {
    #[test]
    fn hello_decodes_as_encoded(hello in hello()) {
        let mut buffer = BytesMut::new();
        hello.encode(&mut buffer);
        prop_assert_eq!(Hello::decode(&only_body(&mut buffer)).unwrap(), hello);
    }

    #[test]
    fn client_messages_decode_as_encoded(message in client_message()) {
        let mut buffer = BytesMut::new();
        message.encode(&mut buffer);
        prop_assert_eq!(ClientMessage::decode(only_body(&mut buffer)).unwrap(), message);
    }

    #[test]
    fn server_messages_decode_as_encoded(message in server_message()) {
        let mut buffer = BytesMut::new();
        message.encode(&mut buffer);
        prop_assert_eq!(ServerMessage::decode(only_body(&mut buffer)).unwrap(), message);
    }

    #[test]
    fn any_body_gives_a_value_or_an_error(body in plausible_body()) {
        let _ = Hello::decode(&body);
        let _ = ClientMessage::decode(body.clone());
        let _ = ServerMessage::decode(body);
    }

    #[test]
    fn a_cut_message_is_an_error(message in server_message(), keep in 0.0..1.0f64) {
        let mut buffer = BytesMut::new();
        message.encode(&mut buffer);
        let body = only_body(&mut buffer);
        let fixed = match &message {
            ServerMessage::Welcome(_) => 48,
            ServerMessage::Ack(_) | ServerMessage::Bye(_) => 24,
            ServerMessage::Ping(_) | ServerMessage::Pong(_) => 9,
            ServerMessage::GoAway(_) => 8,
            ServerMessage::Error(_) | ServerMessage::Catalog(_) => 16,
            ServerMessage::Ignored(_) => 1,
        };
        let cut = (fixed as f64 * keep) as usize;
        prop_assert!(ServerMessage::decode(body.slice(..cut)).is_err());
    }

    #[test]
    fn extra_bytes_are_ignored_except_behind_a_payload(message in client_message(), extra in 1..20usize) {
        let mut buffer = BytesMut::new();
        message.encode(&mut buffer);
        let mut longer = BytesMut::from(&only_body(&mut buffer)[..]);
        longer.put_bytes(0xEE, extra);
        let decoded = ClientMessage::decode(longer.freeze()).unwrap();
        if let (ClientMessage::Frame(sent), ClientMessage::Frame(seen)) = (&message, &decoded) {
            prop_assert_eq!(seen.payload.len(), sent.payload.len() + extra);
        } else {
            prop_assert_eq!(decoded, message);
        }
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_bodies(
        messages in prop::collection::vec(client_message(), 1..20),
        cuts in prop::collection::vec(1..400usize, 1..40),
    ) {
        let mut stream = BytesMut::new();
        for message in &messages {
            message.encode(&mut stream);
        }
        let (mut buffer, mut seen, mut cuts) = (BytesMut::new(), Vec::new(), cuts.into_iter().cycle());
        while !stream.is_empty() {
            let piece = stream.split_to(cuts.next().unwrap().min(stream.len()));
            buffer.put_slice(&piece);
            let (bodies, checked) = take_bodies(&mut buffer, 1 << 16);
            prop_assert!(checked.is_ok());
            seen.extend(bodies.map(|body| ClientMessage::decode(body).unwrap()));
        }
        prop_assert_eq!(seen, messages);
    }

    #[test]
    fn the_claimed_length_of_any_bytes_is_never_allocated(
        bytes in prop::collection::vec(any::<u8>(), 0..300), limit in 0..5000usize,
    ) {
        let mut buffer = BytesMut::from(&bytes[..]);
        let capacity = buffer.capacity();
        let (bodies, checked) = take_bodies(&mut buffer, limit);
        let whole: usize = bodies.map(|body| body.len() + framing::PREFIX_BYTES).sum();
        prop_assert_eq!(whole + buffer.len(), bytes.len());
        prop_assert!(buffer.capacity() <= capacity);
        if let Err(error) = checked {
            prop_assert_eq!(error.code, ErrorCode::TooLarge);
            prop_assert!(error.detail > limit as u64);
        }
    }
}

#[test]
fn too_large_is_known_from_the_prefix_and_keeps_earlier_messages() {
    let mut buffer = BytesMut::new();
    ClientMessage::Ping(7).encode(&mut buffer);
    buffer.put_u32(u32::MAX);
    let (mut bodies, checked) = take_bodies(&mut buffer, 4096);
    assert_eq!(ClientMessage::decode(bodies.next().unwrap()), Ok(ClientMessage::Ping(7)));
    assert_eq!(bodies.next(), None);
    let error = checked.unwrap_err();
    assert_eq!((error.code, error.detail), (ErrorCode::TooLarge, u64::from(u32::MAX)));
    assert_eq!(next_body(&mut buffer, 4096).unwrap_err().code, ErrorCode::TooLarge);
}

/// The layout of protocol.md, byte by byte, so that encoder and decoder cannot deviate together.
#[test]
fn frame_has_the_documented_bytes() {
    let mut buffer = BytesMut::new();
    FrameMessage::new(
        FramePriority::Routine,
        FrameFlags(2),
        0x0102_0304_0506_0708,
        -2,
        Bytes::from_static(b"hi"),
    )
    .encode(&mut buffer);
    let mut expected = vec![0, 0, 0, 22, 3, 1, 20, 2, 1, 2, 3, 4, 5, 6, 7, 8];
    expected.extend([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, b'h', b'i']);
    assert_eq!(&buffer[..], &expected[..]);
}

#[test]
fn hello_has_the_documented_bytes() {
    let mut buffer = BytesMut::new();
    let station = Station::new("KIR").unwrap();
    Hello {
        version_max: 2,
        flags: HelloFlags::NO_ACK,
        heartbeat_s: 15,
        token: "tk".to_owned(),
        ..Hello::new(StreamKey { source_id: 7, source_kind: SourceKind::ArchivedReplay, station }, 9)
    }
    .encode(&mut buffer);
    let mut expected = vec![0, 0, 0, 32, 1, 1, 2, 1];
    expected.extend(b"TMA1");
    expected.extend([0, 0, 0, 7, 0, 1, 0, 15, 0, 0, 0, 0, 0, 0, 0, 9, 3]);
    expected.extend(b"KIR\x00\x02tk");
    assert_eq!(&buffer[..], &expected[..]);
}

#[test]
fn the_name_of_a_forwarder_lies_behind_the_token() {
    let mut buffer = BytesMut::new();
    let stream = StreamKey { source_id: 7, source_kind: SourceKind::LiveUplink, station: Station::default() };
    let via = Station::new("edge").unwrap();
    let hello = Hello { flags: HelloFlags::ZSTD, token: "tk".to_owned(), via, ..Hello::new(stream, 9) };
    hello.encode(&mut buffer);
    assert_eq!(buffer[16..18], [0, 0x30], "bits 4 and 5");
    assert!(buffer.ends_with(b"\x00\x02tk\x04edge"));
    let body = buffer.split_off(4);
    assert_eq!(Hello::decode(&body[..body.len() - 1]).unwrap_err().code, ErrorCode::Protocol);
    let hidden = [&body[..body.len() - 1], b"\n"].concat();
    assert_eq!(
        Hello::decode(&hidden).unwrap_err().text,
        "forwarder name \"edg\\n\" contains a control character or an invisible one"
    );
}

#[test]
fn a_frame_is_judged_in_the_documented_order() {
    let body = |bytes: &[u8]| {
        let mut body = bytes.to_vec();
        body.resize(20, 0);
        Bytes::from(body)
    };
    let code = |bytes: Bytes| FrameMessage::decode(bytes).unwrap_err().code;
    assert_eq!(code(body(&[3, 2, 99])), ErrorCode::BadPriority, "before header_len");
    assert_eq!(code(body(&[3, 1, 19])), ErrorCode::Protocol, "header_len below 20");
    assert_eq!(code(body(&[3, 1, 21])), ErrorCode::Protocol, "header_len past the body");
    assert_eq!(code(Bytes::from_static(&[3, 1, 20, 0])), ErrorCode::Protocol, "too short");
    let last = [&[3, 1, 20, 0][..], &[0xFF; 8], &[0; 8]].concat();
    assert_eq!(code(Bytes::from(last)), ErrorCode::Protocol, "sequence 2^64-1");
}

#[test]
fn a_longer_frame_header_of_a_later_version_is_skipped() {
    let body = [&[3, 0, 22, 0][..], &[0; 16], b"xxpayload"].concat();
    let frame = FrameMessage::decode(Bytes::from(body)).unwrap();
    assert_eq!(&frame.payload[..], b"payload");
    assert_eq!(frame.cost, 256);
}

#[test]
fn an_unsupported_hello_is_refused() {
    let good = {
        let mut buffer = BytesMut::new();
        let stream =
            StreamKey { source_id: 1, source_kind: SourceKind::LiveUplink, station: Station::default() };
        Hello::new(stream, 1).encode(&mut buffer);
        buffer.split_off(4)
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        Hello::decode(&bytes).map_err(|error| error.code)
    };
    assert!(with(0, 1).is_ok());
    assert_eq!(with(0, 3), Err(ErrorCode::Protocol), "FRAME before HELLO");
    assert_eq!(with(0, 0xFF), Err(ErrorCode::Protocol), "an ignorable type before HELLO");
    assert_eq!(with(2, 0), Err(ErrorCode::Version), "max below min");
    assert_eq!(with(1, 2), Err(ErrorCode::Version), "min above ours");
    assert_eq!(with(3, 2), Err(ErrorCode::Protocol), "reserved kind");
    assert_eq!(with(4, b'X'), Err(ErrorCode::Protocol), "magic");
    assert_eq!(with(16, 0x80), Err(ErrorCode::Protocol), "epoch of 2^63");
    assert_eq!(with(24, 1), Err(ErrorCode::Protocol), "station past the end");
}

#[test]
fn types_below_0x80_are_critical_and_known_types_have_a_direction() {
    let code = |kind: u8| ClientMessage::decode(Bytes::from(vec![kind; 60])).map_err(|error| error.code);
    assert_eq!(code(0x7F), Err(ErrorCode::UnknownType));
    assert_eq!(code(0x00), Err(ErrorCode::UnknownType));
    assert_eq!(code(0xF0), Ok(ClientMessage::Ignored(0xF0)));
    for wrong_place in [kind::HELLO, kind::WELCOME, kind::ACK, kind::GOAWAY, kind::ERROR, kind::SUBSCRIBE] {
        assert_eq!(code(wrong_place), Err(ErrorCode::Protocol));
    }
    assert_eq!(ClientMessage::decode(Bytes::new()).unwrap_err().code, ErrorCode::Protocol);
}

#[test]
fn error_codes_have_their_numbers() {
    for (index, code) in ErrorCode::ALL.into_iter().enumerate() {
        assert_eq!(code as usize, index + 1);
        assert_eq!(ErrorCode::from_wire(code as u16), Some(code));
    }
    assert_eq!(ErrorCode::from_wire(18), None);
    let retryable: Vec<_> = ErrorCode::ALL.into_iter().filter(|code| code.is_retryable()).collect();
    use ErrorCode::{Busy, Draining, Idle, Limit, StorageFailed};
    assert_eq!(retryable, [Busy, Idle, StorageFailed, Draining, Limit]);
}
