//! The test page and the client bundle: both are part of the program.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::answer::Answer;

const PAGE: &str = include_str!("../../assets/page.html");
const BUNDLE: &[u8] = include_bytes!("../../assets/socket.io.min.js");
/// The version of `socket.io-client` that the bundle is, as the reference's ETag.
const BUNDLE_TAG: &str = "\"4.8.4\"";

/// The page with its policy: nothing runs that is not in it.
#[derive(Debug)]
pub(super) struct Page {
    policy: String,
}

impl Page {
    pub(super) fn new() -> Page {
        let script = hash_of_last(PAGE, "<script>", "</script>");
        let style = hash_of_last(PAGE, "<style>", "</style>");
        Page {
            policy: format!(
                "default-src 'none'; script-src 'self' '{script}'; style-src '{style}'; connect-src 'self'; \
                 img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
        }
    }

    pub(super) fn answer(&self) -> Answer {
        Answer {
            status: 200,
            content_type: "text/html; charset=utf-8",
            headers: vec![
                ("Content-Security-Policy", self.policy.clone()),
                ("X-Content-Type-Options", "nosniff".to_owned()),
                ("Referrer-Policy", "no-referrer".to_owned()),
                ("Cache-Control", "no-store".to_owned()),
            ],
            body: PAGE.as_bytes().to_vec(),
        }
    }
}

/// The stock client, unless the browser has it.
pub(super) fn bundle(known_tag: Option<&str>) -> Answer {
    let headers = vec![("ETag", BUNDLE_TAG.to_owned()), ("Cache-Control", "public, max-age=0".to_owned())];
    let is_known =
        known_tag.is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == BUNDLE_TAG));
    let (status, body) = if is_known { (304, Vec::new()) } else { (200, BUNDLE.to_vec()) };
    Answer { status, content_type: "application/javascript; charset=utf-8", headers, body }
}

/// The hash of an inline element, as a Content-Security-Policy names it.
fn hash_of_last(page: &str, open: &str, close: &str) -> String {
    let inside = page.rsplit_once(open).and_then(|(_, rest)| rest.split_once(close)).map_or("", |(inside, _)| inside);
    format!("sha256-{}", STANDARD.encode(Sha256::digest(inside.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_style_and_one_inline_script() {
        assert_eq!(PAGE.matches("<style>").count(), 1);
        assert_eq!(PAGE.matches("<script>").count(), 1);
        assert!(!PAGE.contains(" style=") && !PAGE.contains(" onclick="));
    }

    #[test]
    fn a_browser_that_has_the_bundle_is_told_so() {
        assert_eq!(bundle(None).status, 200);
        assert_eq!(bundle(Some("\"4.8.4\"")).status, 304);
        assert_eq!(bundle(Some("W/\"x\", W/\"4.8.4\"")).status, 304);
        assert_eq!(bundle(Some("\"4.8.3\"")).status, 200);
    }
}
