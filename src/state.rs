//! The state file: what outlives the process, from the end of a drain to the next start.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use sockring::config::Settings;
use sockring::shard::{EngineSettings, Heir, Instance, RecoverySecret, Remains};

/// Of its form. One of another version is not read.
const VERSION: u32 = 1;
/// It holds what is for users' eyes, and what signs their sessions.
const MODE: u32 = 0o600;
const SECRET_BYTES: usize = 32;

#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    /// What the process calls itself in its sids.
    instance: u32,
    /// What signed sessions where no `recovery_secret` is set, in Base64.
    secret: String,
    /// Their order is what events and rooms go by.
    namespaces: Vec<String>,
    /// By their number.
    shards: Vec<Remains>,
}

/// Only of the version nothing else has to be known.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Who a process is: what it has from the one before, or by chance.
pub(crate) struct Heritage {
    pub(crate) instance: Instance,
    secret: Vec<u8>,
    pub(crate) left: Arc<[Remains]>,
    pub(crate) heir: Heir,
}

impl Heritage {
    /// What the process before has left, where there is a file for it.
    pub(crate) fn take(settings: &Settings) -> Result<Heritage, String> {
        let Some(path) = &settings.state_file else { return Heritage::none(settings) };
        try_out(path)?;
        match read(path)? {
            None => Heritage::none(settings),
            Some(state) => Heritage::of(state, settings),
        }
    }

    fn none(settings: &Settings) -> Result<Heritage, String> {
        let without = |error: getrandom::Error| format!("no random bytes: {error}");
        let mut secret = vec![0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(without)?;
        let instance = match settings.instance {
            Some(named) => named,
            None => Instance::new(getrandom::u32().map_err(without)?),
        };
        Ok(Heritage { instance, secret, left: Arc::default(), heir: Heir::Another })
    }

    fn of(state: State, settings: &Settings) -> Result<Heritage, String> {
        let is_same = state.shards.len() == usize::from(settings.shards)
            && state.namespaces == settings.engine.namespaces
            && settings.instance.is_none_or(|named| named.number() == state.instance)
            // What others have said meanwhile nobody has heard.
            && settings.cluster.is_none();
        let heritage = match (is_same, STANDARD_NO_PAD.decode(&state.secret)) {
            (true, Ok(secret)) => {
                Heritage { instance: Instance::new(state.instance), secret, left: Arc::default(), heir: Heir::Same }
            }
            _ => Heritage::none(settings)?,
        };
        let (kept, remembered) =
            state.shards.iter().map(Remains::events).fold((0, 0), |sum, events| (sum.0 + events.0, sum.1 + events.1));
        let remembered = if is_same { remembered } else { 0 };
        tracing::info!(kept, remembered, "events of the process before were taken over from the state file");
        Ok(Heritage { left: state.shards.into(), ..heritage })
    }

    /// What signs sessions, unless that is set.
    pub(crate) fn secret(&self) -> RecoverySecret {
        RecoverySecret::new(&self.secret)
    }

    /// It has been taken over, and is another process' no more.
    pub(crate) fn remove(path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::error!(%error, "the state file stays, and would be read again");
            }
            _ => {}
        }
    }
}

/// Who writes a state file: what it says besides what is left of the shards.
pub(crate) struct Testator {
    path: PathBuf,
    instance: Instance,
    secret: Vec<u8>,
    namespaces: Vec<String>,
}

impl Testator {
    /// `None`: nothing is to outlive the process.
    pub(crate) fn new(settings: &Settings, heritage: &Heritage) -> Option<Testator> {
        let EngineSettings { namespaces, .. } = &settings.engine;
        let path = settings.state_file.clone()?;
        Some(Testator {
            path,
            instance: heritage.instance,
            secret: heritage.secret.clone(),
            namespaces: namespaces.clone(),
        })
    }

    /// Writes the file, whole or not at all.
    pub(crate) fn write(&self, shards: Vec<Remains>) -> Result<(), String> {
        let (kept, remembered) =
            shards.iter().map(Remains::events).fold((0, 0), |sum, events| (sum.0 + events.0, sum.1 + events.1));
        let state = State {
            version: VERSION,
            instance: self.instance.number(),
            secret: STANDARD_NO_PAD.encode(&self.secret),
            namespaces: self.namespaces.clone(),
            shards,
        };
        write(&self.path, &state).map_err(|error| format!("state_file: {}: {error}", self.path.display()))?;
        tracing::info!(kept, remembered, "the state file was written");
        Ok(())
    }
}

/// A file that is none of this version is put aside, and said so: the server is to run.
fn read(path: &Path) -> Result<Option<State>, String> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| format!("state_file: {}: {error}", path.display()))?,
    };
    match decode(&text) {
        Ok(state) => Ok(Some(state)),
        Err(reason) => {
            let aside = beside(path, ".unreadable");
            tracing::error!(?aside, reason, "the state file cannot be used and is put aside: what it holds is lost");
            fs::rename(path, aside).map_err(|error| format!("state_file: {}: {error}", path.display()))?;
            Ok(None)
        }
    }
}

fn decode(text: &[u8]) -> Result<State, String> {
    let Versioned { version } =
        serde_json::from_slice(text).map_err(|error| format!("it is no state file, or not all of one: {error}"))?;
    if version != VERSION {
        return Err(format!("it is of version {version}, and this server reads {VERSION}"));
    }
    serde_json::from_slice(text).map_err(|error| format!("it is no state file, or not all of one: {error}"))
}

fn write(path: &Path, state: &State) -> io::Result<()> {
    let temporary = beside(path, ".tmp");
    let mut file = BufWriter::new(create(&temporary)?);
    serde_json::to_writer(&mut file, state)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    fs::rename(&temporary, path)?;
    // The name is only as lasting as its directory.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// What the next start would find, without touching it, and whether there can be one: better known now than at the end.
pub(crate) fn check(path: &Path) -> Result<String, String> {
    try_out(path)?;
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(format!("{} can be written", path.display())),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
        Ok(text) => match decode(&text) {
            Ok(state) => {
                let kept = state.shards.iter().map(|remains| remains.events().0).sum::<usize>();
                Ok(format!("{} waits for the next start, with {kept} kept events", path.display()))
            }
            Err(reason) => Err(format!("{} would be put aside: {reason}", path.display())),
        },
    }
}

fn try_out(path: &Path) -> Result<(), String> {
    let temporary = beside(path, ".tmp");
    let created = create(&temporary).and_then(|_| fs::remove_file(&temporary));
    created.map_err(|error| format!("state_file: {} cannot be written: {error}", temporary.display()))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(path)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}
