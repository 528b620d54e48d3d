//! How long the verification of a client's token takes, by how it was signed. A worthless one costs as much.

use divan::{Bencher, black_box};
use sockring::auth::key::TokenKey;
use sockring::auth::{AuthError, TokenRules, Verifier};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// RFC 7515 appendix A: the claims say `"iss":"joe","exp":1300819380`.
const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const NOW_MS: u64 = 1_300_819_379_000;

/// Appendix A.2.
const RS256: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU\
    Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12j\
    zDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77\
    Rw";
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

/// Appendix A.3.
const ES256: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const EC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7
6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==
-----END PUBLIC KEY-----
";

/// `{"alg":"RS256"}` and `{"alg":"ES256"}`.
const RS256_HEADER: &str = "eyJhbGciOiJSUzI1NiJ9";
const ES256_HEADER: &str = "eyJhbGciOiJFUzI1NiJ9";

fn main() {
    divan::main();
}

fn verifier(key: TokenKey) -> Verifier {
    let rules = TokenRules { keys: vec![key], user_claim: "iss".to_owned(), ..TokenRules::default() };
    Verifier::new(rules).expect("keys that work")
}

fn verify(bencher: Bencher<'_, '_>, verifier: &Verifier, token: &str, error: Option<AuthError>) {
    bencher.bench_local(|| assert_eq!(verifier.verify(black_box(token), NOW_MS).err(), error));
}

#[divan::bench]
fn hs256(bencher: Bencher<'_, '_>) {
    let rules = TokenRules {
        keys: vec![TokenKey::from_secret("a secret of at least thirty-two bytes")],
        minting_secret: Some("a secret of at least thirty-two bytes".to_owned()),
        user_claim: "_id".to_owned(),
        ..TokenRules::default()
    };
    let verifier = Verifier::new(rules).expect("keys that work");
    let token = verifier.mint("alice", NOW_MS / 1000, 60).expect("a token");
    verify(bencher, &verifier, &token, None);
}

#[divan::bench]
fn rs256(bencher: Bencher<'_, '_>) {
    let verifier = verifier(TokenKey::from_pem(RSA_KEY.as_bytes()).expect("a key"));
    verify(bencher, &verifier, &format!("{RS256_HEADER}.{CLAIMS}.{RS256}"), None);
}

#[divan::bench]
fn rs256_worthless(bencher: Bencher<'_, '_>) {
    let verifier = verifier(TokenKey::from_pem(RSA_KEY.as_bytes()).expect("a key"));
    verify(
        bencher,
        &verifier,
        &format!("{RS256_HEADER}.{CLAIMS}.{}", RS256.replace("cC4h", "cC4i")),
        Some(AuthError::Invalid),
    );
}

#[divan::bench]
fn es256(bencher: Bencher<'_, '_>) {
    let verifier = verifier(TokenKey::from_pem(EC_KEY.as_bytes()).expect("a key"));
    verify(bencher, &verifier, &format!("{ES256_HEADER}.{CLAIMS}.{ES256}"), None);
}

#[divan::bench]
fn es256_worthless(bencher: Bencher<'_, '_>) {
    let verifier = verifier(TokenKey::from_pem(EC_KEY.as_bytes()).expect("a key"));
    verify(
        bencher,
        &verifier,
        &format!("{ES256_HEADER}.{CLAIMS}.{}", ES256.replace("DtEh", "DtEi")),
        Some(AuthError::Invalid),
    );
}
