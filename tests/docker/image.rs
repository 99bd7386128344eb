//! The image: how it is built, and what is in it.

use std::sync::LazyLock;

use crate::checkout::{Checkout, image_name, stage_name};
use crate::container::Created;
use crate::engine::{base_image, docker, engine};
use crate::readme_command;
use crate::support::not_tested;

/// Largest size of a program without its symbols.
const PROGRAM_BYTES_MAX: u64 = 24 << 20;
/// Largest size of what the image adds to its base.
const ADDED_BYTES_MAX: u64 = 32 << 20;

/// The image of this repository, built once. Without an engine this reports what is not tested and returns `None`.
pub fn image(what: &str) -> Option<String> {
    static BUILT: LazyLock<Result<(), String>> = LazyLock::new(build);
    match &*BUILT {
        Ok(()) => Some(image_name()),
        Err(error) => {
            not_tested(format_args!("docker: {what}: {error}"));
            None
        }
    }
}

/// A checkout whose image is built.
pub fn built_checkout(what: &str) -> Option<Checkout> {
    image(what)?;
    Some(Checkout::new().expect("the base images are there"))
}

/// Builds as the README says, from a checkout that only its owner may read.
fn build() -> Result<(), String> {
    engine()?;
    let checkout = Checkout::new()?;
    checkout.build(&readme_command("docker compose build"), &image_name());
    Ok(())
}

#[test]
fn every_user_may_read_the_files_of_the_image() {
    let Some(image) = image("files of the image") else { return };
    let files = "stat -c '%A %U %n' /usr/local/bin/* /etc/telemetry-aggregator/*";
    let run = ["run", "--rm", "--network", "none", "--entrypoint", "sh", &image, "-ec", files];
    let listed = docker(run);
    let expected = [
        "-rwxr-xr-x root /usr/local/bin/telemetry-aggregator",
        "-rwxr-xr-x root /usr/local/bin/uplink-sim",
        "-rw-r--r-- root /etc/telemetry-aggregator/aggregator.toml",
    ];
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_image_adds_little_to_its_base() {
    let Some(image) = image("size of the image") else { return };
    let base = base_image("debian").expect("the base of the image");
    let size =
        |image: &str| docker(["image", "inspect", "--format", "{{.Size}}", image]).parse::<u64>().unwrap();
    let added = size(&image) - size(&base);
    assert!((1 << 20..ADDED_BYTES_MAX).contains(&added), "{added} bytes");
}

/// The build id in the notes of a program: 20 bytes behind this head.
fn build_id(program: &[u8]) -> &[u8] {
    const HEAD: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let at = program.windows(HEAD.len()).position(|window| window == HEAD).expect("a build id");
    &program[at + HEAD.len()..][..20]
}

#[test]
fn the_symbols_of_the_programs_lie_apart() {
    let Some(checkout) = built_checkout("symbols of the programs") else { return };
    checkout.build("docker compose build symbols", &stage_name("symbols"));
    let dir = tempfile::tempdir().unwrap();
    let [programs, symbols] = [image_name(), stage_name("symbols")].map(|image| Created::new(&image));
    for name in ["telemetry-aggregator", "uplink-sim"] {
        let program = programs.file(&format!("/usr/local/bin/{name}"), dir.path());
        let symbols = symbols.file(&format!("/{name}.debug"), dir.path());
        assert!((program.len() as u64) < PROGRAM_BYTES_MAX, "{name} has {} bytes", program.len());
        assert_eq!(build_id(&program), build_id(&symbols), "{name}");
        let link = format!("{name}.debug\0");
        let names_it = program.windows(link.len()).any(|window| window == link.as_bytes());
        assert!(names_it, "{name} names no file of symbols");
        assert!(symbols.len() > program.len(), "{name}: {} bytes of symbols", symbols.len());
    }
}
