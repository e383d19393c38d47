// SPDX-License-Identifier: Apache-2.0
//! Keys and certificates. Pure but for the keys' randomness: the time is an argument.
//!
//! A server certificate is judged by the verifier that the agents use (`rustls-webpki`), as of the time when a third of its
//! life would be left: what they would refuse then is due now. Keys are ECDSA on P-256, which every client knows.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

/// Long: to replace it, every client has to learn of another.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// As public authorities do. A third of it is four weekly runs, of which three may fail.
pub(super) const SERVER_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Clocks of nodes differ.
const BACKDATED: Duration = Duration::from_secs(3600);

/// What is wrong with a certificate, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is none.
    #[error("there is none")]
    Missing,
    /// It or its key cannot be read.
    #[error("{what} cannot be read: {reason}")]
    Unreadable {
        /// Key or certificate.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// A client would refuse it now or soon.
    #[error("for {name}, clients refuse it now or will before a third of its life is left: {reason}")]
    Refused {
        /// By which name it was reached.
        name: String,
        /// What the verifier says.
        reason: String,
    },
    /// It belongs to another key.
    #[error("the certificate is not that of the key")]
    OtherKey,
    /// It cannot be made.
    #[error("{0}")]
    Make(String),
}

/// A certificate authority.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// PEM.
    pub(super) certificate: String,
    /// PEM.
    pub(super) key: String,
    /// The certificate of the one before, PEM: clients trust it until its end, because servers may still show it.
    pub(super) previous: Option<String>,
}

/// A server certificate with its key, both PEM.
pub(super) struct ServerCertificate {
    pub(super) certificate: String,
    pub(super) key: String,
}

// === impl Authority ===

impl Authority {
    /// A new one.
    pub(super) fn make(now: SystemTime) -> Result<Self, Problem> {
        let key = KeyPair::generate().map_err(make)?;
        let mut params = authority_params();
        (params.not_before, params.not_after) = ((now - BACKDATED).into(), (now + AUTHORITY_LIFE).into());
        let certificate = params.self_signed(&key).map_err(make)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), previous: None })
    }

    /// The one that follows it.
    pub(super) fn succeed(&self, now: SystemTime) -> Result<Self, Problem> {
        Ok(Self { previous: Some(self.certificate.clone()), ..Self::make(now)? })
    }

    /// Whether less than a third of its life is left.
    pub(super) fn is_due(&self, now: SystemTime) -> Result<bool, Problem> {
        Ok(end_of(&self.certificate)? < now + AUTHORITY_LIFE / 3)
    }

    /// What clients shall trust, as one PEM file.
    pub(super) fn trusted(&self, now: SystemTime) -> String {
        let previous = self.previous.as_deref().filter(|pem| end_of(pem).is_ok_and(|end| end > now));
        format!("{}{}", self.certificate, previous.unwrap_or_default())
    }

    /// Whether key and certificate can be used.
    pub(super) fn check(&self) -> Result<(), Problem> {
        certified_key(&self.certificate, &self.key).map(drop)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, Problem> {
        let key = KeyPair::from_pem(&self.key).map_err(|error| unreadable("the key", error))?;
        // All that an issuer gives to what it signs is its name and its key.
        Ok(Issuer::new(authority_params(), key))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "evenkeel");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

// === impl ServerCertificate ===

impl ServerCertificate {
    /// A new one, for a server that is reached by any of `names`.
    pub(super) fn make(authority: &Authority, names: &[String], now: SystemTime) -> Result<Self, Problem> {
        let key = KeyPair::generate().map_err(make)?;
        let mut params = CertificateParams::new(names).map_err(make)?;
        (params.not_before, params.not_after) = ((now - BACKDATED).into(), (now + SERVER_LIFE).into());
        params.distinguished_name.push(DnType::CommonName, "evenkeel-discovery");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &authority.issuer()?).map_err(make)?.pem();
        let made = Self { certificate, key: key.serialize_pem() };
        // A name that nothing can be reached by would make it due again at once.
        made.due(authority, names, now)?;
        Ok(made)
    }

    /// Whether it will do for another third of its life.
    ///
    /// # Errors
    /// Why a new one is due.
    pub(super) fn due(
        &self,
        authority: &Authority,
        names: &[String],
        now: SystemTime,
    ) -> Result<(), Problem> {
        let certified = certified_key(&self.certificate, &self.key)?;
        let end_entity = certified.end_entity_cert().map_err(|error| unreadable("the certificate", error))?;
        // Only the present authority: what the one before has signed is replaced while clients still trust it.
        let mut roots = RootCertStore::empty();
        let root = parse_certificate(&authority.certificate)?;
        roots.add(root).map_err(|error| unreadable("the authority's certificate", error))?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
                .build()
                .map_err(|error| Problem::Make(error.to_string()))?;
        // Now as well: the clock may have been wrong when it was made.
        for (name, time) in names.iter().flat_map(|name| [(name, now), (name, now + SERVER_LIFE / 3)]) {
            let refused = |reason: String| Problem::Refused { name: name.clone(), reason };
            let server = ServerName::try_from(name.as_str()).map_err(|error| refused(error.to_string()))?;
            verifier
                .verify_server_cert(end_entity, &[], &server, &[], unix_time(time))
                .map_err(|error| refused(error.to_string()))?;
        }
        Ok(())
    }
}

fn certified_key(certificate: &str, key: &str) -> Result<CertifiedKey, Problem> {
    let certificate = parse_certificate(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| unreadable("the key", error))?;
    CertifiedKey::from_der(vec![certificate], key, &default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Problem::OtherKey,
        error => unreadable("the key or the certificate", error),
    })
}

fn parse_certificate(pem: &str) -> Result<CertificateDer<'static>, Problem> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unreadable("the certificate", error))
}

/// When a certificate ends.
fn end_of(pem: &str) -> Result<SystemTime, Problem> {
    let der = parse_certificate(pem)?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(&der).map_err(|error| unreadable("the certificate", error))?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn unix_time(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn unreadable(what: &'static str, reason: impl fmt::Display) -> Problem {
    Problem::Unreadable { what, reason: reason.to_string() }
}

fn make(error: rcgen::Error) -> Problem {
    Problem::Make(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn names() -> Vec<String> {
        vec!["evenkeel-discovery.evenkeel-system.svc".to_owned(), "10.0.0.1".to_owned()]
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn made() -> (Authority, ServerCertificate) {
        let authority = Authority::make(now()).unwrap();
        let server = ServerCertificate::make(&authority, &names(), now()).unwrap();
        (authority, server)
    }

    #[test]
    fn a_server_certificate_is_due_when_a_third_of_its_life_is_left() {
        let (authority, server) = made();
        let due = |after: u32| server.due(&authority, &names(), now() + after * DAY).is_err();
        assert!(!due(0) && !due(59));
        assert!(due(61) && due(89) && due(100));
    }

    #[test]
    fn a_name_that_was_added_makes_it_due_and_the_name_is_told() {
        let (authority, server) = made();
        let names = [names(), vec!["discovery.example".to_owned()]].concat();
        let why = server.due(&authority, &names, now()).unwrap_err();
        assert!(matches!(&why, Problem::Refused { name, .. } if name == "discovery.example"), "{why}");
    }

    #[test]
    fn the_certificate_of_another_authority_or_of_another_key_is_due() {
        let ((authority, server), (other, others)) = (made(), made());
        assert!(matches!(server.due(&other, &names(), now()), Err(Problem::Refused { .. })));
        let mixed = ServerCertificate { key: others.key, ..server };
        assert_eq!(mixed.due(&authority, &names(), now()), Err(Problem::OtherKey));
    }

    #[test]
    fn a_certificate_from_the_future_is_due() {
        let (authority, server) = made();
        assert!(server.due(&authority, &names(), now() - 2 * DAY).is_err());
    }

    #[test]
    fn an_authority_is_followed_by_another_and_both_are_trusted_until_its_end() {
        let first = Authority::make(now()).unwrap();
        assert!(!first.is_due(now() + 2_400 * DAY).unwrap());
        let later = now() + 2_440 * DAY;
        assert!(first.is_due(later).unwrap());
        let second = first.succeed(later).unwrap();
        assert!(!second.is_due(later).unwrap());
        assert_eq!(second.trusted(later), format!("{}{}", second.certificate, first.certificate));
        assert_eq!(second.trusted(now() + 3_651 * DAY), second.certificate);
        // What the first has signed is replaced.
        let old = ServerCertificate::make(&first, &names(), later).unwrap();
        assert!(old.due(&second, &names(), later).is_err());
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let authority = Authority::make(now()).unwrap();
        for bad in ["not a name", "ü", "*.example", ""] {
            let made = ServerCertificate::make(&authority, &[bad.to_owned()], now());
            assert!(made.is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rubbish_is_told_from_a_key_and_from_a_certificate() {
        let good = Authority::make(now()).unwrap();
        let what = |authority: Authority| match authority.check().unwrap_err() {
            Problem::Unreadable { what, .. } => what,
            other => panic!("{other}"),
        };
        assert_eq!(what(Authority { key: "x".into(), ..good.clone() }), "the key");
        assert_eq!(what(Authority { certificate: "x".into(), ..good }), "the certificate");
    }
}
