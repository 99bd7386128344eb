//! The archive commands on faulty archives: interrupted repairs, readers that go away, segments under wrong names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use archive::{Commit, Config, DiskStorage, open};
use bytes::Bytes;

use crate::support::command::{aggregator, expect_exit, output};
use crate::support::mount::Tmpfs;
use crate::support::{Daemon, not_tested};

const FRAMES: u64 = 4_000;

/// Makes an archive of [`FRAMES`] frames in `dir`. Returns its segments, at least four. The first is smaller than the
/// next.
fn archive(dir: &Path) -> Vec<PathBuf> {
    let stream = frame::StreamKey {
        source_id: 1,
        source_kind: frame::SourceKind::LiveUplink,
        station: frame::Station::default(),
    };
    let origin = Arc::new(frame::Origin { stream, epoch: 1 });
    let frame = |sequence| frame::Frame {
        source_id: 1,
        source_kind: frame::SourceKind::LiveUplink,
        priority: frame::FramePriority::Routine,
        flags: frame::FrameFlags::default(),
        sequence,
        ert_ns: 0,
        received_ns: 1_800_000_000_000_000_000 + sequence as i64,
        origin: Arc::clone(&origin),
        payload: Bytes::from(vec![sequence as u8; 200]),
    };
    let config =
        Config { segment_bytes: 192 << 10, reserve_bytes: 128 << 10, ..Config::new(dir.to_owned(), 16, 256) };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (appender, archive, _) = open(config, DiskStorage, |_: &Commit<'_>| {}).unwrap();
        let (mut watermark, mut next) = (archive.watermark(), 0);
        while next < FRAMES {
            // Small commits come first, so that the first segment is full after fewer frames.
            let count = if next < 800 { 8 } else { 64 }.min(FRAMES - next);
            for batch in frame::batches_of((next..next + count).map(frame)) {
                appender.append(batch).await.unwrap();
            }
            next += count;
            watermark.wait_for(|offset| *offset == next).await.unwrap();
        }
        drop(appender);
        archive.finish().await.unwrap();
    });
    let mut segments: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    assert!(segments.len() >= 4, "{segments:?}");
    segments
}

fn base(segment: &Path) -> u64 {
    segment.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn tool(command: &str, dir: &Path) -> Command {
    let mut tool = aggregator(["archive", command]);
    tool.arg(dir);
    tool
}

fn repair(dir: &Path, out: &Path) -> Command {
    let mut repair = tool("repair", dir);
    repair.arg("--out").arg(out);
    repair
}

fn export(dir: &Path, out: &Path) -> Command {
    let mut export = tool("export", dir);
    export.args(["--format", "jsonl", "--out"]).arg(out);
    export
}

/// Asserts that every command refuses the archive `<home>/data/archive`, because a repair left it incomplete.
fn assert_refused(home: &Path, sound: &Path) {
    let dir = home.join("data/archive");
    let config = home.join("aggregator.toml");
    fs::write(&config, format!("data_dir = {:?}\n{}", home.join("data"), crate::support::daemon::DEFAULTS))
        .unwrap();
    let mut daemon = aggregator(["run", "--config"]);
    daemon.arg(config);
    for mut command in [
        tool("verify", &dir),
        tool("cat", &dir),
        tool("ls", &home.join("data")),
        export(&dir, &home.join("export")),
        repair(&dir, &home.join("second")),
        repair(sound, &dir),
        daemon,
    ] {
        let (_, said) = expect_exit(&mut command, 1);
        assert!(
            said.contains("left the file repair.incomplete; remove this directory"),
            "{command:?}: {said}"
        );
        assert!(said.contains(&dir.display().to_string()), "{command:?}: {said}");
    }
}

#[test]
fn a_repair_that_is_killed_or_runs_out_of_space_leaves_no_usable_archive() {
    let home = tempfile::tempdir().unwrap();
    let sound = home.path().join("sound");
    let segments = archive(&sound);
    let sizes: Vec<_> = segments.iter().map(|path| path.metadata().unwrap().len()).collect();
    let dir = home.path().join("data/archive");
    // The kernel kills the repair when it writes beyond this size. The first segment is complete by then.
    let limit = sizes[0] + 512;
    assert!(sizes[1..].iter().any(|size| *size > limit), "{sizes:?}");
    let repair_command = repair(&sound, &dir);
    let mut killed = Command::new("prlimit");
    killed.arg(format!("--fsize={limit}")).arg("--core=0").arg(repair_command.get_program());
    let ran = output(killed.args(repair_command.get_args()));
    assert_eq!(ran.status.signal(), Some(rustix::process::Signal::XFSZ.as_raw()), "{ran:?}");
    assert!(dir.join(segments[0].file_name().unwrap()).exists(), "it was killed in the middle");
    assert_refused(home.path(), &sound);
    fs::remove_dir_all(&dir).unwrap();
    let (said, _) = expect_exit(&mut repair(&sound, &dir), 0);
    assert!(said.contains("copied: 4000 frames"), "{said}");
    assert!(!dir.join("repair.incomplete").exists());
    expect_exit(&mut tool("verify", &dir), 0);
    fs::remove_dir_all(&dir).unwrap();

    let Some(disk) = Tmpfs::mount(512 << 10) else {
        return not_tested(format_args!("a repair without space: a tmpfs cannot be mounted"));
    };
    std::os::unix::fs::symlink(disk.path(), &dir).unwrap();
    let (_, said) = expect_exit(&mut repair(&sound, &dir), 1);
    assert!(said.contains("No space left") && said.contains("is incomplete: remove it"), "{said}");
    assert_refused(home.path(), &sound);
}

/// Runs `command` with a closed pipe as stdout. Returns its exit code and its stderr.
fn unread(command: &mut Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let ran = ran.wait_with_output().unwrap();
    (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

#[test]
fn a_closed_stdout_changes_neither_the_work_nor_the_exit_code() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("archive");
    let segments = archive(&dir);
    let daemon = Daemon::start("");
    let url = format!("http://{}", daemon.http());
    for mut command in [
        tool("verify", &dir),
        tool("ls", &dir),
        export(&dir, &home.path().join("export")),
        repair(&dir, &home.path().join("copy")),
        aggregator(["check"]),
        aggregator(["top", "--once", "--url", &url]),
    ] {
        let (code, said) = unread(&mut command);
        assert_eq!(code, Some(0), "{command:?}: {said}");
        assert!(!said.contains("Broken pipe"), "{command:?}: {said}");
    }
    expect_exit(&mut tool("verify", &home.path().join("copy")), 0);
    assert_eq!(unread(&mut tool("cat", &dir)), (Some(0), String::new()));
    let mut image = fs::read(&segments[1]).unwrap();
    let middle = image.len() / 2;
    image[middle] ^= 1;
    fs::write(&segments[1], image).unwrap();
    for mut command in [tool("verify", &dir), export(&dir, &home.path().join("damaged"))] {
        assert_eq!(unread(&mut command).0, Some(1), "{command:?}");
    }
}

/// Runs `cat`. Returns the number of frames written, the exit code and stderr.
fn cat(dir: &Path) -> (usize, Option<i32>, String) {
    let ran = output(&mut tool("cat", dir));
    let lines = ran.stdout.iter().filter(|byte| **byte == b'\n').count();
    (lines, ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

/// Exports `dir`. Returns the number of rows, the exit code and stderr.
fn exported(dir: &Path) -> (usize, Option<i32>, String) {
    let out = tempfile::tempdir().unwrap();
    let ran = output(&mut export(dir, &out.path().join("out")));
    let days = fs::read_dir(out.path().join("out")).unwrap().map(|entry| entry.unwrap().path());
    let files = days.filter(|path| path.is_dir()).flat_map(|day| fs::read_dir(day).unwrap());
    let is_rows = |path: &PathBuf| path.extension() == Some(OsStr::new("jsonl"));
    let files = files.map(|entry| entry.unwrap().path()).filter(is_rows);
    let rows = files.map(|path| fs::read_to_string(path).unwrap().lines().count()).sum();
    (rows, ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

#[test]
fn a_copy_of_a_segment_under_another_name_is_reported_and_hides_nothing() {
    for (copied, name) in [(0, 40), (0, 45), (1, 45), (0, 1_000), (2, 3_990)] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data/archive");
        fs::create_dir_all(&dir).unwrap();
        let segments = archive(&dir);
        let duplicate = dir.join(format!("{name:020}.seg"));
        assert!(!duplicate.exists());
        fs::copy(&segments[copied], &duplicate).unwrap();
        let first = base(&segments[copied]);
        let expected = format!(
            "misnamed: {} begins at offset {first} by its header and at {name} by its name, and was not read; \
             {first:020}.seg has that offset: move this one out of the archive",
            duplicate.display()
        );
        for (what, (frames, code, said)) in [("cat", cat(&dir)), ("export", exported(&dir))] {
            assert_eq!((frames as u64, code), (FRAMES, Some(0)), "{what} {name}: {said}");
            assert!(said.contains(&expected), "{what}: {said}");
        }
        let (said, _) = expect_exit(&mut tool("verify", &dir), 1);
        assert!(said.contains(&expected) && said.contains("0 frames lost, 4000 frames read"), "{said}");
        let copy = home.path().join("copy");
        let (said, _) = expect_exit(&mut repair(&dir, &copy), 0);
        assert!(said.contains("copied: 4000 frames") && said.contains("; 0 offsets lost"), "{said}");
        if duplicate > segments[segments.len() - 1] {
            continue;
        }
        let daemon = Daemon::start_at(home, "");
        let line = daemon.wait_line("this segment is not read");
        assert!(line.contains(&duplicate.display().to_string()), "{line}");
        assert_eq!(cat(&dir).0 as u64, FRAMES);
    }
}

#[test]
fn swapped_segments_are_reported_as_present_and_repaired() {
    for (one, other) in [(0, 1), (1, 2)] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("archive");
        let segments = archive(&dir);
        let (from, to) = (base(&segments[one]), base(&segments[other + 1]));
        let aside = dir.join("aside");
        fs::rename(&segments[one], &aside).unwrap();
        fs::rename(&segments[other], &segments[one]).unwrap();
        fs::rename(&aside, &segments[other]).unwrap();
        let hidden = to - from;
        let (said, _) = expect_exit(&mut tool("verify", &dir), 1);
        for part in [
            format!(
                "{hidden} offsets are there under wrong names, and count as lost here: archive repair recovers them"
            ),
            format!("{hidden} frames lost, {} frames read", FRAMES - hidden),
            format!("misnamed: {} begins at offset {from} by its header", segments[other].display()),
        ] {
            assert!(said.contains(&part), "{part:?} is not in {said}");
        }
        for (what, (frames, code, said)) in [("cat", cat(&dir)), ("export", exported(&dir))] {
            assert_eq!((frames as u64, code), (FRAMES - hidden, Some(1)), "{what}: {said}");
            assert!(said.contains("archive repair recovers its frames"), "{what}: {said}");
            assert!(said.contains(&format!("{hidden} offsets are damaged and missing")), "{what}: {said}");
        }
        let copy = home.path().join("copy");
        expect_exit(&mut repair(&dir, &copy), 0);
        assert_eq!(cat(&copy), (FRAMES as usize, Some(0), String::new()));
    }
}
