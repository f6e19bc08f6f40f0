//! The passphrase of a backup: from a file, from the environment, or asked for at a terminal. Never an argument,
//! which every user of the machine can read.

use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use admin::transfer::PASSPHRASE_CHARS_MAX;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use sql::model::Secret;

use crate::config::{Config, read_secret_file};
use crate::failure::Failure;

/// The longest line that is listened to, in bytes: a character has four at most.
const TYPED_BYTES_MAX: usize = 4 * PASSPHRASE_CHARS_MAX;

/// What the keys of a terminal send.
const INTERRUPT: u8 = 3;
const END: u8 = 4;
const BACKSPACE: [u8; 2] = [8, 127];

/// The passphrase that was given without being asked for; a flag stands before the environment.
pub(super) fn given(config: &Config, file: Option<&Path>) -> Result<Option<Secret<String>>, Failure> {
    let Some(file) = file else { return Ok(config.backup_passphrase.clone()) };
    let text = read_secret_file(file)
        .map_err(|message| Failure::General(format!("--passphrase-file: {message}")))?;
    Ok(Some(Secret::new(text)))
}

/// Whether somebody is there to be asked.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Asks at the terminal, which shows nothing of the answer.
pub(super) fn ask(prompt: &str) -> Result<Secret<String>, Failure> {
    let failed =
        |error: io::Error| Failure::General(format!("cannot ask for a passphrase: {}", error.kind()));
    let silent = Silent::begin().map_err(failed)?;
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{prompt}: ");
    let typed = line(io::stdin().lock().bytes());
    drop(silent);
    let _ = writeln!(stderr);
    typed.map_err(failed)?.ok_or_else(|| Failure::General("nothing was done".to_owned()))
}

/// One line, key by key; nothing if it was given up.
fn line(keys: impl Iterator<Item = io::Result<u8>>) -> io::Result<Option<Secret<String>>> {
    // As long as it may become, so that it never moves and leaves a copy behind.
    let mut typed = Vec::with_capacity(TYPED_BYTES_MAX);
    for key in keys {
        match key? {
            b'\r' | b'\n' => {
                let text =
                    String::from_utf8(typed).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                return Ok(Some(Secret::new(text)));
            }
            INTERRUPT | END => return Ok(None),
            key if BACKSPACE.contains(&key) => {
                // The whole character, whose later bytes all look like this.
                while typed.pop().is_some_and(|byte: u8| byte & 0b1100_0000 == 0b1000_0000) {}
            }
            key if typed.len() < TYPED_BYTES_MAX => typed.push(key),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(None)
}

/// A terminal that shows nothing and hands over each key. Dropped, it is as it was.
struct Silent(Termios);

impl Silent {
    fn begin() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        // Without signals: an interrupt would end the process and leave the terminal silent.
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // A terminal that has gone away needs nothing.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> io::Result<Option<String>> {
        Ok(line(keys.iter().copied().map(Ok))?.map(|secret| secret.expose().clone()))
    }

    #[test]
    fn a_line_is_what_was_typed_and_not_taken_back() {
        assert_eq!(typed(b"correct horse\nbattery\n").unwrap().as_deref(), Some("correct horse"));
        assert_eq!(typed("aé\u{7f}\u{7f}b\u{8}\u{8}c\r".as_bytes()).unwrap().as_deref(), Some("c"));
        assert_eq!(typed(b"\n").unwrap().as_deref(), Some(""));
        for given_up in [&b"abc\x03"[..], b"\x04", b"abc"] {
            assert_eq!(typed(given_up).unwrap(), None);
        }
        assert!(typed(&[b'a'; TYPED_BYTES_MAX + 1]).is_err());
        assert!(typed(&[0xff, b'\n']).is_err());
    }
}
