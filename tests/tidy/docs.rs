//! Rules about the documents: what they show is what there is, and a person can read it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use sockring::api::{
    AnswerShape, ApiOperation, BodyShape, Field, FieldForm, FieldPresence, OPERATIONS, Place, Rule, Shape,
};
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
    shows("docs/settings.md", "settings", &settings_table());
}

/// The part of a document between these two comments is what was made for it; `UPDATE_DOCS` puts it there.
fn shows(document: &str, part: &str, expected: &str) {
    let (begin, end) = (format!("<!-- {part} -->\n"), format!("<!-- /{part} -->"));
    let text = read(document);
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{document}: {part} begins"));
    let (shown, behind) = rest.split_once(&end).unwrap_or_else(|| panic!("{document}: {part} ends"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = format!("{before}{begin}{expected}{end}{behind}");
        fs::write(root().join(document), text).expect("the document can be written");
        return;
    }
    assert!(shown == expected, "{document} differs: run UPDATE_DOCS=1 cargo test --test tidy docs\n\n{expected}");
}

/// The fields of the API, as they follow from the tables by which it reads bodies and describes itself.
fn api_tables() -> String {
    let mut tables = String::new();
    for operation in OPERATIONS {
        let ApiOperation { route, summary, query, body, answer, place } = operation;
        let place = if *place == Place::Development { "; not in production" } else { "" };
        writeln!(tables, "### {route}\n\n{summary}{place}.\n").expect("a String takes all");
        if !query.is_empty() {
            rows("Query", query, &mut tables);
        }
        match body {
            BodyShape::None => {}
            BodyShape::One(shape) => shape_rows("Body", shape, &mut tables),
            BodyShape::IfAny(shape) => shape_rows("Body, if any", shape, &mut tables),
            BodyShape::Many(_, most) => {
                writeln!(tables, "The body is a list of 1 to {most} bodies of `POST emit`.\n").expect("a String");
            }
        }
        match answer {
            AnswerShape::Object(fields) => rows("`data`", fields, &mut tables),
            AnswerShape::Each(_) => tables.push_str(
                "`data` is a list with one answer of `POST emit` for each, or its `{statusCode, message, errors}`.\n\n",
            ),
            AnswerShape::Texts => tables.push_str("`data` has the names by their constants.\n\n"),
            AnswerShape::Description => tables.push_str("The body is the description, without an envelope.\n\n"),
        }
    }
    tables
}

fn shape_rows(heading: &str, shape: &Shape, tables: &mut String) {
    rows(heading, shape.fields, tables);
    for rule in shape.rules {
        let said = match rule {
            Rule::OneOf(names) => format!("One of {} has to be there, and no other of them.", named(names)),
            Rule::NotBoth(one, other) => format!("Not both `{one}` and `{other}`."),
            Rule::Beside(one, others) => format!("`{one}` only beside {}.", named(others)),
            Rule::Unless(one, other) => format!("No `{one}` where `{other}` is true."),
        };
        writeln!(tables, "- {said}").expect("a String takes all");
    }
    if !shape.rules.is_empty() {
        tables.push('\n');
    }
}

fn named(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}

fn rows(heading: &str, fields: &[Field], tables: &mut String) {
    writeln!(tables, "| {heading} | Is | What it says |\n|---|---|---|").expect("a String takes all");
    add_rows("", fields, tables);
    tables.push('\n');
}

fn add_rows(path: &str, fields: &[Field], tables: &mut String) {
    for field in fields {
        let name = format!("{path}{}", field.name);
        let mark = if field.presence == FieldPresence::Sometimes { "?" } else { "" };
        writeln!(tables, "| `{name}`{mark} | {} | {} |", form(field.form), field.help).expect("a String takes all");
        match field.form {
            FieldForm::Object(fields) | FieldForm::Inner(fields) => add_rows(&format!("{name}."), fields, tables),
            FieldForm::Objects(fields) => add_rows(&format!("{name}[]."), fields, tables),
            _ => {}
        }
    }
}

fn form(form: FieldForm) -> String {
    let words = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
    match form {
        FieldForm::Anything => "any JSON".to_owned(),
        FieldForm::List => "a list".to_owned(),
        FieldForm::Boolean => "`true` or `false`".to_owned(),
        FieldForm::Name(most) | FieldForm::Text(most) => format!("a text, {most} bytes"),
        FieldForm::EventName(most) => format!("a text, {most} bytes; no name that Socket.IO keeps for itself"),
        FieldForm::RoomName(most) => format!("a text, {most} bytes; not `user:...`"),
        FieldForm::Namespace(_) => "one of the server's namespaces".to_owned(),
        FieldForm::Id(most) => format!("a text, {most} bytes, or a whole number"),
        FieldForm::Names(count, most) => format!("a list of 1 to {count} texts, {most} bytes each"),
        FieldForm::Ids(count, most) => format!("a list of 1 to {count} texts, {most} bytes each, or whole numbers"),
        FieldForm::Whole(least, most) => format!("a whole number, {least} to {most}"),
        FieldForm::Seconds => "a whole number, 1 to `kept_ttl_max_s`".to_owned(),
        FieldForm::Cursor => "what `next` was".to_owned(),
        FieldForm::CursorOrNull => "a text or `null`".to_owned(),
        FieldForm::EventId => "an event's id, 11 characters".to_owned(),
        FieldForm::Moment => "ISO 8601 with a time zone, or milliseconds since 1970".to_owned(),
        FieldForm::Count => "a whole number".to_owned(),
        FieldForm::CountOrNull => "a whole number or `null`".to_owned(),
        FieldForm::Time => "ISO 8601 in UTC".to_owned(),
        FieldForm::TimeOrNull => "ISO 8601 in UTC or `null`".to_owned(),
        FieldForm::String => "a text".to_owned(),
        FieldForm::StringOrNull => "a text or `null`".to_owned(),
        FieldForm::Strings => "a list of texts".to_owned(),
        FieldForm::Word(all) => words(all),
        FieldForm::WordOrFalse(all) => format!("{} or `false`", words(all)),
        FieldForm::Object(_) | FieldForm::Inner(_) => "an object".to_owned(),
        FieldForm::Objects(_) => "a list of objects".to_owned(),
        FieldForm::Texts => "texts by their names".to_owned(),
    }
}

#[test]
fn the_docs_show_the_fields_that_the_api_has() {
    shows("docs/http-api.md", "fields", &api_tables());
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
