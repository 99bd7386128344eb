//! A whole conversation between a source and a daemon, without I/O: each side is a buffer of bytes.
//!
//! ```sh
//! cargo run -p wire --example conversation
//! ```

use bytes::{Bytes, BytesMut};
use frame::{FrameFlags, FramePriority, Lanes, SourceKind, Station, StreamKey};
use wire::{
    Ack, Bye, ClientMessage, FrameMessage, HANDSHAKE_BODY_BYTES_MAX, Hello, ServerMessage, VERSION, Welcome,
    WireError, next_body,
};

/// The credit of each lane. The cost of a small frame is 256.
const CREDIT: u64 = 16 << 10;
const MESSAGE_BYTES_MAX: usize = 64 << 10;

#[allow(clippy::print_stdout, reason = "the output of the program")]
fn main() -> Result<(), WireError> {
    for line in converse(&["first", "second", "third"])? {
        println!("{line}");
    }
    Ok(())
}

/// Sends one routine frame for each payload and returns one line for each message.
///
/// # Errors
/// When a side cannot decode the bytes of the other side.
fn converse(payloads: &[&str]) -> Result<Vec<String>, WireError> {
    let mut lines = Vec::new();
    let (mut to_daemon, mut to_source) = (BytesMut::new(), BytesMut::new());

    // The source opens the conversation.
    let station = Station::default();
    Hello::new(StreamKey { source_id: 7, source_kind: SourceKind::LiveUplink, station }, 1)
        .encode(&mut to_daemon);

    // The daemon answers, and grants credit with the first ACK of each lane.
    while let Some(body) = next_body(&mut to_daemon, HANDSHAKE_BODY_BYTES_MAX)? {
        let hello = Hello::decode(&body)?;
        lines.push(format!("> HELLO from {}, epoch {}", hello.stream, hello.epoch));
        let welcome = Welcome {
            version: VERSION,
            heartbeat_s: 15,
            max_message_bytes: MESSAGE_BYTES_MAX as u32,
            session_id: 1,
            epoch: hello.epoch,
            resume_next: Lanes::default(),
            server_time_ns: 0,
            takes_zstd: None,
        };
        ServerMessage::Welcome(welcome).encode(&mut to_source);
        for priority in FramePriority::ALL {
            let ack = Ack { priority, duplicates: 0, durable_next: 0, credit_limit: CREDIT };
            ServerMessage::Ack(ack).encode(&mut to_source);
        }
    }
    read_answers(&mut to_source, &mut lines)?;

    // The source sends its frames, and BYE with the position behind the last one.
    let mut next = 0;
    for payload in payloads {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let frame = FrameMessage::new(FramePriority::Routine, FrameFlags::default(), next, 0, payload);
        ClientMessage::Frame(frame).encode(&mut to_daemon);
        next += 1;
    }
    ClientMessage::Bye(Bye { next: Lanes::new(0, next) }).encode(&mut to_daemon);

    // The daemon acknowledges the frames that it has archived, and answers BYE.
    let (mut durable_next, mut used) = (0, 0);
    while let Some(body) = next_body(&mut to_daemon, MESSAGE_BYTES_MAX)? {
        match ClientMessage::decode(body)? {
            ClientMessage::Frame(frame) => {
                let (lane, sequence, text) = (frame.priority, frame.sequence, frame.payload.escape_ascii());
                lines.push(format!("> FRAME {sequence} on the {lane} lane: {text}"));
                durable_next = sequence + 1;
                used += frame.cost;
            }
            ClientMessage::Bye(bye) => {
                lines.push(format!("> BYE, next routine frame {}", bye.next.routine));
                let priority = FramePriority::Routine;
                let ack = Ack { priority, duplicates: 0, durable_next, credit_limit: CREDIT + used };
                ServerMessage::Ack(ack).encode(&mut to_source);
                ServerMessage::Bye(Bye { next: Lanes::new(0, durable_next) }).encode(&mut to_source);
            }
            other => lines.push(format!("> {other:?}")),
        }
    }
    read_answers(&mut to_source, &mut lines)?;
    Ok(lines)
}

/// The source's side of what the daemon sent.
fn read_answers(to_source: &mut BytesMut, lines: &mut Vec<String>) -> Result<(), WireError> {
    while let Some(body) = next_body(to_source, MESSAGE_BYTES_MAX)? {
        lines.push(match ServerMessage::decode(body)? {
            ServerMessage::Welcome(welcome) => format!("< WELCOME, epoch {}", welcome.epoch),
            ServerMessage::Ack(ack) => format!(
                "< ACK of the {} lane: durable below {}, credit {}",
                ack.priority, ack.durable_next, ack.credit_limit
            ),
            ServerMessage::Bye(bye) => format!("< BYE, durable below {}", bye.next.routine),
            other => format!("< {other:?}"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conversation_is_decoded_on_both_sides() {
        let expected = [
            "> HELLO from live/7, epoch 1",
            "< WELCOME, epoch 1",
            "< ACK of the EMERGENCY lane: durable below 0, credit 16384",
            "< ACK of the routine lane: durable below 0, credit 16384",
            "> FRAME 0 on the routine lane: a",
            "> FRAME 1 on the routine lane: b",
            "> BYE, next routine frame 2",
            "< ACK of the routine lane: durable below 2, credit 16896",
            "< BYE, durable below 2",
        ];
        assert_eq!(converse(&["a", "b"]), Ok(expected.map(str::to_owned).to_vec()));
    }
}
