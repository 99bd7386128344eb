//! Falling sequences, and more frames than credit allows.

use crate::bench::{Bench, refused_in_session, trailer};
use crate::support::message::{ErrorMessage, frame};
use crate::support::{Client, EMERGENCY, Hello, ROUTINE, Received, Server, code};

#[test]
fn a_falling_sequence_is_a_regression_and_never_a_duplicate() {
    let bench = Bench::new("");
    let mut client = bench.offender();
    client.deliver(ROUTINE, 100, b"first");
    client.send(&[frame(ROUTINE, 3, b"a counter that was reset"), trailer()].concat());
    assert_eq!(client.expect_error(code::SEQUENCE_REGRESSION).detail, 100, "the previous sequence");
    assert_eq!(client.ack(ROUTINE).duplicates, 0);
    assert_eq!(bench.finish().duplicates, 0);
}

#[test]
fn a_repeated_sequence_is_a_regression() {
    let error = refused_in_session(&frame(ROUTINE, 0, b"again"), code::SEQUENCE_REGRESSION);
    assert_eq!(error.detail, 0);
}

#[test]
fn a_regression_among_resends_is_a_regression() {
    let bench = Bench::new("");
    let mut client = bench.offender();
    client.deliver(ROUTINE, 100, b"first");
    drop(client);
    let mut client = bench.offender();
    client.send(&[frame(ROUTINE, 50, b"resent"), frame(ROUTINE, 49, b"falling")].concat());
    assert_eq!(client.expect_error(code::SEQUENCE_REGRESSION).detail, 50);
    assert_eq!(client.ack(ROUTINE).duplicates, 1);
    assert_eq!(bench.finish().duplicates, 1);
}

#[test]
fn each_lane_has_its_own_regressions() {
    let bench = Bench::new("");
    let mut client = bench.offender();
    client.deliver(ROUTINE, 100, b"r");
    client.deliver(EMERGENCY, 5, b"lower, in the other lane");
    client.send(&frame(EMERGENCY, 5, b"again"));
    assert_eq!(client.expect_error(code::SEQUENCE_REGRESSION).detail, 5);
    bench.finish();
}

#[test]
fn sequence_2_to_the_64_less_1_is_protocol() {
    refused_in_session(&frame(ROUTINE, u64::MAX, b"none comes after it"), code::PROTOCOL);
}

#[test]
fn more_than_the_credit_is_flow_control() {
    let bench = Bench::new("[ingest]\nroutine_window = \"16 KiB\"\nemergency_window = \"16 KiB\"");
    let error = overrun(&mut bench.offender());
    assert_eq!(error.code, code::FLOW_CONTROL);
    bench.finish();
}

/// Sends frames without regard for credit until the server answers with an ERROR.
fn overrun(client: &mut Client) -> ErrorMessage {
    let burst = |first: u64| -> Vec<u8> {
        (first..first + 32).flat_map(|sequence| frame(ROUTINE, sequence, &[0; 16_000])).collect()
    };
    for round in 0..200 {
        // The write may fail, because the server may have closed. The test needs only the ERROR that came before.
        let sent = client.try_send(&burst(round * 32));
        loop {
            match client.receive(std::time::Duration::from_millis(1)) {
                Received::Message(Server::Error(error)) => return error,
                Received::Message(_) => {}
                Received::Silence if sent.is_ok() => break,
                Received::Silence => {}
                other => panic!("ERROR flow_control is due, but: {other:?}"),
            }
        }
    }
    panic!("100 MB in windows of 16 KiB, and no word about it");
}

#[test]
fn a_counter_that_restarts_in_a_higher_epoch_is_no_offence() {
    let bench = Bench::new("");
    let mut client = bench.offender();
    client.deliver(ROUTINE, 100, b"first");
    let (mut client, _) = Client::open(bench.daemon.address(), &Hello::new(crate::bench::OFFENDER).epoch(2));
    client.deliver(ROUTINE, 0, b"from 0");
    drop(client);
    bench.finish();
}
