//! Making the stored XiaoZhi endpoints say what the file says.

use sql::model::{
    ConnParams, FieldError, NewUpstream, Transport, Upstream, UpstreamId, XiaozhiEndpoint, XiaozhiEndpointId,
};
use sql::{api_keys, xiaozhi_endpoints};

use super::super::bodies;
use super::super::xiaozhi::Item;
use super::{Attempt, BootstrapError, overtaken};

impl Attempt<'_> {
    /// One endpoint. Its key is stored by now, if the file names it.
    pub(super) async fn xiaozhi(
        &mut self,
        item: &Item,
        check: &impl Fn(&Upstream) -> Vec<FieldError>,
    ) -> Result<(), BootstrapError> {
        let Some(key) = api_keys::by_name(&mut self.tx, &item.key_name).await? else {
            let pointer = format!("{}/key", item.pointer);
            self.problems.push(FieldError::new(pointer, "no key has this name"));
            return Ok(());
        };
        let stored = xiaozhi_endpoints::by_name(&mut self.tx, &item.new.name).await?;
        let wanted = match &stored {
            Some(stored) => item.over(stored.clone(), key.id),
            None => XiaozhiEndpoint {
                id: XiaozhiEndpointId::new(self.store.clock()),
                key_id: key.id,
                created_at: self.now,
                updated_at: self.now,
                ..item.new.clone()
            },
        };
        // A broker is dialled as an upstream is, and by the same policy.
        let errors = check(&as_upstream(&wanted)).into_iter();
        let pointer = format!("{}/url", item.pointer);
        self.problems.extend(errors.map(|error| FieldError::new(pointer.clone(), error.message)));
        if stored.as_ref() == Some(&wanted) {
            self.applied.unchanged += 1;
            return Ok(());
        }
        let diff = bodies::xiaozhi_diff(stored.as_ref(), &wanted, self.store.sealer());
        let action = if let Some(stored) = &stored {
            let next =
                XiaozhiEndpoint { version: stored.version + 1, updated_at: self.now, ..wanted.clone() };
            if !xiaozhi_endpoints::update(&mut self.tx, &next, stored.version).await? {
                return Err(overtaken("xiaozhi_endpoints").into());
            }
            self.applied.changed += 1;
            "xiaozhi.update"
        } else {
            xiaozhi_endpoints::insert(&mut self.tx, &wanted).await?;
            self.applied.created += 1;
            "xiaozhi.create"
        };
        self.record(action, Some(wanted.id.to_string()), &wanted.name, diff).await
    }
}

fn as_upstream(endpoint: &XiaozhiEndpoint) -> Upstream {
    let url = endpoint.url.expose().clone();
    let params = ConnParams::Http { url, headers: std::collections::BTreeMap::new() };
    let new = NewUpstream::named(&endpoint.name, Transport::Websocket, params);
    Upstream::create(new, UpstreamId::from_uuid(endpoint.id.uuid()), endpoint.created_at)
}
