//! One word, one meaning: no two types have one name where a person could take the one for the other.

use std::collections::BTreeMap;

use super::{Source, assert_none, sources};

/// Names that several types have, with the reason. One of a test's own world, a browser as the tests play it beside the client
/// as the server keeps it, is in a group of its own and needs none.
const EXCEPTIONS: [(&str, &str); 1] = [(
    "Client",
    "of a harness in `sockring_protocol::client`, and of a shard: no file has both, and both are what the field calls so",
)];

/// The types of a group, each with where it stands and whether other files can name it.
type Types = BTreeMap<String, Vec<(String, Reach)>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Public,
    File,
}

/// What is one world: the server with its protocol crate, or a folder of tests.
fn group(path: &str) -> String {
    if path.starts_with("src/") || path.starts_with("protocol/src/") {
        return "the server".to_owned();
    }
    // Each binary is one.
    let folders = if path.contains("/src/bin/") { 5 } else { 2 };
    path.split('/').take(folders).collect::<Vec<_>>().join("/")
}

/// The name of the type that a line defines, and who can name it. Associated types are indented.
fn defined(line: &str) -> Option<(&str, Reach)> {
    let (reach, rest) = match line.strip_prefix("pub") {
        Some(rest) => (Reach::Public, rest.split_once(' ')?.1),
        None => (Reach::File, line),
    };
    let rest = ["struct ", "enum ", "trait ", "type ", "union "].iter().find_map(|kind| rest.strip_prefix(kind))?;
    let name = rest.split(|sign: char| !sign.is_alphanumeric()).next().unwrap_or_default();
    Some((name, reach))
}

fn groups() -> BTreeMap<String, Types> {
    let mut groups = BTreeMap::<String, Types>::new();
    let is_test_of_server = |source: &Source| source.is_test() && !source.path.starts_with("tests/");
    for source in sources().into_iter().filter(|source| !is_test_of_server(source)) {
        let types = groups.entry(group(&source.path)).or_default();
        for (name, reach) in source.code().lines().filter_map(defined) {
            types.entry(name.to_owned()).or_default().push((source.path.clone(), reach));
        }
    }
    groups
}

#[test]
fn the_name_of_a_public_type_is_of_no_other() {
    let (mut offences, mut used) = (Vec::new(), Vec::new());
    for (group, types) in groups() {
        for (name, places) in types {
            let is_public = places.iter().any(|(_, reach)| *reach == Reach::Public);
            if places.len() < 2 || !is_public {
                continue;
            }
            if EXCEPTIONS.iter().any(|(exception, _)| *exception == name) {
                used.push(name);
                continue;
            }
            let places: Vec<_> = places.iter().map(|(path, _)| path.as_str()).collect();
            offences.push(format!("{group}: {name} in {}", places.join(", ")));
        }
    }
    let idle = EXCEPTIONS.iter().filter(|(name, _)| !used.iter().any(|used| used == name));
    offences.extend(idle.map(|(name, _)| format!("{name} stands once: take it off the list")));
    assert_none("one name, one type", &offences);
}

#[test]
fn types_are_found_where_they_are_defined() {
    assert!(matches!(defined("pub(super) struct Outbox<T> {"), Some(("Outbox", Reach::Public))));
    assert!(matches!(defined("pub trait Bus: Send {"), Some(("Bus", Reach::Public))));
    assert!(matches!(defined("enum Stage {"), Some(("Stage", Reach::File))));
    assert!(defined("    type Socket;").is_none());
    assert!(defined("pub fn type_of() {}").is_none());
    let types: usize = groups().values().map(BTreeMap::len).sum();
    assert!(types > 500, "only {types} types were found");
}
