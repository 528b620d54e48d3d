//! The command line: one flag per setting, made from the table of settings, and the subcommands.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgMatches};
use sockring::auth::Verifier;
use sockring::config::keys::{KEYS, Key, variable};
use sockring::config::{ConfigError, Settings, Values};

/// What to do.
pub enum Command {
    Serve,
    Token { user: String, ttl: Duration },
    Check,
    Events,
}

/// What to do, with which settings.
pub struct Invocation {
    pub command: Command,
    flags: ArgMatches,
}

impl Invocation {
    /// Reads flags, environment and settings file. The file may say something else the next time.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let mut values = Values::default();
        for key in KEYS {
            if let Some(value) = self.flags.get_one::<String>(key.name) {
                values.offer(key.name, value.clone());
            }
        }
        values.offer_environment(|name| std::env::var(name).ok());
        if let Some(path) = self.flags.get_one::<PathBuf>("config") {
            values.offer_file(path)?;
        }
        Settings::from_values(&values)
    }
}

/// Reads the command line; prints help and ends the process where that is asked for.
pub fn parse() -> Invocation {
    let matches = command_line().get_matches();
    let (command, flags) = match matches.subcommand() {
        Some(("token", flags)) => {
            let user = flags.get_one::<String>("user").cloned().unwrap_or_default();
            let ttl = flags.get_one::<Duration>("ttl").copied().unwrap_or_default();
            (Command::Token { user, ttl }, flags)
        }
        Some(("check", flags)) => (Command::Check, flags),
        Some(("events", flags)) => (Command::Events, flags),
        Some((_, flags)) => (Command::Serve, flags),
        None => (Command::Serve, &matches),
    };
    Invocation { command, flags: flags.clone() }
}

fn command_line() -> clap::Command {
    let with_settings = |command: clap::Command| command.arg(config_file()).args(KEYS.iter().map(flag));
    let token = clap::Command::new("token")
        .about("Print a token for a user, signed with the secret of the settings")
        .arg(Arg::new("user").long("user").value_name("ID").required(true).help("the user's id"))
        .arg(
            Arg::new("ttl")
                .long("ttl")
                .value_name("DURATION")
                .default_value("1h")
                .value_parser(|text: &str| humantime::parse_duration(text))
                .help("how long it is valid, as 90s, 1h or 7d"),
        );
    with_settings(clap::Command::new("sockring"))
        .about("A standalone Socket.IO server on io_uring")
        .version(env!("CARGO_PKG_VERSION"))
        .args_conflicts_with_subcommands(true)
        .subcommand(with_settings(clap::Command::new("serve").about("Serve (what happens without a subcommand)")))
        .subcommand(with_settings(token))
        .subcommand(with_settings(
            clap::Command::new("check").about("Check settings, io_uring, kernel and limits, and say what to mend"),
        ))
        .subcommand(with_settings(clap::Command::new("events").about("Print the event constants as JSON")))
}

fn config_file() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("settings in TOML; flags and environment are stronger")
}

fn flag(key: &Key) -> Arg {
    let own = key.environment.first().map_or_else(|| variable(key), |name| (*name).to_owned());
    let default = match key.default {
        "" => String::new(),
        default => format!(", default: {default}"),
    };
    Arg::new(key.name)
        .long(key.name.replace('_', "-"))
        .value_name("VALUE")
        .help(format!("{} [{own}{default}]", key.help))
}

/// `sockring token`.
pub fn print_token(settings: &Settings, user: &str, ttl: Duration) -> Result<(), Box<dyn Error>> {
    let Some(secret) = settings.access_token_secret.clone() else {
        return Err("access_token_secret: must be set to sign a token (ACCESS_TOKEN_SECRET)".into());
    };
    if !sockring::auth::is_user_id(user) {
        return Err("--user: a user id has 1 to 128 bytes".into());
    }
    let verifier = Verifier::new(settings.token_rules(Some(secret)))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    println!("{}", verifier.mint(user, now, ttl.as_secs())?);
    Ok(())
}

/// `sockring events`.
pub fn print_events() -> Result<(), Box<dyn Error>> {
    println!("{}", serde_json::to_string_pretty(&sockring::events::constants())?);
    Ok(())
}
