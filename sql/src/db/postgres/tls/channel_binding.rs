//! What binds a log-in to the TLS connection that it goes over (`tls-server-end-point` of RFC 5929).
//!
//! By it the server learns whether we talk to itself or to somebody in between, whoever's certificate that is.

use ring::digest::{self, Algorithm, SHA256, SHA384, SHA512};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// Algorithms that sign certificates, as their identifiers are encoded, and what they hash with; SHA-256 stands
/// for the two that are weaker.
const ALGORITHMS: [(&[u8], &Algorithm); 9] = [
    // md5WithRSAEncryption, sha1WithRSAEncryption and ecdsa-with-SHA1.
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", &SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", &SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x01", &SHA256),
    // sha256, sha384 and sha512WithRSAEncryption.
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", &SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", &SHA384),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d", &SHA512),
    // ecdsa-with-SHA256, SHA384 and SHA512.
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", &SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", &SHA384),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", &SHA512),
];

/// The hash of a certificate by the algorithm of its own signature; none where that says of no hash.
pub(super) fn hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let identifier = signature_algorithm(certificate)?;
    let (_, algorithm) = ALGORITHMS.iter().find(|(known, _)| *known == identifier)?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { algorithm, .. }, .. }`
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (parts, _) = element(certificate, SEQUENCE)?;
    let (_, after) = element(parts, SEQUENCE)?;
    let (algorithm, _) = element(after, SEQUENCE)?;
    element(algorithm, OBJECT_IDENTIFIER).map(|(identifier, _)| identifier)
}

/// The content of the DER element at the start, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk()?;
    if found != tag {
        return None;
    }
    if first < 0x80 {
        return rest.split_at_checked(first.into());
    }
    // The lower bits say how many bytes the length has; no certificate needs more than three.
    let (length, rest) =
        rest.split_at_checked(usize::from(first & 0x7f)).filter(|(length, _)| length.len() <= 3)?;
    let length = length.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enclosed(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("is short");
        let mut whole = if let Ok(length @ ..0x80) = u8::try_from(length) {
            vec![tag, length]
        } else {
            [&[tag, 0x82][..], &length.to_be_bytes()].concat()
        };
        whole.extend(content);
        whole
    }

    /// A certificate in outline: `to_sign` bytes, and an algorithm.
    fn outline(to_sign: usize, identifier: &[u8]) -> Vec<u8> {
        let algorithm = enclosed(SEQUENCE, &enclosed(OBJECT_IDENTIFIER, identifier));
        enclosed(SEQUENCE, &[enclosed(SEQUENCE, &vec![0; to_sign]), algorithm].concat())
    }

    #[test]
    fn a_certificate_is_hashed_as_it_was_signed() {
        for (identifier, algorithm) in ALGORITHMS {
            let certificate = outline(700, identifier);
            let expected = digest::digest(algorithm, &certificate);
            assert_eq!(hash(&certificate).as_deref(), Some(expected.as_ref()));
        }
    }

    #[test]
    fn what_names_no_hash_has_none() {
        assert_eq!(hash(&outline(700, b"\x2b\x65\x70")), None, "Ed25519");
        let certificate = outline(300, ALGORITHMS[3].0);
        for length in 0..certificate.len() {
            assert_eq!(hash(&certificate[..length]), None, "cut at {length}");
        }
    }
}
