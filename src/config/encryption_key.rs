//! The master key: given, or made once and kept in a file that only we may read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sql::StoreOptions;
use sql::model::Secret;
use sql::seal::MasterKey;

use super::variables::{Problem, read_secret_file};

/// Where the master key comes from.
#[derive(Debug)]
pub(crate) enum EncryptionKey {
    /// From `MPG_ENCRYPTION_KEY`, already found to be well formed.
    Given(Secret<String>),
    /// From this file, which is made at the first start.
    Kept(PathBuf),
}

impl EncryptionKey {
    /// Reads the key, making it if this is the first start. Told to the log: a key of one's own that
    /// nobody knows of would be missing from every backup.
    pub(crate) fn obtain(&self) -> Result<MasterKey, Problem> {
        match self {
            Self::Given(text) => {
                parse(text.expose()).map_err(|message| problem("MPG_ENCRYPTION_KEY", message))
            }
            Self::Kept(path) => {
                let text =
                    read_or_make(path).map_err(|message| problem(&path.display().to_string(), message))?;
                parse(text.expose()).map_err(|message| problem(&path.display().to_string(), message))
            }
        }
    }
}

/// Keys that were the master key before, one a line: they open what they sealed until `rotate-key` is through.
#[derive(Debug, Default)]
pub(crate) struct PreviousKeys(Vec<Secret<String>>);

impl PreviousKeys {
    /// Takes the lines of `MPG_ENCRYPTION_KEY_PREVIOUS`; says what is wrong with the first bad one.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.len() > StoreOptions::PREVIOUS_KEYS_MAX {
            return Err(format!("at most {} keys, one a line", StoreOptions::PREVIOUS_KEYS_MAX));
        }
        for (at, line) in lines.iter().enumerate() {
            check(line).map_err(|message| format!("line {}: {message}", at + 1))?;
        }
        Ok(Self(lines.into_iter().map(Secret::from).collect()))
    }

    /// The keys, which were found to be well formed.
    pub(crate) fn obtain(&self) -> Result<Vec<MasterKey>, Problem> {
        let parse = |text: &Secret<String>| {
            parse(text.expose()).map_err(|message| problem("MPG_ENCRYPTION_KEY_PREVIOUS", message))
        };
        self.0.iter().map(parse).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Whether the text is an acceptable key, without keeping it.
pub(super) fn check(text: &str) -> Result<(), String> {
    MasterKey::from_env_text(text).map(|_| ()).map_err(|error| error.to_string())
}

fn parse(text: &str) -> Result<MasterKey, String> {
    let (key, warning) = MasterKey::from_env_text(text).map_err(|error| error.to_string())?;
    if let Some(warning) = warning {
        tracing::warn!("encryption key: {warning}");
    }
    Ok(key)
}

fn problem(name: &str, message: String) -> Problem {
    Problem { name: name.to_owned(), message }
}

fn read_or_make(path: &Path) -> Result<Secret<String>, String> {
    if path.exists() {
        return read_secret_file(path).map(Secret::new);
    }
    let made = MasterKey::generate_hex();
    match write_once(path, made.expose().as_bytes()) {
        Ok(()) => {
            tracing::info!(path = %path.display(), "made an encryption key; back it up, nothing sealed can be read without it");
            Ok(made)
        }
        // Another process was faster: the first key counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_secret_file(path).map(Secret::new),
        Err(error) => Err(format!("cannot be made: {}", error.kind())),
    }
}

/// Makes the file whole or not at all: a link appears under the final name only when its bytes are
/// on the disk, and never replaces one that is there.
fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    make_private_dir(parent)?;
    let draft = parent.join(format!(".encryption.key.{}", std::process::id()));
    // Left behind by a process of the same id that was killed just here.
    let _ = fs::remove_file(&draft);
    let linked = write_private(&draft, bytes).and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    linked?;
    File::open(parent)?.sync_all()
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Makes a directory that others can't look into; one that is there keeps its mode.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
