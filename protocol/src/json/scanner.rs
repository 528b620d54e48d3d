//! `Scanner`: walks over JSON text in one pass, without recursion and without memory.

use super::error::{DEPTH_MAX, JsonError};
use super::token::{skip_scalar, skip_string, skip_whitespace};

/// A place in a text, and the brackets that are open there.
#[derive(Clone, Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// What has not been looked at: an end of `text`.
    rest: &'a [u8],
    /// One bit per open bracket, the innermost lowest: 1 is an object.
    kinds: u128,
    depth: usize,
}

/// All levels must fit in the bits of [`Scanner::kinds`].
const _: () = assert!(DEPTH_MAX <= u128::BITS as usize);

/// Told what the scanner passes, for those who need more than validity out of the same pass.
pub(crate) trait Observer {
    fn object_begins(&mut self);

    /// A key with its quotes and its value: the whole text of a scalar, `{` or `[` alone for what is only beginning.
    fn member(&mut self, key: &str, value: &str);

    fn object_ends(&mut self);
}

/// Observes nothing.
pub(crate) struct Ignore;

impl Observer for Ignore {
    fn object_begins(&mut self) {}

    fn member(&mut self, _key: &str, _value: &str) {}

    fn object_ends(&mut self) {}
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, rest: text.as_bytes(), kinds: 0, depth: 0 }
    }

    /// Passes over one value and whitespace before it; returns the value's text.
    pub(super) fn value<O: Observer>(&mut self, observer: &mut O) -> Result<&'a str, JsonError> {
        let (from, outer) = (skip_whitespace(self.rest), self.depth);
        let mut rest = from;
        let mut key = None;
        loop {
            let token = rest;
            rest = match token {
                [b'{' | b'[', after @ ..] => after,
                _ => skip_scalar(token).ok_or(JsonError::Syntax)?,
            };
            if let Some(key) = key.take() {
                observer.member(key, self.span(token, rest));
            }
            match token {
                [b'{', ..] => {
                    self.open(1)?;
                    observer.object_begins();
                    rest = skip_whitespace(rest);
                    if !matches!(rest, [b'}', ..]) {
                        (key, rest) = self.key(rest)?;
                        continue;
                    }
                }
                [b'[', ..] => {
                    self.open(0)?;
                    rest = skip_whitespace(rest);
                    if !matches!(rest, [b']', ..]) {
                        continue;
                    }
                }
                _ => {}
            }
            // A value has ended, or an empty container is about to: close what ends here, up to a comma.
            loop {
                if self.depth == outer {
                    self.rest = rest;
                    return Ok(self.span(from, rest));
                }
                match (skip_whitespace(rest), self.in_object()) {
                    ([b',', after @ ..], true) => {
                        (key, rest) = self.key(skip_whitespace(after))?;
                        break;
                    }
                    ([b',', after @ ..], false) => {
                        rest = skip_whitespace(after);
                        break;
                    }
                    ([b'}', after @ ..], true) => {
                        observer.object_ends();
                        self.close();
                        rest = after;
                    }
                    ([b']', after @ ..], false) => {
                        self.close();
                        rest = after;
                    }
                    _ => return Err(JsonError::Syntax),
                }
            }
        }
    }

    /// A key with its quotes, and what follows its colon. An `Option` because that is where the caller keeps it.
    fn key(&self, from: &'a [u8]) -> Result<(Option<&'a str>, &'a [u8]), JsonError> {
        let rest = skip_string(from).ok_or(JsonError::Syntax)?;
        let key = self.span(from, rest);
        match skip_whitespace(rest) {
            [b':', after @ ..] => Ok((Some(key), skip_whitespace(after))),
            _ => Err(JsonError::Syntax),
        }
    }

    /// Nothing but whitespace may follow.
    pub(super) fn end(&self) -> Result<(), JsonError> {
        if skip_whitespace(self.rest).is_empty() { Ok(()) } else { Err(JsonError::Syntax) }
    }

    fn open(&mut self, kind: u128) -> Result<(), JsonError> {
        if self.depth == DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.depth += 1;
        self.kinds = self.kinds << 1 | kind;
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.kinds >>= 1;
    }

    fn in_object(&self) -> bool {
        self.kinds & 1 == 1
    }

    /// The text between two places. Both stand at ASCII bytes or at an end, so that it can be cut there.
    fn span(&self, from: &[u8], to: &[u8]) -> &'a str {
        let span = self.text.get(self.text.len() - from.len()..self.text.len() - to.len());
        debug_assert!(span.is_some(), "a cut inside of a character");
        span.unwrap_or_default()
    }
}

/// Walks over one array, element by element, so that spans come out of the pass that checks.
#[derive(Clone, Debug)]
pub(crate) struct ArrayWalk<'a> {
    scanner: Scanner<'a>,
    from: &'a [u8],
    place: WalkPosition,
}

/// Where a walk stands in its array or object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WalkPosition {
    Begin,
    AfterItem,
    End,
}

impl<'a> ArrayWalk<'a> {
    /// `text` is one array, with nothing but whitespace around it.
    pub(crate) fn begin(text: &'a str) -> Result<ArrayWalk<'a>, JsonError> {
        let mut scanner = Scanner::new(text);
        let from = scanner.enter(b'[', 0)?;
        Ok(ArrayWalk { scanner, from, place: WalkPosition::Begin })
    }

    /// The next element; `None` once the whole text has turned out to be an array.
    pub(crate) fn step<O: Observer>(&mut self, observer: &mut O) -> Result<Option<&'a str>, JsonError> {
        if !self.scanner.advance(&mut self.place, b']')? {
            return Ok(None);
        }
        self.scanner.value(observer).map(Some)
    }

    /// Where in the text the walk stands: right behind the element that `step` has just given.
    pub(crate) fn at(&self) -> usize {
        self.scanner.text.len() - self.scanner.rest.len()
    }

    /// What has been passed of the array: all of it, without whitespace around, when `step` has given `None`.
    pub(crate) fn text(&self) -> &'a str {
        self.scanner.span(self.from, self.scanner.rest)
    }
}

/// Walks over one object, entry by entry.
#[derive(Clone, Debug)]
pub(super) struct ObjectWalk<'a> {
    scanner: Scanner<'a>,
    place: WalkPosition,
}

impl<'a> ObjectWalk<'a> {
    /// `text` is one object, with nothing but whitespace around it.
    pub(super) fn begin(text: &'a str) -> Result<ObjectWalk<'a>, JsonError> {
        let mut scanner = Scanner::new(text);
        scanner.enter(b'{', 1)?;
        Ok(ObjectWalk { scanner, place: WalkPosition::Begin })
    }

    /// The next key, with its quotes, and its value; `None` once the whole text has turned out to be an object.
    pub(super) fn step<O: Observer>(&mut self, observer: &mut O) -> Result<Option<(&'a str, &'a str)>, JsonError> {
        if !self.scanner.advance(&mut self.place, b'}')? {
            return Ok(None);
        }
        let (key, rest) = self.scanner.key(self.scanner.rest)?;
        self.scanner.rest = rest;
        let value = self.scanner.value(observer)?;
        Ok(Some((key.unwrap_or_default(), value)))
    }
}

impl<'a> Scanner<'a> {
    /// Passes over an opening bracket and whitespace before it; returns where the bracket stands.
    fn enter(&mut self, bracket: u8, kind: u128) -> Result<&'a [u8], JsonError> {
        let from = skip_whitespace(self.rest);
        match from {
            [first, after @ ..] if *first == bracket => self.rest = after,
            _ => return Err(JsonError::Syntax),
        }
        self.open(kind)?;
        Ok(from)
    }

    /// To the next item of the array or object; false at its end, after which nothing may follow.
    fn advance(&mut self, place: &mut WalkPosition, bracket: u8) -> Result<bool, JsonError> {
        let rest = skip_whitespace(self.rest);
        match (*place, rest) {
            (WalkPosition::End, _) => return Ok(false),
            (WalkPosition::Begin | WalkPosition::AfterItem, [first, after @ ..]) if *first == bracket => {
                self.rest = after;
                self.close();
                *place = WalkPosition::End;
                return self.end().map(|()| false);
            }
            (WalkPosition::Begin, _) => self.rest = rest,
            (WalkPosition::AfterItem, [b',', after @ ..]) => self.rest = skip_whitespace(after),
            (WalkPosition::AfterItem, _) => return Err(JsonError::Syntax),
        }
        *place = WalkPosition::AfterItem;
        Ok(true)
    }
}
