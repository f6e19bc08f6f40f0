//! `<data>/config.yaml`: the settings as a file, on one node.
//!
//! The truth is the row in the database. The file is its mirror, written after the commit: whole or not at all. An edit
//! by hand is checked and committed as any change, by whoever edits files; a bad one is told in the log, changes nothing,
//! and stays until it is mended or the settings change otherwise. Its first line says what it is the mirror of, so that
//! one that was left behind by a crash isn't taken for an edit. With Postgres a file is taken over once, while nobody
//! has stored settings yet.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proxy::catalog::naming::settle as naming;
use ring::digest::{SHA256, digest};
use sql::model::{Actor, AuditEvent, AuditEventId, Outcome, Settings};
use sql::{Store, StoreError, audit_log, settings};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::bootstrap::document::{Document, FileProblem};

/// The name of the file in the data folder.
pub(crate) const FILE_NAME: &str = "config.yaml";
/// How often the file and the row are compared: an edit is in force within that.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The largest file that is looked at; one with every setting has some 2 KiB.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// What the first line of a mirror says before its digest.
const MARK: &str = "# settings of the gateway; edits take effect at once. mirror: ";

/// The file and what is known of it.
pub(crate) struct SettingsFile {
    path: PathBuf,
    store: Store,
    /// The content that was written or taken in last, good or bad.
    known: Option<Vec<u8>>,
    /// The version of the stored settings that the file shows.
    shown: Option<i64>,
}

/// Why the file and the row could not be compared.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the file can't be read or written")]
    File(#[from] io::Error),
}

impl SettingsFile {
    /// Nothing is read or written yet.
    pub(crate) fn new(data_dir: &Path, store: Store) -> Self {
        Self { path: data_dir.join(FILE_NAME), store, known: None, shown: None }
    }

    /// Takes the file over if nobody has stored settings yet: once, where several gateways share a database.
    pub(crate) async fn take_over(&mut self) {
        let taken = async {
            let mut tx = self.store.read().await?;
            let version = settings::version(&mut tx).await?;
            drop(tx);
            match (version, self.read().await?) {
                (settings::VERSION_NONE, Some(content)) => self.edited(content).await,
                _ => Ok(()),
            }
        };
        if let Err(error) = taken.await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the settings file could not be taken over"
            );
        }
    }

    /// Takes in what was written by hand while nobody looked, and writes the mirror.
    pub(crate) async fn begin(&mut self) {
        if let Err(error) = self.look().await {
            tracing::warn!(error = &error as &dyn std::error::Error, file = %self.path.display(), "the settings file is not as the settings are");
        }
    }

    /// Keeps both alike until told to stop.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        let mut due = interval(LOOK_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_told = false;
        loop {
            tokio::select! {
                _ = due.tick() => {}
                () = stopping.cancelled() => return,
            }
            match self.look().await {
                Ok(()) => is_told = false,
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(error = &error as &dyn std::error::Error, file = %self.path.display(), "the settings file is not as the settings are");
                    }
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), Trouble> {
        let content = self.read().await?;
        let is_edited = match (&content, &self.known) {
            (None, _) => false,
            (Some(content), Some(known)) => content != known,
            // On first sight a mirror is one, however old, and everything else was written by hand.
            (Some(content), None) => !is_mirror(content),
        };
        if let Some(content) = content.clone().filter(|_| is_edited) {
            self.edited(content).await?;
        }
        let mut tx = self.store.read().await?;
        let version = settings::version(&mut tx).await?;
        if self.shown == Some(version) && content.is_some() {
            return Ok(());
        }
        let stored = match settings::load(&mut tx).await {
            Ok(stored) => stored.map(|(settings, _)| settings).unwrap_or_default(),
            // What can't be read is mended by saving, and not by a file.
            Err(StoreError::Corrupt { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mirror = mirror(&stored);
        let (path, content) = (self.path.clone(), mirror.clone());
        tokio::task::spawn_blocking(move || write(&path, &content)).await.map_err(io::Error::other)??;
        (self.known, self.shown) = (Some(mirror), Some(version));
        Ok(())
    }

    async fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match tokio::fs::metadata(&self.path).await {
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => Err(io::ErrorKind::FileTooLarge.into()),
            Ok(_) => tokio::fs::read(&self.path).await.map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Commits what was written by hand, or says what is wrong with it.
    async fn edited(&mut self, content: Vec<u8>) -> Result<(), Trouble> {
        let mut tx = self.store.begin().await?;
        let stored = settings::load(&mut tx).await?;
        let (before, version) = stored.unwrap_or_else(|| (Settings::default(), settings::VERSION_NONE));
        let after = match parse(&self.path, content.clone()) {
            Ok(after) => after,
            Err(problems) => {
                for problem in problems {
                    tracing::error!("{problem}; the settings stay as they are");
                }
                // Told once; it stands until it is mended, or the settings change.
                (self.known, self.shown) = (Some(content), Some(version));
                return Ok(());
            }
        };
        if after == before {
            self.shown = Some(version);
        } else {
            if !settings::save(&mut tx, &after, version).await? {
                // Somebody was quicker: looked at again.
                return Ok(());
            }
            if after.naming.length_max != before.naming.length_max {
                naming::resettle(&mut tx, naming::Scope::All, after.naming.length_max).await?;
            }
            audit_log::append(&mut tx, &self.event(&before, &after)).await?;
            tx.commit().await?;
            tracing::info!(file = %self.path.display(), "settings changed by an edit of their file");
            self.shown = Some(version + 1);
        }
        self.known = Some(content);
        Ok(())
    }

    fn event(&self, before: &Settings, after: &Settings) -> AuditEvent {
        let now = self.store.clock().now();
        let mut diff = admin::declared::settings_diff(before, after);
        diff["by"] = "file".into();
        AuditEvent {
            id: AuditEventId::at(now),
            at: now,
            actor: Actor::System,
            address: None,
            user_agent: None,
            action: "settings.update".into(),
            target_kind: "settings".into(),
            target_id: Some("settings".into()),
            target_name: Some(FILE_NAME.into()),
            diff,
            request_id: None,
            outcome: Outcome::Success,
        }
    }
}

/// The settings that a file says; what it doesn't say is as by default.
fn parse(path: &Path, content: Vec<u8>) -> Result<Settings, Vec<FileProblem>> {
    let document = Document::parse(path, content).map_err(|problem| vec![problem])?;
    if document.value().is_null() {
        // Many editors empty a file before they write it, and a full disk leaves it so.
        return Err(vec![document.problem("", "it says nothing; `{}` is every default")]);
    }
    Settings::default().merge_patch(document.value()).map_err(|errors| {
        errors.into_iter().map(|error| document.problem(&error.pointer, error.message)).collect()
    })
}

/// The file that shows these settings.
fn mirror(settings: &Settings) -> Vec<u8> {
    let mut body = String::new();
    for (group, keys) in settings.document().as_object().into_iter().flatten() {
        let _ = writeln!(body, "{group}:");
        for (key, value) in keys.as_object().into_iter().flatten() {
            // A scalar of JSON is one of YAML.
            let _ = writeln!(body, "  {key}: {value}");
        }
    }
    format!("{MARK}{}\n{body}", digest_of(body.as_bytes())).into_bytes()
}

/// Whether a file is as the gateway wrote it, whenever that was.
fn is_mirror(content: &[u8]) -> bool {
    let Some(end) = content.iter().position(|byte| *byte == b'\n') else { return false };
    let (first, body) = (&content[..end], &content[end + 1..]);
    first.strip_prefix(MARK.as_bytes()).is_some_and(|digest| digest == digest_of(body).as_bytes())
}

fn digest_of(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whole or not at all, also over a crash: written beside it, synced, and renamed.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("yaml.new");
    let written = write_and_rename(&beside, path, content);
    if written.is_err() {
        // What is half written is of no use to anybody.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write_and_rename(beside: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use sql::audit_log::AuditFilter;
    use sql::clock::Clock;
    use sql::model::PageRequest;
    use sql::{Database, MasterKey, StoreOptions};

    use super::*;

    struct Scene {
        folder: tempfile::TempDir,
        store: Store,
        file: SettingsFile,
    }

    impl Scene {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (master_key, _) = MasterKey::from_env_text(MasterKey::generate_hex().expose()).unwrap();
            let options = StoreOptions {
                database: Database::SqliteMemory,
                master_key,
                previous_keys: Vec::new(),
                clock: Clock::system(),
                start_timeout: Duration::from_secs(5),
            };
            let store = Store::open(options).await.unwrap();
            let file = SettingsFile::new(folder.path(), store.clone());
            Self { folder, store, file }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join(FILE_NAME)
        }

        fn text(&self) -> String {
            fs::read_to_string(self.path()).unwrap()
        }

        async fn stored(&self) -> Option<(Settings, i64)> {
            let mut tx = self.store.read().await.unwrap();
            settings::load(&mut tx).await.unwrap()
        }

        async fn save(&self, change: impl FnOnce(&mut Settings)) {
            let (mut settings, version) = self.stored().await.unwrap_or_default();
            change(&mut settings);
            let mut tx = self.store.begin().await.unwrap();
            assert!(settings::save(&mut tx, &settings, version).await.unwrap());
            tx.commit().await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_file_shows_what_is_stored_and_an_edit_is_stored() {
        let mut scene = Scene::new().await;
        scene.file.look().await.unwrap();
        assert!(is_mirror(scene.text().as_bytes()), "{}", scene.text());
        assert_eq!(parse(&scene.path(), scene.text().into_bytes()).unwrap(), Settings::default());
        scene.save(|settings| settings.naming.length_max = 40).await;
        scene.file.look().await.unwrap();
        assert!(scene.text().contains("length_max: 40"), "{}", scene.text());

        let edit = "# mine\nnaming:\n  length_max: 50\nmcp_api: {mode: smart}\n";
        fs::write(scene.path(), edit).unwrap();
        scene.file.look().await.unwrap();
        let (stored, version) = scene.stored().await.unwrap();
        assert_eq!((stored.naming.length_max, version), (50, 2));
        assert_eq!(scene.text(), edit, "what was written by hand stays as it is");
        let mut tx = scene.store.read().await.unwrap();
        let page = audit_log::page(&mut tx, &PageRequest::default(), &AuditFilter::default()).await.unwrap();
        assert_eq!(page.items[0].diff["by"], "file");
        assert_eq!(page.items[0].diff["/naming/length_max"]["after"], 50);
        drop(tx);
        scene.file.look().await.unwrap();
        assert_eq!(scene.stored().await.unwrap().1, 2, "an edit is one change");
    }

    #[tokio::test]
    async fn a_bad_edit_changes_nothing_and_gives_way_to_a_good_change() {
        let mut scene = Scene::new().await;
        scene.save(|settings| settings.naming.length_max = 40).await;
        scene.file.look().await.unwrap();
        for bad in ["naming: {length_max: 1}", "naming: [", "surprise: 1", "naming:\n  length_max: CANARY\n"]
        {
            fs::write(scene.path(), bad).unwrap();
            scene.file.look().await.unwrap();
            assert_eq!(scene.stored().await.unwrap().1, 1, "{bad}");
            assert_eq!(scene.text(), bad, "it is there to be mended");
            let problems = parse(&scene.path(), bad.as_bytes().to_vec()).unwrap_err();
            assert!(problems[0].to_string().contains("config.yaml:"), "{}", problems[0]);
            assert!(!problems[0].to_string().contains("CANARY"), "{}", problems[0]);
        }
        scene.save(|settings| settings.naming.length_max = 41).await;
        scene.file.look().await.unwrap();
        assert!(scene.text().contains("length_max: 41"), "{}", scene.text());
    }

    /// A crash between a commit and its mirror leaves an older one, which must not undo the commit.
    #[tokio::test]
    async fn an_old_mirror_is_no_edit() {
        let mut scene = Scene::new().await;
        scene.file.look().await.unwrap();
        scene.save(|settings| settings.naming.length_max = 40).await;
        let mut again = SettingsFile::new(scene.folder.path(), scene.store.clone());
        again.look().await.unwrap();
        assert_eq!(scene.stored().await.unwrap().0.naming.length_max, 40);
        assert!(scene.text().contains("length_max: 40"), "{}", scene.text());
        // One that was edited while nobody looked is.
        fs::write(scene.path(), scene.text().replace("length_max: 40", "length_max: 42")).unwrap();
        let mut again = SettingsFile::new(scene.folder.path(), scene.store.clone());
        again.look().await.unwrap();
        assert_eq!(scene.stored().await.unwrap().0.naming.length_max, 42);
    }

    #[tokio::test]
    async fn a_file_is_taken_over_once() {
        let mut scene = Scene::new().await;
        fs::write(scene.path(), "naming: {length_max: 33}").unwrap();
        scene.file.take_over().await;
        assert_eq!(scene.stored().await.unwrap().0.naming.length_max, 33);
        fs::write(scene.path(), "naming: {length_max: 34}").unwrap();
        SettingsFile::new(scene.folder.path(), scene.store.clone()).take_over().await;
        assert_eq!(scene.stored().await.unwrap().0.naming.length_max, 33);
    }
}
