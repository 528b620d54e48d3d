//! Request bodies: a JSON object whose fields are known, each read as what it has to be.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use sockring_protocol::http::{Query, decode_percent};
use sockring_protocol::json::{self, JsonError, Kind, Value};
use sockring_protocol::socketio::RESERVED_EVENTS;

use crate::auth::is_user_id;
use crate::shard::USER_PREFIX;

use super::answer::{ApiError, FieldError};
use super::nearest::nearest;
use super::shape::{Field, FieldForm, Shape};

/// Bytes of a test message, and of the name of an interview.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 10;

/// The fields of a body, as they came.
pub(super) struct Fields<'b> {
    entries: Vec<(Cow<'b, str>, &'b str)>,
    /// Where this object stands in the body, as `[3].`.
    path: String,
}

impl<'b> Fields<'b> {
    /// The fields of a whole body.
    pub(super) fn decode(body: &'b [u8]) -> Result<Fields<'b>, ApiError> {
        if body.trim_ascii().is_empty() {
            return Err(whole("the body is empty; a JSON object is needed"));
        }
        Fields::decode_if_any(body)
    }

    /// The same where no field is needed: an empty body has none.
    pub(super) fn decode_if_any(body: &'b [u8]) -> Result<Fields<'b>, ApiError> {
        let text = decode_text(body)?;
        if text.is_empty() {
            return Ok(Fields { entries: Vec::new(), path: String::new() });
        }
        let value = Value::decode(text).map_err(|_| whole("the body is not JSON"))?;
        if !value.is_object() {
            return Err(whole("the body is not a JSON object"));
        }
        Ok(Fields { entries: json::Entries::of(value.as_str()).collect(), path: String::new() })
    }

    /// The objects of a body that is a list of 1 to `count_max` of them, each with its place in the body.
    pub(super) fn decode_list(body: &'b [u8], count_max: usize) -> Result<Vec<Fields<'b>>, ApiError> {
        let text = decode_text(body)?;
        if text.is_empty() {
            return Err(whole("the body is empty; a JSON list is needed"));
        }
        if kind_of(text) != Some(Kind::Array) {
            return Err(whole("the body is not a JSON list"));
        }
        let mut list = Vec::new();
        for (index, element) in json::Elements::of(text).enumerate() {
            if index == count_max {
                return Err(ApiError::field("", format!("the list has more than {count_max} entries")));
            }
            if kind_of(element) != Some(Kind::Object) {
                return Err(ApiError::field(format!("[{index}]"), "has to be an object"));
            }
            list.push(Fields { entries: json::Entries::of(element).collect(), path: format!("[{index}].") });
        }
        if list.is_empty() {
            return Err(ApiError::field("", "the list is empty"));
        }
        Ok(list)
    }

    /// Refuses fields that nobody knows.
    pub(super) fn only(&self, shape: &Shape) -> Result<(), ApiError> {
        match self.entries.iter().find(|(name, _)| !shape.names().any(|known| known == name)) {
            None => Ok(()),
            Some((name, _)) => {
                let known = match nearest(name, shape.names()) {
                    Some(nearest) => format!("is unknown; did you mean {nearest}?"),
                    None => format!("is unknown; known are {}", shape.names().collect::<Vec<_>>().join(", ")),
                };
                Err(ApiError::field(self.at(name), known))
            }
        }
    }

    /// A field's JSON text. `null` is as good as absent; of duplicates the last counts.
    pub(super) fn raw(&self, name: &str) -> Option<&'b str> {
        let (_, raw) = self.entries.iter().rev().find(|(known, _)| known == name)?;
        (*raw != "null").then_some(*raw)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// What a field of one text says, as its form wants it; of an id that is a number, the digits.
    pub(super) fn text(&self, field: &Field) -> Result<Option<Cow<'b, str>>, ApiError> {
        let Some(raw) = self.raw(field.name) else { return Ok(None) };
        let text = match field.form {
            FieldForm::Text(bytes_max) => text_of(raw, bytes_max),
            FieldForm::Id(bytes_max) => id_of(raw, bytes_max),
            FieldForm::Name(bytes_max) => name_of(raw, bytes_max),
            FieldForm::EventName(bytes_max) => name_of(raw, bytes_max).and_then(unreserved),
            FieldForm::RoomName(bytes_max) => name_of(raw, bytes_max).and_then(nobodys),
            FieldForm::Namespace(bytes_max) => name_of(raw, bytes_max).and_then(rooted),
            form => unreachable!("{form:?} is no text"),
        };
        text.map(Some).map_err(|error| self.refuse(field.name, error))
    }

    /// A text that has to be there.
    pub(super) fn required(&self, field: &Field) -> Result<Cow<'b, str>, ApiError> {
        self.text(field)?.ok_or_else(|| self.refuse(field.name, "is required"))
    }

    /// The id by `field` or its other name; both at once are one too many.
    pub(super) fn either_id(&self, field: &Field, other: &Field) -> Result<Option<Cow<'b, str>>, ApiError> {
        match (self.text(field)?, self.text(other)?) {
            (Some(_), Some(_)) => {
                Err(self.refuse(other.name, format!("says the same as {}: give one of them", field.name)))
            }
            (one, another) => Ok(one.or(another)),
        }
    }

    /// The texts of a list.
    pub(super) fn texts(&self, field: &Field) -> Result<Option<Vec<Cow<'b, str>>>, ApiError> {
        match field.form {
            FieldForm::Names(count_max, bytes_max) => {
                self.list_of(field.name, count_max, |element| name_of(element, bytes_max))
            }
            FieldForm::Ids(count_max, bytes_max) => {
                self.list_of(field.name, count_max, |element| id_of(element, bytes_max))
            }
            form => unreachable!("{form:?} is no list of texts"),
        }
    }

    fn list_of(
        &self,
        name: &str,
        count_max: usize,
        read: impl Fn(&'b str) -> Result<Cow<'b, str>, String>,
    ) -> Result<Option<Vec<Cow<'b, str>>>, ApiError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        if kind_of(raw) != Some(Kind::Array) {
            return Err(self.refuse(name, "has to be a list of strings"));
        }
        let mut strings = Vec::new();
        for (index, element) in json::Elements::of(raw).enumerate() {
            if index == count_max {
                return Err(self.refuse(name, format!("has more than {count_max} entries")));
            }
            let text = read(element).map_err(|error| self.refuse(&format!("{name}[{index}]"), error))?;
            strings.push(text);
        }
        if strings.is_empty() {
            return Err(self.refuse(name, "is empty"));
        }
        Ok(Some(strings))
    }

    pub(super) fn boolean(&self, field: &Field) -> Result<Option<bool>, ApiError> {
        match self.raw(field.name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(self.refuse(field.name, "has to be true or false")),
        }
    }

    /// Whole seconds, up to so many.
    pub(super) fn seconds(&self, field: &Field, most: u64) -> Result<Option<u64>, ApiError> {
        let Some(raw) = self.raw(field.name) else { return Ok(None) };
        match raw.parse::<u64>().ok().filter(|number| (1..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.refuse(field.name, format!("has to be a whole number from 1 to {most}"))),
        }
    }

    /// A whole number that its form allows, which has to be there.
    pub(super) fn required_whole(&self, field: &Field) -> Result<u64, ApiError> {
        let FieldForm::Whole(least, most) = field.form else { unreachable!("{field:?} is no whole number") };
        let raw = self.raw(field.name).ok_or_else(|| self.refuse(field.name, "is required"))?;
        match raw.parse::<u64>().ok().filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(number),
            None => Err(self.refuse(field.name, format!("has to be a whole number from {least} to {most}"))),
        }
    }

    /// The fields of an object in this one.
    pub(super) fn inner(&self, field: &Field) -> Result<Option<Fields<'b>>, ApiError> {
        let FieldForm::Inner(known) = field.form else { unreachable!("{field:?} is no object") };
        let Some(raw) = self.raw(field.name) else { return Ok(None) };
        if kind_of(raw) != Some(Kind::Object) {
            return Err(self.refuse(field.name, "has to be an object"));
        }
        let path = format!("{}.", self.at(field.name));
        let fields = Fields { entries: json::Entries::of(raw).collect(), path };
        fields.only(&Shape { fields: known, rules: &[] })?;
        Ok(Some(fields))
    }

    /// The elements of a list, as they came.
    pub(super) fn list(&self, field: &Field) -> Result<Option<Vec<&'b str>>, ApiError> {
        match self.raw(field.name) {
            None => Ok(None),
            Some(raw) if kind_of(raw) == Some(Kind::Array) => Ok(Some(json::Elements::of(raw).collect())),
            Some(_) => Err(self.refuse(field.name, "has to be a list")),
        }
    }

    pub(super) fn refuse(&self, name: &str, message: impl Into<String>) -> ApiError {
        ApiError::field(self.at(name), message)
    }

    fn at(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }
}

/// A body that is JSON, or nothing but white space: then empty.
fn decode_text(body: &[u8]) -> Result<&str, ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| whole(&format!("the body is not UTF-8: at byte {}", error.valid_up_to() + 1)))?;
    if text.trim_ascii().is_empty() {
        return Ok("");
    }
    json::check(text).map(|()| text).map_err(|error| match error {
        JsonError::TooDeep => whole("the body is nested too deeply"),
        _ => whole(&match serde_json::from_str::<IgnoredAny>(text) {
            Err(error) => format!("the body is not JSON: {error}"),
            Ok(_) => "the body is not JSON".to_owned(),
        }),
    })
}

/// 400: the body as a whole is wrong.
fn whole(message: &str) -> ApiError {
    let errors = vec![FieldError { path: String::new(), message: message.to_owned() }];
    ApiError { errors, ..ApiError::new(400, message) }
}

/// A text by which something is found: two that differ must not become the same.
fn name_of(raw: &str, bytes_max: usize) -> Result<Cow<'_, str>, String> {
    let text = text_of(raw, bytes_max)?;
    match json::has_lone_surrogate(raw) {
        true => Err("has half of a surrogate pair, which is no character".to_owned()),
        false => Ok(text),
    }
}

fn unreserved(event: Cow<'_, str>) -> Result<Cow<'_, str>, String> {
    match RESERVED_EVENTS.contains(&&*event) {
        true => Err("is a name that Socket.IO keeps for itself".to_owned()),
        false => Ok(event),
    }
}

fn nobodys(room: Cow<'_, str>) -> Result<Cow<'_, str>, String> {
    match room.starts_with(USER_PREFIX) {
        true => Err("the rooms of users are theirs alone".to_owned()),
        false => Ok(room),
    }
}

fn rooted(namespace: Cow<'_, str>) -> Result<Cow<'_, str>, String> {
    match namespace.starts_with('/') {
        true => Ok(namespace),
        false => Err("has to begin with `/`".to_owned()),
    }
}

/// A name, or a whole number as its digits.
fn id_of(raw: &str, bytes_max: usize) -> Result<Cow<'_, str>, String> {
    match kind_of(raw) {
        Some(Kind::String) => name_of(raw, bytes_max),
        // As a token's claim takes them: what has 64 bits, and is written in one way.
        Some(Kind::Number)
            if raw.parse::<u64>().is_ok_and(|number| number.to_string() == raw)
                || raw.parse::<i64>().is_ok_and(|number| number.to_string() == raw) =>
        {
            Ok(Cow::Borrowed(raw))
        }
        _ => Err("has to be a string or a whole number".to_owned()),
    }
}

fn text_of(raw: &str, bytes_max: usize) -> Result<Cow<'_, str>, String> {
    let text = Value::decode(raw).ok().and_then(Value::string).ok_or("has to be a string")?;
    match text.len() {
        0 => Err("is empty".to_owned()),
        length if length > bytes_max => Err(format!("has {length} bytes; at most {bytes_max} are allowed")),
        _ => Ok(text),
    }
}

fn kind_of(raw: &str) -> Option<Kind> {
    Value::decode(raw).ok().map(Value::kind)
}

/// The user that a segment of a path names.
pub(super) fn decode_user(segment: &str) -> Result<String, ApiError> {
    let user = decode_percent(segment).map(|user| user.into_owned());
    user.filter(|user| is_user_id(user))
        .ok_or_else(|| ApiError::field("userId", "a user id has 1 to 128 bytes of UTF-8"))
}

/// How many a list may have, by the query; `usual` where it does not say.
pub(super) fn limit_of(query: Query<'_>, most: u64, usual: u64) -> Result<usize, ApiError> {
    let limit = match query.value("limit") {
        None => usual,
        Some(text) => (text.parse().ok())
            .filter(|limit| (1..=most).contains(limit))
            .ok_or_else(|| ApiError::field("limit", format!("has to be a whole number from 1 to {most}")))?,
    };
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}
