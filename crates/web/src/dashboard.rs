//! `/`: the dashboard, a page for the operator on shift. Its files are part of the binary. It loads nothing from other
//! hosts.
//!
//! The page knows only what the API reports. `dashboard/app.js` puts its parts together, `dashboard/link.js` listens to
//! `/api/v1/stream`, and `dashboard/model.js` keeps the newest report.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::answer::ApiError;

/// The page may not use inline scripts or styles, load from other hosts, or be shown in a frame.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// One file of the page.
struct File {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! files {
    ($($name:literal: $content_type:ident,)*) => {
        [$(File { name: $name, content_type: $content_type, content: include_str!(concat!("dashboard/", $name)) },)*]
    };
}

/// All files. The page itself comes first.
static FILES: [File; 21] = files! {
    "index.html": HTML,
    "style.css": CSS,
    "panels.css": CSS,
    "icon.svg": SVG,
    "theme.js": SCRIPT,
    "app.js": SCRIPT,
    "charts.js": SCRIPT,
    "details.js": SCRIPT,
    "dom.js": SCRIPT,
    "forget.js": SCRIPT,
    "format.js": SCRIPT,
    "grid.js": SCRIPT,
    "head.js": SCRIPT,
    "land.js": SCRIPT,
    "link.js": SCRIPT,
    "links.js": SCRIPT,
    "map.js": SCRIPT,
    "model.js": SCRIPT,
    "outputs.js": SCRIPT,
    "panels.js": SCRIPT,
    "poll.js": SCRIPT,
};

/// One tag for all files, so that a browser never mixes files of two releases.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let sum = FILES.iter().fold(0, |sum, file| crc32c::crc32c_append(sum, file.content.as_bytes()));
    HeaderValue::from_str(&format!("\"{}-{sum:08x}\"", env!("CARGO_PKG_VERSION")))
        .unwrap_or(HeaderValue::from_static("\"\""))
});

pub(super) async fn page(headers: HeaderMap) -> Response {
    FILES[0].answer(&headers)
}

pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap, uri: Uri) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => file.answer(&headers),
        None => ApiError::not_found(format!("the dashboard has no file {}; it is at /", uri.path()))
            .into_response(),
    }
}

pub(super) async fn to_page() -> Redirect {
    Redirect::permanent("/")
}

impl File {
    fn answer(&self, asked: &HeaderMap) -> Response {
        let headers: [(HeaderName, HeaderValue); 6] = [
            (header::ETAG, TAG.clone()),
            // The browser may keep the file but must revalidate it, because the page must fit the running daemon.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
        ];
        if is_known(asked) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, self.content).into_response()
    }
}

/// Whether the browser has the files of this release.
fn is_known(asked: &HeaderMap) -> bool {
    let tags = asked.get_all(header::IF_NONE_MATCH).into_iter();
    let mut tags = tags.filter_map(|tags| tags.to_str().ok()).flat_map(|tags| tags.split(','));
    tags.any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == TAG.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_has_the_current_file_gets_304() {
        let asked = |tag: &str| HeaderMap::from_iter([(header::IF_NONE_MATCH, tag.parse().unwrap())]);
        let tag = TAG.to_str().unwrap();
        let status = |tag: &str| FILES[0].answer(&asked(tag)).status().as_u16();
        assert_eq!(status(tag), 304);
        assert_eq!(status(&format!("\"other\", W/{tag}")), 304);
        assert_eq!(status("\"other\""), 200);
    }

    #[test]
    fn every_file_that_the_page_names_is_served() {
        let names: Vec<_> = FILES.iter().map(|file| file.name).collect();
        for file in &FILES {
            for quote in file.content.split('"').filter(|quote| quote.len() < 40) {
                let asked = quote.strip_prefix("dashboard/").or_else(|| quote.strip_prefix("./"));
                if let Some(asked) = asked.filter(|asked| asked.contains('.')) {
                    assert!(names.contains(&asked), "{} asks for {asked}", file.name);
                }
            }
        }
    }
}
