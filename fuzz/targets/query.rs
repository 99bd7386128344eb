//! The queries of the HTTP API.
#![no_main]

use api::{CatalogQuery, FramesQuery, SourcesQuery};
use axum::extract::Query;
use axum::http::Uri;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(uri) = format!("/?{text}").parse::<Uri>() else { return };
    let _ = Query::<FramesQuery>::try_from_uri(&uri);
    let _ = Query::<SourcesQuery>::try_from_uri(&uri);
    let _ = Query::<CatalogQuery>::try_from_uri(&uri);
});
