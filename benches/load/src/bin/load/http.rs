//! HTTP as a client of the API needs it: requests with a body, and answers with a Content-Length.

use crate::crowd::AfterAnswer;

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub after: AfterAnswer,
    /// Of head and body.
    pub length: usize,
}

/// Bytes up to and with the empty line, if it is there.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The answer at the front of `bytes`, or `None` while it is not whole.
pub fn next_answer(bytes: &[u8]) -> Option<Answer> {
    let head_length = head_length(bytes)?;
    let head = String::from_utf8_lossy(&bytes[..head_length]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let (mut body, mut after) = (0, AfterAnswer::KeepAlive);
    for line in head.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            body = value.trim().parse().unwrap_or(0);
        } else if name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close") {
            after = AfterAnswer::Close;
        }
    }
    let length = head_length + body;
    (bytes.len() >= length).then_some(Answer { status, after, length })
}

/// How requests are written.
#[derive(Clone, Debug)]
pub struct Requests {
    host: String,
    api_key: Option<String>,
}

impl Requests {
    pub fn new(host: &str, api_key: Option<&str>) -> Requests {
        Requests { host: host.to_owned(), api_key: api_key.map(str::to_owned) }
    }

    /// A POST of a JSON body.
    pub fn post(&self, path: &str, body: &[u8]) -> Vec<u8> {
        let key = self.api_key.as_ref().map(|key| format!("x-api-key: {key}\r\n")).unwrap_or_default();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{key}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}HTTP";
        let expected = Answer { status: 200, after: AfterAnswer::Close, length: bytes.len() - 4 };
        assert_eq!(next_answer(bytes), Some(expected));
        assert_eq!(next_answer(&bytes[..bytes.len() - 5]), None);
        assert_eq!(next_answer(&bytes[..20]), None);
    }
}
