//! Decides which clients may change something or read payloads: with a token, every client that sends it; without one,
//! only programs on this host.
//!
//! A browser on this host runs pages of other sites. These pages must not reach the daemon through the browser. So a
//! request without a token must name this host in `Host`. A page whose name was made to resolve to 127.0.0.1 sends
//! another name. The request must also come from a page of the daemon or from no page (`Origin`, `Sec-Fetch-Site`). A
//! page of another site cannot know a token.
//!
//! Behind a proxy on this host every client would look local. So a request with headers of a proxy is refused.
//!
//! These checks read one value of each header. `refuse_ambiguous` refuses every request that another program could
//! read in another way: with one of these headers twice, or with a URI that names another host than `Host`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{self, Extension, Request};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use subtle::ConstantTimeEq;

use super::State;
use super::answer::ApiError;
use super::server::Peer;
use config::Secret;

/// Headers that a proxy adds. Behind a proxy all clients seem to come from this host.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
/// A browser sends this header even where it sends no `Origin`.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Headers that a request may have once at most.
const SINGLE: [HeaderName; 4] = [header::HOST, header::ORIGIN, SEC_FETCH_SITE, header::AUTHORIZATION];

/// Refuses a request whose headers contradict each other. Counts the refusal.
pub(super) async fn refuse_ambiguous(
    extract::State(state): extract::State<Arc<State>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match check_head(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            state.note_refusal(peer, &error);
            error.into_response()
        }
    }
}

fn check_head(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(name) = SINGLE.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        return Err(ApiError::bad_request(format!("{name} is there more than once")));
    }
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    match uri.authority() {
        Some(named) if !host.is_some_and(|host| host.eq_ignore_ascii_case(named.as_str().as_bytes())) => {
            Err(ApiError::bad_request(format!("the URI of the request names {named}, and host another")))
        }
        _ => Ok(()),
    }
}

/// Checks a request that changes something or reads payloads.
pub(super) fn check(token: Option<&Secret>, peer: Peer, headers: &HeaderMap) -> Result<(), ApiError> {
    match token {
        Some(token) => check_token(token, headers),
        None => check_local(peer, headers),
    }
}

fn check_token(token: &Secret, headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let refused = |reason| Err(ApiError::new(StatusCode::UNAUTHORIZED, reason));
    match given.map(|value| value.split_at_checked("Bearer ".len())) {
        None => refused("this needs the token of http.token: send it as Authorization: Bearer TOKEN"),
        Some(Some((scheme, given))) if scheme.eq_ignore_ascii_case(b"Bearer ") => {
            let is_same = bool::from(given.trim_ascii().ct_eq(token.expose().as_bytes()));
            if is_same { Ok(()) } else { refused("unknown token") }
        }
        Some(_) => refused("Authorization must be: Bearer TOKEN"),
    }
}

fn check_local(Peer(peer): Peer, headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = |reason: String| Err(ApiError::new(StatusCode::FORBIDDEN, reason));
    if !peer.ip().to_canonical().is_loopback() {
        return refused(format!(
            "without http.token only this host may do that, and {} is another; set http.token_file",
            peer.ip()
        ));
    }
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("(not text)"));
    let Some(host) = text(header::HOST) else {
        return refused("Host is missing".to_owned());
    };
    if !is_this_host(host) {
        return refused(format!("Host: {host} is not this host; without http.token it must be localhost"));
    }
    if let Some(name) = FORWARDED.into_iter().find(|name| headers.contains_key(*name)) {
        return refused(format!(
            "{name} says that this comes by way of a proxy; behind one set http.token_file"
        ));
    }
    if let Some(site) = text(SEC_FETCH_SITE)
        && !["same-origin", "none"].contains(&site)
    {
        return refused(format!("Sec-Fetch-Site: {site} is a page of another site"));
    }
    match text(header::ORIGIN) {
        Some(origin) if host_of(origin) != Some(host) => {
            refused(format!("Origin: {origin} is another site than {host}"))
        }
        _ => Ok(()),
    }
}

/// The host and the port of a page.
fn host_of(origin: &str) -> Option<&str> {
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
}

fn is_this_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(token: Option<&str>, peer: &str, headers: &[(header::HeaderName, &str)]) -> u16 {
        let token = token.map(|token| Secret::new(token).unwrap());
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        match check(token.as_ref(), Peer(peer.parse().unwrap()), &headers) {
            Ok(()) => 200,
            Err(error) => axum::response::IntoResponse::into_response(error).status().as_u16(),
        }
    }

    #[test]
    fn with_a_token_only_the_token_counts() {
        use header::{AUTHORIZATION, HOST};
        let far = "192.0.2.7:5000";
        assert_eq!(status(Some("secret"), far, &[(AUTHORIZATION, "Bearer secret")]), 200);
        assert_eq!(status(Some("secret"), far, &[(AUTHORIZATION, "bearer secret")]), 200);
        for wrong in ["Bearer secre", "Bearer secret2", "Basic secret", "secret", "Bearer", ""] {
            assert_eq!(status(Some("secret"), "127.0.0.1:5000", &[(AUTHORIZATION, wrong)]), 401, "{wrong}");
        }
        assert_eq!(status(Some("secret"), "127.0.0.1:5000", &[(HOST, "localhost")]), 401);
    }

    #[test]
    fn a_request_that_can_be_read_in_two_ways_is_refused() {
        let judge = |uri: &str, headers: &[(HeaderName, &str)]| {
            let headers =
                headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            check_head(&uri.parse().unwrap(), &headers).map_err(|error| error.reason().to_owned())
        };
        let host = (header::HOST, "localhost:7482");
        for name in SINGLE {
            assert_eq!(judge("/", &[(name.clone(), "one")]), Ok(()));
            let reason = judge("/", &[(name.clone(), "one"), (name.clone(), "one")]).unwrap_err();
            assert!(reason.starts_with(name.as_str()), "{reason}");
        }
        assert_eq!(judge("http://LOCALHOST:7482/healthz", std::slice::from_ref(&host)), Ok(()));
        for uri in ["http://evil.example/", "http://localhost/", "http://localhost:7482@evil.example/"] {
            assert!(judge(uri, std::slice::from_ref(&host)).is_err(), "{uri}");
        }
        assert!(judge("http://localhost:7482/", &[]).is_err(), "without Host");
        assert_eq!(judge("*", &[host]), Ok(()));
    }

    #[test]
    fn without_a_token_only_this_host_may() {
        use header::{HOST, ORIGIN};
        let near = "127.0.0.1:5000";
        for host in ["localhost:7482", "127.0.0.1:7482", "[::1]:7482", "LOCALHOST", "127.3.2.1"] {
            assert_eq!(status(None, near, &[(HOST, host)]), 200, "{host}");
        }
        assert_eq!(status(None, "[::ffff:127.0.0.1]:5000", &[(HOST, "localhost")]), 200);
        assert_eq!(status(None, "192.0.2.7:5000", &[(HOST, "localhost")]), 403);
        for host in ["evil.example:7482", "localhost.evil.example", "192.0.2.7", ""] {
            assert_eq!(status(None, near, &[(HOST, host)]), 403, "{host}");
        }
        assert_eq!(status(None, near, &[]), 403);
        let from = |origin| status(None, near, &[(HOST, "localhost:7482"), (ORIGIN, origin)]);
        assert_eq!(from("http://localhost:7482"), 200);
        for origin in ["http://evil.example", "http://localhost:8000", "https://localhost:8000", "null"] {
            assert_eq!(from(origin), 403, "{origin}");
        }
        let with = |name, value| {
            status(None, near, &[(HOST, "localhost:7482"), (HeaderName::from_static(name), value)])
        };
        for (site, expected) in
            [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403), ("", 403)]
        {
            assert_eq!(with("sec-fetch-site", site), expected, "{site}");
        }
        for name in FORWARDED {
            assert_eq!(with(name, "192.0.2.7"), 403, "{name}");
        }
    }
}
