//! HTTP as a client of the API needs it: requests with a body, and answers with a Content-Length.

use sockring_protocol::http::{ClientRequest, Framing, HeadLimits, KeepAlive, ResponseHead};

use crate::crowd::AfterAnswer;

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub after: AfterAnswer,
    /// Of head and body.
    pub length: usize,
}

/// The answer at the front of `bytes`, or `None` while it is not whole. What is no answer is one with status 0.
pub fn next_answer(bytes: &[u8]) -> Option<Answer> {
    let Some((head, head_length)) = ResponseHead::decode(bytes, &mut 0, &HeadLimits::default()).transpose()?.ok()
    else {
        return Some(Answer { status: 0, after: AfterAnswer::Close, length: bytes.len() });
    };
    let body = match head.framing {
        Some(Framing::Length(length)) => usize::try_from(length).unwrap_or(usize::MAX),
        _ => 0,
    };
    let after = match head.keep_alive {
        KeepAlive::Keep => AfterAnswer::KeepAlive,
        KeepAlive::Close => AfterAnswer::Close,
    };
    let length = head_length.saturating_add(body);
    (bytes.len() >= length).then_some(Answer { status: head.status, after, length })
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
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(self.api_key.as_deref().map(|key| ("x-api-key", key)));
        let mut request = Vec::new();
        ClientRequest { method: "POST", target: path, host: &self.host, headers: &headers, body: Some(body) }
            .encode(&mut request);
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
