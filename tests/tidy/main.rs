//! Rules about the sources themselves: what each file begins with, how long it is, and who may know whom.

mod circles;
mod docs;
mod lists;
mod names;
mod references;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const CODE_LINES_MAX: usize = 500;

/// Longer files, each with the reason why it is not two.
const LONG_FILES: [(&str, &str); 0] = [];

/// What the modules in a place may name of this crate (docs/ARCHITECTURE.md, "Who may know whom"). A longer place goes before a shorter one.
const MAY_USE: [(&str, &[&str]); 18] = [
    ("src/cluster/", &["cluster", "mailbox", "shard", "bus", "spans"]),
    ("src/ring/", &["ring"]),
    ("src/shard/settings.rs", &["shard", "proxies", "tls"]),
    ("src/shard/", &["shard", "app", "capacity", "tls"]),
    ("src/tls/", &["tls"]),
    ("src/spans", &["spans"]),
    ("src/bus.rs", &["shard"]),
    ("src/worker/", &["worker", "bus", "shard", "ring", "mailbox", "capacity", "app"]),
    (
        "src/api/",
        &[
            "api",
            "app::RefusalReason",
            "app::notifications",
            "auth",
            "capacity",
            "cluster",
            "config",
            "events",
            "mailbox",
            "shard",
            "spans",
            "tls",
            "tunnels",
        ],
    ),
    ("src/tunnels/", &["tunnels", "capacity", "cluster", "mailbox", "shard", "tls", "worker::Clock"]),
    ("src/app/", &["app", "auth", "events"]),
    ("src/mailbox.rs", &["mailbox", "shard"]),
    ("src/config/", &["config", "auth", "capacity", "cluster", "proxies", "shard", "spans", "tls", "worker"]),
    ("src/capacity", &["capacity"]),
    ("src/proxies.rs", &["proxies"]),
    ("src/auth.rs", &["auth"]),
    ("src/events.rs", &["events"]),
    ("src/lib.rs", &[]),
];

/// Where of a module only some names may be known.
const ONLY_NAMES: [(&str, &str, &[&str]); 13] = [
    (
        "src/api/",
        "shard",
        &[
            "AckEnd",
            "Broken",
            "CloseReason",
            "Counters",
            "EngineSettings",
            "EventId",
            "EventIds",
            "Forbidden",
            "Histogram",
            "Inquiry",
            "InquiryKey",
            "InquiryKind",
            "Keep",
            "Keeping",
            "KeptBy",
            "KeptEnd",
            "KeptMark",
            "KeptView",
            "Limit",
            "Mail",
            "OnceKey",
            "EmitOutcome",
            "PacketFault",
            "Papers",
            "Parcel",
            "Recovered",
            "Remembered",
            "Reply",
            "ShardMetrics",
            "ShardStats",
            "Target",
            "USER_PREFIX",
            "UnknownSid",
            "Verdict",
            "home_of",
        ],
    ),
    (
        "src/bus.rs",
        "shard",
        &[
            "Acknowledgement",
            "GivenEvent",
            "KeptSession",
            "MailboxQuestion",
            "ReceivedEvents",
            "RoomName",
            "SessionQuestion",
        ],
    ),
    ("src/mailbox.rs", "shard", &["BusMail", "Mail", "Parcel", "Reply", "SiblingMail"]),
    (
        "src/api/",
        "cluster",
        &[
            "AckGathering",
            "AckedElsewhere",
            "Cluster",
            "ClusterMetrics",
            "Condition",
            "EmitToKeep",
            "Gathered",
            "InOrder",
            "InstanceNumbers",
            "KeepError",
            "KeptAnswer",
            "ListedUsers",
            "Publishing",
            "Readiness",
            "UsersPart",
        ],
    ),
    (
        "src/cluster/",
        "shard",
        &[
            "Acknowledgement",
            "BusMail",
            "ConfirmAnswer",
            "EventId",
            "FoundSession",
            "GiveAnswer",
            "GivenEvent",
            "Histogram",
            "Instance",
            "Keep",
            "Keeping",
            "KeptBy",
            "KeptSession",
            "Mail",
            "MailboxQuestion",
            "NamespaceId",
            "OnceKey",
            "ReceivedEvents",
            "RecoverySecret",
            "Reply",
            "RoomName",
            "SessionQuestion",
            "ShardStats",
            "SharedPast",
            "Sid",
            "USER_PREFIX",
            "Verdict",
            "home_of",
        ],
    ),
    ("src/api/", "tunnels", &["TunnelMetrics", "Tunnels"]),
    ("src/tunnels/", "cluster", &["Address", "Cluster", "Refused", "Stream", "Visitor"]),
    ("src/tunnels/", "shard", &["EngineSettings", "Instance", "Papers", "Parcel", "Sid", "TunnelOrigin"]),
    ("src/config/", "worker", &["Sharing"]),
    (
        "src/config/",
        "cluster",
        &[
            "Address",
            "ClientCertificate",
            "ClusterSettings",
            "HeardRooms",
            "KeptSettings",
            "Readiness",
            "Secret",
            "SentinelSettings",
            "SharedSessions",
            "StreamSettings",
            "TlsSettings",
            "TunnelSettings",
        ],
    ),
    ("src/config/", "capacity", &["CapacityLimits"]),
    ("src/config/", "spans", &["SpanRules"]),
    (
        "src/config/",
        "shard",
        &[
            "Elsewhere",
            "EngineSettings",
            "Instance",
            "Instances",
            "KeptAt",
            "OffsetForm",
            "Positions",
            "RecoverySecret",
            "RecoverySettings",
            "SHARDS_MOST",
            "SLOTS_MOST",
        ],
    ),
];

/// What may not be written in the code of a place, tests included or not as the last column says.
const NOT_HERE: [(&str, &[&str]); 6] = [
    (
        "protocol/src/",
        &["std::net", "std::fs", "std::time", "std::thread", "std::process", "std::env", "tokio", "redis"],
    ),
    (
        "src/shard/",
        &[
            "std::net",
            "std::fs",
            "std::time",
            "std::thread",
            "std::os",
            "tokio",
            "rustix",
            "libc",
            "io_uring",
            "socket2",
        ],
    ),
    ("src/ring/", &["sockring_protocol", "tokio_uring"]),
    ("src/app/", &["std::net", "std::fs", "std::time", "std::thread", "std::os", "tokio", "rustix", "Instant"]),
    ("src/worker/", &["sockring_protocol::http", "sockring_protocol::engineio", "sockring_protocol::socketio"]),
    ("src/lib.rs", &["tokio::signal"]),
];

/// A source file of the project.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The code without its tests and with comments blanked.
    fn code(&self) -> String {
        let Some((code, tests)) = self.text.split_once("#[cfg(test)]\nmod tests") else {
            return without_comments(&self.text);
        };
        let behind = tests.split_once(if tests.starts_with(';') { ";" } else { "\n}\n" });
        without_comments(&[code, behind.map_or("", |(_, code)| code)].concat())
    }

    fn is_test(&self) -> bool {
        self.path.contains("tests/") || self.path.ends_with("/tests.rs")
    }

    /// The modules of this crate that it names, as `shard::client`; of a list in braces each.
    fn used(&self) -> BTreeSet<String> {
        let code = self.code();
        let mut used = BTreeSet::new();
        for (at, _) in code.match_indices("crate::") {
            collect_paths("", &code[at + "crate::".len()..], &mut used);
        }
        let own = module_of(&self.path);
        for (at, _) in code.match_indices("super::") {
            // Of `super::super::x` the first `super` counts the others.
            if code[..at].ends_with("super::") {
                continue;
            }
            let rest = code[at..].trim_start_matches("super::");
            let ups = (code.len() - at - rest.len()) / "super::".len();
            let base = own[..own.len().saturating_sub(ups)].join("::");
            collect_paths(&base, rest, &mut used);
        }
        used
    }
}

/// Adds the paths at the beginning of `text`, which may be `a::b` or `a::{b, c::d}`, below `base`.
fn collect_paths(base: &str, text: &str, into: &mut BTreeSet<String>) {
    let join = |name: &str| if base.is_empty() { name.to_owned() } else { format!("{base}::{name}") };
    if let Some(list) = text.strip_prefix('{') {
        let mut depth = 0;
        let end = list.find(|sign| {
            depth += i32::from(sign == '{') - i32::from(sign == '}');
            depth < 0
        });
        let mut depth = 0;
        let items = list[..end.unwrap_or(0)].split(|sign| {
            depth += i32::from(sign == '{') - i32::from(sign == '}');
            sign == ',' && depth == 0
        });
        items.map(str::trim).filter(|item| !item.is_empty()).for_each(|item| collect_paths(base, item, into));
        return;
    }
    let length = text.find(|sign: char| !sign.is_alphanumeric() && sign != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    match rest.strip_prefix("::") {
        Some(rest) if !name.is_empty() => collect_paths(&join(name), rest, into),
        _ if name == "self" => drop(into.insert(base.to_owned())),
        _ if !name.is_empty() => drop(into.insert(join(name))),
        _ => {}
    }
}

/// `src/shard/hub/mod.rs` is `shard`, `hub`.
fn module_of(path: &str) -> Vec<&str> {
    let path = path
        .trim_start_matches("protocol/")
        .trim_start_matches("src/")
        .trim_end_matches(".rs")
        .trim_end_matches("/mod");
    path.split('/').filter(|name| !matches!(*name, "lib" | "main")).collect()
}

fn without_comments(text: &str) -> String {
    let line = |line: &str| line.split_once("//").map_or(line, |(code, _)| code).to_owned() + "\n";
    text.lines().map(line).collect()
}

/// Every file of the project that git knows or would add.
fn files() -> Vec<String> {
    // The checkout of a CI job may belong to somebody else.
    let arguments = ["-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root()).output().expect("git is installed");
    assert!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).expect("names are UTF-8");
    listed.lines().filter(|path| root().join(path).is_file()).map(str::to_owned).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn sources() -> Vec<Source> {
    let rust = files().into_iter().filter(|path| path.ends_with(".rs"));
    rust.map(|path| Source { text: read(&path), path }).collect()
}

/// Fails with all offences at once.
#[track_caller]
fn assert_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

fn has_word(text: &str, word: &str) -> bool {
    let is_name = |sign: Option<char>| sign.is_some_and(|sign| sign.is_alphanumeric() || sign == '_');
    text.match_indices(word)
        .any(|(at, _)| !is_name(text[..at].chars().next_back()) && !is_name(text[at + word.len()..].chars().next()))
}

#[test]
fn every_file_says_first_what_lives_in_it() {
    let bare = sources().into_iter().filter(|source| !source.text.starts_with("//! ")).map(|source| source.path);
    assert_none("the first line is `//!` and one sentence", &bare.collect::<Vec<_>>());
}

#[test]
fn files_are_short_enough_to_hold_one_idea() {
    let mut long = Vec::new();
    for source in sources() {
        let count = source.code().lines().filter(|line| !line.trim().is_empty()).count();
        let is_allowed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        if count > CODE_LINES_MAX && !is_allowed {
            long.push(format!("{}: {count} lines of code", source.path));
        }
        if count <= CODE_LINES_MAX && is_allowed {
            long.push(format!("{} is short enough now: take it off the list", source.path));
        }
    }
    assert_none(&format!("at most {CODE_LINES_MAX} lines of code without tests"), &long);
}

#[test]
fn unsafe_code_is_in_the_ring_only() {
    let mut offences = Vec::new();
    // The bare loop that benchmarks hold the server against has nothing but the kernel below it, and so has the device of
    // the clients that have no sockets.
    let places = ["src/ring/", "benches/load/src/bin/floor/bare.rs", "benches/swarm/src/tun.rs"];
    for source in sources().iter().filter(|source| !places.iter().any(|place| source.path.starts_with(place))) {
        let code = without_comments(&source.text);
        let lines = code.lines().enumerate().filter(|(_, line)| has_word(line, &["un", "safe"].concat()));
        offences.extend(lines.map(|(number, _)| format!("{}:{}", source.path, number + 1)));
    }
    assert_none("no such code outside src/ring", &offences);
    assert!(read("protocol/src/lib.rs").contains("#![forbid(unsafe_code)]"), "protocol forbids it");
    assert!(read("src/lib.rs").contains("#![deny(unsafe_code)]"), "the server denies it");
}

#[test]
fn nothing_is_left_for_later() {
    let words = ["TO_DO", "FIX_ME", "XX_X", "to_do!", "dbg_!", "unimple_mented!"].map(|word| word.replace('_', ""));
    let mut offences = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                offences.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert_none("no marks for later, no debugging macros", &offences);
}

#[test]
fn modules_know_only_whom_they_may() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let path = source.path.as_str();
        let used = source.used();
        if let Some((_, allowed)) = MAY_USE.iter().find(|(place, _)| path.starts_with(place)) {
            let is_allowed = |name: &str| allowed.iter().any(|allowed| is_within(name, allowed));
            let strangers = used.iter().filter(|name| has_module(name) && !is_allowed(name));
            offences.extend(strangers.map(|name| format!("{path}: {name}")));
        }
        for (_, module, names) in ONLY_NAMES.iter().filter(|(place, ..)| path.starts_with(place)) {
            let of_module = used.iter().filter_map(|name| name.strip_prefix(module)?.strip_prefix("::"));
            offences
                .extend(of_module.filter(|name| !names.contains(name)).map(|name| format!("{path}: {module}::{name}")));
        }
        let code = source.code();
        for (_, words) in NOT_HERE.iter().filter(|(place, _)| path.starts_with(place)) {
            let found = words.iter().filter(|word| has_word(&code, word));
            offences.extend(found.map(|word| format!("{path}: {word}")));
        }
        if code.contains("tokio::signal") && path != "src/serve.rs" {
            offences.push(format!("{path}: tokio::signal"));
        }
    }
    assert_none("docs/ARCHITECTURE.md, Who may know whom", &offences);
}

/// `crate::x` names a module only if there is one.
fn has_module(name: &str) -> bool {
    let first = name.split("::").next().unwrap_or_default();
    root().join(format!("src/{first}.rs")).exists() || root().join(format!("src/{first}/mod.rs")).exists()
}

fn is_within(name: &str, module: &str) -> bool {
    name.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn every_dependency_has_its_reason() {
    let mut offences = Vec::new();
    for path in files().iter().filter(|path| path.ends_with("Cargo.toml")) {
        let mut in_dependencies = false;
        for line in read(path).lines() {
            if let Some(table) = line.strip_prefix('[') {
                in_dependencies = table.trim_end_matches(']').ends_with("dependencies");
            }
            let is_ours = line.contains("path = ");
            if in_dependencies && line.contains('=') && !line.starts_with('#') && !is_ours && !line.contains(" # ") {
                offences.push(format!("{path}: {line}"));
            }
        }
    }
    assert_none("each dependency's line ends with `# why`", &offences);
}

#[test]
fn no_file_knows_a_machine_or_a_registry() {
    let words = [
        "/ho_me/",
        "/ro_ot/",
        "/wo_rk/",
        "/Us_ers/",
        "regis_try+http",
        "://regis_try.",
        "index_-url",
        "\"reso_lved\":",
    ];
    let words = words.map(|word| word.replace('_', ""));
    // Of Cargo.lock: the registry that everybody has.
    let default_registry = words[4].clone() + "s://github.com/rust-lang/crates.io-index\"";
    // Of package-lock.json: another folder of the repository.
    let sibling = words[7].clone() + " \"../";
    let mut offences = Vec::new();
    for path in files() {
        // Not text: fonts, pictures, seeds.
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.ends_with(&default_registry)) {
            let line = line.replace(&sibling, "");
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                offences.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    assert_none("no path of one machine, no address of a registry", &offences);
}
