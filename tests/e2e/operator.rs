//! What an operator is told: by `check`, by a server at its start and at SIGHUP, and where nobody reads it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, geteuid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::command::{Ended, finish, run, sockring};
use crate::http::Connection;
use crate::server::{SECRET, Server, token_by};
use crate::until;

/// A file of this test.
fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).expect("the directory for temporary files can be written");
    path.to_str().expect("UTF-8").to_owned()
}

/// The lines of a report that begin like this.
fn lines<'e>(ended: &'e Ended, mark: &str) -> Vec<&'e str> {
    ended.stdout.lines().filter(|line| line.starts_with(mark)).collect()
}

#[test]
fn check_tells_all_mistakes_at_once_with_where_they_stand_and_looks_at_the_rest() {
    let server = Server::start(&[]);
    let port = server.port().to_string();
    let path = file("check-all.toml", "\nping_timeot_ms = 4\nlog = 'warning'\n");
    let environment =
        [("SOCKRING_CONFIG", &*path), ("SOCKRING_DRAIN", "long"), ("SOCKRING_PROT", "1"), ("PORT", &port)];
    let ended = run(&["check", "--clients-max", "0"], &environment);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let failed = lines(&ended, "FAIL  ");
    for (setting, source) in [
        ("ping_timeot_ms: is no setting; did you mean `ping_timeout_ms`?", "check-all.toml:2)"),
        ("log: `warning` is no level; did you mean `warn`?", "check-all.toml:3)"),
        ("drain: `long` is not a number of seconds", "(from SOCKRING_DRAIN)"),
        ("clients_max: `0` is too small", "(from --clients-max)"),
    ] {
        let beginning = format!("FAIL  settings: {setting}");
        let line = failed.iter().find(|line| line.starts_with(&beginning)).unwrap_or_else(|| panic!("{ended:?}"));
        assert!(line.ends_with(source), "{source}: {line}");
    }
    let in_use = failed.iter().find(|line| line.starts_with("FAIL  port: ")).unwrap_or_else(|| panic!("{ended:?}"));
    assert!(in_use.contains(&port) && in_use.contains("is another server running there?"), "{in_use}");
    assert_eq!(failed.len(), 5, "{ended:?}");
    assert_eq!(lines(&ended, "warn  ").len(), 1, "{ended:?}");
    assert!(
        lines(&ended, "warn  ")[0].contains("SOCKRING_PROT") && ended.stdout.contains("`SOCKRING_PORT`"),
        "{ended:?}"
    );
    assert!(lines(&ended, "ok    ").iter().any(|line| line.starts_with("ok    shards: ")), "{ended:?}");

    // A server says the same of its settings, and warns of the variable.
    let ended = run(&["--clients-max", "0"], &environment);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.lines().count()), (Some(1), "", 4), "{ended:?}");
    assert!(ended.stderr.lines().all(|line| line.starts_with("sockring: ")), "{ended:?}");
    let warned = Server::start(&[("SOCKRING_PROT", "1")]);
    assert!(warned.log().contains("SOCKRING_PROT") && warned.log().contains("`SOCKRING_PORT`"), "{}", warned.log());
}

#[test]
fn check_says_when_the_next_process_has_to_listen() {
    let line = |arguments: &[&str]| {
        let ended = run(&[&["check", "--port", "0"], arguments].concat(), &[]);
        ended.stdout.lines().find(|line| line.contains(" drain: ")).unwrap_or_else(|| panic!("{ended:?}")).to_owned()
    };
    for (drain, status, words) in [
        ("5", "ok ", "by the fourth if the next process listens within 2.5 s after, and some are lost from 7.5 s on"),
        ("9", "warn ", "are lost unless the next process listens within 3.5 s after"),
        ("60", "warn ", "give up before a single instance is back"),
    ] {
        let said = line(&["--drain", drain]);
        assert!(said.starts_with(status) && said.contains(words), "{said}");
    }
    assert_eq!(line(&[]), line(&["--drain", "5"]));
    let one_of_several = line(&["--drain", "60", "--redis-url", "redis://127.0.0.1:1"]);
    assert!(one_of_several.contains("come back to other instances"), "{one_of_several}");
}

#[test]
fn check_opens_both_ports_at_once() {
    let same = || {
        // Free a moment ago; somebody else may have it by now, and then the next one is tried.
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let address = free.expect("a free port");
        let environment = [("PORT", &*address.port().to_string()), ("SOCKRING_HOST", "127.0.0.1")];
        run(&["check", "--api-listen", &address.to_string()], &environment).stdout
    };
    let is_told = |report: &String| report.contains("ok    port: ") && report.contains("FAIL  api_listen: ");
    until("of one port for both, the second is in use", same, is_told);
}

#[test]
fn check_speaks_json_and_shows_no_secret() {
    let path = file("check-json.toml", "port = 0\ncors_origin = 'nonsense'\n");
    let environment = [("ACCESS_TOKEN_SECRET", SECRET), ("REDIS_PASSWORD", "hunter2")];
    let ended = run(&["check", "--json", "--config", &path], &environment);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(!ended.stdout.contains(SECRET) && !ended.stdout.contains("hunter2"), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(report["ok"], false);
    let checks = report["checks"].as_array().expect("a list");
    let failed: Vec<_> = checks.iter().filter(|check| check["status"] == "fail").collect();
    assert_eq!(failed.len(), 1, "{report}");
    assert_eq!((&failed[0]["check"], &failed[0]["setting"]), (&"settings".into(), &"cors_origin".into()));
    assert!(failed[0]["source"].as_str().expect("a source").ends_with("check-json.toml:2"), "{report}");
    let settings = report["settings"].as_array().expect("a list");
    let given = |name: &str| settings.iter().find(|given| given["setting"] == name).expect(name);
    assert_eq!((&given("port")["value"], given("access_token_secret")["value"].is_null()), (&"0".into(), true));
    assert_eq!(given("access_token_secret")["source"], "ACCESS_TOKEN_SECRET");

    let fine = run(&["check", "--json"], &[("PORT", "0")]);
    let report: Value = serde_json::from_str(&fine.stdout).expect("JSON");
    assert_eq!((fine.code, &report["ok"]), (Some(0), &true.into()), "{fine:?}");
}

/// The binary as a user with no rights, if we may choose one, whose rings may lock this much memory.
fn as_somebody(memory_kib: u64, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    // Where everybody may go: the target directory may lie in somebody's home.
    let program = std::env::temp_dir().join(format!("sockring-of-test-{}", std::process::id()));
    let ours = env!("CARGO_BIN_EXE_sockring");
    if !program.exists() {
        fs::hard_link(ours, &program).or_else(|_| fs::copy(ours, &program).map(|_| ())).expect("a copy of the program");
    }
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("ulimit -l {memory_kib} && exec \"$0\" \"$@\"")).arg(program).args(arguments);
    command.env_clear().envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if geteuid().is_root() {
        // The kernel counts by user: one that nobody else is.
        let user = 20_000 + std::process::id() % 40_000;
        command.uid(user).gid(user);
    }
    command
}

/// Whether a server starts, and what it says if not.
pub fn starts(mut command: Command) -> Result<(), Ended> {
    let mut child = command.spawn().expect("the binary starts");
    let mut first = String::new();
    let stdout = child.stdout.as_mut().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut first).expect("UTF-8");
    if first.contains("is listening on") {
        end(child);
        return Ok(());
    }
    Err(finish(child))
}

fn end(mut child: Child) {
    child.kill().expect("a child of ours can be killed");
    child.wait().expect("a child of ours can be awaited");
}

/// Also what may be listened on: one test, so that nothing else runs as its user.
#[test]
fn check_and_serve_agree_about_what_the_machine_allows() {
    let mut refused = None;
    for (memory_kib, shards) in [(2048, "1"), (2048, "2"), (4096, "2"), (4096, "4"), (8192, "4"), (8192, "8")] {
        let environment = [("PORT", "0"), ("SOCKRING_SHARDS", shards)];
        let try_both = || {
            let check = finish(as_somebody(memory_kib, &["check"], &environment).spawn().expect("it starts"));
            let serve = starts(as_somebody(memory_kib, &["serve"], &environment));
            (check, serve)
        };
        // What the process before has locked is given back when the kernel comes to it: both refuse for a reason.
        let agree = |(check, serve): &(Ended, Result<(), Ended>)| match serve {
            Ok(()) => check.code == Some(0),
            Err(serve) => check.code == Some(1) && needed_kib(&serve.stderr) > memory_kib,
        };
        let (check, serve) = until("check and serve agree", try_both, agree);
        let Err(serve) = serve else { continue };
        assert_eq!(serve.stderr.lines().count(), 1, "{serve:?}");
        let line = check.stdout.lines().find(|line| line.starts_with("FAIL  shards: ")).expect("a line about it");
        for said in [line, &serve.stderr] {
            for words in [&format!("{shards} shard"), "RLIMIT_MEMLOCK allows", "LimitMEMLOCK=", &mebibytes(memory_kib)]
            {
                assert!(said.contains(words), "`{words}` in {said}");
            }
        }
        // The first: who may not raise the limit has to stay below it.
        refused.get_or_insert((needed_kib(line), shards));
    }
    if let Some((need, shards)) = refused {
        let environment = [("PORT", "0"), ("SOCKRING_SHARDS", shards)];
        let enough = || starts(as_somebody(need, &["serve"], &environment)).is_ok();
        until("what it says that it needs is enough", enough, |starts| *starts);
    }
    let first: u16 = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .map_or(1024, |start| start.trim().parse().expect("a port"));
    if first > 80 {
        let ended =
            finish(as_somebody(8192, &["check", "--port", "80", "--shards", "1"], &[]).spawn().expect("it starts"));
        let line = ended.stdout.lines().find(|line| line.starts_with("FAIL  port: ")).expect("a line about it");
        assert!(line.contains("CAP_NET_BIND_SERVICE") && !line.contains("another server"), "{line}");
    }
    let _ = fs::remove_file(std::env::temp_dir().join(format!("sockring-of-test-{}", std::process::id())));
}

/// What the sentence says that is needed, in whole KiB.
fn needed_kib(said: &str) -> u64 {
    let (_, need) = said.split_once(" need ").unwrap_or_else(|| panic!("what is needed: {said}"));
    let (whole, tenths) = need.split(' ').next().and_then(|need| need.split_once('.')).expect("a number");
    let number = |text: &str| text.parse::<u64>().expect("digits");
    number(whole) * 1024 + number(tenths) * 1024 / 10
}

/// As the sentence has it, rounded down.
fn mebibytes(kibibytes: u64) -> String {
    format!("{}.0 MiB", kibibytes / 1024)
}

/// The write end of a pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn a_command_whose_reader_is_gone_ends_quietly() {
    let secret = ("ACCESS_TOKEN_SECRET", SECRET);
    for (arguments, code) in [
        (&["events"][..], 0),
        (&["check", "--port", "0"], 0),
        (&["check", "--port", "0", "--json"], 0),
        (&["check", "--port", "http"], 1),
        (&["token", "--user", "alice"], 0),
        (&["--help"], 0),
    ] {
        let ended = finish(sockring(arguments, &[secret]).stdout(unread()).spawn().expect("the binary starts"));
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    }
    // Nor is there anybody for what went wrong.
    let mut command = sockring(&["check", "--port", "http"], &[]);
    let ended = finish(command.stdout(unread()).stderr(unread()).spawn().expect("the binary starts"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn a_server_whose_output_nobody_reads_serves() {
    // A port that is held for it, since it can tell nobody which one it has.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    held.set_reuse_port(true).expect("a port may be shared");
    held.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    let address = held.local_addr().expect("it is bound").as_socket().expect("of IPv4");
    let port = address.port().to_string();
    let environment =
        [("PORT", &*port), ("SOCKRING_HOST", "127.0.0.1"), ("SOCKRING_REUSE_PORT", "true"), ("SOCKRING_LOG", "debug")];
    let mut command = sockring(&["serve"], &environment);
    let child = command.stdout(unread()).stderr(unread()).spawn().expect("the binary starts");
    until("it listens", || TcpStream::connect(address).is_ok(), |listens| *listens);
    // Once it follows signals.
    let status = || fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let follows = |status: &String| {
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
        u64::from_str_radix(caught.trim(), 16).expect("a mask") & 1 == 1
    };
    until("it follows SIGHUP", status, follows);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::HUP).expect("it runs");
    for _ in 0..10 {
        let mut connection = Connection::open(address);
        assert_eq!(connection.get("/health").status, 200);
        connection.leave();
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).expect("it runs");
    let ended = finish(child);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_token_that_outlives_the_run_is_shown_on_a_terminal_only() {
    let server = Server::start(&[]);
    server.line_with("sockring token --user demo");
    server.line_with(&format!("http://localhost:{}/", server.port()));
    server.line_with("curl -X POST");
    server.signal(Signal::TERM);
    let ended = server.finish();
    assert!(!ended.stdout.contains("ey") && !ended.stderr.contains("ey"), "{ended:?}");

    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it may be opened");
    let name = ptsname(&terminal, Vec::new()).expect("it has a name").into_string().expect("UTF-8");
    let screen = fs::OpenOptions::new().read(true).write(true).open(name).expect("it can be opened");
    let environment = [("PORT", "0"), ("ACCESS_TOKEN_SECRET", SECRET)];
    let child = sockring(&["serve"], &environment).stdout(screen).spawn().expect("the binary starts");
    let mut shown = String::new();
    let mut terminal = fs::File::from(terminal);
    let mut bytes = [0; 4096];
    while !shown.contains("curl -X POST") {
        let count = terminal.read(&mut bytes).expect("the server writes to it");
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    end(child);
    assert!(shown.contains("#token=ey"), "{shown}");
}

/// Changes a settings file, signals, and waits for what is logged about it.
fn reload(server: &Server, path: &str, text: &str) -> String {
    let before = server.log().len();
    fs::write(path, text).expect("the file can be written");
    server.signal(Signal::HUP);
    let news = || server.log()[before..].to_owned();
    until("the signal was followed", news, |news| news.contains("read again") && news.ends_with('\n'))
}

#[test]
fn a_signal_names_what_it_took_over_and_what_needs_a_restart() {
    let begun = "path = '/a/'\nshards = 1\napi_key = 'one'\n";
    let path = file("operator-reload.toml", begun);
    let server = Server::start_as(&["serve"], &[("SOCKRING_CONFIG", &path)]);
    let said = reload(&server, &path, begun);
    assert!(said.contains("none of") && !said.contains("restart"), "{said}");
    let said = reload(&server, &path, "path = '/b/'\nshards = 2\napi_key = 'two'\nlog = 'debug'\n");
    for words in ["taken over: api_key;", "only a restart", "shards, path, log"] {
        assert!(said.contains(words), "`{words}` in {said}");
    }
    assert!(!said.contains("two"), "{said}");
    // It still does; what was taken over is no news.
    let said = reload(&server, &path, "path = '/b/'\nshards = 1\napi_key = 'two'\n");
    assert!(said.contains("none of") && said.contains("only a restart takes it over: path\n"), "{said}");
}

#[test]
fn secrets_in_files_are_read_again() {
    let (secret, key) = (file("operator.secret", "one\n"), file("operator.key", "first\n"));
    let environment = [("ACCESS_TOKEN_SECRET_FILE", &*secret), ("API_KEY_FILE", &*key)];
    let server = Server::start_bare(&environment);
    let status = |key: &str| {
        let mut connection = server.connect();
        connection.send(crate::http::request("GET", "/api/v1/websocket/events", &[&format!("x-api-key: {key}")], ""));
        connection.answer().status
    };
    let enters = |secret: &str| {
        let mut socket = crate::client::WebSocket::open(server.address());
        socket.send(&format!(r#"40{{"token":"{}"}}"#, token_by(secret, "alice")));
        socket.text().starts_with("40{")
    };
    assert_eq!((status("first"), status("second"), enters("one"), enters("two")), (200, 401, true, false));
    fs::write(&key, "second\n").expect("the file can be written");
    let said = reload(&server, &secret, "two\r\n");
    assert!(said.contains("taken over: access_token_secret_file, api_key_file"), "{said}");
    assert_eq!((status("first"), status("second"), enters("one"), enters("two")), (401, 200, false, true));
    // The path is named, and what is in it is not.
    let ended =
        run(&["check", "--port", "0"], &[("API_KEY_FILE", "/no/such/key"), ("ACCESS_TOKEN_SECRET_FILE", &secret)]);
    let failed = lines(&ended, "FAIL  ");
    assert_eq!(failed.len(), 1, "{ended:?}");
    assert!(
        failed[0].contains("`/no/such/key` cannot be read") && failed[0].ends_with("(from API_KEY_FILE)"),
        "{ended:?}"
    );
}
