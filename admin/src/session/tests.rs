//! What a token must be to hold (threat T11).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sql::Sealer;
use sql::seal::MasterKey;

use super::*;
use crate::testing::{MASTER_KEY, Scene};

const LIFETIME: Duration = Duration::from_hours(1);

fn sealer() -> Sealer {
    let (key, _) = MasterKey::from_env_text(MASTER_KEY).unwrap();
    Sealer::new(&key)
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_millis(1_750_000_000_000))
}

fn instance() -> Uuid {
    Uuid::from_u128(1)
}

fn tokens(clock: &Clock) -> Tokens {
    Tokens::new(&sealer(), instance(), clock.clone())
}

fn issue(tokens: &Tokens) -> Issued {
    let origin = Origin { address: "127.0.0.1".parse().unwrap(), user_agent: "test".into() };
    tokens.issue(AdminUserId::from_uuid(Uuid::from_u128(2)), LIFETIME, &origin, None).unwrap()
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

/// A token with exactly these parts, signed with our own key.
fn forge(header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &sealer().derive_key(KEY_PURPOSE));
    let tag = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn header() -> Value {
    json!({"typ": "JWT", "alg": "HS256"})
}

fn claims() -> Value {
    json!({
        "iss": instance(), "aud": AUDIENCE,
        "sub": Uuid::from_u128(2), "jti": Uuid::from_u128(3),
        "iat": 1_750_000_000, "nbf": 1_750_000_000, "exp": 1_750_000_100,
    })
}

#[test]
fn a_token_of_ours_holds_until_the_second_it_ends() {
    let clock = clock();
    let tokens = tokens(&clock);
    let issued = issue(&tokens);
    let expected = Verified { admin: issued.row.admin_id, token: issued.row.id };
    assert_eq!(tokens.verify(&issued.text), Some(expected));
    clock.advance(LIFETIME.saturating_sub(Duration::from_millis(1)));
    assert_eq!(tokens.verify(&issued.text), Some(expected));
    clock.advance(Duration::from_millis(1));
    assert_eq!(tokens.verify(&issued.text), None);
}

#[test]
fn a_forged_token_with_all_its_parts_right_would_hold() {
    let clock = clock();
    assert!(
        tokens(&clock).verify(&forge(&header(), &claims())).is_some(),
        "the table below starts from this"
    );
}

#[test]
fn every_other_token_is_refused() {
    let clock = clock();
    let tokens = tokens(&clock);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        forge(&header(), &claims)
    };
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        forge(&header(), &claims)
    };
    let alg = |alg: &str| forge(&json!({"typ": "JWT", "alg": alg}), &claims());
    let good = forge(&header(), &claims());
    let (message, _) = good.rsplit_once('.').unwrap();
    let mut edited = claims();
    edited["exp"] = json!(9_999_999_999_i64);
    let swapped = format!("{}.{}.{}", encode(&header()), encode(&edited), good.rsplit('.').next().unwrap());
    let cases = [
        ("alg none, unsigned", format!("{}.{}.", encode(&json!({"alg": "none"})), encode(&claims()))),
        ("alg none, signed", alg("none")),
        ("alg HS384", alg("HS384")),
        ("alg HS512", alg("HS512")),
        ("alg RS256", alg("RS256")),
        ("alg EdDSA", alg("EdDSA")),
        ("alg lower case", alg("hs256")),
        ("empty signature", format!("{message}.")),
        ("no signature", message.to_owned()),
        ("edited payload", swapped),
        ("expired 2 s ago", with("exp", json!(1_749_999_998))),
        ("expires now", with("exp", json!(1_750_000_000))),
        ("not yet valid", with("nbf", json!(1_750_000_001))),
        ("other issuer", with("iss", json!(Uuid::from_u128(9)))),
        ("other audience", with("aud", json!("mpg-mcp"))),
        ("admin of no shape", with("sub", json!("root"))),
        ("exp as text", with("exp", json!("1750000100"))),
        ("no exp", without("exp")),
        ("no nbf", without("nbf")),
        ("no iss", without("iss")),
        ("no aud", without("aud")),
        ("no sub", without("sub")),
        ("no jti", without("jti")),
        ("empty", String::new()),
        ("dots", "..".into()),
        ("an api key", "mpg_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into()),
    ];
    for (case, token) in cases {
        assert_eq!(tokens.verify(&token), None, "{case}");
    }
}

#[test]
fn any_flipped_bit_is_refused() {
    let clock = clock();
    let tokens = tokens(&clock);
    let good = issue(&tokens).text.into_bytes();
    for index in 0..good.len() {
        for bit in 0..7 {
            let mut flipped = good.clone();
            flipped[index] ^= 1 << bit;
            let text = String::from_utf8(flipped).unwrap();
            // The last character of base64 has bits that mean nothing; ours are all zero.
            assert_eq!(tokens.verify(&text), None, "bit {bit} of byte {index}");
        }
    }
}

#[test]
fn tokens_of_another_installation_are_refused() {
    let clock = clock();
    let issued = issue(&tokens(&clock));
    let same_key = Tokens::new(&sealer(), Uuid::from_u128(9), clock.clone());
    assert_eq!(same_key.verify(&issued.text), None, "another instance with the same master key");
    let (key, _) = MasterKey::from_env_text(&MASTER_KEY.replace('1', "2")).unwrap();
    let other_key = Tokens::new(&Sealer::new(&key), instance(), clock);
    assert_eq!(other_key.verify(&issued.text), None, "the same instance id with another master key");
}

#[tokio::test]
async fn a_well_signed_token_without_a_row_is_worth_nothing() {
    let scene = Scene::logged_in().await;
    let me = scene.get("/api/admin/auth/me").await;
    let admin: AdminUserId = me.json["id"].as_str().unwrap().parse().unwrap();
    let tokens = Tokens::new(scene.store.sealer(), scene.store.instance_id(), scene.clock.clone());
    let origin = Origin { address: "127.0.0.1".parse().unwrap(), user_agent: String::new() };
    let issued = tokens.issue(admin, LIFETIME, &origin, None).unwrap();
    assert!(tokens.verify(&issued.text).is_some());
    assert_eq!(scene.with_token(&issued.text).get("/api/admin/auth/me").await.status, 401);
}

#[tokio::test]
async fn a_session_ends_at_its_time() {
    let scene = Scene::logged_in().await;
    scene.clock.advance(LIFETIME.saturating_sub(Duration::from_secs(1)));
    assert_eq!(scene.get("/api/admin/auth/me").await.status, 200);
    scene.clock.advance(Duration::from_secs(2));
    assert_eq!(scene.get("/api/admin/auth/me").await.status, 401);
}
