//! Messages that are malformed, unknown, or only for the server to send.

use crate::bench::{Bench, refused_in_session};
use crate::support::message::{bye, framed, ping, pong};
use crate::support::{Client, Frame, Hello, ROUTINE, code};

#[test]
fn an_unknown_critical_type_is_unknown_type() {
    refused_in_session(&framed(&[0x7F; 9]), code::UNKNOWN_TYPE);
    let bench = Bench::new("");
    for kind in [0x00, 0x0B, 0x0F, 0x14, 0x40, 0x7E] {
        let mut client = bench.offender();
        client.send(&framed(&[kind]));
        client.expect_error(code::UNKNOWN_TYPE);
    }
    bench.finish();
}

#[test]
fn an_empty_body_is_protocol() {
    refused_in_session(&framed(&[]), code::PROTOCOL);
}

#[test]
fn a_message_of_the_other_direction_is_protocol() {
    let bench = Bench::new("[ingest]\nmax_takeovers_per_minute = 1000");
    // The body is long enough for the fields of every type.
    for kind in [0x02, 0x04, 0x08, 0x09, 0x10, 0x11, 0x12, 0x13, 0x8A, 0x94] {
        let mut client = bench.offender();
        client.send(&framed(&[&[kind][..], &[0; 120]].concat()));
        let error = client.expect_error(code::PROTOCOL);
        assert!(!error.text.is_empty(), "{kind:#04x}");
    }
    bench.finish();
}

#[test]
fn a_second_hello_is_protocol() {
    refused_in_session(&Hello::new(crate::bench::OFFENDER).bytes(), code::PROTOCOL);
}

#[test]
fn a_bad_priority_is_refused_and_never_read_as_routine() {
    for priority in [2, 255] {
        let mut frame = Frame::new(ROUTINE, 1, b"ABORT");
        frame.priority = priority;
        let error = refused_in_session(&frame.bytes(), code::BAD_PRIORITY);
        assert!(error.text.contains(&priority.to_string()), "the text names the value: {error:?}");
    }
}

#[test]
fn a_header_len_below_20_is_protocol() {
    for header_len in [0, 19] {
        let mut frame = Frame::new(ROUTINE, 1, b"payload");
        frame.header_len = header_len;
        refused_in_session(&frame.bytes(), code::PROTOCOL);
    }
}

#[test]
fn a_header_len_past_the_body_is_protocol() {
    let mut frame = Frame::new(ROUTINE, 1, b"1234567");
    frame.header_len = 28;
    refused_in_session(&frame.bytes(), code::PROTOCOL);
}

#[test]
fn the_priority_is_checked_before_header_len_and_sequence() {
    let mut frame = Frame::new(ROUTINE, u64::MAX, b"");
    (frame.priority, frame.header_len) = (2, 3);
    refused_in_session(&frame.bytes(), code::BAD_PRIORITY);
}

#[test]
fn a_body_too_short_for_its_fields_is_protocol() {
    let bench = Bench::new("[ingest]\nmax_takeovers_per_minute = 1000");
    let whole = [Frame::new(ROUTINE, 1, b"").bytes(), ping(1), pong(1), bye([0, 0])];
    for message in whole {
        let body = &message[4..];
        for length in [1, 2, body.len() / 2, body.len() - 1] {
            let mut client = bench.offender();
            client.send(&framed(&body[..length]));
            client.expect_error(code::PROTOCOL);
        }
    }
    bench.finish();
}

#[test]
fn too_large_is_sent_as_soon_as_the_prefix_is_read() {
    let bench = Bench::new("[ingest]\nmax_takeovers_per_minute = 1000");
    let before = bench.daemon.rss_kib();
    for length in [4_097, 16 * 1024, 0x7FFF_FFFF, u32::MAX] {
        let mut client = Client::connect(bench.daemon.address());
        client.send(&length.to_be_bytes());
        assert_eq!(client.expect_error(code::TOO_LARGE).detail, u64::from(length));
    }
    for length in [16 * 1024 + 1, 128 * 1024 + 1, 0x7FFF_FFFF, u32::MAX] {
        let mut client = bench.offender();
        client.send(&length.to_be_bytes());
        assert_eq!(client.expect_error(code::TOO_LARGE).detail, u64::from(length));
    }
    let after = bench.daemon.rss_kib();
    assert!(after < before + 32 * 1024, "from {before} to {after} KiB: something was allocated for a length");
    bench.finish();
}

#[test]
fn the_client_receives_too_large_while_it_still_sends() {
    let length = 16 * 1024 + 1_u32;
    let error =
        refused_in_session(&[&length.to_be_bytes()[..], &[0; 16 * 1024 + 1]].concat(), code::TOO_LARGE);
    assert_eq!(error.detail, u64::from(length));
}

#[test]
fn a_hello_of_more_than_4096_bytes_is_too_large() {
    let bench = Bench::new("");
    let mut hello = Hello::new(7);
    hello.trailing = vec![0; 4_097 - hello.body().len()];
    let error = Client::refused(bench.daemon.address(), &hello, code::TOO_LARGE);
    assert_eq!(error.detail, 4_097);
    bench.finish();
}
