//! `Channels`: what the channels of a cluster are called, and what a channel is for.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::room::{name_in_channel, number_of};

/// Which of Node's three Redis adapters the cluster speaks. They do not understand each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// `createAdapter` and the emitter: PUBLISH, PSUBSCRIBE, SUBSCRIBE.
    Classic,
    /// `createShardedAdapter`: SPUBLISH, SSUBSCRIBE.
    Sharded,
    /// `createAdapter` of `@socket.io/redis-streams-adapter`: XADD, XREAD; PUBLISH and SUBSCRIBE for questions and answers.
    Streams,
}

/// Which rooms have channels of their own with the sharded adapter: its `subscriptionMode`, which all servers share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubscriptionMode {
    /// All but those of sockets.
    #[default]
    Dynamic,
    /// Those of sockets too.
    DynamicPrivate,
    /// None.
    Static,
}

/// JavaScript's length of a socket id. The sharded adapter takes a room of that length for one, and does not give it a
/// channel of its own.
const SID_UNITS: usize = 20;

/// The names of all channels of one cluster.
#[derive(Clone, Debug)]
pub struct Channels {
    adapter: Adapter,
    mode: SubscriptionMode,
    prefix: Box<str>,
    /// The longest first: names may contain `#`, which also ends them in a channel.
    namespaces: Vec<Box<str>>,
    /// What the patterns of each namespace begin with, in the same order.
    beginnings: Vec<Box<str>>,
}

/// What a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelName<'a> {
    /// The namespace that it belongs to.
    pub namespace: &'a str,
    /// What is published on it.
    pub kind: ChannelKind<'a>,
}

/// What is published on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind<'a> {
    /// Where everybody listens: broadcasts, with the sharded adapter requests too.
    Namespace,
    /// Of one room; with the sharded adapter it may be the uid of an instance that waits for answers.
    Room(&'a str),
    /// The classic adapter's.
    Requests,
    /// The classic adapter's: for all, or for the instance with this uid.
    Answers(Option<&'a str>),
}

impl Channels {
    /// `prefix` is Node's `key` or `channelPrefix`, by default `socket.io`.
    pub fn new<S: AsRef<str>>(adapter: Adapter, prefix: &str, namespaces: &[S]) -> Channels {
        let mut namespaces: Vec<Box<str>> = namespaces.iter().map(|name| name.as_ref().into()).collect();
        namespaces.sort_by_key(|name| core::cmp::Reverse(name.len()));
        let beginning = |name: &str| escape_pattern(&format!("{prefix}#{name}#")).into_boxed_str();
        let beginnings = namespaces.iter().map(|name| beginning(name)).collect();
        Channels { adapter, mode: SubscriptionMode::default(), prefix: prefix.into(), namespaces, beginnings }
    }

    /// The same with another mode.
    pub fn with_mode(self, mode: SubscriptionMode) -> Channels {
        Channels { mode, ..self }
    }

    /// Whose channels these are.
    pub fn adapter(&self) -> Adapter {
        self.adapter
    }

    /// Where everybody listens.
    pub fn of_namespace(&self, namespace: &str) -> String {
        format!("{}#{namespace}#", self.prefix)
    }

    /// Where messages to exactly this room are published. `None`: on the namespace's.
    pub fn of_room(&self, namespace: &str, room: &str) -> Option<String> {
        let is_own = match (self.adapter, self.mode) {
            (Adapter::Classic, _) | (Adapter::Sharded, SubscriptionMode::DynamicPrivate) => true,
            (Adapter::Sharded, SubscriptionMode::Dynamic) => {
                number_of(room).is_some() || room.encode_utf16().count() != SID_UNITS
            }
            // What is for rooms comes with everything else, by the stream.
            (Adapter::Sharded, SubscriptionMode::Static) | (Adapter::Streams, _) => false,
        };
        is_own.then(|| format!("{}#{namespace}#{}#", self.prefix, name_in_channel(room)))
    }

    /// Where a message to these rooms is published: a receiver that does not know the room of the channel drops it, so that
    /// only a message to exactly one room goes on the channel of that room.
    pub(super) fn of_rooms(&self, namespace: &str, rooms: &[Box<str>]) -> String {
        let room = if let [room] = rooms { self.of_room(namespace, room) } else { None };
        room.unwrap_or_else(|| self.of_namespace(namespace))
    }

    /// Where questions and orders are published.
    pub fn of_requests(&self, namespace: &str) -> String {
        match self.adapter {
            Adapter::Classic => format!("{}-request#{namespace}#", self.prefix),
            Adapter::Sharded | Adapter::Streams => self.of_namespace(namespace),
        }
    }

    /// Where the instance with this uid waits for answers.
    pub fn of_answers(&self, namespace: &str, uid: &str) -> String {
        match self.adapter {
            Adapter::Classic => format!("{}-response#{namespace}#{uid}#", self.prefix),
            Adapter::Sharded | Adapter::Streams => format!("{}#{namespace}#{uid}#", self.prefix),
        }
    }

    /// Where all instances of the classic adapter wait for answers.
    pub(super) fn of_all_answers(&self, namespace: &str) -> String {
        format!("{}-response#{namespace}#", self.prefix)
    }

    /// The channel whose subscribers are counted as instances, by NUMSUB or SHARDNUMSUB.
    pub fn counted(&self, namespace: &str) -> String {
        self.of_requests(namespace)
    }

    /// What an instance subscribes once, whatever rooms it has.
    pub fn of_instance(&self, namespace: &str, uid: &str) -> Vec<String> {
        let (main, answers) = (self.of_namespace(namespace), self.of_answers(namespace, uid));
        match self.adapter {
            Adapter::Classic => vec![main, self.of_requests(namespace), self.of_all_answers(namespace), answers],
            Adapter::Sharded | Adapter::Streams => vec![main, answers],
        }
    }

    /// The pattern of all channels of sockets whose sid begins like this. `None`: they have none.
    pub fn pattern_of_sids(&self, namespace: &str, sid_prefix: &str) -> Option<String> {
        let is_own = self.adapter == Adapter::Classic;
        is_own.then(|| escape_pattern(&format!("{}#{namespace}#{sid_prefix}", self.prefix)) + "*#")
    }

    /// The patterns of the channels of all rooms of a namespace but those that begin like this. Each of these rooms fits one
    /// pattern: its name leaves that beginning at its first letter, or its second, and so on. The namespace's own channel
    /// fits none.
    pub fn patterns_of_rooms_but(&self, namespace: &str, beginning: &str) -> Vec<String> {
        let main = escape_pattern(&self.of_namespace(namespace));
        let patterns = beginning
            .char_indices()
            .map(|(length, other)| format!("{main}{}[^{other}]*", escape_pattern(&beginning[..length])));
        patterns.collect()
    }

    /// What a channel is that came by a pattern. Where a namespace contains `#`, patterns of others bring its channels as
    /// rooms, too.
    pub fn place_by_pattern<'a>(&'a self, pattern: &[u8], channel: &'a [u8]) -> Option<ChannelName<'a>> {
        let known = self.namespaces.iter().zip(&self.beginnings);
        let (namespace, _) = known.clone().find(|(_, beginning)| pattern.starts_with(beginning.as_bytes()))?;
        self.places(channel).find(|place| *place.namespace == **namespace)
    }

    /// What a channel is, nothing for others. Where a namespace contains `#` it may be several things: the one with the longest
    /// name of a namespace first.
    pub fn places<'a>(&'a self, channel: &'a [u8]) -> impl Iterator<Item = ChannelName<'a>> {
        let rest = core::str::from_utf8(channel).ok().and_then(|channel| channel.strip_prefix(&*self.prefix));
        let rest = rest.filter(|rest| rest.starts_with('#') || self.adapter == Adapter::Classic);
        self.namespaces.iter().filter_map(move |namespace| place_in(namespace, rest?))
    }
}

/// What a channel is to a namespace, from what stands behind the prefix: `#/#`, `#/#room#`, `-request#/#` and so on.
fn place_in<'a>(namespace: &'a str, rest: &'a str) -> Option<ChannelName<'a>> {
    let (sort, rest) = rest.split_once('#')?;
    let rest = rest.strip_prefix(namespace)?.strip_prefix('#')?;
    let name = if rest.is_empty() { None } else { Some(rest.strip_suffix('#')?) };
    let kind = match (sort, name) {
        ("", None) => ChannelKind::Namespace,
        ("", Some(room)) => ChannelKind::Room(room),
        ("-request", None) => ChannelKind::Requests,
        ("-response", uid) => ChannelKind::Answers(uid),
        _ => return None,
    };
    Some(ChannelName { namespace, kind })
}

/// A name as a pattern of Redis that only it matches.
fn escape_pattern(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len() + 8);
    for character in name.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(adapter: Adapter) -> Channels {
        Channels::new(adapter, "socket.io", &["/", "/admin", "/#x"])
    }

    #[test]
    fn channels_are_called_as_node_calls_them() {
        let classic = channels(Adapter::Classic);
        assert_eq!(
            classic.of_instance("/", "vfUuRQ"),
            ["socket.io#/#", "socket.io-request#/#", "socket.io-response#/#", "socket.io-response#/#vfUuRQ#",]
        );
        assert_eq!(classic.of_room("/admin", "user:9").as_deref(), Some("socket.io#/admin#user:9#"));
        assert_eq!(classic.counted("/"), "socket.io-request#/#");
        let sharded = channels(Adapter::Sharded);
        assert_eq!(sharded.of_instance("/", "dedce9ec59a3ae56"), ["socket.io#/#", "socket.io#/#dedce9ec59a3ae56#"]);
        assert_eq!(sharded.of_requests("/"), "socket.io#/#");
        assert_eq!(sharded.counted("/"), "socket.io#/#");
    }

    #[test]
    fn only_one_room_has_a_channel_and_a_sid_none_where_there_are_shards() {
        let sid: Box<str> = "abcdefghijklmnopqrst".into();
        let umlauts: Box<str> = "\u{e4}".repeat(20).into();
        let faces: Box<str> = "\u{1f600}".repeat(10).into();
        let user: Box<str> = "user:2".into();
        for (adapter, rooms, expected) in [
            (Adapter::Classic, vec![sid.clone()], "socket.io#/#abcdefghijklmnopqrst#".to_owned()),
            (Adapter::Classic, vec![], "socket.io#/#".to_owned()),
            (Adapter::Classic, vec![user.clone(), sid.clone()], "socket.io#/#".to_owned()),
            (Adapter::Sharded, vec![user.clone()], "socket.io#/#user:2#".to_owned()),
            (Adapter::Sharded, vec![user.clone(), user], "socket.io#/#".to_owned()),
            (Adapter::Sharded, vec![sid], "socket.io#/#".to_owned()),
            (Adapter::Sharded, vec![umlauts], "socket.io#/#".to_owned()),
            // 20 units of UTF-16, as JavaScript counts.
            (Adapter::Sharded, vec![faces], "socket.io#/#".to_owned()),
        ] {
            assert_eq!(channels(adapter).of_rooms("/", &rooms), expected, "{rooms:?}");
        }
    }

    #[test]
    fn a_mode_says_which_rooms_have_channels() {
        let sid = "abcdefghijklmnopqrst";
        for (mode, of_user, of_sid) in [
            (SubscriptionMode::Dynamic, true, false),
            (SubscriptionMode::DynamicPrivate, true, true),
            (SubscriptionMode::Static, false, false),
        ] {
            let channels = channels(Adapter::Sharded).with_mode(mode);
            let has_own = |room: &str| channels.of_room("/", room).is_some();
            assert_eq!((has_own("user:2"), has_own(sid)), (of_user, of_sid), "{mode:?}");
        }
    }

    #[test]
    fn a_channel_says_what_it_is() {
        let (classic, sharded) = (channels(Adapter::Classic), channels(Adapter::Sharded));
        for (channel, namespace, kind) in [
            ("socket.io#/#", "/", ChannelKind::Namespace),
            ("socket.io#/#a#b \u{e9}#", "/", ChannelKind::Room("a#b \u{e9}")),
            ("socket.io#/#42#", "/", ChannelKind::Room("42")),
            ("socket.io#/##", "/", ChannelKind::Room("")),
            ("socket.io#/admin#", "/admin", ChannelKind::Namespace),
            ("socket.io#/#x#r#", "/#x", ChannelKind::Room("r")),
            ("socket.io-request#/admin#", "/admin", ChannelKind::Requests),
            ("socket.io-response#/#", "/", ChannelKind::Answers(None)),
            ("socket.io-response#/#vfUuRQ#", "/", ChannelKind::Answers(Some("vfUuRQ"))),
        ] {
            assert_eq!(classic.places(channel.as_bytes()).next(), Some(ChannelName { namespace, kind }), "{channel}");
            let is_broadcast = channel.starts_with("socket.io#");
            assert_eq!(sharded.places(channel.as_bytes()).next().is_some(), is_broadcast, "{channel}");
        }
        let both: Vec<_> = classic.places(b"socket.io#/#x#r#").map(|place| (place.namespace, place.kind)).collect();
        assert_eq!(both, [("/#x", ChannelKind::Room("r")), ("/", ChannelKind::Room("x#r"))]);
        for channel in ["socket.io-request#/#x", "socket.io-request#/#r#", "socket.io#/other#", "socket.io#/#r", "x"] {
            assert_eq!(classic.places(channel.as_bytes()).next(), None, "{channel}");
        }
    }

    /// What Redis' `stringmatchlen` says, of what stands in patterns of ours.
    fn matches(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*'] => true,
            [b'[', b'^', other, b']', rest @ ..] => {
                name.split_first().is_some_and(|(first, name)| first != other && matches(rest, name))
            }
            [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
                name.split_first().is_some_and(|(first, name)| first == literal && matches(rest, name))
            }
        }
    }

    #[test]
    fn patterns_of_rooms_fit_every_room_once_and_no_users() {
        for namespace in ["/", "/g[1]"] {
            let channels = Channels::new(Adapter::Classic, "s*", &["/", "/g[1]"]);
            let patterns = channels.patterns_of_rooms_but(namespace, "user:");
            assert_eq!(patterns.len(), 5);
            let fits =
                |channel: &str| patterns.iter().filter(|one| matches(one.as_bytes(), channel.as_bytes())).count();
            let rooms =
                ["", "u", "us", "use", "user", "user-1", "User:1", "usher", "v", "#", "*", "\u{e9}", "interview:7"];
            for room in rooms {
                assert_eq!(fits(&channels.of_room(namespace, room).unwrap()), 1, "{room}");
            }
            for room in ["user:", "user:1", "user:#"] {
                assert_eq!(fits(&channels.of_room(namespace, room).unwrap()), 0, "{room}");
            }
            assert_eq!(fits(&channels.of_namespace(namespace)), 0);
            assert_eq!(fits(&channels.of_requests(namespace)), 0);
        }
    }

    #[test]
    fn what_a_pattern_of_another_namespace_brings_is_known() {
        let channels = channels(Adapter::Classic);
        let channel = channels.of_room("/#x", "r").unwrap();
        for (namespace, room) in [("/", "x#r"), ("/#x", "r")] {
            let patterns = channels.patterns_of_rooms_but(namespace, "user:");
            assert!(matches(patterns[0].as_bytes(), channel.as_bytes()), "Redis cannot tell");
            let place = Some(ChannelName { namespace, kind: ChannelKind::Room(room) });
            let brought = patterns.iter().map(|one| channels.place_by_pattern(one.as_bytes(), channel.as_bytes()));
            assert!(brought.into_iter().all(|brought| brought == place), "{namespace}");
        }
        assert_eq!(channels.place_by_pattern(b"others*", channel.as_bytes()), None);
    }

    #[test]
    fn patterns_match_names_and_not_what_looks_like_them() {
        let channels = Channels::new(Adapter::Classic, "s*", &["/g[1]"]);
        let pattern = channels.pattern_of_sids("/g[1]", "AB\\?");
        assert_eq!(pattern.as_deref(), Some(r"s\*#/g\[1\]#AB\\\?*#"));
        assert_eq!(super::Channels::new(Adapter::Sharded, "s", &["/"]).pattern_of_sids("/", "AB"), None);
    }
}
