//! What reading takes in memory.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), async { listener.accept().await });
    (ours.unwrap(), theirs.unwrap().0)
}

async fn read(input: &mut Input, socket: &TcpStream, bytes: usize) {
    while input.bytes.len() < bytes {
        socket.readable().await.unwrap();
        assert!(input.read_from(socket).end.is_none());
    }
}

#[tokio::test]
async fn nothing_is_allocated_for_a_length_beyond_the_limit() {
    for limit in [None, Some(128 << 10)] {
        let (mut peer, socket) = pair().await;
        let mut input = Input::new();
        if let Some(limit) = limit {
            input.set_limit(limit);
        }
        peer.write_all(&[&[0xFF; 4][..], &[7; 8192]].concat()).await.unwrap();
        read(&mut input, &socket, 8196).await;
        assert!(input.bytes.capacity() < 64 << 10, "{} bytes of room", input.bytes.capacity());
    }
}

#[tokio::test]
async fn a_message_within_the_limit_gets_the_room_it_needs() {
    let (mut peer, socket) = pair().await;
    let mut input = Input::new();
    input.set_limit(128 << 10);
    peer.write_all(&(100_000u32.to_be_bytes())).await.unwrap();
    read(&mut input, &socket, 4).await;
    peer.write_all(&[1; 5000]).await.unwrap();
    read(&mut input, &socket, 5004).await;
    assert!(input.bytes.capacity() >= 100_000);
    assert!(input.pinned_bytes() >= 100_000, "and it is known what a slice of it pins");
}

#[tokio::test]
async fn an_idle_connection_keeps_no_more_than_the_least() {
    let (mut peer, socket) = pair().await;
    let mut input = Input::new();
    input.set_limit(128 << 10);
    peer.write_all(&[0; 64 << 10]).await.unwrap();
    read(&mut input, &socket, 64 << 10).await;
    input.shrink();
    assert_eq!(input.bytes.len(), 64 << 10, "what was not decoded stays");
    input.bytes.clear();
    input.shrink();
    assert_eq!(input.bytes.capacity(), 0);
}
