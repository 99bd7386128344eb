//! Input links over TLS, in both directions.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tls::Socket;
use tokio::io::AsyncWriteExt as _;

use crate::scene::{Scene, block_on, shaken, until};
use crate::support::command::{expect_exit, uplink_sim};
use crate::support::http::get_json;
use crate::support::{Daemon, LIMIT};

const UNITS: &str = "framing = { kind = \"packet\", max = 2000 }\nsource = 5\n";

/// A daemon with a link that listens, and the address of the link.
fn with_listening_link(scene: &Scene) -> (Daemon, SocketAddr) {
    let link = format!("[[links]]\nname = \"modem\"\nlisten = \"127.0.0.1:0\"\ntls = true\n{UNITS}");
    let daemon = Daemon::start(&scene.config(&format!("[http]\ntls = false\n{link}")));
    let address = || link_report(&daemon)["address"].clone();
    until("the link listens", || address().is_string());
    let address = address().as_str().unwrap().parse().unwrap();
    (daemon, address)
}

/// What the API reports of the link.
fn link_report(daemon: &Daemon) -> serde_json::Value {
    get_json(daemon.http(), "/api/v1/links")["links"][0].clone()
}

/// A packet with a sequence count.
const PACKET: [u8; 10] = [0x08, 0x01, 0xC0, 0x00, 0x00, 0x03, 1, 2, 3, 4];

/// Sends a packet, and waits until the archive has as many frames as were sent in all.
async fn send_packet(daemon: &Daemon, socket: &mut Socket, sent: &mut u64) {
    *sent += 1;
    socket.write_all(&PACKET).await.unwrap();
    socket.flush().await.unwrap();
    until("the frame is there", || {
        get_json(daemon.http(), "/api/v1/stats")["frames"]["archived"].as_u64() == Some(*sent)
    });
}

#[test]
fn a_listening_link_shows_the_certificate_of_the_daemon() {
    let scene = Scene::new();
    let (mut daemon, address) = with_listening_link(&scene);
    let address = format!("localhost:{}", address.port());
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

#[test]
fn peers_without_a_handshake_do_not_end_the_connection_of_a_link() {
    let scene = Scene::new();
    let (mut daemon, address) = with_listening_link(&scene);
    block_on(async {
        let (tls, mut sent) = (scene.client(None), 0);
        let mut good = shaken(address, &tls).await;
        send_packet(&daemon, &mut good, &mut sent).await;
        let peer = link_report(&daemon)["peer"].clone();
        // More than the link takes at a time. The first of them is ended.
        let mut bare: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
        bare[0].set_read_timeout(Some(LIMIT)).unwrap();
        assert_eq!(bare[0].read(&mut [0]).unwrap(), 0, "the oldest has made room");
        bare[4].write_all(b"plain bytes, which are no TLS").unwrap();
        until("the link says why", || link_report(&daemon)["trouble"].to_string().contains("speaks TLS"));
        send_packet(&daemon, &mut good, &mut sent).await;
        assert_eq!(link_report(&daemon)["peer"], peer);
        // A complete handshake replaces the peer, although others have not completed theirs.
        let mut newer = shaken(address, &tls).await;
        send_packet(&daemon, &mut newer, &mut sent).await;
        assert_ne!(link_report(&daemon)["peer"], peer);
        let gone = tokio::io::AsyncReadExt::read(&mut good, &mut [0]).await;
        assert!(gone.is_err() || gone.is_ok_and(|count| count == 0), "the newest connection wins");
    });
    daemon.stop();
}

/// Takes about as long as the limit of a handshake, which is 10 s.
#[test]
fn a_handshake_of_a_link_that_drips_is_ended_while_the_good_peer_goes_on() {
    let scene = Scene::new();
    let (mut daemon, address) = with_listening_link(&scene);
    block_on(async {
        let mut sent = 0;
        let mut good = shaken(address, &scene.client(None)).await;
        send_packet(&daemon, &mut good, &mut sent).await;
        let began = Instant::now();
        let mut dripping = TcpStream::connect(address).unwrap();
        dripping.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
        // The read is the clock: a byte follows as often as it finds nothing.
        dripping.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        loop {
            match dripping.read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                ended => {
                    assert_eq!(ended.unwrap(), 0);
                    break;
                }
            }
            assert!(began.elapsed() < LIMIT, "the handshake goes on");
            send_packet(&daemon, &mut good, &mut sent).await;
            if dripping.write_all(&[0]).is_err() {
                break;
            }
        }
        assert!(began.elapsed() > Duration::from_secs(9), "{:?}", began.elapsed());
        until("the link says why", || link_report(&daemon)["trouble"].to_string().contains("within 10s"));
        send_packet(&daemon, &mut good, &mut sent).await;
    });
    daemon.stop();
}
