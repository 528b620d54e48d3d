//! Attempts by HTTP: other sessions' ids, odd and ambiguous requests, and the mixed connections of a proxy's pool.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::crowd::{event, token_for};
use crate::http::{Answer, Http, next_answer, request, take_answer};
use crate::stream::Stream;
use crate::theft::{ATTACKER, MARK, Theft};
use crate::websocket::upgrade_request;

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const PLAIN: &str = "Content-Type: text/plain;charset=UTF-8";
/// Time in which what must not come would have come.
const GRACE: Duration = Duration::from_millis(200);
const SEPARATOR: char = '\u{1e}';

/// A polling session: what its requests look like.
struct Session {
    sid: String,
    user: String,
    /// The id of its Socket.IO socket.
    socket: String,
}

impl Session {
    /// Connected and greeted, by requests on this connection.
    async fn connect(http: &mut Http, user: &str) -> Session {
        let answer = http.ask(&request("GET", POLLING, &[], "")).await.expect("an answer");
        let open: Value = serde_json::from_str(&answer.text()[1..]).expect("an open packet");
        let sid = open["sid"].as_str().expect("a sid").to_owned();
        let mut session = Session { sid, user: user.to_owned(), socket: String::new() };
        let answer = http.ask(&session.post(&format!("40{}", json!({"token": token_for(user)})))).await;
        assert_eq!(answer.expect("an answer").text(), "ok");
        let mut greeting = String::new();
        while !greeting.contains("connected") {
            greeting.push_str(&http.ask(&session.get()).await.expect("an answer").text());
            greeting.push(SEPARATOR);
        }
        let reply = greeting.split(SEPARATOR).next().and_then(|reply| reply.strip_prefix("40"));
        let reply: Value = reply.and_then(|reply| serde_json::from_str(reply).ok()).unwrap_or_default();
        session.socket = reply["sid"].as_str().unwrap_or_else(|| panic!("no sid: {greeting}")).to_owned();
        session
    }

    fn target(&self) -> String {
        format!("{POLLING}&sid={}", self.sid)
    }

    fn get(&self) -> String {
        request("GET", &self.target(), &[], "")
    }

    fn post(&self, body: &str) -> String {
        request("POST", &self.target(), &[PLAIN], body)
    }

    /// These are its own events.
    fn check_own(&self, payload: &str) {
        for packet in payload.split(SEPARATOR).filter(|packet| packet.starts_with("42")) {
            let (name, data) = event(&packet[2..]);
            assert!(name != "own" || data["owner"] == *self.user, "{} gets {packet}", self.user);
        }
    }
}

/// Sends bytes on a connection of their own and collects the answers to them. Behind them goes a request that ends the
/// connection. Answers to HEAD are looked at, but not taken apart: they have the length of a body and none.
async fn answers_to(scene: &mut Theft<'_>, bytes: &str) -> Vec<Answer> {
    scene.attempts += 1;
    let mut stream = Stream::connect(scene.route).await.expect("the server accepts");
    let last = request("GET", "/health", &["Connection: close"], "");
    // The server may have closed it before all is written.
    let _: io::Result<()> = stream.send(format!("{bytes}{last}").as_bytes()).await;
    // Of held polls and half requests no end comes.
    let reading = async { while let Ok(true) = stream.fill().await {} };
    let _ = tokio::time::timeout(GRACE, reading).await;
    let all = String::from_utf8_lossy(&stream.input);
    assert!(!all.contains(MARK), "{bytes} is answered with {all}");
    if bytes.starts_with("HEAD ") {
        return Vec::new();
    }
    let mut answers = Vec::new();
    while let Some(answer) = take_answer(&mut stream) {
        answers.push(answer);
    }
    answers
}

/// Sessions that somebody else has, or nobody.
pub async fn foreign_sids(scene: &mut Theft<'_>) {
    let mut http = Http::new(scene.route);
    let own = Session::connect(&mut http, ATTACKER).await;
    let mut sids = scene.sids.clone();
    sids.push(own.socket.clone());
    for number in 0..64 {
        let mut bytes = own.sid.clone().into_bytes();
        let at = number % bytes.len();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        sids.push(String::from_utf8(bytes).expect("ASCII"));
    }
    for shard in ["AA", "AAB", "AAE", "AAI", "AAM", "AAQ", "AP", "__"] {
        sids.extend([4, 8].map(|kept| format!("{shard}{}", &own.sid[shard.len()..][..18 - kept])));
        sids.push(format!("{shard}{}", &own.sid[shard.len()..]));
        sids.push(format!("{shard}{}", "A".repeat(20 - shard.len())));
    }
    sids.extend([own.sid.to_lowercase(), own.sid.to_uppercase(), format!("{}%00", own.sid), format!("{}%20", own.sid)]);
    sids.extend([own.sid[..19].to_owned(), format!("{}A", own.sid), format!("user:{}", own.user), "*".to_owned()]);
    sids.extend(["", "null", "undefined", "__proto__", "../", "%2e%2e"].map(str::to_owned));
    sids.retain(|sid| *sid != own.sid);
    scene.send_secret();
    for sid in sids {
        let target = format!("{POLLING}&sid={sid}");
        for bytes in [
            request("GET", &target, &[], ""),
            request("POST", &target, &[PLAIN], r#"42["join","user:victim"]"#),
            upgrade_request(&format!("/socket.io/?EIO=4&transport=websocket&sid={sid}"), &[]),
        ] {
            let answers = answers_to(scene, &bytes).await;
            // An empty sid is none: a handshake.
            let is_right = |answer: &Answer| answer.status == 400 || sid.is_empty();
            assert!(answers.first().is_none_or(is_right), "{bytes} is answered with {answers:?}");
        }
    }
    // Its own one beside another: its own content or a refusal.
    for other in [scene.sids[0].clone(), "A".repeat(20), String::new()] {
        for query in [format!("&sid={}&sid={other}", own.sid), format!("&sid={other}&sid={}", own.sid)] {
            assert_eq!(scene.emit_own(ATTACKER, "/"), 1);
            answers_to(scene, &request("GET", &format!("{POLLING}{query}"), &[], "")).await;
            let status = scene.server.get(&format!("/user/{ATTACKER}/status"));
            if status["sockets"] == 0 {
                Session::connect(&mut http, ATTACKER).await;
                return scene.check_victim().await;
            }
        }
    }
    scene.check_victim().await;
}

/// Odd methods, targets and headers: above all, no key, no API.
pub async fn odd_requests(scene: &mut Theft<'_>) {
    let body = json!({"user": "victim", "event": "theft", "data": {}}).to_string();
    let json_type = "Content-Type: application/json";
    let emit = "/api/v1/websocket/emit";
    let sid = scene.sids[0].clone();
    let targets = [
        emit.to_owned(),
        format!("/{emit}"),
        format!("{emit}/"),
        format!("{emit}?x-api-key=k"),
        "/api/v1/websocket/%65mit".to_owned(),
        "/API/v1/websocket/emit".to_owned(),
        "/socket.io/../api/v1/websocket/emit".to_owned(),
        "/socket.io/..%2fapi/v1/websocket/emit".to_owned(),
        "/health/../api/v1/websocket/emit".to_owned(),
        format!("http://localhost{emit}"),
        format!("http://victim@localhost{emit}"),
        format!("{emit}#/socket.io/"),
        format!("{emit};/socket.io/"),
        "*".to_owned(),
        "localhost:80".to_owned(),
        "/api/v1/websocket/test/emit-to-user".to_owned(),
        "/api/v1/websocket/test/analysis-events/victim".to_owned(),
        "/api/v1/websocket/rooms/join".to_owned(),
        "/api/v1/websocket/disconnect".to_owned(),
    ];
    let headers: [&[&str]; 9] = [
        &[json_type],
        &[json_type, "x-api-key:"],
        &[json_type, "x-api-key: wrong", "x-api-key: wrong too"],
        &[json_type, "Authorization: Bearer"],
        &[json_type, "Authorization: Bearer null", "Forwarded: for=127.0.0.1;host=localhost"],
        &[json_type, "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "X-User: victim"],
        &[json_type, "X-HTTP-Method-Override: GET", "X-Original-URL: /health", "X-Rewrite-URL: /health"],
        &[json_type, "Connection: close, x-api-key", "Host: victim"],
        &[PLAIN],
    ];
    let token = format!("Authorization: Bearer {}", token_for(ATTACKER));
    for target in &targets {
        for method in ["POST", "post", "PUT", "GET", "HEAD", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "P OST"]
        {
            let bytes = request(method, target, &[json_type, token.as_str()], &body);
            check_refused(&bytes, &answers_to(scene, &bytes).await);
        }
        for list in headers {
            let bytes = request("POST", target, list, &body);
            check_refused(&bytes, &answers_to(scene, &bytes).await);
        }
    }
    for method in ["PUT", "DELETE", "PATCH", "HEAD", "get", "GET ", "\r\nGET"] {
        for transport in ["polling", "websocket", "polling&transport=websocket", "Polling", "webtransport", ""] {
            let target = format!("/socket.io/?EIO=4&transport={transport}&sid={sid}");
            let bytes = request(method, &target, &[], "");
            let answers = answers_to(scene, &bytes).await;
            assert!(answers.first().is_none_or(|answer| answer.status >= 400), "{bytes}: {answers:?}");
        }
    }
    scene.check_victim().await;
}

/// Nothing was done for somebody without a key.
fn check_refused(bytes: &str, answers: &[Answer]) {
    // The last may be the one to `/health` that was sent behind.
    let done = answers.iter().find(|answer| answer.text().contains("\"success\":true"));
    assert!(done.is_none(), "{bytes} is answered with {answers:?}");
}

/// Requests whose length can be read in two ways, with another request inside, in front of a neighbour's poll on the
/// same connection: the neighbour's event must not be the answer to the attacker's request.
pub async fn mixed_lengths(scene: &mut Theft<'_>) {
    let mut http = Http::new(scene.route);
    let mut neighbours = Http::new(scene.route);
    let rows: [(&str, &str); 16] = [
        ("Transfer-Encoding: chunked", "3\r\n4hi\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3", "0\r\n\r\n{}"),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", "3\r\n4hi\r\n0\r\n\r\n{}"),
        ("Content-Length: 3\r\nContent-Length: 300", "4hi{}"),
        ("Content-Length: 300\r\nContent-Length: 3", "4hi{}"),
        ("Content-Length: 3, 3", "4hi{}"),
        ("Content-Length: +3", "4hi{}"),
        ("Content-Length: 0x3", "4hi{}"),
        ("Content-Length : 3", "4hi{}"),
        ("Content-Length: 3\r\n Content-Length: 300", "4hi{}"),
        ("Transfer-Encoding: xchunked\r\nContent-Length: 3", "4hi{}"),
        ("Transfer-Encoding: chunked, identity", "0\r\n\r\n{}"),
        ("Transfer-Encoding:\tchunked", "3\r\n4hi\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n{}"),
        ("Transfer-Encoding: chunked", "3;a=\"{}\r\n4hi\r\n0\r\n\r\n{}"),
        ("Content-Length: 3\r\nX: y\nTransfer-Encoding: chunked", "4hi{}"),
    ];
    for (number, (headers, body)) in rows.into_iter().enumerate() {
        let user = format!("neighbour-{number}");
        let own = Session::connect(&mut http, ATTACKER).await;
        let neighbour = Session::connect(&mut neighbours, &user).await;
        let inside = request("GET", &own.target(), &[], "");
        let body = body.replace("{}", &inside);
        let head = format!("POST {} HTTP/1.1\r\nHost: localhost\r\n{PLAIN}\r\n{headers}\r\n\r\n", own.target());
        // What the neighbour's poll will be answered with.
        let secret = json!({"user": user, "event": "secret", "data": {"mark": MARK}});
        assert_eq!(scene.server.post("/emit", &secret)["delivered"], 1);
        scene.attempts += 1;
        let mut stream = Stream::connect(scene.route).await.expect("the server accepts");
        let bytes = format!("{head}{body}{}", neighbour.get());
        let _: io::Result<()> = stream.send(bytes.as_bytes()).await;
        let reading = async {
            // A proxy gives the first answer to whom asked first, and a third one to whoever asks next.
            for number in 0.. {
                let Ok(answer) = next_answer(&mut stream).await else { return };
                let is_neighbours = answer.text().contains(MARK);
                assert_eq!(is_neighbours, number == 1 && answer.status == 200, "{headers}: {answer:?}");
                assert!(number <= 1, "{headers}: two requests are answered as three, {answer:?}");
            }
        };
        // Of a held poll or a body that is awaited no end comes.
        let _ = tokio::time::timeout(GRACE, reading).await;
    }
    scene.check_victim().await;
}

/// Requests of three sessions on one connection, as a proxy mixes them: each answer belongs to its request.
pub async fn a_proxys_pool(scene: &mut Theft<'_>) {
    let mut http = Http::new(scene.route);
    let users = ["pool-0", "pool-1", "pool-2"];
    let mut sessions = Vec::new();
    for user in users {
        sessions.push(Session::connect(&mut http, user).await);
    }
    let mut pool = Stream::connect(scene.route).await.expect("the server accepts");
    for round in 0..20 {
        scene.attempts += 1;
        // Three polls one behind the other; what they wait for comes in another order.
        let shift = round % 3;
        let turn: Vec<&Session> = (0..3).map(|number| &sessions[(number + shift) % 3]).collect();
        let mut bytes: String = turn.iter().map(|session| session.get()).collect();
        bytes.push_str(&turn[0].post(r#"42["joinRoom",{"roomId":"user:pool-1"}]"#));
        pool.send(bytes.as_bytes()).await.expect("the server reads");
        for session in turn.iter().rev() {
            assert_eq!(scene.emit_own(&session.user, "/"), 1);
        }
        for session in &turn {
            let answer = next_answer(&mut pool).await.expect("an answer");
            let text = answer.text();
            assert!(text.contains("\"own\""), "round {round}, {}: {answer:?}", session.user);
            session.check_own(&text);
        }
        assert_eq!(next_answer(&mut pool).await.expect("an answer").text(), "ok");
    }
    // A WebSocket of one session on a connection that carried others.
    let target = format!("/socket.io/?EIO=4&transport=websocket&sid={}", sessions[1].sid);
    pool.send(upgrade_request(&target, &[]).as_bytes()).await.expect("the server reads");
    assert_eq!(next_answer(&mut pool).await.expect("an answer").status, 101);
    for session in [&sessions[0], &sessions[2]] {
        assert_eq!(scene.emit_own(&session.user, "/"), 1);
        let answer = http.ask(&session.get()).await.expect("an answer");
        session.check_own(&answer.text());
    }
    scene.check_victim().await;
}
