//! The stock client, as its own builds: a part of the program, compressed as they lie in `assets/`.

use std::io::Read;

use flate2::read::GzDecoder;
use sockring_protocol::http::Head;

use super::answer::{ApiAnswer, ApiError};

/// The version of `socket.io-client` that they are, as the reference's ETag.
const TAG: &str = "\"4.8.4\"";

macro_rules! builds {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_bytes!(concat!("../../assets/socket.io/", $name, ".gz")).as_slice())),+]
    };
}

/// By the names under which the reference serves them. Only the unminified one logs what `localStorage.debug` names.
static BUILDS: [(&str, &[u8]); 8] = builds![
    "socket.io.js",
    "socket.io.min.js",
    "socket.io.esm.min.js",
    "socket.io.msgpack.min.js",
    "socket.io.js.map",
    "socket.io.min.js.map",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js.map",
];

/// A file of this name, compressed.
pub(super) fn named(file: &str) -> Option<&'static [u8]> {
    BUILDS.iter().find(|(name, _)| *name == file).map(|(_, bytes)| *bytes)
}

/// The file, unless the browser has it.
pub(super) fn answer(file: &str, head: &Head<'_>) -> Result<ApiAnswer, ApiError> {
    let compressed = named(file).ok_or_else(|| ApiError::new(404, "there is no such file"))?;
    let content_type = if file.ends_with(".map") {
        "application/json; charset=utf-8"
    } else {
        "application/javascript; charset=utf-8"
    };
    let mut headers = vec![
        ("ETag", TAG.to_owned()),
        ("Cache-Control", "public, max-age=0".to_owned()),
        ("Vary", "Accept-Encoding".to_owned()),
    ];
    let is_known = head
        .header("if-none-match")
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == TAG));
    if is_known {
        return Ok(ApiAnswer { status: 304, content_type, headers, body: Vec::new(), reason: None });
    }
    let body = if head.accepts_gzip() {
        headers.push(("Content-Encoding", "gzip".to_owned()));
        compressed.to_vec()
    } else {
        let mut body = Vec::new();
        GzDecoder::new(compressed).read_to_end(&mut body).map_err(|_| ApiError::new(500, "a build is damaged"))?;
        body
    };
    Ok(ApiAnswer { status: 200, content_type, headers, body, reason: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_build_is_whole() {
        for (name, bytes) in BUILDS {
            let mut text = String::new();
            GzDecoder::new(bytes).read_to_string(&mut text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(text.contains("socket.io") || text.contains("Socket.IO"), "{name}");
        }
        assert!(named("socket.io.js.gz").is_none());
    }
}
