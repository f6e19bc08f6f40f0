//! TLS to Postgres: what a DSN asks of it, the handshake, and what a failed one means.

mod channel_binding;

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use deadpool_postgres::PoolError;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Config, Socket};
use tokio_rustls::TlsConnector;

use super::dsn::TlsOptions;
use crate::error::{StoreError, TlsRefusal};
use crate::tls::{self, Authorities, Check};

/// The value of `sslrootcert` that means whom the machine trusts.
const MACHINE: &str = "system";
/// The protocol's name in a handshake. A server that is spoken to in TLS from the first byte insists on it.
const PROTOCOL: &[u8] = b"postgresql";

/// Sets how the driver uses TLS, and says with what.
pub(super) fn configure(options: &TlsOptions, config: &mut Config) -> Result<Tls, StoreError> {
    let (mode, check) = understand(options)?;
    if mode != SslMode::Require && config.get_ssl_negotiation() == SslNegotiation::Direct {
        return Err(StoreError::TlsOptions("sslnegotiation=direct needs sslmode=require or stricter"));
    }
    config.ssl_mode(mode);
    let mut client = tls::client(check);
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Tls(Arc::new(client)))
}

fn understand(options: &TlsOptions) -> Result<(SslMode, Check), StoreError> {
    let refused = |reason| Err(StoreError::TlsOptions(reason));
    let roots = options.root_certificates.as_deref();
    Ok(match (options.mode.as_deref(), roots) {
        (None | Some("verify-full"), Some(MACHINE)) => (SslMode::Require, Check::IssuerAndName(machine()?)),
        (Some("disable" | "prefer" | "require" | "verify-ca"), Some(MACHINE)) => {
            return refused("sslrootcert=system needs sslmode=verify-full, or none");
        }
        (Some("disable"), _) => (SslMode::Disable, Check::Nothing),
        (None | Some("prefer"), None) => (SslMode::Prefer, Check::Nothing),
        // The connection would go on in clear where the check failed: who names authorities wants another thing.
        (None | Some("prefer"), Some(_)) => {
            return refused("sslrootcert needs sslmode=verify-full, verify-ca or require");
        }
        (Some("require"), None) => (SslMode::Require, Check::Nothing),
        // So does libpq, for who wrote this before there was verify-ca.
        (Some("require" | "verify-ca"), Some(path)) => (SslMode::Require, Check::Issuer(read(path)?)),
        (Some("verify-full"), Some(path)) => (SslMode::Require, Check::IssuerAndName(read(path)?)),
        (Some("verify-ca"), None) => {
            return refused("sslmode=verify-ca needs sslrootcert, the file of the authority's certificate");
        }
        (Some("verify-full"), None) => {
            return refused(
                "sslmode=verify-full needs sslrootcert, the file of the authority's certificate or `system`",
            );
        }
        (Some(_), _) => return refused("sslmode is disable, prefer, require, verify-ca or verify-full"),
    })
}

fn machine() -> Result<Authorities, StoreError> {
    let authorities = Authorities::of_machine();
    if authorities.is_empty() {
        return Err(StoreError::TlsOptions("sslrootcert=system, but this machine trusts no certificate"));
    }
    Ok(authorities)
}

fn read(path: &str) -> Result<Authorities, StoreError> {
    let unreadable = |reason: String| StoreError::RootCertificates { path: PathBuf::from(path), reason };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates = certificates.map_err(|error| match error {
        pem::Error::Io(error) => unreadable(error.to_string()),
        _ => unreadable("is not a PEM file".to_owned()),
    })?;
    if certificates.is_empty() {
        return Err(unreadable("has no certificate in it".to_owned()));
    }
    Authorities::named(certificates)
        .map_err(|_| unreadable("has a certificate that can't be read".to_owned()))
}

/// Makes TLS connections.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

/// Makes one TLS connection, to the server of a name.
pub(super) struct TlsTo {
    client: Arc<ClientConfig>,
    /// None is in the way only of who begins TLS: for a Unix socket this is made as well.
    name: Option<ServerName<'static>>,
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = TlsTo;
    type Error = Failed;

    fn make_tls_connect(&mut self, domain: &str) -> Result<TlsTo, Failed> {
        let name = ServerName::try_from(domain).ok().map(|name| name.to_owned());
        Ok(TlsTo { client: Arc::clone(&self.0), name })
    }
}

impl TlsConnect<Socket> for TlsTo {
    type Stream = Stream;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Stream, Failed>>;

    fn connect(self, stream: Socket) -> Self::Future {
        async move {
            let name = self.name.ok_or(Failed::Name)?;
            let stream = TlsConnector::from(self.client).connect(name, stream).await?;
            Ok(Stream(Box::new(stream)))
        }
        .boxed()
    }
}

/// Why there is no TLS with a server that would speak it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("the host isn't a name that a certificate can have")]
    Name,
    #[error("the TLS handshake failed")]
    Handshake(#[from] io::Error),
}

/// Bytes to and from Postgres, over TLS.
pub(crate) struct Stream(Box<tokio_rustls::client::TlsStream<Socket>>);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.0.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let hash = certificate.and_then(|certificate| channel_binding::hash(certificate));
        hash.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// Whether what failed with TLS may go well without: the handshake did, or the server's rules want no TLS.
/// Of a wrong password they would say the same again, and those who listen would have heard it.
pub(super) fn may_do_without(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) || handshake(error).is_some()
}

fn handshake(error: &tokio_postgres::Error) -> Option<&Failed> {
    std::error::Error::source(error)?.downcast_ref()
}

/// The error of a store that can't be opened. Where TLS is in the way, waiting doesn't help.
pub(super) fn opening_error(error: PoolError) -> StoreError {
    let refusal = match &error {
        PoolError::Backend(error) => refusal(error),
        _ => None,
    };
    refusal.map_or_else(|| StoreError::Unavailable(Box::new(error)), StoreError::TlsRefused)
}

fn refusal(error: &tokio_postgres::Error) -> Option<TlsRefusal> {
    let source = std::error::Error::source(error)?;
    // The driver's own error is a text and nothing else.
    if source.to_string() == "server does not support TLS" {
        return Some(TlsRefusal::NotOffered);
    }
    let failed = handshake(error)?;
    if let Failed::Name = failed {
        return Some(TlsRefusal::Handshake(failed.to_string()));
    }
    // Without a cause of TLS's own the connection broke, as any may.
    Some(match tls::cause(failed)? {
        rustls::Error::InvalidCertificate(wrong) => certificate_refusal(wrong),
        other => TlsRefusal::Handshake(other.to_string()),
    })
}

fn certificate_refusal(wrong: &CertificateError) -> TlsRefusal {
    use CertificateError as Wrong;
    match wrong {
        Wrong::UnknownIssuer => TlsRefusal::UnknownIssuer,
        Wrong::NotValidForNameContext { presented, .. } => {
            TlsRefusal::OtherName { certified: presented.iter().map(|name| plain(name)).collect() }
        }
        Wrong::Expired | Wrong::ExpiredContext { .. } => TlsRefusal::Expired,
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => TlsRefusal::NotValidYet,
        other => TlsRefusal::Certificate(other.to_string()),
    }
}

/// A name as it stands in the certificate: the library writes `DnsName("db.test")`.
fn plain(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"').to_owned()
}
