//! Which request is answered how.

use std::iter;
use std::net::SocketAddr;
use std::slice;
use std::sync::Arc;

use serde_json::json;
use sockring_protocol::adapter::{Ending, TraceContext};
use sockring_protocol::http::{Head, Method, Query};

use crate::events::{self, TestMessage};
use crate::shard::{ShardStats, Target};

use super::across::{Changed, Emitted, SocketChange, Unknown, Whereabouts};
use super::answer::{ApiAnswer, ApiError, put};
use super::crowd::Class;
use super::emit::{USER, USER_ID, to_rooms, user_room};
use super::emitting;
use super::exposition::Exposition;
use super::fields::{Fields, decode_user};
use super::metrics::{OfApi, Traffic};
use super::nearest::{nearest, nearest_route};
use super::operations::{
    API, DISCONNECT, INTERVIEW_ID, RECONNECT, ROOM, ROOM_CHANGE, SOCKET_ID, TEST_ANALYSIS, TEST_EMIT, TEST_EVENT,
    TEST_MESSAGE, operations,
};
use super::words::{self, Done};
use super::{
    Api, Entrance, access, builds, demo, instances, kept, maintenance, metrics, minting, openapi, unix_ms, users,
};

/// What a request is about, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'h> {
    Health,
    Ready,
    Metrics,
    Page,
    /// Of the stock client: the file of this name.
    Build(&'h str),
    Stats,
    Instances,
    /// Which of them, as the query says.
    Users(Query<'h>),
    Events,
    /// The description of the API.
    Description,
    /// Of the user that this segment of the path names.
    Status(&'h str),
    /// What is kept for the user of this segment, and how the query narrows it.
    Kept(&'h str, Query<'h>),
    /// The same, taken back: the event that the other segment names, or all.
    Unkeep(&'h str, Option<&'h str>),
    Emit,
    EmitBatch,
    JoinRooms,
    LeaveRooms,
    Disconnect,
    Maintenance,
    SetMaintenance,
    MintToken,
    EmitToUser,
    AnalysisEvents(&'h str),
}

impl Route<'_> {
    /// What it is called in metrics and the log: nothing of what a peer has sent.
    pub(super) fn label(self) -> &'static str {
        match self {
            Route::Health => "GET /health",
            Route::Ready => "GET /ready",
            Route::Metrics => "GET /metrics",
            Route::Page => "GET /",
            Route::Build(_) => "GET client",
            Route::Description => "GET openapi.json",
            Route::Stats => "GET stats",
            Route::Instances => "GET instances",
            Route::Users(_) => "GET users",
            Route::Events => "GET events",
            Route::Status(_) => "GET user/:userId/status",
            Route::Kept(..) => "GET user/:userId/kept",
            Route::Unkeep(..) => "DELETE user/:userId/kept",
            Route::Emit => "POST emit",
            Route::EmitBatch => "POST emit/batch",
            Route::JoinRooms => "POST rooms/join",
            Route::LeaveRooms => "POST rooms/leave",
            Route::Disconnect => "POST disconnect",
            Route::Maintenance => "GET maintenance",
            Route::SetMaintenance => "POST maintenance",
            Route::MintToken => "POST test/token",
            Route::EmitToUser => "POST test/emit-to-user",
            Route::AnalysisEvents(_) => "POST test/analysis-events/:userId",
        }
    }

    /// Whether it is of the API and there is nothing to do but to get it.
    fn is_read(self) -> bool {
        use Route::{Description, Events, Instances, Stats, Status, Users};
        matches!(self, Stats | Instances | Users(_) | Events | Description | Status(_))
    }

    pub(super) fn class(self) -> Class {
        match self {
            Route::Health | Route::Ready => Class::Vital,
            Route::Metrics | Route::Page | Route::Build(_) => Class::Open,
            _ => Class::Keyed,
        }
    }
}

/// Whether this request is for a shard and not for us.
pub(super) fn is_engine_request(api: &Api, head: &Head<'_>) -> bool {
    api.engine.is_engine_path(head.path)
}

/// The file that a path under the Engine.IO path names.
fn file_of<'p>(api: &Api, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(&*api.engine.path).filter(|_| !api.engine.is_engine_path(path))
}

/// Decides by its head what a request gets, or why it gets nothing. Nothing of its body has been looked at.
pub(super) fn find<'h>(
    api: &Api,
    head: &Head<'h>,
    entrance: Entrance,
    peer: Option<SocketAddr>,
) -> Result<Route<'h>, ApiError> {
    // Where the API has an address of its own, it is there only.
    let has_api = api.settings.listen.is_none() || entrance == Entrance::Api;
    let has_page = has_api && (!api.is_production() || entrance == Entrance::Api);
    let has_builds = has_page || entrance != Entrance::Api;
    if let Some(route) = head.path.strip_prefix(API).filter(|_| has_api) {
        access::check(api, head, peer)?;
        let route = api_route(api, head.method, route, head.query)?;
        access::check_type(head)?;
        return Ok(route);
    }
    let known = || if has_api { routes(api) } else { Vec::new() };
    let route = match (file_of(api, head.path), head.path) {
        (Some(file), _) if has_builds && builds::named(file).is_some() => Route::Build(file),
        (Some(_), _) if has_builds => return Err(not_found(head.path, &known())),
        (_, "/") if has_page => {
            access::check_page(api, head)?;
            Route::Page
        }
        (_, "/") if !has_api && !api.is_production() => {
            return Err(ApiError::new(404, "the test page is at the address of the API (api_listen)"));
        }
        (_, "/health") => Route::Health,
        (_, "/ready") => Route::Ready,
        (_, "/metrics") if has_api => Route::Metrics,
        _ => return Err(not_found(head.path, &known())),
    };
    match head.method {
        Method::Get | Method::Head => Ok(route),
        _ => Err(ApiError::method_not_allowed("GET, HEAD")),
    }
}

/// Answers a request that was found to be about this.
/// What it emits is of its span, if it has one.
pub(super) async fn answer(
    api: &Arc<Api>,
    route: Route<'_>,
    head: &Head<'_>,
    body: &[u8],
    trace: Option<&TraceContext>,
) -> ApiAnswer {
    let answer = match route {
        Route::Health => Ok(ApiAnswer::bare(200, &json!({"status": "ok"}))),
        Route::Ready => Ok(ready(api).await),
        Route::Metrics => metrics_of(api, head).await,
        Route::Page => Ok(api.page.answer(head.host())),
        Route::Build(file) => builds::answer(file, head),
        Route::Stats => stats(api).await,
        Route::Instances => instances::list(api).await,
        Route::Users(query) => users::list(api, query).await,
        Route::Events => Ok(ApiAnswer::ok(events::constants(), "Event constants")),
        Route::Description => Ok(openapi::answer(api)),
        Route::Status(user) => status(api, user).await,
        Route::Kept(user, query) => kept::list(api, user, query).await,
        Route::Unkeep(user, id) => kept::take_back(api, user, id).await,
        Route::Emit => emitting::emit(api, body, trace).await,
        Route::EmitBatch => emitting::emit_batch(api, body, trace).await,
        Route::JoinRooms => change_rooms(api, body, Done::Joined).await,
        Route::LeaveRooms => change_rooms(api, body, Done::Left).await,
        Route::Disconnect => disconnect(api, body).await,
        Route::Maintenance => Ok(maintenance::get(api).await),
        Route::SetMaintenance => maintenance::set(api, body, trace).await,
        Route::MintToken => minting::mint(api, body),
        Route::EmitToUser => emit_to_user(api, body, trace).await,
        Route::AnalysisEvents(user) => analysis_events(api, user, body),
    };
    answer.unwrap_or_else(ApiAnswer::from)
}

/// What all shards count, and whether they would have traffic.
async fn metrics_of(api: &Api, head: &Head<'_>) -> Result<ApiAnswer, ApiError> {
    let shards = api.metrics().await?;
    let stats: Vec<_> = shards.iter().map(|metrics| metrics.stats).collect();
    let traffic = match unready_for(api, &stats).or_else(|| without_redis(api)) {
        None => Traffic::Wanted,
        Some(_) => Traffic::Unwanted,
    };
    let format = Exposition::preferred(head.header("accept"));
    Ok(metrics::answer(&shards, OfApi::new(api, traffic), format))
}

/// Whether this instance should get traffic: its shards answer, and one of them has room. Redis is mentioned where there
/// is one: without it this instance's clients are served on.
async fn ready(api: &Api) -> ApiAnswer {
    let redis = api.redis();
    let reason = unready(api).await.or_else(|| without_redis(api));
    let mut body = match reason {
        None => json!({"status": "ready"}),
        Some(reason) => json!({"status": "not ready", "reason": reason}),
    };
    if let Some(redis) = redis {
        put(&mut body, "redis", json!(redis.word));
    }
    ApiAnswer::bare(if reason.is_none() { 200 } else { 503 }, &body)
}

/// Where Redis is required.
fn without_redis(api: &Api) -> Option<&'static str> {
    api.redis().filter(|redis| redis.spoils_readiness).map(|_| "Redis is down")
}

/// Why this instance should get no traffic.
async fn unready(api: &Api) -> Option<&'static str> {
    let Ok(shards) = api.stats().await else { return Some("a shard does not answer") };
    unready_for(api, &shards)
}

/// The same by what all shards have said of themselves.
fn unready_for(api: &Api, shards: &[ShardStats]) -> Option<&'static str> {
    let total = |count: fn(&ShardStats) -> u64| shards.iter().map(count).sum::<u64>();
    // Those that idle go when others come.
    let has_room = api.capacity.has_room_for_connection() || total(|shard| shard.idle) > 0;
    let is_full = !has_room || total(|shard| shard.clients) >= api.capacity.limits().clients_max as u64;
    if shards.iter().any(|shard| shard.is_draining) {
        return Some("the server is shutting down");
    }
    if shards.iter().any(|shard| shard.is_slow) {
        return Some("a shard is overloaded");
    }
    is_full.then_some("there is no room for another client")
}

/// Nothing at this path; perhaps something is near it, or one of these routes of the API.
fn not_found(path: &str, routes: &[&'static str]) -> ApiError {
    // A route of the API without its prefix, or with a part of it.
    let behind = path.rsplit_once("websocket/").map_or(path.trim_start_matches('/'), |(_, behind)| behind);
    if let Some(route) = nearest_route(behind, routes) {
        return ApiError::new(404, format!("there is nothing here; did you mean {}?", full(route)));
    }
    let open = ["/health", "/ready", "/metrics"].into_iter().filter(|open| !routes.is_empty() || *open != "/metrics");
    match nearest(path, open) {
        Some(open) => ApiError::new(404, format!("there is nothing here; did you mean GET {open}?")),
        None => ApiError::new(404, "there is nothing here"),
    }
}

fn no_such_route(api: &Api, route: &str) -> ApiError {
    let routes = routes(api);
    let there_is = match nearest_route(route, &routes) {
        Some(route) => format!("did you mean {}?", full(route)),
        None => format!("there are {}", routes.join(", ")),
    };
    ApiError::new(404, format!("there is no such route; {there_is}"))
}

/// The routes that there are.
fn routes(api: &Api) -> Vec<&'static str> {
    operations(api.settings.strictness).map(|operation| operation.route).collect()
}

/// A route's method and its whole path.
fn full(route: &str) -> String {
    route.replacen(' ', &format!(" {API}"), 1)
}

/// A route of the API, by the path behind its prefix.
fn api_route<'h>(api: &Api, method: Method, route: &'h str, query: Query<'h>) -> Result<Route<'h>, ApiError> {
    let segments: Vec<&str> = route.split('/').collect();
    let route = match segments.as_slice() {
        ["stats"] => Route::Stats,
        ["instances"] => Route::Instances,
        ["users"] => Route::Users(query),
        ["events"] => Route::Events,
        ["openapi.json"] => Route::Description,
        ["user", user, "status"] => Route::Status(user),
        ["user", user, "kept"] => match method {
            Method::Get | Method::Head => Route::Kept(user, query),
            Method::Delete => Route::Unkeep(user, None),
            _ => return Err(ApiError::method_not_allowed("GET, HEAD, DELETE")),
        },
        ["user", user, "kept", id] => Route::Unkeep(user, Some(id)),
        ["emit"] => Route::Emit,
        ["emit", "batch"] => Route::EmitBatch,
        ["rooms", "join"] => Route::JoinRooms,
        ["rooms", "leave"] => Route::LeaveRooms,
        ["disconnect"] => Route::Disconnect,
        ["maintenance"] => match method {
            Method::Get | Method::Head => Route::Maintenance,
            Method::Post => Route::SetMaintenance,
            _ => return Err(ApiError::method_not_allowed("GET, HEAD, POST")),
        },
        ["test", "token"] if !api.is_production() => Route::MintToken,
        ["test", "emit-to-user"] if !api.is_production() => Route::EmitToUser,
        ["test", "analysis-events", user] if !api.is_production() => Route::AnalysisEvents(user),
        _ => return Err(no_such_route(api, route)),
    };
    match (route, method) {
        (Route::Maintenance | Route::SetMaintenance | Route::Kept(..), _) => Ok(route),
        (Route::Unkeep(..), Method::Delete) => Ok(route),
        (Route::Unkeep(..), _) => Err(ApiError::method_not_allowed("DELETE")),
        (route, Method::Get | Method::Head) if route.is_read() => Ok(route),
        (route, _) if route.is_read() => Err(ApiError::method_not_allowed("GET")),
        (_, Method::Post) => Ok(route),
        _ => Err(ApiError::method_not_allowed("POST")),
    }
}

/// `{user}` or `{socketId}`, and what else the route knows.
fn target(fields: &Fields<'_>) -> Result<Target, ApiError> {
    match (fields.either_id(&USER, &USER_ID)?, fields.text(&SOCKET_ID)?) {
        (Some(user), None) => Ok(Target::User(user.into())),
        (None, Some(sid)) => Ok(Target::Socket(sid.into())),
        _ => Err(fields.refuse("user", "one of user and socketId is required")),
    }
}

async fn change_rooms(api: &Api, body: &[u8], done: Done) -> Result<ApiAnswer, ApiError> {
    let fields = Fields::decode(body)?;
    fields.only(&ROOM_CHANGE)?;
    let target = target(&fields)?;
    let room = fields.required(&ROOM)?;
    let change = match done {
        Done::Joined => SocketChange::Join((&*room).into()),
        _ => SocketChange::Leave((&*room).into()),
    };
    let Changed { sockets, published, confirmed } = api.change_everywhere(&target, &change).await?;
    let mut data = json!({"room": room, "sockets": sockets, "published": published});
    if let Some(confirmed) = confirmed {
        put(&mut data, "confirmed", json!(confirmed));
    }
    Ok(ApiAnswer::ok(data, &words::changed(done, &target, (sockets, published))))
}

async fn disconnect(api: &Api, body: &[u8]) -> Result<ApiAnswer, ApiError> {
    let fields = Fields::decode(body)?;
    fields.only(&DISCONNECT)?;
    let target = target(&fields)?;
    let ending = match fields.boolean(&RECONNECT)? {
        Some(true) => Ending::Session,
        _ => Ending::Socket,
    };
    let Changed { sockets, published, .. } = api.change_everywhere(&target, &SocketChange::End(ending)).await?;
    let message = words::changed(Done::Ended, &target, (sockets, published));
    Ok(ApiAnswer::ok(json!({"sockets": sockets, "published": published}), &message))
}

async fn emit_to_user(api: &Api, body: &[u8], trace: Option<&TraceContext>) -> Result<ApiAnswer, ApiError> {
    let fields = Fields::decode(body)?;
    fields.only(&TEST_EMIT)?;
    let user = fields.either_id(&USER_ID, &USER)?.ok_or_else(|| fields.refuse("userId", "is required"))?;
    let event = fields.required(&TEST_EVENT)?;
    let message = fields.required(&TEST_MESSAGE)?;
    let payload = TestMessage { message: &message, timestamp: events::iso_8601(unix_ms()), server: &api.server };
    let room = user_room(&user);
    let mut broadcast = to_rooms(vec![room], events::args(&event, &payload).into());
    let span = api.begin_emit(trace, iter::once(&mut broadcast));
    let emitted = api.emit(broadcast).await;
    api.end_emit(span, emitted.as_ref().ok().map(slice::from_ref));
    let Emitted { delivered, published, .. } = emitted?;
    let message = match (delivered, published) {
        (0, false) => "The user is not connected",
        (0, true) => "The user is not connected here; the other instances have the event",
        _ => "Event sent to the user",
    };
    let data = json!({"userId": user, "event": event, "delivered": delivered, "published": published});
    Ok(ApiAnswer::ok(data, message))
}

fn analysis_events(api: &Arc<Api>, user: &str, body: &[u8]) -> Result<ApiAnswer, ApiError> {
    let fields = Fields::decode_if_any(body)?;
    fields.only(&TEST_ANALYSIS)?;
    let interview_id = fields.text(&INTERVIEW_ID)?.unwrap_or("test-interview".into()).into_owned();
    let user = decode_user(user)?;
    let room = user_room(&user);
    if !demo::start(api, room, interview_id.clone()) {
        return Err(ApiError::new(429, format!("{} test analyses run already", demo::DEMOS_MAX)));
    }
    Ok(ApiAnswer::ok(json!({"userId": user, "interviewId": interview_id}), "Test analysis started"))
}

async fn status(api: &Api, user: &str) -> Result<ApiAnswer, ApiError> {
    let user = decode_user(user)?;
    let (whereabouts, kept) = tokio::join!(api.whereabouts(&user), api.kept_count(&user));
    let (Whereabouts { sockets, instances, unknown }, kept) = (whereabouts?, kept?);
    let mut data =
        json!({"userId": user, "connected": sockets > 0, "sockets": sockets, "instances": instances, "kept": kept});
    let mut message = if sockets > 0 { "User is connected" } else { "User is not connected" };
    if let Some(Unknown { missing, silent }) = unknown {
        put(&mut data, "missing", json!(missing));
        if missing != Some(0) {
            put(&mut data, "missingInstances", json!(silent));
            message = "Not all instances have answered";
        }
    }
    Ok(ApiAnswer::ok(data, message))
}

async fn stats(api: &Api) -> Result<ApiAnswer, ApiError> {
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
        "recovery": {
            "events": total(|shard| shard.recovery_events),
            "bytes": total(|shard| shard.recovery_bytes),
            "oldestSeconds": shards.iter().map(|shard| shard.recovery_oldest_ms / 1_000).max(),
        },
        "kept": {
            "events": total(|shard| shard.kept_events),
            "users": total(|shard| shard.kept_users),
            "bytes": total(|shard| shard.kept_bytes),
        },
        "shards": rows,
        "maintenance": *api.maintenance.lock().await,
        "uptimeSeconds": api.started.elapsed().as_secs(),
        "timestamp": events::iso_8601(unix_ms()),
    });
    Ok(ApiAnswer::ok(data, "WebSocket statistics"))
}
