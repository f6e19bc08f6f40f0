//! Sealing: what opens and what doesn't, and how a master key is read.

use proptest::prelude::*;

use super::*;

const KEY: &str = "8f1d0c5ba4e79632d85e1f7a0b3c6d9e24a5b8c7f0e1d2c3b4a5968778695a4b";
const OTHER_KEY: &str = "hex:0b3c6d9e24a5b8c7f0e1d2c3b4a5968778695a4b8f1d0c5ba4e79632d85e1f7a";

fn sealer(key: &str) -> Sealer {
    Sealer::new(&MasterKey::from_env_text(key).expect("a good key").0)
}

const HERE: Place<'_> = Place { table: "upstreams", column: "credential", row: "1" };

#[test]
fn opens_where_it_was_sealed_and_nowhere_else() {
    let sealer = sealer(KEY);
    let sealed = sealer.seal(b"s3cret", HERE);
    assert_eq!(sealer.unseal(&sealed, HERE).expect("its place").expose(), b"s3cret");
    for place in [
        Place { row: "2", ..HERE },
        Place { column: "conn_params", ..HERE },
        Place { table: "other", ..HERE },
        // The same letters, divided otherwise.
        Place { table: "upstream", column: "scredential", row: "1" },
    ] {
        assert_eq!(sealer.unseal(&sealed, place).expect_err("another place"), DoesNotOpen);
    }
}

#[test]
fn each_sealing_is_different_and_none_shows_the_value() {
    let sealer = sealer(KEY);
    let one = sealer.seal(b"s3cret", HERE);
    let other = sealer.seal(b"s3cret", HERE);
    assert_ne!(one, other);
    let bytes = URL_SAFE_NO_PAD.decode(one).expect("base64url");
    assert!(!bytes.windows(6).any(|part| part == b"s3cret"));
}

#[test]
fn another_key_opens_nothing() {
    let sealed = sealer(KEY).seal(b"s3cret", HERE);
    assert!(sealer(OTHER_KEY).unseal(&sealed, HERE).is_err());
    assert_eq!(sealer(KEY).unseal(&sealed, HERE).expect("the same key").expose(), b"s3cret");
}

#[test]
fn a_name_is_the_same_each_time_and_opens_as_a_token_does() {
    let sealer = sealer(KEY);
    let name = sealer.seal_name("task", b"state", b"key 1");
    assert_eq!(self::sealer(KEY).seal_name("task", b"state", b"key 1"), name);
    for other in [
        sealer.seal_name("task", b"state", b"key 2"),
        sealer.seal_name("task", b"states", b"key 1"),
        sealer.seal_name("other", b"state", b"key 1"),
        // The same letters, divided otherwise.
        sealer.seal_name("task", b"1state", b"key "),
    ] {
        // Neither the text nor its nonce.
        assert_ne!(other[..], name[..]);
        assert_ne!(other[6..20], name[6..20]);
    }
    assert_eq!(sealer.unseal_token("task", &name, b"key 1"), Ok(b"state".to_vec()));
    assert_eq!(sealer.unseal_token("task", &name, b"key 2"), Err(DoesNotOpen));
    assert_eq!(sealer.unseal_token("other", &name, b"key 1"), Err(DoesNotOpen));
}

#[test]
fn tokens_open_for_their_purpose_and_binding_only() {
    let sealer = sealer(KEY);
    let token = sealer.seal_token("session", b"state", b"key 1");
    assert_eq!(sealer.unseal_token("session", &token, b"key 1"), Ok(b"state".to_vec()));
    assert_eq!(sealer.unseal_token("session", &token, b"key 2"), Err(DoesNotOpen));
    assert_eq!(sealer.unseal_token("cursor", &token, b"key 1"), Err(DoesNotOpen));
    assert!(sealer.unseal(&token, HERE).is_err());
    // On another replica with the same key.
    assert_eq!(self::sealer(KEY).unseal_token("session", &token, b"key 1"), Ok(b"state".to_vec()));
}

#[test]
fn derived_keys_are_stable_and_apart() {
    let sealer = sealer(KEY);
    assert_eq!(sealer.derive_key("jwt"), self::sealer(KEY).derive_key("jwt"));
    assert_ne!(sealer.derive_key("jwt"), sealer.derive_key("audit"));
    assert_ne!(sealer.derive_key("jwt"), self::sealer(OTHER_KEY).derive_key("jwt"));
}

proptest! {
    #[test]
    fn what_anybody_sends_never_opens_and_never_panics(token in "[A-Za-z0-9_-]{0,200}") {
        prop_assert_eq!(sealer(KEY).unseal_token("session", &token, b""), Err(DoesNotOpen));
    }

    #[test]
    fn one_changed_bit_and_it_stays_shut(plain in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let sealer = sealer(KEY);
        let token = sealer.seal_token("session", &plain, b"");
        prop_assert_eq!(sealer.unseal_token("session", &token, b""), Ok(plain));
        let mut bytes = URL_SAFE_NO_PAD.decode(&token).expect("base64url");
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(sealer.unseal_token("session", &URL_SAFE_NO_PAD.encode(bytes), b""), Err(DoesNotOpen));
    }
}

/// Every form, and every text that could be two of them.
#[test]
fn a_master_key_is_read_by_prefix_then_by_length() {
    let hex64 = KEY;
    let hex48 = &KEY[..48];
    let hex32 = &KEY[..32];
    let base64_44 = "jx0MW6TnljLYXh96CzxtniSluMfw4dLDtKWWh3hpWks=";
    let base64_43 = &base64_44[..43];
    let raw32 = "q8Z!pL3v@Xw5#Tn7$Rk9%Bm2^Hj4&Fd6";
    let base64_of_24 = "jx0MW6TnljLYXh96CzxtniSluMfw4dLD";
    let base64_of_16 = "jx0MW6TnljLYXh96Czxtng==";
    let read =
        |text: &str| MasterKey::from_env_text(text).map(|(key, warning)| (key.bytes().to_vec(), warning));
    let bytes64: Vec<u8> = read(hex64).expect("hex").0;
    let short = |bytes| Some(Warning::Short { bytes });

    // Without a prefix.
    assert_eq!(bytes64.len(), 32);
    assert_eq!(read(hex64).map(|(_, warning)| warning), Ok(None));
    assert_eq!(read(&hex64.to_uppercase()), Ok((bytes64.clone(), None)));
    assert_eq!(read(hex48), Ok((bytes64[..24].to_vec(), short(24))));
    assert_eq!(read(base64_44), Ok((bytes64.clone(), None)));
    assert_eq!(read(&base64_44.replace('+', "-").replace('/', "_")), Ok((bytes64.clone(), None)));
    assert_eq!(read(raw32), Ok((raw32.as_bytes().to_vec(), None)));
    // 32 hex digits, and 32 or 24 characters of base64, are raw bytes: only a prefix makes them more.
    assert_eq!(read(hex32), Ok((hex32.as_bytes().to_vec(), None)));
    assert_eq!(read(base64_of_24), Ok((base64_of_24.as_bytes().to_vec(), None)));
    assert_eq!(read(base64_of_16), Ok((base64_of_16.as_bytes().to_vec(), short(24))));
    assert_eq!(read(&raw32[..16]), Ok((raw32.as_bytes()[..16].to_vec(), short(16))));
    // A file's line end is no part of the key.
    assert_eq!(read(&format!("{hex64}\r\n")), Ok((bytes64.clone(), None)));

    // With one.
    assert_eq!(read(&format!("hex:{hex64}")), Ok((bytes64.clone(), None)));
    assert_eq!(read(&format!("hex:{hex32}")), Ok((bytes64[..16].to_vec(), short(16))));
    assert_eq!(read(&format!("base64:{base64_44}")), Ok((bytes64.clone(), None)));
    assert_eq!(read(&format!("base64:{base64_43}")), Ok((bytes64.clone(), None)));
    assert_eq!(read(&format!("base64:{base64_of_24}")), Ok((bytes64[..24].to_vec(), short(24))));
    assert_eq!(read(&format!("base64:{base64_of_16}")), Ok((bytes64[..16].to_vec(), short(16))));
    assert_eq!(read(&format!("raw:{raw32}")), Ok((raw32.as_bytes().to_vec(), None)));
    assert_eq!(read(&format!("raw:{hex32}")), Ok((hex32.as_bytes().to_vec(), None)));

    // Refused.
    for (text, error) in [
        ("", KeyError::Shape),
        (base64_43, KeyError::Shape),
        (&hex64[..63], KeyError::Shape),
        (&hex64.replace('8', "g"), KeyError::Shape),
        (&base64_44.replace('j', "!"), KeyError::Shape),
        (&format!("hex:{}", &hex64[..63]), KeyError::NotHex),
        ("hex:zz", KeyError::NotHex),
        ("base64:!", KeyError::NotBase64),
        ("hex:00ff", KeyError::Length { bytes: 2 }),
        (&format!("raw:{hex64}"), KeyError::Length { bytes: 64 }),
        ("raw:", KeyError::Length { bytes: 0 }),
        (&"0".repeat(64), KeyError::AllZero),
        (&"0".repeat(32), KeyError::AllZero),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", KeyError::AllZero),
        ("change-me-please-change-me-now-32", KeyError::Shape),
        ("change-me-please-change-me-now-3", KeyError::Placeholder),
        ("<put your 32 characters in here>", KeyError::Placeholder),
        (&"ab".repeat(32), KeyError::Placeholder),
        ("0123456789abcdef0123456789abcdef", KeyError::Placeholder),
        ("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", KeyError::Placeholder),
    ] {
        assert_eq!(read(text), Err(error), "{text}");
    }
}

#[test]
fn a_generated_key_is_read_again_and_nothing_prints_it() {
    let text = MasterKey::generate_hex();
    let (key, warning) = MasterKey::from_env_text(text.expose()).expect("its own output");
    assert_eq!((text.expose().len(), warning), (64, None));
    assert_eq!(format!("{key:?} {:?}", Sealer::new(&key)), "MasterKey Sealer");
}
