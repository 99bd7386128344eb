//! The dashboard in a real browser, against a real daemon: the page shows the same values as the API.

mod support;

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use frame::unix_now_ns;
use serde_json::{Map, Value, json};
use sim::orbits::catalog;
use support::browser::{Browser, key};
use support::command::{expect_exit, uplink_sim};
use support::http::{get, get_json, request};
use support::{Client, Daemon, EMERGENCY, Hello, LIMIT, Port, ROUTINE, Signal, code, not_tested};

/// A long heartbeat: the clients of the tests send nothing while the test looks at the browser.
const PATIENT: &str = "[ingest]\nheartbeat = \"300s\"\n";
/// True when the page shows the state of the daemon at this moment or later.
const LIVE: &str = "document.body.dataset.link === 'live' && document.body.dataset.drawn !== undefined";

/// Opens the page of the daemon at `address`. Returns when the page shows data.
fn page(address: SocketAddr) -> Option<Browser> {
    match Browser::find() {
        Ok(browser) => {
            browser.open(&format!("http://{address}/"));
            browser.wait(LIVE);
            Some(browser)
        }
        Err(missing) => {
            not_tested(format_args!("the dashboard in a browser: {missing}"));
            None
        }
    }
}

/// The `data-value` of the first element that matches `selector`.
fn value(browser: &Browser, selector: &str) -> Value {
    let selector = json!(selector);
    browser.run(&format!("return document.querySelector({selector})?.getAttribute('data-value') ?? null;"))
}

/// The value as an attribute contains it.
fn attribute(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::String(text) => json!(text),
        other => json!(other.to_string()),
    }
}

/// All cells, each as `source state`.
fn cells(browser: &Browser) -> Value {
    browser.run(
        "return [...document.querySelectorAll('.cell')]
            .map(cell => `${cell.dataset.source} ${cell.dataset.state}`);",
    )
}

#[test]
fn the_page_shows_what_the_api_reports() {
    let daemon = Daemon::start(PATIENT);
    let ingest = daemon.address().to_string();
    let fleet =
        ["--satellites", "6", "--replays", "2", "--stations", "3", "--frames", "40", "--emergency-ratio"];
    expect_exit(uplink_sim(["--connect", &ingest]).args(fleet).arg("0.1"), 0);
    // An epoch that no double can hold, a gap, and an emergency with a label.
    let hello = Hello { station: b"KIRUNA".to_vec(), epoch: (1 << 60) + 1, ..Hello::new(99) };
    let (mut client, _) = Client::open(daemon.address(), &hello);
    client.deliver(ROUTINE, 0, b"first");
    client.deliver(ROUTINE, 4, b"fifth");
    client.deliver(EMERGENCY, 5, b"SAFE_MODE\x00");
    client.bye([6, 5]);
    Client::refused(
        daemon.address(),
        &Hello { version_min: 9, version_max: 9, ..Hello::new(8) },
        code::VERSION,
    );
    let Some(browser) = page(daemon.http()) else { return };
    browser.wait("document.querySelectorAll('.cell[data-state=offline]').length === 9");
    for panel in ["links", "outputs"] {
        assert_eq!(browser.run(&format!("return document.getElementById('{panel}').hidden;")), true);
    }
    let stats = get_json(daemon.http(), "/api/v1/stats");
    assert_eq!(stats["frames"]["in_flight"], 0, "nothing moves any more: {stats:#}");

    for (name, frames) in stats["frames"].as_object().unwrap().iter().filter(|(_, frames)| frames.is_u64()) {
        let shown = value(&browser, &format!("#books-body [data-field={name}] .n"));
        assert_eq!(shown, attribute(frames), "{name} of the books");
    }
    assert_eq!(browser.run("return document.getElementById('balance').dataset.balanced;"), "true");
    let shown = [
        ("[data-tile=sources] b", &stats["connections"]["sources"]),
        ("[data-tile=missing] b", &stats["missing"]),
        ("[data-tile=emergencies] b", &stats["lanes"]["emergency"]["frames"]),
        ("[data-tile=rejected] b", &stats["frames"]["rejected"]),
        ("#missing-total", &stats["missing"]),
        ("#refused-total", &stats["refusals"]["ingest"]["version"]),
        ("#archive-body [data-field=next_offset] dd", &stats["archive"]["next_offset"]),
        ("#archive-body [data-field=segments] dd", &stats["archive"]["segments"]),
        ("#archive-body [data-field=written_bytes] dd", &stats["archive"]["written_bytes"]),
        ("#process-body [data-field=memory_limit_bytes] dd", &stats["process"]["memory_limit_bytes"]),
        ("#uptime", &stats["started_ms"]),
    ];
    for (selector, expected) in shown {
        assert_eq!(value(&browser, selector), attribute(expected), "{selector}");
    }
    let rows = browser.run(
        "return [...document.querySelectorAll('#emergency-rows tr')]
            .map(row => [Number(row.dataset.offset), row.querySelector('.label').textContent]);",
    );
    let emergencies = stats["emergencies"].as_array().unwrap().iter().rev();
    let expected: Vec<_> = emergencies.map(|one| json!([one["offset"], one["label"]])).collect();
    assert!(expected[0][1] == "SAFE_MODE" && expected.len() > 10, "{expected:?}");
    assert_eq!(rows, json!(expected));

    let sources = get_json(daemon.http(), "/api/v1/sources");
    for source in sources["sources"].as_array().unwrap() {
        check_details(&browser, source);
    }
    // The frames 1, 2 and 3 of source 99 are missing.
    assert_eq!(value(&browser, "#gap-rows .n"), "3");

    let has_catalog = get(daemon.http(), "/api/v1/catalog").status == 200;
    let mut errors = browser.console_errors();
    errors.retain(|error| has_catalog || !error.contains("/api/v1/catalog"));
    assert_eq!(errors, Vec::<String>::new(), "errors on the console");
    let own = format!("http://{}/", daemon.http());
    let asked = browser.requests();
    assert!(asked.iter().any(|url| url.ends_with("/api/v1/stream")), "{asked:?}");
    // The browser's own resources come from no host.
    let is_foreign =
        |url: &&String| ![own.as_str(), "chrome:", "data:"].iter().any(|own| url.starts_with(own));
    assert_eq!(asked.iter().filter(is_foreign).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Opens the details of `source` and compares every field with the API.
fn check_details(browser: &Browser, source: &Value) {
    browser
        .run(&format!("document.querySelector('.cell[data-source=\"{}\"]').click();", source["source_id"]));
    browser.wait("document.getElementById('details').open");
    let facts = [
        "source_id",
        "kind",
        "station",
        "state",
        "ended_ms",
        "session",
        "peer",
        "since_ms",
        "offline_since_ms",
        "last_frame_ms",
        "epoch",
    ];
    for name in facts {
        let shown = value(browser, &format!("#details-body [data-field={name}] dd"));
        assert_eq!(shown, attribute(&source[name]), "{name} of {source:#}");
    }
    for name in ["received", "archived", "not_stored", "duplicates", "rejected", "in_flight"] {
        let shown = value(browser, &format!("#details-body [data-field={name}] dd"));
        assert_eq!(shown, attribute(&source["frames"][name]), "{name} of {source:#}");
    }
    for lane in ["emergency", "routine"] {
        for (name, expected) in source["lanes"][lane].as_object().expect("a lane") {
            if expected.is_f64() {
                continue; // a JSON number, which the page may write in another form
            }
            let shown = value(browser, &format!("#details-body tr[data-field={name}] [data-lane={lane}]"));
            assert_eq!(shown, attribute(expected), "{name} of lane {lane} of {source:#}");
        }
    }
    browser.run("document.getElementById('details-close').click();");
}

#[test]
fn offline_streams_are_forgotten_after_a_confirmation() {
    let daemon = Daemon::start(PATIENT);
    for source in [3, 4, 5] {
        let (mut client, _) = Client::open(daemon.address(), &Hello::new(source).station("KIRUNA"));
        client.deliver(ROUTINE, 0, b"done with");
        client.bye([0, 1]);
    }
    let (mut live, _) = Client::open(daemon.address(), &Hello::new(6));
    live.deliver(ROUTINE, 0, b"alive");
    let Some(browser) = page(daemon.http()) else { return };
    browser.wait("document.querySelectorAll('.cell[data-state=offline]').length === 3");
    let click = |id: &str| browser.run(&format!("document.getElementById('{id}').click();"));
    let known = || get_json(daemon.http(), "/api/v1/sources")["total"].clone();

    browser.run("document.querySelector('.cell[data-source=\"6\"]').click();");
    browser
        .wait("document.getElementById('details').open && document.getElementById('details-forget').hidden");
    click("details-close");
    browser.run("document.querySelector('.cell[data-source=\"4\"]').click();");
    browser
        .wait("document.getElementById('details').open && !document.getElementById('details-forget').hidden");
    click("details-forget");
    let question = browser.run("return document.getElementById('forget-question').textContent;");
    assert_eq!(question, "Forget live stream 4 at KIRUNA?");
    assert_eq!(known(), 4, "not before the answer");
    click("forget-confirm");
    browser.wait("document.getElementById('forget-result').textContent === '1 streams forgotten.'");
    browser.wait("document.querySelectorAll('.cell').length === 3");
    click("forget-cancel");
    click("details-close");

    click("forget-offline");
    browser.wait("document.getElementById('forget').open");
    assert_eq!(known(), 3, "not before the answer");
    click("forget-confirm");
    browser.wait("document.getElementById('forget-result').textContent === '2 streams forgotten.'");
    browser.wait(
        "document.querySelectorAll('.cell').length === 1 && document.getElementById('forget-offline').hidden",
    );
    assert_eq!(known(), 1);
    let mut errors = browser.console_errors();
    errors.retain(|error| !error.contains("/api/v1/catalog"));
    assert_eq!(errors, Vec::<String>::new(), "errors on the console");
}

#[test]
fn the_page_shows_new_and_ended_sources_and_the_end_of_the_daemon() {
    let port = Port::hold();
    let http = port.address();
    let config = format!("{PATIENT}[http]\nlisten = \"{http}\"\n");
    let mut daemon = Daemon::start(&config);
    let Some(browser) = page(http) else { return };
    browser
        .wait("!document.getElementById('none').hidden && document.querySelectorAll('.cell').length === 0");
    assert_eq!(browser.run("return document.getElementById('state').dataset.state;"), "running");

    let (mut first, _) = Client::open(daemon.address(), &Hello::new(3));
    first.deliver(ROUTINE, 0, b"here");
    let (mut second, _) = Client::open(daemon.address(), &Hello::new(12));
    second.deliver(ROUTINE, 0, b"here");
    browser.wait("document.querySelectorAll('.cell:not([data-state=offline])').length === 2");
    assert_eq!(browser.run("return document.getElementById('none').hidden;"), true);

    // With the keyboard alone: to the grid, along the grid, into the details and back.
    let focused = "document.activeElement";
    for _ in 0..40 {
        browser.press(&[key::TAB]);
        if browser.run(&format!("return {focused}.classList.contains('cell');")) == true {
            break;
        }
    }
    assert_eq!(browser.run(&format!("return {focused}.dataset.source;")), "3");
    browser.press(&[key::RIGHT, key::ENTER]);
    browser.wait("document.getElementById('details').open");
    assert_eq!(value(&browser, "#details-body [data-field=source_id] dd"), "12");
    browser.press(&[key::ESCAPE]);
    browser.wait("!document.getElementById('details').open");
    assert_eq!(browser.run(&format!("return {focused}.dataset.source;")), "12");

    first.bye([0, 1]);
    browser.wait("document.querySelector('.cell[data-source=\"3\"]').dataset.state === 'offline'");
    assert_ne!(cells(&browser)[1], "12 offline");
    browser.run("document.querySelector('[data-filter=offline]').click();");
    browser.wait("document.querySelectorAll('.cell').length === 1");
    browser.run("document.querySelector('[data-filter=all]').click();");

    // A reload of the page keeps the theme.
    let theme = browser.run("return document.documentElement.dataset.theme;");
    browser.run("document.getElementById('theme').click();");
    browser.open(&format!("http://{http}/"));
    browser.wait(LIVE);
    assert_ne!(browser.run("return document.documentElement.dataset.theme;"), theme);

    daemon.signal(Signal::KILL);
    daemon.wait_exit(LIMIT);
    browser.wait("document.body.dataset.link === 'lost'");
    let lost = browser
        .wait("!document.getElementById('lost').hidden && document.getElementById('lost').textContent");
    assert!(lost.as_str().unwrap().starts_with("CONNECTION LOST · what you see is "), "{lost}");
    let seen = browser.run(
        "const style = getComputedStyle(document.getElementById('content'));
         return Number(style.opacity) < 0.6 && style.filter.includes('grayscale(1)');",
    );
    assert_eq!(seen, true, "what is old looks so");
    assert!(browser.run("return document.title;").as_str().unwrap().starts_with("CONNECTION LOST"));

    // After a restart of the daemon, the page shows the streams of the new daemon and no others.
    let daemon = daemon.restart();
    browser.wait(LIVE);
    assert_eq!(browser.run("return document.getElementById('lost').hidden;"), true);
    let sources = get_json(daemon.http(), "/api/v1/sources");
    let known = sources["sources"].as_array().unwrap().len();
    browser.wait(&format!("document.querySelectorAll('.cell').length === {known}"));
    browser.wait("document.querySelectorAll('.cell:not([data-state=offline])').length === 0");
}

/// A link that receives packets as datagrams, a link that cannot listen on `taken`, and two outputs.
fn linked(taken: SocketAddr) -> String {
    let link = "framing = { kind = \"packet\", max = 1024 }\nsource = \"apid\"";
    format!(
        "{PATIENT}
        [[links]]\nname = \"inuvik\"\nudp = \"127.0.0.1:0\"\n{link}
        [[links]]\nname = \"taken\"\nlisten = \"{taken}\"\n{link}
        [[outputs]]\nname = \"history\"\nlisten = \"127.0.0.1:0\"\nstart = \"earliest\"
        [[outputs]]\nname = \"live\"\nlisten = \"127.0.0.1:0\"\n"
    )
}

/// What the API reports of each link or output, by name, once `is_met` holds.
fn wait_linked(daemon: &Daemon, kind: &str, is_met: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let answer = get_json(daemon.http(), &format!("/api/v1/{kind}"));
        let all = answer[kind].as_array().expect("a list").iter();
        let named = all.map(|one| (one["name"].as_str().expect("a name").to_owned(), one.clone()));
        let by_name = Value::from(named.collect::<Map<_, _>>());
        if is_met(&by_name) {
            return by_name;
        }
        assert!(started.elapsed() < LIMIT, "{by_name:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the cells that match `selector` hold these values, or texts where they have no value.
#[track_caller]
fn wait_row(browser: &Browser, selector: &str, cells: &Value) {
    let (selector, cells) = (json!(selector), json!(cells.to_string()));
    browser.wait(&format!(
        "JSON.stringify([...document.querySelectorAll({selector})]
            .map(cell => cell.dataset.value ?? cell.textContent)) === {cells}"
    ));
}

#[test]
fn links_and_outputs_have_panels() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = Daemon::start(&linked(taken.local_addr().unwrap()));
    let Some(browser) = page(daemon.http()) else { return };
    let bound = |one: &Value| !one["address"].is_null();
    let links =
        wait_linked(&daemon, "links", |all| bound(&all["inuvik"]) && all["taken"]["state"] == "failed");
    let outputs = wait_linked(&daemon, "outputs", |all| bound(&all["history"]) && bound(&all["live"]));
    // The packet between these two is missing.
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(links["inuvik"]["address"].as_str().unwrap()).unwrap();
    for count in [0, 2] {
        sender.send(&[0x00, 0x64, 0xC0, count, 0x00, 0x00, 0xAA]).unwrap();
    }
    wait_linked(&daemon, "links", |all| all["inuvik"]["counts"]["kept"] == 2);
    let connect = |name: &str| {
        let mut socket = TcpStream::connect(outputs[name]["address"].as_str().unwrap()).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let expected = if name == "history" { 14 } else { 0 };
        socket.read_exact(&mut vec![0; expected]).unwrap();
        socket
    };
    let _readers = [connect("history"), connect("history"), connect("live")];
    let is_served =
        |all: &Value| all["history"]["counts"]["frames"] == 4 && all["live"]["state"] == "connected";
    let outputs = wait_linked(&daemon, "outputs", is_served);

    let reported = wait_linked(&daemon, "links", |_| true);
    let peer = &reported["inuvik"]["peer"];
    // The state depends on the time: after 10 seconds the link is silent.
    wait_row(
        &browser,
        "tr[data-link=inuvik] td:not(:nth-child(2))",
        &json!([peer, "2", "14", "0", "0", "1", ""]),
    );
    let trouble = &links["taken"]["trouble"];
    let taken = json!(["failed", "–", "0", "0", "0", "0", "0", trouble]);
    wait_row(&browser, "tr[data-link=taken] td", &taken);
    let status = "document.querySelector('tr[data-link=taken] .badge').dataset.status";
    assert_eq!(browser.run(&format!("return {status};")), "failed");
    let history = json!(["connected", "2 readers", "4", "28", "0", "–", "0", "0", "0", ""]);
    wait_row(&browser, "tr[data-output=history] td", &history);
    // A reader that begins at the end of the log is not behind.
    let reader = &outputs["live"]["readers"][0]["peer"];
    let live = json!(["connected", reader, "0", "0", "0", "–", "0", "0", "0", ""]);
    wait_row(&browser, "tr[data-output=live] td", &live);
    let aside = browser.run("return document.getElementById('outputs-aside').textContent;");
    assert_eq!(aside, "2 of 2 serve, 3 readers");
    let mut errors = browser.console_errors();
    errors.retain(|error| !error.contains("/api/v1/catalog"));
    assert_eq!(errors, Vec::<String>::new(), "errors on the console");
}

const SATELLITES: u32 = 48;
/// The texts of all elements that have no room for them.
const CLIPPED: &str = "return [...document.querySelectorAll('body *:not(.unseen)')]
    .filter(one => one.clientWidth > 0 && one.scrollWidth > one.clientWidth
        && getComputedStyle(one).overflowX !== 'visible')
    .map(one => `${one.className}: ${one.textContent}`);";

/// `uplink-sim` that sends until this is dropped.
struct Uplinks(Child);

impl Drop for Uplinks {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn no_label_is_clipped_on_the_screens_of_operators() {
    let daemon = Daemon::start(PATIENT);
    let elements = catalog(SATELLITES, unix_now_ns());
    assert_eq!(request(daemon.http(), "PUT", "/api/v1/catalog", &[], elements.as_bytes()).status, 200);
    let fleet =
        format!("--satellites {SATELLITES} --replays 2 --stations 12 --rate 10 --emergency-ratio 0.01");
    let mut command = uplink_sim(["--connect", &daemon.address().to_string()]);
    let command = command.args(fleet.split(' ')).stdout(Stdio::null()).stderr(Stdio::null());
    let _uplinks = Uplinks(command.spawn().unwrap());
    let Some(browser) = page(daemon.http()) else { return };
    browser.wait("document.querySelectorAll('.cell[data-state=flowing]').length === 50");
    // The longest name of a station is in a tile, and with the longest label in the list of emergencies.
    let texts =
        |selector: &str| format!("[...document.querySelectorAll('{selector}')].map(one => one.textContent)");
    browser.wait(&format!("{}.includes('HARTEBEESTHOEK')", texts(".cell .at")));
    browser.wait(&format!(
        "{}.some(row => row.includes('HARTEBEESTHOEKSAFE_MODE'))",
        texts("#emergency-rows tr")
    ));
    for width in [1280, 1440, 1920] {
        browser.resize(width, 1000);
        browser.wait(&format!("innerWidth === {width}"));
        assert_eq!(browser.run(CLIPPED), json!([]), "{width} pixels");
    }
}

/// State, word and colour of the badge `id`.
fn badge(browser: &Browser, id: &str) -> Value {
    browser.run(&format!(
        "const node = document.getElementById('{id}');
         return [node.dataset.state, node.querySelector('.word').textContent, getComputedStyle(node).backgroundColor];"
    ))
}

#[test]
fn a_lost_fleet_is_red_while_the_daemon_runs() {
    let daemon = Daemon::start(PATIENT);
    let Some(browser) = page(daemon.http()) else { return };
    assert_eq!(badge(&browser, "fleet")[1], "NO SOURCES");
    let open = |id| {
        let (mut client, _) = Client::open(daemon.address(), &Hello::new(id));
        client.deliver(ROUTINE, 0, b"here");
        client
    };
    let (ending, [first, second]) = (open(1), [2, 3].map(open));
    browser.wait("document.getElementById('fleet').dataset.state === 'ok'");
    ending.bye([0, 1]);
    browser.wait("document.querySelector('.cell[data-source=\"1\"]').dataset.state === 'offline'");
    drop(first);
    browser.wait("document.getElementById('fleet').dataset.state === 'degraded'");
    assert_eq!(badge(&browser, "fleet")[1], "FLEET DEGRADED");
    drop(second);
    browser.wait("document.getElementById('fleet').dataset.state === 'lost'");
    assert_eq!(badge(&browser, "state")[1], "RUNNING");
    let fleet = badge(&browser, "fleet");
    assert_eq!(fleet[1], "FLEET LOST");
    let colour = fleet[2].as_str().unwrap().trim_start_matches("rgb(").trim_end_matches(')');
    let parts: Vec<u16> = colour.split(',').map(|part| part.trim().parse().unwrap()).collect();
    assert!(parts[0] > 150 && parts[1] < 80 && parts[2] < 80, "red: {fleet}");
    assert!(browser.run("return document.title;").as_str().unwrap().starts_with("FLEET LOST"));
    browser.wait("document.querySelectorAll('.cell[data-state=lost]').length === 2");
    let reasons = browser.run("return document.getElementById('reasons').textContent;");
    assert!(reasons.as_str().unwrap().contains("2 sources vanished without BYE, 0 connected"), "{reasons}");
    browser.run("document.querySelector('[data-filter=lost]').click();");
    browser.wait("document.querySelectorAll('.cell').length === 2");
}

#[test]
fn the_page_loads_only_from_the_daemon_and_is_not_cached() {
    let daemon = Daemon::start("");
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard/app.js", "text/javascript; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ] {
        let answer = get(daemon.http(), path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
        let tag = answer.header("etag").unwrap();
        let again = request(daemon.http(), "GET", path, &[("If-None-Match", tag)], b"");
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
    assert_eq!(get(daemon.http(), "/dashboard/nothing.js").status, 404);
    assert_eq!(get(daemon.http(), "/dashboard/").header("location"), Some("/"));
}
