//! `JsonError`: why a text is not JSON to us, and how deep it may be nested.

use core::error::Error;
use core::fmt;

/// How deep arrays and objects may be nested.
///
/// `JSON.parse` has no limit but its own stack. With ours the open brackets of a text are the bits of one `u128`, and texts
/// that we pass on do not overrun the recursive readers of others (`serde_json` stops at 128 as well). `[[1]]` has depth 2;
/// the array around the arguments of a packet counts.
pub const DEPTH_MAX: usize = 128;

/// Why a text is not JSON to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// `JSON.parse` would throw.
    Syntax,
    /// More than [`DEPTH_MAX`] levels.
    TooDeep,
}

impl JsonError {
    /// The reason in words, for logs and for the label of a counter.
    pub fn reason(self) -> &'static str {
        match self {
            JsonError::Syntax => "invalid JSON",
            JsonError::TooDeep => "JSON nested too deeply",
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl Error for JsonError {}
