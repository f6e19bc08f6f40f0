//! The script that keeps a shared budget in Redis.
//!
//! A hash: `tat`, the moment (in microseconds of Redis's clock) at which the budget is full again, and for
//! each replica that holds a lease the units it holds (`h:`) and until when they count (`e:`). The budget
//! refills only up to the limit less what is held: what lies at a replica is still to be spent. A lease
//! whose replica fell silent lapses; its units are lost, which errs on the strict side. Whatever else is
//! found there (another type, a moment too far off) is put right.

use std::time::Duration;

use sql::model::RateLimit;

use crate::cache::Lost;
use crate::cache::redis::{Redis, Script};

/// How long a lease counts after its replica was last heard of. The replica gives up on it sooner.
pub(super) const LEASE_TTL: Duration = Duration::from_secs(4);

/// `ARGV`: limit, window in microseconds, replica, units needed (all or none), units the replica holds,
/// units it wants to hold afterwards, the time to live of a lease in microseconds.
/// Answers: granted, units held afterwards less those held before, microseconds until granted.
static BUDGET: Script = Script::new(
    "local limit, window, replica = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
    local need, held, target = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
    local ttl = tonumber(ARGV[7])
    local kind = redis.call('TYPE', KEYS[1]).ok
    if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', KEYS[1]) end
    local time = redis.call('TIME')
    -- Counted from 2026, so that a double holds fractions of a microsecond.
    local now = (time[1] - 1767225600) * 1000000 + time[2]
    local unit = window / limit
    local tat, mine, others = now, 0, 0
    if target > 0 or held > 0 or limit > 50 then
      local fields = redis.call('HGETALL', KEYS[1])
      local units, ends = {}, {}
      for i = 1, #fields, 2 do
        local name, value = fields[i], tonumber(fields[i + 1]) or 0
        if name == 'tat' then tat = value
        elseif string.sub(name, 1, 2) == 'h:' then units[string.sub(name, 3)] = value
        elseif string.sub(name, 1, 2) == 'e:' then ends[string.sub(name, 3)] = value end
      end
      for who, count in pairs(units) do
        local until_ = ends[who] or 0
        if until_ <= now or until_ > now + ttl then
          redis.call('HDEL', KEYS[1], 'h:' .. who, 'e:' .. who)
        elseif who == replica then mine = count
        else others = others + count end
      end
    else
      tat = tonumber(redis.call('HGET', KEYS[1], 'tat')) or now
    end
    -- Full but for what is held; and never further from full than empty, whatever was found.
    tat = math.max(tat, now + (mine + others) * unit)
    tat = math.min(tat, now + limit * unit)
    held = math.min(held, mine)
    -- What the replica holds goes back, and is taken anew.
    tat = tat - held * unit
    local left = (now + limit * unit - tat) / unit
    local whole = math.floor(left + 0.001)
    local granted, wait, keeps = 1, 0, held
    if whole < need then
      granted = 0
      wait = math.ceil((need - left) * unit)
      tat = tat + held * unit
    else
      keeps = math.min(target, whole - need)
      if need == 0 and target > 0 then keeps = math.max(keeps, held) end
      tat = tat + (need + keeps) * unit
    end
    if keeps > 0 then
      redis.call('HSET', KEYS[1], 'h:' .. replica, keeps, 'e:' .. replica, string.format('%.0f', now + ttl))
    elseif mine > 0 then
      redis.call('HDEL', KEYS[1], 'h:' .. replica, 'e:' .. replica)
    end
    redis.call('HSET', KEYS[1], 'tat', string.format('%.3f', tat))
    redis.call('PEXPIRE', KEYS[1], math.ceil((window + ttl) / 1000))
    return {granted, keeps, string.format('%.0f', wait)}",
);

/// What is asked of a budget.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ask {
    /// Units to take now, all or none.
    pub(super) need: u32,
    /// Units leased to this replica that it hasn't spent.
    pub(super) held: u32,
    /// Units it would have on lease afterwards.
    pub(super) target: u32,
}

/// What Redis says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    /// Whether what is needed was taken.
    pub(super) granted: bool,
    /// Units on lease to this replica now.
    pub(super) held: u32,
    /// If not granted: when it may be.
    pub(super) wait: Duration,
}

/// Asks the budget called `name`.
pub(super) async fn ask(redis: &Redis, name: &str, limit: RateLimit, ask: Ask) -> Result<Given, Lost> {
    let window_us = u64::from(limit.window_s) * 1_000_000;
    let [units, window_us] = [u64::from(limit.limit), window_us].map(|number| number.to_string());
    let [need, held, target] = [ask.need, ask.held, ask.target].map(|number| number.to_string());
    let ttl = LEASE_TTL.as_micros().to_string();
    let arguments = [
        units.as_bytes(),
        window_us.as_bytes(),
        redis.replica().as_bytes(),
        need.as_bytes(),
        held.as_bytes(),
    ];
    let arguments = [&arguments[..], &[target.as_bytes(), ttl.as_bytes()]].concat();
    let (granted, held, wait) = redis.eval::<(u8, u32, u64)>(&BUDGET, &[name], &arguments).await?;
    Ok(Given { granted: granted == 1, held, wait: Duration::from_micros(wait) })
}
