//! What is printed on standard output. Whoever reads it may stop at any time; that is no fault of ours.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a line. That nobody reads any more is as good as printed.
pub(crate) fn line(text: impl Display) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Says something beside what was asked for, on standard error. Where nobody reads it, nothing is lost.
pub(crate) fn remark(text: impl Display) {
    let _ = writeln!(io::stderr(), "sockring: {text}");
}
