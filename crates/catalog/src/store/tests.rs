//! The current version, and the version after a restart.

use super::*;
use crate::sample::text_of;
use std::fs;

/// A data directory and a configured file that lies elsewhere.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(scene.data()).unwrap();
        scene
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn kept(&self) -> PathBuf {
        self.data().join(KEPT_NAME)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("fleet.tle")
    }

    fn open(&self) -> Result<CatalogStore, CatalogError> {
        CatalogStore::open(&self.data(), Some(&self.file()))
    }
}

fn write(path: &Path, text: &str, changed_at_ms: u64) {
    fs::write(path, text).unwrap();
    let changed_at = SystemTime::UNIX_EPOCH + Duration::from_millis(changed_at_ms);
    File::options().write(true).open(path).unwrap().set_modified(changed_at).unwrap();
}

fn refusal(result: Result<Arc<Catalog>, CatalogError>) -> String {
    result.expect_err("it was taken").to_string()
}

#[test]
fn without_a_file_the_catalog_is_version_0() {
    let scene = Scene::new();
    let store = CatalogStore::open(&scene.data(), None).unwrap();
    assert!(store.current().is_empty());
    assert!(store.current().sets().is_empty());
}

#[test]
fn a_given_catalog_survives_a_restart_with_its_version() {
    let scene = Scene::new();
    let store = CatalogStore::open(&scene.data(), None).unwrap();
    let mut news = store.subscribe();
    let before = unix_ms(SystemTime::now());
    let first = store.replace(text_of(1)).unwrap();
    assert!(first.version() >= before);
    assert!(news.has_changed().unwrap());
    assert_eq!(news.borrow_and_update().version(), first.version());
    // The changes follow so fast that the clock alone gives equal versions.
    let second = store.replace(text_of(2)).unwrap();
    let third = store.replace(text_of(3)).unwrap();
    assert!(first.version() < second.version() && second.version() < third.version());
    let again = CatalogStore::open(&scene.data(), None).unwrap().current();
    assert_eq!((again.version(), again.text()), (third.version(), third.text()));
    let names: Vec<_> = fs::read_dir(scene.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [KEPT_NAME], "nothing else is left");
}

#[test]
fn the_same_text_is_no_new_version() {
    let scene = Scene::new();
    let store = CatalogStore::open(&scene.data(), None).unwrap();
    let given = store.replace(text_of(1)).unwrap();
    let mut news = store.subscribe();
    news.mark_unchanged();
    assert_eq!(store.replace(text_of(1)).unwrap().version(), given.version());
    assert!(!news.has_changed().unwrap());
}

#[test]
fn a_text_with_one_bad_set_changes_nothing() {
    let scene = Scene::new();
    let store = CatalogStore::open(&scene.data(), None).unwrap();
    let given = store.replace(text_of(2)).unwrap();
    let bad = format!("{}rubbish\n", text_of(3));
    let error = "line 10: the text ends, but line 1 of the element set is due (rubbish)";
    assert_eq!(refusal(store.replace(bad)), error);
    assert_eq!(store.current().version(), given.version());
    assert_eq!(fs::read_to_string(scene.kept()).unwrap(), text_of(2));
}

#[test]
fn a_catalog_that_cannot_be_stored_is_not_used() {
    let scene = Scene::new();
    let store = CatalogStore::open(&scene.data(), None).unwrap();
    fs::remove_dir(scene.data()).unwrap();
    fs::write(scene.data(), "in the way").unwrap();
    let error = refusal(store.replace(text_of(1)));
    assert!(error.starts_with("cannot keep the catalog in "), "{error}");
    assert!(store.current().is_empty());
}

#[test]
fn the_start_uses_the_newer_of_both_files() {
    let scene = Scene::new();
    write(&scene.file(), &text_of(1), 1_000);
    assert_eq!(scene.open().unwrap().current().version(), 1_000);
    write(&scene.kept(), &text_of(2), 2_000);
    assert_eq!(scene.open().unwrap().current().version(), 2_000);
    write(&scene.file(), &text_of(3), 3_000);
    let current = scene.open().unwrap().current();
    assert_eq!((current.version(), current.sets().len()), (3_000, 3));
}

#[test]
fn a_bad_file_fails_the_start_with_its_path_and_line() {
    let scene = Scene::new();
    let refusal = |scene: &Scene| scene.open().unwrap_err().to_string();
    let path = scene.file();
    assert!(refusal(&scene).starts_with(&format!("cannot read the catalog {}: ", path.display())));
    write(&path, "ISS\n", 1_000);
    write(&scene.kept(), &text_of(1), 2_000);
    let error = "line 1: the text ends, but line 1 of the element set is due (ISS)";
    assert_eq!(refusal(&scene), format!("{}, {error}", path.display()));
}

#[test]
fn a_bad_stored_file_is_ignored() {
    let scene = Scene::new();
    write(&scene.kept(), "rubbish", 2_000);
    write(&scene.file(), &text_of(1), 1_000);
    assert_eq!(scene.open().unwrap().current().version(), 1_000);
    assert!(CatalogStore::open(&scene.data(), None).unwrap().current().is_empty());
}

#[test]
fn a_changed_file_is_a_new_version_at_a_reload_even_with_an_older_time() {
    let scene = Scene::new();
    let path = scene.file();
    write(&path, &text_of(1), 5_000);
    let store = scene.open().unwrap();
    write(&path, &text_of(1), 6_000);
    assert_eq!(store.reload_file(&path).unwrap().version(), 5_000, "the same text");
    write(&path, &text_of(2), 7_000);
    assert_eq!(store.reload_file(&path).unwrap().version(), 7_000);
    // The operator restores an older file.
    write(&path, &text_of(1), 3_000);
    assert_eq!(store.reload_file(&path).unwrap().version(), 7_001);
    assert_eq!(store.current().sets().len(), 1);
    assert!(!scene.kept().exists(), "the file is kept where it is");
}

#[test]
fn a_reload_keeps_a_newer_catalog_of_an_operator() {
    let scene = Scene::new();
    let path = scene.file();
    write(&path, &text_of(1), 1_000);
    let store = scene.open().unwrap();
    let given = store.replace(text_of(2)).unwrap();
    assert_eq!(store.reload_file(&path).unwrap().version(), given.version());
    write(&path, &text_of(3), given.version() + 10);
    assert_eq!(store.reload_file(&path).unwrap().version(), given.version() + 10);
}

#[test]
fn a_bad_file_at_a_reload_changes_nothing() {
    let scene = Scene::new();
    let path = scene.file();
    write(&path, &text_of(1), 1_000);
    let store = scene.open().unwrap();
    write(&path, "rubbish", 2_000);
    assert!(refusal(store.reload_file(&path)).starts_with(&format!("{}, line 1: ", path.display())));
    assert_eq!(store.current().version(), 1_000);
}
