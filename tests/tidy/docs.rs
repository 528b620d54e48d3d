//! Rules about the documents: what they show is what there is, and a person can read it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use sockring::config::keys::{KEYS, SettingKey, variable};

use super::{assert_none, files, read, root};

const PROSE_COLUMNS_MAX: usize = 120;
const README_BYTES_MAX: usize = 9 << 10;
const README_LINES_MAX: usize = 130;

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

/// A newcomer reads two screens, and knows what it is and whether it is for them.
#[test]
fn the_readme_is_short() {
    let text = read("README.md");
    let (bytes, lines) = (text.len(), text.lines().count());
    // What it claims is what was measured.
    let measured = read("docs/performance.md");
    let claims =
        text.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    let numbers = claims.flat_map(|line| line.split('|').skip(2)).filter_map(|cell| cell.split_whitespace().next());
    let unknown: Vec<_> = numbers.filter(|number| !measured.contains(number)).map(str::to_owned).collect();
    assert_none("numbers of README.md that docs/performance.md does not have", &unknown);
    assert!(bytes <= README_BYTES_MAX && lines <= README_LINES_MAX, "README.md: {bytes} bytes, {lines} lines");
}

/// Whoever looks for something begins with the tree in the architecture: every folder and file that is at the top is in it.
#[test]
fn the_architecture_names_what_there_is() {
    let text = read("docs/ARCHITECTURE.md");
    let named: Vec<_> = text.split(|sign: char| sign.is_whitespace() || matches!(sign, '`' | ';' | ',')).collect();
    let mut missing = BTreeSet::new();
    for path in files() {
        for place in ["src/", "src/shard/", "protocol/src/"] {
            let Some(rest) = path.strip_prefix(place) else { continue };
            let (first, is_folder) = rest.split_once('/').map_or((rest, false), |(folder, _)| (folder, true));
            let name = if is_folder { format!("{first}/") } else { first.to_owned() };
            // A folder of a file's tests and parts has the file's place.
            let is_part = is_folder && root().join(format!("{place}{first}.rs")).exists();
            if !is_part && !matches!(first, "lib.rs" | "mod.rs") && !named.contains(&name.as_str()) {
                missing.insert(format!("{place}{name}"));
            }
        }
    }
    assert_none("docs/ARCHITECTURE.md, Where things are, does not name", &missing.into_iter().collect::<Vec<_>>());
}

/// Blocks of code in a language are programs that tests run: those that stand in a file of the tests, word for word, and
/// those that a test cuts out of the document itself.
#[test]
fn code_in_documents_is_run() {
    let examples: Vec<_> =
        files().into_iter().filter(|path| path.contains("/examples/")).map(|path| read(&path)).collect();
    let cut_out = read("tests/browser/readme.test.js");
    let mut unknown = Vec::new();
    for path in documents() {
        let text = read(&path);
        for block in text.split("\n```").skip(1).step_by(2).filter(|block| !block.starts_with('\n')) {
            let (language, code) = block.split_once('\n').unwrap_or((block, ""));
            let is_example = examples.iter().any(|example| example.trim() == code.trim());
            if !is_example && !cut_out.contains(&format!("'{path}'")) {
                unknown.push(format!("{path}: {language}: {}", code.lines().next().unwrap_or_default()));
            }
        }
    }
    assert_none("code that no test runs", &unknown);
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

fn environment(key: &SettingKey) -> Vec<String> {
    let mut names: Vec<String> = key.environment.iter().map(|name| (*name).to_owned()).collect();
    let own = variable(key);
    if !names.contains(&own) {
        names.push(own);
    }
    names
}

#[test]
fn the_docs_show_the_settings_that_there_are() {
    const DOCUMENT: &str = "docs/settings.md";
    let expected = settings_table();
    let text = read(DOCUMENT);
    let (before, rest) = text.split_once("<!-- settings -->\n").expect("the table begins");
    let (shown, behind) = rest.split_once("<!-- /settings -->").expect("the table ends");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = format!("{before}<!-- settings -->\n{expected}<!-- /settings -->{behind}");
        fs::write(root().join(DOCUMENT), text).expect("the document can be written");
        return;
    }
    assert!(shown == expected, "{DOCUMENT} differs: run UPDATE_DOCS=1 cargo test --test tidy docs\n\n{expected}");
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
