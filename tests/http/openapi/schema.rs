//! Answers compared with the schemas of the description.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// An API description, and the parts of it that the test has seen.
#[derive(Default)]
pub struct Api {
    pub description: Value,
    pub seen: std::cell::RefCell<BTreeSet<String>>,
}

impl Api {
    pub fn schemas(&self) -> &Map<String, Value> {
        self.description["components"]["schemas"].as_object().expect("schemas")
    }

    /// Follows the reference in `schema`, if there is one.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let Some(reference) = schema["$ref"].as_str() else { return schema };
        if let Some(name) = reference.strip_prefix("#/components/schemas/") {
            self.seen.borrow_mut().insert(name.to_owned());
        }
        self.description.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    #[track_caller]
    pub fn check_answer(&self, path: &str, method: &str, status: u16, answer: &Value) {
        let response = &self.description["paths"][path][method]["responses"][status.to_string()];
        let schema = &self.resolve(response)["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {path} with {status} is not described: {answer:#}");
        self.check(schema, answer, path);
    }

    /// Asserts that `value` matches `schema`, and that an object has exactly the properties of its schema.
    #[track_caller]
    pub fn check(&self, schema: &Value, value: &Value, at: &str) {
        let schema = self.resolve(schema);
        if let Some([schema, null]) = schema["oneOf"].as_array().map(Vec::as_slice) {
            assert_eq!(null["type"], "null", "{at}");
            if !value.is_null() {
                self.check(schema, value, at);
            }
            return;
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) if types.contains(&"number") => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        assert!(types.contains(&found), "{at} is {value}, described as {types:?}");
        if let Some(known) = schema["enum"].as_array() {
            assert!(known.contains(value), "{at} is {value}, described as {known:?}");
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&schema["items"], item, &format!("{at}[{index}]"));
        }
        let Some(object) = value.as_object() else { return };
        if schema == &json!({ "type": "object" }) {
            // The OpenAPI document has no schema of its own.
            return;
        }
        if let Some(properties) = schema["properties"].as_object() {
            let keys = |object: &Map<String, Value>| object.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(keys(object), keys(properties), "{at}");
            let required = schema["required"].as_array().expect("what is required");
            assert_eq!(required.len(), properties.len(), "{at}: all of it is always there");
        }
        for (key, item) in object {
            if let Some(names) = schema.get("propertyNames") {
                self.check(names, &json!(key), at);
            }
            let schema = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
            self.check(schema, item, &format!("{at}.{key}"));
        }
    }
}
