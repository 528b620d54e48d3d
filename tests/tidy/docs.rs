//! Rules about the documents: what they show is what there is, and a person can read it.

use std::fmt::Write;

use sockring::config::keys::{KEYS, Key, variable};

use super::{assert_none, files, read};

const PROSE_COLUMNS_MAX: usize = 120;

/// The documents that people read from top to bottom: those of the root and of docs/.
fn documents() -> Vec<String> {
    let is_document = |path: &String| path.ends_with(".md") && (path.starts_with("docs/") || !path.contains('/'));
    files().into_iter().filter(is_document).collect()
}

/// The lines of a document with their numbers, without those of its code blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

#[test]
fn prose_is_narrow_enough_to_read() {
    let mut wide = Vec::new();
    for path in documents() {
        for (number, line) in prose(&read(&path)).filter(|(_, line)| !line.starts_with('|')) {
            if line.chars().count() > PROSE_COLUMNS_MAX {
                wide.push(format!("{path}:{number}: {} columns", line.chars().count()));
            }
        }
    }
    assert_none(&format!("at most {PROSE_COLUMNS_MAX} columns outside of tables and code"), &wide);
}

/// The table of settings, as it follows from the settings.
fn settings_table() -> String {
    let mut table = String::from("| Setting | Environment | Default | What it does |\n|---|---|---|---|\n");
    for key in KEYS {
        let environment = environment(key).iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let help = key.help.replace('|', "\\|");
        writeln!(table, "| `{}` | {environment} | {default} | {help} |", key.name).expect("a String takes all");
    }
    table
}

fn environment(key: &Key) -> Vec<String> {
    let mut names: Vec<String> = key.environment.iter().map(|name| (*name).to_owned()).collect();
    let own = variable(key);
    if !names.contains(&own) {
        names.push(own);
    }
    names
}

#[test]
fn the_docs_show_the_settings_that_there_are() {
    let expected = settings_table();
    let text = read("docs/settings.md");
    let shown = text.split_once("<!-- settings -->").and_then(|(_, rest)| rest.split_once("<!-- /settings -->"));
    let shown = shown.map_or("", |(table, _)| table.trim());
    assert!(
        shown == expected.trim(),
        "docs/settings.md differs. Between `<!-- settings -->` and `<!-- /settings -->` belongs:\n\n{expected}"
    );
}

/// The programs in docs/redis.md are those that the interop tests run.
#[test]
fn the_docs_show_examples_that_are_run() {
    let examples = files().into_iter().filter(|path| path.starts_with("tests/interop/redis/examples/emit"));
    let adapter = "tests/interop/redis/examples/adapter.mjs".to_owned();
    let text = read("docs/redis.md");
    let missing: Vec<_> = examples.chain([adapter]).filter(|path| !text.contains(read(path).trim())).collect();
    assert_none("these programs stand in docs/redis.md as they are", &missing);
}
