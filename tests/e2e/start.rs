//! How it starts, what it says, and how it refuses to start.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;
use sockring::events::EVENTS;

use crate::client::Client;
use crate::command::{finish, limited, run};
use crate::server::{SECRET, Server, data, token_for};

/// A settings file of this test.
fn settings_file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).expect("the directory for temporary files can be written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn without_any_setting_it_prints_a_token_a_page_and_a_request_that_work() {
    let server = Server::start_bare(&[]);
    server.line_with("ACCESS_TOKEN_SECRET is not set");
    server.line_with("A token for the user `demo`");
    let token = server.line_with("ey").trim().to_owned();
    let mut client = Client::connect(server.address(), &token);
    assert_eq!(client.greeting["userId"], "demo");

    let page = server.line_with("/#token=");
    assert_eq!(page.trim(), format!("http://localhost:{}/#token={token}", server.port()));
    let answer = server.connect().get("/");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));

    // The printed request, word by word, but not by curl.
    let curl = [server.line_with("curl -X POST"), server.line_with("-H "), server.line_with("-d ")].join(" ");
    let words: Vec<&str> = curl.split('\'').collect();
    let url = curl.split_whitespace().find(|word| word.starts_with("http://")).expect("a URL");
    let (authority, path) = url["http://".len()..].split_once('/').expect("a path");
    assert_eq!(authority, format!("localhost:{}", server.port()));
    let (header, body) = (words[1], words[3]);
    let length = body.len();
    let mut connection = server.connect();
    connection.send(format!(
        "POST /{path} HTTP/1.1\r\nHost: {authority}\r\n{header}\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    let answer = connection.answer();
    assert_eq!((answer.status, &data(&answer.json())["delivered"]), (200, &Value::from(1)));
    let (event, payload) = client.event();
    assert_eq!((event.as_str(), &payload["interviewId"]), ("analysis:started", &Value::from("42")));
}

#[test]
fn in_production_it_prints_no_token() {
    let server = Server::start(&[("NODE_ENV", "production"), ("API_KEY", "key")]);
    assert_eq!(server.connect().get("/").status, 404);
    server.signal(Signal::TERM);
    let ended = server.finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("ey"), "{ended:?}");
}

#[test]
fn a_signal_ends_it_and_its_clients() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(&[]);
        let mut client = server.client("alice");
        server.signal(signal);
        // At the engine's level: a DISCONNECT would keep the client from coming back by itself.
        client.socket.close_code();
        let ended = server.finish();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn subcommands() {
    let ended = run(&["events"], &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let events: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(events.as_object().expect("an object").len(), EVENTS.len());
    for (constant, event) in EVENTS {
        assert_eq!(events[constant], event);
    }

    let ended = run(&["token", "--user", "alice", "--ttl", "5m"], &[("ACCESS_TOKEN_SECRET", SECRET)]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let server = Server::start(&[]);
    let client = Client::connect(server.address(), ended.stdout.trim());
    assert_eq!(client.greeting["userId"], "alice");

    let ended = run(&["token", "--user", "alice"], &[]);
    assert_eq!((ended.code, ended.stderr.contains("ACCESS_TOKEN_SECRET")), (Some(1), true), "{ended:?}");

    let ended = run(&["check"], &[("PORT", "0")]);
    for line in [
        "settings: ",
        "io_uring: usable",
        "kernel: ",
        "descriptors: ",
        "memory: ",
        "shards: all ",
        "port: any free one",
        "redis: ",
    ] {
        assert!(ended.stdout.contains(&format!("    {line}")), "{line}: {ended:?}");
    }
    // A machine may allow fewer descriptors than the default needs.
    let ended = run(&["check", "--connections-max", "16"], &[("PORT", "0")]);
    assert_eq!((ended.code, ended.stdout.contains("FAIL")), (Some(0), false), "{ended:?}");
    // A limit too low for so many, with as many tables as it leaves room for.
    let mut check =
        limited("-n 512", &["check", "--connections-max", "4000000"], &[("PORT", "0"), ("SOCKRING_SHARDS", "1")]);
    let ended = finish(check.spawn().expect("the shell starts"));
    assert_eq!((ended.code, ended.stdout.contains("FAIL  descriptors: 512 allowed")), (Some(1), true), "{ended:?}");
    let ended = run(&["check"], &[("REDIS_URL", "redis://:hunter2@127.0.0.1:1")]);
    assert_eq!(
        (ended.code, ended.stdout.contains("FAIL  redis: 127.0.0.1:1 cannot be reached")),
        (Some(1), true),
        "{ended:?}"
    );
    assert!(!ended.stdout.contains("hunter2"), "{ended:?}");
}

/// It ends with status 1 and one sentence, which contains these words.
#[track_caller]
fn assert_refuses(arguments: &[&str], environment: &[(&str, &str)], words: &[&str]) {
    let ended = run(arguments, environment);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{arguments:?} {environment:?}: {ended:?}");
    assert!(ended.stderr.starts_with("sockring: "), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` in {ended:?}");
    }
}

#[test]
fn a_setting_that_means_nothing_is_named() {
    assert_refuses(&["--port", "http"], &[], &["port: ", "`http`"]);
    assert_refuses(&["serve", "--host", "example.com"], &[], &["host: "]);
    assert_refuses(&[], &[("PORT", "65536")], &["port: "]);
    assert_refuses(&[], &[("SOCKRING_PING_INTERVAL_MS", "0")], &["ping_interval_ms: ", "`0`"]);
    assert_refuses(&[], &[("CORS_ORIGIN", "app.example.com")], &["cors_origin: ", "https://app.example.com"]);
    assert_refuses(&[], &[("SOCKRING_LOG", "a=b=c")], &["log: "]);
    // `check` says it among its lines, and goes on.
    let ended = run(&["check", "--fragments-max", "0"], &[]);
    assert!(ended.stdout.contains("FAIL  settings: fragments_max: "), "{ended:?}");
    assert!(ended.stdout.contains("io_uring: "), "{ended:?}");
}

#[test]
fn production_wants_its_secrets_and_so_does_every_name_that_nobody_knows() {
    let secret = ("ACCESS_TOKEN_SECRET", SECRET);
    for name in ["production", "Production", "prod", "staging"] {
        for variable in ["SOCKRING_ENV", "NODE_ENV"] {
            let ended = run(&[], &[(variable, name)]);
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
            assert_eq!(ended.stderr.lines().count(), 2, "both at once: {ended:?}");
        }
        let environment = ("SOCKRING_ENV", name);
        assert_refuses(&[], &[environment, ("API_KEY", "key")], &["access_token_secret: ", "ACCESS_TOKEN_SECRET"]);
        assert_refuses(&[], &[environment, secret], &["api_key: ", "API_KEY"]);
        let credentials = [environment, secret, ("API_KEY", "key"), ("CORS_ORIGIN", "*")];
        assert_refuses(&["--cors-credentials", "true"], &credentials, &["cors_origin: "]);
        let server = Server::start(&[environment, ("API_KEY", "key")]);
        assert_eq!(server.connect().get("/").status, 404, "no page with {name}");
        let is_told = server.log().contains("Did you mean `production`?");
        assert_eq!(is_told, name.to_lowercase().starts_with("prod") && name != "production", "{}", server.log());
    }
}

#[test]
fn a_settings_file_is_read_and_its_mistakes_are_named() {
    let unknown = settings_file("unknown.toml", "ping_timeot_ms = 4\n");
    assert_refuses(&["--config", &unknown], &[], &["unknown.toml", "ping_timeot_ms", "`ping_timeout_ms`"]);
    let missing = settings_file("unknown.toml", "").replace("unknown", "missing");
    assert_refuses(&["--config", &missing], &[], &["missing.toml"]);
    // Flags are stronger than the environment, and that than the file.
    let path = settings_file("path.toml", "path = '/of-the-file/'\nuser_claim = 'sub'\n");
    let ended = run(&["check", "--config", &path, "--env", "test"], &[("NODE_ENV", "of the variable")]);
    assert!(ended.stdout.contains("environment `test` (from --env)"), "{ended:?}");
    let wrong = settings_file("wrong.toml", "path = { a = 1 }\n");
    assert_refuses(&["--config", &wrong], &[], &["path: "]);
}

#[test]
fn a_settings_file_that_is_not_toml_is_refused_with_the_line() {
    let broken = settings_file("broken.toml", "port = \n");
    let ended = run(&["--config", &broken], &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.starts_with("sockring: ") && ended.stderr.contains("broken.toml"), "{ended:?}");
    assert!(ended.stderr.contains("broken.toml:1"), "{ended:?}");
}

#[test]
fn a_port_in_use_is_named() {
    let server = Server::start(&[]);
    let port = server.port().to_string();
    let ended = run(&[], &[("PORT", &port), ("ACCESS_TOKEN_SECRET", SECRET)]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    for words in [&format!("port {port}"), "--port", "PORT"] {
        assert!(ended.stderr.contains(words), "{words}: {ended:?}");
    }
    // The one that was there first goes on.
    Client::connect(server.address(), &token_for("alice")).leave();
}
