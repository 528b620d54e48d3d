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
    let body = if takes_gzip(head.header("accept-encoding").unwrap_or_default()) {
        headers.push(("Content-Encoding", "gzip".to_owned()));
        compressed.to_vec()
    } else {
        let mut body = Vec::new();
        GzDecoder::new(compressed).read_to_end(&mut body).map_err(|_| ApiError::new(500, "a build is damaged"))?;
        body
    };
    Ok(ApiAnswer { status: 200, content_type, headers, body, reason: None })
}

/// Whether an `Accept-Encoding` has gzip and does not forbid it (RFC 9110 section 12.5.3).
fn takes_gzip(accepted: &str) -> bool {
    let weight = |wanted: &str| {
        accepted.split(',').find_map(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, "q=1"));
            let weight = parameters.trim().strip_prefix("q=")?.trim().parse::<f32>().ok()?;
            name.trim().eq_ignore_ascii_case(wanted).then_some(weight)
        })
    };
    weight("gzip").or_else(|| weight("*")).is_some_and(|weight| weight > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_goes_to_who_takes_it() {
        for accepted in
            ["gzip", "gzip, deflate, br, zstd", "br;q=1.0, GZIP;q=0.8", "*", "identity, *;q=0.5", "gzip;q=1"]
        {
            assert!(takes_gzip(accepted), "{accepted}");
        }
        for accepted in
            ["", "identity", "br, deflate", "gzip;q=0", "gzip; q=0.0, *", "*;q=0", "x-gzip-not", "gzip;level=1"]
        {
            assert!(!takes_gzip(accepted), "{accepted}");
        }
    }

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
