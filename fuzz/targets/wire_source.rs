//! The protocol of sources: what a client sends to the daemon, and what a client reads from the daemon.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use wire::packed::unpack;
use wire::{ClientMessage, HANDSHAKE_BODY_BYTES_MAX, Hello, ServerMessage, cut};

fuzz_target!(|bytes: &[u8]| {
    for (_, body) in cut(bytes, HANDSHAKE_BODY_BYTES_MAX) {
        let _ = Hello::decode(body);
        let _ = unpack(body, HANDSHAKE_BODY_BYTES_MAX, &mut Vec::new());
        if let Ok(message) = ClientMessage::decode(Bytes::copy_from_slice(body)) {
            let once = encoded(|out| message.encode(out));
            let again = ClientMessage::decode(once.clone()).expect("an encoded message");
            assert_eq!(encoded(|out| again.encode(out)), once);
        }
        if let Ok(message) = ServerMessage::decode(Bytes::copy_from_slice(body)) {
            let once = encoded(|out| message.encode(out));
            let again = ServerMessage::decode(once.clone()).expect("an encoded message");
            assert_eq!(encoded(|out| again.encode(out)), once);
        }
    }
});

/// The body that `encode` appends behind its length prefix.
fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.freeze().slice(4..)
}
