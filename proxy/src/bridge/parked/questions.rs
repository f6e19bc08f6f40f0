//! What an upstream wants to know in the middle of a call, as `inputRequests` and `inputResponses`.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::downstream::abilities::Abilities;
use crate::downstream::conversation::{Ask, AskRefused};
use crate::upstream::call::Answer;
use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::meta;

/// Requests of one call that may wait for its client together: more than any form has.
const QUESTIONS_MAX: usize = 16;

/// Longest name of a property that a key is made of.
const KEY_PART_BYTES_MAX: usize = 64;

const ELICIT: &str = "elicitation/create";
const SAMPLE: &str = "sampling/createMessage";
const ROOTS: &str = "roots/list";

/// The requests of one call that its client has yet to answer, in the order they came.
#[derive(Default)]
pub(super) struct Questions {
    open: Vec<Question>,
    asked: u32,
    /// Answers that the client brought before it was asked.
    brought: Option<Object>,
    /// What the client would have to be able to do; it can't, and the upstream was told.
    lacking: BTreeSet<Capability>,
}

struct Question {
    key: String,
    ask: Ask,
}

/// A capability of clients that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Capability {
    ElicitationForm,
    ElicitationUrl,
    Roots,
    Sampling,
}

impl Capability {
    fn of(ask: &Ask) -> Option<Self> {
        match &*ask.method {
            ELICIT
                if Abilities { elicitation_form: true, ..Abilities::default() }
                    .admit(ELICIT, ask.params.as_deref()) =>
            {
                Some(Self::ElicitationForm)
            }
            ELICIT => Some(Self::ElicitationUrl),
            SAMPLE => Some(Self::Sampling),
            ROOTS => Some(Self::Roots),
            _ => None,
        }
    }
}

/// The `requiredCapabilities` of an error -32021.
pub(super) fn required(capabilities: &BTreeSet<Capability>) -> serde_json::Value {
    let abilities = Abilities {
        sampling: capabilities.contains(&Capability::Sampling),
        elicitation_form: capabilities.contains(&Capability::ElicitationForm),
        elicitation_url: capabilities.contains(&Capability::ElicitationUrl),
        roots: capabilities.contains(&Capability::Roots),
    };
    serde_json::from_str(abilities.to_json().get()).expect("a map of maps")
}

/// Why `inputResponses` can't be used; an invalid parameter to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadResponses(String);

impl BadResponses {
    pub(super) fn not_an_object() -> Self {
        Self("inputResponses must be an object".into())
    }
}

impl Questions {
    /// None yet; `brought` answers those to come, by their keys. A client that knows what a tool asks may
    /// say it with the call: so does one that retries at a server without a state (2026-07-28, multi
    /// round-trip requests).
    pub(super) fn answered_by(brought: Option<Object>) -> Self {
        Self { brought, ..Self::default() }
    }

    /// Takes one more. One that can't be put to any client is refused at once, and one that was answered
    /// ahead is answered.
    pub(super) fn add(&mut self, ask: Ask) {
        let Some(stem) = stem(&ask) else {
            let refused = AskRefused::unsupported(&ask.method);
            let _ = ask.reply.send(Err(refused)); // It may have been taken back.
            return;
        };
        if self.open.len() >= QUESTIONS_MAX {
            let message = format!("more than {QUESTIONS_MAX} requests wait for the client");
            let _ = ask.reply.send(Err(AskRefused { code: -32603, message }));
            return;
        }
        self.asked += 1;
        let is_taken = self.open.iter().any(|question| question.key == stem);
        let key = if is_taken { format!("{stem}-{}", self.asked) } else { stem };
        let brought = self.brought.as_mut().and_then(|brought| brought.remove(&key));
        match brought.filter(|response| answers(&ask.method, response)) {
            Some(response) => {
                let _ = ask.reply.send(Ok(Answer::Result(response)));
            }
            None => self.open.push(Question { key, ask }),
        }
    }

    /// Whether any waits that this client can be asked. If none does, what it can't be asked is refused;
    /// else that is refused together with the answers to the rest, so that the upstream, which may give
    /// up at the first refusal, gets both.
    pub(super) fn wait_for(&mut self, abilities: Abilities) -> bool {
        self.open.retain(|question| !question.ask.reply.is_closed()); // Taken back.
        let any = self.open.iter().any(|question| question.is_for(abilities));
        if !any {
            self.refuse_all_but(abilities);
        }
        any
    }

    fn refuse_all_but(&mut self, abilities: Abilities) {
        let open = std::mem::take(&mut self.open).into_iter();
        for question in open {
            if question.is_for(abilities) {
                self.open.push(question);
                continue;
            }
            let ask = question.ask;
            self.lacking.extend(Capability::of(&ask));
            tracing::debug!(mcp.method = %ask.method, "a client that can't be asked this wasn't");
            let _ = ask.reply.send(Err(AskRefused::unsupported(&ask.method)));
        }
    }

    /// Refuses all with one reason.
    pub(super) fn refuse(&mut self, refused: &AskRefused) {
        for question in self.open.drain(..) {
            let _ = question.ask.reply.send(Err(refused.clone()));
        }
    }

    /// Whether any waits.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What the client would have needed to be able to do.
    pub(super) fn lacking(&self) -> &BTreeSet<Capability> {
        &self.lacking
    }

    /// What this client can be asked, as the value of `inputRequests`.
    pub(super) fn to_input_requests(&self, abilities: Abilities) -> Bytes {
        let mut requests = Object::empty();
        for Question { key, ask } in self.open.iter().filter(|question| question.is_for(abilities)) {
            requests.set(key, input_request(&ask.method, ask.params.as_ref()));
        }
        requests.into_bytes()
    }

    /// Whether what the client brought answers what was asked, as far as it goes.
    pub(super) fn check(&self, responses: &Object) -> Result<(), BadResponses> {
        for Question { key, ask } in &self.open {
            let Some(response) = responses.get(key) else { continue };
            if !answers(&ask.method, &response) {
                return Err(BadResponses(format!(
                    "inputResponses: \"{key}\" does not answer {}",
                    ask.method
                )));
            }
        }
        Ok(())
    }

    /// Hands the answers on, and refuses what this client can't be asked. What it could be asked and has
    /// no answer waits on; what answers nothing that waits is ignored.
    pub(super) fn answer(&mut self, responses: &Object, abilities: Abilities) {
        let open = std::mem::take(&mut self.open).into_iter();
        for question in open {
            match responses.get(&question.key) {
                Some(response) => {
                    let _ = question.ask.reply.send(Ok(Answer::Result(response)));
                }
                None => self.open.push(question),
            }
        }
        self.refuse_all_but(abilities);
    }
}

impl Question {
    fn is_for(&self, abilities: Abilities) -> bool {
        abilities.admit(&self.ask.method, self.ask.params.as_deref())
    }
}

/// What a question's key begins with; `None` where no client can be asked. A legacy request has no key, so
/// it is made of what is asked for: a form with one field, by the name of that field.
fn stem(ask: &Ask) -> Option<String> {
    match &*ask.method {
        ELICIT => {
            let field = ask.params.as_ref().and_then(only_field);
            Some(field.map_or_else(|| "elicitation".to_owned(), |field| format!("user_{field}")))
        }
        SAMPLE => Some("sampling".to_owned()),
        ROOTS => Some("roots".to_owned()),
        _ => None,
    }
}

/// The field of a form that has no other, if its name is plain.
fn only_field(params: &Bytes) -> Option<String> {
    let schema = Object::parse(params).ok()?.get("requestedSchema")?;
    let fields = Object::parse(&Object::parse(&schema).ok()?.get("properties")?).ok()?;
    let mut names = fields.iter().map(|(name, _)| name);
    let (name, None) = (names.next()?, names.next()) else { return None };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let is_usable = !name.is_empty() && name.len() <= KEY_PART_BYTES_MAX && name.bytes().all(is_plain);
    is_usable.then(|| name.to_owned())
}

/// The `inputResponses` of params; none is an empty object.
pub(super) fn responses(params: &Object) -> Result<Object, BadResponses> {
    let Some(raw) = params.get("inputResponses") else { return Ok(Object::empty()) };
    Object::parse(&raw).map_err(|_| BadResponses::not_an_object())
}

/// A request as a member of `inputRequests`.
pub(super) fn input_request(method: &str, params: Option<&Bytes>) -> Bytes {
    let mut request = Object::empty();
    request.set("method", compose::string(method));
    if let Some(mut params) = params.and_then(|raw| Object::parse(raw).ok()) {
        // Of the upstream's own session: the client could report no progress, and complete no elicitation.
        params.remove("elicitationId");
        if let Some(mut own) = params.get("_meta").and_then(|raw| Object::parse(&raw).ok()) {
            own.remove(meta::PROGRESS_TOKEN);
            if own.is_empty() {
                params.remove("_meta");
            } else {
                params.set("_meta", own.into_bytes());
            }
        }
        request.set("params", params.into_bytes());
    }
    request.into_bytes()
}

/// Whether a response has the form that its request asks for.
fn answers(method: &str, response: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Elicited<'a> {
        #[serde(borrow)]
        action: std::borrow::Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct Sampled<'a> {
        #[serde(borrow, rename = "content")]
        _content: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Listed<'a> {
        #[serde(borrow, rename = "roots")]
        _roots: Vec<&'a RawValue>,
    }
    match method {
        ELICIT => serde_json::from_slice::<Elicited<'_>>(response)
            .is_ok_and(|elicited| matches!(&*elicited.action, "accept" | "decline" | "cancel")),
        SAMPLE => serde_json::from_slice::<Sampled<'_>>(response).is_ok(),
        _ => serde_json::from_slice::<Listed<'_>>(response).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::sync::oneshot;

    use super::*;

    type Reply = oneshot::Receiver<Result<Answer, AskRefused>>;

    fn ask(method: &str, params: &Value) -> (Ask, Reply) {
        let (reply, replied) = oneshot::channel();
        (Ask { method: method.into(), params: Some(Bytes::from(params.to_string())), reply }, replied)
    }

    fn object(value: &Value) -> Object {
        Object::parse(&Bytes::from(value.to_string())).unwrap()
    }

    const ABLE: Abilities =
        Abilities { sampling: true, elicitation_form: true, elicitation_url: false, roots: true };

    fn shown(questions: &Questions) -> Value {
        serde_json::from_slice(&questions.to_input_requests(ABLE)).unwrap()
    }

    #[test]
    fn keys_stay_while_answers_come_one_by_one() {
        let mut questions = Questions::default();
        let (first, mut first_reply) = ask(ELICIT, &json!({"message": "x", "_meta": {"progressToken": 1}}));
        let (second, mut second_reply) = ask(SAMPLE, &json!({"messages": []}));
        questions.add(first);
        questions.add(second);
        let all = shown(&questions);
        assert_eq!(all["elicitation"], json!({"method": ELICIT, "params": {"message": "x"}}));
        questions.answer(&object(&json!({"sampling": {"content": {}}, "other": 1})), ABLE);
        assert!(matches!(second_reply.try_recv(), Ok(Ok(Answer::Result(_)))));
        assert!(first_reply.try_recv().is_err());
        assert_eq!(shown(&questions), json!({"elicitation": all["elicitation"]}));
        let (third, _third_reply) = ask(SAMPLE, &json!({}));
        questions.add(third);
        assert_eq!(
            shown(&questions).as_object().unwrap().keys().collect::<Vec<_>>(),
            ["elicitation", "sampling"]
        );
    }

    #[test]
    fn what_the_client_cannot_do_is_refused_and_remembered() {
        let mut questions = Questions::default();
        let (url, mut url_reply) = ask(ELICIT, &json!({"mode": "url", "message": "x"}));
        let (strange, mut strange_reply) = ask("tasks/list", &json!({}));
        questions.add(url);
        questions.add(strange);
        assert_eq!(strange_reply.try_recv().unwrap(), Err(AskRefused::unsupported("tasks/list")));
        assert!(!questions.wait_for(ABLE));
        assert_eq!(url_reply.try_recv().unwrap(), Err(AskRefused::unsupported(ELICIT)));
        assert_eq!(required(questions.lacking()), json!({"elicitation": {"url": {}}}));
    }

    #[test]
    fn a_refusal_waits_for_the_answers_that_go_with_it() {
        let mut questions = Questions::default();
        let (form, mut form_reply) = ask(ELICIT, &json!({"message": "x"}));
        let (url, mut url_reply) = ask(ELICIT, &json!({"mode": "url", "message": "x"}));
        questions.add(url);
        questions.add(form);
        assert!(questions.wait_for(ABLE));
        assert_eq!(shown(&questions).as_object().unwrap().keys().collect::<Vec<_>>(), ["elicitation-2"]);
        assert!(url_reply.try_recv().is_err() && questions.lacking().is_empty());
        questions.answer(&object(&json!({"elicitation-2": {"action": "accept"}})), ABLE);
        assert!(form_reply.try_recv().unwrap().is_ok());
        assert_eq!(url_reply.try_recv().unwrap(), Err(AskRefused::unsupported(ELICIT)));
        assert!(questions.is_empty());
    }

    #[test]
    fn what_the_upstream_took_back_is_not_asked() {
        let mut questions = Questions::default();
        let (form, reply) = ask(ELICIT, &json!({"message": "x"}));
        questions.add(form);
        drop(reply);
        assert!(!questions.wait_for(ABLE));
        assert!(questions.is_empty() && questions.lacking().is_empty());
    }

    #[test]
    fn an_answer_of_another_form_is_none() {
        let mut questions = Questions::default();
        let (elicit, _a) = ask(ELICIT, &json!({}));
        let (roots, _b) = ask(ROOTS, &json!({}));
        questions.add(elicit);
        questions.add(roots);
        for good in [
            json!({}),
            json!({"elicitation": {"action": "decline"}}),
            json!({"roots": {"roots": []}, "elicitation-9": 7}),
        ] {
            assert_eq!(questions.check(&object(&good)), Ok(()), "{good}");
        }
        for bad in [
            json!({"elicitation": {}}),
            json!({"elicitation": {"action": "perhaps"}}),
            json!({"elicitation": null}),
            json!({"roots": {"roots": {}}}),
            json!({"roots": "none"}),
        ] {
            assert!(questions.check(&object(&bad)).is_err(), "{bad}");
        }
        assert!(responses(&object(&json!({"inputResponses": []}))).is_err());
        assert!(responses(&object(&json!({}))).is_ok());
    }

    #[test]
    fn only_so_many_wait_together() {
        let mut questions = Questions::default();
        let mut replies = Vec::new();
        for _ in 0..=QUESTIONS_MAX {
            let (one, reply) = ask(ROOTS, &json!({}));
            questions.add(one);
            replies.push(reply);
        }
        let last = replies.last_mut().unwrap().try_recv().unwrap();
        assert_eq!(last.unwrap_err().code, -32603);
        assert!(replies[0].try_recv().is_err());
    }

    #[test]
    fn a_key_says_what_is_asked_for_and_is_never_taken_twice() {
        let form =
            |properties: &Value| json!({"message": "x", "requestedSchema": {"properties": properties}});
        let mut questions = Questions::default();
        let mut replies = Vec::new();
        for properties in [
            json!({"name": {}}),
            json!({"name": {}}),
            json!({"a": {}, "b": {}}),
            json!({"what is it?": {}}),
            json!({}),
        ] {
            let (one, reply) = ask(ELICIT, &form(&properties));
            questions.add(one);
            replies.push(reply);
        }
        let mut keys: Vec<_> = shown(&questions).as_object().unwrap().keys().cloned().collect();
        keys.sort();
        assert_eq!(keys, ["elicitation", "elicitation-4", "elicitation-5", "user_name", "user_name-2"]);
    }

    #[test]
    fn what_was_answered_ahead_is_not_asked_and_answers_once() {
        let brought = object(&json!({"user_name": {"action": "decline"}, "sampling": 7}));
        let mut questions = Questions::answered_by(Some(brought));
        let form = json!({"message": "x", "requestedSchema": {"properties": {"name": {}}}});
        let (first, mut first_reply) = ask(ELICIT, &form);
        let (second, _second_reply) = ask(ELICIT, &form);
        let (third, _third_reply) = ask(SAMPLE, &json!({}));
        for one in [first, second, third] {
            questions.add(one);
        }
        assert!(matches!(first_reply.try_recv(), Ok(Ok(Answer::Result(_)))));
        assert_eq!(
            shown(&questions).as_object().unwrap().keys().collect::<Vec<_>>(),
            ["sampling", "user_name"]
        );
    }
}
