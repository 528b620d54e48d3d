//! What operators write, and what comes of it.

use std::ffi::OsString;

use super::*;

const SECRET: &str = "a secret that is long enough for production";

fn flag() -> Source {
    Source::Flag("--flag".to_owned())
}

/// The settings, or the first mistake.
fn settings(pairs: &[(&'static str, &str)]) -> Result<Settings, ConfigError> {
    all(pairs).map_err(|mistakes| mistakes.all.into_iter().next().expect("at least one"))
}

fn all(pairs: &[(&'static str, &str)]) -> Result<Settings, Mistakes> {
    let mut values = Values::default();
    for (name, value) in pairs {
        assert!(keys::find(name).is_some(), "{name}");
        values.offer(name, (*value).to_owned(), flag());
    }
    Settings::from_values(&values)
}

#[test]
fn nothing_set_is_a_development_server_with_the_engines_defaults() {
    let settings = settings(&[]).unwrap();
    assert_eq!((settings.port, settings.strictness), (8080, Strictness::Development));
    let (engine, default) = (settings.engine, EngineSettings::default());
    assert_eq!(engine.cors.origins, Origins::Any);
    assert!(!engine.cors.credentials);
    // What stands in the table as a default is what the engine has as one.
    let recovery = default.recovery.clone();
    assert_eq!((engine.recovery.window_ms, engine.recovery.bytes_max), (120_000, 64 << 20));
    let own = EngineSettings { elsewhere: default.elsewhere, cors: default.cors.clone(), recovery, ..engine };
    assert_eq!(format!("{own:?}"), format!("{default:?}"));
}

#[test]
fn the_stronger_source_wins() {
    let mut values = Values::default();
    values.offer("port", "1".to_owned(), flag());
    let environment = [("PORT", "2"), ("SOCKRING_PING_TIMEOUT_MS", "77"), ("NODE_ENV", "test"), ("API_KEY", "")];
    values.offer_environment(|name| {
        environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    });
    values.offer_toml("file", "port = 3\nping_timeout_ms = 4\napi_key = ['a', 'b']");
    let settings = Settings::from_values(&values).unwrap();
    assert_eq!((settings.port, settings.engine.times.ping_timeout_ms), (1, 77));
    assert_eq!((settings.environment.as_str(), settings.api.keys), ("test", vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn every_mistake_is_told_with_where_it_stands() {
    let mut values = Values::default();
    values.offer("port", "http".to_owned(), Source::flag(keys::find("port").unwrap()));
    values.offer_environment(|name| match name {
        "SOCKRING_PING_INTERVAL_MS" => Some("0".into()),
        "NODE_ENV" => Some("production".into()),
        _ => None,
    });
    values.offer_toml("f.toml", "# one\nping_timeot_ms = 4\nhost = 'x'\n\n[redis]\nurl = 'y'\n");
    let mistakes = Settings::from_values(&values).unwrap_err();
    let told: Vec<_> = mistakes.all.iter().map(|mistake| (&*mistake.key, mistake.source.as_ref())).collect();
    let at = |line| Source::File { path: "f.toml".to_owned(), line };
    let flag = Source::Flag("--port".to_owned());
    let variable = Source::Variable("SOCKRING_PING_INTERVAL_MS".to_owned());
    for wanted in [
        ("ping_timeot_ms", Some(&at(2))),
        ("redis", Some(&at(5))),
        ("host", Some(&at(3))),
        ("port", Some(&flag)),
        ("ping_interval_ms", Some(&variable)),
        ("access_token_secret", None),
        ("api_key", None),
    ] {
        assert!(told.contains(&wanted), "{wanted:?} in {told:?}");
    }
    assert_eq!(told.len(), 7, "{told:?}");
    let text = mistakes.to_string();
    assert!(text.contains("ping_timeot_ms: is no setting; did you mean `ping_timeout_ms`? (from f.toml:2)"), "{text}");
    assert_eq!(mistakes.rest.unwrap().port, 8080);
}

#[test]
fn a_file_that_cannot_be_read_hides_what_may_be_in_it() {
    let mut values = Values::default();
    values.offer("env", "production".to_owned(), flag());
    values.offer_toml("f.toml", "port = 1\naccess_token_secret = 'hidden\n");
    let mistakes = Settings::from_values(&values).unwrap_err();
    assert_eq!(mistakes.all.len(), 1, "{mistakes}");
    assert!(
        mistakes.to_string().ends_with("(from f.toml:2)") && !mistakes.to_string().contains("hidden"),
        "{mistakes}"
    );
}

#[test]
fn variables_that_are_no_settings_are_pointed_out() {
    let mut values = Values::default();
    let names = ["SOCKRING_PROT", "SOCKRING_CONFIG", "SOCKRING_ENV", "SOCKRING_LOG", "PATH", "PROT"];
    values.look_for_strangers(names.into_iter().map(str::to_owned));
    let warnings = Settings::from_values(&values).unwrap().warnings;
    let told: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["SOCKRING_PROT: is no setting and counts for nothing; did you mean `SOCKRING_PORT`?"]);
}

#[test]
fn only_development_and_test_are_lenient() {
    for name in ["development", "test"] {
        assert_eq!(settings(&[("env", name)]).unwrap().strictness, Strictness::Development, "{name}");
    }
    for (name, meant) in [
        ("prod", Some("production")),
        ("Production", Some("production")),
        ("productoin", Some("production")),
        ("dev", Some("development")),
        ("Test", Some("test")),
        ("testing", Some("test")),
        ("staging", None),
        ("demo", None),
        ("production", None),
    ] {
        let mistakes = all(&[("env", name)]).unwrap_err();
        assert_eq!(mistakes.all.len(), 2, "{name}: {mistakes}");
        let given = [("env", name), ("access_token_secret", SECRET), ("api_key", "k")];
        let settings = settings(&given).unwrap();
        assert_eq!((settings.strictness, &*settings.environment), (Strictness::Production, name));
        assert_eq!(settings.warnings.len(), usize::from(meant.is_some()), "{name}: {:?}", settings.warnings);
        for warning in &settings.warnings {
            assert!(warning.reason.contains(&format!("`{}`?", meant.unwrap())), "{warning}");
        }
    }
}

/// A file of this test with these bytes.
fn file(name: &str, bytes: &[u8]) -> String {
    let path = std::env::temp_dir().join(format!("sockring-{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn secrets_may_stand_in_files() {
    let (secret, keys) = (file("secret", b"secret of a file\r\n"), file("keys", b"one\ntwo, three\n"));
    let previous = file("previous", b" old \n");
    let read = settings(&[
        ("access_token_secret_file", &secret),
        ("access_token_secret_previous_file", &previous),
        ("api_key_file", &keys),
        ("redis_host", "h"),
        ("redis_password_file", &secret),
    ])
    .unwrap();
    assert_eq!(read.access_token_secret.as_deref(), Some("secret of a file"));
    assert_eq!(read.access_token_secret_previous.as_deref(), Some(" old "));
    assert_eq!(read.api.keys, ["one", "two", "three"]);
    let password = read.cluster.clone().unwrap().password;
    assert_eq!(password, Some(crate::cluster::Secret::new("secret of a file")));

    let (empty, binary) = (file("empty", b"\n"), file("binary", &[0xff, 0xfe]));
    for (path, words) in [(&*empty, "is empty"), (&binary, "UTF-8"), ("/no/such/file", "cannot be read")] {
        let error = settings(&[("api_key_file", path)]).unwrap_err();
        assert!(error.key == "api_key_file" && error.reason.contains(path) && error.reason.contains(words), "{error}");
    }

    // Twice in one source is a mistake; otherwise the stronger source counts.
    assert_eq!(settings(&[("api_key_file", &keys), ("api_key", "k")]).unwrap_err().key, "api_key_file");
    let mut values = Values::default();
    values.offer("api_key", "flag".to_owned(), flag());
    values.offer("api_key_file", keys.clone(), Source::Variable("API_KEY_FILE".to_owned()));
    values.offer("access_token_secret_file", secret.clone(), Source::Variable("X".to_owned()));
    values.offer_toml("f", "access_token_secret = 'weak'");
    let both = Settings::from_values(&values).unwrap();
    assert_eq!(
        (both.api.keys, both.access_token_secret.as_deref()),
        (vec!["flag".to_owned()], Some("secret of a file"))
    );

    // What a file holds is part of what a setting is.
    std::fs::write(&secret, "another").unwrap();
    let again = settings(&[("access_token_secret_file", &secret), ("api_key_file", &keys)]).unwrap();
    assert_eq!(
        read.values.changes(&again.values),
        ["access_token_secret_file", "access_token_secret_previous_file", "redis_host", "redis_password_file"]
    );
    for path in [secret, keys, previous, empty, binary] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_is_said_of_settings_is_said_of_settings_that_there_are() {
    for name in keys::HELD_IN_FILES.iter().chain(&keys::SECRETS).chain(&keys::TAKEN_OVER) {
        assert!(keys::find(name).is_some(), "{name}");
    }
    // What is a secret by its name is never shown, and may stand in a file.
    let is_secret = |name: &str| ["_secret", "_password", "_key", "_previous"].iter().any(|end| name.ends_with(end));
    for name in keys::KEYS.iter().map(|key| key.name).filter(|name| is_secret(name)) {
        let file = format!("{name}_file");
        assert!(keys::SECRETS.contains(&name) && keys::HELD_IN_FILES.contains(&file.as_str()), "{name}");
        assert!(keys::find(&file).is_some(), "{file}");
    }
}

#[test]
fn production_refuses_to_start_unsafe() {
    let production = [("env", "production"), ("access_token_secret", SECRET), ("api_key", "k")];
    assert_eq!(settings(&production).unwrap().engine.cors.origins, Origins::SameOrigin);
    assert_eq!(settings(&production[..1]).unwrap_err().key, "access_token_secret");
    assert_eq!(settings(&production[..2]).unwrap_err().key, "api_key");
    let star = [production[0], production[1], production[2], ("cors_origin", "*"), ("cors_credentials", "true")];
    assert!(settings(&star).unwrap_err().reason.contains("name the origins"));
    assert!(settings(&star[..4]).is_ok());
}

#[test]
fn values_that_mean_nothing_are_refused_with_their_key() {
    for (name, value) in [
        ("port", "65536"),
        ("port", "http"),
        ("host", "example.com"),
        ("shards", "257"),
        ("clients_max", "4194305"),
        ("acks_pending_max", "0"),
        ("ping_interval_ms", "0"),
        ("ping_interval_ms", "-1"),
        ("queue_bytes_max", "1 MB"),
        ("fragments_max", "0"),
        ("attachments_max", "256"),
        ("cors_origin", "app.example.com"),
        ("cors_credentials", "yes"),
        ("namespaces", "admin"),
        ("path", "/"),
        ("log_format", "xml"),
    ] {
        assert_eq!(settings(&[(name, value)]).unwrap_err().key, name, "{value}");
    }
}

#[test]
fn lists_and_paths_are_forgiving() {
    let settings = settings(&[
        ("cors_origin", " https://a.example , https://b.example "),
        ("namespaces", "/, /admin,/admin"),
        ("path", "ws"),
    ])
    .unwrap();
    assert_eq!(settings.engine.path, "/ws/");
    assert_eq!(settings.engine.namespaces, ["/", "/admin"]);
    assert!(settings.engine.cors.credentials);
}

#[test]
fn a_secret_that_can_be_guessed_is_refused_in_production_and_pointed_out_elsewhere() {
    let short = "x".repeat(31);
    for secret in ["s", &short] {
        let given = [("access_token_secret", secret), ("api_key", "k")];
        let error = settings(&[("env", "production"), given[0], given[1]]).unwrap_err();
        assert_eq!(error.key, "access_token_secret");
        assert!(error.reason.contains("32 bytes") && error.reason.contains("openssl rand"), "{error}");
        assert!(!error.to_string().contains(secret) || secret == "s", "{error}");
        let warnings = settings(&given).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(warnings[0].key, "access_token_secret");
    }
    // One that is being replaced may be short.
    let rotated = [("env", "production"), ("access_token_secret", SECRET), ("api_key", "k")];
    let warnings = settings(&[&rotated[..], &[("access_token_secret_previous", "s")]].concat()).unwrap().warnings;
    assert_eq!(warnings.iter().map(|warning| &*warning.key).collect::<Vec<_>>(), ["access_token_secret_previous"]);
    assert!(settings(&rotated).unwrap().warnings.is_empty());
    assert!(settings(&[("access_token_secret", &"x".repeat(32))]).unwrap().warnings.is_empty());
}

#[test]
fn an_instance_is_called_as_its_sids_begin() {
    let named = |name| settings(&[("instance", name)]);
    for name in ["AAA", "a-1", "_zZ"] {
        assert_eq!(named(name).unwrap().instance.map(Instance::prefix).as_deref(), Some(name));
    }
    assert_eq!(named("").unwrap().instance, None);
    for wrong in ["a", "AA", "AAAA", "A A", "\u{e4}a", "a+b"] {
        let error = named(wrong).unwrap_err();
        assert_eq!(error.key, "instance");
        assert!(error.to_string().contains("three characters"), "{error}");
    }
}
