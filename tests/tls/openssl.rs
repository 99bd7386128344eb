//! OpenSSL, by way of Python's standard library, as a client of ours.

use crate::scene::Scene;
use crate::support::Daemon;
use crate::support::command::expect_exit;
use crate::support::pki::Identity;

/// Python that connects to `port` as `identity`, with TLS of at most `version`, and prints what happens.
fn script(scene: &Scene, port: u16, identity: Option<&Identity>, version: &str) -> String {
    let ca = scene.authority.ca();
    let own = identity.map_or(String::new(), |Identity { certificate, key }| {
        format!("context.load_cert_chain({certificate:?}, {key:?})")
    });
    format!(
        "
import socket, ssl
context = ssl.create_default_context(cafile={ca:?})
context.maximum_version = ssl.TLSVersion.{version}
{own}
try:
    raw = socket.create_connection(('127.0.0.1', {port}), 20)
    with context.wrap_socket(raw, server_hostname='localhost') as tls:
        print(tls.version(), tls.cipher()[0])
        tls.sendall(b'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n')
        print(tls.recv(15))
except Exception as error:
    print(type(error).__name__, error)
"
    )
}

#[test]
fn openssl_speaks_tls_1_3_and_nothing_older() {
    let scene = Scene::new();
    let mut daemon = Daemon::start(&scene.config(""));
    let run = |version| {
        let script = script(&scene, daemon.http().port(), None, version);
        expect_exit(std::process::Command::new("python3").args(["-c", &script]), 0).0
    };
    let said = run("TLSv1_3");
    assert!(said.contains("TLSv1.3 TLS_") && said.contains("HTTP/1.1 200 OK"), "{said}");
    let said = run("TLSv1_2");
    assert!(said.contains("SSLError") && said.contains("PROTOCOL_VERSION"), "{said}");
    daemon.stop();
}
