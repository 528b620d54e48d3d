//! What bodies, queries and answers are made of: tables of fields. Bodies are read by them, and the description of the API
//! and its document show them.

/// One field of a body, a query or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub form: FieldForm,
    pub presence: FieldPresence,
    /// What it says, for people.
    pub help: &'static str,
}

/// Whether a field has to be there, or always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldPresence {
    Always,
    Sometimes,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldForm {
    Anything,
    List,
    Boolean,
    /// A text by which something is found, of so many bytes at the most.
    Name(usize),
    /// The name of an event: any but those that Socket.IO keeps for itself.
    EventName(usize),
    /// The name of a room that is no user's.
    RoomName(usize),
    /// One of the server's namespaces.
    Namespace(usize),
    /// A text for people, of so many bytes at the most.
    Text(usize),
    /// A name, or a whole number, which is its digits.
    Id(usize),
    /// So many names at the most, each of so many bytes.
    Names(usize, usize),
    Ids(usize, usize),
    /// A whole number from the one to the other.
    Whole(u64, u64),
    /// Whole seconds, up to `kept_ttl_max_s`.
    Seconds,
    /// Of an event that is remembered.
    EventId,
    /// A place in a list, as an answer has named it.
    Cursor,
    /// ISO 8601 with a time zone, or milliseconds since 1970.
    Moment,
    /// An object with these fields and no others.
    Inner(&'static [Field]),
    // Of answers only.
    /// A whole number that was counted.
    Count,
    /// The same, where it is known.
    CountOrNull,
    CursorOrNull,
    /// ISO 8601 in UTC.
    Time,
    TimeOrNull,
    String,
    StringOrNull,
    Strings,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, or `false`.
    WordOrFalse(&'static [&'static str]),
    Object(&'static [Field]),
    Objects(&'static [Field]),
    /// Texts by their names.
    Texts,
}

/// A JSON object: its fields, and what holds between them.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub fields: &'static [Field],
    pub rules: &'static [Rule],
}

/// What holds between fields. Who reads the body sees to it; here it is said.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// One of these has to be there, and no other of them; of what is true or false, it has to be true.
    OneOf(&'static [&'static str]),
    /// At the most one of these.
    NotBoth(&'static str, &'static str),
    /// The first only beside one of the others.
    Beside(&'static str, &'static [&'static str]),
    /// The first only where the other is not true.
    Unless(&'static str, &'static str),
}

impl Shape {
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.fields.iter().map(|field| field.name)
    }
}

/// A field that has to be there.
pub(super) const fn required(name: &'static str, form: FieldForm, help: &'static str) -> Field {
    Field { name, form, presence: FieldPresence::Always, help }
}

/// A field that may be there; `null` is as good as none.
pub(super) const fn optional(name: &'static str, form: FieldForm, help: &'static str) -> Field {
    Field { name, form, presence: FieldPresence::Sometimes, help }
}
