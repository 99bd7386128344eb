//! Answers are compressed, tagged, and computed once for all clients.

use crate::support::elements::text_of;
use crate::support::http::{get, get_json, open, request};
use crate::support::{Client, Daemon, Hello, wait_until};

fn unzipped(body: &[u8]) -> String {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(body), &mut text).unwrap();
    text
}

#[test]
fn long_answers_are_compressed_if_the_client_accepts_it() {
    let daemon = Daemon::start("");
    let clients: Vec<_> =
        (0..20).map(|id| Client::open(daemon.address(), &Hello::new(id).station("KIRUNA"))).collect();
    let zipped = ("Accept-Encoding", "deflate, gzip;q=0.5");
    for path in
        ["/metrics", "/api/v1/sources", "/api/v1/openapi.json", "/dashboard/app.js", "/dashboard/style.css"]
    {
        let plain = get(daemon.http(), path);
        assert_eq!(plain.header("content-encoding"), None, "{path}");
        let answer = request(daemon.http(), "GET", path, &[zipped], b"");
        assert_eq!(answer.header("content-type"), plain.header("content-type"));
        if plain.body.len() < 4_096 {
            assert_eq!(answer.header("content-encoding"), None, "{path}");
            continue;
        }
        assert_eq!(answer.header("content-encoding"), Some("gzip"), "{path}");
        assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()), "{path}");
        assert_eq!(
            (answer.header("vary"), plain.header("vary")),
            (Some("accept-encoding"), Some("accept-encoding"))
        );
        assert!(
            answer.body.len() < plain.body.len() / 2,
            "{path}: {} of {}",
            answer.body.len(),
            plain.body.len()
        );
        let (text, plain) = (unzipped(&answer.body), plain.text());
        assert_eq!(text.lines().count(), plain.lines().count(), "{path}");
        let refused = request(daemon.http(), "GET", path, &[("Accept-Encoding", "gzip;q=0, br")], b"");
        assert_eq!(refused.header("content-encoding"), None, "{path}");
    }
    let mut events = open(daemon.http(), "GET", "/api/v1/stream", &[zipped], b"");
    let (_, headers) = events.head();
    assert!(headers.iter().all(|(name, _)| name != "content-encoding"), "{headers:?}");
    assert_eq!(events.event().0, "stats");
    drop(clients);
}

#[test]
fn satellite_positions_are_computed_once_for_all_requests() {
    let daemon = Daemon::start("");
    let path = "/api/v1/catalog";
    assert_eq!(request(daemon.http(), "PUT", path, &[], text_of(500).as_bytes()).status, 200);
    // A position belongs to one moment. The moment may change between two requests.
    let (plain, again, zipped, known) = wait_until("four answers of one moment", || {
        let plain = get(daemon.http(), path);
        let tag = plain.header("etag").expect("a tag").to_owned();
        let again = get(daemon.http(), path);
        let zipped = request(daemon.http(), "GET", path, &[("Accept-Encoding", "gzip")], b"");
        let known = request(daemon.http(), "GET", path, &[("If-None-Match", &tag)], b"");
        let is_same = [&again, &zipped, &known].iter().all(|answer| answer.header("etag") == Some(&tag));
        if is_same { Ok((plain, again, zipped, known)) } else { Err(format!("{tag} does not stay")) }
    });
    assert_eq!(plain.header("cache-control"), Some("no-cache"));
    assert_eq!(plain.json()["count"], 500);
    assert!(plain.json()["time_ms"].is_i64());
    assert_eq!(again.body, plain.body, "not computed again");
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert_eq!(unzipped(&zipped.body).as_bytes(), plain.body);
    assert_eq!((known.status, known.body.len()), (304, 0));
    // Another version gives another answer. So does the text of each version.
    let text = get(daemon.http(), "/api/v1/catalog?format=tle");
    let tag = text.header("etag").unwrap().to_owned();
    let known = |tag: &str| {
        request(daemon.http(), "GET", "/api/v1/catalog?format=tle", &[("If-None-Match", tag)], b"").status
    };
    assert_eq!(known(&tag), 304);
    assert_eq!(request(daemon.http(), "PUT", path, &[], text_of(3).as_bytes()).status, 200);
    assert_eq!(known(&tag), 200);
    assert_eq!(get_json(daemon.http(), path)["count"], 3);
}
