//! Who may read and change what: tokens, the host of a request, sources that an operator removes, refused connections.

use serde_json::{Value, json};

use crate::metrics::samples;
use crate::support::http::{get, get_json, open, request};
use crate::support::{
    Client, Daemon, EMERGENCY, Hello, ROUTINE, Subscribe, Subscriber, code, message, wait_until,
};

#[test]
fn with_a_token_changes_and_payloads_need_it() {
    let daemon = Daemon::start("[http]\ntoken = \"let me in\"");
    let asked = |method, path, token: &str| {
        request(daemon.http(), method, path, &[("Authorization", &format!("Bearer {token}"))], b"").status
    };
    for (method, path, with_token) in [
        ("DELETE", "/api/v1/sources/9", 404),
        ("POST", "/api/v1/archive/trust-clock", 204),
        ("GET", "/api/v1/frames", 200),
    ] {
        assert_eq!(request(daemon.http(), method, path, &[], b"").status, 401);
        assert_eq!(asked(method, path, "let me"), 401);
        assert_eq!(asked(method, path, "let me in"), with_token);
    }
    assert_eq!(get(daemon.http(), "/api/v1/stats").status, 200);
    assert_eq!(get(daemon.http(), "/metrics").status, 200);
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let token = "Bearer let me in";
    for config in ["", "[http]\ntoken = \"let me in\""] {
        let daemon = Daemon::start(config);
        let here = daemon.http().to_string();
        let origin = format!("http://{here}");
        let asked = |path: &str, headers: &[(&str, &str)]| {
            let headers: Vec<_> =
                [("Authorization", token)].into_iter().chain(headers.iter().copied()).collect();
            request(daemon.http(), "GET", path, &headers, b"")
        };
        for (name, first, second) in [
            ("host", &*here, "evil.example"),
            ("origin", &*origin, "http://evil.example"),
            ("sec-fetch-site", "same-origin", "cross-site"),
            ("authorization", token, "Bearer let me"),
        ] {
            let headers = [(name, first), (name, second)];
            let answer = asked("/api/v1/frames", &headers);
            assert_eq!(answer.status, 400, "{name}: {}", answer.text());
            assert!(answer.json()["reason"].as_str().unwrap().starts_with(name), "{}", answer.text());
        }
        let absolute = |host: &str| format!("http://{host}/api/v1/frames");
        assert_eq!(asked(&absolute(&here), &[]).status, 200);
        let answer = asked(&absolute("evil.example"), &[]);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.json()["reason"].as_str().unwrap().contains("evil.example"), "{}", answer.text());
        let both = asked(&absolute("evil.example"), &[("Host", "evil.example")]).status;
        assert_eq!(both, if config.is_empty() { 403 } else { 200 }, "a token is enough for any host");
        let refused = &get_json(daemon.http(), "/api/v1/stats")["refusals"]["http"];
        assert_eq!(refused["protocol"], 5, "{refused}");
    }
}

#[test]
fn data_from_payloads_is_guarded_like_payloads() {
    let stranger = ("Host", "evil.example");
    let owner = ("Authorization", "Bearer let me in");
    let guarded = "[http]\ntoken = \"let me in\"";
    // With a configured token, any client that shows the token. Without a token, programs on this host.
    for (config, refused, taken) in
        [("", &[stranger][..], &[][..]), (guarded, &[][..], &[stranger, owner][..])]
    {
        let daemon = Daemon::start(config);
        let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
        client.deliver(EMERGENCY, 0, b"SAFE_MODE\x00secret");
        for (headers, label, frames) in [(refused, Value::Null, false), (taken, json!("SAFE_MODE"), true)] {
            let status = request(daemon.http(), "GET", "/api/v1/frames", headers, b"").status;
            assert_eq!(status == 200, frames, "{config} {headers:?}");
            let stats = request(daemon.http(), "GET", "/api/v1/stats", headers, b"");
            assert_eq!(stats.status, 200);
            assert_eq!(stats.json()["emergencies"][0]["label"], label, "{config} {headers:?}");
            let mut events = open(daemon.http(), "GET", "/api/v1/stream", headers, b"");
            assert_eq!(events.head().0, 200);
            let (name, stats) = events.event();
            assert_eq!((name.as_str(), &stats["emergencies"][0]["label"]), ("stats", &label), "{headers:?}");
            for path in ["/metrics", "/api/v1/sources"] {
                let text = request(daemon.http(), "GET", path, headers, b"").text();
                assert!(!text.contains("SAFE_MODE"), "{path}: {text}");
            }
        }
    }
}

#[test]
fn a_removed_source_gets_the_reason_and_may_reconnect() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(3));
    client.deliver(ROUTINE, 0, b"kept");
    let session = get_json(daemon.http(), "/api/v1/sources")["sources"][0]["session"].as_u64().unwrap();
    let path = format!("/api/v1/sources/{session}");
    for (header, value) in [("Origin", "http://evil.example"), ("Host", "evil.example")] {
        let refused = request(daemon.http(), "DELETE", &path, &[(header, value)], b"");
        assert_eq!(refused.status, 403, "{}", refused.text());
        assert!(refused.json()["reason"].as_str().unwrap().contains("evil.example"));
    }
    assert_eq!(request(daemon.http(), "DELETE", &path, &[], b"").status, 204);
    client.expect_error(code::REMOVED);
    let unknown = wait_until("the end of the session", || {
        let answer = request(daemon.http(), "DELETE", &path, &[], b"");
        if answer.status == 404 { Ok(answer.json()) } else { Err(answer.text()) }
    });
    assert_eq!(unknown["error"], "not_found");
    let (_again, welcome) = Client::open(daemon.address(), &Hello::new(3));
    assert_eq!(welcome.resume_next[ROUTINE], 1);
}

#[test]
fn refused_connections_are_counted_and_named() {
    let tokens = "[[ingest.tokens]]\ntoken = \"right\"\nsources = [1]\n[[feed.tokens]]\ntoken = \"other\"\n";
    let daemon = Daemon::start(&format!("[ingest]\nmax_connections = 1\n{tokens}"));
    let ingest = daemon.address();
    let hello = |source_id| Hello::new(source_id).token("right");
    assert_eq!(get_json(daemon.http(), "/api/v1/stats")["refusals"], json!({}));
    Client::refused(ingest, &Hello::new(1).token("secret"), code::UNAUTHORIZED);
    Client::refused(ingest, &hello(2), code::FORBIDDEN);
    Client::refused(ingest, &Hello { version_min: 9, version_max: 9, ..hello(1) }, code::VERSION);
    let (_first, _) = Client::open(ingest, &hello(1).epoch(7));
    Client::refused(ingest, &hello(1).station("other"), code::BUSY);
    Client::refused(ingest, &hello(1).station("other"), code::BUSY);
    let (mut second, _) = Client::open(ingest, &hello(1).epoch(8));
    second.send(&message::frame(9, 0, b"no such lane"));
    second.expect_error(code::BAD_PRIORITY);
    Subscriber::refused(daemon.feed(), &Subscribe::live().token("secret"), code::UNAUTHORIZED);
    // A takeover does not count as a refusal.
    let counts = json!({
        "ingest": { "unauthorized": 1, "forbidden": 1, "version": 1, "busy": 2, "bad_priority": 1 },
        "feed": { "unauthorized": 1 },
    });
    assert_eq!(get_json(daemon.http(), "/api/v1/stats")["refusals"], counts);
    let refusals = get_json(daemon.http(), "/api/v1/refusals");
    assert_eq!(refusals["counts"], counts);
    let newest = refusals["newest"].as_array().unwrap();
    assert_eq!(newest.len(), 7);
    assert_eq!((&newest[0]["listener"], &newest[0]["reason"]), (&json!("ingest"), &json!("unauthorized")));
    assert!(newest[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{newest:?}");
    assert!(newest[3]["text"].as_str().unwrap().contains("ingest.max_connections"), "{newest:?}");
    assert!(!refusals.to_string().contains("secret"), "no token is shown");
    let found = samples(&get(daemon.http(), "/metrics").text());
    let refused = "telemetry_aggregator_refusals_total{listener=\"ingest\",reason=\"busy\"}";
    assert_eq!(found[refused], 2.0);
}

#[test]
fn with_a_token_refusals_are_shown_only_to_its_owner() {
    let daemon = Daemon::start("[http]\ntoken = \"let me in\"");
    assert_eq!(get(daemon.http(), "/api/v1/refusals").status, 401);
    let token = [("Authorization", "Bearer let me in")];
    let refusals = request(daemon.http(), "GET", "/api/v1/refusals", &token, b"").json();
    assert_eq!(refusals["counts"], json!({ "http": { "unauthorized": 1 } }));
    assert_eq!(get_json(daemon.http(), "/api/v1/stats")["refusals"], refusals["counts"]);
}

#[test]
fn unknown_paths_and_methods_are_named() {
    let daemon = Daemon::start("");
    for (method, path, status) in
        [("GET", "/nothing", 404), ("POST", "/api/v1/stats", 405), ("PUT", "/healthz", 405)]
    {
        let answer = request(daemon.http(), method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.json()["reason"].as_str().unwrap().contains(path));
    }
}
