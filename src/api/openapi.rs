//! `GET /openapi.json`: the API described in OpenAPI 3.1, from the tables by which it reads.

use serde_json::{Map, Value, json};
use sockring_protocol::socketio::RESERVED_EVENTS;

use crate::config::Strictness;
use crate::shard::USER_PREFIX;

use super::Api;
use super::answer::{ApiAnswer, put};
use super::emit::EMIT;
use super::operations::{API, AnswerShape, ApiOperation, BodyShape, PATH_EVENT, PATH_USER, operations};
use super::shape::{Field, FieldForm, FieldPresence, Rule, Shape};

/// What `Cargo.toml` says.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// 11 characters of base64url, of which the last has four bits (RFC 4648 section 5).
const EVENT_ID: &str = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$";
/// Shard and place there, as `users::Cursor` reads them.
const CURSOR: &str = r"^(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,9})$";
/// What a number has to be that stands for a user.
const ID_LEAST: i64 = i64::MIN;
const ID_MOST: u64 = u64::MAX;

/// What differs from server to server.
#[derive(Debug)]
struct Facts<'a> {
    strictness: Strictness,
    /// Without keys this machine needs none.
    has_keys: bool,
    namespaces: &'a [String],
    ttl_max_s: u64,
}

pub(super) fn answer(api: &Api) -> ApiAnswer {
    ApiAnswer::bare(
        200,
        &document(&Facts {
            strictness: api.settings.strictness,
            has_keys: api.is_production() || !api.keys.load().is_empty(),
            namespaces: &api.engine.namespaces,
            ttl_max_s: api.settings.kept_ttl_max_s,
        }),
    )
}

fn document(facts: &Facts<'_>) -> Value {
    let mut paths = Map::new();
    for operation in operations(facts.strictness) {
        let path = path_of(operation);
        put(
            paths.entry(path).or_insert_with(|| json!({})),
            &operation.method().to_lowercase(),
            describe(operation, facts),
        );
    }
    for (path, summary, answer) in OPEN {
        paths.insert((*path).to_owned(), json!({"get": describe_open(path, summary, *answer)}));
    }
    let keyless = json!({});
    let mut security = vec![json!({"key": []}), json!({"bearer": []})];
    if !facts.has_keys {
        security.insert(0, keyless);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "sockring",
            "version": VERSION,
            "description": "The HTTP API of a standalone Socket.IO server: emits, rooms, disconnects, state.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": security,
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": {
                "Emit": body_schema(&EMIT, facts),
                "Error": error_schema(),
            },
            "responses": {
                "Error": {
                    "description": "It was not done, and `errors` says why",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                },
            },
        },
    })
}

/// What anybody may ask.
#[derive(Clone, Copy, Debug)]
enum Open {
    State,
    Text,
}

const OPEN: &[(&str, &str, Open)] = &[
    ("/health", "Whether it is alive", Open::State),
    ("/ready", "Whether it should get traffic", Open::State),
    ("/metrics", "What is counted, for Prometheus", Open::Text),
];

/// As `/api/v1/websocket/user/{userId}/kept`.
fn path_of(operation: &ApiOperation) -> String {
    let segments = operation.path().split('/').map(|segment| match segment.strip_prefix(':') {
        Some(name) => format!("{{{name}}}"),
        None => segment.to_owned(),
    });
    format!("{API}{}", segments.collect::<Vec<_>>().join("/"))
}

/// As `postEmitBatch`.
fn name_of(route: &str) -> String {
    let words = route.split(|sign: char| !sign.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let mut signs = word.chars();
        signs.next().into_iter().flat_map(char::to_uppercase).chain(signs).collect::<String>()
    };
    words.enumerate().map(|(at, word)| if at == 0 { word.to_lowercase() } else { capital(word) }).collect()
}

fn describe(operation: &ApiOperation, facts: &Facts<'_>) -> Value {
    let in_path = operation.path().split('/').filter_map(|segment| match segment {
        ":userId" => Some(&PATH_USER),
        ":id" => Some(&PATH_EVENT),
        _ => None,
    });
    let parameter = |field: &Field, place: &str| {
        json!({
            "name": field.name,
            "in": place,
            "required": place == "path",
            "description": field.help,
            "schema": parameter_schema(field, facts),
        })
    };
    let parameters: Vec<_> = in_path
        .map(|field| parameter(field, "path"))
        .chain(operation.query.iter().map(|field| parameter(field, "query")))
        .collect();
    let mut described = json!({
        "operationId": name_of(operation.route),
        "summary": operation.summary,
        "responses": responses(operation, facts),
    });
    if !parameters.is_empty() {
        put(&mut described, "parameters", json!(parameters));
    }
    let schema = match operation.body {
        BodyShape::None => return described,
        BodyShape::One(shape) if shape.names().eq(EMIT.names()) => json!({"$ref": "#/components/schemas/Emit"}),
        BodyShape::One(shape) | BodyShape::IfAny(shape) => body_schema(shape, facts),
        BodyShape::Many(_, count_max) => {
            // One that is wrong does not spoil the others: its place in the answer says so.
            let entry = json!({"type": "object", "description": "an `Emit`, each of which may be wrong for itself"});
            json!({"type": "array", "minItems": 1, "maxItems": count_max, "items": entry})
        }
    };
    // Where none is needed, its type is all the same: it is what a page of another site cannot send.
    let body = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    put(&mut described, "requestBody", body);
    described
}

fn describe_open(path: &str, summary: &str, answer: Open) -> Value {
    let (content_types, schema): (&[&str], Value) = match answer {
        Open::State => {
            let text = json!({"type": "string"});
            let properties = json!({"status": text, "reason": text, "redis": text});
            (&["application/json"], json!({"type": "object", "required": ["status"], "properties": properties}))
        }
        // By `Accept`.
        Open::Text => (&["text/plain", "application/openmetrics-text"], json!({"type": "string"})),
    };
    let content: Map<String, Value> =
        content_types.iter().map(|name| ((*name).to_owned(), json!({"schema": schema}))).collect();
    let said = |words: &str| json!({"description": words, "content": content});
    let otherwise = match answer {
        Open::State => said("It is not"),
        Open::Text => refusal(),
    };
    let responses = json!({"200": said("It is"), "405": refusal(), "503": otherwise});
    json!({"operationId": name_of(&format!("GET {path}")), "summary": summary, "security": [], "responses": responses})
}

fn refusal() -> Value {
    json!({"$ref": "#/components/responses/Error"})
}

/// What may be answered.
fn responses(operation: &ApiOperation, facts: &Facts<'_>) -> Value {
    let data = match operation.answer {
        AnswerShape::Object(fields) => object_schema(fields, facts),
        AnswerShape::Each(fields) => {
            json!({"type": "array", "items": {"anyOf": [object_schema(fields, facts), refused_schema()]}})
        }
        AnswerShape::Texts => form_schema(FieldForm::Texts, facts),
        AnswerShape::Description => Value::Null,
    };
    let schema = match operation.answer {
        AnswerShape::Description => json!({
            "type": "object",
            "required": ["openapi", "info", "paths"],
            "properties": {"openapi": {"const": "3.1.0"}, "info": {"type": "object"}, "paths": {"type": "object"}},
        }),
        _ => envelope_schema(&data),
    };
    let mut responses = Map::new();
    responses
        .insert("200".to_owned(), json!({"description": "Done", "content": {"application/json": {"schema": schema}}}));
    let has_body = !matches!(operation.body, BodyShape::None);
    let has_fields = has_body || !operation.query.is_empty() || operation.path().contains(':');
    let starts_something = operation.path().starts_with("test/analysis-events");
    for (status, may_be) in [
        ("400", true),
        ("401", true),
        ("403", !facts.has_keys),
        ("404", true),
        ("405", true),
        ("409", operation.path() == "test/token"),
        ("413", true),
        ("415", has_body),
        ("422", has_fields),
        ("429", starts_something),
        ("503", true),
        ("504", true),
    ] {
        if may_be {
            responses.insert(status.to_owned(), refusal());
        }
    }
    Value::Object(responses)
}

fn envelope_schema(data: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["statusCode", "data", "message", "success"],
        "properties": {
            "statusCode": {"const": 200},
            "data": data,
            "message": {"type": "string"},
            "success": {"const": true},
        },
        "additionalProperties": false,
    })
}

fn errors_schema() -> Value {
    let error = json!({
        "type": "object",
        "required": ["path", "message"],
        "properties": {
            "path": {"type": "string", "description": "the field, as `rooms[2]`; empty: the request as a whole"},
            "message": {"type": "string"},
        },
        "additionalProperties": false,
    });
    json!({"type": "array", "items": error})
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["statusCode", "data", "message", "success", "errors"],
        "properties": {
            "statusCode": {"type": "integer"},
            "data": {"description": "what is known in spite of it"},
            "message": {"type": "string"},
            "success": {"const": false},
            "errors": errors_schema(),
        },
        "additionalProperties": false,
    })
}

/// Of a batch, what was wrong with one of its entries.
fn refused_schema() -> Value {
    json!({
        "type": "object",
        "required": ["statusCode", "message", "errors"],
        "properties": {
            "statusCode": {"type": "integer"},
            "message": {"type": "string"},
            "errors": errors_schema(),
            "delivered": {"type": "integer", "minimum": 0},
            "published": {"type": "boolean"},
        },
        "additionalProperties": false,
    })
}

fn object_schema(fields: &[Field], facts: &Facts<'_>) -> Value {
    object_of(fields, |field| form_schema(field.form, facts))
}

fn object_of(fields: &[Field], schema_of: impl Fn(&Field) -> Value) -> Value {
    let properties: Map<_, _> = fields
        .iter()
        .map(|field| {
            let mut schema = schema_of(field);
            put(&mut schema, "description", json!(field.help));
            (field.name.to_owned(), schema)
        })
        .collect();
    json!({"type": "object", "required": always(fields), "properties": properties, "additionalProperties": false})
}

fn always(fields: &[Field]) -> Vec<&'static str> {
    fields.iter().filter(|field| field.presence == FieldPresence::Always).map(|field| field.name).collect()
}

/// Of a body: `null` is as good as absent where a field may be absent.
fn body_schema(shape: &Shape, facts: &Facts<'_>) -> Value {
    let mut schema = object_of(shape.fields, |field| match field.presence {
        FieldPresence::Always => form_schema(field.form, facts),
        FieldPresence::Sometimes => or_null(form_schema(field.form, facts)),
    });
    let given = |name: &str| {
        let is_truth = shape.fields.iter().any(|field| field.name == name && field.form == FieldForm::Boolean);
        let value = if is_truth { json!({"const": true}) } else { json!({"not": {"type": "null"}}) };
        json!({"required": [name], "properties": {name: value}})
    };
    let rules: Vec<_> = shape
        .rules
        .iter()
        .map(|rule| match rule {
            Rule::OneOf(names) => json!({"oneOf": names.iter().map(|name| given(name)).collect::<Vec<_>>()}),
            Rule::NotBoth(one, other) | Rule::Unless(one, other) => {
                json!({"not": {"allOf": [given(one), given(other)]}})
            }
            Rule::Beside(one, others) => {
                let mut ways = vec![json!({"not": given(one)})];
                ways.extend(others.iter().map(|name| given(name)));
                json!({"anyOf": ways})
            }
        })
        .collect();
    if !rules.is_empty() {
        put(&mut schema, "allOf", json!(rules));
    }
    schema
}

/// The same schema, or `null`.
fn or_null(mut schema: Value) -> Value {
    if let Value::Object(schema) = &mut schema {
        match schema.get_mut("type") {
            Some(Value::Array(types)) => types.push(json!("null")),
            Some(one) => *one = json!([one.take(), "null"]),
            None => {}
        }
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.push(Value::Null);
        }
    }
    schema
}

/// Of a path or a query, where all is text.
fn parameter_schema(field: &Field, facts: &Facts<'_>) -> Value {
    match field.form {
        FieldForm::Id(bytes_max) => text_schema(bytes_max),
        form => form_schema(form, facts),
    }
}

/// The schema counts characters, the server bytes of UTF-8, which are no fewer.
fn text_schema(bytes_max: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": bytes_max})
}

fn form_schema(form: FieldForm, facts: &Facts<'_>) -> Value {
    let with = |bytes_max: usize, more: (&'static str, Value)| {
        let mut schema = text_schema(bytes_max);
        put(&mut schema, more.0, more.1);
        schema
    };
    let list =
        |count_max: usize, items: Value| json!({"type": "array", "minItems": 1, "maxItems": count_max, "items": items});
    match form {
        FieldForm::Anything => json!({}),
        FieldForm::List => json!({"type": "array"}),
        FieldForm::Boolean => json!({"type": "boolean"}),
        FieldForm::Name(bytes_max) | FieldForm::Text(bytes_max) => text_schema(bytes_max),
        FieldForm::EventName(bytes_max) => with(bytes_max, ("not", json!({"enum": RESERVED_EVENTS}))),
        FieldForm::RoomName(bytes_max) => with(bytes_max, ("not", json!({"pattern": format!("^{USER_PREFIX}")}))),
        FieldForm::Namespace(_) => json!({"type": "string", "enum": facts.namespaces}),
        FieldForm::Id(bytes_max) => {
            let mut schema = text_schema(bytes_max);
            put(&mut schema, "type", json!(["string", "integer"]));
            put(&mut schema, "minimum", json!(ID_LEAST));
            put(&mut schema, "maximum", json!(ID_MOST));
            schema
        }
        FieldForm::Names(count_max, bytes_max) => list(count_max, form_schema(FieldForm::Name(bytes_max), facts)),
        FieldForm::Ids(count_max, bytes_max) => list(count_max, form_schema(FieldForm::Id(bytes_max), facts)),
        FieldForm::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        FieldForm::Seconds => json!({"type": "integer", "minimum": 1, "maximum": facts.ttl_max_s}),
        FieldForm::Cursor => json!({"type": "string", "pattern": CURSOR}),
        FieldForm::CursorOrNull => json!({"type": ["string", "null"], "pattern": CURSOR}),
        FieldForm::EventId => json!({"type": "string", "pattern": EVENT_ID}),
        FieldForm::Moment => json!({
            "type": ["string", "integer"],
            "format": "date-time",
            "minimum": super::maintenance::UNIX_MS_LEAST,
            "maximum": super::maintenance::UNIX_MS_MOST,
        }),
        FieldForm::Count => json!({"type": "integer", "minimum": 0}),
        FieldForm::CountOrNull => json!({"type": ["integer", "null"], "minimum": 0}),
        FieldForm::Time => json!({"type": "string", "format": "date-time"}),
        FieldForm::TimeOrNull => json!({"type": ["string", "null"], "format": "date-time"}),
        FieldForm::String => json!({"type": "string"}),
        FieldForm::StringOrNull => json!({"type": ["string", "null"]}),
        FieldForm::Strings => json!({"type": "array", "items": {"type": "string"}}),
        FieldForm::Word(words) => json!({"type": "string", "enum": words}),
        FieldForm::WordOrFalse(words) => {
            let words = words.iter().map(|word| json!(word)).chain([json!(false)]);
            json!({"enum": words.collect::<Vec<_>>()})
        }
        FieldForm::Inner(fields) => body_schema(&Shape { fields, rules: &[] }, facts),
        FieldForm::Object(fields) => object_schema(fields, facts),
        FieldForm::Objects(fields) => json!({"type": "array", "items": object_schema(fields, facts)}),
        FieldForm::Texts => json!({"type": "object", "additionalProperties": {"type": "string"}}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_server_to_server_is_in_it() {
        let namespaces = ["/".to_owned(), "/admin".to_owned()];
        let of =
            |strictness, has_keys| document(&Facts { strictness, has_keys, namespaces: &namespaces, ttl_max_s: 60 });
        let (development, production) = (of(Strictness::Development, false), of(Strictness::Production, true));
        let test_route = "/api/v1/websocket/test/emit-to-user";
        assert!(development["paths"][test_route].is_object() && production["paths"][test_route].is_null());
        assert_eq!(development["security"][0], json!({}));
        assert_eq!(production["security"], json!([{"key": []}, {"bearer": []}]));
        let emit = &production["paths"]["/api/v1/websocket/emit"]["post"];
        let schema = &production["components"]["schemas"]["Emit"];
        assert_eq!(schema["required"], json!(["event"]));
        assert_eq!(schema["properties"]["namespace"]["enum"], json!(["/", "/admin", null]));
        assert_eq!(schema["properties"]["ttl"]["maximum"], 60);
        assert_eq!(schema["properties"]["event"]["maxLength"], 256);
        assert_eq!(emit["operationId"], "postEmit");
        assert_eq!(name_of("DELETE user/:userId/kept"), "deleteUserUserIdKept");
    }
}
