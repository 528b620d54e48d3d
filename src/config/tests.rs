//! What operators write, and what comes of it.

use super::*;

fn settings(pairs: &[(&'static str, &str)]) -> Result<Settings, ConfigError> {
    let mut values = Values::default();
    for (name, value) in pairs {
        assert!(keys::find(name).is_some(), "{name}");
        values.offer(name, (*value).to_owned());
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
    let own = EngineSettings { elsewhere: default.elsewhere, cors: default.cors.clone(), ..engine };
    assert_eq!(format!("{own:?}"), format!("{default:?}"));
}

#[test]
fn the_stronger_source_wins() {
    let mut values = Values::default();
    values.offer("port", "1".to_owned());
    let environment = [("PORT", "2"), ("SOCKRING_PING_TIMEOUT_MS", "77"), ("NODE_ENV", "staging"), ("API_KEY", "")];
    values.offer_environment(|name| {
        environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    });
    values.offer_toml("port = 3\nping_timeout_ms = 4\napi_key = ['a', 'b']").unwrap();
    let settings = Settings::from_values(&values).unwrap();
    assert_eq!((settings.port, settings.engine.times.ping_timeout_ms), (1, 77));
    assert_eq!((settings.environment.as_str(), settings.api.keys), ("staging", vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let error = Values::default().offer_toml("ping_timeot_ms = 4").unwrap_err();
    assert_eq!(error.to_string(), "ping_timeot_ms: is no setting; did you mean `ping_timeout_ms`?");
}

#[test]
fn production_refuses_to_start_unsafe() {
    let production = [("env", "production"), ("access_token_secret", "s"), ("api_key", "k")];
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
        ("clients_max", "4000001"),
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
