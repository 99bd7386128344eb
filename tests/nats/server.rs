//! Real servers of NATS, and what their streams hold.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::stream::{Config, Stream};
use tempfile::TempDir;

use crate::support::python::Python;
use crate::support::wait_until;

pub const STREAM: &str = "TELEMETRY";

/// A server that keeps its store and its port across kills. It ends with this value.
pub struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

/// A port that nothing listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts a server with JetStream, and with `arguments`.
    pub fn start(python: &Python, arguments: &[&str]) -> Self {
        let mut server = Self::away(python, &[&["-js"], arguments].concat());
        server.go_on();
        server
    }

    /// A server that is not started yet.
    pub fn away(python: &Python, arguments: &[&str]) -> Self {
        let program = PathBuf::from(python.tool("nats-server").get_program());
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { program, arguments, dir: TempDir::new().unwrap(), port: free_port(), child: None }
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Starts the server, and waits until it answers.
    pub fn go_on(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"]).arg(self.dir.path());
        self.child = Some(command.args(&self.arguments).stderr(Stdio::null()).spawn().unwrap());
        wait_until("a NATS server", || TcpStream::connect(self.address()).map_err(|error| error.to_string()));
    }

    /// Ends the server as `kill -9` does.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A message of a stream.
#[derive(Clone, Debug)]
pub struct Stored {
    pub subject: String,
    pub lane: String,
    pub offset: u64,
    /// The frames of a batch; 1 for a message with one frame.
    pub frames: u64,
    pub header: async_nats::HeaderMap,
    pub body: Vec<u8>,
}

/// Runs `with` with the JetStream of the server at `url`.
pub fn on<T>(url: &str, with: impl AsyncFnOnce(async_nats::jetstream::Context) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let servers: Vec<&str> = url.split(',').collect();
        let client = async_nats::connect(servers).await.unwrap();
        with(async_nats::jetstream::new(client)).await
    })
}

/// Creates [`STREAM`] with a short duplicate window.
pub fn create(url: &str, change: impl FnOnce(&mut Config)) {
    let mut config = Config {
        name: STREAM.to_owned(),
        subjects: vec!["tm.>".to_owned()],
        duplicate_window: Duration::from_millis(100),
        ..Config::default()
    };
    change(&mut config);
    on(url, async |context| context.create_stream(config).await.map(drop).unwrap());
}

/// The number of messages of [`STREAM`].
pub fn count(url: &str) -> u64 {
    on(url, async |context| match context.get_stream(STREAM).await {
        Ok(stream) => stream.cached_info().state.messages,
        Err(_) => 0,
    })
}

/// All messages of [`STREAM`], in order.
pub fn stored(url: &str) -> Vec<Stored> {
    on(url, async |context| {
        let stream: Stream = context.get_stream(STREAM).await.unwrap();
        let state = stream.cached_info().state.clone();
        let mut all = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let text = |name: &str| message.headers.get(name).map(|value| value.as_str().to_owned());
            all.push(Stored {
                subject: message.subject.to_string(),
                lane: text("Telemetry-Lane").unwrap_or_default(),
                offset: text("Telemetry-Offset").map_or(u64::MAX, |offset| offset.parse().unwrap()),
                frames: text("Telemetry-Frames").map_or(1, |frames| frames.parse().unwrap()),
                header: message.headers.clone(),
                body: message.payload.to_vec(),
            });
        }
        all
    })
}

/// Three servers with one JetStream.
pub struct Cluster(pub [Server; 3]);

impl Cluster {
    pub fn start(python: &Python) -> Self {
        let ports = [(); 3].map(|()| free_port());
        let routes = ports.map(|port| format!("nats://127.0.0.1:{port}")).join(",");
        let mut servers = [0, 1, 2].map(|index| {
            let (name, at) = (format!("n{index}"), format!("nats://127.0.0.1:{}", ports[index]));
            let place = ["-js", "-n", &name, "--cluster_name", "c", "--cluster", &at, "--routes", &routes];
            // Else the servers tell clients of a way around the lines of the test.
            Server::away(python, &[&place[..], &["--no_advertise"]].concat())
        });
        servers.iter_mut().for_each(Server::go_on);
        Self(servers)
    }

    pub fn url(&self) -> String {
        self.0.each_ref().map(Server::url).join(",")
    }

    /// Creates [`STREAM`] on all three servers, as soon as they have a leader.
    pub fn create(&self, duplicate_window: Duration) {
        let config = Config {
            name: STREAM.to_owned(),
            subjects: vec!["tm.>".to_owned()],
            num_replicas: 3,
            duplicate_window,
            ..Config::default()
        };
        wait_until("a cluster", || {
            let create = async |context: async_nats::jetstream::Context| context.create_stream(&config).await;
            on(&self.url(), create).map(drop).map_err(|error| error.to_string())
        });
    }

    /// The leader of [`STREAM`].
    pub fn leader(&mut self) -> &mut Server {
        let name = wait_until("a leader", || {
            on(&self.url(), async |context| {
                let stream = context.get_stream(STREAM).await.map_err(|error| error.to_string())?;
                let cluster = stream.cached_info().cluster.clone().ok_or("no cluster")?;
                cluster.leader.ok_or_else(|| "no leader".to_owned())
            })
        });
        &mut self.0[usize::from(name.as_bytes()[1] - b'0')]
    }
}
