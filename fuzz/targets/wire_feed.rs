//! The protocol of subscribers, in both directions.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use wire::{FeedMessage, HANDSHAKE_BODY_BYTES_MAX, Subscribe, SubscriberMessage, cut};

fuzz_target!(|bytes: &[u8]| {
    for (_, body) in cut(bytes, HANDSHAKE_BODY_BYTES_MAX) {
        let _ = Subscribe::decode(body);
        if let Ok(message) = SubscriberMessage::decode(body) {
            let again = SubscriberMessage::decode(&encoded(|out| message.encode(out)));
            assert_eq!(again, Ok(message));
        }
        if let Ok(message) = FeedMessage::decode(Bytes::copy_from_slice(body)) {
            let once = encoded(|out| message.encode(out));
            let again = FeedMessage::decode(once.clone()).expect("an encoded message");
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
