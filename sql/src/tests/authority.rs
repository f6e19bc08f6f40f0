//! Certificates for servers of tests, made by openssl.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A key of elliptic curves, which is made in no time.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
/// Far beyond the life of a test.
const DAYS: &str = "36500";
/// The least that openssl wants to know of an authority before it issues something.
const SETTINGS: &str = "[ca]\ndefault_ca = here\n[here]\ndatabase = issued\nnew_certs_dir = .\nrand_serial = yes\n\
    default_md = sha256\npolicy = any\nunique_subject = no\n[any]\ncommonName = supplied\n";

/// What a server shows, and its key.
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// An authority that nobody trusts yet, with a folder for what it issues.
pub(super) struct Authority(TempDir);

impl Authority {
    pub(super) fn new() -> Self {
        let authority = Self(TempDir::with_prefix("gateway-authority-").expect("a temporary folder"));
        for (file, content) in [("settings", SETTINGS), ("issued", "")] {
            std::fs::write(authority.path(file), content).expect("the folder is writable");
        }
        // Each of another name: else one's certificates look like forgeries of the other's.
        let name = authority.0.path().file_name().expect("a folder's name").to_string_lossy();
        authority.make_key("ca", &["-x509", "-days", DAYS, "-subj", &format!("/CN={name}")]);
        authority
    }

    /// What is to be trusted.
    pub(super) fn root(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A pair for names such as `DNS:db.test,IP:127.0.0.1`.
    pub(super) fn issue(&self, names: &str) -> Pair {
        self.issue_for(names, "2020", "2090")
    }

    /// A pair that is good from one new year to another.
    pub(super) fn issue_for(&self, names: &str, from: &str, until: &str) -> Pair {
        self.make_key("request", &["-subj", "/CN=db.test"]);
        let extensions = format!("basicConstraints=CA:FALSE\nsubjectAltName={names}\n");
        std::fs::write(self.path("extensions"), extensions).expect("the folder is writable");
        let (from, until) = (format!("{from}0101000000Z"), format!("{until}0101000000Z"));
        self.openssl(&[
            &["ca", "-batch", "-notext", "-config", "settings", "-cert", "ca.pem", "-keyfile", "ca.key"],
            &["-startdate", &from, "-enddate", &until, "-extfile", "extensions"],
            &["-in", "request.pem", "-out", "server.pem"],
        ]);
        Pair { certificate: self.path("server.pem"), key: self.path("request.key") }
    }

    /// A pair that no authority issued: what is to be trusted is its certificate itself.
    pub(super) fn self_signed(&self, names: &str) -> Pair {
        let names = format!("subjectAltName={names}");
        self.make_key("self", &["-x509", "-days", DAYS, "-subj", "/CN=db.test", "-addext", &names]);
        Pair { certificate: self.path("self.pem"), key: self.path("self.key") }
    }

    /// A key, and a certificate or a request for one.
    fn make_key(&self, name: &str, what: &[&str]) {
        let (key, file) = (format!("{name}.key"), format!("{name}.pem"));
        self.openssl(&[&["req"], &KEY, what, &["-keyout", &key, "-out", &file]]);
    }

    fn openssl(&self, words: &[&[&str]]) {
        let mut command = Command::new("openssl");
        command.args(words.concat()).current_dir(self.0.path()).stdin(Stdio::null());
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}
