//! A Postgres of a test's own, which it may stop, silence, and fail over.
//!
//! It needs the binaries of Debian's package, and is there only where the suite has a Postgres at all.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::authority::Pair;
use super::harness::DSN_VARIABLE;

/// Its data is thrown away, so it needn't be safe on disk. What a replica needs to begin is there soon.
const OPTIONS: &str = "-c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off \
    -c max_connections=60 -c wal_level=replica -c wal_keep_size=64MB";

/// A server. Dropped, it is stopped.
pub(super) struct Cluster {
    folder: TempDir,
    binaries: PathBuf,
    pub(super) port: u16,
}

impl Cluster {
    /// A new primary; none where there are no binaries for it.
    pub(super) fn primary() -> Option<Self> {
        let cluster = Self::initialized()?;
        cluster.start();
        Some(cluster)
    }

    /// A new primary that speaks TLS, with further settings, and rules of admission before those that let in all.
    pub(super) fn with_tls(pair: &Pair, settings: &str, rules: &str) -> Option<Self> {
        let cluster = Self::initialized()?;
        for (name, from) in [("server.crt", &pair.certificate), ("server.key", &pair.key)] {
            let to = cluster.data().join(name);
            std::fs::copy(from, &to).expect("the folder is writable");
            std::fs::set_permissions(&to, PermissionsExt::from_mode(0o600)).expect("was made just now");
            give_away(&to);
        }
        cluster.edit("postgresql.conf", |before| format!("{before}\nssl = on\n{settings}\n"));
        cluster.edit("pg_hba.conf", |before| format!("{rules}\n{before}"));
        cluster.start();
        Some(cluster)
    }

    fn initialized() -> Option<Self> {
        let cluster = Self::prepare()?;
        let data = cluster.data();
        let data = data.to_str().expect("UTF-8");
        let arguments = ["-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-N"];
        cluster.run("initdb", &arguments);
        Some(cluster)
    }

    /// A replica that streams from this primary.
    pub(super) fn replica(&self) -> Self {
        let replica = Self::prepare().expect("the primary has binaries");
        let (port, data) = (self.port.to_string(), replica.data());
        let from =
            ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "-N"];
        let to = ["-D", data.to_str().expect("UTF-8")];
        replica.run("pg_basebackup", &[&from[..], &to[..]].concat());
        replica.start();
        replica
    }

    fn prepare() -> Option<Self> {
        std::env::var(DSN_VARIABLE).ok()?;
        let releases = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let newest = releases.flatten().map(|entry| entry.path().join("bin")).max()?;
        let folder = TempDir::with_prefix("gateway-cluster-").expect("a folder");
        give_away(folder.path());
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = port.local_addr().expect("is bound").port();
        Some(Self { folder, binaries: newest, port })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn edit(&self, file: &str, change: impl FnOnce(&str) -> String) {
        let path = self.data().join(file);
        let before = std::fs::read_to_string(&path).expect("initdb made it");
        std::fs::write(path, change(&before)).expect("the folder is writable");
    }

    /// Where its Unix socket lies.
    pub(super) fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn start(&self) {
        let options = format!("-p {} -k {} {OPTIONS}", self.port, self.folder.path().display());
        let log = self.folder.path().join("log");
        self.control(&["-w", "-l", log.to_str().expect("UTF-8"), "-o", &options, "start"]);
    }

    /// As if the machine had lost its power.
    pub(super) fn stop(&self) {
        self.control(&["-m", "immediate", "-w", "stop"]);
    }

    pub(super) fn promote(&self) {
        self.control(&["-w", "promote"]);
    }

    /// Every process of the server stands still: connections stay open, and nothing is said any more.
    pub(super) fn silence(&self) {
        self.signal("-STOP");
    }

    fn signal(&self, signal: &str) {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let Some(first) = file.lines().next() else { return };
        let mut all = vec![first.to_owned()];
        all.extend(children_of(first));
        // Who is gone meanwhile needs no signal.
        let _ = Command::new("kill").arg(signal).args(&all).status();
    }

    fn control(&self, arguments: &[&str]) {
        let data = self.data();
        self.run("pg_ctl", &[&["-D", data.to_str().expect("UTF-8")], arguments].concat());
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.command(program).args(arguments).output().expect("the binary runs");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Postgres refuses to run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.binaries.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // A server must not hold a pipe that its starter waits for.
        command.current_dir("/").stdin(std::process::Stdio::null());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.signal("-CONT");
        let data = self.data();
        let _ = self.command("pg_ctl").arg("-D").arg(data).args(["-m", "immediate", "stop"]).output();
    }
}

/// To whom the server runs as.
fn give_away(path: &Path) {
    if is_root() {
        assert!(Command::new("chown").arg("postgres").arg(path).status().expect("runs").success());
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn children_of(parent: &str) -> Vec<String> {
    let parent_of = |process: &Path| {
        let stat = std::fs::read_to_string(process.join("stat")).ok()?;
        // The name, in brackets, may hold anything; after it come the state and the parent.
        stat.rsplit_once(") ")?.1.split(' ').nth(1).map(str::to_owned)
    };
    let all = std::fs::read_dir("/proc").expect("there is /proc").flatten();
    let children = all.filter(|process| parent_of(&process.path()).is_some_and(|of| of == parent));
    children.filter_map(|process| process.file_name().into_string().ok()).collect()
}
