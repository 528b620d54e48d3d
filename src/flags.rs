//! The command line: one flag per setting, made from the table of settings, and the subcommands.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches};
use sockring::auth::Verifier;
use sockring::config::keys::{KEYS, Key, variable};
use sockring::config::{CONFIG_VARIABLE, Mistakes, Settings, Source, Values};

use crate::check::Form;
use crate::out;

/// What to do.
pub enum Command {
    Serve,
    Token { user: String, ttl: Duration },
    Check(Form),
    Events,
}

/// What to do, with which settings.
pub struct Invocation {
    pub command: Command,
    flags: ArgMatches,
}

impl Invocation {
    /// Reads flags, environment and settings file. The file may say something else the next time.
    pub fn settings(&self) -> Result<Settings, Mistakes> {
        let mut values = Values::default();
        for key in KEYS {
            if let Some(value) = self.flags.get_one::<String>(key.name) {
                values.offer(key.name, value.clone(), Source::flag(key));
            }
        }
        values.offer_environment(|name| std::env::var_os(name));
        values.look_for_strangers(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
        let by_flag = self.flags.get_one::<PathBuf>("config");
        let by_variable = std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        match (by_flag, by_variable) {
            (Some(path), _) => values.offer_file(path, Source::Flag("--config".to_owned())),
            (None, Some(path)) => values.offer_file(Path::new(&path), Source::Variable(CONFIG_VARIABLE.to_owned())),
            (None, None) => {}
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
        Some(("check", flags)) => {
            let form = if flags.get_flag("json") { Form::Json } else { Form::Text };
            (Command::Check(form), flags)
        }
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
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("print one JSON object, for machines");
    let check = clap::Command::new("check")
        .about("Check settings, ports, io_uring, kernel and limits, and say what to mend")
        .arg(json);
    with_settings(clap::Command::new("sockring"))
        .about("A standalone Socket.IO server on io_uring")
        .version(env!("CARGO_PKG_VERSION"))
        .args_conflicts_with_subcommands(true)
        .subcommand(with_settings(clap::Command::new("serve").about("Serve (what happens without a subcommand)")))
        .subcommand(with_settings(token))
        .subcommand(with_settings(check))
        .subcommand(with_settings(clap::Command::new("events").about("Print the event constants as JSON")))
}

fn config_file() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("settings in TOML; flags and environment are stronger [SOCKRING_CONFIG]")
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
    Ok(out::line(verifier.mint(user, now, ttl.as_secs())?)?)
}

/// `sockring events`.
pub fn print_events() -> Result<(), Box<dyn Error>> {
    Ok(out::line(serde_json::to_string_pretty(&sockring::events::constants())?)?)
}
