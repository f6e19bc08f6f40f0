//! TLS as a client: what connections to the database, to upstreams and to the gateway itself have in common.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{self, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
};

/// What of a server's certificate is looked at. That the server has the certificate's key, is always.
#[derive(Debug)]
pub enum Check {
    /// Nothing: nobody on the way can read along, but it may be anybody who answers.
    Nothing,
    /// Whether one of the authorities issued it.
    Issuer(Authorities),
    /// The same, and whether it is for the name that was dialled.
    IssuerAndName(Authorities),
}

/// Whom certificates may come from.
#[derive(Debug)]
pub struct Authorities {
    roots: RootCertStore,
    /// What an operator named: each of them may be a server's own certificate as well.
    named: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Those that the machine trusts; there may be none.
    pub fn of_machine() -> Self {
        Self { roots: machine_roots(), named: Vec::new() }
    }

    /// Those of these certificates; an error if one of them is none.
    pub fn named(certificates: Vec<CertificateDer<'static>>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone())?;
        }
        Ok(Self { roots, named: certificates })
    }

    /// Whether there is nobody whose certificate could be good.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let checked =
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, chain, now, algorithms.all);
        match checked {
            // Signed by itself, as `openssl req -x509` makes it. By now it is known to be of this time.
            Err(error) if is_of_authority(&error) && self.named.contains(certificate) => Ok(()),
            checked => checked,
        }
    }
}

/// Whether the one thing wrong with a server's certificate is that it could issue others. The library has no
/// value for this that we could see, only its name.
fn is_of_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    other.0.to_string() == "CaUsedAsEndEntity"
}

/// A client that looks at this much of a server's certificate, and has none of its own.
pub fn client(check: Check) -> ClientConfig {
    let algorithms = ring::default_provider().signature_verification_algorithms;
    builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { check, algorithms }))
        .with_no_client_auth()
}

/// A client of the versions of TLS that are still safe.
pub fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring offers the default versions of TLS")
}

/// Whom the machine trusts: what `SSL_CERT_FILE` and `SSL_CERT_DIR` name, else what its system has.
pub fn machine_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for problem in &found.errors {
        tracing::warn!(%problem, "some of the certificates that the machine trusts can't be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

/// What TLS has against the peer, if that is somewhere beneath an error.
pub fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // What an I/O error was made of isn't its source; and there may be one in another.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map_or_else(|| error.source(), |inner| Some(inner));
    }
    None
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.check {
            Check::Nothing => {}
            Check::Issuer(authorities) => authorities.check(certificate, chain, now, &self.algorithms)?,
            Check::IssuerAndName(authorities) => {
                authorities.check(certificate, chain, now, &self.algorithms)?;
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
