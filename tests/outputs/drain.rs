//! Outputs in a drain and in a reload.

use std::io::Read as _;

use crate::software::{address_of, connect, deliver, listening, packet, read_packet};
use crate::support::{Daemon, Hello, LIMIT, Signal};

#[test]
fn a_drain_serves_readers_up_to_the_last_frame() {
    let mut daemon = Daemon::start(&listening("yamcs", "start = \"earliest\""));
    let content = |number: u16| packet(1, number, &[number as u8; 4_000]);
    deliver(&daemon, &Hello::new(1), (0..5_000).map(content));
    let mut reader = connect(&daemon, "yamcs");
    daemon.signal(Signal::TERM);
    for number in 0..5_000 {
        assert_eq!(read_packet(&mut reader), content(number));
    }
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "the end, in order");
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
}

#[test]
fn a_reload_adds_changes_and_removes_outputs_without_touching_others() {
    let (one, two) = (listening("one", ""), listening("two", ""));
    let mut daemon = Daemon::start(&(one.clone() + &two));
    let (mut first, mut second) = (connect(&daemon, "one"), connect(&daemon, "two"));
    daemon.reload(&(one.clone() + &listening("three", "start = \"earliest\"")));
    assert_eq!(second.read(&mut [0; 1]).unwrap(), 0, "an output that is removed ends its connections");
    deliver(&daemon, &Hello::new(1), [packet(1, 0, b"one")]);
    assert_eq!(read_packet(&mut first), packet(1, 0, b"one"));
    assert_eq!(read_packet(&mut connect(&daemon, "three")), packet(1, 0, b"one"));
    let old = address_of(&daemon, "one");
    daemon.reload(&listening("one", "select = { sources = [7] }"));
    assert_eq!(first.read(&mut [0; 1]).unwrap(), 0, "a changed output begins again");
    daemon.reload(&one.replace("127.0.0.1:0", &old.to_string()));
    daemon.stop();
}
