//! JSON texts that are too deep, and ones that are only long.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use sockring_protocol::json::{self, DEPTH_MAX, JsonError, Value};

#[test]
fn depth_is_limited_exactly() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
        let levels = if open.starts_with("[{") { DEPTH_MAX / 2 } else { DEPTH_MAX };
        let deepest = format!("{}0{}", open.repeat(levels), close.repeat(levels));
        assert_eq!(json::check(&deepest), Ok(()));
        assert_eq!(json::check(&format!("[{deepest}]")), Err(JsonError::TooDeep));
        assert_eq!(json::check(&format!("[0,{deepest}]")), Err(JsonError::TooDeep));
        // Breadth is no depth: brackets that are closed again do not count.
        assert_eq!(json::check(&format!("[{}[]]", "[[]],".repeat(4 * levels))), Ok(()));
    }
}

/// P26: the limit is met long before the end, so the size of the text does not matter.
#[test]
fn a_megabyte_of_brackets_is_refused() {
    assert_eq!(json::check(&"[".repeat(1 << 20)), Err(JsonError::TooDeep));
    assert_eq!(json::check(&"{\"\":".repeat(1 << 18)), Err(JsonError::TooDeep));
}

#[test]
fn long_tokens_are_no_problem() {
    for unit in ["9", "1.5e"] {
        let text = unit.repeat(1 << 18);
        assert_eq!(json::check(&text).is_ok(), unit == "9");
    }
    let string = format!("\"{}\"", "é\\n\\ud800".repeat(1 << 15));
    assert_eq!(json::check(&string), Ok(()));
    assert_eq!(Value::decode(&string).unwrap().string().unwrap(), "é\n\u{fffd}".repeat(1 << 15));
}
