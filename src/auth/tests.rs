//! Tokens that pass and tokens that do not.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const NOW_S: u64 = 1_700_000_000;

fn rules() -> TokenRules {
    TokenRules {
        keys: vec![TokenKey::from_secret("secret")],
        minting_secret: Some("secret".to_owned()),
        user_claim: "_id".to_owned(),
        ..TokenRules::default()
    }
}

fn sign(header: Header, claims: Value, secret: &str) -> String {
    signatures::install();
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn verify(token: &str) -> Result<String, AuthError> {
    Verifier::new(rules()).unwrap().verify(token, NOW_S * 1000).map(|identity| identity.user)
}

#[test]
fn a_minted_token_is_valid_until_the_second_it_expires() {
    let verifier = Verifier::new(rules()).unwrap();
    let token = verifier.mint("alice", NOW_S, 60).unwrap();
    let identity = Identity { user: "alice".to_owned(), ends_at_unix_ms: None };
    assert_eq!(verifier.verify(&token, (NOW_S + 60) * 1000 - 1), Ok(identity));
    assert_eq!(verifier.verify(&token, (NOW_S + 60) * 1000), Err(AuthError::Expired));
}

#[test]
fn leeway_moves_both_ends_and_a_socket_may_have_to_end_with_its_token() {
    let rules = TokenRules { leeway_s: 5, after_expiry: AfterExpiry::Close, ..rules() };
    let verifier = Verifier::new(rules).unwrap();
    let claims = json!({"_id": "a", "nbf": NOW_S + 10, "exp": NOW_S + 60});
    let token = sign(Header::new(Algorithm::HS256), claims, "secret");
    let at = |seconds: u64| verifier.verify(&token, (NOW_S + seconds) * 1000);
    assert_eq!(at(4), Err(AuthError::NotYetValid));
    let identity = Identity { user: "a".to_owned(), ends_at_unix_ms: Some((NOW_S + 65) * 1000) };
    assert_eq!((at(5), at(64), at(65)), (Ok(identity.clone()), Ok(identity), Err(AuthError::Expired)));
}

#[test]
fn all_hmac_sizes_pass_and_nothing_else() {
    for algorithm in HMAC {
        let token = sign(Header::new(algorithm), json!({"_id": "a"}), "secret");
        assert_eq!(verify(&token), Ok("a".to_owned()), "{algorithm:?}");
    }
    let none = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(r#"{"_id":"a"}"#)
    );
    let other_secret = sign(Header::new(Algorithm::HS256), json!({"_id": "a"}), "other");
    for token in [none.as_str(), other_secret.as_str(), "a.b.c", "..", "x", "\u{0}"] {
        assert_eq!(verify(token), Err(AuthError::Invalid), "{token}");
    }
    assert_eq!(verify(""), Err(AuthError::Missing));
    assert_eq!(verify(&"a".repeat(1 << 20)), Err(AuthError::TooLong));
}

#[test]
fn a_previous_secret_stays_valid_and_new_tokens_use_the_new_one() {
    let old = Verifier::new(rules()).unwrap().mint("a", NOW_S, 60).unwrap();
    let keys = vec![TokenKey::from_secret("new"), TokenKey::from_secret("secret")];
    let rotated = Verifier::new(TokenRules { keys, minting_secret: Some("new".to_owned()), ..rules() }).unwrap();
    let new = rotated.mint("a", NOW_S, 60).unwrap();
    assert!(rotated.verify(&old, NOW_S * 1000).is_ok() && rotated.verify(&new, NOW_S * 1000).is_ok());
    assert_eq!(verify(&new), Err(AuthError::Invalid));
}

#[test]
fn a_public_key_brings_its_algorithm_and_no_other() {
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
        -----END PUBLIC KEY-----\n";
    // The keys of RFC 8032 section 7.1, test 1.
    const SEED: [u8; 32] = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49,
        0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    ];
    const PUBLIC_BYTES: [u8; 32] = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1,
        0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
    ];
    let key = TokenKey::from_pem(PUBLIC.as_bytes()).unwrap();
    let verifier = Verifier::new(TokenRules { keys: vec![key], minting_secret: None, ..rules() }).unwrap();
    let body = [r#"{"alg":"EdDSA"}"#, r#"{"_id":"a"}"#].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let pair = ::ring::signature::Ed25519KeyPair::from_seed_and_public_key(&SEED, &PUBLIC_BYTES).unwrap();
    let signed = format!("{body}.{}", URL_SAFE_NO_PAD.encode(pair.sign(body.as_bytes())));
    assert!(verifier.verify(&signed, NOW_S * 1000).is_ok());
    // The public key is no secret: a token "signed" with its text must not pass.
    let confused = sign(Header::new(Algorithm::HS256), json!({"_id": "a"}), PUBLIC);
    assert_eq!(verifier.verify(&confused, NOW_S * 1000), Err(AuthError::Invalid));
    assert!(TokenKey::from_pem(b"nonsense").is_none());
}

#[test]
fn tokens_that_never_expire_pass_unless_that_is_required() {
    let forever = sign(Header::new(Algorithm::HS256), json!({"_id": "a"}), "secret");
    assert!(verify(&forever).is_ok());
    let strict = Verifier::new(TokenRules { expiry: Expiry::Required, ..rules() }).unwrap();
    assert_eq!(strict.verify(&forever, NOW_S * 1000), Err(AuthError::Invalid));
}

#[test]
fn critical_extensions_are_refused() {
    let header = Header { crit: Some(vec!["exp-v2".to_owned()]), ..Header::new(Algorithm::HS256) };
    assert_eq!(verify(&sign(header, json!({"_id": "a"}), "secret")), Err(AuthError::Invalid));
}

#[test]
fn claims_of_the_wrong_type_are_refused() {
    let header = || Header::new(Algorithm::HS256);
    let table = [
        (json!({"_id": "a", "exp": "2999999999"}), AuthError::Invalid),
        (json!({"_id": "a", "exp": {}}), AuthError::Invalid),
        (json!({"_id": "a", "exp": true}), AuthError::Invalid),
        (json!({"_id": "a", "exp": -1}), AuthError::Expired),
        (json!({"_id": "a", "exp": -1.5}), AuthError::Expired),
        (json!({"_id": "a", "exp": 1}), AuthError::Expired),
        (json!({"_id": "a", "exp": null}), AuthError::Invalid),
        (json!({"_id": "a", "nbf": NOW_S + 1}), AuthError::NotYetValid),
        (json!({"_id": ""}), AuthError::NoUser),
        (json!({"_id": 7.5}), AuthError::NoUser),
        (json!({"_id": 7.0}), AuthError::NoUser),
        (json!({"_id": true}), AuthError::NoUser),
        (json!({"_id": [7]}), AuthError::NoUser),
        (json!({"sub": "a"}), AuthError::NoUser),
        (json!({"_id": "a".repeat(129)}), AuthError::NoUser),
    ];
    for (claims, error) in table {
        assert_eq!(verify(&sign(header(), claims.clone(), "secret")), Err(error), "{claims}");
    }
    assert_eq!(verify(&sign(header(), json!({"_id": "a", "exp": u64::MAX}), "secret")), Ok("a".to_owned()));
}

#[test]
fn issuer_and_audience_count_once_they_are_set() {
    let strict = TokenRules { issuers: vec!["us".to_owned()], audiences: vec!["app".to_owned()], ..rules() };
    let strict = Verifier::new(strict).unwrap();
    let header = || Header::new(Algorithm::HS256);
    for (claims, passes) in [
        (json!({"_id": "a", "iss": "us", "aud": "app"}), true),
        (json!({"_id": "a", "iss": "us"}), false),
        (json!({"_id": "a", "aud": "app"}), false),
        (json!({"_id": "a", "iss": "them", "aud": "app"}), false),
    ] {
        let token = sign(header(), claims.clone(), "secret");
        assert_eq!(strict.verify(&token, NOW_S * 1000).is_ok(), passes, "{claims}");
    }
    // Unset, any audience passes.
    assert!(verify(&sign(header(), json!({"_id": "a", "aud": "x", "iss": "y"}), "secret")).is_ok());
}

#[test]
fn of_several_issuers_and_audiences_one_is_enough() {
    let several = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    let rules = TokenRules { issuers: several(["us", "them"]), audiences: several(["app", "site"]), ..rules() };
    let verifier = Verifier::new(rules).unwrap();
    for (claims, passes) in [
        (json!({"_id": "a", "iss": "us", "aud": "site"}), true),
        (json!({"_id": "a", "iss": "them", "aud": ["else", "app"]}), true),
        (json!({"_id": "a", "iss": "them", "aud": ["else"]}), false),
        (json!({"_id": "a", "iss": "us,them", "aud": "app"}), false),
        (json!({"_id": "a", "iss": "us", "aud": []}), false),
    ] {
        let token = sign(Header::new(Algorithm::HS256), claims.clone(), "secret");
        assert_eq!(verifier.verify(&token, NOW_S * 1000).is_ok(), passes, "{claims}");
    }
}

#[test]
fn the_user_may_be_within_an_object() {
    let of = |path: &str, claims: Value| {
        let verifier = Verifier::new(TokenRules { user_claim: path.to_owned(), ..rules() }).unwrap();
        let minted = verifier.mint("minted", NOW_S, 60).unwrap();
        assert_eq!(verifier.verify(&minted, NOW_S * 1000).unwrap().user, "minted", "{path}");
        let token = sign(Header::new(Algorithm::HS256), claims, "secret");
        verifier.verify(&token, NOW_S * 1000).map(|identity| identity.user)
    };
    let user = |user: &str| Ok(user.to_owned());
    assert_eq!(of("user.id", json!({"user": {"id": "a"}})), user("a"));
    assert_eq!(of("user.id", json!({"user": {"id": 42}})), user("42"));
    assert_eq!(of("a.b.c", json!({"a": {"b": {"c": "d"}}})), user("d"));
    // A claim of just this name goes first.
    assert_eq!(of("user.id", json!({"user.id": "whole", "user": {"id": "part"}})), user("whole"));
    assert_eq!(of("https://us.example/id", json!({"https://us.example/id": "a"})), user("a"));
    for claims in [json!({"user": "a"}), json!({"user": {"name": "a"}}), json!({"user": ["a"]}), json!({"id": "a"})] {
        assert_eq!(of("user.id", claims.clone()), Err(AuthError::NoUser), "{claims}");
    }
}

#[test]
fn times_may_have_a_fraction() {
    let at = |claims: Value, ms: u64| {
        let token = sign(Header::new(Algorithm::HS256), claims, "secret");
        Verifier::new(rules()).unwrap().verify(&token, NOW_S * 1000 + ms).map(|identity| identity.user)
    };
    // As `Date.now() / 1000 + 3600` gives them.
    let exp = |ms| at(json!({"_id": "a", "exp": NOW_S as f64 + 0.75}), ms);
    assert_eq!((exp(749), exp(750)), (Ok("a".to_owned()), Err(AuthError::Expired)));
    let nbf = |ms| at(json!({"_id": "a", "nbf": NOW_S as f64 + 0.75}), ms);
    assert_eq!((nbf(749), nbf(750)), (Err(AuthError::NotYetValid), Ok("a".to_owned())));
    for exp in [json!(2_999_999_999.5), json!(1e300), json!(u64::MAX)] {
        assert_eq!(at(json!({"_id": "a", "exp": exp}), 0), Ok("a".to_owned()), "{exp}");
    }
    assert_eq!(at(json!({"_id": "a", "nbf": -1.5}), 0), Ok("a".to_owned()));
    assert_eq!(at(json!({"_id": "a", "nbf": 1e300}), 0), Err(AuthError::NotYetValid));
}

#[test]
fn a_numeric_id_is_its_digits() {
    for (id, user) in [(json!(7), "7"), (json!(0), "0"), (json!(-3), "-3"), (json!(u64::MAX), "18446744073709551615")] {
        let token = sign(Header::new(Algorithm::HS256), json!({"_id": id}), "secret");
        assert_eq!(verify(&token), Ok(user.to_owned()));
    }
}

#[test]
fn an_id_that_no_string_can_hold_is_refused() {
    // Two of these would be the same user if what they cannot hold were replaced.
    for id in [r#""\ud800""#, r#""\udc00""#, r#""a\ud800b""#, r#""\ud800\u0041""#] {
        let body =
            [r#"{"alg":"HS256"}"#, &format!(r#"{{"_id":{id}}}"#)].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let key = ::ring::hmac::Key::new(::ring::hmac::HMAC_SHA256, b"secret");
        let signed = format!("{body}.{}", URL_SAFE_NO_PAD.encode(::ring::hmac::sign(&key, body.as_bytes())));
        assert_eq!(verify(&signed), Err(AuthError::Invalid), "{id}");
    }
}

/// RFC 7515 appendix A: `{"iss":"joe","exp":1300819380,...}`, signed with RS256 (A.2) and ES256 (A.3).
#[test]
fn tokens_of_the_rfc_are_valid_and_none_with_a_bit_turned() {
    const CLAIMS: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let joe = Ok(Identity { user: "joe".to_owned(), ends_at_unix_ms: None });
    for (pem, header, signature) in [(RSA_KEY, r#"{"alg":"RS256"}"#, RS256), (EC_KEY, r#"{"alg":"ES256"}"#, ES256)] {
        let keys = vec![TokenKey::from_pem(pem.as_bytes()).unwrap()];
        let rules = TokenRules { keys, minting_secret: None, user_claim: "iss".to_owned(), ..rules() };
        let verifier = Verifier::new(rules).unwrap();
        let body = format!("{}.{CLAIMS}", URL_SAFE_NO_PAD.encode(header));
        let with = |signature: &[u8]| {
            verifier.verify(&format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature)), 1_300_819_379_999)
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert_eq!(with(&signature), joe);
        for at in [0, 17, signature.len() - 1] {
            let mut turned = signature.clone();
            turned[at] ^= 1;
            assert_eq!(with(&turned), Err(AuthError::Invalid), "{header} {at}");
        }
        for wrong in [&signature[1..], &[], &[0; 64], &[0; 256]] {
            assert_eq!(with(wrong), Err(AuthError::Invalid), "{header}");
        }
    }
}

#[test]
fn small_and_foreign_keys_are_refused_when_they_are_read() {
    // RSA of 1,024 bits, and a point of P-384.
    for pem in [SMALL_RSA_KEY, OTHER_EC_KEY] {
        assert!(TokenKey::from_pem(pem.as_bytes()).is_none());
    }
}

const RS256: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU\
    Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12j\
    zDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77\
    Rw";

const ES256: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

const RSA_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJj
NiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEz
P1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo
9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB
EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxX
FvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXp
oQIDAQAB
-----END PUBLIC KEY-----
";

const EC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7
6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==
-----END PUBLIC KEY-----
";

const SMALL_RSA_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDlamg1opV83aZlBlci4jjkR2aq
LRA/KtGwJ3Eqnykx4T50Kl2VpceXzFAqbVKJOVnJSuUYtYOK6mk74b7UZaKdnMgo
ar7suSflqX+6D9DobBE58q3Ra7vQmToPXmEPxYLrHNHJcvDd0w74rgbQsb9XLR1k
/4bKg8XFq2gRJVStcwIDAQAB
-----END PUBLIC KEY-----
";

const OTHER_EC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE3lwnu05ikfYsQPs4ngFf4veZgm2lBkqT
swadrvQEmizMJ2C/KUjn6mpow6amtJ/RY4dBed8SbmU13rLEFPsZeuxMzHB1lM4W
jyHtGPrNhDEGL4T6TjI1ZI32CjW3wvXn
-----END PUBLIC KEY-----
";
