//! Messages out of a peer's bytes, however they are cut and fragmented (RFC 6455 sections 5.4 and 5.5).
//!
//! A message that arrives whole is unmasked where it lies and lent out of there. Only what is incomplete is copied,
//! into one buffer per message that grows with what has arrived, never with what was announced.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;

use crate::portable::{Packer, Portable, Unpacker, Unreadable};

use super::close::CloseFrame;
#[cfg(feature = "client")]
use super::frame::FromServer;
use super::frame::{Fin, FrameError, FrameHeader, FromClient, HEADER_LENGTH_MAX, Opcode, Sender};
use super::mask::unmask;
use super::utf8::Utf8Validator;

/// The receiving half of a server's WebSocket: frames of a client become messages.
pub type Decoder = MessageDecoder<FromClient>;

/// The receiving half of a client's WebSocket: frames of a server become messages.
#[cfg(feature = "client")]
pub type ServerDecoder = MessageDecoder<FromServer>;

/// The receiving half of one WebSocket. Between messages it holds no heap.
pub struct MessageDecoder<S> {
    partial: Option<Box<Partial>>,
    sender: PhantomData<S>,
}

impl<S> Default for MessageDecoder<S> {
    fn default() -> MessageDecoder<S> {
        MessageDecoder { partial: None, sender: PhantomData }
    }
}

/// What a message may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct MessageLimits {
    /// A longer message closes with 1009 as soon as a header announces it.
    pub message_bytes_max: usize,
    /// A message in more frames closes with 1008: each costs time, however short it is.
    pub fragments_max: u32,
}

impl Default for MessageLimits {
    fn default() -> Self {
        MessageLimits { message_bytes_max: 1_000_000, fragments_max: 1024 }
    }
}

/// What one call has found: a whole message, or a control frame, which may come between the fragments of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping; a pong with the same bytes is due.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// A close frame, with what it said. Nothing that follows it counts.
    Close(Option<CloseFrame<'a>>),
}

/// How far one call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Bytes taken from the front of the input.
    pub consumed: usize,
    /// `None`: all of the input is taken, and more is needed.
    pub event: Option<Event<'a>>,
}

/// What has begun and is not complete.
#[derive(Default)]
struct Partial {
    header: [u8; HEADER_LENGTH_MAX],
    header_length: usize,
    frame: Option<Frame>,
    message: Option<OpenMessage>,
    /// The payload of the message so far and, behind it, of a control frame that is not complete.
    buffer: Vec<u8>,
    /// Set while an event lends from the buffer: the length to cut it back to.
    delivered: Option<usize>,
}

/// A frame whose header is complete and whose payload is not.
#[derive(Clone, Copy)]
struct Frame {
    header: FrameHeader,
    received: usize,
}

/// A message whose first frame has begun.
struct OpenMessage {
    opcode: Opcode,
    fragments: u32,
    utf8: Utf8Validator,
}

impl<S> Portable for MessageDecoder<S> {
    const FORM: u64 = <Option<Box<Partial>>>::FORM;

    fn pack(&self, out: &mut Packer) {
        self.partial.pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<MessageDecoder<S>, Unreadable> {
        Ok(MessageDecoder { partial: Portable::unpack(from)?, sender: PhantomData })
    }
}

crate::portable!(struct Partial { header, header_length, frame, message, buffer, delivered });
crate::portable!(struct Frame { header, received });
crate::portable!(struct OpenMessage { opcode, fragments, utf8 });

/// Where the payload of an event lies.
enum PayloadPlace {
    Input(Range<usize>),
    /// From here to the end of the buffer.
    Buffer(usize),
}

impl<S: Sender> MessageDecoder<S> {
    /// Takes bytes from the front of `input`, unmasking in place. Call it again with the rest of the input until the
    /// event is `None`: then all of it is taken. After an error the rest of the stream has no meaning.
    pub fn decode<'a>(&'a mut self, input: &'a mut [u8], limits: &MessageLimits) -> Result<Decoded<'a>, FrameError> {
        self.release();
        let (consumed, found) = match self.take_whole_message(input, limits)? {
            Some((opcode, range)) => (range.end, Some((opcode, PayloadPlace::Input(range)))),
            None => self.advance(input, limits)?,
        };
        let Some((opcode, place)) = found else { return Ok(Decoded { consumed, event: None }) };
        let payload = match place {
            PayloadPlace::Input(range) => input.get(range),
            PayloadPlace::Buffer(start) => self.partial.as_ref().and_then(|partial| partial.buffer.get(start..)),
        };
        let event = Event::new(opcode, payload.unwrap_or_default())?;
        Ok(Decoded { consumed, event: Some(event) })
    }

    /// Whether a frame or a message has begun and is not complete: the peer owes the rest.
    pub fn has_partial(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| !partial.is_idle())
    }

    /// What is held of what has begun.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| size_of::<Partial>() + partial.buffer.capacity())
    }

    /// Frees what the last event was lent from; the next `decode` does the same. For whoever pauses in between.
    pub fn release(&mut self) {
        if let Some(partial) = &mut self.partial {
            if let Some(length) = partial.delivered.take() {
                partial.buffer.truncate(length);
            }
            if partial.is_idle() {
                self.partial = None;
            }
        }
    }

    /// The common case, without state and copy: nothing has begun, and the input begins with a whole unfragmented
    /// message or control frame.
    fn take_whole_message(
        &self,
        input: &mut [u8],
        limits: &MessageLimits,
    ) -> Result<Option<(Opcode, Range<usize>)>, FrameError> {
        if self.partial.is_some() {
            return Ok(None);
        }
        let Some((header, header_length)) = FrameHeader::decode::<S>(input)? else { return Ok(None) };
        if header.opcode == Opcode::Continuation {
            return Err(FrameError::ContinuationUnexpected);
        }
        if header.payload_length > limits.message_bytes_max && !header.opcode.is_control() {
            return Err(FrameError::MessageTooBig);
        }
        if header.fin == Fin::More || input.len() - header_length < header.payload_length {
            return Ok(None);
        }
        let range = header_length..header_length + header.payload_length;
        if S::IS_MASKED {
            unmask(input.get_mut(range.clone()).unwrap_or_default(), header.mask, 0);
        }
        Ok(Some((header.opcode, range)))
    }

    /// Works through the input, keeping what is incomplete, up to the first event or to the end.
    fn advance(
        &mut self,
        input: &mut [u8],
        limits: &MessageLimits,
    ) -> Result<(usize, Option<(Opcode, PayloadPlace)>), FrameError> {
        let mut consumed = 0;
        if input.is_empty() {
            return Ok((consumed, None));
        }
        let partial = self.partial.get_or_insert_default();
        loop {
            let rest = input.get_mut(consumed..).unwrap_or_default();
            let Some(frame) = partial.frame else {
                if rest.is_empty() {
                    return Ok((consumed, None));
                }
                consumed += partial.take_header::<S>(rest, limits)?;
                continue;
            };
            if frame.is_whole_message() && rest.len() >= frame.header.payload_length {
                let range = consumed..consumed + frame.header.payload_length;
                if S::IS_MASKED {
                    unmask(input.get_mut(range.clone()).unwrap_or_default(), frame.header.mask, 0);
                }
                partial.forget_frame(frame.header.opcode);
                self.release();
                return Ok((range.end, Some((frame.header.opcode, PayloadPlace::Input(range)))));
            }
            consumed += partial.take_payload::<S>(frame, rest)?;
            match partial.finish_frame()? {
                Some(found) => return Ok((consumed, Some(found))),
                None if partial.frame.is_some() => return Ok((consumed, None)),
                None => {}
            }
        }
    }
}

impl Partial {
    fn is_idle(&self) -> bool {
        self.header_length == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Takes the bytes of a header from the front of `rest` and, when it is complete, begins its frame.
    fn take_header<S: Sender>(&mut self, rest: &[u8], limits: &MessageLimits) -> Result<usize, FrameError> {
        let known = self.header_length;
        for (place, byte) in self.header.iter_mut().skip(known).zip(rest) {
            *place = *byte;
            self.header_length += 1;
        }
        let bytes = self.header.get(..self.header_length).unwrap_or_default();
        let Some((header, length)) = FrameHeader::decode::<S>(bytes)? else { return Ok(self.header_length - known) };
        self.header_length = 0;
        if !header.opcode.is_control() {
            self.admit(header, limits)?;
        }
        self.frame = Some(Frame { header, received: 0 });
        Ok(length - known)
    }

    /// Holds the header of a data frame against the message that it belongs to, before any of its payload is kept.
    fn admit(&mut self, header: FrameHeader, limits: &MessageLimits) -> Result<(), FrameError> {
        let message = match (&mut self.message, header.opcode) {
            (None, Opcode::Continuation) => return Err(FrameError::ContinuationUnexpected),
            (Some(message), Opcode::Continuation) => message,
            (Some(_), _) => return Err(FrameError::ContinuationExpected),
            (message @ None, opcode) => {
                message.insert(OpenMessage { opcode, fragments: 0, utf8: Utf8Validator::default() })
            }
        };
        message.fragments = message.fragments.saturating_add(1);
        if header.payload_length > limits.message_bytes_max.saturating_sub(self.buffer.len()) {
            return Err(FrameError::MessageTooBig);
        }
        if message.fragments > limits.fragments_max {
            return Err(FrameError::TooManyFragments);
        }
        Ok(())
    }

    /// Unmasks and keeps the payload at the front of `rest`. A text is checked with every piece, so that a wrong one is
    /// refused without waiting for its end.
    fn take_payload<S: Sender>(&mut self, frame: Frame, rest: &mut [u8]) -> Result<usize, FrameError> {
        let Frame { header, received } = frame;
        let length = rest.len().min(header.payload_length - received);
        let piece = rest.get_mut(..length).unwrap_or_default();
        if S::IS_MASKED {
            unmask(piece, header.mask, received);
        }
        if !header.opcode.is_control()
            && let Some(OpenMessage { opcode: Opcode::Text, utf8, .. }) = &mut self.message
        {
            utf8.push(piece).map_err(|_| FrameError::InvalidUtf8)?;
        }
        self.buffer.extend_from_slice(piece);
        self.frame = Some(Frame { header, received: received + length });
        Ok(length)
    }

    /// Ends the frame if its payload is complete, and with its last frame the message.
    fn finish_frame(&mut self) -> Result<Option<(Opcode, PayloadPlace)>, FrameError> {
        let Some(Frame { header, .. }) = self.frame.take_if(|frame| frame.received == frame.header.payload_length)
        else {
            return Ok(None);
        };
        if header.opcode.is_control() {
            let start = self.buffer.len().saturating_sub(header.payload_length);
            self.delivered = Some(start);
            return Ok(Some((header.opcode, PayloadPlace::Buffer(start))));
        }
        if header.fin == Fin::More {
            return Ok(None);
        }
        let Some(message) = self.message.take() else { return Err(FrameError::ContinuationUnexpected) };
        self.delivered = Some(0);
        Ok(Some((message.opcode, PayloadPlace::Buffer(0))))
    }

    /// The frame was lent out of the input, nothing of it was kept.
    fn forget_frame(&mut self, opcode: Opcode) {
        self.frame = None;
        if !opcode.is_control() {
            self.message = None;
        }
    }
}

impl Frame {
    /// Nothing of the payload has come yet, and it belongs together with no other frame's.
    fn is_whole_message(&self) -> bool {
        let is_alone = self.header.fin == Fin::Last && self.header.opcode != Opcode::Continuation;
        self.received == 0 && is_alone
    }
}

impl<'a> Event<'a> {
    fn new(opcode: Opcode, payload: &'a [u8]) -> Result<Event<'a>, FrameError> {
        match opcode {
            // For a text that came in pieces this is the second look at its bytes: the price of a &str without unsafe.
            // It also finds a text that ends within a character.
            Opcode::Text => core::str::from_utf8(payload).map(Event::Text).map_err(|_| FrameError::InvalidUtf8),
            Opcode::Binary => Ok(Event::Binary(payload)),
            Opcode::Ping => Ok(Event::Ping(payload)),
            Opcode::Pong => Ok(Event::Pong(payload)),
            Opcode::Close => CloseFrame::decode(payload).map(Event::Close),
            Opcode::Continuation => Err(FrameError::ContinuationUnexpected),
        }
    }
}

/// Without what has arrived: payloads are not for logs.
impl<S: Sender> fmt::Debug for MessageDecoder<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MessageDecoder").field("has_partial", &self.has_partial()).finish()
    }
}

#[cfg(test)]
mod tests;
