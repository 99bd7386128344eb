//! Certificates and tokens of clients: who may speak for what, and what a refused client is told.

use crate::scene::{Scene, hello, refusal};
use crate::support::Daemon;
use crate::support::http::get_json;
use crate::support::pki::Authority;

const CLIENTS: &str = r#"
    [http]
    tls = false
    [[ingest.clients]]
    name = "Kiruna.example"
    sources = [1, 2]
    stations = ["kiruna"]
"#;
const TOKEN: &str = "[[ingest.tokens]]\ntoken = \"t\"\nsources = [2, 3]\n";

#[test]
fn a_certificate_stands_for_its_sources_and_stations() {
    let scene = Scene::new();
    let mut daemon = Daemon::start(&scene.config(CLIENTS));
    let kiruna = scene.authority.identity("kiruna", &["elsewhere.example", "kiruna.example"]);
    let tls = scene.client(Some(&kiruna));
    let said = |hello| refusal(daemon.address(), Some(&tls), &hello);
    assert_eq!(said(hello(1, "kiruna", "")), None);
    assert_eq!(said(hello(2, "kiruna", "no token is asked for")), None);
    let refused = said(hello(3, "kiruna", "")).unwrap();
    assert!(refused.contains("this certificate does not admit source 3"), "{refused}");
    let refused = said(hello(1, "svalbard", "")).unwrap();
    assert!(refused.contains("does not admit source 1 from station \"svalbard\""), "{refused}");
    daemon.stop();
}

#[test]
fn a_certificate_that_is_not_known_or_missing_is_refused_with_its_reason_at_both_ends() {
    let scene = Scene::new();
    let mut daemon = Daemon::start(&scene.config(CLIENTS));
    let stranger = scene.authority.identity("stranger", &["stranger.example"]);
    // The common name of a certificate is no name.
    let nameless = scene.authority.sign("nameless", &[], |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "kiruna.example");
    });
    let theirs = Authority::new("theirs");
    let foreign = theirs.identity("kiruna", &["kiruna.example"]);
    let expired = scene.authority.identity_until("expired", &["kiruna.example"], 2001);
    let wildcard = scene.authority.identity("wildcard", &["*.example"]);
    for (identity, to_client, to_operator) in [
        (Some(&stranger), "stranger.example, which is no client here", "stranger.example"),
        (Some(&nameless), "no name, which is no client here", "no name"),
        (Some(&wildcard), "which is no client here", "which is no client here"),
        (Some(&foreign), "does not trust the authority", "not signed by an authority"),
        (Some(&expired), "has expired", "certificate expired"),
        (None, "needs a certificate, and we sent none", "the client has no certificate"),
    ] {
        let tls = scene.client(identity);
        let said = refusal(daemon.address(), Some(&tls), &hello(1, "kiruna", "")).unwrap();
        assert!(said.contains(to_client), "{identity:?}: {said}");
        let newest = get_json(daemon.http(), "/api/v1/refusals")["newest"].clone();
        let text = newest.as_array().unwrap().iter().map(|refused| refused["text"].as_str().unwrap());
        let texts: Vec<_> = text.collect();
        assert!(texts.iter().any(|text| text.contains(to_operator)), "{to_operator}: {texts:?}");
    }
    daemon.stop();
    let lines = daemon.lines().join("\n");
    assert!(lines.contains("the client has no certificate, and one is needed here"), "{lines}");
}

/// The name of a workload, as meshes of services write it.
#[test]
fn a_uri_is_a_name() {
    let scene = Scene::new();
    let name = "spiffe://meridian.example/station/Kiruna";
    let mut daemon = Daemon::start(&scene.config(&format!("[[ingest.clients]]\nname = \"{name}\"\n")));
    let station = scene.authority.sign("kiruna", &[], |params| {
        params.subject_alt_names = vec![rcgen::SanType::URI(name.try_into().unwrap())];
    });
    assert_eq!(refusal(daemon.address(), Some(&scene.client(Some(&station))), &hello(1, "", "")), None);
    daemon.stop();
}

#[test]
fn beside_a_token_the_narrower_wins_and_either_is_enough() {
    let scene = Scene::new();
    let mut daemon = Daemon::start(&scene.config(&format!("{CLIENTS}{TOKEN}")));
    let kiruna = scene.authority.identity("kiruna", &["kiruna.example"]);
    let (with, without) = (scene.client(Some(&kiruna)), scene.client(None));
    let said = |tls, source, token| refusal(daemon.address(), Some(tls), &hello(source, "kiruna", token));
    assert_eq!(said(&with, 1, ""), None, "a certificate alone");
    assert_eq!(said(&without, 3, "t"), None, "a token alone");
    assert_eq!(said(&with, 2, "t"), None, "both allow it");
    for (tls, source, token, text) in [
        (&with, 1, "t", "this token does not admit source 1"),
        (&with, 3, "t", "this certificate does not admit source 3"),
        (&with, 1, "wrong", "unknown token"),
        (&without, 3, "", "a token is needed here"),
    ] {
        let refused = said(tls, source, token).unwrap();
        assert!(refused.contains(text), "{refused}");
    }
    daemon.stop();
}
