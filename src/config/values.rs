//! `Values`: what flags, environment and settings file say and where each of it stands, before it means anything.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use toml::Spanned;

use super::keys::{self, KEYS, SettingKey};
use super::{ConfigError, wrong};

/// What names the settings file besides `--config`.
pub const CONFIG_VARIABLE: &str = "SOCKRING_CONFIG";
/// All variables that begin like this are ours.
const OWN_PREFIX: &str = "SOCKRING_";

/// Where a value stands; the strongest comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// As it is written, `--port`.
    Flag(String),
    Variable(String),
    File {
        path: String,
        line: usize,
    },
}

impl Source {
    /// The flag of a setting.
    pub fn flag(key: &SettingKey) -> Source {
        Source::Flag(format!("--{}", key.name.replace('_', "-")))
    }

    fn rank(&self) -> u8 {
        match self {
            Source::Flag(_) => 0,
            Source::Variable(_) => 1,
            Source::File { .. } => 2,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(name) | Source::Variable(name) => f.write_str(name),
            Source::File { path, line } => write!(f, "{path}:{line}"),
        }
    }
}

#[derive(Clone, Debug)]
struct Given {
    text: String,
    source: Source,
    /// What the files that it names hold, or why one cannot be read.
    contents: Option<Result<Vec<Vec<u8>>, String>>,
}

/// The values of all sources.
#[derive(Clone, Debug, Default)]
pub struct Values {
    given: BTreeMap<&'static str, Given>,
    /// The settings file, if there is one.
    file: Option<String>,
    /// What is wrong with the sources themselves.
    pub(super) mistakes: Vec<ConfigError>,
    pub(super) warnings: Vec<ConfigError>,
}

impl Values {
    /// Takes a value for a key unless a stronger source had one.
    pub fn offer(&mut self, name: &'static str, text: String, source: Source) {
        self.given.entry(name).or_insert(Given { text, source, contents: None });
    }

    /// Takes what the environment has.
    pub fn offer_environment(&mut self, variable: impl Fn(&str) -> Option<OsString>) {
        for key in KEYS {
            let own = keys::variable(key);
            let names = key.environment.iter().copied().chain([own.as_str()]);
            // An empty variable is as good as none: deployments often pass them through.
            let set = names.filter_map(|name| Some((name, variable(name).filter(|value| !value.is_empty())?)));
            let Some((name, value)) = set.into_iter().next() else { continue };
            let source = Source::Variable(name.to_owned());
            match value.into_string() {
                Ok(text) => self.offer(key.name, text, source),
                Err(_) => self.mistakes.push(wrong(key.name, "is not text in UTF-8").at(source)),
            }
        }
    }

    /// Warns of variables that look like settings and are none.
    pub fn look_for_strangers(&mut self, variables: impl Iterator<Item = String>) {
        for name in variables.filter(|name| name.starts_with(OWN_PREFIX) && name != CONFIG_VARIABLE) {
            if KEYS.iter().all(|key| keys::variable(key) != name && !key.environment.contains(&name.as_str())) {
                let own = name[OWN_PREFIX.len()..].to_lowercase();
                let nearest = keys::find(keys::nearest(&own)).map(keys::variable).unwrap_or_default();
                let reason = format!("is no setting and counts for nothing; did you mean `{nearest}`?");
                self.warnings.push(wrong(&name, reason));
            }
        }
    }

    /// Takes what a settings file has, which `named_by` names.
    pub fn offer_file(&mut self, path: &Path, named_by: Source) {
        let name = path.display().to_string();
        self.file = Some(name.clone());
        match std::fs::read_to_string(path) {
            Ok(text) => self.offer_toml(&name, &text),
            Err(error) => {
                let reason = format!("`{name}` cannot be read: {error}");
                self.mistakes.push(wrong(CONFIG, reason).at(named_by));
            }
        }
    }

    pub(super) fn offer_toml(&mut self, path: &str, text: &str) {
        let source = |begun: usize| {
            let line = 1 + text.bytes().take(begun).filter(|byte| *byte == b'\n').count();
            Source::File { path: path.to_owned(), line }
        };
        let table: BTreeMap<Spanned<String>, toml::Value> = match toml::from_str(text) {
            Ok(table) => table,
            Err(error) => {
                // Not the line itself: a secret may stand there.
                let source = source(error.span().map_or(0, |span| span.start));
                return self.mistakes.push(wrong(CONFIG, error.message()).at(source));
            }
        };
        for (name, value) in table {
            let source = source(name.span().start);
            let name = name.into_inner();
            let read = match keys::find(&name) {
                Some(key) => plain(&name, &value).map(|text| (key.name, text)),
                None => Err(wrong(&name, format!("is no setting; did you mean `{}`?", keys::nearest(&name)))),
            };
            match read {
                Ok((name, text)) => self.offer(name, text, source),
                Err(error) => self.mistakes.push(error.at(source)),
            }
        }
    }

    /// Reads the files that hold secrets and keys.
    pub(super) fn read_files(&mut self) {
        for (name, given) in &mut self.given {
            if keys::HELD_IN_FILES.contains(name) && !given.text.is_empty() {
                let paths =
                    if keys::LISTS_OF_FILES.contains(name) { list(&given.text) } else { vec![given.text.clone()] };
                let read =
                    |path: &String| std::fs::read(path).map_err(|error| format!("`{path}` cannot be read: {error}"));
                given.contents = Some(paths.iter().map(read).collect());
            }
        }
    }

    /// The settings that are not what they are in `newer`, nor what their files hold.
    pub fn changes(&self, newer: &Values) -> Vec<&'static str> {
        let differs = |name: &str| {
            let contents = |values: &Values| values.given.get(name).and_then(|given| given.contents.clone());
            self.text(name) != newer.text(name) || contents(self) != contents(newer)
        };
        KEYS.iter().map(|key| key.name).filter(|name| differs(name)).collect()
    }

    /// These settings are from now on what they are in `newer`.
    pub fn take_over(&mut self, newer: &Values, names: &[&'static str]) {
        for name in names {
            match newer.given.get(name) {
                Some(given) => drop(self.given.insert(name, given.clone())),
                None => drop(self.given.remove(name)),
            }
        }
    }

    /// Where a setting stands; `None`: it is the default.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.given.get(name).map(|given| &given.source)
    }

    /// Goes back to the default; `false`: it was that.
    pub(super) fn forget(&mut self, name: &str) -> bool {
        self.given.remove(name).is_some()
    }

    /// Whether a source could not be read, so that nothing may be said of what is missing.
    pub(super) fn is_incomplete(&self) -> bool {
        self.mistakes.iter().any(|mistake| mistake.key == CONFIG)
    }

    /// The path of the settings file, if there is one.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    pub fn text(&self, name: &str) -> &str {
        let default = keys::find(name).map_or("", |key| key.default);
        self.given.get(name).map_or(default, |given| &given.text)
    }

    pub(super) fn optional(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// What the file that a setting names holds.
    pub(super) fn content(&self, name: &str) -> Result<Option<&[u8]>, ConfigError> {
        Ok(self.contents(name)?.first().map(Vec::as_slice))
    }

    /// What each of the files that a setting names holds, in their order.
    pub(super) fn contents(&self, name: &str) -> Result<&[Vec<u8>], ConfigError> {
        match self.given.get(name).and_then(|given| given.contents.as_ref()) {
            None => Ok(&[]),
            Some(contents) => contents.as_deref().map_err(|reason| wrong(name, reason)),
        }
    }

    /// A secret that is set by itself, or by the name of the file that holds it. Of both the stronger source counts.
    pub(super) fn secret(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let Some(file) = keys::find(&format!("{name}_file")) else { return Ok(self.optional(name)) };
        let path = self.text(file.name);
        if path.is_empty() {
            return Ok(self.optional(name));
        }
        let rank = |name: &str| self.source(name).map_or(u8::MAX, Source::rank);
        if self.optional(name).is_some() {
            match rank(name).cmp(&rank(file.name)) {
                std::cmp::Ordering::Less => return Ok(self.optional(name)),
                std::cmp::Ordering::Equal => {
                    return Err(wrong(file.name, format!("and {name} are both set: leave one of them out")));
                }
                std::cmp::Ordering::Greater => {}
            }
        }
        let content = self.content(file.name)?.unwrap_or_default();
        let text = std::str::from_utf8(content)
            .map_err(|_| wrong(file.name, format!("`{path}` does not hold text in UTF-8")))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(wrong(file.name, format!("`{path}` is empty"))),
            text => Ok(Some(text.to_owned())),
        }
    }

    pub(super) fn parse<T: FromStr>(&self, name: &str, expected: &str) -> Result<T, ConfigError> {
        let text = self.text(name);
        text.trim().parse().map_err(|_| wrong(name, format!("`{text}` is not {expected}")))
    }

    /// A whole number of at least `least`.
    pub(super) fn number<T: FromStr + PartialOrd + fmt::Display>(
        &self,
        name: &str,
        least: T,
    ) -> Result<T, ConfigError> {
        let value: T = self.parse(name, "a whole number")?;
        if value < least {
            return Err(wrong(name, format!("`{value}` is too small; the least is {least}")));
        }
        Ok(value)
    }

    pub(super) fn number_up_to(&self, name: &str, least: usize, most: usize) -> Result<usize, ConfigError> {
        let value = self.number(name, least)?;
        if value > most {
            return Err(wrong(name, format!("`{value}` is too large; the most is {most}")));
        }
        Ok(value)
    }

    pub(super) fn truth(&self, name: &str) -> Result<bool, ConfigError> {
        self.parse(name, "either `true` or `false`")
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        list(self.text(name))
    }
}

/// The items of a list, separated by commas.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// What mistakes of the settings file itself are reported under.
const CONFIG: &str = "config";

/// A TOML value as it would be written in the environment.
fn plain(name: &str, value: &toml::Value) -> Result<String, ConfigError> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        toml::Value::Array(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(|item| plain(name, item)).collect();
            Ok(items?.join(","))
        }
        _ => Err(wrong(name, "is a string, a number, a boolean or a list of strings")),
    }
}
