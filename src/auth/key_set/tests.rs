//! Sets of keys as providers publish them, and tokens by each kind of key.

use std::sync::Arc;

use ::ring::rand::SystemRandom;
use ::ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::auth::keyring::{Fetch, Keyring, Newer};
use crate::auth::{AuthError, TokenRules, Verifier};

/// Made for these tests: PKCS #8.
const RSA_PRIVATE_KEY: &str = concat!(
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDXSZ5JDHvEVjQsdwOB5Pw9KLpyj2NIZFk2IGJfhQ8i5f8tswI4tf5FrpTvT8TR",
    "QNbQEIphGL0UK8X4z5nNb4xh7+G19h+XqZMzeJ3mKgt21r+D0lRgFbVaPb+XQbvfJj+ki2/pe6rwVv1NC+CDTgdb0ybeBhm0XCJb3v9aRbNROzPe",
    "UprKcqxZ1Cj8VxhvwYfAhBq2CM5/w4uhMo0ko9PoyEy+NaE6je1E5/EkejYOvBFKO40lVs83Ij0pBdTlt+RAAYZW297dYlD1mSt4FIbkszc1Vua8",
    "L03h9lh9/Y+4dpdcS4TBJ562ItKiGc8cXO3Iqp3eBZ9rjrLrVNPpx/H7AgMBAAECggEAJvCr7q6RXGvzN++29LHEZhON1dbVsGxmLoIhCQH6QOe1",
    "BkEQr81LVrNDQR3+jZLax/uV7AYbfSCFyIFUYnJAxB4th0ojYL1NYMv6U31bYX1qWp+an16N1OrCUsuS/cPfUxXdgi/aNWqmml8Blv5wGk3RA+u6",
    "joLzvAZTzbI5wwFLPSMTMjRf/HIWsgS56fAhlFY8u9O/YD2FuJeAn9pOqTyk3V6iwPqd6VfTaT26l4ingMDjzRHhsysYQ6zGv+tKHE9rx1GQ6yH1",
    "opzWOOWXUALla0b67uTmjxEE3VIDGJwQq/zMteXFkgDo9BWFsN27e3cdFwvmibd9OG4NiBWcAQKBgQD65yfw6UKWNmFIKhBtDjMDgM1li3O6QwTb",
    "pjAbL1c9Ui47SD0I829USFGhiDrzHlhi3+aqrye0/lySpf26Ugk/GpEhD8a+4/3b684tPfnPLju47tunbIorReJgSoDwDn94iHC2HsrLWEQ+e49X",
    "m6WPuMxnmsNDkE6Mv+QwKb2a+wKBgQDbqT2/UYo5c7K8GxE+ARB+BOPSBG7qFP0Z15DHwHR8mLCnz/6NfPNXz4AM/Cb9t8fdYMcSny4itTwcerde",
    "VJPdhUrnI/s/Zyr+uPheuVo/sLe7eZGz47YfHKCEsqs4E19Qwa6mUiTyTBBbznY27A+wGes+dz2/CLArWsBJbq9VAQKBgA8t/wefRS0LWzVffiDq",
    "9AEpQMP8/OJu/ZNAabarVY7bMvrZMwAgokKqIW4xbMeatWQ+AZmgATn9DaK9si0cm3ya4d7rMm4IIyq0CIRKNJvpQym8IcPuWCmoD7sdptFfPy0O",
    "rCsIj+Jfk7loBlMZkpmwZ4V5Iokq6OWxEmArllITAoGAdP6tTqtFbdg7yIi6JEY43IYKOZ/222KWdB8mk93jrUE+RgM4V2/HxGtWjpP2yIgMQdL7",
    "9OUnk4DoJVsPM4TkxMXr4TR+64QtmEI4t2sNsIKVOZtEiYWtSODcdhEbtOBMkhy2wwtZdlwhEmTi/dm5eVg0va6RCqC8BDtv0yzK4gECgYEA4Yur",
    "DhXKR8N+bY9orUF1hBFDHBNVQd/sU/j1yZyIMxY6GkT8CnTWz2nfHRNZmEzHVzK6zZjuWrS/fpVi8nJhIuQGA1PEPspCAm1iKCKFb7ZUHrplRACo",
    "BhjOiLyDMNWwb3exb1pLew1Rz0KmWBp39RfMY8/sg5SLK2xoi+0KPKU=",
);

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whoever issues tokens.
enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    fn rsa() -> Signer {
        Signer::Rsa(RsaKeyPair::from_pkcs8(&STANDARD.decode(RSA_PRIVATE_KEY).unwrap()).unwrap())
    }

    fn ec(of: &'static signature::EcdsaSigningAlgorithm) -> EcdsaKeyPair {
        let random = SystemRandom::new();
        EcdsaKeyPair::from_pkcs8(of, EcdsaKeyPair::generate_pkcs8(of, &random).unwrap().as_ref(), &random).unwrap()
    }

    fn all() -> [Signer; 4] {
        let ed = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        [
            Signer::rsa(),
            Signer::P256(Signer::ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)),
            Signer::P384(Signer::ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)),
            Signer::Ed25519(Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap()),
        ]
    }

    fn jwk(&self, id: &str) -> Value {
        let point = |pair: &EcdsaKeyPair, curve: &str| {
            let point = &pair.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            json!({"kty": "EC", "crv": curve, "kid": id, "x": base64url(x), "y": base64url(y)})
        };
        match self {
            Signer::Rsa(pair) => {
                let key: signature::RsaPublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({"kty": "RSA", "kid": id, "use": "sig", "n": base64url(&key.n), "e": base64url(&key.e)})
            }
            Signer::P256(pair) => point(pair, "P-256"),
            Signer::P384(pair) => point(pair, "P-384"),
            Signer::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": base64url(pair.public_key().as_ref())})
            }
        }
    }

    fn algorithms(&self) -> &'static [&'static str] {
        match self {
            Signer::Rsa(_) => &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
            Signer::P256(_) => &["ES256"],
            Signer::P384(_) => &["ES384"],
            Signer::Ed25519(_) => &["EdDSA"],
        }
    }

    /// A token of the user `a`, whatever its header says.
    fn token(&self, algorithm: &str, id: Option<&str>) -> String {
        let mut header = json!({"alg": algorithm});
        if let Some(id) = id {
            header["kid"] = id.into();
        }
        let body = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(br#"{"_id":"a"}"#));
        let random = SystemRandom::new();
        let signature = match self {
            Signer::Rsa(pair) => {
                let encoding: &dyn signature::RsaEncoding = match algorithm {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, body.as_bytes(), &mut signature).unwrap();
                signature
            }
            Signer::P256(pair) | Signer::P384(pair) => pair.sign(&random, body.as_bytes()).unwrap().as_ref().to_vec(),
            Signer::Ed25519(pair) => pair.sign(body.as_bytes()).as_ref().to_vec(),
        };
        format!("{body}.{}", base64url(&signature))
    }
}

fn set_of(keys: &[Value]) -> Result<KeySet, KeySetError> {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes())
}

fn verify_by(keys: &[Value], token: &str) -> Result<String, AuthError> {
    let rules =
        TokenRules { key_set: set_of(keys).unwrap().into(), user_claim: "_id".to_owned(), ..TokenRules::default() };
    Verifier::new(rules).unwrap().verify(token, 1_000).map(|identity| identity.user)
}

#[test]
fn every_algorithm_of_every_kind_of_key_passes_by_its_id_and_no_other_does() {
    let signers = Signer::all();
    let keys: Vec<_> = signers.iter().enumerate().map(|(number, signer)| signer.jwk(&number.to_string())).collect();
    assert_eq!(set_of(&keys).unwrap().kinds(), "1 EC P-256, 1 EC P-384, 1 Ed25519, 1 RSA");
    for (number, signer) in signers.iter().enumerate() {
        for algorithm in signer.algorithms() {
            let own = number.to_string();
            let token = signer.token(algorithm, Some(&own));
            assert_eq!(verify_by(&keys, &token), Ok("a".to_owned()), "{algorithm}");
            let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
            parts[1] = base64url(br#"{"_id":"b"}"#);
            assert_eq!(verify_by(&keys, &parts.join(".")), Err(AuthError::Invalid), "{algorithm}");
            let another = ((number + 1) % signers.len()).to_string();
            let of_another = signer.token(algorithm, Some(&another));
            assert_eq!(verify_by(&keys, &of_another), Err(AuthError::Invalid), "{algorithm}");
            assert_eq!(
                verify_by(&keys, &signer.token(algorithm, Some("x"))),
                Err(AuthError::UnknownKey),
                "{algorithm}"
            );
            // Without an id its key is that which there is one of.
            assert_eq!(verify_by(&keys, &signer.token(algorithm, None)), Ok("a".to_owned()), "{algorithm}");
            let twice = [keys.clone(), vec![signer.jwk("twin")]].concat();
            assert_eq!(verify_by(&twice, &signer.token(algorithm, None)), Err(AuthError::Invalid), "{algorithm}");
        }
    }
}

#[test]
fn the_algorithm_that_a_key_names_is_the_only_one() {
    let rsa = Signer::rsa();
    let mut key = rsa.jwk("k");
    key["alg"] = "PS256".into();
    assert_eq!(verify_by(&[key.clone()], &rsa.token("PS256", Some("k"))), Ok("a".to_owned()));
    assert_eq!(verify_by(&[key], &rsa.token("RS256", Some("k"))), Err(AuthError::Invalid));
}

#[test]
fn a_public_key_is_no_secret() {
    // CVE-2015-9235: the modulus as the secret of an HMAC.
    let key = Signer::rsa().jwk("k");
    let secret = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
    let body = format!("{}.{}", base64url(br#"{"alg":"HS256","kid":"k"}"#), base64url(br#"{"_id":"a"}"#));
    let hmac = ::ring::hmac::Key::new(::ring::hmac::HMAC_SHA256, &secret);
    let token = format!("{body}.{}", base64url(::ring::hmac::sign(&hmac, body.as_bytes()).as_ref()));
    assert_eq!(verify_by(&[key], &token), Err(AuthError::Invalid));
}

#[test]
fn keys_that_cannot_be_used_are_passed_over_and_counted() {
    let good = Signer::rsa().jwk("good");
    let with = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    for (key, reason) in [
        (json!({"kty": "oct", "kid": "s", "k": "c2VjcmV0", "alg": "HS256"}), "symmetric"),
        (with("use", json!("enc")), "for something else"),
        (with("key_ops", json!(["encrypt"])), "for something else"),
        (with("alg", json!("HS256")), "for an algorithm that it is no key of"),
        (with("n", json!("AQAB")), "RSA of less than 2048 bits"),
        (with("n", json!(base64url(&[0xff; 1025]))), "RSA of more than 8192 bits"),
        (with("e", json!("")), "incomplete"),
        (with("n", json!("not base64url!")), "incomplete"),
        (with("n", Value::Null), "incomplete"),
        (json!({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}), "of another length"),
        (json!({"kty": "EC", "crv": "P-521"}), "of an unknown kind"),
        (json!({"kty": "OKP", "crv": "X25519", "x": "AQAB"}), "of an unknown kind"),
        (json!({"kid": "x"}), "no JSON Web Key"),
        (json!("text"), "no JSON Web Key"),
    ] {
        let set = set_of(&[key.clone(), good.clone()]).unwrap();
        assert!(set.len() == 1 && set.refused().starts_with(&format!("1 {reason}")), "{key}: {}", set.refused());
        let alone = set_of(std::slice::from_ref(&key)).unwrap_err();
        assert!(alone.to_string().contains(reason), "{key}: {alone}");
    }
    assert_eq!(set_of(std::slice::from_ref(&good)).unwrap().refused(), "");
}

#[test]
fn documents_that_are_none_or_too_much_are_refused() {
    let good = Signer::rsa().jwk("good");
    assert_eq!(set_of(&vec![good.clone(); KEYS_MAX + 1]).unwrap_err(), KeySetError::TooManyKeys);
    assert_eq!(set_of(&[]).unwrap_err().to_string(), "it has no keys");
    for document in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>", "\u{0}", "{\"keys\":[", &"[".repeat(100_000)] {
        assert_eq!(KeySet::parse(document.as_bytes()).unwrap_err(), KeySetError::NotKeys, "{document:.20}");
    }
    let long = format!(r#"{{"keys":[{good}]{}}}"#, " ".repeat(DOCUMENT_BYTES_MAX));
    assert_eq!(KeySet::parse(long.as_bytes()).unwrap_err(), KeySetError::TooLarge);
}

#[test]
fn keys_that_come_later_count_from_then_on() {
    let (keyring, _wanted) = Keyring::new();
    let rules =
        TokenRules { keyring: Some(Arc::clone(&keyring)), user_claim: "_id".to_owned(), ..TokenRules::default() };
    let verifier = Verifier::new(rules).unwrap();
    let rsa = Signer::rsa();
    let verify = |id: Option<&str>| verifier.verify(&rsa.token("RS256", id), 1_000).map(|identity| identity.user);
    assert_eq!((verify(Some("k")), verify(None)), (Err(AuthError::UnknownKey), Err(AuthError::UnknownKey)));
    assert_eq!(verifier.want_newer_keys(), Newer::Coming);
    keyring.on_fetched(Fetch::Ok, Some(set_of(&[rsa.jwk("k")]).unwrap()));
    assert_eq!((verify(Some("k")), verify(None)), (Ok("a".to_owned()), Ok("a".to_owned())));
    assert_eq!((verify(Some("l")), verifier.want_newer_keys()), (Err(AuthError::UnknownKey), Newer::NotYet));
    // What could not be fetched takes none away.
    keyring.on_fetched(Fetch::Unreachable, None);
    assert_eq!(verify(Some("k")), Ok("a".to_owned()));
}
