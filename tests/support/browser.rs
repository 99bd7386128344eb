//! A real browser without a screen, controlled over the WebDriver protocol: HTTP and JSON.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::open;

/// Longest time for any step of the browser. Generous: a browser is large, and the machine may be busy.
const LIMIT: Duration = Duration::from_secs(90);

/// Flags that stop Chromium from sending network requests for anything but the page.
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Keys in the encoding of WebDriver.
pub mod key {
    pub const TAB: &str = "\u{e004}";
    pub const ENTER: &str = "\u{e007}";
    pub const ESCAPE: &str = "\u{e00c}";
    pub const RIGHT: &str = "\u{e014}";
    pub const END: &str = "\u{e010}";
}

/// Held by each browser: two at the same time would only slow each other down.
static TURN: Mutex<()> = Mutex::new(());

/// A browser with one page. Dropping this ends the browser.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    profile: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts the browser with an empty profile.
    ///
    /// # Errors
    /// The missing program: the browser or its driver.
    pub fn find() -> Result<Self, String> {
        for program in ["chromium", "chromedriver"] {
            let found = Command::new(program).arg("--version").output();
            found.map_err(|error| format!("{program} cannot be started: {error}"))?;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let mut lines = BufReader::new(driver.stdout.take().expect("stdout is piped")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("successfully on port ").map(|(_, port)| port.to_owned()))
            .expect("chromedriver says its port");
        // The driver may keep writing. Without a reader it would block.
        std::thread::spawn(move || lines.for_each(drop));
        let port = port.trim_end_matches('.').parse().expect("a port");
        let profile = tempfile::tempdir().expect("no temporary directory");
        let mut browser = Self {
            driver,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            session: String::new(),
            profile,
            _turn: turn,
        };
        browser.begin();
        Ok(browser)
    }

    fn begin(&mut self) {
        let mut args: Vec<String> = FLAGS.map(str::to_owned).into();
        args.push(format!("--user-data-dir={}", self.profile.path().display()));
        args.push("--window-size=1440,900".to_owned());
        let wanted = json!({
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        let made = self.ask("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        self.session = made["sessionId"].as_str().expect("a session").to_owned();
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.command("/url", &json!({ "url": url }));
    }

    /// Sets the size of the window in pixels.
    pub fn resize(&self, width: u32, height: u32) {
        self.command("/window/rect", &json!({ "width": width, "height": height }));
    }

    /// Runs `script` on the page and returns its result.
    pub fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until `expression` is true on the page, and returns it.
    #[track_caller]
    pub fn wait(&self, expression: &str) -> Value {
        let started = Instant::now();
        loop {
            let found = self.run(&format!("return {expression};"));
            if !matches!(found, Value::Null | Value::Bool(false)) {
                return found;
            }
            if started.elapsed() > LIMIT {
                let page = self.run("return document.body.innerText;");
                panic!("never true: {expression}\n{}", page.as_str().unwrap_or("no page"));
            }
        }
    }

    /// Presses and releases `keys` one after the other, where the focus is.
    pub fn press(&self, keys: &[&str]) {
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.command("/actions", &json!({ "actions": [keyboard] }));
    }

    /// Errors on the console since the last call, as text.
    pub fn console_errors(&self) -> Vec<String> {
        let said = self.command("/se/log", &json!({ "type": "browser" }));
        let lines = said.as_array().expect("lines").iter();
        let severe = lines.filter(|line| line["level"] == "SEVERE");
        severe.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The addresses of all requests that the page sent since the last call.
    pub fn requests(&self) -> Vec<String> {
        let events = self.command("/se/log", &json!({ "type": "performance" }));
        let events = events.as_array().expect("events").iter();
        let url = |event: &Value| {
            let event: Value = serde_json::from_str(event["message"].as_str()?).ok()?;
            let message = &event["message"];
            let is_request = message["method"] == "Network.requestWillBeSent";
            is_request.then(|| message["params"]["request"]["url"].as_str().unwrap_or_default().to_owned())
        };
        events.filter_map(url).collect()
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let headers = [("Content-Type", "application/json")];
        let asked = open(self.address, method, path, &headers, body.to_string().as_bytes());
        let answer = asked.within(LIMIT).answer();
        let value = answer.json()["value"].take();
        assert_eq!(answer.status, 200, "{method} {path}: {value:#}");
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // End the browser first, because it outlives a driver that is killed.
        drop(std::panic::catch_unwind(|| {
            open(self.address, "GET", "/shutdown", &[], b"").within(LIMIT).answer()
        }));
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}
