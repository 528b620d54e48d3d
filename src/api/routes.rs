//! Which request is answered how.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;
use sockring_protocol::http::{Head, Method, decode_percent};

use crate::auth::is_user_id;
use crate::broadcast::Broadcast;
use crate::events::{self, Maintenance, TestMessage};
use crate::shard::{Ending, Mail, ShardStats, Target, USER_PREFIX};

use super::across::{Change, Emitted, Unknown, Whereabouts};
use super::answer::{Answer, ApiError};
use super::emit::{self, NAME_BYTES_MAX, user_room};
use super::fields::Fields;
use super::{Api, Entrance, access, demo, metrics, page, unix_ms};

const API: &str = "/api/v1/websocket/";
/// Bytes of a test message, and of the name of an interview.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Emits of one batch.
const BATCH_MAX: usize = 1000;

/// A request with its body.
pub(super) struct Request<'r> {
    pub(super) entrance: Entrance,
    pub(super) head: &'r Head<'r>,
    pub(super) body: &'r [u8],
    pub(super) peer: Option<SocketAddr>,
}

/// Whether this request is for a shard and not for us.
pub(super) fn is_engine_request(api: &Api, head: &Head<'_>) -> bool {
    api.engine.is_engine_path(head.path)
}

/// The file that a path under the Engine.IO path names.
fn file_of<'p>(api: &Api, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(&*api.engine.path).filter(|_| !api.engine.is_engine_path(path))
}

/// Answers a request.
pub(super) async fn answer(api: &Arc<Api>, request: &Request<'_>) -> Answer {
    let head = request.head;
    // Where the API has an address of its own, it is there only.
    let has_api = api.settings.listen.is_none() || request.entrance == Entrance::Api;
    let has_page = request.entrance != Entrance::Api;
    if let Some(route) = head.path.strip_prefix(API).filter(|_| has_api) {
        return match api_route(api, request, route).await {
            Ok(answer) => answer,
            Err(error) => error.into(),
        };
    }
    if let Some(file) = file_of(api, head.path).filter(|_| has_page) {
        return match file {
            "socket.io.js" | "socket.io.min.js" => get(head, || page::bundle(head.header("if-none-match"))),
            _ => not_found(),
        };
    }
    match head.path {
        "/" if has_page && !api.is_production() => get(head, || api.page.answer()),
        "/health" => get(head, || Answer::bare(200, &json!({"status": "ok"}))),
        "/metrics" if !has_api => not_found(),
        "/ready" | "/metrics" if !matches!(head.method, Method::Get | Method::Head) => {
            ApiError::method_not_allowed("GET, HEAD").into()
        }
        "/metrics" => match api.metrics().await {
            Ok(shards) => metrics::answer(&shards, metrics::OfApi::new(api)),
            Err(error) => error.into(),
        },
        "/ready" => ready(api).await,
        _ => not_found(),
    }
}

/// Whether this instance should get traffic: its shards answer, and one of them has room. Redis is mentioned where there
/// is one: without it this instance's clients are served on.
async fn ready(api: &Api) -> Answer {
    let redis = api.redis();
    let reason = match unready(api).await {
        None if redis.is_some_and(|redis| redis.spoils_readiness) => Some("Redis is down"),
        reason => reason,
    };
    let mut body = match reason {
        None => json!({"status": "ready"}),
        Some(reason) => json!({"status": "not ready", "reason": reason}),
    };
    if let Some(redis) = redis {
        body["redis"] = json!(redis.word);
    }
    Answer::bare(if reason.is_none() { 200 } else { 503 }, &body)
}

/// Why this instance should get no traffic.
async fn unready(api: &Api) -> Option<&'static str> {
    let Ok(shards) = api.stats().await else { return Some("a shard does not answer") };
    let total = |count: fn(&ShardStats) -> u64| shards.iter().map(count).sum::<u64>();
    let limits = api.capacity.limits();
    let is_full = total(|shard| shard.connections) >= limits.connections_max as u64
        || total(|shard| shard.clients) >= limits.clients_max as u64;
    if shards.iter().any(|shard| shard.is_draining) {
        return Some("the server is shutting down");
    }
    if shards.iter().any(|shard| shard.is_slow) {
        return Some("a shard is overloaded");
    }
    is_full.then_some("there is no room for another client")
}

fn get(head: &Head<'_>, answer: impl FnOnce() -> Answer) -> Answer {
    match head.method {
        Method::Get | Method::Head => answer(),
        _ => ApiError::method_not_allowed("GET, HEAD").into(),
    }
}

fn not_found() -> Answer {
    ApiError::new(404, "there is nothing here").into()
}

async fn api_route(api: &Arc<Api>, request: &Request<'_>, route: &str) -> Result<Answer, ApiError> {
    access::check(api, request.head, request.peer)?;
    let segments: Vec<&str> = route.split('/').collect();
    let is_get = matches!(request.head.method, Method::Get | Method::Head);
    let is_post = request.head.method == Method::Post;
    match segments.as_slice() {
        ["stats"] if is_get => stats(api).await,
        ["events"] if is_get => Ok(Answer::ok(events::constants(), "Event constants")),
        ["user", user, "status"] if is_get => status(api, user).await,
        ["emit"] if is_post => emit_event(api, request.body).await,
        ["emit", "batch"] if is_post => emit_batch(api, request.body).await,
        ["rooms", "join"] if is_post => change_rooms(api, request.body, Change::Join).await,
        ["rooms", "leave"] if is_post => change_rooms(api, request.body, Change::Leave).await,
        ["disconnect"] if is_post => disconnect(api, request.body).await,
        ["maintenance"] if is_post => maintenance(api, request.body).await,
        ["test", "emit-to-user"] if is_post && !api.is_production() => emit_to_user(api, request.body).await,
        ["test", "analysis-events", user] if is_post && !api.is_production() => {
            analysis_events(api, user, request.body)
        }
        ["stats" | "events"] | ["user", _, "status"] => Err(ApiError::method_not_allowed("GET")),
        ["emit" | "disconnect" | "maintenance"] | ["emit", "batch"] | ["rooms", "join" | "leave"] => {
            Err(ApiError::method_not_allowed("POST"))
        }
        ["test", "emit-to-user"] | ["test", "analysis-events", _] if !api.is_production() => {
            Err(ApiError::method_not_allowed("POST"))
        }
        _ => Err(ApiError::new(404, "there is no such route")),
    }
}

async fn emit_event(api: &Api, body: &[u8]) -> Result<Answer, ApiError> {
    let fields = Fields::decode(body)?;
    let broadcast = emit::decode(&fields, &api.server, unix_ms())?;
    emit::check_namespace(&fields, &api.engine.namespaces, &broadcast)?;
    let Emitted { delivered, published } = api.emit(broadcast).await?;
    Ok(Answer::ok(json!({"delivered": delivered, "published": published}), "Event emitted"))
}

/// Each entry is emitted, or says what is wrong with it; the others do not mind.
async fn emit_batch(api: &Api, body: &[u8]) -> Result<Answer, ApiError> {
    let now = unix_ms();
    let mut broadcasts = Vec::new();
    let mut results = Vec::new();
    for fields in Fields::decode_list(body, BATCH_MAX)? {
        let decoded = emit::decode(&fields, &api.server, now).and_then(|broadcast| {
            emit::check_namespace(&fields, &api.engine.namespaces, &broadcast)?;
            Ok(broadcast)
        });
        results.push(decoded.map(|broadcast| broadcasts.push(broadcast)));
    }
    let mut emitted = api.emit_all(broadcasts).await?.into_iter();
    let mut refused = 0;
    let data: Vec<_> = results
        .into_iter()
        .map(|result| match result {
            Ok(()) => emitted.next().map_or(
                json!(null),
                |Emitted { delivered, published }| json!({"delivered": delivered, "published": published}),
            ),
            Err(error) => {
                refused += 1;
                json!({"statusCode": error.status, "message": error.message, "errors": error.errors})
            }
        })
        .collect();
    let message = match refused {
        0 => "Events emitted".to_owned(),
        _ => format!("Events emitted, but {refused} were not accepted"),
    };
    Ok(Answer::ok(data, &message))
}

/// `{user}` or `{socketId}`, and what else the route knows.
fn target(fields: &Fields<'_>) -> Result<Target, ApiError> {
    match (fields.either("user", "userId", NAME_BYTES_MAX)?, fields.string("socketId", NAME_BYTES_MAX)?) {
        (Some(user), None) if is_user_id(&user) => Ok(Target::User(user.into())),
        (Some(_), None) => Err(fields.refuse("user", "a user id has 1 to 128 bytes")),
        (None, Some(sid)) => Ok(Target::Socket(sid.into())),
        _ => Err(fields.refuse("user", "one of user and socketId is required")),
    }
}

async fn change_rooms(api: &Api, body: &[u8], change: fn(Box<str>) -> Change) -> Result<Answer, ApiError> {
    let fields = Fields::decode(body)?;
    fields.only(&["user", "userId", "socketId", "room"])?;
    let target = target(&fields)?;
    let room = fields.required("room", NAME_BYTES_MAX)?;
    if room.starts_with(USER_PREFIX) {
        return Err(fields.refuse("room", "the rooms of users are theirs alone"));
    }
    let (sockets, published) = api.change_everywhere(&target, &change((&*room).into())).await?;
    Ok(Answer::ok(json!({"room": room, "sockets": sockets, "published": published}), "Rooms changed"))
}

async fn disconnect(api: &Api, body: &[u8]) -> Result<Answer, ApiError> {
    let fields = Fields::decode(body)?;
    fields.only(&["user", "userId", "socketId", "reconnect"])?;
    let target = target(&fields)?;
    let ending = match fields.boolean("reconnect")? {
        Some(true) => Ending::Session,
        _ => Ending::Socket,
    };
    let (sockets, published) = api.change_everywhere(&target, &Change::End(ending)).await?;
    Ok(Answer::ok(json!({"sockets": sockets, "published": published}), "Disconnected"))
}

async fn maintenance(api: &Api, body: &[u8]) -> Result<Answer, ApiError> {
    let fields = Fields::decode(body)?;
    fields.only(&["enabled", "message", "until"])?;
    let enabled = fields.boolean("enabled")?.ok_or_else(|| fields.refuse("enabled", "is required"))?;
    let payload = Maintenance {
        enabled,
        message: fields.string("message", TEXT_BYTES_MAX)?,
        until: fields.string("until", NAME_BYTES_MAX)?,
        timestamp: events::iso_8601(unix_ms()),
        server: &api.server,
    };
    let args: Arc<[u8]> = events::args(events::MAINTENANCE_MODE, &payload).into();
    // Who connects while this is under way gets it twice rather than not at all.
    api.change(|| Mail::Stand(enabled.then(|| Arc::clone(&args)))).await?;
    let everywhere: Vec<_> = api
        .engine
        .namespaces
        .iter()
        .map(|namespace| Broadcast::new(namespace, Vec::new(), Arc::clone(&args)))
        .collect();
    let emitted = api.emit_all(everywhere).await?;
    let delivered: u64 = emitted.iter().map(|emitted| emitted.delivered).sum();
    let published = emitted.iter().all(|emitted| emitted.published);
    let data = json!({"enabled": enabled, "delivered": delivered, "published": published});
    Ok(Answer::ok(data, "Maintenance mode set"))
}

/// An event to rooms of the main namespace.
pub(super) fn to_rooms(rooms: Vec<Box<str>>, args: Arc<[u8]>) -> Broadcast {
    Broadcast::new("/", rooms, args)
}

async fn emit_to_user(api: &Api, body: &[u8]) -> Result<Answer, ApiError> {
    let fields = Fields::decode(body)?;
    fields.only(&["userId", "user", "event", "message"])?;
    let user =
        fields.either("userId", "user", NAME_BYTES_MAX)?.ok_or_else(|| fields.refuse("userId", "is required"))?;
    let event = emit::event_name(&fields)?;
    let message = fields.required("message", TEXT_BYTES_MAX)?;
    let payload = TestMessage { message: &message, timestamp: events::iso_8601(unix_ms()), server: &api.server };
    let room = user_room(&fields, "userId", &user)?;
    let Emitted { delivered, published } =
        api.emit(to_rooms(vec![room], events::args(&event, &payload).into())).await?;
    let message = match (delivered, published) {
        (0, false) => "The user is not connected",
        (0, true) => "The user is not connected here; the other instances have the event",
        _ => "Event sent to the user",
    };
    let data = json!({"userId": user, "event": event, "delivered": delivered, "published": published});
    Ok(Answer::ok(data, message))
}

fn analysis_events(api: &Arc<Api>, user: &str, body: &[u8]) -> Result<Answer, ApiError> {
    let fields = Fields::decode(body)?;
    fields.only(&["interviewId"])?;
    let interview_id = fields.string("interviewId", NAME_BYTES_MAX)?.unwrap_or("test-interview".into()).into_owned();
    let user = decode_user(user)?;
    let room = user_room(&fields, "userId", &user)?;
    if !demo::start(api, room, interview_id.clone()) {
        return Err(ApiError::new(429, format!("{} test analyses run already", demo::DEMOS_MAX)));
    }
    Ok(Answer::ok(json!({"userId": user, "interviewId": interview_id}), "Test analysis started"))
}

async fn status(api: &Api, user: &str) -> Result<Answer, ApiError> {
    let user = decode_user(user)?;
    let Whereabouts { sockets, instances, unknown } = api.whereabouts(&user).await?;
    let mut data = json!({"userId": user, "connected": sockets > 0, "sockets": sockets, "instances": instances});
    let mut message = if sockets > 0 { "User is connected" } else { "User is not connected" };
    if let Some(Unknown { missing, silent }) = unknown {
        data["missing"] = json!(missing);
        if missing != Some(0) {
            data["missingInstances"] = json!(silent);
            message = "Not all instances have answered";
        }
    }
    Ok(Answer::ok(data, message))
}

async fn stats(api: &Api) -> Result<Answer, ApiError> {
    let (shards, instances) = tokio::join!(api.stats(), api.instances());
    let shards = shards?;
    let total = |count: fn(&ShardStats) -> u64| shards.iter().map(count).sum::<u64>();
    let rows: Vec<_> = shards
        .iter()
        .enumerate()
        .map(|(number, shard)| {
            json!({
                "shard": number,
                "connections": shard.connections,
                "clients": shard.clients,
                "connected": shard.connected,
                "sockets": shard.sockets,
                "users": shard.users,
                "rooms": shard.rooms,
                "queuedBytes": shard.queued_bytes,
            })
        })
        .collect();
    let data = json!({
        "connected": total(|shard| shard.connected),
        "users": total(|shard| shard.users),
        "rooms": total(|shard| shard.rooms),
        "transports": {
            "websocket": total(|shard| shard.websocket),
            "polling": total(|shard| shard.polling),
        },
        "instances": instances,
        "shards": rows,
        "uptimeSeconds": api.started.elapsed().as_secs(),
        "timestamp": events::iso_8601(unix_ms()),
    });
    Ok(Answer::ok(data, "WebSocket statistics"))
}

fn decode_user(segment: &str) -> Result<String, ApiError> {
    let user = decode_percent(segment).map(|user| user.into_owned());
    user.filter(|user| is_user_id(user))
        .ok_or_else(|| ApiError::field("userId", "a user id has 1 to 128 bytes of UTF-8"))
}
