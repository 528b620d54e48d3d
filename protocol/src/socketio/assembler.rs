//! `Assembler`: keeps the header of a binary packet until all of its attachments have come.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

/// One binary packet on its way in. Lives only between its header and its last attachment.
///
/// A client that never sends the last one is the caller's to time out (A7).
#[derive(Debug)]
pub struct Assembler {
    header: Box<str>,
    /// Grows as attachments come, never by the number that the header claims.
    attachments: Vec<Box<[u8]>>,
    bytes_left: u32,
    attachments_left: u8,
}

crate::portable!(struct Assembler { header, attachments, bytes_left, attachments_left });

/// What an attachment did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssemblyStep {
    /// Attachments are missing.
    More,
    /// All attachments have come.
    Complete,
}

/// Why a binary packet cannot be put together. The connection is closed ("parse error").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssembleError {
    /// A binary message that no header announced (P16).
    UnexpectedBinary,
    /// Header and attachments together exceed the limit.
    TooBig,
}

impl AssembleError {
    /// The reason in words, for logs and for the label of a counter.
    pub fn reason(self) -> &'static str {
        match self {
            AssembleError::UnexpectedBinary => "attachment without a packet",
            AssembleError::TooBig => "binary packet too big",
        }
    }
}

impl fmt::Display for AssembleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl Error for AssembleError {}

impl Assembler {
    /// Begins with the text of a decoded binary packet and the number of attachments that it claims.
    ///
    /// `bytes_max` bounds header and attachments together; above 4 GiB it is 4 GiB.
    pub fn begin(header: &str, attachments: u8, bytes_max: usize) -> Result<Assembler, AssembleError> {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        let bytes_left = take_bytes(bytes_max, header.len())?;
        Ok(Assembler { header: header.into(), attachments: Vec::new(), bytes_left, attachments_left: attachments })
    }

    /// Takes the next attachment.
    pub fn push(&mut self, attachment: &[u8]) -> Result<AssemblyStep, AssembleError> {
        let attachments_left = self.attachments_left.checked_sub(1).ok_or(AssembleError::UnexpectedBinary)?;
        self.bytes_left = take_bytes(self.bytes_left, attachment.len())?;
        self.attachments_left = attachments_left;
        self.attachments.push(attachment.into());
        Ok(if attachments_left == 0 { AssemblyStep::Complete } else { AssemblyStep::More })
    }

    /// What is held: the header and the attachments that have come.
    pub fn held_bytes(&self) -> usize {
        self.header.len() + self.attachments.iter().map(|attachment| attachment.len()).sum::<usize>()
    }

    /// The text of the packet, to be decoded again when it is complete.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Those that have come so far, in order.
    pub fn attachments(&self) -> &[Box<[u8]>] {
        &self.attachments
    }

    /// The text of the packet and its attachments, in order.
    pub fn into_parts(self) -> (Box<str>, Vec<Box<[u8]>>) {
        (self.header, self.attachments)
    }
}

fn take_bytes(bytes_left: u32, bytes: usize) -> Result<u32, AssembleError> {
    u32::try_from(bytes).ok().and_then(|bytes| bytes_left.checked_sub(bytes)).ok_or(AssembleError::TooBig)
}
