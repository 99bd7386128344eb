//! Bytes that are not messages.

use crate::bench::{Bench, OFFENDER, refused_at_first, refused_in_session};
use crate::support::message::{bye, frame, ping};
use crate::support::{Client, Hello, ROUTINE, Received, Server, code};

/// Pseudo-random numbers, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Sends `bytes` and the end of file. The server must end the connection in order, with or without ERROR. Returns the
/// code of the ERROR.
fn sends(bench: &Bench, bytes: &[u8]) -> Option<u16> {
    let mut client = Client::connect(bench.daemon.address());
    client.send(bytes);
    client.half_close();
    let (messages, end) = client.read_to_end();
    assert_eq!(end, Received::End, "after {bytes:02x?} and {messages:?}");
    match messages.last() {
        Some(Server::Error(error)) => Some(error.code),
        _ => None,
    }
}

#[test]
fn http_is_too_large() {
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let error = refused_at_first(request, code::TOO_LARGE);
    assert_eq!(error.detail, u64::from(u32::from_be_bytes(*b"GET ")));
}

#[test]
fn a_tls_client_is_too_large() {
    refused_at_first(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03], code::TOO_LARGE);
}

#[test]
fn ones_are_a_length_of_4_gib() {
    assert_eq!(refused_at_first(&[0xFF; 100], code::TOO_LARGE).detail, u64::from(u32::MAX));
    assert_eq!(refused_in_session(&[0xFF; 100], code::TOO_LARGE).detail, u64::from(u32::MAX));
}

#[test]
fn noise_in_place_of_hello_ends_only_its_connection() {
    let mut bench = Bench::new("");
    let mut noise = Noise(0x0123_4567_89AB_CDEF);
    for round in 0..200 {
        let count = 1 + noise.below(2_000);
        let mut bytes = noise.bytes(count);
        if round % 2 == 0 {
            // A correct length, so that the daemon decodes the noise as a message.
            let length = (count as u32).to_be_bytes();
            bytes.splice(0..0, length);
            assert_eq!(sends(&bench, &bytes), Some(code::PROTOCOL), "{bytes:02x?}");
        } else {
            sends(&bench, &bytes);
        }
        if round % 50 == 0 {
            bench.prove_healthy();
        }
    }
    bench.finish();
}

#[test]
fn a_session_with_flipped_bits_ends_or_continues_and_affects_no_other() {
    let mut bench = Bench::new("[ingest]\nmax_takeovers_per_minute = 10000\nhello_timeout = \"300ms\"");
    let mut noise = Noise(42);
    // Epoch 0, so that a flipped epoch or sequence does not affect the next round.
    let mut session = Hello::new(OFFENDER).epoch(0).station("Kiruna").bytes();
    for sequence in 0..4 {
        session.extend(frame(ROUTINE, sequence, b"payload"));
    }
    session.extend(ping(1));
    session.extend(bye([0, 4]));
    for round in 0..300 {
        let mut bytes = session.clone();
        for _ in 0..1 + noise.below(3) {
            let at = noise.below(bytes.len());
            bytes[at] ^= 1 << noise.below(8);
        }
        sends(&bench, &bytes);
        if round % 50 == 0 {
            bench.prove_healthy();
        }
    }
    bench.finish();
}

#[test]
fn a_connection_that_closes_without_a_message_is_no_offence() {
    let bench = Bench::new("");
    for _ in 0..20 {
        assert_eq!(sends(&bench, &[]), None);
    }
    bench.finish();
}
