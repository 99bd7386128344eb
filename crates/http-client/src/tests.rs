use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use axum::http::StatusCode;

use super::*;

const MAX: u64 = 100;

/// The answer that the client makes of `text`, which a server writes behind the request.
async fn read(text: &str) -> Result<(u16, String), String> {
    let (near, mut far) = tokio::io::duplex(64 << 10);
    let request = Request::get("/").header(HOST, "test").body(Full::default()).unwrap();
    let serve = async {
        let mut sent = Vec::new();
        while !sent.ends_with(b"\r\n\r\n") {
            far.read_buf(&mut sent).await.unwrap();
        }
        // The client may have read enough.
        let _ = far.write_all(text.as_bytes()).await;
        drop(far);
    };
    let (answer, ()) = tokio::join!(Answer::read(near, request, MAX), serve);
    let answer = answer.map_err(|error| error.to_string())?;
    Ok((answer.status.as_u16(), String::from_utf8(answer.body).unwrap()))
}

#[tokio::test]
async fn bodies_end_by_length_by_chunks_or_with_the_connection() {
    for (text, status, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more", 200, "hello"),
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length:0\r\n\r\n", 503, ""),
        ("HTTP/1.0 200 OK\n\nto the end", 200, "to the end"),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", 204, ""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nWiki\r\nA;x=y\r\npedia, all\r\n0\r\nT: x\r\n\r\n",
            200,
            "Wikipedia, all",
        ),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
    ] {
        assert_eq!(read(text).await, Ok((status, body.to_owned())), "{text:?}");
    }
}

#[tokio::test]
async fn broken_and_too_large_answers_and_other_protocols_are_errors() {
    let long = "x".repeat(101);
    let header = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let (ended, large) =
        ("the connection ended in the middle of the answer", "the answer is larger than 100 bytes");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (text, error) in [
        ("", ended),
        ("HTTP/1.1 200 OK\r\nContent-Le", ended),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", ended),
        (&format!("{chunked}5\r\nhell"), ended),
        (&format!("{chunked}4\r\nhell\r\n"), ended),
        ("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", large),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "the answer is larger than 16384 bytes",
        ),
        (&format!("HTTP/1.1 200 OK\r\n\r\n{long}"), large),
        (&format!("{chunked}33\r\n{half}\r\n33\r\n{half}\r\n", half = &long[..51]), large),
        (&header, "the answer is larger than 16384 bytes"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "this is not HTTP: invalid HTTP version parsed"),
        ("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", "this is not HTTP: invalid HTTP header parsed"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
            "this is not HTTP: invalid content-length parsed",
        ),
        (&format!("{chunked}-1\r\n"), "this is not HTTP: Invalid chunk size line: missing size digit"),
        (&format!("{chunked}2\r\nhell\r\n0\r\n\r\n"), "this is not HTTP: Invalid chunk body CR"),
    ] {
        assert_eq!(read(text).await, Err(error.to_owned()), "{text:?}");
    }
}

#[test]
fn a_problem_is_its_reason_or_the_start_of_the_body() {
    let problem =
        |body: &str| Answer { status: StatusCode::FORBIDDEN, body: body.as_bytes().to_vec() }.problem();
    assert_eq!(
        problem(r#"{"error":"forbidden","reason":"not from there"}"#),
        "answered 403 Forbidden: not from there"
    );
    assert_eq!(problem("<html>\x1b[2J"), "answered 403 Forbidden: <html> [2J");
    assert_eq!(problem(""), "answered 403 Forbidden");
}

#[test]
fn urls_are_plain_http_with_a_host() {
    let url = |text: &str| text.parse::<Url>();
    let parsed = url("http://[::1]:7482/behind/a/proxy/").unwrap();
    assert_eq!((parsed.host.as_str(), parsed.port, parsed.prefix.as_str()), ("::1", 7482, "/behind/a/proxy"));
    assert_eq!(parsed.to_string(), "http://[::1]:7482/behind/a/proxy");
    assert_eq!(url("http://groundstation").unwrap().port, 80);
    for text in ["", "/", "http://", "http:///x", "http://host:port", "http://host:99999", "no url"] {
        assert_eq!(url(text), Err(UrlError::Malformed(text.to_owned())), "{text:?}");
    }
    for text in ["ftp://host", "127.0.0.1:7482", "localhost"] {
        assert_eq!(url(text), Err(UrlError::Scheme(text.to_owned())), "{text:?}");
    }
    for text in ["http://user:secret@host", "http://host/?a=b", "http://host/#x"] {
        assert_eq!(url(text), Err(UrlError::Excess), "{text:?}");
    }
}

#[test]
fn a_listener_on_all_addresses_is_asked_on_loopback() {
    for (listen, url) in [
        ("127.0.0.1:7482", "http://127.0.0.1:7482"),
        ("192.0.2.7:80", "http://192.0.2.7:80"),
        ("0.0.0.0:7482", "http://127.0.0.1:7482"),
        ("[::]:7482", "http://[::1]:7482"),
    ] {
        assert_eq!(Url::of_listener(listen.parse().unwrap()).to_string(), url, "{listen}");
    }
}

#[tokio::test]
async fn a_request_names_the_host_and_its_path_and_has_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/at", listener.local_addr().unwrap()).parse().unwrap();
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1_024];
        let read = socket.read(&mut request).await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        String::from_utf8(request[..read].to_vec()).unwrap()
    };
    let limits = Limits { time: Duration::from_secs(20), body_bytes: MAX };
    let (request, answer) = tokio::join!(server, url.get("/healthz", limits));
    assert_eq!(answer.unwrap().body, b"ok");
    assert!(request.starts_with("GET /at/healthz HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nHost: {}\r\n", listener.local_addr().unwrap())), "{request}");

    let silent = Limits { time: Duration::from_millis(50), ..limits };
    assert_eq!(url.get("/", silent).await.unwrap_err().to_string(), "no answer within 50ms");
    // The socket is bound, so that no other program gets the port, but it does not listen.
    let nobody = tokio::net::TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url: Url = format!("http://{}", nobody.local_addr().unwrap()).parse().unwrap();
    assert_eq!(url.get("/", limits).await.unwrap_err().to_string(), "cannot connect: connection refused");
}
