//! The XiaoZhi endpoints of the file: the bodies of the REST API, with a key's name and maybe a file's.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use sql::model::{ApiKeyId, FieldError, Secret, Timestamp, XiaozhiEndpoint, XiaozhiEndpointId};
use uuid::Uuid;

use super::{below, bodies, refuse_second};
use crate::config::read_secret_file;

/// One endpoint of the file.
pub(super) struct Item {
    pub(super) pointer: String,
    /// The fields that the file gives; the others keep what is stored.
    pub(super) said: Map<String, Value>,
    /// What the file says, laid over an endpoint of no installation.
    pub(super) new: XiaozhiEndpoint,
    /// The key it acts as, by name, since a file can't know ids.
    pub(super) key_name: String,
}

impl Item {
    /// What is stored, with what the file says laid over. Address and key are always said.
    pub(super) fn over(&self, stored: XiaozhiEndpoint, key_id: ApiKeyId) -> XiaozhiEndpoint {
        let new = self.new.clone();
        let said = |field| self.said.contains_key(field);
        XiaozhiEndpoint {
            url: new.url,
            key_id,
            enabled: if said("enabled") { new.enabled } else { stored.enabled },
            mode: if said("mode") { new.mode } else { stored.mode },
            tools_max: if said("toolsMax") { new.tools_max } else { stored.tools_max },
            description_max: if said("descriptionMax") {
                new.description_max
            } else {
                stored.description_max
            },
            deadline_s: if said("deadlineS") { new.deadline_s } else { stored.deadline_s },
            ..stored
        }
    }
}

/// Reads the group.
pub(super) fn read(items: Vec<(String, Map<String, Value>)>, problems: &mut Vec<FieldError>) -> Vec<Item> {
    let mut named = BTreeMap::new();
    let mut endpoints = Vec::new();
    for (pointer, mut said) in items {
        let (key_name, url) = (key_name(&mut said), url(&mut said));
        if let Ok(Some(url)) = &url {
            said.insert("url".to_owned(), url.expose().as_str().into());
        }
        let body = Value::Object(said.clone());
        let mut errors: Vec<FieldError> = Vec::new();
        let url_fails = url.is_err();
        errors.extend(url.err());
        errors.extend(key_name.as_ref().err().cloned());
        match bodies::xiaozhi(body, &blank()) {
            Ok(new) => {
                refuse_second("name", &new.name, &pointer, &mut named, problems);
                if let (Ok(key_name), true) = (key_name, errors.is_empty()) {
                    endpoints.push(Item { pointer: pointer.clone(), said, new, key_name });
                }
            }
            // That there is no address is said already, where its file can't be read.
            Err(found) => {
                errors.extend(found.into_iter().filter(|error| !url_fails || error.pointer != "/url"));
            }
        }
        problems.extend(errors.into_iter().map(|error| below(&pointer, error)));
    }
    endpoints
}

/// An endpoint that nothing was said of.
fn blank() -> XiaozhiEndpoint {
    let (id, key) = (XiaozhiEndpointId::from_uuid(Uuid::nil()), ApiKeyId::from_uuid(Uuid::nil()));
    XiaozhiEndpoint::create(id, "", Secret::new(String::new()), key, Timestamp::from_millis(0))
}

/// Takes the name of the key out of the body; the parser of bodies wants an id in its place.
fn key_name(said: &mut Map<String, Value>) -> Result<String, FieldError> {
    if said.contains_key("keyId") {
        said.insert("keyId".to_owned(), Uuid::nil().to_string().into());
        return Err(FieldError::new("/keyId", "is not known to a file; give the name of the key as key"));
    }
    said.insert("keyId".to_owned(), Uuid::nil().to_string().into());
    match said.remove("key") {
        Some(Value::String(name)) => Ok(name),
        Some(_) => Err(FieldError::new("/key", "must be the name of a key")),
        None => Err(FieldError::new("/key", "is required: the name of the key that it acts as")),
    }
}

/// Takes the address out of the file that the body may name.
fn url(said: &mut Map<String, Value>) -> Result<Option<Secret<String>>, FieldError> {
    match said.remove("urlFile") {
        None => Ok(None),
        Some(_) if said.contains_key("url") => {
            Err(FieldError::new("/urlFile", "stands together with url; give one of them"))
        }
        Some(Value::String(path)) => match read_secret_file(Path::new(&path)) {
            Ok(text) => Ok(Some(Secret::new(text.trim().to_owned()))),
            Err(message) => Err(FieldError::new("/urlFile", message)),
        },
        Some(_) => Err(FieldError::new("/urlFile", "must be a text")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sql::model::{KeyMode, PageRequest};
    use sql::seal::MasterKey;
    use sql::{Clock, Database, Store, StoreOptions, audit_log, xiaozhi_endpoints};

    use super::super::apply::Applied;
    use super::super::{Bootstrap, BootstrapError};
    use super::*;

    const WHOLE: &str = r#"
keys:
  - {name: robot, key: mpg_Zk3v9Qx1LrT7_ybW0nPdCu5HsJ8aGf2EoMi4RtKqYX6}
xiaozhi:
  - {name: room, url: "wss://api.xiaozhi.me/mcp/?token=CANARY", key: robot, mode: smart, toolsMax: 5}
"#;

    async fn store() -> Store {
        let (master_key, _) = MasterKey::from_env_text(MasterKey::generate_hex().expose()).unwrap();
        let options = StoreOptions {
            database: Database::SqliteMemory,
            master_key,
            previous_keys: Vec::new(),
            clock: Clock::manual(Timestamp::from_millis(1_700_000_000_000)),
            start_timeout: Duration::from_secs(5),
        };
        Store::open(options).await.unwrap()
    }

    fn parse(text: &str) -> Result<Bootstrap, Vec<String>> {
        let parsed = Bootstrap::parse(Path::new("gateway.yaml"), text.as_bytes().to_vec());
        parsed.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    async fn apply(store: &Store, text: &str) -> Applied {
        parse(text).unwrap().apply(store, |_| Vec::new(), |settings| settings).await.unwrap()
    }

    async fn room(store: &Store) -> XiaozhiEndpoint {
        let mut tx = store.read().await.unwrap();
        xiaozhi_endpoints::by_name(&mut tx, "room").await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn what_the_file_says_is_made_so_once() {
        let store = store().await;
        assert_eq!(apply(&store, WHOLE).await, Applied { created: 2, changed: 0, unchanged: 0 });
        let first = room(&store).await;
        assert_eq!((first.mode, first.tools_max, first.description_max), (KeyMode::Smart, 5, 512));
        assert!(first.url.expose().ends_with("CANARY"));
        assert_eq!(apply(&store, WHOLE).await, Applied { created: 0, changed: 0, unchanged: 2 });
        // What isn't said stays as it is.
        let less = WHOLE.replace(", mode: smart, toolsMax: 5", "").replace("CANARY", "CANARY-2");
        assert_eq!(apply(&store, &less).await, Applied { created: 0, changed: 1, unchanged: 1 });
        let second = room(&store).await;
        assert_eq!((second.mode, second.tools_max, second.version), (KeyMode::Smart, 5, 2));
        assert!(second.url.expose().ends_with("CANARY-2"));
        let everything = PageRequest { limit: 100, cursor: None, search: None, sort: None };
        let mut tx = store.read().await.unwrap();
        let page = audit_log::page(&mut tx, &everything, &audit_log::AuditFilter::default()).await.unwrap();
        assert_eq!(page.items.iter().filter(|event| event.action.starts_with("xiaozhi.")).count(), 2);
        assert!(!format!("{:?}", page.items).contains("CANARY"));
    }

    #[test]
    fn everything_wrong_is_told_and_no_value() {
        let told = parse(concat!(
            "xiaozhi:\n",
            "  - name: a\n",
            "    url: https://CANARY/\n",
            "    keyId: 01890000-0000-7000-8000-000000000000\n",
            "  - name: a\n",
            "    urlFile: /does/not/exist\n",
            "    key: 7\n",
            "    toolsMax: 0\n",
        ));
        let told = told.err().expect("refused");
        assert!(told.iter().all(|problem| !problem.contains("CANARY")), "{told:?}");
        for field in [
            ":3: xiaozhi[0].url:",
            ":4: xiaozhi[0].keyId:",
            ":6: xiaozhi[1].urlFile:",
            ":7: xiaozhi[1].key:",
            ":8: xiaozhi[1].toolsMax:",
        ] {
            assert!(told.iter().any(|problem| problem.contains(field)), "{field} in {told:?}");
        }
    }

    #[tokio::test]
    async fn a_key_that_is_not_there_and_an_address_that_is_not_allowed_are_refused() {
        let store = store().await;
        let text = WHOLE.replace("key: robot", "key: nobody");
        let refused = parse(&text).unwrap().apply(&store, |_| Vec::new(), |settings| settings).await;
        let Err(BootstrapError::Refused(problems)) = refused else { panic!("not refused") };
        assert_eq!(problems[0].to_string(), "gateway.yaml:5: xiaozhi[0].key: no key has this name");
        let never = |_: &sql::model::Upstream| vec![FieldError::new("/connParams/url", "never")];
        let refused = parse(WHOLE).unwrap().apply(&store, never, |settings| settings).await;
        let Err(BootstrapError::Refused(problems)) = refused else { panic!("not refused") };
        assert_eq!(problems[0].to_string(), "gateway.yaml:5: xiaozhi[0].url: never");
    }
}
