//! Making the stored rules say what the file says.

use sql::model::rule::RULES_PER_OWNER_MAX;
use sql::model::{FieldError, RuleId, RuleOwner};
use sql::{api_keys, rules, upstreams};

use super::super::rules::{Declared, OwnerName, RuleItem};
use super::{Attempt, BootstrapError, overtaken};

impl Attempt<'_> {
    /// One rule. Its owner is stored by now, if the file names it.
    pub(super) async fn rule<R: Declared>(&mut self, item: &RuleItem<R>) -> Result<(), BootstrapError> {
        let Some(owner) = self.owner(item).await? else { return Ok(()) };
        let owned = R::of(rules::of_owner(&mut self.tx, owner).await?);
        let last = owned.last().map(Declared::sort_order);
        let stored = owned.into_iter().find(|rule| rule.meaning() == item.new.meaning());
        let wanted = if let Some(stored) = &stored {
            stored.clone().over(item)
        } else {
            let behind = last.map_or(0, |last| last.saturating_add(1));
            let place = if item.placed { item.new.sort_order() } else { behind };
            item.new.clone().made(owner, RuleId::new(self.store.clock()), place, self.now)
        };
        if stored.as_ref() == Some(&wanted) {
            self.applied.unchanged += 1;
            return Ok(());
        }
        let diff = R::diff(stored.as_ref(), &wanted);
        let action = if let Some(stored) = &stored {
            if !rules::update(&mut self.tx, &wanted.clone().next(self.now), stored.version()).await? {
                return Err(overtaken("rules").into());
            }
            self.applied.changed += 1;
            R::UPDATE
        } else {
            rules::insert(&mut self.tx, &wanted).await?;
            if rules::count::<R>(&mut self.tx, owner).await? > RULES_PER_OWNER_MAX {
                let message = format!("its owner has {RULES_PER_OWNER_MAX} such rules already");
                self.problems.push(FieldError::new(item.pointer.clone(), message));
            }
            self.applied.created += 1;
            R::CREATE
        };
        // What a key's rules name is named in its view alone.
        self.renamed |= R::NAMES && !matches!(owner, RuleOwner::Key(_));
        self.record(action, Some(wanted.id().to_string()), wanted.pattern(), diff).await
    }

    /// The owner behind a name.
    async fn owner<R>(&mut self, item: &RuleItem<R>) -> Result<Option<RuleOwner>, BootstrapError> {
        let (found, message) = match &item.owner {
            OwnerName::All => return Ok(Some(RuleOwner::All)),
            OwnerName::Upstream(name) => {
                let upstream = upstreams::by_name(&mut self.tx, name).await?;
                (upstream.map(|upstream| RuleOwner::Upstream(upstream.id)), "no upstream has this name")
            }
            OwnerName::Key(name) => {
                let key = api_keys::by_name(&mut self.tx, name).await?;
                (key.map(|key| RuleOwner::Key(key.id)), "no key has this name")
            }
        };
        if found.is_none() {
            self.problems.push(FieldError::new(format!("{}/owner/name", item.pointer), message));
        }
        Ok(found)
    }
}
