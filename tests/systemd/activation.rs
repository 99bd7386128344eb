//! Sockets that a service manager passes to the daemon: passed by systemd's own tool, and sockets that the daemon
//! refuses.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;

use command_fds::{CommandFdExt as _, FdMapping};

use super::has;
use super::restart::THROUGH;
use crate::support::command::{aggregator, expect_exit};
use crate::support::{Client, Daemon, Hello, Launch, Port, ROUTINE, connect_when_up};

#[test]
fn a_client_that_connects_before_the_daemon_is_up_is_served() {
    if !has("systemd-socket-activate", "activation by systemd's own tool") {
        return;
    }
    let port = Port::hold();
    let address = port.address();
    let listen = address.to_string();
    // The tool starts the daemon on the first connection, and not before.
    let early = std::thread::spawn(move || connect_when_up(address));
    let through = ["systemd-socket-activate", "-l", &listen, "--fdname=ingest"];
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::launch_at(dir, "", &Launch { through: &through, prepare: &|_| {} });
    let mut client = Client::over(early.join().unwrap());
    assert_eq!(daemon.address(), address);
    let line = daemon.wait_line("ingest.listen: the socket was handed over");
    assert!(line.contains(&listen) && line.contains("instead of 127.0.0.1:0"), "{line}");
    client.send(&Hello::new(1).bytes());
    client.expect_welcome();
    client.expect_first_acks();
    client.deliver(ROUTINE, 0, b"frame");
    // The daemon binds the other addresses itself, as usual.
    TcpStream::connect(daemon.feed()).unwrap();
    drop(client);
    assert_eq!(daemon.stop().archived, 1);
}

/// Runs a daemon that receives `sockets` with these names and must not start. Returns its last lines.
fn refused(sockets: Vec<OwnedFd>, names: &str) -> String {
    let count = sockets.len().to_string();
    refused_count(sockets, names, &count)
}

/// Like [`refused`], with `count` as `LISTEN_FDS`.
fn refused_count(sockets: Vec<OwnedFd>, names: &str, count: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aggregator.toml");
    std::fs::write(&path, format!("data_dir = {:?}", dir.path().join("data"))).unwrap();
    let run = aggregator(["run", "--config"]);
    let mut through = Command::new(THROUGH[0]);
    through.args(&THROUGH[1..]).arg(run.get_program()).args(run.get_args()).arg(&path);
    through.env("LISTEN_FDS", count).env("LISTEN_FDNAMES", names);
    let mut run = through;
    let mapping = |(index, parent_fd)| FdMapping { parent_fd, child_fd: 3 + index as i32 };
    run.fd_mappings(sockets.into_iter().enumerate().map(mapping).collect()).unwrap();
    let (_, err) = expect_exit(&mut run, 1);
    assert!(!dir.path().join("data").exists(), "it began its work");
    err
}

#[test]
fn sockets_of_another_process_are_ignored() {
    for pid in [None, Some("1")] {
        let prepare = |command: &mut Command| {
            command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "ingest");
            if let Some(pid) = pid {
                command.env("LISTEN_PID", pid);
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = Daemon::launch_at(dir, "", &Launch { through: &[], prepare: &prepare });
        daemon.wait_line("LISTEN_FDS is ignored");
        Client::open(daemon.address(), &Hello::new(1)).0.deliver(ROUTINE, 0, b"frame");
        daemon.stop();
    }
}

#[test]
fn an_absurd_number_of_sockets_is_refused_with_a_remedy() {
    for count in ["999999999999", "-1", "many"] {
        let said = refused_count(vec![listener("127.0.0.1:0")], "ingest", count);
        assert!(said.contains(&format!("LISTEN_FDS is {count:?}")) && said.contains("unset"), "{said}");
    }
}

fn listener(address: &str) -> OwnedFd {
    TcpListener::bind(address).unwrap().into()
}

#[test]
fn invalid_sockets_are_refused_with_a_remedy() {
    let unknown = refused(vec![listener("127.0.0.1:0")], "telemetry-aggregator.socket");
    assert!(unknown.contains("FileDescriptorName="), "{unknown}");
    let udp: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
    let udp = refused(vec![udp], "ingest");
    assert!(udp.contains("\"ingest\"") && udp.contains("no listening TCP socket"), "{udp}");
    let twice = refused(vec![listener("127.0.0.1:0"), listener("127.0.0.1:0")], "feed:feed");
    assert!(twice.contains("two sockets named \"feed\""), "{twice}");
}

/// The file says loopback; the socket is open to other hosts. A reload must not open it to everyone, nor call it encrypted.
#[test]
fn a_reload_is_refused_where_it_does_not_fit_the_sockets() {
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let prepare = |command: &mut Command| {
        command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "ingest");
        let parent_fd = socket.try_clone().unwrap().into();
        command.fd_mappings(vec![FdMapping { parent_fd, child_fd: 3 }]).unwrap();
    };
    let launch = Launch { through: &THROUGH, prepare: &prepare };
    let token = "[[ingest.tokens]]\ntoken = \"a token for the test\"\n";
    let mut daemon = Daemon::launch_at(tempfile::tempdir().unwrap(), token, &launch);
    for config in ["", &format!("require_tls = true\n{token}")] {
        let said = daemon.reload(config);
        let is_named = |line: &String| {
            line.contains(&format!("0.0.0.0:{port} can be reached from other hosts"))
                && line.contains("the socket that was handed over has this address")
        };
        assert!(said.iter().any(is_named), "{said:#?}");
        assert!(said.last().unwrap().contains("in force has not changed"), "{said:#?}");
    }
    let other = "[[ingest.tokens]]\ntoken = \"another token for the test\"\n";
    let said = daemon.reload(other);
    assert!(said.last().unwrap().contains("ingest.tokens (1 added, 1 removed)"), "{said:#?}");
    daemon.stop();
}

#[test]
fn a_handed_over_socket_beyond_loopback_needs_tokens() {
    let exposed = refused(vec![listener("0.0.0.0:0")], "ingest");
    assert!(exposed.contains("0.0.0.0:") && exposed.contains("[[ingest.tokens]]"), "{exposed}");
}
