//! `Args`: the arguments of an event or an acknowledgement, a checked JSON array that stays the text that it was.

use alloc::borrow::Cow;

use crate::json::{ArrayWalk, Elements, Ignore, JsonError, Observer, string_of};

/// A checked JSON array with the spans that the server needs, out of one pass over the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Args<'a> {
    text: &'a str,
    first: &'a str,
    after_first: &'a str,
    len: usize,
}

/// The first argument of an event. JavaScript makes a string of a number when it looks for handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventName<'a> {
    /// A JSON string, without quotes and escapes.
    Text(Cow<'a, str>),
    /// The number as it was written.
    Number(&'a str),
}

impl<'a> Args<'a> {
    /// Checks that all of `text` is one JSON array; whitespace around it is dropped.
    pub fn decode(text: &'a str) -> Result<Args<'a>, JsonError> {
        Args::decode_observed(text, &mut Ignore)
    }

    pub(super) fn decode_observed<O: Observer>(text: &'a str, observer: &mut O) -> Result<Args<'a>, JsonError> {
        let mut walk = ArrayWalk::begin(text)?;
        let (mut first, mut second_from, mut last_to, mut len) = ("", None, 0, 0);
        while let Some(element) = walk.step(observer)? {
            last_to = walk.at();
            if len == 0 {
                first = element;
            } else if second_from.is_none() {
                second_from = Some(last_to - element.len());
            }
            len += 1;
        }
        let after_first = second_from.and_then(|from| text.get(from..last_to)).unwrap_or_default();
        Ok(Args { text: walk.text(), first, after_first, len })
    }

    /// The whole array: `["name",1,"2"]`.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The first element, if it is a string or a number: always for an event, by chance for an acknowledgement.
    pub fn event(&self) -> Option<EventName<'a>> {
        match self.first.as_bytes().first()? {
            b'"' => string_of(self.first).map(EventName::Text),
            b'-' | b'0'..=b'9' => Some(EventName::Number(self.first)),
            _ => None,
        }
    }

    /// The text of the elements after the first, commas between them included: `1,"2",{"3":[true]}`, or nothing.
    pub fn after_event(&self) -> &'a str {
        self.after_first
    }

    /// The texts of all elements, the first included.
    pub fn elements(&self) -> Elements<'a> {
        Elements::of(self.text)
    }

    /// How many elements, the first included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is `[]`: an acknowledgement may be, an event never is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
