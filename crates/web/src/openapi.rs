//! The OpenAPI document. Each [`Operation`] of the table in `routes` describes itself. The schemas come from the types
//! in [`api`].

use std::sync::Arc;

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use serde_json::{Map, Value, json};
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema as _, ToSchema};

use super::State;
use super::answer::JSON;
use api::Problem;

const DESCRIPTION: &str = "The HTTP API of the daemon for operators. The body of every error is a `Problem`. \
    Each path takes only the methods that are listed here, and HEAD where it takes GET. Another method gets 405 \
    with `Allow`. Answers of 4 KiB and more are compressed with gzip for clients that accept it. Later versions \
    may add fields to answers. They keep the fields that are described here.";
const BEARER: &str = "The token of `http.token`. Without `http.token`, no token is needed, but only programs on \
    this host may send the request.";

/// The errors: status, name and description.
const PROBLEMS: [(u16, &str, &str); 10] = [
    (
        400,
        "BadRequest",
        "A parameter is unknown or has a wrong value. Or the request can be read in two ways: it has `Host`, `Origin`, \
         `Sec-Fetch-Site` or `Authorization` twice, or its URI names another host than `Host`.",
    ),
    (401, "Unauthorized", "The token of `http.token` is missing or wrong."),
    (
        403,
        "Forbidden",
        "Without `http.token`, only programs on this host may send this, and no pages of other sites.",
    ),
    (404, "NotFound", "It does not exist."),
    (408, "Late", "The body did not come in time."),
    (409, "Conflict", "The present state does not allow this. The reason says what to do first."),
    (413, "TooLarge", "The body is too large: more than 4 MiB for a catalog, more than 8 KiB otherwise."),
    (415, "NotJson", "The body must be `application/json`."),
    (422, "Unprocessable", "The body can be read, but a value in it is wrong. The reason says where."),
    (
        503,
        "Unavailable",
        "Not now: the daemon is shutting down, its archive cannot do it, or too many clients ask. See the reason.",
    ),
];

/// A path with a method, its handler and its description.
pub(super) struct Operation {
    pub(super) path: &'static str,
    pub(super) handler: MethodRouter<Arc<State>>,
    method: &'static str,
    /// The operation object of the document.
    described: Value,
    /// The schemas that it refers to, and those that they refer to.
    schemas: Vec<(String, RefOr<Schema>)>,
}

/// Declares a constructor for each method.
macro_rules! constructors {
    ($($method:ident $filter:ident),*) => {
        impl Operation {
            $(pub(super) fn $method<H: Handler<T, Arc<State>>, T: 'static>(
                path: &'static str,
                handler: H,
                id: &str,
                summary: &str,
            ) -> Self {
                Self::new(path, on(MethodFilter::$filter, handler), stringify!($method), id, summary)
            })*
        }
    };
}

constructors!(get GET, put PUT, post POST, delete DELETE);

impl Operation {
    fn new(
        path: &'static str,
        handler: MethodRouter<Arc<State>>,
        method: &'static str,
        id: &str,
        summary: &str,
    ) -> Self {
        let tag = if path.starts_with("/api/") { "api" } else { "health" };
        let described = json!({
            "operationId": id,
            "tags": [tag],
            "summary": summary,
            "responses": {
                // The guard refuses an ambiguous request before the handler sees it.
                "400": { "$ref": "#/components/responses/BadRequest" },
                // hyper refuses a long head before the router sees the request.
                "431": { "$ref": "#/components/responses/HeadTooLarge" },
            },
        });
        Self { path, handler, method, described, schemas: Vec::new() }
    }

    /// Adds more than the summary says.
    pub(super) fn details(mut self, text: &str) -> Self {
        self.described["description"] = text.into();
        self
    }

    /// Takes the query parameters of `T`.
    pub(super) fn query<T: IntoParams>(self) -> Self {
        let parameters = T::into_params(|| Some(ParameterIn::Query));
        self.parameters(parameters.iter().map(|parameter| json!(parameter)))
    }

    /// Takes a number `name` in the path.
    pub(super) fn path_number(self, name: &str, description: &str) -> Self {
        self.in_path(name, description, json!({ "type": "integer", "minimum": 0 }))
    }

    /// Takes a text `name` in the path.
    pub(super) fn path_text(self, name: &str, description: &str) -> Self {
        self.in_path(name, description, json!({ "type": "string" }))
    }

    fn in_path(self, name: &str, description: &str, schema: Value) -> Self {
        let mut parameter =
            json!({ "name": name, "in": "path", "required": true, "description": description });
        parameter["schema"] = schema;
        self.parameters([parameter])
    }

    fn parameters(mut self, more: impl IntoIterator<Item = Value>) -> Self {
        let mut parameters = self.described["parameters"].as_array().cloned().unwrap_or_default();
        parameters.extend(more);
        self.described["parameters"] = parameters.into();
        self
    }

    /// Takes a `T` as JSON.
    pub(super) fn body<T: ToSchema>(mut self) -> Self {
        let schema = self.reference::<T>();
        self.described["requestBody"] =
            json!({ "required": true, "content": { JSON: { "schema": schema } } });
        self
    }

    /// Takes a text.
    pub(super) fn text_body(mut self, description: &str) -> Self {
        let content = json!({ "text/plain": { "schema": { "type": "string" } } });
        self.described["requestBody"] =
            json!({ "required": true, "description": description, "content": content });
        self
    }

    /// Answers `status` with a `T` as JSON.
    pub(super) fn json<T: ToSchema>(mut self, status: u16, description: &str) -> Self {
        let schema = self.reference::<T>();
        self.answer(status, description)["content"][JSON]["schema"] = schema;
        self
    }

    /// Answers `status` with a JSON object without a schema.
    pub(super) fn object(mut self, status: u16, description: &str) -> Self {
        self.answer(status, description)["content"][JSON]["schema"]["type"] = "object".into();
        self
    }

    /// Answers `status` with a text of one of these content types.
    pub(super) fn text(mut self, status: u16, description: &str, content_types: &[&str]) -> Self {
        for content_type in content_types {
            self.answer(status, description)["content"][content_type]["schema"]["type"] = "string".into();
        }
        self
    }

    /// Answers `status` without a body.
    pub(super) fn empty(mut self, status: u16, description: &str) -> Self {
        self.answer(status, description);
        self
    }

    /// Answers these errors of [`PROBLEMS`].
    pub(super) fn problems(mut self, statuses: &[u16]) -> Self {
        for (status, name, _) in PROBLEMS.iter().filter(|(status, ..)| statuses.contains(status)) {
            self.described["responses"][status.to_string()] =
                json!({ "$ref": format!("#/components/responses/{name}") });
        }
        self
    }

    /// Needs the token, if one is configured. Answers 401 and these errors of [`PROBLEMS`].
    pub(super) fn guarded(mut self, statuses: &[u16]) -> Self {
        self.described["security"] = json!([{ "bearer": [] }]);
        self.problems(&[401]).problems(statuses)
    }

    fn answer(&mut self, status: u16, description: &str) -> &mut Value {
        let answer = &mut self.described["responses"][status.to_string()];
        answer["description"] = description.into();
        answer
    }

    /// A reference to the schema of `T`, which becomes a part of the document.
    fn reference<T: ToSchema>(&mut self) -> Value {
        T::schemas(&mut self.schemas);
        self.schemas.push((T::name().into_owned(), T::schema()));
        reference(&T::name())
    }
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// The document of a daemon with these operations. Without a token, no operation needs one.
pub(super) fn document(operations: Vec<Operation>, has_token: bool) -> serde_json::Result<Value> {
    let (mut paths, mut schemas) = (json!({}), Map::new());
    schemas.insert(Problem::name().into_owned(), json!(Problem::schema()));
    for Operation { path, method, mut described, schemas: used, .. } in operations {
        if !has_token && let Some(described) = described.as_object_mut() {
            described.remove("security");
        }
        paths[path][method] = described;
        for (name, schema) in used {
            schemas.insert(name, serde_json::to_value(schema)?);
        }
    }
    // A derived schema cannot say that one of its properties is required.
    let conditions = ["source_ids", "kind", "station", "station_glob", "offline_for_s"];
    schemas["ForgetRequest"]["anyOf"] = conditions.map(|name| json!({ "required": [name] })).into();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Telemetry aggregator",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
        },
        "servers": [{ "url": "/" }],
        "tags": [
            { "name": "health", "description": "For programs that supervise the daemon." },
            { "name": "api", "description": "For people and their programs." },
        ],
        "paths": paths,
        "components": {
            "securitySchemes": { "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": BEARER,
            } },
            "responses": problems(),
            "schemas": schemas,
        },
    });
    refine(&mut document);
    Ok(document)
}

fn problems() -> Value {
    let mut problems = json!({});
    for (_, name, description) in PROBLEMS {
        let content = json!({ JSON: { "schema": reference(&Problem::name()) } });
        problems[name] = json!({ "description": description, "content": content });
    }
    problems["Unauthorized"]["headers"]["WWW-Authenticate"] = json!({
        "required": true,
        "description": "How to send the token.",
        "schema": { "type": "string", "enum": ["Bearer"] },
    });
    problems["HeadTooLarge"] = json!({
        "description": "Path, query and headers of the request have more than 8 KiB. The answer has no body.",
    });
    problems
}

/// Gives each integer in `value` the bounds of its type, and puts each description into one line per paragraph.
fn refine(value: &mut Value) {
    let is_integer = |kind: &Value| kind == "integer" || kind[0] == "integer";
    if value.get("type").is_some_and(is_integer) {
        // utoipa writes `u-int32` for u32. It writes no format for usize.
        let (format, minimum, maximum) = match value["format"].as_str() {
            Some("u-int8") => ("uint8", 0, u64::from(u8::MAX)),
            Some("u-int32") => ("uint32", 0, u64::from(u32::MAX)),
            Some("int64") => ("int64", i64::MIN, i64::MAX as u64),
            _ => ("uint64", 0, u64::MAX),
        };
        value["format"] = format.into();
        if value.get("minimum").is_none() {
            value["minimum"] = minimum.into();
        }
        if value.get("maximum").is_none() {
            value["maximum"] = maximum.into();
        }
    }
    match value {
        Value::Object(members) => {
            if let Some(Value::String(description)) = members.get_mut("description") {
                *description = description
                    .split("\n\n")
                    .map(|text| text.replace('\n', " "))
                    .collect::<Vec<_>>()
                    .join("\n\n");
            }
            members.values_mut().for_each(refine);
        }
        Value::Array(items) => items.iter_mut().for_each(refine),
        _ => {}
    }
}
