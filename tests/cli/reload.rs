//! SIGHUP: the daemon reads the file, applies what can change, names what cannot, and keeps every connection.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use sim::Plan;

use crate::support::fleet::{Fleet, FleetLog};
use crate::support::pki::{self, Authority};
use crate::support::{Client, Daemon, Hello, LIMIT, ROUTINE, Signal, Subscribe, Subscriber, code};

/// A list of tokens for `section`.
fn tokens(section: &str, tokens: &[&str]) -> String {
    tokens.iter().map(|token| format!("[[{section}.tokens]]\ntoken = \"{token}\"\n")).collect()
}

/// The one line among `lines` that contains `text`.
fn line<'a>(lines: &'a [String], text: &str) -> &'a str {
    let mut found = lines.iter().filter(|line| line.contains(text));
    let line = found.next().unwrap_or_else(|| panic!("no line with {text:?} in {lines:#?}"));
    assert!(found.next().is_none(), "{text:?} is said twice in {lines:#?}");
    line
}

#[test]
fn a_reload_changes_the_log_level() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    client.deliver(ROUTINE, 0, b"unseen");
    let said = daemon.reload("[log]\nlevel = \"debug\"");
    let said = line(&said, "configuration reloaded");
    assert!(said.contains(" INFO ") && said.contains("log.level (info -> debug)"), "{said}");
    client.deliver(ROUTINE, 1, b"seen");
    daemon.wait_line("processed source=1 seq=1 ");
    assert!(!daemon.lines().iter().any(|line| line.contains(" seq=0 ")), "before, there were none");
    let said = daemon.reload("[log]\nlevel = \"info\"");
    assert!(line(&said, "configuration reloaded").contains("log.level (debug -> info)"));
    // The line comes before the level changes, because it would not be written after. The next reload begins after both.
    daemon.hang_up();
    client.deliver(ROUTINE, 2, b"unseen");
    client.bye([0, 3]);
    daemon.stop();
    assert!(!daemon.lines().iter().any(|line| line.contains(" seq=2 ")));
}

#[test]
fn added_and_removed_tokens_affect_only_new_connections() {
    let mut daemon = Daemon::start(&tokens("ingest", &["old"]));
    let hello = |source, token: &str| Hello::new(source).token(token);
    let (mut inside, _) = Client::open(daemon.address(), &hello(1, "old"));
    inside.deliver(ROUTINE, 0, b"before");
    Client::refused(daemon.address(), &hello(2, "new"), code::UNAUTHORIZED);
    // This client is connected and has not sent HELLO when its token is removed.
    let mut on_the_threshold = Client::connect(daemon.address());

    let said = daemon.reload(&tokens("ingest", &["new"]));
    assert!(line(&said, "configuration reloaded").contains("ingest.tokens (1 added, 1 removed)"));
    let (mut newcomer, _) = Client::open(daemon.address(), &hello(2, "new"));
    newcomer.deliver(ROUTINE, 0, b"let in");
    Client::refused(daemon.address(), &hello(3, "old"), code::UNAUTHORIZED);
    on_the_threshold.send(&hello(4, "old").bytes());
    on_the_threshold.expect_error(code::UNAUTHORIZED);
    for sequence in 1..50 {
        inside.deliver(ROUTINE, sequence, b"its token is gone, it is not");
    }
    inside.bye([0, 50]);
    newcomer.bye([0, 1]);
    assert_eq!(daemon.stop().archived, 51);
    let secrets = ["\"old\"", "\"new\"", "token=old", "token=new"];
    assert!(!daemon.lines().iter().any(|line| secrets.iter().any(|secret| line.contains(secret))));
}

#[test]
fn a_reload_reads_a_token_file_again() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("token");
    std::fs::write(&path, "old").unwrap();
    let config = format!("[[ingest.tokens]]\ntoken_file = {path:?}\n");
    let mut daemon = Daemon::start(&config);
    std::fs::write(&path, "new\n").unwrap();
    let said = daemon.reload(&config);
    assert!(line(&said, "configuration reloaded").contains("ingest.tokens (1 added, 1 removed)"));
    Client::refused(daemon.address(), &Hello::new(1).token("old"), code::UNAUTHORIZED);
    Client::open(daemon.address(), &Hello::new(1).token("new")).0.bye([0, 0]);

    std::fs::remove_file(&path).unwrap();
    let said = daemon.reload(&config);
    assert!(line(&said, "ingest.tokens[0].token_file").contains(&path.display().to_string()), "{said:#?}");
    Client::open(daemon.address(), &Hello::new(1).token("new")).0.bye([0, 0]);
    daemon.stop();
}

#[test]
fn a_lower_connection_limit_ends_no_connection_and_refuses_new_ones() {
    let mut daemon = Daemon::start("[ingest]\nmax_connections = 3");
    let open = |source| Client::open(daemon.address(), &Hello::new(source)).0;
    let mut clients: Vec<Client> = (1..=3).map(open).collect();
    let said = daemon.reload("[ingest]\nmax_connections = 1");
    assert!(line(&said, "configuration reloaded").contains("ingest.max_connections (3 -> 1)"));
    let error = Client::refused(daemon.address(), &Hello::new(4), code::BUSY);
    assert!(error.text.contains("all 1 connections are in use"), "{error:?}");
    for client in &mut clients {
        client.deliver(ROUTINE, 0, b"stays");
    }
    daemon.reload("[ingest]\nmax_connections = 4");
    clients.push(open(4));
    for (client, next) in clients.into_iter().zip([1, 1, 1, 0]) {
        client.bye([0, next]);
    }
    daemon.stop();
}

/// A promise made in WELCOME stays valid. Its size counts towards the memory limit until the connection ends.
#[test]
fn smaller_windows_apply_to_new_connections_within_the_memory_bound() {
    let mut daemon = Daemon::start(
        "[ingest]\nmax_connections = 4\nroutine_window = \"1 MiB\"\nemergency_window = \"64 KiB\"",
    );
    let (mut large, welcome) = Client::welcomed(daemon.address(), &Hello::new(1));
    assert_eq!(welcome.max_message_bytes, 16 << 10);
    large.expect_first_acks();
    assert_eq!(large.ack(ROUTINE).credit_limit, 1 << 20);

    // Four of these connections need less memory than one of the connections before.
    let small = "[ingest]\nmax_connections = 4\nroutine_window = \"64 KiB\"\nemergency_window = \"64 KiB\"\n\
                 max_message = \"8 KiB\"";
    let said = daemon.reload(small);
    let said = line(&said, "configuration reloaded");
    assert!(said.contains("ingest.max_message (16 KiB -> 8 KiB)") && said.contains("ingest.routine_window"));
    large.deliver(ROUTINE, 0, &[7; 12 << 10]);
    Client::refused(daemon.address(), &Hello::new(2), code::BUSY);
    large.bye([0, 1]);
    let (mut client, welcome) = Client::open_when_free(daemon.address(), &Hello::new(1));
    assert_eq!(welcome.max_message_bytes, 8 << 10);
    assert_eq!(client.ack(ROUTINE).credit_limit, 64 << 10);
    let others: Vec<Client> =
        (2..=4).map(|source| Client::open(daemon.address(), &Hello::new(source)).0).collect();
    Client::refused(daemon.address(), &Hello::new(5), code::BUSY);
    client.frame(ROUTINE, 0, &[7; 12 << 10]);
    client.expect_error(code::TOO_LARGE);
    drop(others);
    daemon.stop();
}

#[test]
fn subscribers_are_admitted_by_the_limits_and_tokens_in_force() {
    let mut daemon = Daemon::start(&format!("[feed]\nmax_subscribers = 2\n{}", tokens("feed", &["old"])));
    let feed = daemon.feed();
    let (mut first, _) = Subscriber::open(feed, &Subscribe::live().token("old"));
    let (_second, _) = Subscriber::open(feed, &Subscribe::live().token("old"));
    let said = daemon.reload(&format!("[feed]\nmax_subscribers = 1\n{}", tokens("feed", &["new"])));
    let said = line(&said, "configuration reloaded");
    assert!(
        said.contains("feed.max_subscribers (2 -> 1)") && said.contains("feed.tokens (1 added, 1 removed)")
    );
    Subscriber::refused(feed, &Subscribe::live().token("old"), code::UNAUTHORIZED);
    Subscriber::refused(feed, &Subscribe::live().token("new"), code::BUSY);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    client.deliver(ROUTINE, 0, b"for who was there before");
    first.expect_frame();
    daemon.reload(&format!("[feed]\nmax_subscribers = 3\n{}", tokens("feed", &["new"])));
    Subscriber::open(feed, &Subscribe::live().token("new"));
    client.bye([0, 1]);
    daemon.stop();
}

/// Asks for frames with `token`. Returns the first line of the answer.
fn asked_with(address: &str, token: &str) -> String {
    let mut socket = TcpStream::connect(address).expect("the address cannot be connected to");
    let request = format!(
        "GET /api/v1/frames?limit=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: \
         close\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("the request cannot be written");
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).expect("no answer");
    line
}

#[test]
fn http_requests_need_the_token_in_force() {
    let mut daemon = Daemon::start("[http]\ntoken = \"old\"");
    // The address of the feed is in the same file. The file is complete when it appears.
    daemon.feed();
    let ready = std::fs::read_to_string(daemon.config_path().with_file_name("ready.json")).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let address = ready["http"].as_str().expect("the address for requests");
    let is = |token, status: &str| asked_with(address, token).contains(status);
    assert!(is("old", " 200 ") && is("new", " 401 "));
    let said = daemon.reload("[http]\ntoken = \"new\"");
    assert!(line(&said, "configuration reloaded").contains("http.token (another)"));
    assert!(is("old", " 401 ") && is("new", " 200 "));
    daemon.stop();
}

#[test]
fn a_broken_file_changes_nothing_and_its_errors_have_locations() {
    let config = format!("[ingest]\nmax_connections = 2\n{}", tokens("ingest", &["good"]));
    let mut daemon = Daemon::start(&config);
    let path = daemon.config_path();
    let said =
        daemon.reload_text("[log]\nlevel = \"loud\"\n[ingest]\nmax_connections = 0\nmax_conections = 1\n");
    for (at, parts) in [
        (":2:9: ", ["log.level", "\"loud\"", "one of \"error\""]),
        (":4:19: ", ["ingest.max_connections", "the integer 0", "from 1 to"]),
        (":5:1: ", ["ingest.max_conections", "unknown key", "max_connections"]),
    ] {
        let said = line(&said, &format!("{}{at}", path.display()));
        assert!(said.contains(" ERROR "), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said}");
    }
    assert!(line(&said, "the configuration in force has not changed").contains(" ERROR "));
    assert_eq!(said.len(), 5, "the beginning, a line for each, and the end: {said:#?}");

    let said = daemon.reload_text("[ingest\n");
    assert!(line(&said, &format!("{}:1:", path.display())).contains(" ERROR "), "{said:#?}");
    std::fs::remove_file(&path).unwrap();
    let said = daemon.hang_up();
    assert!(line(&said, "cannot read the configuration").contains(" ERROR "), "{said:#?}");
    // Tokens and limits are unchanged, and the next valid file is compared with the previous values.
    Client::refused(daemon.address(), &Hello::new(1), code::UNAUTHORIZED);
    Client::open(daemon.address(), &Hello::new(1).token("good")).0.bye([0, 0]);
    let said = daemon.reload(&config);
    assert!(line(&said, "configuration reloaded").contains("nothing has changed"), "{said:#?}");
    daemon.stop();
}

/// An editor may empty a file before it writes it.
#[test]
fn a_file_without_keys_or_without_tls_leaves_tls_in_force() {
    let authority = Authority::new("ours");
    let with_tls = format!(
        "{}{}",
        tokens("ingest", &["good"]),
        pki::section(&authority.identity("server", &["localhost"]))
    );
    let mut daemon = Daemon::start(&with_tls);
    let path = daemon.config_path().display().to_string();
    let refused = |said: &[String], why: &str| {
        let said_why = line(said, why);
        assert!(said_why.contains(" ERROR ") && said_why.contains(&path), "{said_why}");
        line(said, "the configuration in force has not changed");
        let error = Client::refused(daemon.address(), &Hello::new(1), code::PROTOCOL);
        assert!(error.text.contains("this port speaks TLS"), "{error:?}");
    };
    for empty in ["", "# being written\n"] {
        refused(&daemon.reload_text(empty), "has no key: reload again when the file is complete");
    }
    refused(&daemon.reload(""), "has no [tls], and TLS is in force: restore tls.certificate, or write [tls]");

    let said = daemon.reload(&with_tls);
    assert!(line(&said, "configuration reloaded").contains("nothing has changed"), "{said:#?}");
    let said = daemon.reload("[tls]\n");
    assert!(line(&said, "configuration reloaded").contains("tls.certificate ("), "{said:#?}");
    Client::open(daemon.address(), &Hello::new(1)).0.bye([0, 0]);
    daemon.stop();
}

#[test]
fn keys_that_need_a_restart_are_named_and_the_rest_is_applied() {
    let mut daemon = Daemon::start("");
    let file = "[archive]\nsegment_size = \"16 MiB\"\nretention_age = \"30days\"\n[ingest]\nmax_message = \"32 KiB\"";
    for again in [false, true] {
        let said = daemon.reload(file);
        let segment =
            line(&said, "needs a restart: archive.segment_size (8 MiB in force, 16 MiB in the file)");
        assert!(segment.contains(" WARN "), "{segment}");
        line(&said, "needs a restart: ingest.max_message (16 KiB in force, 32 KiB in the file)");
        let outcome = line(&said, "configuration reloaded");
        let expected =
            if again { "nothing has changed" } else { "archive.retention_age (not set -> 30days)" };
        assert!(outcome.contains(expected), "{outcome}");
    }
    daemon.stop();
}

/// The file by itself is valid. Together with the address in force, it would admit every client from every host.
#[test]
fn a_listener_that_stays_open_keeps_its_tokens() {
    let open = |listen: &str| format!("[ingest]\nlisten = \"{listen}:0\"\n");
    let mut daemon = Daemon::start(&format!("{}{}", open("0.0.0.0"), tokens("ingest", &["good"])));
    let said = daemon.reload(&open("127.0.0.1"));
    let why = line(&said, "no token is asked for");
    assert!(why.contains(" ERROR ") && why.contains("only after a restart"), "{why}");
    let address = ([127, 0, 0, 1], daemon.address().port()).into();
    Client::refused(address, &Hello::new(1), code::UNAUTHORIZED);
    daemon.stop();
}

#[test]
fn the_open_file_limit_is_raised_as_needed_and_allowed() {
    let mut daemon = Daemon::start("");
    let pid = Pid::from_raw(daemon.pid() as i32);
    let limit = |current, maximum| Rlimit { current: Some(current), maximum: Some(maximum) };
    prlimit(pid, Resource::Nofile, limit(400, 1_900)).expect("the limit of a child can be lowered");
    let connections = |count| format!("[ingest]\nmemory_limit = \"4 GiB\"\nmax_connections = {count}");
    let said = daemon.reload(&connections(1_000));
    assert!(line(&said, "LimitNOFILE").contains("2347 open files are needed and 1900 allowed"), "{said:#?}");
    line(&said, "the configuration in force has not changed");
    daemon.reload(&connections(300));
    let before =
        prlimit(pid, Resource::Nofile, limit(1_647, 1_900)).expect("the limit of a child can be set");
    assert_eq!(before, limit(1_647, 1_900), "300 connections, 16 subscribers, and the fixed part");
    daemon.stop();
}

#[test]
fn a_drain_has_the_deadline_in_force() {
    let mut daemon = Daemon::start("[shutdown]\ndeadline = \"600s\"");
    daemon.reload("[shutdown]\ndeadline = \"4s\"");
    daemon.stop();
    assert!(daemon.wait_line(" draining ").contains("deadline=4s"));
}

#[test]
fn a_hundred_reloads_under_load_lose_nothing() {
    let mut daemon = Daemon::start("");
    let plan = Plan {
        connect: daemon.address().to_string(),
        satellites: 6,
        replays: 2,
        rate: 5_000.0,
        payload_bytes: 64,
        linger: Duration::from_secs(60),
        ..Plan::default()
    };
    let fleet = Fleet::start(plan.clone());
    fleet.wait_connected();
    for round in 0..100_u32 {
        let (connections, window) = (8 + round % 5, 64 << (round % 4));
        let said = daemon.reload(&format!(
            "[ingest]\nmax_connections = {connections}\nroutine_window = \"{window} KiB\"\n\
             max_streams = {streams}\n[archive]\ncommit_delay = \"{delay}ms\"\nretention_size = \"{retention} GiB\"\n\
             {tokens}",
            streams = 100 + round,
            delay = round % 3,
            retention = 10 + round % 2,
            tokens = if round % 2 == 0 { tokens("ingest", &["of no client here"]) } else { String::new() },
        ));
        line(&said, "configuration reloaded");
        // The load continues before the next reload.
        fleet.wait_acked(1);
    }
    let report = fleet.stop();
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.reconnects, 0, "no client had to reconnect: {report}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
    let books = daemon.final_books();
    books.assert_balanced();
    assert_eq!((books.undelivered, books.rejected), (0, 0), "{books:?}");
    assert_eq!(books.archived, report.sent);
    assert_eq!(FleetLog::read(&plan, &daemon.archive_dir(), |frame| panic!("{frame:?}")), report.sent);
}
