//! What is wrong with a server or a stream is said, and nothing is lost.

use std::time::{Duration, Instant};

use crate::server::{STREAM, Server, count, create, free_port, on, stored};
use crate::support::http::wait_json;
use crate::support::pki::Authority;
use crate::support::{Daemon, archived, wait_until};
use crate::{assert_each_once, config, output, python, send, wait_forwarded};

/// Waits until the only output says `text`.
fn expect_trouble(daemon: &Daemon, text: &str) {
    let has_text = |trouble: &str| trouble.contains(text);
    wait_json(daemon.http(), "/api/v1/outputs", |outputs| {
        output(outputs)["trouble"].as_str().is_some_and(has_text)
    });
}

#[test]
fn what_is_wrong_is_said_and_the_forwarder_goes_on_when_it_is_mended() {
    let Some(python) = python() else { return };
    let nowhere = format!("nats://127.0.0.1:{}", free_port());
    let mut daemon = Daemon::start(&config(&nowhere, ""));
    send(&daemon, 100);
    expect_trouble(&daemon, "check that a NATS server listens there");

    let mut plain = Server::away(&python, &[]);
    plain.go_on();
    daemon.reload(&config(&plain.url(), ""));
    expect_trouble(&daemon, "check that JetStream is on (nats-server -js)");

    let guarded = Server::start(&python, &["--user", "tm", "--pass", "right"]);
    daemon.reload(&config(&guarded.url(), ""));
    expect_trouble(&daemon, "check credentials_file, token_file, or user and password_file");
    let password = daemon.home().join("password");
    std::fs::write(&password, "wrong").unwrap();
    let keys = format!("user = \"tm\"\npassword_file = \"{}\"", password.display());
    daemon.reload(&config(&guarded.url(), &keys));
    expect_trouble(&daemon, "check credentials_file, token_file, or user and password_file");
    // The file is read again.
    std::fs::write(&password, "right").unwrap();
    daemon.hang_up();
    wait_forwarded(&daemon, 101);

    let server = Server::start(&python, &[]);
    create(&server.url(), |config| config.subjects = vec!["other".to_owned()]);
    daemon.reload(&config(&server.url(), ""));
    expect_trouble(&daemon, "it has the subjects other; add it with nats stream edit");
    drop(server);

    let server = Server::start(&python, &[]);
    create(&server.url(), |_| {});
    daemon.reload(&config(&server.url(), ""));
    expect_trouble(&daemon, "the stream was purged or made anew");
    for file in ["bus", "bus+emergency"] {
        std::fs::remove_file(daemon.home().join("data/outputs").join(file)).unwrap();
    }
    daemon.reload(&config(&server.url(), "replicas = 3"));
    expect_trouble(&daemon, "has 1 replicas, and replicas is 3");
    daemon.reload(&config(&server.url(), ""));
    wait_forwarded(&daemon, 101);
    assert_each_once(&stored(&server.url()), &archived(&daemon.archive_dir()));

    // A full stream takes no more until there is room.
    let limit = |messages: i64| {
        on(&server.url(), async |context| {
            let stream = context.get_stream(STREAM).await.unwrap();
            let mut config = stream.cached_info().config.clone();
            config.max_messages = messages;
            config.discard = async_nats::jetstream::stream::DiscardPolicy::New;
            context.update_stream(config).await.unwrap();
        });
    };
    limit(110);
    send(&daemon, 100);
    expect_trouble(&daemon, "the stream or the server is full");
    limit(-1);
    wait_forwarded(&daemon, 202);
    assert_each_once(&stored(&server.url()), &archived(&daemon.archive_dir()));
    daemon.stop();

    // Another daemon with the same subjects.
    let mut other = Daemon::start(&config(&server.url(), ""));
    send(&other, 1);
    expect_trouble(&other, "another daemon writes there, or the archive was replaced");
    other.stop();
}

#[test]
fn a_frame_above_max_payload_is_named() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nats.conf");
    std::fs::write(&file, "max_payload: 2KB\n").unwrap();
    let server = Server::start(&python, &["-c", file.to_str().unwrap()]);
    let mut daemon = Daemon::start(&config(&server.url(), ""));
    send(&daemon, 50);
    expect_trouble(&daemon, "raise max_payload");
    // Emergencies do not wait for the next try.
    let began = Instant::now();
    for _ in 0..6 {
        let before = count(&server.url());
        send(&daemon, 0);
        wait_until("the emergency", || {
            if count(&server.url()) > before { Ok(()) } else { Err("none".to_owned()) }
        });
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    expect_trouble(&daemon, "raise max_payload");
    daemon.stop();
}

#[test]
fn a_token_comes_from_a_file() {
    let Some(python) = python() else { return };
    let server = Server::start(&python, &["--auth", "right"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong\n").unwrap();
    let token = format!("token_file = \"{}\"", file.path().display());
    let mut daemon = Daemon::start(&config(&server.url(), &token));
    send(&daemon, 10);
    expect_trouble(&daemon, "check credentials_file, token_file, or user and password_file");
    std::fs::write(file.path(), "right\n").unwrap();
    daemon.hang_up();
    wait_forwarded(&daemon, 11);
    daemon.stop();
}

#[test]
fn a_certificate_that_has_expired_is_named() {
    let Some(python) = python() else { return };
    let authority = Authority::new("nats");
    let mut daemon: Option<Daemon> = None;
    for (year, is_good) in [(2020, false), (3000, true)] {
        let identity = authority.identity_until("server", &["127.0.0.1"], year);
        let [certificate, key] = [&identity.certificate, &identity.key].map(|path| path.to_str().unwrap());
        let server = Server::start(&python, &["--tls", "--tlscert", certificate, "--tlskey", key]);
        let url = server.url().replace("nats://", "tls://");
        let config = format!("[tls]\nca = {:?}\n{}", authority.ca(), config(&url, ""));
        let daemon = daemon.get_or_insert_with(|| Daemon::start(&config));
        if is_good {
            daemon.reload(&config);
            wait_forwarded(daemon, 11);
        } else {
            send(daemon, 10);
            expect_trouble(daemon, "expired");
            expect_trouble(daemon, "check the certificate of the server, and tls.ca");
        }
    }
    daemon.unwrap().stop();
}

#[test]
fn a_missing_permission_is_named() {
    let Some(python) = python() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    let allowed = "publish: [\"$JS.API.>\"], subscribe: [\"_INBOX.>\"]";
    let text = |allowed: &str| {
        format!("authorization {{ users: [{{ user: tm, password: right, permissions: {{ {allowed} }} }}] }}")
    };
    std::fs::write(file.path(), text(allowed)).unwrap();
    let mut server = Server::start(&python, &["-c", file.path().to_str().unwrap()]);
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "right").unwrap();
    let keys = format!("user = \"tm\"\npassword_file = \"{}\"", password.path().display());
    let mut daemon = Daemon::start(&config(&server.url(), &keys));
    send(&daemon, 10);
    expect_trouble(&daemon, "give the user the permission");
    server.kill();
    std::fs::write(file.path(), text(&allowed.replace("\"$JS", "\"tm.>\", \"$JS"))).unwrap();
    server.go_on();
    wait_forwarded(&daemon, 11);
    daemon.stop();
}
