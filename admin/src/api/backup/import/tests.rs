//! Backups that come back: whole, altered, without their secrets, to a gateway that has things already.

use serde_json::{Value, json};

use crate::testing::{Answer, Scene};

const EXPORT: &str = "/api/admin/backup/export";
const PREVIEW: &str = "/api/admin/backup/preview";
const IMPORT: &str = "/api/admin/backup/import";
const WORD: &str = "correct horse battery";

/// Upstreams with secrets, a key for one of them, rules of each owner, names, settings.
async fn furnished() -> Scene {
    let scene = Scene::logged_in().await;
    let files = scene
        .post(
            "/api/admin/upstreams",
            json!({"name": "files", "transport": "stdio", "credential": "CANARY-credential", "tags": ["t"],
                "connParams": {"command": "npx", "args": ["-y", {"secret": "CANARY-arg"}],
                    "env": {"T": {"secret": "CANARY-env"}, "U": "v"}}}),
        )
        .await;
    let files = files.json["id"].as_str().unwrap().to_owned();
    let web = scene.upstream("web").await;
    scene.tool(&files, "read").await;
    scene.tool(&web, "search").await;
    let key = scene.post("/api/admin/keys", json!({"name": "team", "upstreamIds": [files]})).await;
    let key = key.json["id"].as_str().unwrap().to_owned();
    for (path, body) in [
        (
            "aliases",
            json!({"owner": {"type": "upstream", "id": files}, "pattern": "read", "targetName": "look"}),
        ),
        ("aliases", json!({"owner": {"type": "all"}, "pattern": "x", "targetName": "y"})),
        (
            "filters",
            json!({"owner": {"type": "key", "id": key}, "pattern": "delete_.*", "isRegex": true, "action": "deny"}),
        ),
    ] {
        let answer = scene.post(&format!("/api/admin/rules/{path}"), body).await;
        assert_eq!(answer.status, 201, "{}", answer.json);
    }
    let room = json!({"name": "room", "url": "wss://api.xiaozhi.me/mcp/?token=CANARY-token", "keyId": key});
    let room = scene.post("/api/admin/xiaozhi", room).await;
    assert_eq!(room.status, 201, "{}", room.json);
    scene.agree(&files, "read", None).await;
    let patch = json!({"auth": {"session_timeout_s": 600}});
    assert_eq!(
        scene.send("PATCH", "/api/admin/settings", Some(patch), &[("if-match", "\"0\"")]).await.status,
        200
    );
    scene
}

async fn export(scene: &Scene, body: Value) -> Value {
    let answer = scene.post(EXPORT, body).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    answer.json
}

async fn import(scene: &Scene, backup: &Value, passphrase: Option<&str>, mode: &str) -> Answer {
    scene.post(IMPORT, json!({"backup": backup, "passphrase": passphrase, "mode": mode})).await
}

/// What a backup says, but for when it was made and how it was sealed.
fn said(backup: &Value) -> Value {
    let mut said = backup.clone();
    for member in ["createdAt", "secrets", "sha256"] {
        said.as_object_mut().unwrap().remove(member);
    }
    said
}

/// T29: keys as hashes, secrets under the passphrase or not at all.
#[tokio::test]
async fn a_backup_has_no_secret_in_the_clear() {
    let scene = furnished().await;
    let (_, plaintext) = scene.key("other").await;
    for body in [json!({}), json!({"passphrase": WORD})] {
        let backup = export(&scene, body).await;
        let text = backup.to_string();
        assert!(!text.contains("CANARY") && !text.contains(&plaintext) && !text.contains(WORD));
        assert_eq!(backup["format"], "mpg-backup/v1");
    }
    assert_eq!(scene.audited("backup.export").await.len(), 2);
    assert_eq!(scene.post(EXPORT, json!({"passphrase": "short"})).await.pointers(), ["/passphrase"]);
}

#[tokio::test]
async fn what_was_exported_is_restored_elsewhere_with_its_ids_and_secrets() {
    let scene = furnished().await;
    let key = scene.stored_key("team").await;
    let backup = export(&scene, json!({"passphrase": WORD})).await;
    let other = Scene::logged_in().await;
    other.upstream("goes").await;
    let preview = other.post(PREVIEW, json!({"backup": backup, "passphrase": WORD, "mode": "replace"})).await;
    assert_eq!(preview.status, 200, "{}", preview.json);
    assert_eq!(
        other.get("/api/admin/upstreams").await.json["items"][0]["name"],
        "goes",
        "a preview changes nothing"
    );
    let restored = import(&other, &backup, Some(WORD), "replace").await;
    assert_eq!(restored.status, 200, "{}", restored.json);
    assert_eq!(restored.json, preview.json, "a preview says what is done");
    assert_eq!(said(&export(&other, json!({})).await), said(&backup));
    let kept = other.stored_key("team").await;
    assert_eq!((kept.id, kept.hash), (key.id, key.hash));
    let files = backup["upstreams"].as_array().unwrap().iter().find(|one| one["name"] == "files").unwrap();
    let files = other.stored(files["id"].as_str().unwrap()).await;
    assert_eq!(files.credential.unwrap().expose(), "CANARY-credential");
    assert_eq!(other.endpoints().await[0].url.expose(), "wss://api.xiaozhi.me/mcp/?token=CANARY-token");
    // The admin is the one that was there: its session goes on.
    assert_eq!(other.get("/api/admin/auth/me").await.status, 200);
    assert!(!format!("{:?}", other.audited("upstream.restore").await).contains("CANARY"));
    let again = import(&other, &backup, Some(WORD), "replace").await;
    assert_eq!(again.json["changes"], json!([]), "what is so already is no change");
}

#[tokio::test]
async fn without_a_passphrase_stored_secrets_stay_and_missing_ones_are_named() {
    let scene = furnished().await;
    let backup = export(&scene, json!({})).await;
    let here = import(&scene, &backup, None, "merge").await;
    assert_eq!((here.status, &here.json["changes"]), (200, &json!([])), "{}", here.json);
    let other = Scene::logged_in().await;
    let there = import(&other, &backup, None, "merge").await;
    assert_eq!(
        (there.status, &there.json["withoutSecrets"]),
        (200, &json!(["files", "room"])),
        "{}",
        there.json
    );
    assert!(other.endpoints().await.is_empty(), "nobody knows where to dial");
}

/// T29: a stored secret goes nowhere else because a backup says so.
#[tokio::test]
async fn what_is_stored_of_a_secret_is_not_taken_to_another_place() {
    let scene = furnished().await;
    let mut backup = export(&scene, json!({})).await;
    let upstreams = backup["upstreams"].as_array_mut().unwrap();
    let files = upstreams.iter_mut().find(|one| one["name"] == "files").unwrap();
    let id = files["id"].as_str().unwrap().to_owned();
    files["connParams"]["command"] = json!("thief");
    backup.as_object_mut().unwrap().remove("sha256");
    backup["sha256"] = json!(crate::backup::digest(&backup));
    let answer = import(&scene, &backup, None, "merge").await;
    assert_eq!((answer.status, &answer.json["withoutSecrets"]), (200, &json!(["files"])), "{}", answer.json);
    assert!(scene.stored(&id).await.credential.is_none());
}

#[tokio::test]
async fn merging_keeps_what_is_there_and_refuses_to_clash_with_it() {
    let scene = furnished().await;
    let backup = export(&scene, json!({"passphrase": WORD})).await;
    let other = Scene::logged_in().await;
    other.upstream("stays").await;
    assert_eq!(import(&other, &backup, Some(WORD), "merge").await.status, 200);
    assert_eq!(other.get("/api/admin/upstreams").await.json["total"], 3);
    let third = Scene::logged_in().await;
    third.upstream("web").await;
    third.key("team").await;
    third.xiaozhi("room").await;
    let refused = import(&third, &backup, Some(WORD), "merge").await;
    assert_eq!((refused.status, &refused.json["code"]), (422, &json!("BACKUP_INVALID")), "{}", refused.json);
    assert_eq!(
        refused.pointers(),
        ["/backup/upstreams/1/name", "/backup/keys/0/name", "/backup/xiaozhi/0/name"]
    );
    assert_eq!(third.get("/api/admin/upstreams").await.json["total"], 1);
}

/// Any change of a backup is refused, and a refused one changes nothing.
#[tokio::test]
async fn what_was_altered_is_refused_and_changes_nothing() {
    let scene = furnished().await;
    let backup = export(&scene, json!({"passphrase": WORD})).await;
    let other = Scene::logged_in().await;
    let before = said(&export(&other, json!({})).await);
    let mut refused = vec![
        import(&other, &backup, Some("wrong horse battery"), "replace").await,
        import(&other, &backup, None, "replace").await,
        import(&other, &json!({}), None, "replace").await,
        import(&other, &json!(7), None, "replace").await,
    ];
    let mut pointers = Vec::new();
    leaves("", &backup, &mut pointers);
    assert!(pointers.len() > 50, "{}", pointers.len());
    for pointer in pointers {
        let mut altered = backup.clone();
        let place = altered.pointer_mut(&pointer).unwrap();
        *place = match place.take() {
            Value::String(text) => json!(format!("{text}x")),
            Value::Number(_) => json!(987_654),
            Value::Bool(flag) => json!(!flag),
            _ => json!("x"),
        };
        refused.push(import(&other, &altered, Some(WORD), "replace").await);
    }
    for answer in refused {
        assert_eq!((answer.status, &answer.json["code"]), (422, &json!("BACKUP_INVALID")), "{}", answer.json);
    }
    assert_eq!(said(&export(&other, json!({})).await), before);
}

fn leaves(pointer: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                leaves(&crate::fields::pointer_to(pointer, name), value, found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                leaves(&format!("{pointer}/{index}"), value, found);
            }
        }
        _ => found.push(pointer.to_owned()),
    }
}

/// T26: a restore is a way in like any other.
#[tokio::test]
async fn the_policy_is_asked() {
    let scene = furnished().await;
    let backup = export(&scene, json!({"passphrase": WORD})).await;
    let other = Scene::logged_in().await;
    other.plane.forbid("/connParams/command", "this command is not allowed");
    let answer = import(&other, &backup, Some(WORD), "merge").await;
    assert_eq!((answer.status, &answer.json["code"]), (422, &json!("BACKUP_INVALID")));
    assert_eq!(other.get("/api/admin/upstreams").await.json["total"], 0);
}

#[tokio::test]
async fn the_body_is_read_strictly() {
    let scene = Scene::logged_in().await;
    let answer = scene.post(PREVIEW, json!({"mode": "maybe", "extra": 1, "passphrase": 7})).await;
    let mut pointers = answer.pointers();
    pointers.sort();
    assert_eq!(pointers, ["/backup", "/extra", "/mode", "/passphrase"]);
}

/// What was agreed to of a tool isn't forgotten by a restore, nor where the upstream was then.
#[tokio::test]
async fn pins_come_back() {
    let scene = furnished().await;
    let upstream =
        scene.get("/api/admin/upstreams").await.json["items"][0]["id"].as_str().unwrap().to_owned();
    scene.agree(&upstream, "moved", Some([7; 32])).await;
    let backup = export(&scene, json!({"passphrase": WORD})).await;
    let other = Scene::logged_in().await;
    assert_eq!(import(&other, &backup, Some(WORD), "replace").await.status, 200);
    let kept = |pin: &sql::model::Pin| (pin.upstream_name.clone(), pin.pin, pin.approved.clone(), pin.review);
    let (before, after) = (scene.pins().await, other.pins().await);
    assert_eq!(before.iter().map(kept).collect::<Vec<_>>(), after.iter().map(kept).collect::<Vec<_>>());
    let moved =
        |pins: &[sql::model::Pin]| pins.iter().find(|pin| pin.upstream_name == "moved").unwrap().identity;
    assert_ne!(moved(&after), [7; 32], "which says nothing of where");
    let read =
        |pins: &[sql::model::Pin]| pins.iter().find(|pin| pin.upstream_name == "read").unwrap().identity;
    assert_eq!(read(&before), read(&after));
    assert_ne!(moved(&after), read(&after));
}

/// Whatever is configured comes back as it was, and restoring it once more changes nothing.
#[tokio::test]
async fn any_installation_comes_back() {
    let seeds = 0..12_u64;
    for seed in seeds {
        let mut dice = Dice(seed);
        let scene = Scene::logged_in().await;
        let mut upstreams = Vec::new();
        for at in 0..dice.below(4) {
            let body = json!({
                "name": format!("u{at} \u{e9}\"\\{seed}"), "transport": "streamable-http",
                "connParams": {"url": format!("https://h{at}.example/mcp"),
                    "headers": {"X-a~b": {"secret": format!("CANARY-{at}")}, "X-Plain": "\u{1F980}"}},
                "credential": if dice.below(2) == 0 { json!(null) } else { json!("CANARY-credential") },
                "enabled": dice.below(2) == 0, "namePrefix": "p_".repeat(dice.below(2)),
                "tags": (["a", "b"][..dice.below(3)].to_vec()),
                "onToolChange": (["allow", "warn", "hold"][dice.below(3)]),
            });
            let made = scene.post("/api/admin/upstreams", body).await;
            assert_eq!(made.status, 201, "{}", made.json);
            let id = made.json["id"].as_str().unwrap().to_owned();
            scene.tool(&id, &format!("tool {at}")).await;
            scene.agree(&id, "tool", None).await;
            upstreams.push(id);
        }
        for at in 0..dice.below(4) {
            let shown = if dice.below(2) == 0 { json!(null) } else { json!(upstreams) };
            let body = json!({"name": format!("k{at}"), "upstreamIds": shown, "allowedCidrs": ["10.0.0.0/8"],
                "mode": (["inherit", "smart", "full"][dice.below(3)]), "quotaPerDay": 10,
                "rateLimit": {"limit": 1 + dice.below(99), "windowS": 60}, "expiresAt": "2031-02-03T04:05:06Z"});
            let made = scene.post("/api/admin/keys", body).await;
            assert_eq!(made.status, 201, "{}", made.json);
            let id = made.json["id"].as_str().unwrap().to_owned();
            if dice.below(2) == 0 {
                let path = format!("/api/admin/keys/{id}/rotate");
                assert_eq!(scene.post(&path, json!({"overlapS": 3600})).await.status, 200);
            }
            let owner =
                if dice.below(2) == 0 { json!({"type": "all"}) } else { json!({"type": "key", "id": id}) };
            let rule = json!({"owner": owner, "pattern": "(a)_.*", "isRegex": true, "targetName": "$1_x"});
            assert_eq!(scene.post("/api/admin/rules/aliases", rule).await.status, 201);
            if dice.below(2) == 0 {
                let room = json!({"name": format!("r{at}"), "url": format!("wss://h/?token=CANARY-{at}"), "keyId": id,
                    "toolsMax": 1 + dice.below(200), "enabled": dice.below(2) == 0});
                assert_eq!(scene.post("/api/admin/xiaozhi", room).await.status, 201);
            }
        }
        let backup = export(&scene, json!({"passphrase": WORD})).await;
        assert!(!backup.to_string().contains("CANARY"), "seed {seed}");
        for mode in ["merge", "replace"] {
            let other = Scene::logged_in().await;
            let restored = import(&other, &backup, Some(WORD), mode).await;
            assert_eq!(restored.status, 200, "seed {seed}: {}", restored.json);
            assert_eq!(said(&export(&other, json!({})).await), said(&backup), "seed {seed}");
            let again = import(&other, &backup, Some(WORD), mode).await;
            assert_eq!(again.json["changes"], json!([]), "seed {seed}");
        }
    }
}

/// Small numbers that look random, the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
        self.0 ^= self.0 >> 29;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Two that changed names with one another change back.
#[tokio::test]
async fn names_can_be_swapped_and_rules_have_their_limit() {
    let scene = Scene::logged_in().await;
    let (one, two) = (scene.upstream("one").await, scene.upstream("two").await);
    let backup = export(&scene, json!({})).await;
    for (id, name, etag) in [(&one, "x", "\"1\""), (&two, "one", "\"1\""), (&one, "two", "\"2\"")] {
        let path = format!("/api/admin/upstreams/{id}");
        let patched = scene.send("PATCH", &path, Some(json!({"name": name})), &[("if-match", etag)]).await;
        assert_eq!(patched.status, 200, "{}", patched.json);
    }
    let restored = import(&scene, &backup, None, "merge").await;
    assert_eq!(restored.status, 200, "{}", restored.json);
    assert_eq!(said(&export(&scene, json!({})).await), said(&backup));
    let rule = |at: usize| json!({"owner": {"type": "all"}, "pattern": format!("t{at}"), "action": "deny"});
    scene.post("/api/admin/rules/filters", rule(0)).await;
    let backup = export(&scene, json!({})).await;
    let id = backup["filterRules"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(scene.delete(&format!("/api/admin/rules/filters/{id}")).await.status, 204);
    for at in 1..=200 {
        assert_eq!(scene.post("/api/admin/rules/filters", rule(at)).await.status, 201);
    }
    let refused = import(&scene, &backup, None, "merge").await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/backup/filterRules".to_owned()]));
}

/// Who agreed to what a preview showed has agreed to nothing else: not to deleting what came after it.
#[tokio::test]
async fn what_was_previewed_is_restored_or_nothing_is() {
    let scene = furnished().await;
    let backup = export(&scene, json!({})).await;
    let asked = |digest: &Value| json!({"backup": backup, "mode": "replace", "previewed": digest});
    scene.upstream("after").await;
    let preview = scene.post(PREVIEW, json!({"backup": backup, "mode": "replace"})).await.json;
    let digest = &preview["digest"];
    assert_eq!(digest.as_str().unwrap().len(), 64);
    assert_eq!(&scene.post(PREVIEW, asked(&json!(null))).await.json["digest"], digest, "it is no accident");
    scene.upstream("another").await;
    let refused = scene.post(IMPORT, asked(digest)).await;
    assert_eq!((refused.status, &refused.json["code"]), (409, &json!("CONFLICT")), "{}", refused.json);
    let names = |answer: Answer| answer.json["items"].to_string();
    assert!(names(scene.get("/api/admin/upstreams").await).contains("another"), "nothing was done");
    let preview = scene.post(PREVIEW, asked(&json!(null))).await.json;
    let restored = scene.post(IMPORT, asked(&preview["digest"])).await;
    assert_eq!(restored.status, 200, "{}", restored.json);
    let left = names(scene.get("/api/admin/upstreams").await);
    assert!(!left.contains("another") && !left.contains("after"), "{left}");
    let short = scene.post(IMPORT, asked(&json!("abc"))).await;
    assert_eq!((short.status, &short.json["errors"][0]["pointer"]), (422, &json!("/previewed")));
}
