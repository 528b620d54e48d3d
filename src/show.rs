//! `sockring config`: the settings as they are in force, and a file with all of them.

use std::error::Error;
use std::process::ExitCode;

use sockring::config::Settings;
use sockring::config::keys::{KEYS, SECRETS};

use crate::out;

/// Every setting, its value and where that comes from. Secrets are not shown.
pub(crate) fn in_force(settings: &Settings) -> Result<ExitCode, Box<dyn Error>> {
    let values = &settings.values;
    for key in KEYS {
        let text = values.text(key.name);
        let shown = match text {
            "" => "-".to_owned(),
            _ if SECRETS.contains(&key.name) => "(not shown)".to_owned(),
            text => text.to_owned(),
        };
        let source = values.source(key.name).map_or_else(|| "default".to_owned(), ToString::to_string);
        out::line(format_args!("{:<34} {shown:<24} {source}", key.name))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A settings file in which every setting stands with its default, as a comment.
pub(crate) fn defaults() -> Result<ExitCode, Box<dyn Error>> {
    out::line("# Settings of sockring. What stands here as a comment is the default.")?;
    for key in KEYS {
        let is_bare = key.default.parse::<u64>().is_ok() || matches!(key.default, "true" | "false");
        let value = if is_bare { key.default.to_owned() } else { format!("\"{}\"", key.default) };
        out::line(format_args!("\n# {}\n#{} = {value}", key.help, key.name))?;
    }
    Ok(ExitCode::SUCCESS)
}
