//! Settling names in the store, in the transaction of whatever they depend on.
//!
//! What a name depends on: the upstream's prefix, its list, the alias rules of the upstream and of all, the
//! greatest length. Whoever writes one of these calls [`resettle`] before the commit; a sync calls
//! [`settle_list`]. So a catalog that shows a change shows the names that come of it. One transaction at a time
//! settles names: two that read the same claims would give one name twice.

use std::collections::HashMap;
use std::sync::Arc;

use sql::model::{Claim, Definition, Kind, OwnerRules, RuleOwner, Upstream, UpstreamId};
use sql::{StoreError, Tx, lists, names, rules, upstreams};

use super::{Claims, Naming, Settled};
use crate::catalog::rules::{CompiledRules, SharedRules};

/// Whose names are settled anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of every upstream: a rule of all, or the greatest length, changed.
    All,
    /// Those of one: its prefix or a rule of its own changed.
    Upstream(UpstreamId),
}

/// Gives every definition in scope the name that it wants by what this transaction has written; the greatest
/// length is that of the settings in force. Names that are wanted as before stay. Followers are told of each
/// list of which a name changed.
///
/// An upstream that isn't there has nothing to settle.
pub async fn resettle(tx: &mut Tx, scope: Scope, length_max: u32) -> Result<(), StoreError> {
    names::lock(tx).await?;
    let upstreams = match scope {
        Scope::All => upstreams::list(tx).await?,
        Scope::Upstream(id) => upstreams::get(tx, id).await?.into_iter().collect(),
    };
    let shared = rules_of(tx, &upstreams).await?;
    for kind in Kind::ALL {
        let mut claims = claims(tx, *kind, length_max).await?;
        let mut wishes = Vec::new();
        for (upstream, rules) in upstreams.iter().zip(&shared) {
            let naming = Naming { prefix: &upstream.name_prefix, rules, length_max: length_max as usize };
            for named in lists::names_of_upstream(tx, upstream.id, *kind).await? {
                let wanted = naming.wanted(*kind, &named.upstream_name);
                wishes.push((upstream.id, named, wanted));
            }
        }
        for (id, named, wanted) in &wishes {
            claims.let_go_of_unwanted(*id, [(&*named.upstream_name, &**wanted)]);
        }
        let mut new = Vec::new();
        let mut renamed = Vec::new();
        for (id, named, wanted) in &wishes {
            let settled = claims.settle(*id, &named.upstream_name, wanted);
            if settled.exposed_name() != named.exposed_name {
                renamed.push((named.id, settled.exposed_name().to_owned()));
            }
            new.extend(settled.into_new());
        }
        claim_all(tx, new).await?;
        for (id, exposed_name) in renamed {
            lists::rename(tx, id, &exposed_name).await?;
        }
    }
    Ok(())
}

/// The exposed names of a list as it was fetched, by upstream name, and whether one of them is a new claim. What
/// isn't on the list keeps its claim.
pub(crate) async fn settle_list(
    tx: &mut Tx,
    upstream: &Upstream,
    kind: Kind,
    names: &[&str],
    length_max: u32,
) -> Result<(HashMap<String, String>, bool), StoreError> {
    names::lock(tx).await?;
    let rules = rules_of(tx, std::slice::from_ref(upstream)).await?.pop().unwrap_or_default();
    let mut claims = claims(tx, kind, length_max).await?;
    let naming = Naming { prefix: &upstream.name_prefix, rules: &rules, length_max: length_max as usize };
    let wishes: Vec<_> = names.iter().map(|name| (*name, naming.wanted(kind, name))).collect();
    claims.let_go_of_unwanted(upstream.id, wishes.iter().map(|(name, wanted)| (*name, &**wanted)));
    let mut exposed = HashMap::with_capacity(names.len());
    let mut new = Vec::new();
    for (name, wanted) in &wishes {
        let settled = claims.settle(upstream.id, name, wanted);
        exposed.insert((*name).to_owned(), settled.exposed_name().to_owned());
        new.extend(settled.into_new());
    }
    let is_new = !new.is_empty();
    claim_all(tx, new).await?;
    Ok((exposed, is_new))
}

/// Takes a definition's name away, as an admin asks for, and settles it anew. The name goes to another
/// definition that wants it, the first in the order of upstreams; where there is none, the definition has it
/// again, or gets the one it wants, should that have been free or held by something that is no longer on any
/// list. Answers what the definition is called now.
pub async fn release(tx: &mut Tx, definition: &Definition, length_max: u32) -> Result<String, StoreError> {
    names::lock(tx).await?;
    let kind = definition.kind;
    let item = (definition.upstream_id, definition.upstream_name.clone());
    let mut claims = claims(tx, kind, length_max).await?;
    let former = claims.of(item.0, &item.1).cloned();
    let mut there: HashMap<(UpstreamId, String), _> = HashMap::new();
    let mut in_order = Vec::new();
    for upstream in upstreams::list(tx).await? {
        for named in lists::names_of_upstream(tx, upstream.id, kind).await? {
            in_order.push((upstream.id, named.upstream_name.clone()));
            there.insert((upstream.id, named.upstream_name.clone()), named);
        }
    }
    let mut given_up = Vec::new();
    if let Some(former) = &former {
        given_up.push(item.clone());
        claims.let_go(&item);
        // One that nobody meets any more holds the name only against this one.
        let holder = claims.holder(&former.wanted).filter(|holder| !there.contains_key(holder)).cloned();
        if let Some(gone) = holder {
            claims.let_go(&gone);
            given_up.push(gone);
        }
    }
    let waits = |claims: &Claims, other: &(UpstreamId, String), name: &str| {
        let claim = claims.of(other.0, &other.1);
        claim.is_some_and(|claim| claim.wanted == name && claim.exposed_name != name)
    };
    let name = former.as_ref().map(|former| former.exposed_name.clone());
    let heir = name.and_then(|name| in_order.into_iter().find(|other| waits(&claims, other, &name)));
    let mut new = Vec::new();
    let wanted = former.map_or_else(|| item.1.clone(), |former| former.wanted);
    for (id, upstream_name) in heir.into_iter().chain([item.clone()]) {
        let key = (id, upstream_name);
        let wanted = claims.of(key.0, &key.1).map_or_else(|| wanted.clone(), |claim| claim.wanted.clone());
        claims.let_go(&key);
        new.extend(claims.settle(key.0, &key.1, &wanted).into_new());
    }
    for (id, upstream_name) in &given_up {
        names::release(tx, kind, *id, upstream_name).await?;
    }
    for claim in &new {
        let named = there.get(&(claim.upstream_id, claim.upstream_name.clone()));
        if let Some(named) = named.filter(|named| named.exposed_name != claim.exposed_name) {
            lists::rename(tx, named.id, &claim.exposed_name).await?;
        }
    }
    claim_all(tx, new).await?;
    let now = claims.of(item.0, &item.1).map(|claim| claim.exposed_name.clone());
    Ok(now.unwrap_or_else(|| definition.exposed_name.clone()))
}

/// The rules that decide on what the catalog has of each upstream, in this transaction.
pub(crate) async fn rules_of(tx: &mut Tx, upstreams: &[Upstream]) -> Result<Vec<SharedRules>, StoreError> {
    let all = rules::of_owner(tx, RuleOwner::All).await?;
    let mut own = Vec::with_capacity(upstreams.len());
    for upstream in upstreams {
        own.push(rules::of_owner(tx, RuleOwner::Upstream(upstream.id)).await?);
    }
    Ok(compiled(all, own).await)
}

/// Compiling takes a while for large expressions: not on a thread that others wait for.
async fn compiled(all: OwnerRules, own: Vec<OwnerRules>) -> Vec<SharedRules> {
    let compile = move || {
        let all = Arc::new(CompiledRules::of(&all));
        let shared =
            |own: &OwnerRules| SharedRules { own: Arc::new(CompiledRules::of(own)), all: Arc::clone(&all) };
        own.iter().map(shared).collect()
    };
    match tokio::task::spawn_blocking(compile).await {
        Ok(compiled) => compiled,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn claims(tx: &mut Tx, kind: Kind, length_max: u32) -> Result<Claims, StoreError> {
    Ok(Claims::new(kind, length_max as usize, names::claims(tx, kind).await?))
}

/// Stores claims in place of the former ones of the same definitions.
async fn claim_all(tx: &mut Tx, claims: Vec<Claim>) -> Result<(), StoreError> {
    // All are given up before any is taken: two definitions may swap their names.
    for claim in &claims {
        names::release(tx, claim.kind, claim.upstream_id, &claim.upstream_name).await?;
    }
    for claim in &claims {
        if !names::claim(tx, claim).await? {
            // Whoever settles names holds the lock, so only a release that knows no lock can be in between.
            return Err(StoreError::Conflict { constraint: "names.kind,exposed_name".into() });
        }
    }
    Ok(())
}

impl Settled {
    fn into_new(self) -> Option<Claim> {
        match self {
            Self::Kept(_) => None,
            Self::New(claim) => Some(claim),
        }
    }
}

#[cfg(test)]
mod tests;
