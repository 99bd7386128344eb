//! The examples of `docs/observe.md`, sent to a real daemon. The answers in the docs have the same shape as the real
//! answers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::Value;

use crate::support::http::{Answer, open, request};
use crate::support::message::code;
use crate::support::{Client, Daemon, EMERGENCY, Hello, LIMIT, ROUTINE, Subscribe, Subscriber};
use crate::text;

/// A `curl ...` command and the JSON below it, if any.
struct Example {
    command: String,
    answer: Option<Value>,
}

fn examples(text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut json = String::new();
    for line in text.lines().chain([""]) {
        let Some(code) = line.strip_prefix("    ") else {
            if !json.is_empty() {
                let last = examples.last_mut().expect("a command before its answer");
                last.answer =
                    Some(serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}")));
                json.clear();
            }
            continue;
        };
        if code.starts_with("curl ") {
            examples.push(Example { command: code.to_owned(), answer: None });
        } else if !code.starts_with("telemetry-aggregator ") {
            json.push_str(code);
        }
    }
    examples
}

/// The request of a command such as `curl -X POST -H 'A: b' -d 'body' 'http://host/path'`.
struct Asked {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

fn asked(command: &str) -> Asked {
    let (mut method, mut path, mut headers) = ("GET".to_owned(), None, Vec::new());
    let mut body = String::new();
    let mut quoted = command.split('\'');
    let mut words: Vec<String> = Vec::new();
    while let Some(plain) = quoted.next() {
        words.extend(plain.split_whitespace().map(str::to_owned));
        words.extend(quoted.next().map(str::to_owned));
    }
    let mut words = words.into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-X" => method = words.next().expect("a method"),
            "-H" => {
                let header = words.next().expect("a header");
                let (name, value) = header.split_once(": ").expect("a header");
                headers.push((name.to_owned(), value.to_owned()));
            }
            "-d" => body = words.next().expect("a body"),
            "-N" | "--compressed" => {}
            url => {
                path =
                    Some(url.strip_prefix("http://127.0.0.1:7482").expect("a URL of the daemon").to_owned())
            }
        }
    }
    Asked { method, path: path.expect("a URL"), headers, body }
}

fn ask(address: SocketAddr, command: &str) -> Option<Answer> {
    let Asked { method, path, headers, body } = asked(command);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if path.ends_with("/stream") {
        assert_eq!(open(address, &method, &path, &headers, b"").head().0, 200, "{command}");
        return None;
    }
    let started = Instant::now();
    loop {
        let answer = request(address, &method, &path, &headers, body.as_bytes());
        // The connection that the example before ended may still be closing.
        if answer.status != 409 || started.elapsed() > LIMIT {
            return Some(answer);
        }
    }
}

/// Compares names and kinds of values, as deep as both go. If one of them is null or empty, the other may hold
/// anything.
fn assert_same_shape(expected: &Value, found: &Value, path: &str) {
    match (expected, found) {
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(expected), Value::Object(found)) => {
            let names =
                |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(names(expected), names(found), "{path}");
            for (name, value) in expected {
                assert_same_shape(value, &found[name], &format!("{path}.{name}"));
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            if let (Some(expected), Some(found)) = (expected.first(), found.first()) {
                assert_same_shape(expected, found, &format!("{path}[0]"));
            }
        }
        _ => assert_eq!(std::mem::discriminant(expected), std::mem::discriminant(found), "{path}: {found}"),
    }
}

#[test]
fn each_example_of_the_docs_gets_its_answer() {
    let daemon = Daemon::start(
        "[http]\ntoken = \"TOKEN\"\n[archive]\nretention_age = \"1h\"\n[[ingest.tokens]]\ntoken = \"right\"",
    );
    let hello = Hello::new(7).station("KIRUNA").epoch(4_294_967_295_000).token("right");
    let (mut client, _) = Client::open(daemon.address(), &hello);
    Client::refused(daemon.address(), &Hello::new(7).token("wrong"), code::UNAUTHORIZED);
    client.deliver(ROUTINE, 0, b"routine");
    client.deliver(EMERGENCY, 1, b"SAFE_MODE");
    let _subscriber = Subscriber::open(daemon.feed(), &Subscribe::live());
    let examples = examples(&text("docs/observe.md"));
    assert!(examples.len() >= 8);
    // Examples that end a connection run last, because other examples show that connection. The reset of its stream
    // follows.
    let (ends, looks): (Vec<_>, Vec<_>) = examples
        .iter()
        .partition(|example| ["DELETE", "POST"].contains(&asked(&example.command).method.as_str()));
    for Example { command, answer } in looks.into_iter().chain(ends) {
        let Some(found) = ask(daemon.http(), command) else { continue };
        match answer {
            Some(expected) => assert_same_shape(expected, &found.json(), command),
            None => assert!((200..300).contains(&found.status), "{command}: {}", found.text()),
        }
        let is_error = answer.as_ref().is_some_and(|expected| expected.get("error").is_some());
        assert_eq!(found.status >= 400, is_error, "{command}: {}", found.status);
    }
}

#[test]
fn each_path_is_in_the_docs() {
    let (routes, docs) = (text("crates/web/src/routes.rs"), text("docs/observe.md") + &text("docs/links.md"));
    let paths: Vec<_> = routes
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|quoted| quoted.starts_with('/') && !quoted.contains(' '))
        // The dashboard's own files are no part of the API.
        .filter(|path| *path != "/" && !path.starts_with("/dashboard"))
        .collect();
    assert!(paths.len() >= 8, "{paths:?}");
    for path in paths {
        let fixed = path.split('{').next().expect("a beginning");
        assert!(docs.contains(&format!("127.0.0.1:7482{fixed}")), "{path} has no example");
    }
}

#[test]
fn different_shapes_are_detected() {
    let expected = serde_json::json!({ "a": [{ "b": 1 }], "c": null });
    assert_same_shape(&expected, &serde_json::json!({ "a": [{ "b": 2.5 }], "c": "text" }), "");
    for other in
        [serde_json::json!({ "a": [{ "b": "1" }], "c": 1 }), serde_json::json!({ "a": [{}], "c": 1 })]
    {
        assert!(std::panic::catch_unwind(|| assert_same_shape(&expected, &other, "")).is_err(), "{other}");
    }
}
