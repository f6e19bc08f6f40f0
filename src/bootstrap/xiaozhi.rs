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
        match bodies::xiaozhi(body, blank()) {
            Ok(new) => {
                refuse_second("name", &new.name, &pointer, &mut named, problems);
                if let (Ok(key_name), true) = (key_name, errors.is_empty()) {
                    endpoints.push(Item { pointer: pointer.clone(), said, new, key_name });
                }
            }
            // That there is no address is said already, where its file can't be read.
            Err(found) => {
                errors.extend(found.into_iter().filter(|error| !url_fails || error.pointer != "/url"))
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
