//! A real S3 server, and a line to it that can be held.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;

pub const ACCESS_KEY: &str = "tester";
pub const SECRET_KEY: &str = "not a secret";
pub const BUCKET: &str = "telemetry";

/// An S3 server that keeps its objects as files. It ends with the test's process.
pub struct S3 {
    dir: TempDir,
    address: SocketAddr,
}

impl S3 {
    /// Starts a server with the bucket [`BUCKET`].
    pub fn start() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let files = FileSystem::new(dir.path()).unwrap();
        let (address_tx, address) = channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(files, address_tx));
        });
        Self { dir, address: address.recv().unwrap() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file of an object of [`BUCKET`].
    pub fn object(&self, path: &str) -> PathBuf {
        self.dir.path().join(BUCKET).join(path)
    }

    /// The paths of all objects of [`BUCKET`] below `prefix`, in order.
    pub fn objects(&self, prefix: &str) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.object(prefix), &self.object(prefix), &mut found);
        found.sort();
        found
    }
}

fn collect(root: &Path, dir: &Path, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // The server's own notes begin with a dot.
        match path.is_dir() {
            _ if name.starts_with('.') => {}
            true => collect(root, &path, found),
            false => found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()),
        }
    }
}

async fn serve(files: FileSystem, address: Sender<SocketAddr>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    address.send(listener.local_addr().unwrap()).unwrap();
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = builder.build();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let service = service.clone();
        connections.spawn(async move {
            let http = Builder::new(TokioExecutor::new());
            // A client that is killed in the middle is an error.
            let _ = http.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// A server that answers as S3 does where there is no bucket.
pub fn without_bucket() -> SocketAddr {
    const BODY: &str =
        "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            let length = BODY.len();
            let answer = format!(
                "HTTP/1.1 404 Not Found\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{BODY}"
            );
            // A client that is gone does not matter.
            let _ = client.write_all(answer.as_bytes());
        }
    });
    address
}

/// Sets the variables of a store whose endpoint is `endpoint`.
pub fn set_store(command: &mut Command, endpoint: SocketAddr, secret_key: &str) {
    command
        .env("AWS_ENDPOINT", format!("http://{endpoint}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", secret_key);
}

/// A line to a server. It passes a number of bytes, and holds what comes after them.
pub struct Line {
    address: SocketAddr,
    gate: Arc<Gate>,
    held: Receiver<()>,
}

struct Gate {
    /// Bytes to the server that still pass.
    left: Mutex<u64>,
    opened: Condvar,
    held_tx: Sender<()>,
}

impl Line {
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (held_tx, held) = channel();
        let gate = Arc::new(Gate { left: Mutex::new(0), opened: Condvar::new(), held_tx });
        std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                for client in listener.incoming() {
                    pass(client.unwrap(), TcpStream::connect(server).unwrap(), &gate);
                }
            }
        });
        Self { address, gate, held }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets `bytes` more bytes pass from now on.
    pub fn let_pass(&self, bytes: u64) {
        while self.held.try_recv().is_ok() {}
        *self.gate.left.lock().unwrap() = bytes;
        self.gate.opened.notify_all();
    }

    /// Waits until a client sends more than may pass.
    pub fn wait_held(&self) {
        self.held.recv_timeout(crate::support::LIMIT).expect("nothing is uploaded");
    }
}

impl Gate {
    /// Waits until bytes may pass, at most `bytes`. Returns how many.
    fn take(&self, bytes: usize) -> usize {
        let mut left = self.left.lock().unwrap();
        while *left == 0 {
            // The test may have ended.
            let _ = self.held_tx.send(());
            left = self.opened.wait(left).unwrap();
        }
        let passing = (bytes as u64).min(*left);
        *left -= passing;
        passing as usize
    }
}

/// Copies both ways between two sockets, each on a thread of its own.
fn pass(client: TcpStream, server: TcpStream, gate: &Arc<Gate>) {
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut from_client, mut to_server, gate) = (client, server, Arc::clone(gate));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_client.read(&mut buffer) {
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let (passing, held) = rest.split_at(gate.take(rest.len()));
                if to_server.write_all(passing).is_err() {
                    return;
                }
                rest = held;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
}
