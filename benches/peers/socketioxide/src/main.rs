//! The benchmark's program on socketioxide and axum.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::ser::{SerializeTupleStruct, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{Data, MaybeExtension, SocketRef, State as SocketState, TryData};
use socketioxide::handler::ConnectHandler;
use tokio::net::TcpSocket;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The load opens connections faster than a usual queue takes them.
const BACKLOG: u32 = 65_535;

fn main() {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(3000);
    let threads = std::env::var("THREADS").ok().and_then(|threads| threads.parse().ok()).unwrap_or(1);
    let mut runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(threads).enable_all().build().expect("a runtime");
    runtime.block_on(serve(port));
}

async fn serve(port: u16) {
    let product = Arc::new(Product::from_environment());
    let (layer, io) = SocketIo::builder().with_state(Arc::clone(&product)).build_layer();
    io.ns("/", connected.with(admit));
    let app = Router::new()
        .route("/api/v1/websocket/emit", post(emit))
        .route("/api/v1/websocket/emit/batch", post(emit_batch))
        .with_state(Backend { io, product })
        .layer(layer);

    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind((Ipv4Addr::LOCALHOST, port).into()).expect("a free port");
    let listener = socket.listen(BACKLOG).expect("a listener");
    println!("listening on http://{}", listener.local_addr().expect("an address"));
    // Node and Bun do this by themselves.
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("an option"));
    axum::serve(listener, app).await.expect("a server");
}

/// What the program knows from its environment.
struct Product {
    name: String,
    /// None: everyone is let in.
    key: Option<DecodingKey>,
    rules: Validation,
}

impl Product {
    fn from_environment() -> Self {
        let mut rules = Validation::new(Algorithm::HS256);
        // As jsonwebtoken on Node: `exp` counts where there is one.
        rules.required_spec_claims.clear();
        rules.leeway = 0;
        let key = match std::env::var("NO_AUTH").as_deref() {
            Ok("1") => None,
            _ => {
                let secret =
                    std::env::var("ACCESS_TOKEN_SECRET").expect("ACCESS_TOKEN_SECRET is not set (nor NO_AUTH=1)");
                Some(DecodingKey::from_secret(secret.as_bytes()))
            }
        };
        Self { name: std::env::var("SERVER_NAME").unwrap_or_else(|_| "development".to_owned()), key, rules }
    }
}

#[derive(Clone)]
struct UserId(String);

#[derive(Deserialize)]
struct Handshake {
    token: String,
}

#[derive(Clone, Deserialize)]
struct Claims {
    #[serde(rename = "_id")]
    id: String,
}

#[derive(Debug)]
struct AuthenticationFailed;

impl fmt::Display for AuthenticationFailed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authentication failed")
    }
}

async fn admit(
    socket: SocketRef,
    TryData(handshake): TryData<Handshake>,
    SocketState(product): SocketState<Arc<Product>>,
) -> Result<(), AuthenticationFailed> {
    let Some(key) = &product.key else { return Ok(()) };
    let token = handshake.map_err(|_| AuthenticationFailed)?.token;
    let decoded = jsonwebtoken::decode::<Claims>(&token, key, &product.rules).map_err(|_| AuthenticationFailed)?;
    if decoded.claims.id.is_empty() {
        return Err(AuthenticationFailed);
    }
    socket.extensions.insert(UserId(decoded.claims.id));
    Ok(())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connected<'a> {
    message: &'a str,
    user_id: &'a str,
    socket_id: &'a str,
    timestamp: String,
    server: &'a str,
}

async fn connected(
    socket: SocketRef,
    MaybeExtension(user): MaybeExtension<UserId>,
    SocketState(product): SocketState<Arc<Product>>,
) {
    let socket_id = socket.id.to_string();
    let user_id = user.map_or_else(|| socket_id.clone(), |UserId(id)| id);
    socket.join(format!("user:{user_id}"));
    socket.on("message", async |socket: SocketRef, Data::<Arguments>(arguments)| {
        socket.emit("message-back", &arguments).ok();
    });
    let greeting = Connected {
        message: "Connected to the notification server",
        user_id: &user_id,
        socket_id: &socket_id,
        timestamp: now(),
        server: &product.name,
    };
    socket.emit("connected", &greeting).ok();
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// All arguments of an event. socketioxide takes what says that it is a tuple for all of them, anything else for the first.
struct Arguments(Vec<Value>);

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Arguments;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("arguments")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Arguments, A::Error> {
                let mut arguments = Vec::with_capacity(1);
                while let Some(argument) = list.next_element()? {
                    arguments.push(argument);
                }
                Ok(Arguments(arguments))
            }
        }
        deserializer.deserialize_tuple_struct("Arguments", 1, All)
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_tuple_struct("Arguments", self.0.len())?;
        for argument in &self.0 {
            list.serialize_field(argument)?;
        }
        list.end()
    }
}

#[derive(Clone)]
struct Backend {
    io: SocketIo,
    product: Arc<Product>,
}

#[derive(Deserialize)]
struct Emit {
    #[serde(default)]
    broadcast: bool,
    user: Option<String>,
    event: String,
    #[serde(default)]
    data: Value,
}

async fn emit(State(backend): State<Backend>, Json(emit): Json<Emit>) -> Response {
    match backend.emit(emit).await {
        Some(data) => answer(data, "Event emitted"),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn emit_batch(State(backend): State<Backend>, Json(list): Json<Vec<Emit>>) -> Response {
    let mut data = Vec::with_capacity(list.len());
    for emit in list {
        let Some(delivered) = backend.emit(emit).await else { return StatusCode::BAD_REQUEST.into_response() };
        data.push(delivered);
    }
    answer(Value::Array(data), "Events emitted")
}

fn answer(data: Value, message: &str) -> Response {
    Json(json!({"statusCode": 200, "data": data, "message": message, "success": true})).into_response()
}

impl Backend {
    /// None: it does not say to whom.
    async fn emit(&self, mut emit: Emit) -> Option<Value> {
        self.stamp(&mut emit.data);
        // A full queue of a receiver is an error of the whole emit here; the others have it.
        match emit.user {
            _ if emit.broadcast => self.io.emit(&emit.event, &emit.data).await.ok(),
            Some(user) => self.io.to(format!("user:{user}")).emit(&emit.event, &emit.data).await.ok(),
            None => return None,
        };
        // How many that were, socketioxide says only by making a list of them.
        Some(json!({"delivered": 0, "published": false}))
    }

    /// As in sockring, an object says when and where it was sent; so the bytes on the wire are the same.
    fn stamp(&self, data: &mut Value) {
        if let Value::Object(fields) = data {
            fields.entry("timestamp").or_insert_with(|| now().into());
            fields.entry("server").or_insert_with(|| self.product.name.clone().into());
        }
    }
}
