//! `sockring tail`: the events of a user as they come, seen by a client of the server.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};
use sockring::auth::Verifier;
use sockring::config::Settings;
use sockring_protocol::Millis;
use sockring_protocol::adapter::EntryId;
use sockring_protocol::client::{Client, ClientEvent, ClientSettings};
use sockring_protocol::server::OwnedData;
use sockring_protocol::socketio::{Args, PacketLimits, ServerPacket, SocketPacket, encode_connect_request};

use crate::authorities::TrustedAuthorities;
use crate::out;

/// To connect, and for a session to open.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a read waits at most, so that time is looked at.
const READ_MAX: Duration = Duration::from_millis(500);
/// Between the end of one session and the next attempt.
const PAUSE: Duration = Duration::from_secs(1);
/// Of a token that is made for a session. Each attempt makes one of its own.
const TOKEN_SECONDS: u64 = 24 * 60 * 60;
/// What events without arguments begin with that only say how far a client has read; with the streams adapter they are called
/// as entries of a stream.
const POSITION: char = '~';

/// What to listen to.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    /// Where, if not at the server of the settings.
    pub server: Option<String>,
    /// Who may have signed its certificate, where it has one.
    pub ca_file: Option<PathBuf>,
    pub identity: TailIdentity,
    /// Only these; empty: all.
    pub events: Vec<String>,
    pub namespace: String,
    /// After so many it ends.
    pub count: Option<u64>,
}

/// As whom.
#[derive(Clone, Debug)]
pub(crate) enum TailIdentity {
    /// With a token that the settings' secret signs.
    User(String),
    Token(String),
}

/// Why a session is over.
enum End {
    /// All that was asked for has been printed.
    Enough,
    /// The server does not want this client: to try again changes nothing.
    Refused(String),
    /// The connection; another one may do better.
    Lost(String),
}

/// What is kept from one session to the next, so that a server with connection state recovery sends what was missed.
#[derive(Default)]
struct TailPosition {
    pid: Option<String>,
    offset: Option<String>,
}

/// Prints events until it is ended, has printed enough, or is refused.
pub(crate) fn run(settings: &Settings, tail: &Tail) -> Result<ExitCode, Box<dyn Error>> {
    let (scheme, server) = address(settings, tail.server.as_deref());
    let tls = match scheme {
        Scheme::Http => None,
        Scheme::Https => Some(TrustedAuthorities::of_file(tail.ca_file.as_deref())?.for_connection()?),
    };
    let mut listener = TailListener { settings, tail, left: tail.count, position: TailPosition::default() };
    let mut has_connected = false;
    loop {
        match listener.session((&server, tls.as_ref()), &mut has_connected)? {
            End::Enough => return Ok(ExitCode::SUCCESS),
            End::Refused(why) => return Err(format!("{server}: {why}").into()),
            End::Lost(why) if !has_connected => {
                return Err(format!("{server}: {why}: does it run there? See --server").into());
            }
            End::Lost(why) => out::remark(format_args!("{why}; connecting again")),
        }
        thread::sleep(PAUSE);
    }
}

struct TailListener<'a> {
    settings: &'a Settings,
    tail: &'a Tail,
    left: Option<u64>,
    position: TailPosition,
}

impl TailListener<'_> {
    /// One connection, from its handshake to its end.
    fn session(
        &mut self,
        (server, tls): (&str, Option<&Arc<ClientConfig>>),
        has_connected: &mut bool,
    ) -> Result<End, Box<dyn Error>> {
        let mut stream = match connect(server, tls) {
            Ok(stream) => stream,
            Err(error) => return Ok(End::Lost(error.to_string())),
        };
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| format!("no random bytes: {error}"))?;
        let target = format!("{}?EIO=4&transport=websocket", self.settings.engine.path);
        let mut client =
            Client::connect(ClientSettings { host: server.to_owned(), target, ..ClientSettings::default() }, random);
        let begun = Instant::now();
        let mut is_open = false;
        let mut bytes = vec![0; 64 * 1024];
        loop {
            if let Err(error) = stream.write_all(&client.transmit()) {
                return Ok(End::Lost(error.to_string()));
            }
            let now = || Millis::from(begun.elapsed());
            let events = match stream.read(&mut bytes) {
                Ok(0) => return Ok(End::Lost("the server has closed the connection".to_owned())),
                Ok(read) => client.receive(bytes.get_mut(..read).unwrap_or_default(), now()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    client.expire(now())
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Ok(End::Lost(error.to_string())),
            };
            for event in events {
                let end = match event {
                    ClientEvent::Opened { .. } => {
                        is_open = true;
                        client.send(self.connect_packet()?).err().map(|error| End::Lost(error.to_string()))
                    }
                    ClientEvent::Message(OwnedData::Text(text)) => self.on_packet(&text, has_connected)?,
                    ClientEvent::Closed(end) => Some(End::Lost(end.to_string())),
                    _ => None,
                };
                if let Some(end) = end {
                    client.close();
                    // The server would find out by itself.
                    let _ = stream.write_all(&client.transmit());
                    return Ok(end);
                }
            }
            if !is_open && begun.elapsed() > PATIENCE {
                return Ok(End::Lost("no session within 10 s".to_owned()));
            }
        }
    }

    fn connect_packet(&self) -> Result<String, Box<dyn Error>> {
        let token = match &self.tail.identity {
            TailIdentity::Token(token) => token.clone(),
            TailIdentity::User(user) => {
                let secret = self.settings.access_token_secret.clone();
                let secret = secret.ok_or("access_token_secret: must be set to sign a token (ACCESS_TOKEN_SECRET)")?;
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
                Verifier::new(self.settings.token_rules(Some(secret)))?.mint(user, now, TOKEN_SECONDS)?
            }
        };
        let mut auth = json!({"token": token});
        if let (Some(auth), Some(pid)) = (auth.as_object_mut(), &self.position.pid) {
            auth.insert("pid".to_owned(), pid.as_str().into());
            auth.extend(self.position.offset.iter().map(|offset| ("offset".to_owned(), offset.as_str().into())));
        }
        let mut packet = Vec::new();
        encode_connect_request(&self.tail.namespace, Some(&auth.to_string()), &mut packet);
        Ok(String::from_utf8(packet)?)
    }

    fn on_packet(&mut self, text: &str, has_connected: &mut bool) -> Result<Option<End>, Box<dyn Error>> {
        // What this server sends is up to its backends and not to its own limits.
        let limits = PacketLimits { attachments_max: u8::MAX, ..PacketLimits::default() };
        match ServerPacket::decode(text, &limits)
            .map_err(|error| format!("the server sent no packet of Socket.IO: {error}"))?
        {
            ServerPacket::ConnectError { message, data, .. } => {
                Ok(Some(End::Refused(format!("{message} {}", data.unwrap_or_default()).trim_end().to_owned())))
            }
            ServerPacket::Packet(SocketPacket::Connect { payload, .. }) => {
                *has_connected = true;
                let answer: Value = payload.map_or(Ok(Value::Null), serde_json::from_str)?;
                self.position.pid = answer.get("pid").and_then(Value::as_str).map(str::to_owned);
                Ok(None)
            }
            ServerPacket::Packet(SocketPacket::Disconnect { .. }) => {
                Ok(Some(End::Refused("the server has disconnected this client".to_owned())))
            }
            ServerPacket::Packet(SocketPacket::Event { args, .. } | SocketPacket::BinaryEvent { args, .. }) => {
                self.on_event(&args)
            }
            ServerPacket::Packet(_) => Ok(None),
        }
    }

    fn on_event(&mut self, args: &Args<'_>) -> Result<Option<End>, Box<dyn Error>> {
        let elements: Vec<Value> = serde_json::from_str(args.text())?;
        // As the stock client does: the last element, if it is a string.
        if let (Some(_), Some(offset)) = (&self.position.pid, elements.last().and_then(Value::as_str)) {
            self.position.offset = Some(offset.to_owned());
        }
        let [name, values @ ..] = elements.as_slice() else { return Ok(None) };
        let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
        let is_position = values.is_empty() && (name.starts_with(POSITION) || is_entry(&name));
        if is_position || !(self.tail.events.is_empty() || self.tail.events.contains(&name)) {
            return Ok(None);
        }
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        out::line(format_args!("{time} {name} {}", values.join(" ")).to_string().trim_end())?;
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok((self.left == Some(0)).then_some(End::Enough))
    }
}

/// Whether this is the id of an entry of a stream, as `1732412345678-0`.
fn is_entry(name: &str) -> bool {
    EntryId::decode(name.as_bytes()).is_some()
}

/// What a server is spoken to by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// How to speak to the server, its host and its port.
fn address(settings: &Settings, server: Option<&str>) -> (Scheme, String) {
    let Some(server) = server else {
        let host = if settings.host.is_unspecified() { "localhost".to_owned() } else { settings.host.to_string() };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let scheme = if settings.tls.is_some() { Scheme::Https } else { Scheme::Http };
        return (scheme, format!("{host}:{}", settings.port));
    };
    let (scheme, port, server) = match server.strip_prefix("https://") {
        Some(server) => (Scheme::Https, 443, server),
        None => (Scheme::Http, 80, server.strip_prefix("http://").unwrap_or(server)),
    };
    let server = server.trim_end_matches('/');
    let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    (scheme, if has_port { server.to_owned() } else { format!("{server}:{port}") })
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// A connection that gives up a read after a while.
fn connect(server: &str, tls: Option<&Arc<ClientConfig>>) -> io::Result<Box<dyn ReadWrite>> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ_MAX))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = host.try_into().map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
    Ok(Box::new(StreamOwned::new(connection, stream)))
}
