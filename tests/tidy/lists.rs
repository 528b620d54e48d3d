//! A list of all variants of an enum has all of them, in their order: what is counted and labelled is found by their numbers.

use super::{Source, assert_none, sources};

/// What stands between a line that starts so and the one that ends it.
fn block<'a>(code: &'a str, start: &str, end: &str) -> Option<&'a str> {
    Some(code.split_once(start)?.1.split_once(end)?.0)
}

/// The variants that an enum of this file has.
fn variants<'a>(code: &'a str, name: &str) -> Vec<&'a str> {
    let lines = block(code, &format!("enum {name} {{\n"), "\n}").unwrap_or_default().lines();
    let starts = lines.filter_map(|line| line.strip_prefix("    ").filter(|rest| rest.starts_with(char::is_uppercase)));
    starts.map(|start| start.split(|sign: char| !sign.is_alphanumeric()).next().unwrap_or_default()).collect()
}

/// The lists of a file, with the name of the enum of each.
fn lists(code: &str) -> Vec<(&str, Vec<&str>)> {
    let lists = code.split("const ALL: [").skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once(';')?;
        let list = block(rest, "=", "];")?;
        let start = format!("{name}::");
        let names = list.split(&start).skip(1);
        Some((
            name,
            names.map(|name| name.split(|sign: char| !sign.is_alphanumeric()).next().unwrap_or_default()).collect(),
        ))
    });
    lists.collect()
}

#[test]
fn lists_of_all_variants_have_all_of_them() {
    let (mut offences, mut seen) = (Vec::new(), 0);
    for Source { path, text } in sources().iter().filter(|source| !source.is_test()) {
        for (name, listed) in lists(text) {
            seen += 1;
            let variants = variants(text, name);
            if listed != variants {
                offences.push(format!("{path}: {name} has {variants:?}, and the list {listed:?}"));
            }
        }
    }
    assert_none("a list of all has all", &offences);
    assert!(seen > 10, "only {seen} lists were found");
}

#[test]
fn what_is_left_off_a_list_is_found() {
    let code = "pub enum Door {\n    /// Of\n    Clients,\n    Api(u8),\n}\nconst ALL: [Door; 1] = [Door::Clients];\n";
    assert_eq!(variants(code, "Door"), ["Clients", "Api"]);
    assert_eq!(lists(code), [("Door", vec!["Clients"])]);
}
