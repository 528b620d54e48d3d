//! `Script`: what Redis does in one go, by its hash or, to a Redis that does not know it, as a whole.

use std::fmt::Write;
use std::sync::LazyLock;

use redis::{Cmd, cmd};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// How Redis begins to say that it does not know a script.
pub(super) const UNKNOWN_SCRIPT: &str = "NOSCRIPT";

/// What Redis runs, and what it calls that.
#[derive(Debug)]
pub(super) struct Script {
    source: &'static str,
    hash: String,
}

/// Keeps an event for a user, once under a key, and publishes it.
pub(super) static KEEP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("keep.lua")));
/// Takes events out of a mailbox.
pub(super) static CONFIRM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("confirm.lua")));

impl Script {
    fn new(source: &'static str) -> Script {
        let mut hash = String::new();
        for byte in digest(&SHA1_FOR_LEGACY_USE_ONLY, source.as_bytes()).as_ref() {
            let _ = write!(hash, "{byte:02x}");
        }
        Script { source, hash }
    }

    /// Runs it, if Redis knows it.
    pub(super) fn command(&self, keys: &[&str]) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len()).arg(keys);
        command
    }
}

/// The same command with the whole of its script; `None`: it has none of ours.
pub(super) fn spelled_out(command: &Cmd) -> Option<Cmd> {
    let mut args = command.args_iter().filter_map(|arg| match arg {
        redis::Arg::Simple(bytes) => Some(bytes),
        _ => None,
    });
    args.next().filter(|name| *name == b"EVALSHA")?;
    let hash = args.next()?;
    let script = [&*KEEP, &*CONFIRM].into_iter().find(|script| script.hash.as_bytes() == hash)?;
    let mut whole = cmd("EVAL");
    whole.arg(script.source);
    args.for_each(|arg| {
        whole.arg(arg);
    });
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_spelled_out_for_who_does_not_know_its_script() {
        let mut command = CONFIRM.command(&["k"]);
        command.arg("id");
        let whole = spelled_out(&command).expect("a script of ours");
        let mut expected = cmd("EVAL");
        expected.arg(CONFIRM.source).arg(1).arg("k").arg("id");
        assert_eq!(whole.get_packed_command(), expected.get_packed_command());
        assert!(spelled_out(&whole).is_none() && spelled_out(cmd("EVALSHA").arg("x")).is_none());
        assert_eq!(Script::new("return 1").hash, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
