//! Input links over TLS, in both directions.

use std::net::TcpListener;

use crate::scene::{Scene, until};
use crate::support::command::{expect_exit, uplink_sim};
use crate::support::http::get_json;
use crate::support::{Daemon, LIMIT};

const UNITS: &str = "framing = { kind = \"packet\", max = 2000 }\nsource = 5\n";

#[test]
fn a_listening_link_shows_the_certificate_of_the_daemon() {
    let scene = Scene::new();
    let link = format!("[[links]]\nname = \"modem\"\nlisten = \"127.0.0.1:0\"\ntls = true\n{UNITS}");
    let mut daemon = Daemon::start(&scene.config(&format!("[http]\ntls = false\n{link}")));
    let address = || get_json(daemon.http(), "/api/v1/links")["links"][0]["address"].clone();
    until("the link listens", || address().is_string());
    let address = address().as_str().unwrap().replace("127.0.0.1", "localhost");
    let args = ["--link", "packet", "--connect", &address, "--satellites", "1", "--frames", "100"];
    expect_exit(uplink_sim(args).args(scene.ca()), 0);
    until("the frames are there", || get_json(daemon.http(), "/api/v1/stats")["frames"]["archived"] == 100);
    daemon.stop();
}

#[test]
fn a_connecting_link_trusts_only_its_authorities() {
    let scene = Scene::new();
    let equipment = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = equipment.local_addr().unwrap().port();
    let link = format!("[[links]]\nname = \"modem\"\nconnect = \"localhost:{port}\"\ntls = true\n{UNITS}");
    let mut daemon = Daemon::start(&scene.config(&format!("[http]\ntls = false\n{link}")));
    // This equipment speaks no TLS.
    let (mut socket, _) = equipment.accept().unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    std::io::Write::write_all(&mut socket, b"plain bytes, which are no TLS").unwrap();
    let trouble = || get_json(daemon.http(), "/api/v1/links")["links"][0]["trouble"].to_string();
    until("the link says why", || trouble().contains("does not speak TLS on this port"));
    drop(socket);
    // This equipment does.
    let server = {
        let identity = tls::Identity::load(&scene.server.certificate, &scene.server.key).unwrap();
        tls::Server::new(&identity, &tls::Ask::Nothing).unwrap()
    };
    crate::scene::block_on(async {
        equipment.set_nonblocking(true).unwrap();
        let equipment = tokio::net::TcpListener::from_std(equipment).unwrap();
        let (tcp, _) = equipment.accept().await.unwrap();
        let mut socket = tls::Socket::accepted(tcp, Some(&server)).unwrap();
        let packet = [0x08, 0x01, 0xC0, 0x00, 0x00, 0x03, 1, 2, 3, 4];
        tokio::io::AsyncWriteExt::write_all(&mut socket, &packet).await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut socket).await.unwrap();
    });
    until("the frame is there", || get_json(daemon.http(), "/api/v1/stats")["frames"]["archived"] == 1);
    daemon.stop();
}
