//! The events as TypeScript: `clients/js/src/events.ts` is this file's text, made from the types that are serialized.

use std::fmt::Write;
use std::{env, fs};

use ts_rs::{Config, TS};

use super::{
    Analysis, CONNECTED, Completed, Connected, EVENTS, Failed, Maintenance, Progress, SERVER_SHUTDOWN, Shutdown,
    Started, Summary, TestMessage,
};
use crate::app::RefusalReason;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/js/src/events.ts");

/// The payload of each event that has one of a known shape; of the others a front end knows what its backends send.
const PAYLOADS: [(&str, &str); 8] = [
    (CONNECTED, "Connected"),
    ("analysis:started", "AnalysisStarted"),
    ("analysis:progress", "AnalysisProgress"),
    ("analysis:completed", "AnalysisCompleted"),
    ("analysis:failed", "AnalysisFailed"),
    (SERVER_SHUTDOWN, "Shutdown"),
    (super::MAINTENANCE_MODE, "Maintenance"),
    ("test:message", "TestMessage"),
];

fn typescript() -> Result<String, std::fmt::Error> {
    let config = Config::default();
    let mut out = String::from(
        "// The server's events. Generated from the types that the server serializes; do not edit it:\n\
         // UPDATE=1 cargo test --lib events::typescript\n\n",
    );
    let shapes = [
        Connected::decl(&config),
        Analysis::<Started>::decl(&config),
        Started::decl(&config),
        Progress::decl(&config),
        Completed::decl(&config),
        Summary::decl(&config),
        Failed::decl(&config),
        Shutdown::decl(&config),
        Maintenance::decl(&config),
        TestMessage::decl(&config),
    ];
    for shape in shapes {
        writeln!(out, "export {shape}\n")?;
    }
    for (name, details) in
        [("Started", "Started"), ("Progress", "Progress"), ("Completed", "Completed"), ("Failed", "Failed")]
    {
        writeln!(out, "export type Analysis{name} = Analysis<{details}>;")?;
    }
    writeln!(out, "\n/** What each event brings. */\nexport interface ServerEvents {{")?;
    for (event, payload) in PAYLOADS {
        writeln!(out, "  '{event}': {payload};")?;
    }
    for (_, event) in EVENTS.iter().filter(|(_, event)| PAYLOADS.iter().all(|(known, _)| known != event)) {
        writeln!(out, "  '{event}': unknown;")?;
    }
    writeln!(out, "}}\n\n/** The names that front end and back end share. */\nexport const EVENTS = {{")?;
    for (constant, event) in EVENTS {
        writeln!(out, "  {constant}: '{event}',")?;
    }
    writeln!(out, "}} as const;\n\n/** Why the server refuses a connection. */\nexport type ServerRefusal =")?;
    let codes: Vec<String> =
        RefusalReason::ALL.iter().filter_map(|reason| reason.code()).map(|code| format!("  | '{code}'")).collect();
    writeln!(out, "{};", codes.join("\n"))?;
    Ok(out)
}

#[test]
fn the_front_end_has_these_events() {
    let wanted = typescript().unwrap();
    if env::var_os("UPDATE").is_some() {
        fs::write(FILE, &wanted).unwrap();
    }
    let there = fs::read_to_string(FILE).unwrap_or_default();
    assert_eq!(there, wanted, "{FILE} differs: run `UPDATE=1 cargo test --lib events::typescript`");
}
