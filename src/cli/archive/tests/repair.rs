//! `archive repair` on the real disk.

use std::path::Path;

use super::super::CommandError;
use super::support::{archive, origin, routine, start};
use archive::RepairError;

/// Runs `archive repair` and returns its result and output.
fn run(dir: &Path, out: &Path) -> (Result<bool, CommandError>, String) {
    archive(&format!("repair --out {}", out.display()), dir)
}

/// Runs `archive verify`; returns whether it found no damage, and its output.
fn verify(dir: &Path) -> (bool, String) {
    let (result, text) = archive("verify", dir);
    (result.unwrap(), text)
}

#[tokio::test]
async fn the_command_says_what_it_did_and_refuses_what_it_must() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let dir = data.join("archive");
    let mut running = start(&dir);
    for sequence in 0..3 {
        running.commit(vec![routine(&origin(1, 1), sequence)]).await;
    }
    let out = temp.path().join("new/archive");
    let (result, _) = run(&data, &out);
    assert!(matches!(&result, Err(CommandError::Repair(RepairError::Locked(_)))), "{result:?}");
    assert!(result.unwrap_err().to_string().contains("stop the daemon first"));
    assert!(!out.exists());
    let before = running.recovery.clone();
    running.finish().await;

    let inside = dir.join("repaired/archive");
    assert!(matches!(run(&data, &inside).0, Err(CommandError::Repair(RepairError::Inside(_)))));
    assert!(!inside.exists());
    let full = temp.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("mine"), "x").unwrap();
    let (result, _) = run(&data, &full);
    assert!(result.unwrap_err().to_string().contains("full is not empty"));

    let segment = dir.join("00000000000000000000.seg");
    let mut content = std::fs::read(&segment).unwrap();
    let payload = routine(&origin(1, 1), 1).payload;
    let at = content.windows(payload.len()).position(|bytes| bytes == payload).unwrap();
    content[at] ^= 1;
    std::fs::write(&segment, content).unwrap();
    let (result, text) = run(&data, &out);
    result.unwrap();
    let (sound, verified) = verify(&data);
    assert!(!sound && verified.contains("offsets 1..2 lost") && !verified.contains("hole"), "{verified}");
    let (sound, verified) = verify(&out);
    assert!(sound, "{verified}");
    assert!(verified.starts_with("hole: offsets 1..2 lost, recorded by recovery or repair\n"), "{verified}");
    assert!(
        verified.ends_with("1 offsets are lost in 1 recorded holes\nok: 2 frames, next offset 3\n"),
        "{verified}"
    );
    assert!(text.starts_with(&format!("lost: offsets 1..2: {} bytes ", segment.display())), "{text}");
    assert!(text.contains("copied: 2 frames of 1 streams in 1 segments"), "{text}");
    assert!(text.ends_with("offsets 0..3; 1 offsets lost in 1 places\n"), "{text}");
    let running = start(&out);
    assert_eq!((running.recovery.log_id, running.recovery.next_offset), (before.log_id, 3));
    running.finish().await;
}
