//! `/api/v1/openapi.json`: the description of the HTTP API, for programs that generate clients and for tests.
//!
//! The description is written by hand. Tests compare it with the routes and with real responses.

use std::sync::Arc;

use axum::extract;
use axum::response::Response;
use serde_json::Value;

use super::State;
use super::answer::{ApiError, Content};

const DESCRIPTION: &str = include_str!("openapi.json");
/// Placeholder for the version of this program.
const VERSION: &str = "@version@";

pub(super) async fn openapi(extract::State(state): extract::State<Arc<State>>) -> Result<Response, ApiError> {
    let turn = state.answers.to_tell().await?;
    turn.answer(move || {
        let description = described(state.view.live.current().http.token.is_some());
        Content::json(
            &description
                .map_err(|error| ApiError::unavailable(format!("the description cannot be read: {error}")))?,
        )
    })
    .await
}

/// The description of a daemon with a token (`is_guarded`) or without one.
fn described(is_guarded: bool) -> serde_json::Result<Value> {
    let mut description: Value =
        serde_json::from_str(&DESCRIPTION.replace(VERSION, env!("CARGO_PKG_VERSION")))?;
    if !is_guarded {
        let paths = description["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
        let operations = paths.filter_map(Value::as_object_mut).flat_map(|path| path.values_mut());
        for operation in operations.filter_map(Value::as_object_mut) {
            operation.remove("security");
        }
    }
    Ok(description)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Pages for people. They are not part of the API.
    fn is_page(path: &str) -> bool {
        path == "/" || path.starts_with("/dashboard")
    }

    /// The methods and paths in the text of `routes.rs`.
    fn routes() -> BTreeSet<(String, String)> {
        let source = include_str!("routes.rs");
        let end = source.find(".fallback(").unwrap();
        let mut routes = BTreeSet::new();
        for route in source[..end].split(".route(").skip(1) {
            let path = route.split('"').nth(1).unwrap();
            let handlers = &route[route.find(path).unwrap() + path.len() + 1..];
            for method in ["get", "put", "post", "delete", "patch"] {
                let is_there = handlers
                    .match_indices(&format!("{method}("))
                    .any(|(at, _)| handlers[..at].ends_with([' ', '.', '\n']));
                if is_there && !is_page(path) {
                    routes.insert((method.to_owned(), path.to_owned()));
                }
            }
        }
        routes
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let description = described(true).unwrap();
        let mut known = BTreeSet::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            known.extend(operations.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
        }
        assert_eq!(known, routes());
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn security_is_as_it_is_in_force() {
        let guarded = |is_guarded| {
            let description = described(is_guarded).unwrap();
            let paths = description["paths"].as_object().unwrap().clone();
            let operations = paths.values().flat_map(|path| path.as_object().unwrap().values().cloned());
            operations.filter(|operation| operation.get("security").is_some()).count()
        };
        assert_eq!(guarded(false), 0);
        let handlers = [
            include_str!("catalog.rs"),
            include_str!("epoch.rs"),
            include_str!("frames.rs"),
            include_str!("observed.rs"),
            include_str!("refusals.rs"),
            include_str!("streams.rs"),
        ];
        let checks: usize = handlers.iter().map(|source| source.matches("state.check").count()).sum();
        assert_eq!(guarded(true), checks);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let description = described(true).unwrap();
        let text = description.to_string();
        let references: Vec<_> =
            text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(references.len() > 50);
        let mut used = BTreeSet::new();
        for reference in references {
            assert!(description.pointer(reference).is_some(), "{reference}");
            used.insert(reference);
        }
        for group in ["schemas", "responses"] {
            for name in description["components"][group].as_object().unwrap().keys() {
                assert!(used.contains(&*format!("/components/{group}/{name}")), "{name} is never used");
            }
        }
    }
}
