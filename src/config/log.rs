//! What may be logged: levels and filters by module. A filter that would switch the log off by a slip is refused.

use super::{ConfigError, Values, wrong};

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// Whose modules are ours.
const OWN: &str = "sockring";
/// Our modules: those of the library, and of the program around it.
const MODULES: [&str; 38] = [
    "api",
    "app",
    "asking",
    "auth",
    "authorities",
    "budget",
    "bus",
    "capacity",
    "certificates",
    "check",
    "cluster",
    "collector",
    "config",
    "events",
    "flags",
    "jwks",
    "limits",
    "listen",
    "logs",
    "mailbox",
    "others",
    "out",
    "proxies",
    "reload",
    "ring",
    "rings",
    "serve",
    "shard",
    "show",
    "space",
    "spans",
    "state",
    "supervisor",
    "tail",
    "tls",
    "token",
    "tunnels",
    "worker",
];

/// The filter, as it was written.
pub(super) fn filter(values: &Values) -> Result<String, ConfigError> {
    let text = values.text("log").trim();
    let mut says_what_of_ours = false;
    for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        let (target, level) = match directive.split_once('=') {
            Some((target, level)) => (Some(target.trim()), Some(level.trim())),
            None if directive.contains("::") || directive == OWN => (Some(directive), None),
            None => (None, Some(directive)),
        };
        if let Some(level) = level.filter(|level| !is_level(level)) {
            let nearest = nearest(level, &LEVELS);
            return Err(wrong("log", format!("`{level}` is no level; did you mean `{nearest}`?")));
        }
        if let Some(target) = target {
            check_target(target)?;
        }
        says_what_of_ours |= target.is_none_or(is_ours);
    }
    if !says_what_of_ours {
        let reason = match text {
            "" => "is empty; `off` switches the log off".to_owned(),
            _ => format!(
                "`{text}` would switch all of sockring's log off; a level for the rest is missing, as `info,{text}`"
            ),
        };
        return Err(wrong("log", reason));
    }
    Ok(text.to_owned())
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

fn is_ours(target: &str) -> bool {
    target.split("::").next() == Some(OWN)
}

/// A target is a path of modules; of ours they are known.
fn check_target(target: &str) -> Result<(), ConfigError> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|sign| sign.is_alphanumeric() || "_-".contains(sign));
    let mut names = target.split("::");
    if !names.clone().all(is_name) {
        return Err(wrong("log", format!("`{target}` is no module, as `sockring::worker` is one")));
    }
    let known = names.next() == Some(OWN);
    match names.next() {
        Some(module) if known && !MODULES.contains(&module) => {
            let nearest = nearest(module, &MODULES);
            Err(wrong("log", format!("`{target}` is no module; did you mean `sockring::{nearest}`?")))
        }
        _ => Ok(()),
    }
}

fn nearest(word: &str, known: &[&'static str]) -> &'static str {
    let word = word.to_lowercase();
    known.iter().min_by_key(|known| strsim::damerau_levenshtein(&word, known)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn read(text: &str) -> Result<String, String> {
        let mut values = Values::default();
        values.offer("log", text.to_owned(), Source::Flag("--log".to_owned()));
        filter(&values).map_err(|error| error.to_string())
    }

    #[test]
    fn levels_and_filters_by_module_are_taken() {
        for text in [
            "warn",
            "INFO",
            "off",
            "info,redis=debug",
            "sockring=debug",
            "sockring::worker=trace, warn",
            "sockring::api",
        ] {
            assert_eq!(read(text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_would_switch_the_log_off_by_a_slip_is_refused_with_what_was_meant() {
        for (text, words) in [
            ("warning", "did you mean `warn`?"),
            ("inof", "did you mean `info`?"),
            ("info,sockring::worker=debgu", "did you mean `debug`?"),
            ("info,sockring::wroker=debug", "did you mean `sockring::worker`?"),
            ("socring=debug", "as `info,socring=debug`"),
            ("redis=debug", "as `info,redis=debug`"),
            ("a=b=c", "`b=c` is no level"),
            ("info,a b=info", "`a b` is no module"),
            ("info,=info", "`` is no module"),
            (" ", "`off`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_modules_are_those_that_there_are() {
        let sources = [include_str!("../lib.rs"), include_str!("../main.rs")].concat();
        let declared = sources.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
        let mut modules: Vec<&str> = declared.map(|module| module.trim_end_matches(';')).collect();
        modules.sort_unstable();
        assert_eq!(modules, MODULES);
    }
}
