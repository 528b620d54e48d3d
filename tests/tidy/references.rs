//! Rules about references: what a comment, a test or a document points at is there.

use std::collections::{BTreeMap, BTreeSet};

use super::{assert_none, files, read};

/// Where the numbered rows stand, and the letters that their names begin with: behaviours on the wire, and attacks.
const ROWS: [(&str, &str); 2] = [("docs/wire.md", "ESTPH"), ("docs/attacks.md", "A")];

/// The section of attacks for which there is nothing that a test could aim at.
const WITHOUT_TARGET: &str = "## Those that have none";

/// What texts of people and machines are written in.
const TEXTS: [&str; 9] = [".rs", ".mjs", ".js", ".md", ".toml", ".py", ".sh", "tests/all", "/run"];

/// Endings of names that are a file's where they stand in backticks.
const FILES: [&str; 8] = [".rs", ".mjs", ".js", ".md", ".toml", ".py", ".png", ".php"];

/// Folders whose names begin the path of something in them.
const FOLDERS: [&str; 10] =
    ["src/", "protocol/", "tests/", "benches/", "fuzz/", "docs/", "examples/", "assets/", "deploy/", "clients/"];

/// What runs leave behind, and git does not know.
const MADE_BY_RUNS: [&str; 2] = ["tests/output", "fuzz/artifacts"];

fn texts() -> Vec<(String, String)> {
    let is_text = |path: &String| TEXTS.iter().any(|ending| path.ends_with(ending)) && !path.contains(".min.");
    files().into_iter().filter(is_text).map(|path| (read(&path), path)).map(|(text, path)| (path, text)).collect()
}

/// The names of the rows in the tables of a document, in order.
fn rows_of(text: &str, letters: &str) -> Vec<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    cells.map(|(cell, _)| cell.to_owned()).filter(|cell| is_row(cell, letters)).collect()
}

/// A letter and one or two digits.
fn is_row(word: &str, letters: &str) -> bool {
    let mut signs = word.chars();
    let (first, digits) = (signs.next(), signs.as_str());
    first.is_some_and(|first| letters.contains(first))
        && matches!(digits.len(), 1 | 2)
        && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// The words of a text that name a row.
fn cited(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|sign: char| !sign.is_alphanumeric() && sign != '_' && sign != '-' && sign != '#');
    words.filter(|word| ROWS.iter().any(|(_, letters)| is_row(word, letters)))
}

#[test]
fn rows_that_are_cited_are_there() {
    let mut known = BTreeSet::from(["S1", "S2"].map(str::to_owned));
    // The rows that both suites share stand there once.
    known.extend((1..=16).map(|number| format!("S{number}")));
    for (document, letters) in ROWS {
        let mut twice = rows_of(&read(document), letters);
        twice.retain(|row| !known.insert(row.clone()));
        assert_none(&format!("{document}: each row once"), &twice);
    }
    let mut unknown = Vec::new();
    for (path, text) in texts() {
        for (at, line) in text.lines().enumerate() {
            let strangers = cited(line).filter(|row| !known.contains(*row));
            unknown.extend(strangers.map(|row| format!("{path}:{}: {row}", at + 1)));
        }
    }
    assert_none("rows of docs/wire.md and docs/attacks.md", &unknown);
}

#[test]
fn each_row_has_a_test_that_names_it() {
    let tests: Vec<_> = texts()
        .into_iter()
        .filter(|(path, _)| path.starts_with("tests/") || path.contains("/tests"))
        .map(|(_, text)| text)
        .collect();
    let named: BTreeSet<_> = tests.iter().flat_map(|text| cited(text)).collect();
    for (document, letters) in ROWS {
        let text = read(document);
        let (with_target, _) = text.split_once(WITHOUT_TARGET).unwrap_or((&text, ""));
        let mut untested = rows_of(with_target, letters);
        assert!(untested.len() > 20, "{document} has its rows");
        untested.retain(|row| !named.contains(row.as_str()));
        assert_none(&format!("{document}: rows without a test"), &untested);
    }
}

/// Documents in sources: `docs/wire.md`, `README.md`, from the root or from the folder of who names them. One that is named by
/// capital letters and a section alone, and is no RFC, is none that a reader has.
#[test]
fn documents_that_are_named_are_there() {
    let known = files();
    let mut missing = Vec::new();
    for (path, text) in texts() {
        let is_title = |word: &str| word.len() > 3 && word.bytes().all(|sign| sign.is_ascii_uppercase());
        let is_name = |sign: char| sign.is_alphanumeric() || matches!(sign, '/' | '.' | '_' | '-');
        for (at, line) in text.lines().enumerate() {
            for (before, _) in line.match_indices(" section ").map(|(at, _)| line.split_at(at)) {
                let title = before.rsplit(|sign: char| !is_name(sign)).next().unwrap_or_default();
                missing.extend(is_title(title).then(|| format!("{path}:{}: {title}", at + 1)));
            }
            for word in line.split(|sign: char| !is_name(sign)) {
                let word = word.trim_end_matches('.').trim_start_matches(['.', '/']);
                if word.len() > 3 && word.ends_with(".md") && !known.iter().any(|file| ends_with_path(file, word)) {
                    missing.push(format!("{path}:{}: {word}", at + 1));
                }
            }
        }
    }
    assert_none("documents that are not in the repository", &missing);
}

fn ends_with_path(file: &str, path: &str) -> bool {
    file.strip_suffix(path).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// Links between documents, with the headings that they name.
#[test]
fn links_between_documents_lead_somewhere() {
    let documents: BTreeMap<_, _> = texts().into_iter().filter(|(path, _)| path.ends_with(".md")).collect();
    let known: BTreeSet<_> = files().into_iter().collect();
    let mut broken = Vec::new();
    for (path, text) in &documents {
        // Code may look like a link.
        let text = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        for target in links(&text).filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { beside(path, file) };
            let is_there = known.contains(&file)
                || known.iter().any(|known| known.starts_with(&format!("{}/", file.trim_end_matches('/'))));
            let has_heading = heading.is_empty()
                || documents.get(&file).is_some_and(|text| headings(text).any(|known| known == heading));
            if !is_there || !has_heading {
                broken.push(format!("{path}: {target}"));
            }
        }
    }
    assert_none("links that lead nowhere", &broken);
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// `file` as a document at `path` names it.
fn beside(path: &str, file: &str) -> String {
    let mut parts: Vec<_> = path.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors that a document's headings have.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|sign| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_'));
        kept.map(|sign| if sign == ' ' { '-' } else { sign }).collect()
    })
}

/// Files and folders in backticks, in documents and in comments: named from the root, or by the end of their path.
#[test]
fn files_that_are_named_are_there() {
    let known = files();
    let mut missing = Vec::new();
    for (path, text) in texts().iter().filter(|(path, _)| path.ends_with(".md") || path.ends_with(".rs")) {
        let is_document = path.ends_with(".md");
        let mut fence = None;
        for (at, line) in text.lines().enumerate() {
            if let Some(language) = line.trim_start().strip_prefix("```").filter(|_| is_document) {
                fence = if fence.is_none() { Some(language) } else { None };
                continue;
            }
            let named: Vec<_> = match fence {
                // Commands, or what is where. Other code names files of its own.
                Some("") => line.split([' ', ';', ',']).collect(),
                Some(_) => continue,
                None if is_document => in_backticks(line),
                None => line.trim().strip_prefix("//").map(in_backticks).unwrap_or_default(),
            };
            let strangers = named.into_iter().filter(|name| is_path(name) && !is_known(&known, path, name));
            missing.extend(strangers.map(|name| format!("{path}:{}: {name}", at + 1)));
        }
    }
    assert_none("files and folders that are not there", &missing);
}

/// The first words of what stands in backticks.
fn in_backticks(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).map(|quoted| quoted.split(' ').next().unwrap_or_default()).collect()
}

fn is_path(name: &str) -> bool {
    let is_plain = name.chars().all(|sign| sign.is_ascii_alphanumeric() || matches!(sign, '/' | '.' | '_' | '-'));
    let is_made = MADE_BY_RUNS.iter().any(|made| name.starts_with(made));
    let is_file = FILES.iter().any(|ending| name.len() > ending.len() && name.ends_with(ending));
    // What begins with a slash is a path of an URL.
    is_plain && !name.starts_with('/') && !is_made && (is_file || FOLDERS.iter().any(|folder| name.starts_with(folder)))
}

fn is_known(known: &[String], path: &str, name: &str) -> bool {
    let name = name.trim_end_matches('/');
    let beside = beside(path, name);
    let is_folder = |folder: &str| known.iter().any(|file| file.starts_with(&format!("{folder}/")));
    known.iter().any(|file| ends_with_path(file, name)) || is_folder(name) || is_folder(&beside)
}
