//! The files of `deploy/examples/edge-to-centre`, run as they stand but for the ports.

use std::path::Path;

use tempfile::TempDir;

use super::{Source, assert_same, output};
use crate::support::http::wait_json;
use crate::support::{Daemon, Hello, Port};

/// Starts a daemon with this file of the example, with the port of the centre in place of that in the file.
fn start(file: &str, token: &Path, centre: &Port) -> Daemon {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples/edge-to-centre").join(file);
    let mut text = std::fs::read_to_string(path).unwrap();
    for (in_file, here) in [
        ("\"edge.token\"", format!("{:?}", token.display().to_string())),
        ("127.0.0.1:7580", centre.address().to_string()),
        ("127.0.0.1:7480", "127.0.0.1:0".to_owned()),
        ("127.0.0.1:7481", "127.0.0.1:0".to_owned()),
        ("127.0.0.1:7482", "127.0.0.1:0".to_owned()),
        ("127.0.0.1:7581", "127.0.0.1:0".to_owned()),
        ("127.0.0.1:7582", "127.0.0.1:0".to_owned()),
        ("data_dir = \"edge-data\"", String::new()),
        ("data_dir = \"centre-data\"", String::new()),
    ] {
        text = text.replace(in_file, &here);
    }
    Daemon::start(&text)
}

#[test]
fn the_example_runs_as_it_stands_and_goes_on_after_a_stop_of_the_centre() {
    let dir = TempDir::new().unwrap();
    let token = dir.path().join("edge.token");
    std::fs::write(&token, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\n").unwrap();
    let port = Port::hold();
    let mut centre = start("centre.toml", &token, &port);
    let mut edge = start("edge.toml", &token, &port);
    let mut source = Source::new(Hello::new(7).station("SVALBARD"));
    source.send(&edge, 20);
    assert_same(&edge, &centre);
    wait_json(centre.http(), "/api/v1/sources", |sources| sources["sources"][0]["via"] == "EDGE-1");
    centre.stop();
    source.send(&edge, 20);
    wait_json(edge.http(), "/api/v1/outputs", |_| output(&edge)["state"] == "connecting");
    centre = centre.restart();
    assert_same(&edge, &centre);
    edge.stop();
    centre.stop();
}
