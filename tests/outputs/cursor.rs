//! An output with a cursor goes on where its reader was, across connections, kills and restarts.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::software::{
    connect, connecting, deliver, expect_silence, listening, packet, read_packet, report, with_limit,
};
use crate::support::{Client, Daemon, Hello, LIMIT, ROUTINE, Signal, wait_until};

const CURSOR: &str = "start = \"cursor\"";
/// What retention keeps: as little as it may.
const RETAINED_MIB: u64 = 20;
/// Frames that together are half as much again.
const EXPIRING: u64 = 30_000;
/// Bytes of the content of a packet.
const CONTENT_BYTES: usize = 1_000;

fn numbered(number: u64) -> Vec<u8> {
    let mut content = number.to_be_bytes().to_vec();
    content.resize(CONTENT_BYTES, number as u8);
    packet(1, number as u16, &content)
}

fn number_of(packet: &[u8]) -> u64 {
    let number = u64::from_be_bytes(packet[6..14].try_into().unwrap());
    assert!(packet == numbered(number), "packet {number} is damaged");
    number
}

/// The numbers of the whole packets up to the end of the connection, however it ends.
fn read_to_end(mut socket: TcpStream) -> Vec<u64> {
    let mut bytes = Vec::new();
    // A killed daemon may reset the connection. What its peer's kernel has acknowledged can be read before.
    drop(socket.read_to_end(&mut bytes));
    bytes.chunks_exact(numbered(0).len()).map(number_of).collect()
}

fn cursor_file(daemon: &Daemon, name: &str) -> PathBuf {
    daemon.archive_dir().parent().unwrap().join("outputs").join(name)
}

fn saved(daemon: &Daemon, name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(cursor_file(daemon, name)).expect("the cursor");
    serde_json::from_str(&text).expect("the cursor is JSON")
}

/// Waits until retention has nothing more to remove.
fn wait_for_retention(daemon: &Daemon) {
    wait_until("retention", || {
        let files = std::fs::read_dir(daemon.archive_dir()).unwrap().map(|file| file.unwrap());
        let segments =
            files.filter(|file| file.path().extension().is_some_and(|extension| extension == "seg"));
        // A file may be removed between the two calls.
        let bytes: u64 = segments.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
        if bytes <= RETAINED_MIB << 20 { Ok(()) } else { Err(format!("{bytes} bytes")) }
    });
}

#[test]
fn after_kill_9_nothing_is_missing_that_the_readers_kernel_did_not_acknowledge() {
    let software = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = connecting("archive", software.local_addr().unwrap(), CURSOR);
    let mut daemon = Daemon::start(&output);
    let (mut next, mut sent, mut repeated) = (0, 0, 0);
    for round in 0..5 {
        let accepted = with_limit(software.accept().unwrap().0);
        // Frames come while the daemon is killed.
        let is_over = Arc::new(AtomicBool::new(false));
        let (mut client, _) = Client::open(daemon.address(), &Hello::new(1).epoch(round + 1));
        let uplink = std::thread::spawn({
            let (is_over, first) = (Arc::clone(&is_over), sent);
            move || {
                let mut sequence = 0;
                while !is_over.load(Ordering::Relaxed) {
                    client.frame_within_credit(ROUTINE, sequence, &numbered(first + sequence));
                    sequence += 1;
                    if sequence % 500 == 0 {
                        client.wait_durable(ROUTINE, sequence);
                    }
                }
                client.wait_durable(ROUTINE, sequence);
                first + sequence
            }
        });
        let reading = std::thread::spawn(move || {
            let mut accepted = accepted;
            let numbers: Vec<_> =
                (0..1_500 + round * 700).map(|_| number_of(&read_packet(&mut accepted))).collect();
            is_over.store(true, Ordering::Relaxed);
            (numbers, accepted)
        });
        let (mut numbers, accepted) = reading.join().unwrap();
        sent = uplink.join().unwrap();
        daemon = daemon.kill_and_restart();
        numbers.extend(read_to_end(accepted));
        for number in numbers {
            assert!(number <= next, "{next} to {number} are missing in round {round}");
            repeated += u64::from(number < next);
            next = next.max(number + 1);
        }
    }
    let mut accepted = with_limit(software.accept().unwrap().0);
    while next < sent {
        let number = number_of(&read_packet(&mut accepted));
        assert!(number <= next, "{next} to {number} are missing at the end");
        next = next.max(number + 1);
    }
    println!("{sent} frames, {repeated} repeated");
}

#[test]
fn an_orderly_restart_repeats_nothing_and_the_cursor_moves_over_what_is_left_out() {
    let output = listening("yamcs", &format!("{CURSOR}\nselect = {{ sources = [1] }}"));
    let mut daemon = Daemon::start(&output);
    deliver(&daemon, &Hello::new(1), (0..100).map(numbered));
    let mut reader = connect(&daemon, "yamcs");
    (0..100).for_each(|number| assert_eq!(number_of(&read_packet(&mut reader)), number));
    deliver(&daemon, &Hello::new(2), (0..50).map(numbered));
    daemon.stop();
    let cursor = saved(&daemon, "yamcs");
    assert_eq!((&cursor["next_offset"], &cursor["read_from"]), (&150.into(), &150.into()));
    let daemon = daemon.restart();
    let mut reader = connect(&daemon, "yamcs");
    expect_silence(&mut reader);
    deliver(&daemon, &Hello::new(1).epoch(2), [numbered(100)]);
    assert_eq!(number_of(&read_packet(&mut reader)), 100);
    // A reader that comes again goes on, and takes the place of the connection before.
    let mut newer = connect(&daemon, "yamcs");
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "the newest connection wins");
    deliver(&daemon, &Hello::new(1).epoch(3), [numbered(101)]);
    assert_eq!(number_of(&read_packet(&mut newer)), 101);
}

#[test]
fn a_reader_that_has_taken_nothing_is_served_from_the_beginning() {
    let mut daemon = Daemon::start(&listening("yamcs", CURSOR));
    // More than all buffers on the way.
    deliver(&daemon, &Hello::new(1), (0..20_000).map(numbered));
    let reader = connect(&daemon, "yamcs");
    reader.peek(&mut [0; 1]).unwrap();
    daemon.stop();
    let received = read_to_end(reader);
    let next = u64::try_from(received.len()).unwrap();
    assert!(next < 20_000 && received.iter().copied().eq(0..next));
    let cursor = saved(&daemon, "yamcs")["next_offset"].as_u64().unwrap();
    assert!(cursor <= next, "the cursor stands at {cursor}, the reader has {next}");
    let daemon = daemon.restart();
    let mut reader = connect(&daemon, "yamcs");
    (cursor..20_000).for_each(|number| assert_eq!(number_of(&read_packet(&mut reader)), number));
}

#[test]
fn the_cursor_of_another_archive_begins_with_the_oldest_frame() {
    let mut daemon = Daemon::start(&listening("yamcs", CURSOR));
    deliver(&daemon, &Hello::new(1), (0..10).map(numbered));
    let mut reader = connect(&daemon, "yamcs");
    (0..10).for_each(|number| assert_eq!(number_of(&read_packet(&mut reader)), number));
    daemon.stop();
    std::fs::remove_dir_all(daemon.archive_dir()).unwrap();
    let daemon = daemon.restart();
    deliver(&daemon, &Hello::new(1), [numbered(77)]);
    let mut reader = connect(&daemon, "yamcs");
    daemon.wait_line("the cursor belongs to another archive");
    assert_eq!(number_of(&read_packet(&mut reader)), 77);
}

/// Retention removes what the reader has not had while it is away. The archive keeps far less than is sent.
#[test]
fn frames_that_expired_below_the_cursor_are_a_gap_that_is_counted_and_logged() {
    let retention = format!("[archive]\nretention_size = \"{RETAINED_MIB} MiB\"\n");
    let daemon = Daemon::start(&(retention + &listening("yamcs", CURSOR)));
    deliver(&daemon, &Hello::new(1), (0..10).map(numbered));
    let mut reader = connect(&daemon, "yamcs");
    (0..10).for_each(|number| assert_eq!(number_of(&read_packet(&mut reader)), number));
    drop(reader);
    // The output notices with the next frame that its reader has gone.
    deliver(&daemon, &Hello::new(1).epoch(2), (10..EXPIRING).map(numbered));
    daemon.wait_line("output disconnected output=\"yamcs\"");
    wait_for_retention(&daemon);

    let mut reader = connect(&daemon, "yamcs");
    let first = number_of(&read_packet(&mut reader));
    assert!(first > 10, "nothing has expired");
    (first + 1..EXPIRING).for_each(|number| assert_eq!(number_of(&read_packet(&mut reader)), number));
    let counts = &report(&daemon, "yamcs")["counts"];
    assert_eq!((&counts["gaps"], &counts["missing"]), (&1.into(), &(first - 10).into()), "{counts:#}");
    let line = daemon.wait_line("frames are missing");
    assert!(
        line.contains("output=\"yamcs\"") && line.contains(&format!("from_offset=10 to_offset={first}")),
        "{line}"
    );
    // Nothing is repeated, and the cursor has moved over the gap.
    deliver(&daemon, &Hello::new(1).epoch(3), [numbered(EXPIRING)]);
    assert_eq!(number_of(&read_packet(&mut reader)), EXPIRING);
    wait_until("the cursor", || match report(&daemon, "yamcs")["cursor"].as_u64() {
        Some(cursor) if cursor == EXPIRING + 1 => Ok(()),
        cursor => Err(format!("{cursor:?}")),
    });
}

#[test]
fn an_unreadable_cursor_is_named_with_the_way_out() {
    let mut daemon = Daemon::start(&listening("yamcs", CURSOR));
    deliver(&daemon, &Hello::new(1), (0..10).map(numbered));
    let mut reader = connect(&daemon, "yamcs");
    (0..10).for_each(|number| assert_eq!(number_of(&read_packet(&mut reader)), number));
    daemon.signal(Signal::TERM);
    daemon.wait_exit(LIMIT);
    let file = cursor_file(&daemon, "yamcs");
    std::fs::write(&file, "{\"log_id\": ").unwrap();
    let daemon = daemon.restart();
    let mut reader = connect(&daemon, "yamcs");
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "nothing is sent");
    let line = daemon.wait_line("is unreadable: ");
    assert!(line.contains(&*file.to_string_lossy()) && line.contains("remove it to begin"), "{line}");
    std::fs::remove_file(&file).unwrap();
    let address = crate::software::address_of(&daemon, "yamcs");
    let mut reader = with_limit(TcpStream::connect(address).unwrap());
    (0..10).for_each(|number| assert_eq!(number_of(&read_packet(&mut reader)), number));
}

#[test]
fn a_cursor_outlives_its_output_and_the_log_names_it() {
    const NAMED: &str = "the cursor of output yamcs is kept";
    let output = listening("yamcs", CURSOR);
    let mut daemon = Daemon::start(&output);
    deliver(&daemon, &Hello::new(1), (0..10).map(numbered));
    let mut reader = connect(&daemon, "yamcs");
    (0..10).for_each(|number| assert_eq!(number_of(&read_packet(&mut reader)), number));
    daemon.stop();
    assert!(!daemon.lines().iter().any(|line| line.contains(NAMED)));

    let mut daemon = daemon.restart_with("");
    let line = daemon.wait_line(NAMED);
    assert!(line.contains(&*cursor_file(&daemon, "yamcs").to_string_lossy()), "{line}");
    daemon.reload(&output);
    let mut reader = connect(&daemon, "yamcs");
    deliver(&daemon, &Hello::new(1).epoch(2), [numbered(10)]);
    assert_eq!(number_of(&read_packet(&mut reader)), 10, "the output goes on");
    daemon.stop();

    let mut daemon = daemon.restart_with(&output);
    daemon.reload("");
    daemon.wait_line(NAMED);
    daemon.stop();
}

/// A directory stands where the new cursor is written.
#[test]
fn a_cursor_that_cannot_be_saved_is_logged_once_and_once_more_when_it_is_saved_again() {
    let mut daemon = Daemon::start(&listening("yamcs", CURSOR));
    let lines = |daemon: &Daemon, text: &str| -> usize {
        daemon.lines().iter().filter(|line| line.contains(text)).count()
    };
    let obstacle = cursor_file(&daemon, ".yamcs.new");
    for round in 1..=2 {
        std::fs::create_dir_all(&obstacle).unwrap();
        // Each connection tries to save at its beginning and at its end.
        for _ in 0..3 {
            let ended = lines(&daemon, "output disconnected");
            // Reset: a reader that only closes its side may still read.
            let reader = connect(&daemon, "yamcs");
            socket2::SockRef::from(&reader).set_linger(Some(Duration::ZERO)).unwrap();
            drop(reader);
            wait_until("the end of the connection", || {
                let count = lines(&daemon, "output disconnected");
                if count > ended { Ok(()) } else { Err(format!("{count} have ended")) }
            });
        }
        let said = daemon.wait_line("the cursor cannot be saved");
        assert!(
            said.contains(" ERROR ") && said.contains("repeats all frames since the last save"),
            "{said}"
        );
        assert_eq!(lines(&daemon, "the cursor cannot be saved"), round);

        let reader = connect(&daemon, "yamcs");
        wait_until("the trouble", || match report(&daemon, "yamcs")["trouble"].as_str() {
            Some(trouble) if trouble.contains("the cursor cannot be saved") => Ok(()),
            other => Err(format!("{other:?}")),
        });
        std::fs::remove_dir(&obstacle).unwrap();
        wait_until("the save", || {
            let count = lines(&daemon, "the cursor is saved again");
            if count == round { Ok(()) } else { Err(format!("{count} lines")) }
        });
        assert_eq!(report(&daemon, "yamcs")["trouble"], serde_json::Value::Null);
        drop(reader);
    }
    daemon.stop();
}
