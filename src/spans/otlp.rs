//! Spans as OTLP has them in JSON: what a collector takes at `/v1/traces`.
//!
//! `opentelemetry/proto/collector/trace/v1/trace_service.proto` 1.x, in the JSON of the OTLP specification: ids in
//! hexadecimal, enums by number, 64-bit numbers as text.

use serde::Serialize;
use sockring_protocol::adapter::TraceContext;

use super::span::{AttributeValue, Span, SpanKind, SpanOutcome};

const SCOPE: ScopeForm<'static> = ScopeForm { name: "sockring", version: env!("CARGO_PKG_VERSION") };
/// The bits of `flags` that say whether a parent was in another process: it is known, and it was.
const PARENT_IS_REMOTE: u32 = 0x300;
const PARENT_IS_LOCAL: u32 = 0x100;
const SAMPLED: u32 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;

/// Who says all of it.
#[derive(Clone, Debug)]
pub struct SpanSource {
    /// As in the list of instances.
    pub instance: String,
    pub environment: String,
}

/// One request to a collector.
pub fn encode(resource: &SpanSource, spans: &[Span]) -> Vec<u8> {
    let attributes = [
        ("service.name", AttributeValue::from("sockring")),
        ("service.version", env!("CARGO_PKG_VERSION").into()),
        ("service.instance.id", resource.instance.clone().into()),
        ("deployment.environment.name", resource.environment.clone().into()),
    ];
    let request = ExportForm {
        resource_spans: [ResourceSpansForm {
            resource: ResourceForm { attributes: attributes.iter().map(AttributeForm::of).collect() },
            scope_spans: [ScopeSpansForm { scope: SCOPE, spans: spans.iter().map(SpanForm::of).collect() }],
        }],
    };
    // Nothing in it can fail to be written.
    serde_json::to_vec(&request).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportForm<'a> {
    resource_spans: [ResourceSpansForm<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpansForm<'a> {
    resource: ResourceForm<'a>,
    scope_spans: [ScopeSpansForm<'a>; 1],
}

#[derive(Serialize)]
struct ResourceForm<'a> {
    attributes: Vec<AttributeForm<'a>>,
}

#[derive(Serialize)]
struct ScopeSpansForm<'a> {
    scope: ScopeForm<'a>,
    spans: Vec<SpanForm<'a>>,
}

#[derive(Serialize)]
struct ScopeForm<'a> {
    name: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanForm<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    flags: u32,
    name: &'a str,
    kind: u32,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<AttributeForm<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<LinkForm>,
    status: StatusForm,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkForm {
    trace_id: String,
    span_id: String,
    flags: u32,
}

#[derive(Serialize)]
struct StatusForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
}

#[derive(Serialize)]
struct AttributeForm<'a> {
    key: &'a str,
    value: ValueForm<'a>,
}

#[derive(Serialize)]
enum ValueForm<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    #[serde(rename = "intValue")]
    Whole(String),
    #[serde(rename = "boolValue")]
    Truth(bool),
}

impl SpanForm<'_> {
    fn of(span: &Span) -> SpanForm<'_> {
        // A request's caller, and who emits elsewhere.
        let is_remote = span.link.is_some() || span.kind == SpanKind::Server;
        let of_parent = if is_remote { PARENT_IS_REMOTE } else { PARENT_IS_LOCAL };
        SpanForm {
            trace_id: trace_id(&span.context),
            span_id: span_id(span.context.span),
            parent_span_id: span.parent.map(span_id),
            flags: SAMPLED | if span.parent.is_some() { of_parent } else { PARENT_IS_LOCAL },
            name: &span.name,
            kind: span.kind as u32,
            start_time_unix_nano: span.begun_unix_ns.to_string(),
            end_time_unix_nano: span.ended_unix_ns.to_string(),
            attributes: span.attributes.iter().map(AttributeForm::of).collect(),
            links: span.link.iter().map(LinkForm::of).collect(),
            status: StatusForm { code: (span.outcome == SpanOutcome::Failed).then_some(ERROR) },
        }
    }
}

impl LinkForm {
    fn of(context: &TraceContext) -> LinkForm {
        LinkForm { trace_id: trace_id(context), span_id: span_id(context.span), flags: SAMPLED | PARENT_IS_REMOTE }
    }
}

impl AttributeForm<'_> {
    fn of<'a>((key, value): &'a (&'static str, AttributeValue)) -> AttributeForm<'a> {
        let value = match value {
            AttributeValue::Text(text) => ValueForm::Text(text),
            AttributeValue::Whole(number) => ValueForm::Whole(i64::try_from(*number).unwrap_or(i64::MAX).to_string()),
            AttributeValue::Truth(truth) => ValueForm::Truth(*truth),
        };
        AttributeForm { key, value }
    }
}

fn trace_id(context: &TraceContext) -> String {
    format!("{:032x}", context.trace)
}

fn span_id(span: u64) -> String {
    format!("{span:016x}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::{SpanRules, Spans};
    use super::*;

    #[test]
    fn a_request_has_what_the_specification_says_where_it_says_it() {
        let spans = Spans::new(SpanRules { sample_ratio: 1.0, spans_max: 1 }, 1);
        let caller = "00-0000000000000000000000000000abcd-00000000000000ef-01";
        let request = spans.of_request(Some(caller), Duration::ZERO).unwrap().named("POST emit");
        let mut request = request.with("http.response.status_code", 503u64).with("sockring.published", true).failed();
        (request.context.span, request.begun_unix_ns, request.ended_unix_ns) = (0x12, 1_700_000_000_000_000_001, 7);
        let mut elsewhere = spans.linked(request.context(), "deliver").unwrap().with("sockring.adapter", "classic");
        (elsewhere.context.span, elsewhere.begun_unix_ns, elsewhere.ended_unix_ns) = (0x13, 1, 2);
        let root = Span { parent: None, kind: SpanKind::Producer, link: None, ..elsewhere.clone() };
        let resource = SpanSource { instance: "host:8080".to_owned(), environment: "test".to_owned() };
        let written: Value = serde_json::from_slice(&encode(&resource, &[request, elsewhere, root])).unwrap();
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let version = env!("CARGO_PKG_VERSION");
        let resource_attributes = [
            text("service.name", "sockring"),
            text("service.version", version),
            text("service.instance.id", "host:8080"),
            text("deployment.environment.name", "test"),
        ];
        let trace_id = "0000000000000000000000000000abcd";
        let spans = [
            json!({
                "traceId": trace_id, "spanId": "0000000000000012", "parentSpanId": "00000000000000ef", "flags": 0x301,
                "name": "POST emit", "kind": 2,
                "startTimeUnixNano": "1700000000000000001", "endTimeUnixNano": "7",
                "attributes": [
                    {"key": "http.response.status_code", "value": {"intValue": "503"}},
                    {"key": "sockring.published", "value": {"boolValue": true}},
                ],
                "status": {"code": 2},
            }),
            json!({
                "traceId": trace_id, "spanId": "0000000000000013", "parentSpanId": "0000000000000012", "flags": 0x301,
                "name": "deliver", "kind": 5, "startTimeUnixNano": "1", "endTimeUnixNano": "2",
                "attributes": [text("sockring.adapter", "classic")],
                "links": [{"traceId": trace_id, "spanId": "0000000000000012", "flags": 0x301}],
                "status": {},
            }),
            json!({
                "traceId": trace_id, "spanId": "0000000000000013", "flags": 0x101,
                "name": "deliver", "kind": 4, "startTimeUnixNano": "1", "endTimeUnixNano": "2",
                "attributes": [text("sockring.adapter", "classic")],
                "status": {},
            }),
        ];
        let scope = json!({"name": "sockring", "version": version});
        let expected = json!({"resourceSpans": [{
            "resource": {"attributes": resource_attributes},
            "scopeSpans": [{"scope": scope, "spans": spans}],
        }]});
        assert_eq!(written, expected);
    }
}
