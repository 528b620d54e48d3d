//! Bugs that a parser could have, each as an edit of one place: `cargo run --bin plant` puts them in, one by one.

/// One edit, and the target whose replay has to find it.
#[derive(Clone, Copy, Debug)]
pub struct Bug {
    /// What would be wrong.
    pub what: &'static str,
    /// The file, from the root of the project.
    pub path: &'static str,
    /// What stands there, once.
    pub right: &'static str,
    /// What is put in its place.
    pub wrong: &'static str,
    pub target: &'static str,
}

const fn bug(
    target: &'static str,
    path: &'static str,
    right: &'static str,
    wrong: &'static str,
    what: &'static str,
) -> Bug {
    Bug { what, path, right, wrong, target }
}

/// Those that need no server first: they build fast.
pub const BUGS: &[Bug] = &[
    bug(
        "http",
        "protocol/src/http/body.rs",
        "(State::Extension(size), byte) if is_text(byte) =>",
        "(State::Extension(size), byte) if is_text(byte) || byte == b'\\n' =>",
        "a chunk extension may hold half a line end",
    ),
    bug(
        "http",
        "protocol/src/http/body.rs",
        "self.allowance = self.allowance.checked_sub(size)",
        "let _ = self.allowance.checked_sub(size)",
        "chunks are each within the limit, not together",
    ),
    bug(
        "http",
        "protocol/src/http/request.rs",
        "(_, Some(_)) => Err(RequestError::Malformed),",
        "(_, Some(length)) => Ok(Framing::Length(length)),",
        "a request with two framings is framed by its length",
    ),
    bug(
        "http",
        "protocol/src/http/request.rs",
        "if fields.length.is_some_and(|earlier| earlier != length) {",
        "if fields.length.is_some_and(|earlier| earlier > length) {",
        "the last of two lengths counts",
    ),
    bug(
        "http",
        "protocol/src/http/request.rs",
        "*scanned = window.len();",
        "*scanned = window.len() + 1;",
        "a line end that is cut is not seen",
    ),
    bug(
        "http",
        "protocol/src/http/cors.rs",
        "entry.scheme.eq_ignore_ascii_case(origin.scheme) && entry.authority",
        "entry.authority",
        "a listed origin is let in without its encryption",
    ),
    bug(
        "http",
        "protocol/src/http/cors.rs",
        "is_web && origin.authority",
        "origin.authority",
        "a page of any scheme is of the same origin",
    ),
    bug(
        "http",
        "protocol/src/http/cors.rs",
        "if allowed { OriginDecision::Allowed } else { OriginDecision::Refused }",
        "if allowed || origin == \"null\" { OriginDecision::Allowed } else { OriginDecision::Refused }",
        "sandboxed pages are let in",
    ),
    bug(
        "websocket",
        "protocol/src/websocket/decoder.rs",
        "if message.fragments > limits.fragments_max {",
        "if message.fragments > limits.fragments_max + 1 {",
        "one fragment more than may be",
    ),
    bug(
        "websocket",
        "protocol/src/websocket/decoder.rs",
        "limits.message_bytes_max.saturating_sub(self.buffer.len())",
        "limits.message_bytes_max",
        "fragments are each within the limit, not together",
    ),
    bug(
        "websocket",
        "protocol/src/websocket/decoder.rs",
        "unmask(piece, header.mask, received);",
        "unmask(piece, header.mask, 0);",
        "the mask begins again with each piece",
    ),
    bug(
        "websocket",
        "protocol/src/websocket/utf8.rs",
        "if self.begun_length == 0 { Ok(()) } else { Err(Utf8Error) }",
        "Ok(())",
        "a text may end within a character",
    ),
    bug(
        "engineio",
        "protocol/src/engineio/payload.rs",
        "let Some(packets_left) = self.packets_left.checked_sub(1) else {",
        "let Some(packets_left) = Some(self.packets_left.saturating_sub(1)) else {",
        "a payload may have any number of packets",
    ),
    bug(
        "session",
        "protocol/src/engineio/session.rs",
        "RequestPresence::Present => self.end(SessionEnd::TransportError),\n                RequestPresence::Absent => self.hold_poll(moment, times),",
        "RequestPresence::Present => Step::Refuse,\n                RequestPresence::Absent => self.hold_poll(moment, times),",
        "two GETs at once do not end the session",
    ),
    bug(
        "socketio",
        "protocol/src/socketio/placeholders.rs",
        "is_key(key, \"_placeholder\")",
        "key == \"\\\"_placeholder\\\"\"",
        "a placeholder's key with an escape in it is none",
    ),
    bug(
        "json",
        "protocol/src/json/token.rs",
        "if let [b'0', after @ ..] = integer { after } else { skip_digits(integer)? }",
        "skip_digits(integer)?",
        "numbers may begin with zeros",
    ),
    bug(
        "json",
        "protocol/src/json/scanner.rs",
        "if self.depth == DEPTH_MAX {",
        "if self.depth > DEPTH_MAX {",
        "one level deeper than may be",
    ),
    bug(
        "msgpack",
        "protocol/src/msgpack.rs",
        "MsgpackToken::Map(entries) => 2 * u64::from(entries),",
        "MsgpackToken::Map(entries) => u64::from(entries),",
        "a map ends in its middle",
    ),
    bug(
        "msgpack",
        "protocol/src/msgpack.rs",
        "if open.len() > DEPTH_MAX {",
        "if open.len() > 1 << 20 {",
        "msgpack may be nested as deep as it likes",
    ),
    bug(
        "msgpack",
        "protocol/src/msgpack/to_json.rs",
        "let is_placeholder = key == \"_placeholder\" && value == MsgpackToken::Boolean(true);",
        "let is_placeholder = false && value == MsgpackToken::Nil;",
        "a map that looks like a byte string is let through",
    ),
    bug(
        "msgpack",
        "protocol/src/msgpack/to_json.rs",
        "if value.is_undefined() {",
        "if value == MsgpackToken::Nil {",
        "`null` is left out as if it were `undefined`",
    ),
    bug(
        "adapter",
        "protocol/src/adapter/classic.rs",
        "    check_namespace(packet, namespace)?;",
        "    let _ = check_namespace(packet, namespace);",
        "a packet of another namespace is delivered in that of its channel",
    ),
    bug(
        "adapter",
        "protocol/src/adapter/fields.rs",
        "    event(&text)?;",
        "    let _ = event(&text);",
        "what is no event goes to clients",
    ),
    bug(
        "adapter",
        "protocol/src/adapter/writer.rs",
        "Ending::Session => \"\\\"close\\\":true,\\\"reconnect\\\":true\",",
        "Ending::Session => \"\\\"close\\\":true\",",
        "who was to come back is told to stay away",
    ),
    bug(
        "proxies",
        "src/proxies.rs",
        "values.iter().rev().flat_map(|value| value.rsplit(','))",
        "values.iter().flat_map(|value| value.split(','))",
        "a client says itself who it is",
    ),
    bug(
        "proxies",
        "src/proxies.rs",
        ".find(|address| !self.trusts(*address))",
        ".next()",
        "the last proxy is the client",
    ),
    bug(
        "tokens",
        "src/auth.rs",
        "Some(at) if at <= now_unix_ms =>",
        "Some(at) if at < now_unix_ms =>",
        "a token holds a moment too long",
    ),
    bug("tokens", "src/auth.rs", "if header.crit.is_some() {", "if false {", "what is critical is passed over"),
    bug(
        "tokens",
        "src/auth.rs",
        "!user.is_empty() && user.len() <= USER_BYTES_MAX",
        "!user.is_empty()",
        "a user's id may have any length",
    ),
    bug(
        "api",
        "src/api/fields.rs",
        "if index == count_max {\n                return Err(ApiError::field(\"\"",
        "if index > count_max {\n                return Err(ApiError::field(\"\"",
        "one entry more than may be",
    ),
    bug(
        "api",
        "src/api/emit.rs",
        "if RESERVED_EVENTS.contains(&&*event) {",
        "if event == \"connect\" {",
        "events that a client takes for something else are emitted",
    ),
    bug(
        "api",
        "src/api/emit.rs",
        "if names.is_empty() { b\"\" } else { b\",\" }",
        "b\",\"",
        "a comma too many in what everybody gets",
    ),
    bug(
        "shard",
        "src/shard/wire/connection.rs",
        "connection.stage = Stage::Closing { unsent, discarded: 0, is_shut: false };\n        self.hub.give_back_input(std::mem::take(&mut connection.input_bytes) as usize);",
        "connection.stage = Stage::Closing { unsent, discarded: 0, is_shut: false };\n        connection.input_bytes = 0;",
        "input of who is gone counts for ever",
    ),
    bug(
        "shard",
        "src/shard/wire/http.rs",
        "Request::Head if was_waiting && connection.deadline != Millis::NEVER =>",
        "Request::Head if was_waiting =>",
        "half a head behind a held GET stays for ever",
    ),
    bug(
        "shard",
        "src/shard/settings.rs",
        "fragments_max: self.fragments_max }",
        "fragments_max: 1 }",
        "a message may not come in fragments",
    ),
];
