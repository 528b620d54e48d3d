//! Nothing that a client says, and no form in which it says it, makes one user receive another user's event.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::client::{Happening, Kind};
use crate::crowd::{Crowd, Told, event, token_for};
use crate::http::next_answer;
use crate::server::{KEY, Server};
use crate::stream::{Route, Stream};
use crate::websocket::{Message, WebSocket, upgrade_request};
use crate::{alone, attempts, environment};

/// What only the victim may see.
pub const MARK: &str = "for the victim's eyes";
const VICTIM: &str = "victim";
pub const ATTACKER: &str = "attacker";
const TARGET: &str = "/socket.io/?EIO=4&transport=websocket";

#[test]
fn no_request_makes_one_user_receive_anothers_event() {
    let _alone = alone();
    let mut environment = environment(100);
    environment.push(("SOCKRING_NAMESPACES", "/,/custom".to_owned()));
    // So that the API answers the backend alone.
    environment.push(("API_KEY", KEY.to_owned()));
    let server = Server::start(&environment);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let mut scene = Theft::begin(&server).await;
        odd_user_ids(&mut scene).await;
        connect_payloads(&mut scene).await;
        client_events(&mut scene).await;
        handshake_headers(&mut scene).await;
        namespaces(&mut scene).await;
        attempts::foreign_sids(&mut scene).await;
        attempts::odd_requests(&mut scene).await;
        attempts::mixed_lengths(&mut scene).await;
        attempts::a_proxys_pool(&mut scene).await;
        println!("{} attempts; the victim got its {} events and nobody else one", scene.attempts, scene.secrets);
    });
}

/// The victim's clients, and what was sent to it.
pub struct Theft<'s> {
    pub server: &'s Server,
    pub route: Route,
    pub attempts: usize,
    /// The ids of the victim's Socket.IO sockets.
    pub sids: Vec<String>,
    crowd: Crowd,
    secrets: u64,
    /// What each of the victim's clients has received.
    received: Vec<u64>,
}

impl Theft<'_> {
    async fn begin(server: &Server) -> Theft<'_> {
        let mut crowd = Crowd::new(server.address(), 0);
        let kinds = [Kind::WebSocket, Kind::Upgrading, Kind::Polling];
        for kind in kinds {
            crowd.add(crowd.plan(VICTIM, kind));
        }
        let (mut sids, mut greeted, mut upgraded) = (vec![String::new(); kinds.len()], 0, 0);
        while greeted < kinds.len() || upgraded == 0 {
            match crowd.next("the victim").await {
                Told::Client(id, Happening::Connected { sid, .. }) => sids[id as usize] = sid,
                Told::Client(_, Happening::Event(_)) => greeted += 1,
                Told::Client(_, Happening::Upgraded) => upgraded += 1,
                other => panic!("{other:?}"),
            }
        }
        let route = Route::to(server.address());
        Theft { server, route, attempts: 0, sids, crowd, secrets: 0, received: vec![0; kinds.len()] }
    }

    /// Sends the victim an event.
    #[track_caller]
    pub fn send_secret(&mut self) {
        self.secrets += 1;
        let body = json!({"user": VICTIM, "event": "secret", "data": {"n": self.secrets, "mark": MARK}});
        assert_eq!(self.server.post("/emit", &body)["delivered"], self.received.len(), "the victim's three clients");
    }

    /// The victim has all that was sent to it, in order, and nothing else.
    pub async fn check_victim(&mut self) {
        self.send_secret();
        while self.received.iter().any(|received| *received < self.secrets) {
            match self.crowd.next("the victim's events").await {
                Told::Client(id, Happening::Event(text)) => {
                    let (name, data) = event(&text);
                    if name == "fence" {
                        continue;
                    }
                    let received = &mut self.received[id as usize];
                    *received += 1;
                    let due = (name.as_str(), &data["n"]) == ("secret", &json!(*received));
                    assert!(due, "client {id} of the victim gets {text}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// An event to everybody: what was sent before it has arrived with it.
    pub fn fence(&self, namespace: &str) {
        let body = json!({"broadcast": true, "event": "fence", "namespace": namespace});
        self.server.post("/emit", &body);
    }

    /// Emits to a user by its id; says to how many.
    #[track_caller]
    pub fn emit_own(&self, user: &str, namespace: &str) -> Value {
        let body = json!({"user": user, "event": "own", "data": {"owner": user}, "namespace": namespace});
        self.server.post("/emit", &body)["delivered"].clone()
    }
}

/// A WebSocket that says what it likes.
pub struct Attacker {
    socket: WebSocket,
    /// All that it heard.
    heard: Vec<String>,
}

impl Attacker {
    /// Opens one with these header lines and more of a query.
    async fn open(scene: &mut Theft<'_>, query: &str, headers: &[&str]) -> Attacker {
        scene.attempts += 1;
        let mut stream = Stream::connect(scene.route).await.expect("the server accepts");
        let request = upgrade_request(&format!("{TARGET}{query}"), headers);
        stream.send(request.as_bytes()).await.expect("the server reads");
        let answer = next_answer(&mut stream).await.expect("an answer");
        assert_eq!(answer.status, 101, "{headers:?}: {}", answer.text());
        let mut attacker = Attacker { socket: WebSocket::on(stream), heard: Vec::new() };
        assert!(attacker.next().await.is_some_and(|open| open.starts_with("0{")));
        attacker
    }

    /// Connected to `/` with a token.
    async fn connect(scene: &mut Theft<'_>, user: &str) -> Attacker {
        let mut attacker = Attacker::open(scene, "", &[]).await;
        attacker.send(&format!("40{}", json!({"token": token_for(user)}))).await;
        assert_eq!(attacker.user().await.as_deref(), Some(user));
        attacker
    }

    async fn send(&mut self, packet: &str) {
        self.socket.send(packet).await.expect("the server reads");
    }

    /// The next packet, if it is not closed.
    async fn next(&mut self) -> Option<String> {
        match self.socket.message().await {
            Ok(Message::Text(text)) => {
                assert!(!text.contains(MARK), "an attacker hears {text}");
                self.heard.push(text.clone());
                Some(text)
            }
            _ => None,
        }
    }

    /// Who it is after a CONNECT; nobody if it was refused.
    async fn user(&mut self) -> Option<String> {
        let reply = self.next().await?;
        if reply.starts_with("44") {
            return None;
        }
        assert!(reply.starts_with("40"), "{reply}");
        let greeting = self.next().await?;
        let (name, data) = event(greeting.trim_start_matches(|sign| sign != '['));
        assert_eq!(name, "connected", "{greeting}");
        data["userId"].as_str().map(str::to_owned)
    }

    /// What it hears up to the fence, the fence not included; all up to now, if it was closed.
    async fn up_to_fence(&mut self) -> Vec<String> {
        self.heard.clear();
        while let Some(text) = self.next().await {
            if text.contains("\"fence\"") {
                self.heard.pop();
                break;
            }
        }
        std::mem::take(&mut self.heard)
    }
}

async fn odd_user_ids(scene: &mut Theft<'_>) {
    let mut users: Vec<String> = [
        "victim,other",
        "victim,",
        ",victim",
        "victim/",
        "victim/status",
        "/victim",
        "Victim",
        "VICTIM",
        "victim ",
        " victim",
        "victim\0",
        "\0victim",
        "victim\n",
        "victim\u{1e}",
        "vic%74im",
        "victim%00",
        "vi\u{301}ctim",
        "v\u{ed}ctim",
        "v\u{456}ctim",
        "user:victim",
        "user:user:victim",
        "user:",
        "*",
        "%",
        "%2f",
        "victim\"],[\"x",
        "__proto__",
        "constructor",
        "null",
        "0",
        "victim#",
        "victim?x=1",
        "victim*",
    ]
    .map(str::to_owned)
    .to_vec();
    users.extend(scene.sids.iter().flat_map(|sid| [sid.clone(), format!("user:{sid}")]));
    users.push("v".repeat(128));
    let mut attackers = Vec::new();
    for user in &users {
        attackers.push(Attacker::connect(scene, user).await);
    }
    scene.send_secret();
    for user in &users {
        assert_eq!(scene.emit_own(user, "/"), 1, "{user:?}");
        let encoded: String = user.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let status = scene.server.get(&format!("/user/{encoded}/status"));
        assert_eq!((&status["userId"], &status["sockets"]), (&json!(user), &json!(1)), "{status}");
    }
    // The victim's own socket, by its id: nobody whose user id it is gets that.
    for sid in scene.sids.clone() {
        let body = json!({"room": sid, "event": "fence", "data": {"mark": MARK}});
        assert_eq!(scene.server.post("/emit", &body)["delivered"], 1, "{body}");
    }
    scene.fence("/");
    for (user, attacker) in users.iter().zip(&mut attackers) {
        let heard = attacker.up_to_fence().await;
        let [text] = heard.as_slice() else { panic!("{user:?} hears {heard:?}") };
        let (name, data) = event(&text[2..]);
        assert_eq!((name.as_str(), &data["owner"]), ("own", &json!(user)));
    }
    scene.check_victim().await;
}

/// A token that says what it likes and that the server's secret has not signed.
fn forged(header: &Value, signature: &str) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(&json!({"_id": VICTIM, "exp": 9_999_999_999_u64})))
}

fn forgeries() -> Vec<String> {
    let own = token_for(ATTACKER);
    let signature = own.rsplit('.').next().unwrap_or_default().to_owned();
    vec![
        forged(&json!({"alg": "none"}), ""),
        forged(&json!({"alg": "none"}), &signature),
        forged(&json!({"alg": "HS256", "typ": "JWT"}), &signature),
        forged(&json!({"alg": "HS256", "typ": "JWT"}), ""),
        forged(&json!({"alg": "RS256", "typ": "JWT"}), &signature),
        forged(&json!({"alg": ["HS256"]}), &signature),
        format!("{own}.{own}"),
        VICTIM.to_owned(),
        format!("user:{VICTIM}"),
    ]
}

async fn connect_payloads(scene: &mut Theft<'_>) {
    let own = token_for(ATTACKER);
    let mut payloads = vec![
        format!(r#"{{"token":"{own}","user":"{VICTIM}","userId":"{VICTIM}","_id":"{VICTIM}"}}"#),
        format!(r#"{{"token":"{own}","room":"user:{VICTIM}","rooms":["user:{VICTIM}"],"join":"user:{VICTIM}"}}"#),
        format!(r#"{{"token":["{own}"]}}"#),
        format!(r#"{{"token":{{"_id":"{VICTIM}","token":"{own}"}}}}"#),
        format!(r#"{{"auth":{{"token":"{own}"}}}}"#),
        format!(r#"{{"token":"{own}\u0000"}}"#),
        format!(r#"{{"__proto__":{{"_id":"{VICTIM}"}},"token":"{own}"}}"#),
        format!(r#"{{"token":"{own}","pid":"{}","offset":"0"}}"#, scene.sids[0]),
        format!(r#"{{"token":"{own}","sid":"{}"}}"#, scene.sids[0]),
    ];
    for forgery in forgeries() {
        payloads.push(json!({"token": forgery}).to_string());
        payloads.push(format!(r#"{{"token":"{own}","token":"{forgery}"}}"#));
        payloads.push(format!(r#"{{"token":"{forgery}","token":"{own}"}}"#));
        payloads.push(format!(r#"{{"token":"{forgery}","to\u006ben":"{own}"}}"#));
        payloads.push(format!(r#"{{"token":"{own}","auth":{{"token":"{forgery}"}},"query":{{"token":"{forgery}"}}}}"#));
    }
    let mut attackers = Vec::new();
    for payload in payloads {
        let mut attacker = Attacker::open(scene, "", &[]).await;
        attacker.send(&format!("40{payload}")).await;
        let user = attacker.user().await;
        assert!(user.as_deref().is_none_or(|user| user == ATTACKER), "{payload} makes it {user:?}");
        if user.is_some() {
            attackers.push(attacker);
        }
    }
    scene.send_secret();
    assert_eq!(scene.emit_own(ATTACKER, "/"), attackers.len());
    scene.fence("/");
    for attacker in &mut attackers {
        let heard = attacker.up_to_fence().await;
        assert!(heard.len() == 1 && heard[0].contains("\"own\""), "{heard:?}");
    }
    scene.check_victim().await;
}

async fn client_events(scene: &mut Theft<'_>) {
    let sid = scene.sids[0].clone();
    let mut packets = Vec::new();
    for name in ["join", "joinRoom", "subscribe", "room", "leave", "message", "emit", "secret", "broadcast"] {
        for argument in [
            json!(format!("user:{VICTIM}")),
            json!([format!("user:{VICTIM}")]),
            json!({"room": format!("user:{VICTIM}"), "roomId": format!("user:{VICTIM}"), "user": VICTIM}),
            json!({"userId": VICTIM, "socketId": sid}),
            json!(sid),
        ] {
            packets.push(format!("42{}", json!([name, argument])));
            packets.push(format!("427{}", json!([name, argument])));
        }
    }
    let reserved = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
    let ends = [
        reserved.map(|name| format!("42{}", json!([name, {"user": VICTIM}]))).to_vec(),
        vec![format!(r#"40{{"token":"{}"}}"#, token_for(VICTIM)), r#"44{"message":"x"}"#.to_owned(), "42{}".to_owned()],
        vec!["430[1]".to_owned(), r#"451-["join",{"_placeholder":true,"num":0}]"#.to_owned()],
    ];
    let mut attackers = vec![Attacker::connect(scene, ATTACKER).await];
    for packet in &packets {
        attackers[0].send(packet).await;
        scene.attempts += 1;
    }
    for packet in &ends.concat() {
        let mut attacker = Attacker::connect(scene, ATTACKER).await;
        attacker.send(packet).await;
        attackers.push(attacker);
    }
    scene.send_secret();
    scene.fence("/");
    for attacker in &mut attackers {
        let heard = attacker.up_to_fence().await;
        assert_eq!(heard, [""; 0], "answers to packets that grant nothing");
    }
    scene.check_victim().await;
}

async fn handshake_headers(scene: &mut Theft<'_>) {
    let own = format!("Authorization: Bearer {}", token_for(ATTACKER));
    let mut lists: Vec<Vec<String>> = Vec::new();
    for forgery in forgeries() {
        let foreign = format!("Authorization: Bearer {forgery}");
        lists.push(vec![foreign.clone()]);
        lists.push(vec![own.clone(), foreign.clone()]);
        lists.push(vec![foreign.clone(), own.clone()]);
        lists.push(vec![foreign, format!("authorization: bearer {}", token_for(ATTACKER))]);
        lists.push(vec![format!("{own}, Bearer {forgery}")]);
    }
    for name in ["X-User", "X-User-Id", "X-Forwarded-User", "Remote-User", "X-Auth-User", "Cookie", "x-api-key"] {
        lists.push(vec![own.clone(), format!("{name}: {VICTIM}")]);
        lists.push(vec![format!("{name}: {VICTIM}"), own.clone()]);
    }
    lists.push(vec![own.clone(), format!("Forwarded: for=127.0.0.1;by={VICTIM};user={VICTIM}")]);
    lists.push(vec![own.clone(), format!("Cookie: io={}; sid={0}; token={VICTIM}", scene.sids[0])]);
    let mut attackers = Vec::new();
    for list in &lists {
        let headers: Vec<&str> = list.iter().map(String::as_str).collect();
        let query = format!("&user={VICTIM}&token={VICTIM}&room=user:{VICTIM}&_id={VICTIM}");
        let mut attacker = Attacker::open(scene, &query, &headers).await;
        attacker.send("40").await;
        let user = attacker.user().await;
        assert!(user.as_deref().is_none_or(|user| user == ATTACKER), "{headers:?} make it {user:?}");
        if user.is_some() {
            attackers.push(attacker);
        }
    }
    assert!(attackers.len() >= 10, "the header is read at all: {}", attackers.len());
    scene.send_secret();
    scene.fence("/");
    for attacker in &mut attackers {
        assert_eq!(attacker.up_to_fence().await, [""; 0]);
    }
    scene.check_victim().await;
}

/// One client with two users, one in each namespace.
async fn namespaces(scene: &mut Theft<'_>) {
    let connect = |namespace: &str, user: &str| format!("40{namespace}{}", json!({"token": token_for(user)}));
    for order in [["/custom", "/"], ["/", "/custom"]] {
        let mut attacker = Attacker::open(scene, "", &[]).await;
        for namespace in order {
            let (prefix, user) = if namespace == "/" { ("", ATTACKER) } else { ("/custom,", "other") };
            attacker.send(&connect(prefix, user)).await;
            let reply = attacker.next().await.expect("a reply");
            assert!(reply.starts_with(&format!("40{prefix}{{")), "{reply}");
            let greeting = attacker.next().await.expect("a greeting");
            let (_, data) = event(greeting.trim_start_matches(|sign| sign != '['));
            assert_eq!(data["userId"], user, "{greeting}");
        }
        for forgery in forgeries() {
            scene.attempts += 1;
            let mut stranger = Attacker::open(scene, "", &[]).await;
            stranger.send(&format!("40/custom,{}", json!({"token": forgery}))).await;
            let reply = stranger.next().await.expect("a reply");
            assert!(reply.starts_with("44/custom,"), "{forgery}: {reply}");
        }
        scene.send_secret();
        let here = [("/", ATTACKER, 1), ("/custom", "other", 1), ("/", "other", 0), ("/custom", ATTACKER, 0)];
        for (namespace, user, count) in here.into_iter().chain([("/custom", VICTIM, 0)]) {
            assert_eq!(scene.emit_own(user, namespace), count, "{user} in {namespace}");
        }
        scene.fence("/");
        scene.fence("/custom");
        // Each namespace has its own fence; between the two no order is promised.
        let (mut heard, rest) = (attacker.up_to_fence().await, attacker.up_to_fence().await);
        heard.extend(rest);
        heard.sort();
        let [custom, main] = heard.as_slice() else { panic!("{heard:?}") };
        assert!(custom.starts_with(r#"42/custom,["own",{"owner":"other""#), "{custom}");
        assert!(main.starts_with(&format!(r#"42["own",{{"owner":"{ATTACKER}""#)), "{main}");
        attacker.socket.close().await;
        scene.check_victim().await;
    }
}
