//! A renewed certificate comes into force by SIGHUP, and no session ends for it.

use std::time::Duration;

use client::Refusal;
use sim::Plan;

use crate::scene::{Scene, hello, refusal, trusting, until};
use crate::support::Daemon;
use crate::support::fleet::Fleet;
use crate::support::pki::{Authority, section};

#[test]
fn a_reload_under_load_loses_no_session_and_new_ones_get_the_new_certificate() {
    let scene = Scene::new();
    let config = scene.config("[http]\ntls = false");
    let mut daemon = Daemon::start(&config);
    let plan = Plan {
        connect: crate::scene::at(daemon.address()),
        tls: Some(scene.client(None)),
        satellites: 48,
        replays: 0,
        rate: 50.0,
        ..Plan::default()
    };
    let fleet = Fleet::start(plan);
    let has_acked = |count| until("frames are acknowledged", || fleet.counts().acked >= count);
    has_acked(1_000);
    for renewal in 1..=5 {
        // The same authority signs a new certificate in the same files.
        scene.authority.identity("server", &["localhost", "127.0.0.1"]);
        let said = daemon.reload(&config);
        assert!(said.iter().any(|line| line.contains("tls.certificate (another)")), "{said:#?}");
        has_acked(fleet.counts().acked + 500 * renewal);
    }
    // From here on, another authority signs.
    let other = Authority::new("other");
    let renewed = other.identity("server", &["localhost"]);
    daemon.reload(&format!("[http]\ntls = false\n{}", section(&renewed)));
    has_acked(fleet.counts().acked + 1_000);
    let (old, new) = (scene.client(None), trusting(&other.ca()));
    let said = refusal(daemon.address(), Some(&old), &hello(100, "", "")).unwrap();
    assert!(said.contains("not signed by an authority that is trusted here"), "{said}");
    assert_eq!(refusal(daemon.address(), Some(&new), &hello(100, "", "")), None);
    let report = fleet.stop_connected();
    assert_eq!((report.reconnects, report.resent), (0, 0), "{report:?}");
    daemon.stop();
}

#[test]
fn files_that_do_not_fit_leave_the_old_certificate_in_force() {
    let scene = Scene::new();
    let config = scene.config("");
    let mut daemon = Daemon::start(&config);
    std::fs::copy(&scene.server.certificate, scene.authority.ca().with_file_name("before.pem")).unwrap();
    let other = scene.authority.identity("other", &["localhost"]);
    std::fs::copy(&other.key, &scene.server.key).unwrap();
    let said = daemon.reload(&config);
    let is_named =
        said.iter().any(|line| line.contains("server.key: the key does not belong to the certificate"));
    assert!(is_named, "{said:#?}");
    assert_eq!(refusal(daemon.address(), Some(&scene.client(None)), &hello(1, "", "")), None);
    daemon.stop();
}

/// A connection that came before the authority was withdrawn does not get in with its certificate.
#[test]
fn a_handshake_from_before_a_reload_proves_nothing_after_it() {
    let scene = Scene::new();
    let client = "[http]\ntls = false\n[[ingest.clients]]\nname = \"kiruna.example\"\n";
    let mut daemon = Daemon::start(&scene.config(client));
    let tls = scene.client(Some(&scene.authority.identity("kiruna", &["kiruna.example"])));
    crate::scene::block_on(async {
        let waiting = crate::scene::shaken(daemon.address(), &tls).await;
        let other = Authority::new("other");
        daemon.reload(&format!("{client}{}ca = {:?}\n", section(&scene.server), other.ca()));
        match client::greet(waiting, &hello(1, "", "")).await {
            Err(Refusal::Lost(client::End::Lost { trouble, .. })) => {
                assert!(trouble.contains("the certificates have been renewed"), "{trouble}");
            }
            _ => panic!("it is let in"),
        }
    });
    daemon.stop();
}

/// A client that is removed from the list, or whose authority is, cannot come back. Its open session stays.
#[test]
fn a_removed_client_is_refused_at_its_next_connection() {
    let scene = Scene::new();
    let client = "[http]\ntls = false\n[[ingest.clients]]\nname = \"kiruna.example\"\n";
    let other = "[http]\ntls = false\n[[ingest.clients]]\nname = \"svalbard.example\"\n";
    let mut daemon = Daemon::start(&scene.config(client));
    let tls = scene.client(Some(&scene.authority.identity("kiruna", &["kiruna.example"])));
    let plan = Plan {
        connect: crate::scene::at(daemon.address()),
        tls: Some(tls.clone()),
        satellites: 1,
        replays: 0,
        rate: 100.0,
        linger: Duration::from_secs(20),
        ..Plan::default()
    };
    let fleet = Fleet::start(plan);
    until("it sends", || fleet.counts().acked > 10);
    let said = daemon.reload(&scene.config(other));
    let is_named = said
        .iter()
        .any(|line| line.contains("ingest.clients (svalbard.example added, kiruna.example removed)"));
    assert!(is_named, "{said:#?}");
    let acked = fleet.counts().acked;
    until("it goes on", || fleet.counts().acked > acked + 100);
    let said = refusal(daemon.address(), Some(&tls), &hello(7, "", "")).unwrap();
    assert!(said.contains("kiruna.example, which is no client here"), "{said}");
    assert_eq!(fleet.stop_connected().reconnects, 0);
    daemon.stop();
}
