//! No circle of files: none imports another that, directly or over others, imports it back.
//!
//! A door (`mod.rs`, `lib.rs`) that only hands a name on does not know it, and whoever takes the name there knows the file that
//! defines it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, assert_none, collect_paths, module_of, sources};

/// Imports that may close a circle, from whom to whom, each with the reason.
const EXCEPTIONS: [(&str, &str, &str); 8] = [
    ("src/cluster/mod.rs", "src/cluster/acking.rs", SHARED),
    ("src/cluster/mod.rs", "src/cluster/asking.rs", SHARED),
    ("src/cluster/mod.rs", "src/cluster/awaiting.rs", SHARED),
    ("src/cluster/mod.rs", "src/cluster/health.rs", SHARED),
    ("src/cluster/mod.rs", "src/cluster/lines.rs", SHARED),
    ("src/cluster/mod.rs", "src/cluster/neighbours.rs", SHARED),
    ("src/cluster/mod.rs", "src/cluster/publisher.rs", SHARED),
    ("src/cluster/mod.rs", "src/cluster/subscriber.rs", SHARED),
];
/// `Cluster` is what its tasks share: it has what each of them keeps, and each of them knows it.
const SHARED: &str = "the tasks of a cluster share what each of them keeps";

/// The files of the shard from below: none imports one of a layer above its own. What no line names is on top: what acts on
/// connections, and the shard itself.
const LAYERS: [&[&str]; 3] = [
    // What there is, each kind of state with its owner.
    &[
        "clients/aliases.rs",
        "clients/client.rs",
        "clients/directory.rs",
        "clients/drain.rs",
        "clients/encode.rs",
        "clients/lookout.rs",
        "clients/outbox.rs",
        "clients/outbox/carried.rs",
        "clients/waiting.rs",
        "diary.rs",
        "effects.rs",
        "event_id.rs",
        "faults.rs",
        "hints.rs",
        "hub/outbound.rs",
        "kept_mark.rs",
        "limit.rs",
        "mail.rs",
        "metrics.rs",
        "moving/emigrant.rs",
        "moving/placement.rs",
        "moving/sid.rs",
        "recovery/behind.rs",
        "recovery/ended.rs",
        "recovery/log.rs",
        "recovery/log/carried.rs",
        "recovery/outcome.rs",
        "recovery/pid.rs",
        "recovery/position.rs",
        "recovery/sessions.rs",
        "recovery/state.rs",
        "recovery/stays.rs",
        "relay/carried.rs",
        "relay/lists.rs",
        "relay/map_lists.rs",
        "relay/maps.rs",
        "relay/sets.rs",
        "relay/slabs.rs",
        "relay/words.rs",
        "rooms/acks.rs",
        "rooms/broadcasts.rs",
        "rooms/fan_out.rs",
        "rooms/homes.rs",
        "rooms/inquiries.rs",
        "rooms/lingering.rs",
        "rooms/kept.rs",
        "rooms/mailboxes.rs",
        "rooms/membership.rs",
        "rooms/once.rs",
        "rooms/receipts.rs",
        "rooms/sockets.rs",
        "rooms/subscriptions.rs",
        "rooms/table.rs",
        "rooms/tally.rs",
        "settings.rs",
        "slots.rs",
        "timers.rs",
        "wire/idlers.rs",
        "wire/parcel.rs",
        "wire/stage.rs",
        "wire/tls_stages.rs",
    ],
    // The hub, which has one of each owner.
    &["hub/mod.rs"],
    // What the hub does.
    &["clients/", "hub/", "moving/", "recovery/", "rooms/"],
];

/// The source files of one crate.
struct Crate {
    root: &'static str,
    files: BTreeMap<String, Source>,
    /// The file of each module.
    modules: BTreeMap<String, String>,
    /// By module and name: the path that the module hands on under that name.
    handed_on: BTreeMap<(String, String), String>,
}

impl Crate {
    fn read(root: &'static str) -> Crate {
        let of_crate = sources()
            .into_iter()
            .filter(|source| source.path.starts_with(root) && !source.is_test() && source.path != "src/main.rs");
        let files: BTreeMap<_, _> = of_crate.map(|source| (source.path.clone(), source)).collect();
        let modules = files.keys().map(|path| (module_of(path).join("::"), path.clone())).collect();
        let mut found = Crate { root, files, modules, handed_on: BTreeMap::new() };
        for path in found.files.keys() {
            let module = module_of(path).join("::");
            for used in found.statements(path).into_iter().filter(|used| used.is_handed_on).flat_map(|used| used.paths)
            {
                let name = used.rsplit("::").next().unwrap_or_default().to_owned();
                found.handed_on.insert((module.clone(), name), used);
            }
        }
        found
    }

    /// What a file imports, and what it names by its whole path.
    fn statements(&self, path: &str) -> Vec<Used> {
        let source = &self.files[path];
        let code = source.code();
        let own = module_of(path).join("::");
        let mut all = Vec::new();
        let mut rest = String::new();
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            let Some((before, _)) = line.split_once("use ").filter(|(before, _)| is_visibility(before.trim())) else {
                rest.push_str(line);
                rest.push('\n');
                continue;
            };
            let mut statement =
                line.trim().trim_start_matches(before.trim()).trim().trim_start_matches("use ").to_owned();
            while !statement.contains(';') {
                let Some(more) = lines.next() else { break };
                statement.push_str(more.trim());
            }
            let paths = self.paths(&own, statement.trim_end_matches(';'));
            all.push(Used { paths, is_handed_on: !before.trim().is_empty() });
        }
        // `pub(in crate::shard)` says who may see something, and uses nothing.
        let rest = rest.replace("pub(in crate::", "pub(in ").replace("pub(in super::super)", "");
        let named = Source { path: path.to_owned(), text: rest }.used();
        all.push(Used { paths: named.into_iter().collect(), is_handed_on: false });
        all
    }

    /// The paths in an import of the module `own`, from the root of the crate; none of another crate's.
    fn paths(&self, own: &str, import: &str) -> Vec<String> {
        let mut paths = BTreeSet::new();
        let (mut base, mut import) = (own.to_owned(), import);
        if let Some(rest) = import.strip_prefix("crate::").or_else(|| import.strip_prefix("sockring::")) {
            (base, import) = (String::new(), rest);
        } else if import.starts_with("super::") {
            while let Some(rest) = import.strip_prefix("super::") {
                base = base.rsplit_once("::").map_or(String::new(), |(above, _)| above.to_owned());
                import = rest;
            }
        } else {
            let first = import.split("::").next().unwrap_or_default();
            let child = if own.is_empty() { first.to_owned() } else { format!("{own}::{first}") };
            if !self.modules.contains_key(&child) {
                return Vec::new();
            }
        }
        collect_paths(&base, import, &mut paths);
        paths.into_iter().collect()
    }

    /// The file that defines what a path names.
    fn file_of(&self, path: &str, hops: usize) -> Option<&str> {
        let mut module = path;
        loop {
            if let Some(file) = self.modules.get(module) {
                let name = path[module.len()..].trim_start_matches("::").split("::").next().unwrap_or_default();
                let handed_on = self.handed_on.get(&(module.to_owned(), name.to_owned())).filter(|_| hops > 0);
                return match handed_on {
                    Some(origin) if !name.is_empty() => self.file_of(origin, hops - 1),
                    _ => Some(file),
                };
            }
            module = module.rsplit_once("::").map_or("", |(above, _)| above);
            if module.is_empty() {
                return self.modules.get("").map(String::as_str);
            }
        }
    }

    /// For each file those that it imports, with the names that it takes from them.
    fn imports(&self) -> BTreeMap<&str, BTreeMap<String, String>> {
        let of_file = |path: &String| {
            let used = self.statements(path).into_iter().filter(|used| !used.is_handed_on).flat_map(|used| used.paths);
            let mut imports = BTreeMap::<String, String>::new();
            for name in used {
                let Some(file) = self.file_of(&name, 4).filter(|file| file != path) else { continue };
                let names = imports.entry(file.to_owned()).or_default();
                names.push(' ');
                names.push_str(name.rsplit("::").next().unwrap_or_default());
            }
            imports
        };
        self.files.keys().map(|path| (path.as_str(), of_file(path))).collect()
    }
}

struct Used {
    paths: Vec<String>,
    /// `pub use`, `pub(super) use`.
    is_handed_on: bool,
}

fn is_visibility(text: &str) -> bool {
    text.is_empty() || text == "pub" || text.starts_with("pub(") && text.ends_with(')')
}

/// The imports that are left when files are taken away that no circle can go through: whom nobody left imports, and who
/// imports nobody left.
fn circles(mut imports: BTreeMap<&str, BTreeMap<String, String>>) -> Vec<String> {
    loop {
        let before = imports.len();
        let left: BTreeSet<String> = imports.keys().map(|path| (*path).to_owned()).collect();
        imports.values_mut().for_each(|imports| imports.retain(|path, _| left.contains(path)));
        imports.retain(|_, imports| !imports.is_empty());
        let imported: BTreeSet<String> = imports.values().flat_map(BTreeMap::keys).cloned().collect();
        imports.retain(|path, _| imported.contains(*path));
        if imports.len() == before {
            break;
        }
    }
    let lines = imports
        .iter()
        .flat_map(|(from, imports)| imports.iter().map(move |(to, names)| format!("{from} imports {to}:{names}")));
    lines.collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut offences = Vec::new();
    for root in ["src/", "protocol/src/"] {
        let files = Crate::read(root);
        let mut imports = files.imports();
        assert!(imports.values().flatten().count() > 20, "{}: hardly an import is found", files.root);
        for (from, to, _) in EXCEPTIONS.iter().filter(|(from, ..)| from.starts_with(root)) {
            let is_used = imports.get_mut(from).is_some_and(|imports| imports.remove(*to).is_some());
            if !is_used {
                offences.push(format!("{from} does not import {to}: take it off the list"));
            }
        }
        offences.extend(circles(imports));
    }
    assert_none("files in a circle", &offences);
}

#[test]
fn layers_of_the_shard_know_only_those_below() {
    const SHARD: &str = "src/shard/";
    let layer = |path: &str| {
        let name = path.strip_prefix(SHARD)?;
        let of = LAYERS.iter().position(|files| files.iter().any(|file| name.starts_with(file)));
        Some(of.unwrap_or(LAYERS.len()))
    };
    let files = Crate::read("src/");
    let mut offences = Vec::new();
    for (from, imports) in files.imports() {
        for (to, names) in imports {
            let is_up = layer(&to) > layer(from);
            if layer(from).is_some()
                && is_up
                && !EXCEPTIONS.iter().any(|exception| (exception.0, exception.1) == (from, &to))
            {
                offences.push(format!("{from} imports {to}:{names}"));
            }
        }
    }
    let names = LAYERS.iter().copied().flatten();
    let missing = names.filter(|name| {
        !files.files.keys().any(|path| path.strip_prefix(SHARD).is_some_and(|path| path.starts_with(*name)))
    });
    offences.extend(missing.map(|name| format!("there is no {name} any more: take it off the list")));
    assert_none("files of the shard know those of their layer and below", &offences);
}

#[test]
fn a_circle_is_found_over_three_files() {
    let import = |to: &str| BTreeMap::from([(to.to_owned(), " X".to_owned())]);
    let imports =
        [("a", import("b")), ("b", import("c")), ("c", import("a")), ("d", import("a")), ("e", BTreeMap::new())];
    assert_eq!(circles(imports.into()).len(), 3);
    let imports = [("a", import("b")), ("b", import("c")), ("c", BTreeMap::new())];
    assert!(circles(imports.into()).is_empty());
}
