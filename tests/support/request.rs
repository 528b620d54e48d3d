//! The text of a request, for every test that speaks HTTP by hand.

use sockring_protocol::http::ClientRequest;

/// A request with these header lines besides Host and Content-Length.
pub fn request(method: &str, target: &str, headers: &[&str], body: &str) -> String {
    let headers = headers.iter().map(|line| line.split_once(':').expect("a header line"));
    let headers: Vec<_> = headers.map(|(name, value)| (name, value.trim_start())).collect();
    let body = (!body.is_empty() || method == "POST").then_some(body.as_bytes());
    let mut bytes = Vec::new();
    ClientRequest { method, target, host: "localhost", headers: &headers, body }.encode(&mut bytes);
    String::from_utf8(bytes).expect("it was made of text")
}
