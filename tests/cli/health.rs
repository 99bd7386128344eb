//! `health`: the exit code says whether the daemon is well, and another server is not taken for a daemon.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::support::command::{aggregator, expect_exit, output};
use crate::support::{Client, Daemon, Hello, Port, Signal, wait_until};
use crate::top::url;

#[test]
fn health_is_the_exit_code() {
    let daemon = Daemon::start("");
    let url = url(&daemon);
    let health = |args: &[&str]| {
        let mut command = aggregator(["health", "--url", &url]);
        command.args(args);
        command
    };
    assert_eq!(expect_exit(&mut health(&[]), 0), ("healthy\n".into(), "".into()));
    assert_eq!(expect_exit(&mut health(&["--ready"]), 0), ("ready\n".into(), "".into()));
    // A silent client keeps the drain waiting for some time.
    let (_silent, _) = Client::open(daemon.address(), &Hello::new(1));
    daemon.signal(Signal::TERM);
    let error = wait_until("a daemon that is not ready", || {
        let ran = output(&mut health(&["--ready"]));
        match ran.status.code() {
            Some(1) => Ok(String::from_utf8(ran.stderr).unwrap()),
            code => Err(format!("exit {code:?}")),
        }
    });
    let begins = format!("telemetry-aggregator: not ready: {url}/readyz: draining: ");
    assert!(error.starts_with(&begins) && error.lines().count() == 1, "{error}");
}

#[test]
fn health_prints_the_reason_of_a_failure() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = Port::hold();
    let cases = [
        (silent.local_addr().unwrap(), "no answer within 100ms"),
        (closed.address(), "cannot connect: connection refused"),
    ];
    for (address, why) in cases {
        let url = format!("http://{address}");
        let (_, said) = expect_exit(&mut aggregator(["health", "--timeout", "100ms", "--url", &url]), 1);
        assert_eq!(said, format!("telemetry-aggregator: not healthy: {url}/healthz: {why}\n"));
    }
}

/// Answers every request with 200 and `body`, until the process ends.
fn another_server(body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            // Closing with an unread request would reset the connection.
            drop(socket.read(&mut [0; 4096]));
            drop(socket.write_all(answer.as_bytes()));
        }
    });
    url
}

#[test]
fn another_server_is_not_taken_for_a_daemon() {
    for body in ["{}", "<html>it works</html>", r#"{"status":"ok","ready":true,"reasons":[]}"#] {
        let url = another_server(body);
        for args in
            [&["health"][..], &["health", "--ready"], &["top", "--once"], &["top", "--once", "--json"]]
        {
            let (out, said) = expect_exit(aggregator(args).args(["--url", &url]), 1);
            assert!(out.is_empty(), "{args:?}: {out}");
            assert!(said.contains(&url) && said.lines().count() == 1, "{args:?}: {said}");
            assert!(
                said.contains("this is no telemetry-aggregator") || body.starts_with('<'),
                "{args:?}: {said}"
            );
        }
    }
}

#[test]
fn health_finds_the_daemon_by_its_configuration() {
    let daemon = Daemon::start("[http]\nlisten = \"0.0.0.0:0\"\ntoken = \"a token for the test\"");
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("aggregator.toml");
    let port = daemon.http().port();
    // An unrelated error in the file does not make the daemon unhealthy.
    let text =
        format!("[http]\nlisten = \"0.0.0.0:{port}\"\ntoken_file = \"/gone\"\n[log]\nlevel = \"loud\"\n");
    std::fs::write(&config, text).unwrap();
    expect_exit(aggregator(["health", "--config"]).arg(&config), 0);
    // `health` looks for the file where the daemon looks for it.
    expect_exit(aggregator(["health"]).current_dir(dir.path()), 0);
    let variable = "TELEMETRY_AGGREGATOR__HTTP__LISTEN";
    expect_exit(aggregator(["health"]).env(variable, format!("[::]:{port}")), 0);
    let (_, error) = expect_exit(aggregator(["health"]).env(variable, "127.0.0.1:0"), 2);
    assert!(error.contains("--url"), "{error}");
    std::fs::write(&config, "[http]\nlisten = 7482\n").unwrap();
    let (_, error) = expect_exit(aggregator(["health", "--config"]).arg(&config), 2);
    assert!(error.contains("http.listen"), "{error}");
}
