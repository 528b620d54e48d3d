//! Answers of the API: the envelope of the guide's backend, and errors that name the field.

use serde::Serialize;
use serde_json::Value;

/// One answer, ready to be written.
#[derive(Clone, Debug)]
pub(super) struct ApiAnswer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// Of one that is no success: why, for the log.
    pub(super) reason: Option<String>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FieldError {
    /// As `rooms[2]`; empty: the body as a whole.
    pub(super) path: String,
    pub(super) message: String,
}

/// A request that could not be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) message: String,
    pub(super) errors: Vec<FieldError>,
    /// The methods that would be right.
    pub(super) allow: Option<&'static str>,
    /// How a browser would ask its user for a key.
    pub(super) challenge: Option<&'static str>,
    /// What is known in spite of it.
    pub(super) data: Value,
}

impl ApiError {
    pub(super) fn new(status: u16, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            message: message.into(),
            errors: Vec::new(),
            allow: None,
            challenge: None,
            data: Value::Null,
        }
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> ApiError {
        ApiError { allow: Some(allow), ..ApiError::new(405, format!("only {allow} is allowed here")) }
    }

    /// 413 with the limit.
    pub(super) fn body_too_large(bytes_max: usize) -> ApiError {
        ApiError::new(413, format!("a body may have at most {bytes_max} bytes (api_body_bytes_max)"))
    }

    /// 422 with the path of the field.
    pub(super) fn field(path: impl Into<String>, message: impl Into<String>) -> ApiError {
        let error = FieldError { path: path.into(), message: message.into() };
        ApiError {
            status: 422,
            message: match &*error.path {
                "" => error.message.clone(),
                path => format!("{path}: {}", error.message),
            },
            errors: vec![error],
            allow: None,
            challenge: None,
            data: Value::Null,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AnswerBody<'a> {
    status_code: u16,
    data: Value,
    message: &'a str,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [FieldError]>,
}

impl ApiAnswer {
    /// 200 with data in the envelope.
    pub(super) fn ok(data: impl Serialize, message: &str) -> ApiAnswer {
        let data = serde_json::to_value(data).unwrap_or_default();
        ApiAnswer::envelope(&AnswerBody { status_code: 200, data, message, success: true, errors: None })
    }

    fn envelope(envelope: &AnswerBody<'_>) -> ApiAnswer {
        ApiAnswer {
            status: envelope.status_code,
            content_type: "application/json; charset=utf-8",
            headers: vec![("Cache-Control", "no-store".to_owned())],
            body: serde_json::to_vec(envelope).unwrap_or_default(),
            reason: (envelope.status_code >= 400).then(|| envelope.message.to_owned()),
        }
    }

    /// JSON without an envelope, for machines that poll it.
    pub(super) fn bare(status: u16, body: &impl Serialize) -> ApiAnswer {
        ApiAnswer {
            status,
            content_type: "application/json; charset=utf-8",
            headers: vec![("Cache-Control", "no-store".to_owned())],
            body: serde_json::to_vec(body).unwrap_or_default(),
            reason: None,
        }
    }
}

impl From<ApiError> for ApiAnswer {
    fn from(error: ApiError) -> ApiAnswer {
        // What concerns no field concerns the request as a whole.
        let whole = [FieldError { path: String::new(), message: error.message.clone() }];
        let errors = if error.errors.is_empty() { &whole[..] } else { &error.errors };
        let mut answer = ApiAnswer::envelope(&AnswerBody {
            status_code: error.status,
            data: error.data,
            message: &error.message,
            success: false,
            errors: Some(errors),
        });
        match error.status {
            405 => answer.headers.extend(error.allow.map(|allow| ("Allow", allow.to_owned()))),
            401 => answer.headers.push(("WWW-Authenticate", error.challenge.unwrap_or("Bearer").to_owned())),
            429 | 503 => answer.headers.push(("Retry-After", "1".to_owned())),
            _ => {}
        }
        answer
    }
}

/// Adds a field to an object.
pub(super) fn put(object: &mut Value, name: &str, value: Value) {
    debug_assert!(object.is_object());
    if let Value::Object(fields) = object {
        fields.insert(name.to_owned(), value);
    }
}
