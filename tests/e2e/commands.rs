//! The subcommands that ask a server, judge a token and show the settings.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::command::{Ended, finish, run, sockring};
use crate::server::{SECRET, Server, signed, token_by, unix_ms};

/// Runs one with the server's secret and port.
fn ask(server: &Server, arguments: &[&str]) -> Ended {
    run(arguments, &[("PORT", &server.port().to_string()), ("ACCESS_TOKEN_SECRET", SECRET)])
}

#[test]
fn an_event_is_emitted_from_a_shell_and_the_status_says_whether_somebody_has_it() {
    let server = Server::start(&[]);
    let mut alice = server.client("alice");
    let emitted = ask(&server, &["emit", "--user", "alice", "analysis:started", r#"{"interviewId":"42"}"#]);
    assert_eq!((emitted.code, emitted.stdout.lines().count()), (Some(0), 1), "{emitted:?}");
    let (event, data) = alice.event();
    assert_eq!((event.as_str(), &data["interviewId"]), ("analysis:started", &json!("42")));

    let text = ask(&server, &["emit", "--all", "news", "not JSON", "--volatile"]);
    assert_eq!(text.code, Some(0), "{text:?}");
    assert_eq!(alice.event(), ("news".to_owned(), json!("not JSON")));

    for nobodys in [["--user", "bob"], ["--room", "empty"]] {
        let emitted = ask(&server, &[&["emit"], &nobodys[..], &["news"]].concat());
        assert_eq!(emitted.code, Some(3), "{emitted:?}");
        assert!(emitted.stdout.starts_with("Nobody was reached"), "{emitted:?}");
    }
    let excepted = ask(&server, &["emit", "--all", "news", "--except", "user:alice"]);
    assert_eq!(excepted.code, Some(3), "{excepted:?}");

    for words in ["Event emitted", "The event was accepted before; it is not emitted again"] {
        let emitted = ask(&server, &["emit", "--user", "alice", "once", "--once", "key"]);
        assert_eq!((emitted.code, emitted.stdout.trim_end()), (Some(0), words), "{emitted:?}");
    }
    assert_eq!(alice.event().0, "once");

    let kept = ask(&server, &["emit", "--user", "carol", "kept", "--ttl", "60"]);
    assert_eq!(kept.code, Some(0), "{kept:?}");
    assert!(kept.stdout.contains("is kept"), "{kept:?}");

    let unanswered = ask(&server, &["emit", "--user", "alice", "asked", "--ack", "100", "--receipt", "100"]);
    assert_eq!(unanswered.stdout, "Event emitted\n0 called back, 1 did not\n0 received it\n", "{unanswered:?}");

    let refused = ask(&server, &["emit", "--all", ""]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("422") && refused.stderr.contains("event: is empty"), "{refused:?}");
    let stats = ask(&server, &["stats"]);
    assert!(stats.stdout.lines().any(|line| line == "connected       1"), "{stats:?}");
}

#[test]
fn events_of_a_user_are_printed_as_they_come() {
    let server = Server::start(&[]);
    let tail = |arguments: &[&str]| {
        let environment = [("PORT", &*server.port().to_string()), ("ACCESS_TOKEN_SECRET", SECRET)];
        sockring(&[&["tail"], arguments].concat(), &environment).spawn().expect("the binary starts")
    };
    let token = token_by(SECRET, "bob");
    let alices = tail(&["--user", "alice", "--count", "2", "news", "more"]);
    let bobs = tail(&["--token", &token, "--count", "2"]);
    // Nobody says when it listens but the server.
    for user in ["alice", "bob"] {
        while server.emit(&json!({"user": user, "event": "unheard", "data": 1})) < 1 {}
    }
    server.emit(&json!({"user": "alice", "event": "news", "args": ["an \u{e9}", 2]}));
    server.emit(&json!({"user": "alice", "event": "more", "args": []}));
    let (alices, bobs) = (finish(alices), finish(bobs));
    let lines_of = |ended: &Ended| {
        let lines = ended.stdout.lines().map(|line| line.split_once(' ').expect("time, then the event").1.to_owned());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(lines_of(&alices), [r#"news "an é" 2"#, "more"], "{alices:?}");
    let bobs_lines = lines_of(&bobs);
    assert!(bobs_lines[0].starts_with(r#"connected {"#) && bobs_lines[1] == "unheard 1", "{bobs:?}");
    assert_eq!((alices.code, bobs.code), (Some(0), Some(0)), "{bobs:?}");

    let refused = ask(&server, &["tail", "--token", "nonsense"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("Authentication failed"), "{refused:?}");
    let nobody = run(&["tail", "--user", "a", "--server", "http://127.0.0.1:1"], &[("ACCESS_TOKEN_SECRET", SECRET)]);
    assert!(nobody.code == Some(1) && nobody.stderr.contains("--server"), "{nobody:?}");
}

#[test]
fn a_server_that_is_not_there_or_wants_a_key_is_told_as_such() {
    let nobody = run(&["stats", "--server", "http://127.0.0.1:1"], &[]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("http://127.0.0.1:1") && nobody.stderr.contains("--server"), "{nobody:?}");

    let server = Server::start(&[("API_KEY", "the key")]);
    let keyless = ask(&server, &["stats"]);
    assert!(keyless.code == Some(1) && keyless.stderr.contains("401"), "{keyless:?}");
    assert_eq!(ask(&server, &["stats", "--key", "the key"]).code, Some(0));
}

#[test]
fn a_token_that_is_refused_is_told_why_and_by_which_setting() {
    let now = unix_ms() / 1000;
    let check = |token: &str, environment: &[(&str, &str)]| {
        run(&["token", "check", token], &[&[("ACCESS_TOKEN_SECRET", SECRET)], environment].concat())
    };
    let good = check(&token_by(SECRET, "alice"), &[]);
    assert_eq!(good.code, Some(0));
    // Of an hour a second may be over.
    assert!(good.stdout.starts_with("valid: user `alice`; it expires in "), "{good:?}");
    assert_eq!(check(&format!("Bearer {}", token_by(SECRET, "alice")), &[]).code, Some(0));

    let claims = |claims: serde_json::Value| signed(SECRET, &claims);
    // Made once: a second later it would be another one.
    let by_another = token_by("another", "alice");
    for (token, environment, wanted) in [
        ("nonsense".to_owned(), vec![], vec!["no JSON Web Token"]),
        (by_another.clone(), vec![], vec!["HS256", "access_token_secret"]),
        (claims(json!({"_id": "a", "exp": now - 60})), vec![], vec!["expired 1m", "token_leeway_s"]),
        (claims(json!({"_id": "a", "nbf": now + 600})), vec![], vec!["nbf", "clock"]),
        (claims(json!({"_id": "a"})), vec![("SOCKRING_TOKEN_REQUIRE_EXP", "true")], vec!["token_require_exp"]),
        (claims(json!({"_id": "a", "exp": "soon"})), vec![], vec!["`exp` is no number"]),
        (claims(json!({"sub": "a", "name": "b"})), vec![], vec!["`_id`", "user_claim", "name, sub"]),
        (claims(json!({"_id": 1.5})), vec![], vec!["whole number"]),
        (
            claims(json!({"_id": "a", "iss": "them"})),
            vec![("SOCKRING_TOKEN_ISSUER", "us"), ("SOCKRING_TOKEN_AUDIENCE", "me")],
            vec!["\"them\"", "token_issuer wants \"us\"", "token_audience wants \"me\""],
        ),
        (
            claims(json!({"_id": "a", "iss": "them"})),
            vec![("SOCKRING_TOKEN_ISSUER", "us,you")],
            vec!["token_issuer wants \"us\" or \"you\""],
        ),
        (
            claims(json!({"user": {"name": "a"}})),
            vec![("SOCKRING_USER_CLAIM", "user.id")],
            vec!["`user.id`, the user's id, is missing"],
        ),
    ] {
        let refused = check(&token, &environment);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for words in wanted {
            assert!(refused.stdout.contains(words), "`{words}`: {refused:?}");
        }
        assert_eq!(refused.stdout.contains("its signature"), token == by_another, "{refused:?}");
    }
}

#[test]
fn the_settings_are_shown_with_their_sources_and_without_secrets() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("commands.toml");
    fs::write(&file, "shards = 3\n").expect("it can be written");
    let name = file.to_str().expect("UTF-8");
    let shown = run(&["config", "show", "--config", name, "--drain", "7"], &[("ACCESS_TOKEN_SECRET", SECRET)]);
    let line = |key: &str| {
        let line = shown.stdout.lines().find(|line| line.split_whitespace().next() == Some(key));
        line.unwrap_or_else(|| panic!("no {key}: {shown:?}")).split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("shards"), format!("3 {name}:1"));
    assert_eq!(line("drain"), "7 --drain");
    assert_eq!(line("port"), "8080 default");
    assert_eq!(line("access_token_secret"), "(not shown) ACCESS_TOKEN_SECRET");
    assert!(!shown.stdout.contains(SECRET));

    // All defaults, uncommented, are as good as none.
    let defaults = run(&["config", "default"], &[]).stdout;
    let settings = defaults.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' '));
    let given: Vec<&str> = settings.filter(|line| !line.ends_with("\"\"")).collect();
    assert!(given.len() > 40, "{given:?}");
    fs::write(&file, given.join("\n")).expect("it can be written");
    let shown = run(&["config", "show", "--config", name], &[]);
    assert_eq!((shown.code, shown.stdout.matches(name).count()), (Some(0), given.len()), "{shown:?}");
}

#[test]
fn help_is_short_and_every_subcommand_shows_its_own_flags_only() {
    let short = run(&["-h"], &[]).stdout;
    assert!(short.contains("--port") && !short.contains("--fragments-max"), "{short}");
    let long = run(&["--help"], &[]).stdout;
    for heading in ["Server:", "Tokens:", "HTTP API:", "Limits and times:", "Redis:", "Logs:"] {
        assert!(long.contains(heading), "{heading}: {long}");
    }
    assert!(long.contains("--fragments-max"));
    for subcommand in
        [&["token"][..], &["token", "check"], &["check"], &["emit"], &["stats"], &["tail"], &["config", "show"]]
    {
        let help = run(&[subcommand, &["--help"]].concat(), &[]).stdout;
        assert!(!help.contains("--port") && help.contains("--config"), "{help}");
    }
    for (arguments, words) in
        [(&["completions", "bash"][..], "emit"), (&["completions", "fish"], "emit"), (&["man"], ".TH")]
    {
        let printed = run(arguments, &[]);
        assert!(printed.code == Some(0) && printed.stdout.contains(words), "{arguments:?}");
    }
}
