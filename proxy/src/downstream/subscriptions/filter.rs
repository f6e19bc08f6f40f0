//! What a client asks to hear of: the filter of `subscriptions/listen` (2026-07-28).

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use super::watch::ANNOUNCED;
use crate::downstream::dispatch::Answered;
use crate::downstream::tasks;
use crate::wire::compose;
use crate::wire::envelope::Request;
use crate::wire::meta;

const INVALID_PARAMS: i64 = -32602;

#[derive(Default, Deserialize)]
struct ListenParams {
    #[serde(default)]
    notifications: Filter,
}

/// What a client asks to hear of (2026-07-28, subscriptions).
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    #[serde(default)]
    tools_list_changed: bool,
    #[serde(default)]
    prompts_list_changed: bool,
    #[serde(default)]
    resources_list_changed: bool,
    #[serde(default)]
    pub(super) resource_subscriptions: Vec<String>,
    /// Of the tasks extension.
    #[serde(default)]
    pub(super) task_ids: Vec<String>,
}

impl Filter {
    /// What a request asks for; where that can't be read, the answer that says so.
    pub(super) fn of(request: &Request) -> Result<Self, Answered> {
        let Some(params) = &request.params else { return Ok(Self::default()) };
        let Ok(ListenParams { notifications }) = serde_json::from_slice(params.raw()) else {
            let text = "params.notifications must be a filter";
            let message = vec![compose::error(Some(&request.id), INVALID_PARAMS, text, None)];
            return Err(Answered { status: StatusCode::OK, message });
        };
        // Tasks, status notifications: who asks for them must have declared the extension.
        if !notifications.task_ids.is_empty() && !tasks::declares_tasks(Some(params)) {
            let message = vec![compose::error_raw(Some(&request.id), &tasks::missing_capability())];
            return Err(Answered { status: StatusCode::BAD_REQUEST, message });
        }
        Ok(notifications)
    }

    pub(super) fn methods(&self) -> Vec<&'static str> {
        let wanted = [self.tools_list_changed, self.prompts_list_changed, self.resources_list_changed];
        ANNOUNCED.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|((method, _), _)| *method).collect()
    }

    /// Params of the acknowledgement: the subset that is honoured.
    pub(super) fn acknowledged(&self, id: &Bytes) -> String {
        let mut honoured = serde_json::Map::new();
        let wanted = [
            ("toolsListChanged", self.tools_list_changed),
            ("promptsListChanged", self.prompts_list_changed),
            ("resourcesListChanged", self.resources_list_changed),
        ];
        for (name, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
            honoured.insert((*name).into(), true.into());
        }
        if !self.resource_subscriptions.is_empty() {
            honoured.insert("resourceSubscriptions".into(), self.resource_subscriptions.clone().into());
        }
        if !self.task_ids.is_empty() {
            honoured.insert("taskIds".into(), self.task_ids.clone().into());
        }
        format!(r#"{{{},"notifications":{}}}"#, tag(id), serde_json::Value::Object(honoured))
    }
}

/// The member that ties a message to its subscription, with the id exactly as the client wrote it.
pub(super) fn tag(id: &Bytes) -> String {
    format!(r#""_meta":{{"{}":{}}}"#, meta::SUBSCRIPTION_ID, raw(id))
}

pub(super) fn raw(id: &Bytes) -> &str {
    std::str::from_utf8(id).expect("the envelope was parsed as UTF-8")
}
