//! A script that Redis runs in one piece, known there by its hash once it was sent.

use std::fmt::Write;
use std::sync::OnceLock;

use redis::Cmd;

/// A Lua script; one `static` each, so that its hash is made once.
pub struct Script {
    lua: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    /// A script; it isn't looked at before it is run.
    pub const fn new(lua: &'static str) -> Self {
        Self { lua, hash: OnceLock::new() }
    }

    /// The command that runs it if Redis knows it.
    pub(super) fn by_hash(&self, keys: &[String], arguments: &[&[u8]]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.hash());
        complete(command, keys, arguments)
    }

    /// The command that sends and runs it.
    pub(super) fn whole(&self, keys: &[String], arguments: &[&[u8]]) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.lua);
        complete(command, keys, arguments)
    }

    fn hash(&self) -> &str {
        self.hash.get_or_init(|| {
            // Redis's choice; it protects nothing.
            let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, self.lua.as_bytes());
            let mut hash = String::with_capacity(40);
            for byte in digest.as_ref() {
                // Writing to a string can't fail.
                let _ = write!(hash, "{byte:02x}");
            }
            hash
        })
    }
}

fn complete(mut command: Cmd, keys: &[String], arguments: &[&[u8]]) -> Cmd {
    command.arg(keys.len());
    for key in keys {
        command.arg(key);
    }
    for argument in arguments {
        command.arg(*argument);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_that_redis_makes() {
        // As `SCRIPT LOAD "return 1"` answers.
        assert_eq!(Script::new("return 1").hash(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
