//! TLS on the listener: the certificate in force, its replacement while serving, and the handshake.
//!
//! The files are looked at every second. A pair that changed and then stayed the same for one look (so
//! that a half-written one is never judged) replaces the one in force for new connections; one that
//! can't be used is told in the log, and the old one stays.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::Stream;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::carried::Carried;

/// Longer than any honest handshake takes, over any network (F26).
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Where a certificate and its key lie, both as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and behind it those that lead to a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a pair can't be used. Names no path and nothing of the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The certificate's file.
    #[error("the certificate {0}")]
    Certificate(String),
    /// The key's file.
    #[error("the key {0}")]
    Key(String),
    /// Each is good, and they don't belong together.
    #[error("the key is not the certificate's")]
    Mismatch,
}

/// TLS for a listener. Clones share the certificate in force.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    /// What the files were when they were read.
    read_at_start: Stamp,
    current: Arc<Current>,
    acceptor: Acceptor,
}

/// The pair in force.
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Current")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Tls").field(&self.0.files).finish()
    }
}

impl TlsFiles {
    /// Reads the pair and checks that it can be used.
    pub fn check(&self) -> Result<(), TlsError> {
        self.read().map(drop)
    }

    fn read(&self) -> Result<CertifiedKey, TlsError> {
        let certificate = |error| TlsError::Certificate(unreadable(&error, "holds no certificate"));
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(&self.certificate).map_err(certificate)?.collect();
        let chain = chain.map_err(certificate)?;
        if chain.is_empty() {
            return Err(certificate(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| TlsError::Key(unreadable(&error, "holds no private key")))?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
            rustls::Error::InvalidCertificate(_) => TlsError::Certificate("can't be read".to_owned()),
            _ => TlsError::Key("is of a kind that can't be used".to_owned()),
        })
    }
}

/// The kind of an error only: its text may repeat the path, which came from the environment.
fn unreadable(error: &pem::Error, without: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("can't be read: {}", error.kind()),
        pem::Error::NoItemsFound => without.to_owned(),
        _ => "is not valid PEM".to_owned(),
    }
}

impl Tls {
    /// Reads the pair; TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let read_at_start = Stamp::of(&files);
        let current = Arc::new(Current(ArcSwap::from_pointee(files.read()?)));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring offers the default versions of TLS")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = Acceptor::from_server_config(Arc::new(config));
        Ok(Self(Arc::new(Inner { files, read_at_start, current, acceptor })))
    }

    /// Follows the files until told to stop.
    pub async fn follow(self, stopping: CancellationToken) {
        let mut tried = self.0.read_at_start;
        let mut seen = tried;
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = looks.tick() => {}
            }
            let now = Stamp::of(&self.0.files);
            if now == seen && now != tried {
                tried = now;
                self.replace();
            }
            seen = now;
        }
    }

    fn replace(&self) {
        match self.0.files.read() {
            Ok(pair) => {
                self.0.current.0.store(Arc::new(pair));
                tracing::info!("the certificate was replaced");
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate can't be used, the old one stays in force");
            }
        }
    }

    /// The handshake; `None` if there is nobody to talk to in the end.
    pub(super) async fn accept(&self, stream: Stream) -> Option<Stream> {
        let handshake = self.0.acceptor.tls_handshake(Carried::new(stream, Bytes::new()));
        match timeout(HANDSHAKE_DEADLINE, handshake).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("TLS handshake took too long");
                None
            }
        }
    }
}

/// What tells one state of the two files from another, without reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([Option<[i128; 5]>; 2]);

impl Stamp {
    fn of(files: &TlsFiles) -> Self {
        let look = |path: &Path| -> io::Result<[i128; 5]> {
            let found = std::fs::metadata(path)?;
            Ok([
                found.dev().into(),
                found.ino().into(),
                found.size().into(),
                found.mtime().into(),
                found.mtime_nsec().into(),
            ])
        };
        Self([look(&files.certificate).ok(), look(&files.key).ok()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair in a folder of its own.
    fn files(certificate: &str, key: &str) -> (tempfile::TempDir, TlsFiles) {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles { certificate: folder.path().join("cert"), key: folder.path().join("key") };
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        (folder, files)
    }

    fn reason(certificate: &str, key: &str) -> String {
        let (_folder, files) = files(certificate, key);
        files.check().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_used_is_told_by_file_and_reason() {
        let block =
            |label: &str, base64: &str| format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n");
        let certificate = block("CERTIFICATE", "MAA=");
        assert_eq!(reason("", ""), "the certificate holds no certificate");
        assert_eq!(reason(&block("CERTIFICATE", "%"), ""), "the certificate is not valid PEM");
        assert_eq!(reason(&certificate, ""), "the key holds no private key");
        assert_eq!(reason(&certificate, &certificate), "the key holds no private key");
        let junk = block("PRIVATE KEY", "MAA=");
        assert_eq!(reason(&certificate, &junk), "the key is of a kind that can't be used");
        let (_folder, mut files) = files("", "");
        files.certificate = files.certificate.join("not-a-folder");
        assert_eq!(files.check().unwrap_err().to_string(), "the certificate can't be read: not a directory");
    }

    #[test]
    fn a_stamp_tells_another_file_and_another_content() {
        let (folder, files) = files("a", "b");
        let first = Stamp::of(&files);
        assert_eq!(Stamp::of(&files), first);
        std::fs::write(folder.path().join("new"), "a").unwrap();
        std::fs::rename(folder.path().join("new"), &files.certificate).unwrap();
        let second = Stamp::of(&files);
        assert_ne!(second, first);
        std::fs::write(&files.key, "bb").unwrap();
        assert_ne!(Stamp::of(&files), second);
    }
}
