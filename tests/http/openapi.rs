//! The OpenAPI document describes the running server: schemathesis finds no error, each operation answers as described,
//! and the real answers have exactly the properties described.

mod schema;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;

use schema::Api;
use serde_json::{Value, json};

use crate::support::http::{get, get_json, open, request, wait_json};
use crate::support::python::Python;
use crate::support::{
    Client, Daemon, EMERGENCY, Hello, ROUTINE, Subscribe, Subscriber, code, not_tested, wait_until,
};

/// Orbital elements of 2008.
const ISS: &[u8] = b"ISS (ZARYA)\n\
    1 25544U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  2927\n\
    2 25544  51.6416 247.4627 0006703 130.5360 325.0288 15.72125391563537\n";
const TOKEN: &str = "let me in";

/// schemathesis may send a request head that is too long, and the daemon refuses it with 431. schemathesis does not
/// expect that status by default.
const SCHEMATHESIS: &str = "\
    [checks.negative_data_rejection]\n\
    expected-statuses = [400, 401, 403, 404, 405, 406, 409, 415, 422, 428, 429, 431, \"5xx\"]\n\
    [checks.positive_data_acceptance]\n\
    expected-statuses = [\"2xx\", \"3xx\", 401, 403, 404, 409, 429, 431, \"5xx\"]\n";

/// A daemon that has some data for every answer, and the clients that are connected to it.
fn busy(config: &str) -> (Daemon, Client, Client, Subscriber) {
    let daemon = Daemon::start(config);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(7).station("KIRUNA").epoch(90));
    for sequence in 0..50 {
        client.deliver(ROUTINE, sequence, b"payload");
    }
    client.deliver(EMERGENCY, 0, b"SAFE_MODE");
    let (mut replay, _) = Client::open(daemon.address(), &Hello::new(8).kind(1));
    replay.deliver(ROUTINE, 3, &[0, 255]);
    let (mut refused, _) = Client::open(daemon.address(), &Hello::new(9));
    refused.deliver(ROUTINE, 5, b"");
    refused.frame(ROUTINE, 4, b"");
    refused.expect_error(code::SEQUENCE_REGRESSION);
    let (subscriber, _) = Subscriber::open(daemon.feed(), &Subscribe::earliest());
    (daemon, client, replay, subscriber)
}

#[test]
fn schemathesis_finds_nothing() {
    let python = match Python::with("schemathesis") {
        Ok(python) => python,
        Err(error) => return not_tested(format_args!("the HTTP API by schemathesis: {error}")),
    };
    let (daemon, _client, _replay, _subscriber) = busy(&format!("[http]\ntoken = \"{TOKEN}\""));
    let dir = tempfile::tempdir().unwrap();
    let mut command = python.tool("st");
    // schemathesis reads its configuration from its working directory.
    std::fs::write(dir.path().join("schemathesis.toml"), SCHEMATHESIS).unwrap();
    command.current_dir(dir.path()).args(["run", "--checks", "all", "--max-examples", "50", "--no-color"]);
    // Always the same requests, so that a failure is due to a change and is reproducible.
    command.args(["--seed", "1"]);
    // The stream of events has no end to wait for. The test reads it below.
    command.args(["--exclude-path", "/api/v1/stream", "--header", &format!("Authorization: Bearer {TOKEN}")]);
    // No schema describes the form of the catalog text. The tests of the catalog cover it.
    command.args(["--exclude-operation-id", "putCatalog"]);
    command.arg(format!("http://{}/api/v1/openapi.json", daemon.http()));
    let ran = command.output().unwrap();
    assert!(
        ran.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    assert_eq!(get(daemon.http(), "/healthz").status, 200, "and it lives");
}

const WITH_LINKS: &str = r#"
    [archive]
    retention_age = "30days"
    [[links]]
    name = "modem"
    listen = "127.0.0.1:0"
    framing = { kind = "packet", max = 2000 }
    source = 9
    [[outputs]]
    name = "software"
    listen = "127.0.0.1:0"
    [[outputs]]
    name = "stream"
    nats = "nats://127.0.0.1:1"
    stream = "TELEMETRY"
"#;

/// Sends a packet to the link and reads from the output. Returns both connections once the API shows them.
fn use_links(daemon: &Daemon) -> [TcpStream; 2] {
    let wait_first = |kind: &str, is_met: &dyn Fn(&Value) -> bool| {
        let found = wait_json(daemon.http(), &format!("/api/v1/{kind}"), |found| is_met(&found[kind][0]));
        found[kind][0].clone()
    };
    let connect = |kind: &str| {
        let listening = wait_first(kind, &|first| first["address"].is_string());
        TcpStream::connect(listening["address"].as_str().unwrap()).expect("it listens")
    };
    let has_some = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    let [mut link, output] = ["links", "outputs"].map(connect);
    link.write_all(&[0x08, 0x01, 0xC0, 0x00, 0x00, 0x00, 0xAA]).expect("the link takes a packet");
    wait_first("links", &|link| has_some(&link["channels"]));
    wait_first("outputs", &|output| has_some(&output["readers"]));
    [link, output]
}

#[test]
fn real_answers_have_exactly_the_described_fields() {
    let (daemon, mut client, _replay, _subscriber) = busy(WITH_LINKS);
    let _equipment = use_links(&daemon);
    // The daemon has just started, so the age is held.
    wait_json(daemon.http(), "/api/v1/stats", |stats| !stats["archive"]["age_hold"].is_null());
    let api = Api { description: get_json(daemon.http(), "/api/v1/openapi.json"), ..Api::default() };
    for path in [
        "/healthz",
        "/readyz",
        "/api/v1/stats",
        "/api/v1/sources",
        "/api/v1/refusals",
        "/api/v1/links",
        "/api/v1/outputs",
        "/api/v1/frames?limit=3",
        "/api/v1/catalog",
    ] {
        let operation = path.split('?').next().unwrap();
        api.check_answer(operation, "get", 200, &get_json(daemon.http(), path));
    }
    for (path, operation) in [
        ("/api/v1/links/modem/channels", "/api/v1/links/{name}/channels"),
        ("/api/v1/outputs/software/readers", "/api/v1/outputs/{name}/readers"),
    ] {
        api.check_answer(operation, "get", 200, &get_json(daemon.http(), path));
    }
    for (path, operation, status) in [
        ("/api/v1/frames?limit=0", "/api/v1/frames", 400),
        ("/api/v1/sources?state=gone", "/api/v1/sources", 400),
    ] {
        let answer = get(daemon.http(), path);
        assert_eq!(answer.status, status);
        api.check_answer(operation, "get", status, &answer.json());
    }
    let mut events = open(daemon.http(), "GET", "/api/v1/stream", &[], b"");
    assert_eq!(events.head().0, 200);
    let mut heard = BTreeSet::new();
    while heard.len() < 3 {
        let (name, data) = events.event();
        match name.as_str() {
            "stats" => api.check(&json!({ "$ref": "#/components/schemas/Stats" }), &data, "stats"),
            "sources" => api.check(&json!({ "$ref": "#/components/schemas/Sources" }), &data, "sources"),
            "changes" => {
                assert_eq!(data.as_object().unwrap().keys().collect::<Vec<_>>(), ["sources"]);
                let all = json!({ "type": "array", "items": { "$ref": "#/components/schemas/Source" } });
                api.check(&all, &data["sources"], "changes");
            }
            other => panic!("event {other}"),
        }
        heard.insert(name);
    }
    client.deliver(ROUTINE, 50, b"payload");
    client.bye([1, 51]);
    let body = json!({ "source_id": 7, "kind": "live", "station": "KIRUNA", "epoch": 42 }).to_string();
    let headers = [("Content-Type", "application/json")];
    let answer = wait_until("the end of the session", || {
        let answer = request(daemon.http(), "POST", "/api/v1/sources/epoch", &headers, body.as_bytes());
        api.check_answer("/api/v1/sources/epoch", "post", answer.status, &answer.json());
        if answer.status == 409 { Err(answer.text()) } else { Ok(answer) }
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    let forget = "/api/v1/streams/forget";
    let answer = request(daemon.http(), "POST", forget, &headers, br#"{"source_ids":[7,8]}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    api.check_answer(forget, "post", 200, &answer.json());
    assert_eq!((&answer.json()["forgotten"], &answer.json()["refused"]), (&json!(1), &json!(1)));
    let answer = request(daemon.http(), "POST", forget, &headers, b"{}");
    api.check_answer(forget, "post", 422, &answer.json());
    let put = request(daemon.http(), "PUT", "/api/v1/catalog", &[], b"no elements");
    assert_eq!(put.status, 422);
    api.check_answer("/api/v1/catalog", "put", 422, &put.json());
    let put = request(daemon.http(), "PUT", "/api/v1/catalog", &[], ISS);
    assert_eq!(put.status, 200, "{}", put.text());
    api.check_answer("/api/v1/catalog", "put", 200, &put.json());
    // A position needs the elements of today. Gaps come only from damage and retention. Uploads need a bucket. Request
    // bodies are not answers.
    let mut unseen: BTreeSet<&str> = api.schemas().keys().map(String::as_str).collect();
    let seen = api.seen.borrow();
    unseen.retain(|name| !seen.contains(*name));
    assert_eq!(
        unseen,
        BTreeSet::from(["EpochReset", "ForgetRequest", "Gap", "GapKind", "SubPoint", "Upload"])
    );
}

/// Sends a request without a body and returns its status. Checks that the status and the answer are described.
#[track_caller]
fn check_operation(daemon: &Daemon, api: &Api, path: &str, method: &str, headers: &[(&str, &str)]) -> u16 {
    let at = path.replace("{session}", "999999").replace("{name}", "nobody");
    let mut answer = open(daemon.http(), &method.to_uppercase(), &at, headers, b"");
    let (status, headers) = answer.head();
    let response = &api.description["paths"][path][method]["responses"][status.to_string()];
    let response = api.resolve(response);
    assert!(response.is_object(), "{method} {path} answers {status}, which is not described");
    let content_type =
        headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.as_str());
    match content_type {
        Some("application/json") => {
            let body: Value = serde_json::from_slice(&answer.body(&headers)).expect("JSON");
            api.check_answer(path, method, status, &body);
        }
        // The stream of events has no end, so the test does not read a text.
        Some(text) => assert!(response["content"][text].is_object(), "{method} {path} answers {text}"),
        None => assert_eq!(response["content"], Value::Null, "{method} {path} answers nothing"),
    }
    status
}

#[test]
fn each_operation_answers_as_described_with_and_without_the_token() {
    let daemon = Daemon::start(&format!("[http]\ntoken = \"{TOKEN}\""));
    let api = Api { description: get_json(daemon.http(), "/api/v1/openapi.json"), ..Api::default() };
    assert_eq!(api.description["info"]["version"], env!("CARGO_PKG_VERSION"));
    let token = format!("Bearer {TOKEN}");
    let mut guarded = 0;
    for (path, operations) in api.description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let is_guarded = operation.get("security").is_some();
            guarded += usize::from(is_guarded);
            let status = check_operation(&daemon, &api, path, method, &[]);
            assert_eq!(status == 401, is_guarded, "{method} {path} answers {status} without the token");
            let status = check_operation(&daemon, &api, path, method, &[("Authorization", &token)]);
            assert_ne!(status, 401, "{method} {path} with the token");
            let names_one = path.contains('{');
            assert_eq!(status == 404, names_one, "{method} {path} with the token");
        }
    }
    assert_eq!(guarded, 11);
    let open = Daemon::start("");
    let text = get(open.http(), "/api/v1/openapi.json").text();
    assert!(!text.contains("\"security\""), "a daemon without a token asks for none");
}

#[test]
fn each_reference_of_the_document_leads_to_a_part_and_each_part_is_used() {
    let daemon = Daemon::start("");
    let document = get_json(daemon.http(), "/api/v1/openapi.json");
    let text = document.to_string();
    let references: BTreeSet<&str> =
        text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let mut parts = BTreeSet::new();
    for group in ["schemas", "responses"] {
        let names = document["components"][group].as_object().unwrap().keys();
        parts.extend(names.map(|name| format!("/components/{group}/{name}")));
    }
    assert_eq!(references, parts.iter().map(String::as_str).collect());
}

#[test]
fn an_unsupported_method_is_answered_with_the_supported_ones() {
    let daemon = Daemon::start("");
    let description = get_json(daemon.http(), "/api/v1/openapi.json");
    for (path, operations) in description["paths"].as_object().unwrap() {
        let path = path.replace("{session}", "999999").replace("{name}", "nobody");
        let mut taken: BTreeSet<String> =
            operations.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        if taken.contains("GET") {
            taken.insert("HEAD".to_owned());
        }
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            if taken.contains(method) {
                continue;
            }
            let answer = request(daemon.http(), method, &path, &[], b"");
            assert_eq!(answer.status, 405, "{method} {path}");
            let allowed = answer.header("allow").unwrap_or_else(|| panic!("{method} {path} without Allow"));
            assert_eq!(allowed.split(',').map(|name| name.trim().to_owned()).collect::<BTreeSet<_>>(), taken);
            if method != "HEAD" {
                assert_eq!(answer.json()["error"], "method_not_allowed", "{method} {path}");
            }
        }
    }
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/stats", "/api/v1/sources", "/api/v1/frames"] {
        let head = request(daemon.http(), "HEAD", path, &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), get(daemon.http(), path).header("content-type"));
    }
}

#[test]
fn unusual_requests_get_described_answers() {
    let daemon = Daemon::start("");
    let huge = "9".repeat(30);
    for (path, status) in [
        ("/api/v1/sources?limit=%", 400),
        ("/api/v1/sources?state=%FF", 400),
        ("/api/v1/sources?source=%31", 200),
        (&format!("/api/v1/sources?offset={huge}"), 400),
        ("/api/v1/sources?offset=18446744073709551615", 200),
        (&format!("/api/v1/frames?from={huge}"), 400),
        ("/api/v1/frames?from=18446744073709551615&to=0", 200),
        ("/api/v1/frames?from_ms=-9223372036854775808&to_ms=9223372036854775807", 200),
        ("/api/v1/frames?limit=1&limit=2", 400),
        ("/api/v1/%73tats", 404),
        ("/api/v1/stats/", 404),
    ] {
        let answer = get(daemon.http(), path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        if status != 200 {
            assert!(answer.json()["reason"].is_string());
        }
    }
    for session in [&*huge, "-1", "x", "%FF", "1.5"] {
        let answer = request(daemon.http(), "DELETE", &format!("/api/v1/sources/{session}"), &[], b"");
        assert_eq!(answer.status, 404, "{session}: {}", answer.text());
        assert!(answer.json()["reason"].is_string());
    }
    let long = get(daemon.http(), &format!("/api/v1/frames?source={}", "7,".repeat(4_500)));
    assert_eq!((long.status, long.body.len()), (431, 0), "a head beyond 8 KiB");
    // The daemon ignores a body where the API has none.
    assert_eq!(request(daemon.http(), "GET", "/api/v1/stats", &[], &[b'x'; 100]).status, 200);
}
