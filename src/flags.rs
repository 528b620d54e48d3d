//! The command line: one flag per setting, made from the table of settings, and the subcommands.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches};
use clap_complete::Shell;
use serde_json::json;
use sockring::config::keys::{COMMON, KEYS, SettingKey, group, variable};
use sockring::config::{CONFIG_VARIABLE, Mistakes, Settings, Source, Values};

use crate::asking::{Emit, Whom};
use crate::check::Form;
use crate::tail::{Tail, TailIdentity};

/// What stands below the help of a subcommand.
const SETTINGS_TOO: &str =
    "It reads the same settings as the server: flags (sockring --help), environment, settings file.";

/// What to do.
pub(crate) enum Command {
    Serve,
    MintToken { user: String, ttl: Duration },
    CheckToken(String),
    Check(Form),
    Events,
    Emit(Whom, Emit),
    Stats(Whom),
    Tail(Tail),
    ShowConfig,
    DefaultConfig,
    Completions(Shell),
    ManPage,
}

/// What to do, with which settings.
pub(crate) struct Invocation {
    pub command: Command,
    flags: ArgMatches,
}

impl Invocation {
    /// Reads flags, environment and settings file. The file may say something else the next time.
    pub(crate) fn settings(&self) -> Result<Settings, Mistakes> {
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
pub(crate) fn parse() -> Invocation {
    let matches = command_line().get_matches();
    let (command, flags) = match matches.subcommand() {
        Some(("token", flags)) => match flags.subcommand() {
            Some((_, flags)) => (Command::CheckToken(text(flags, "token")), flags),
            None => {
                let ttl = flags.get_one::<Duration>("ttl").copied().unwrap_or_default();
                (Command::MintToken { user: text(flags, "user"), ttl }, flags)
            }
        },
        Some(("check", flags)) => {
            let form = if flags.get_flag("json") { Form::Json } else { Form::Text };
            (Command::Check(form), flags)
        }
        Some(("events", flags)) => (Command::Events, flags),
        Some(("emit", flags)) => (Command::Emit(whom(flags), emit(flags)), flags),
        Some(("stats", flags)) => (Command::Stats(whom(flags)), flags),
        Some(("tail", flags)) => (Command::Tail(tail(flags)), flags),
        Some(("config", flags)) => match flags.subcommand() {
            Some(("default", flags)) => (Command::DefaultConfig, flags),
            Some((_, flags)) => (Command::ShowConfig, flags),
            None => (Command::ShowConfig, flags),
        },
        Some(("completions", flags)) => {
            (Command::Completions(flags.get_one("shell").copied().unwrap_or(Shell::Bash)), flags)
        }
        Some(("man", flags)) => (Command::ManPage, flags),
        Some((_, flags)) => (Command::Serve, flags),
        None => (Command::Serve, &matches),
    };
    Invocation { command, flags: flags.clone() }
}

fn text(flags: &ArgMatches, name: &str) -> String {
    flags.get_one::<String>(name).cloned().unwrap_or_default()
}

fn whom(flags: &ArgMatches) -> Whom {
    Whom {
        server: flags.get_one("server").cloned(),
        key: flags.get_one("key").cloned(),
        ca_file: flags.get_one("ca-file").cloned(),
    }
}

fn emit(flags: &ArgMatches) -> Emit {
    let target = if flags.get_flag("all") {
        ("broadcast", json!(true))
    } else if let Some(room) = flags.get_one::<String>("room") {
        ("room", json!(room))
    } else {
        ("user", json!(text(flags, "user")))
    };
    Emit {
        event: text(flags, "event"),
        data: flags.get_one("data").cloned(),
        target,
        except: flags.get_many("except").into_iter().flatten().cloned().collect(),
        namespace: flags.get_one("namespace").cloned(),
        volatile: flags.get_flag("volatile"),
        once: flags.get_one("once").cloned(),
        ttl: flags.get_one("ttl").copied(),
        ack_ms: flags.get_one("ack").copied(),
        receipt_ms: flags.get_one("receipt").copied(),
    }
}

fn tail(flags: &ArgMatches) -> Tail {
    let token = flags.get_one::<String>("token").cloned();
    Tail {
        server: flags.get_one("server").cloned(),
        ca_file: flags.get_one("ca-file").cloned(),
        identity: token.map_or_else(|| TailIdentity::User(text(flags, "user")), TailIdentity::Token),
        events: flags.get_many("event").into_iter().flatten().cloned().collect(),
        namespace: text(flags, "namespace"),
        count: flags.get_one("count").copied(),
    }
}

fn command_line() -> clap::Command {
    // Of the subcommands only their own flags are shown.
    let settings = |command: clap::Command| command.args(KEYS.iter().map(|key| flag(key).hide(true)));
    commands(|command| settings(command).arg(config_file()).after_help(SETTINGS_TOO))
}

/// The same as completions and the manual page tell it: settings are flags of the server.
pub(crate) fn for_readers() -> clap::Command {
    commands(|command| command.arg(config_file()))
}

/// `with_settings` adds to a subcommand what says where its settings are.
fn commands(with_settings: impl Fn(clap::Command) -> clap::Command) -> clap::Command {
    let settings = || KEYS.iter().map(flag);
    let serve = clap::Command::new("serve").about("Serve (what happens without a subcommand)");
    let config = clap::Command::new("config")
        .about("Show the settings")
        .subcommand_required(true)
        .subcommand(with_settings(clap::Command::new("show").about("Print every setting, its value and its source")))
        .subcommand(clap::Command::new("default").about("Print a settings file with all defaults"));
    let shell = Arg::new("shell").required(true).value_parser(clap::value_parser!(Shell));
    clap::Command::new("sockring")
        .about("A standalone Socket.IO server on io_uring")
        .version(env!("CARGO_PKG_VERSION"))
        .args_conflicts_with_subcommands(true)
        .arg(config_file())
        .args(settings())
        .subcommand(serve.arg(config_file()).args(settings()))
        .subcommand(with_settings(check_command()))
        .subcommand(with_settings(token_command(&with_settings)))
        .subcommand(with_settings(emit_command()))
        .subcommand(with_settings(to_server(
            clap::Command::new("stats").about("Print the numbers of a server that runs"),
        )))
        .subcommand(with_settings(tail_command()))
        .subcommand(config)
        .subcommand(with_settings(clap::Command::new("events").about("Print the event constants as JSON")))
        .subcommand(clap::Command::new("completions").about("Print completions for a shell").arg(shell))
        .subcommand(clap::Command::new("man").about("Print the manual page, in troff"))
}

fn check_command() -> clap::Command {
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("print one JSON object, for machines");
    clap::Command::new("check")
        .about("Check settings, ports, io_uring, kernel and limits, and say what to mend")
        .arg(json)
}

fn token_command(with_settings: impl Fn(clap::Command) -> clap::Command) -> clap::Command {
    let check = clap::Command::new("check")
        .about("Say whether a client with this token is let in; if not, why, and which setting would have it otherwise")
        .arg(Arg::new("token").value_name("TOKEN").required(true).help("a JSON Web Token"));
    clap::Command::new("token")
        .about("Print a token for a user, signed with the secret of the settings")
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
        .arg(Arg::new("user").long("user").value_name("ID").required(true).help("the user's id"))
        .arg(
            Arg::new("ttl")
                .long("ttl")
                .value_name("DURATION")
                .default_value("1h")
                .value_parser(|text: &str| humantime::parse_duration(text))
                .help("how long it is valid, as 90s, 1h or 7d"),
        )
        .subcommand(with_settings(check))
}

fn emit_command() -> clap::Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let all = Arg::new("all").long("all").action(ArgAction::SetTrue).help("to all sockets");
    let volatile = Arg::new("volatile").long("volatile").action(ArgAction::SetTrue);
    to_server(clap::Command::new("emit"))
        .about("Send an event through a server that runs; the status is 3 when nobody has it, which with Redis is known of users only")
        .arg(Arg::new("event").value_name("EVENT").required(true).help("its name"))
        .arg(Arg::new("data").value_name("DATA").help("its payload: JSON, or text where it is none"))
        .arg(option("user", "ID", "to a user"))
        .arg(option("room", "NAME", "to a room"))
        .arg(all)
        .group(ArgGroup::new("target").args(["user", "room", "all"]).required(true))
        .arg(
            option("except", "ROOM", "but to nobody in this room; may be given several times")
                .action(ArgAction::Append),
        )
        .arg(option("namespace", "NAME", "in this namespace and not in `/`"))
        .arg(volatile.help("it is dropped for who cannot take it at once"))
        .arg(option("ttl", "SECONDS", "it is kept for a user who is not there").value_parser(clap::value_parser!(u64)))
        .arg(
            option("ack", "MILLISECONDS", "wait so long for sockets to call back, and print what they say")
                .value_parser(clap::value_parser!(u64))
                .conflicts_with("ttl"),
        )
        .arg(
            option("receipt", "MILLISECONDS", "wait so long for sockets to receive it, and print how many have")
                .value_parser(clap::value_parser!(u64)),
        )
        .arg(option("once", "KEY", "it is one event with all that come under this key (idempotencyKey)"))
}

fn tail_command() -> clap::Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let count = option("count", "N", "end after so many events").value_parser(clap::value_parser!(u64).range(1..));
    clap::Command::new("tail")
        .about("Print the events of a user as they come, as one more client of a server that runs")
        .arg(Arg::new("event").value_name("EVENT").num_args(0..).help("only events of these names"))
        .arg(option("user", "ID", "whose; the token is signed with the secret of the settings"))
        .arg(option("token", "TOKEN", "whose, by a token that there is"))
        .group(ArgGroup::new("identity").args(["user", "token"]).required(true))
        .arg(option("namespace", "NAME", "of which namespace").default_value("/"))
        .arg(count)
        .arg(option("server", "URL", "where clients connect; default: on this machine, as the settings say"))
        .arg(ca_file())
}

fn ca_file() -> Arg {
    Arg::new("ca-file").long("ca-file").value_name("FILE").value_parser(clap::value_parser!(PathBuf)).help(
        "PEM file of who may have signed the server's certificate; default: the authorities of the operating system",
    )
}

/// Asks the server of the settings, or another one.
fn to_server(command: clap::Command) -> clap::Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    command
        .arg(option("server", "URL", "where its API is; default: on this machine, as the settings say"))
        .arg(option("key", "KEY", "the key of its API; default: the first one of the settings"))
        .arg(ca_file())
}

fn config_file() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("settings in TOML; flags and environment are stronger [SOCKRING_CONFIG]")
}

fn flag(key: &SettingKey) -> Arg {
    let own = key.environment.first().map_or_else(|| variable(key), |name| (*name).to_owned());
    let default = match key.default {
        "" => String::new(),
        default => format!(", default: {default}"),
    };
    Arg::new(key.name)
        .long(key.name.replace('_', "-"))
        .value_name("VALUE")
        .help_heading(group(key))
        .hide_short_help(!COMMON.contains(&key.name))
        .help(format!("{} [{own}{default}]", key.help))
}
