//! How much memory reading takes, and what happens to the first part of a message.

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn pair() -> (TcpStream, Socket) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), async { listener.accept().await });
    (ours.unwrap(), theirs.unwrap().0.into())
}

fn input(limit: usize) -> Input {
    Input::new(BufferPool::new(READ_BYTES, 4), Vec::new(), limit)
}

/// Reads until `bytes` bytes lie in one buffer, like a session that finds no complete message.
async fn read(input: &mut Input, socket: &mut Socket, bytes: usize) -> ReadBuffer {
    loop {
        socket.readable().await.unwrap();
        let mut read = input.read_from(socket, usize::MAX);
        assert!(read.end.is_none());
        if read.buffer.bytes.len() >= bytes {
            return read.buffer;
        }
        input.keep(&mut read.buffer, 0);
        input.pool.give(read.buffer);
    }
}

fn message(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

#[tokio::test]
async fn a_length_beyond_the_limit_allocates_nothing() {
    let (mut peer, mut socket) = pair().await;
    let mut input = input(128 << 10);
    peer.write_all(&[&[0xFF; 4][..], &[7; 8192]].concat()).await.unwrap();
    let buffer = read(&mut input, &mut socket, 8196).await;
    assert_eq!(buffer.bytes.capacity(), READ_BYTES);
}

#[tokio::test]
async fn a_message_within_the_limit_allocates_exactly_its_length() {
    let (mut peer, mut socket) = pair().await;
    let mut input = input(128 << 10);
    let sent = message(&[1; 100_000]);
    let (buffer, ()) = tokio::join!(read(&mut input, &mut socket, sent.len()), async {
        for part in sent.chunks(30_000) {
            peer.write_all(part).await.unwrap();
        }
    });
    assert_eq!(buffer.bytes, sent);
    assert_eq!(buffer.bytes.capacity(), sent.len());
}

#[tokio::test]
async fn the_kept_beginning_of_a_message_precedes_the_rest() {
    for kept in [3, 300, MOVED_BYTES_MAX + 1] {
        let (mut peer, mut socket) = pair().await;
        let mut input = input(128 << 10);
        let sent = [message(b"first"), message(&[7; MOVED_BYTES_MAX + 10])].concat();
        let first = message(b"first").len();
        peer.write_all(&sent[..first + kept]).await.unwrap();
        let mut buffer = read(&mut input, &mut socket, first + kept).await;
        input.keep(&mut buffer, first);
        peer.write_all(&sent[first + kept..]).await.unwrap();
        let buffer = read(&mut input, &mut socket, sent.len() - first).await;
        assert_eq!(buffer.bytes, sent[first..], "{kept} bytes of it were there");
    }
}

#[tokio::test]
async fn bytes_received_behind_hello_are_read_first() {
    let (mut peer, mut socket) = pair().await;
    let mut input = Input::new(BufferPool::new(READ_BYTES, 4), message(b"behind"), 128 << 10);
    peer.write_all(&message(b"more")).await.unwrap();
    let sent = [message(b"behind"), message(b"more")].concat();
    assert_eq!(read(&mut input, &mut socket, sent.len()).await.bytes, sent);
}

#[tokio::test]
async fn an_idle_connection_holds_no_memory() {
    let (mut peer, mut socket) = pair().await;
    let mut input = input(128 << 10);
    peer.write_all(&[0; 1 << 10]).await.unwrap();
    let mut buffer = read(&mut input, &mut socket, 1 << 10).await;
    input.keep(&mut buffer, 1 << 10);
    input.shrink();
    assert_eq!(input.partial.capacity(), 0);
}
