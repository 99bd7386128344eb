//! Limits on connections, streams and takeovers.

use crate::bench::{Bench, HEALTHY, OFFENDER};
use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE, Received, Server, code, connect_from};

#[test]
fn one_connection_too_many_is_busy() {
    let bench = Bench::new("[ingest]\nmax_connections = 3");
    let mut clients: Vec<_> =
        (1..3).map(|source| Client::open(bench.daemon.address(), &Hello::new(source)).0).collect();
    let error = Client::refused(bench.daemon.address(), &Hello::new(3), code::BUSY);
    assert_eq!(error.flags & 1, 1, "retryable");
    for client in &mut clients {
        client.deliver(ROUTINE, 0, b"in");
    }
    clients.pop();
    let mut late = Client::open_when_free(bench.daemon.address(), &Hello::new(3)).0;
    late.deliver(ROUTINE, 0, b"late");
    drop((clients, late));
    bench.finish();
}

#[test]
fn one_connection_too_many_of_an_address_is_busy_and_other_addresses_are_served() {
    let bench = Bench::new("[ingest]\nmax_connections_per_address = 3");
    let address = bench.daemon.address();
    let _clients: Vec<_> = (1..3).map(|source| Client::open(address, &Hello::new(source)).0).collect();
    Client::refused(address, &Hello::new(3), code::BUSY);
    let mut other = Client::over(connect_from([127, 0, 0, 2], address));
    other.send(&Hello::new(3).bytes());
    other.expect_welcome();
    other.expect_first_acks();
    other.deliver(ROUTINE, 0, b"from elsewhere");
    Client::refused(address, &Hello::new(4), code::BUSY);
    drop(other);
    bench.finish();
}

#[test]
fn one_stream_too_many_is_limit_and_known_streams_continue() {
    let bench = Bench::new("[ingest]\nmax_streams = 3");
    let address = bench.daemon.address();
    for station in ["a", "b"] {
        let (mut client, _) = Client::open(address, &Hello::new(7).station(station));
        client.deliver(ROUTINE, 0, b"known");
    }
    let error = Client::refused(address, &Hello::new(7).station("c"), code::LIMIT);
    assert_eq!(error.flags & 1, 1, "retryable");
    let (mut client, welcome) = Client::open(address, &Hello::new(7).station("b"));
    assert_eq!(welcome.resume_next, [0, 1]);
    client.deliver(ROUTINE, 1, b"known");
    drop(client);
    bench.finish();
}

/// One client invents stations until the daemon refuses it. Another satellite still gets a place, also after a
/// restart.
#[test]
fn a_token_of_one_source_cannot_take_the_streams_of_another() {
    const CONFIG: &str = "
        [[ingest.tokens]]
        token = \"of 7\"
        sources = [7]
        [[ingest.tokens]]
        token = \"of all\"
        [ingest]
        max_streams = 6
        max_streams_per_source = 4";
    let mut daemon = Daemon::start(CONFIG);
    for round in 0..2 {
        let mut refused = 0;
        for name in 0..8 {
            let hello = Hello::new(7).station(&format!("invented {round}-{name}")).token("of 7");
            let mut client = Client::connect(daemon.address());
            client.send(&hello.bytes());
            match client.next() {
                Server::Welcome(_) => {
                    client.expect_first_acks();
                    client.deliver(ROUTINE, 0, b"to stay");
                }
                Server::Error(error) => {
                    assert_eq!(error.code, code::LIMIT, "{error:?}");
                    assert!(error.text.contains("ingest.max_streams_per_source = 4 is reached"), "{error:?}");
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused, if round == 0 { 4 } else { 8 });
        let (mut other, _) = Client::open(daemon.address(), &Hello::new(100 + round).token("of all"));
        other.deliver(ROUTINE, 0, b"a new satellite");
        drop(other);
        daemon = daemon.kill_and_restart();
    }
}

#[test]
fn one_takeover_too_many_is_busy_and_the_current_connection_stays() {
    let bench = Bench::new("[ingest]\nmax_takeovers_per_minute = 3");
    let mut current = bench.offender();
    for sequence in 0..3 {
        current.deliver(ROUTINE, sequence, b"mine");
        let newer = bench.offender();
        current.expect_error(code::TAKEN_OVER);
        current = newer;
    }
    for _ in 0..5 {
        Client::refused(bench.daemon.address(), &Hello::new(OFFENDER), code::BUSY);
    }
    current.deliver(ROUTINE, 3, b"still mine");
    // The takeovers of one stream do not count for others.
    Client::open(bench.daemon.address(), &Hello::new(OFFENDER).station("other"));
    drop(current);
    bench.finish();
}

#[test]
fn a_second_connection_of_a_stream_ends_only_the_first() {
    let bench = Bench::new("");
    let mut first = bench.offender();
    first.deliver(EMERGENCY, 0, b"first");
    let mut second = bench.offender();
    first.expect_error(code::TAKEN_OVER);
    second.deliver(EMERGENCY, 1, b"second");
    drop(second);
    bench.finish();
}

#[test]
fn clients_that_disconnect_leave_nothing_behind() {
    let mut bench = Bench::new("[ingest]\nmax_connections = 4\nmax_takeovers_per_minute = 1000");
    for round in 0..50_u64 {
        let mut client = Client::open_when_free(bench.daemon.address(), &Hello::new(OFFENDER)).0;
        client.frame(ROUTINE, round, b"and gone");
        // A reset instead of an end of file.
        let linger = Some(std::time::Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(client.socket(), linger).unwrap();
        drop(client);
        if round % 10 == 0 {
            bench.prove_healthy();
        }
    }
    bench.finish();
}

#[test]
fn a_refused_client_is_closed_even_if_it_stays() {
    let bench = Bench::new("[ingest]\nmax_connections = 2");
    let _in = bench.offender();
    let mut refused = Client::connect(bench.daemon.address());
    refused.send(&Hello::new(HEALTHY).epoch(77).bytes());
    refused.expect_error(code::BUSY);
    // This client neither disconnects nor reads. The daemon discards or refuses what the client writes, and no other
    // session ends.
    for _ in 0..100 {
        drop(refused.try_send(&[0; 10_000]));
    }
    assert_ne!(refused.receive(std::time::Duration::from_millis(1)), Received::Silence);
    bench.finish();
}
