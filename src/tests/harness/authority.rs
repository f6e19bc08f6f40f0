//! Certificates for tests: an authority of one's own, made by openssl, and clients that trust it alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reqwest::{Certificate, Client, ClientBuilder};
use tempfile::TempDir;

/// Far beyond the life of a test.
const DAYS: &str = "36500";

/// An authority, and the pair it has issued for this machine.
pub(crate) struct Authority {
    folder: TempDir,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    pub(crate) fn new() -> Self {
        let authority = Self { folder: TempDir::new().expect("a temporary folder") };
        let extensions = "basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n";
        std::fs::write(authority.path("extensions"), extensions).expect("the folder is writable");
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        // Each of another name: else one's certificates look like forgeries of the other's.
        let name = authority.folder.path().file_name().expect("a folder's name").to_string_lossy();
        let subject = format!("/CN=Test authority {name}");
        authority.openssl(&["req", "-x509", "-subj", &subject, "-days", DAYS], &key, "ca");
        authority.openssl(&["req", "-subj", "/CN=localhost"], &key, "server");
        let signing = ["x509", "-req", "-in", "server.pem", "-CA", "ca.pem", "-CAkey", "ca.key"];
        let more = ["-CAcreateserial", "-days", DAYS, "-extfile", "extensions", "-out", "cert.pem"];
        authority.run(signing.iter().chain(&more));
        authority
    }

    fn openssl(&self, command: &[&str], key: &[&str], name: &str) {
        let (key_file, file) = (format!("{name}.key"), format!("{name}.pem"));
        let files = ["-keyout", &key_file, "-out", &file];
        self.run(command.iter().chain(key).chain(&files));
    }

    fn run<'a>(&self, words: impl Iterator<Item = &'a &'a str>) {
        let mut command = Command::new("openssl");
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The certificate for this machine.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("cert.pem")
    }

    /// Its key.
    pub(crate) fn key(&self) -> PathBuf {
        self.path("server.key")
    }

    /// What is to be trusted.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Puts another authority's pair in the place of this one's, which clients of this one don't trust.
    pub(crate) fn replaced_by(&self, other: &Self) {
        let replace = |from: &Path, to: &Path| {
            let new = to.with_extension("new");
            std::fs::copy(from, &new).expect("the folder is writable");
            std::fs::rename(new, to).expect("the folder is writable");
        };
        replace(&other.certificate(), &self.certificate());
        replace(&other.key(), &self.key());
    }

    /// A client that trusts this authority and no other; `h2`, or HTTP/1.1 alone.
    pub(crate) fn client(&self, h2: bool) -> Client {
        let pem = std::fs::read(self.root()).expect("made before");
        let root = Certificate::from_pem(&pem).expect("a certificate");
        let builder = Client::builder().tls_certs_only([root]);
        let builder = if h2 { builder } else { ClientBuilder::http1_only(builder) };
        builder.build().expect("a client")
    }
}
