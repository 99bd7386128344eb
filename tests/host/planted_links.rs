//! Links that somebody has planted in the data directory: the daemon writes nothing through them.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::software;
use crate::support::command::{aggregator, expect_exit};
use crate::support::http::request;
use crate::support::{Client, Daemon, Hello, LIMIT, Launch, ROUTINE, Signal, wait_until};

const OUTPUT: &str = "[[outputs]]\nname = \"yamcs\"\nlisten = \"127.0.0.1:0\"\nstart = \"cursor\"\n";
const CATALOG: &str = "SAT 25544\n\
    1 25544U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  2927\n\
    2 25544  51.6416 247.4627 0006703 130.5360 325.0288 15.72125391563537\n";
const PRECIOUS: &[u8] = b"keep this\n";
/// Frames of this size fill a segment of the tests' defaults soon.
const PAYLOAD_BYTES: usize = 16_000;
/// More frames than a segment holds.
const SEGMENT_FRAMES: u64 = 600;

/// Files of somebody else. No test may change them.
struct Victims {
    dir: TempDir,
    planted: Vec<(PathBuf, Vec<u8>)>,
}

impl Victims {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), planted: Vec::new() }
    }

    /// Plants a link at `path` to a file with `content`.
    fn plant(&mut self, path: &Path, content: &[u8]) {
        let victim = self.dir.path().join(self.planted.len().to_string());
        std::fs::write(&victim, content).unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(std::fs::remove_file(path));
        symlink(&victim, path).unwrap();
        self.planted.push((victim, content.to_vec()));
    }

    /// Plants a link at `path` to a file that does not exist.
    fn plant_dangling(&self, path: &Path) {
        drop(std::fs::remove_file(path));
        symlink(self.dir.path().join("missing"), path).unwrap();
    }

    fn assert_unchanged(&self) {
        for (victim, content) in &self.planted {
            assert!(std::fs::read(victim).unwrap() == *content, "{} has changed", victim.display());
        }
        let names = std::fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(names, self.planted.len(), "a file was created in the other directory");
    }
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display())).is_symlink()
}

/// Sends `count` frames of an epoch of their own. Returns when all are durable.
fn send(daemon: &Daemon, epoch: u64, count: u64) {
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1).epoch(epoch));
    for sequence in 0..count {
        client.frame_within_credit(ROUTINE, sequence, &[sequence as u8; PAYLOAD_BYTES]);
    }
    assert_eq!(client.bye([0, count])[ROUTINE], count);
}

/// Waits until the archive contains the regular file `name`.
fn wait_for_file(daemon: &Daemon, name: &str) {
    let path = daemon.archive_dir().join(name);
    wait_until(name, || match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(()),
        found => Err(format!("{found:?}")),
    });
}

fn cursor_file(daemon: &Daemon) -> PathBuf {
    daemon.home().join("data/outputs/yamcs")
}

#[test]
fn a_cursor_is_saved_through_no_link() {
    let mut daemon = Daemon::start(OUTPUT);
    daemon.stop();
    let file = cursor_file(&daemon);
    let mut victims = Victims::new();
    victims.plant(&file.with_file_name(".yamcs.new"), PRECIOUS);
    let mut daemon = daemon.restart();
    send(&daemon, 1, 3);
    let mut reader = software::connect(&daemon, "yamcs");
    software::read_exactly(&mut reader, 3 * PAYLOAD_BYTES);
    daemon.stop();
    victims.assert_unchanged();
    let cursor = std::fs::read(&file).unwrap();
    assert!(!is_link(&file), "the cursor is a file of the daemon");

    // A link to a valid cursor is read, and replaced by the next cursor.
    victims.plant(&file, &cursor);
    let mut daemon = daemon.restart();
    let mut reader = software::connect(&daemon, "yamcs");
    send(&daemon, 2, 1);
    software::read_exactly(&mut reader, PAYLOAD_BYTES);
    daemon.stop();
    assert!(!is_link(&file) && std::fs::read(&file).unwrap() != cursor);
    victims.assert_unchanged();
}

#[test]
fn what_is_no_cursor_is_refused_by_name_and_left_alone() {
    let mut daemon = Daemon::start(OUTPUT);
    daemon.stop();
    let file = cursor_file(&daemon);
    let mut victims = Victims::new();
    victims.plant(&file, PRECIOUS);
    let refused = |daemon: &Daemon| {
        let mut reader = software::connect(daemon, "yamcs");
        let line = daemon.wait_line(" is unreadable: ");
        assert!(line.contains(&*file.to_string_lossy()), "{line}");
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "nothing is sent");
    };
    let mut daemon = daemon.restart();
    refused(&daemon);
    daemon.stop();
    victims.assert_unchanged();
    // Each of these would be read without an end.
    for endless in ["/dev/zero", "fifo"] {
        std::fs::remove_file(&file).unwrap();
        match endless {
            "fifo" => rustix::fs::mkfifoat(rustix::fs::CWD, &file, 0o600.into()).unwrap(),
            device => symlink(device, &file).unwrap(),
        }
        daemon = daemon.restart();
        refused(&daemon);
        daemon.stop();
    }
}

#[test]
fn a_catalog_and_the_ready_file_replace_links() {
    let dir = tempfile::tempdir().unwrap();
    let (kept, ready) = (dir.path().join("data/catalog.tle"), dir.path().join("ready.json"));
    let mut victims = Victims::new();
    victims.plant(&kept, PRECIOUS);
    victims.plant(&ready, PRECIOUS);
    let (victim, ready_link) = (std::fs::read_link(&ready).unwrap(), ready.clone());
    // The harness removes the ready file before each start.
    let prepare = move |_: &mut std::process::Command| symlink(&victim, &ready_link).unwrap();
    let mut daemon = Daemon::launch_at(dir, "", &Launch { through: &[], prepare: &prepare });
    let line = daemon.wait_line("the stored catalog of an operator is not used");
    assert!(line.contains(&*kept.to_string_lossy()), "{line}");
    wait_until("the ready file", || if is_link(&ready) { Err("a link".into()) } else { Ok(()) });
    let answer = request(daemon.http(), "PUT", "/api/v1/catalog", &[], CATALOG.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!is_link(&kept) && std::fs::read(&kept).unwrap() == CATALOG.as_bytes());
    daemon.stop();
    victims.assert_unchanged();
}

#[test]
fn the_archive_writes_its_reserve_and_its_indexes_through_no_link() {
    let mut daemon = Daemon::start("");
    daemon.stop();
    let reserve = daemon.archive_dir().join("reserve");
    let mut victims = Victims::new();
    for content in [Some(PRECIOUS), Some(b"".as_slice()), Some(&[0; 8_192]), None] {
        match content {
            Some(content) => victims.plant(&reserve, content),
            None => victims.plant_dangling(&reserve),
        }
        daemon = daemon.restart();
        assert!(!is_link(&reserve), "the reserve is a file of the daemon");
        daemon.stop();
    }
    let mut daemon = daemon.restart();
    let base = format!("{:020}", 0);
    victims.plant(&daemon.archive_dir().join(format!("{base}.idx.tmp")), PRECIOUS);
    victims.plant(&daemon.archive_dir().join(format!("{base}.idx")), PRECIOUS);
    send(&daemon, 1, SEGMENT_FRAMES);
    wait_for_file(&daemon, &format!("{base}.idx"));
    daemon.stop();
    victims.assert_unchanged();
    expect_exit(aggregator(["archive", "verify"]).arg(daemon.archive_dir()), 0);
}

#[test]
fn exports_write_through_no_link() {
    let export = "[archive]\nexport = \"exports\"\nexport_format = \"csv\"\n";
    let mut daemon = Daemon::start("");
    send(&daemon, 1, SEGMENT_FRAMES);
    wait_for_file(&daemon, &format!("{:020}.idx", 0));
    daemon.stop();
    let (mut victims, base) = (Victims::new(), format!("{:020}", 0));
    let mark = daemon.archive_dir().join(format!(".{base}.exported.tmp"));
    victims.plant(&mark, PRECIOUS);
    victims.plant(&daemon.archive_dir().join(format!("{base}.exported")), PRECIOUS);
    let exports = daemon.home().join("exports");
    victims.plant(&exports.join(".manifest.json.tmp"), PRECIOUS);
    victims.plant(&exports.join("manifest.json"), b"{}");
    let mut daemon = daemon.restart_with(export);
    wait_for_file(&daemon, &format!("{base}.exported"));
    daemon.stop();
    assert!(std::fs::read_dir(&exports).unwrap().count() > 0);
    victims.assert_unchanged();
}

#[test]
fn a_link_with_the_name_of_a_segment_is_no_segment() {
    let mut daemon = Daemon::start("");
    send(&daemon, 1, 3);
    daemon.stop();
    let stray = daemon.archive_dir().join(format!("{:020}.seg", 3));
    let mut victims = Victims::new();
    victims.plant(&stray, PRECIOUS);
    let mut daemon = daemon.restart();
    let line = daemon.wait_line("nothing in the newest segment can be read");
    assert!(line.contains(&*stray.to_string_lossy()), "{line}");
    send(&daemon, 2, 3);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
    victims.assert_unchanged();
}

/// Recovery copies what it can keep to a new file, and the rest to `lost/`.
#[test]
fn recovery_writes_through_no_link() {
    let mut daemon = Daemon::start("");
    send(&daemon, 1, 3);
    daemon.stop();
    let archive = daemon.archive_dir();
    let segment = archive.join(format!("{:020}.seg", 0));
    OpenOptions::new().append(true).open(&segment).unwrap().write_all(&[7; 5_000]).unwrap();
    let torn = std::fs::read(&segment).unwrap();
    let mut daemon = daemon.restart();
    daemon.stop();
    let lost: Vec<_> =
        std::fs::read_dir(archive.join("lost")).unwrap().map(|it| it.unwrap().path()).collect();
    let [lost] = &lost[..] else { panic!("one torn tail was kept: {lost:?}") };

    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::create_dir(&archive).unwrap();
    std::fs::write(&segment, torn).unwrap();
    let mut victims = Victims::new();
    victims.plant(lost, PRECIOUS);
    victims.plant(&archive.join("recovery.tmp"), PRECIOUS);
    let mut daemon = daemon.restart();
    assert!(!is_link(lost) && std::fs::read(lost).unwrap() != PRECIOUS, "the torn tail was kept");
    send(&daemon, 2, 1);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_exit(LIMIT).code, Some(0));
    victims.assert_unchanged();
    assert_eq!(daemon.archived().len(), 4);
}
