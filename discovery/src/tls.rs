// SPDX-License-Identifier: Apache-2.0
//! The server's TLS: PEM files in, a rustls configuration out, and its renewal while the server runs ([`Reloader`]).
//!
//! What must always be true: a handshake uses one configuration from one consistent reading of the files; files that cannot
//! be used never replace one that can. TLS 1.2 and 1.3 with rustls' defaults: Envoy's clients speak 1.2 unless told
//! otherwise. HTTP/2 is negotiated by ALPN (RFC 9113, 3.2), as gRPC requires.
//!
//! Sessions are not resumed: an ADS connection lasts for days, and a resumed session would skip the check of the client's
//! certificate. Deliberately not here: sockets, and revocation lists: give clients certificates that live for a short time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::TlsFiles;

mod reload;

pub use self::reload::Reloader;

/// The only protocol that is spoken.
const ALPN: &[u8] = b"h2";

/// Why the files cannot be used. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{flag} {}: {source}", path.display())]
    Read {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{flag} {}: {problem}", path.display())]
    Content {
        /// The flag that named it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Each is good, but not both together.
    #[error(
        "--tls-cert {} and --tls-key {}: {problem}; give the key that the certificate was issued for", cert.display(), key.display()
    )]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What rustls said.
        problem: String,
    },
}

/// The bytes of the files, as they were in one reading.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// When a certificate is valid, in seconds since 1970 (RFC 5280, 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    not_before: i64,
    not_after: i64,
}

/// What the files make.
struct Loaded {
    config: Arc<ServerConfig>,
    validity: Validity,
}

// === impl Validity ===

impl Validity {
    fn holds(self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// Whether clients are better off with `self` than with `current`. A new certificate is taken even when it is invalid,
    /// unless that would take a valid one out of force.
    fn may_replace(self, current: Self, now: i64) -> bool {
        self.holds(now) || !current.holds(now)
    }
}

// === impl Pem ===

impl Pem {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let TlsFiles { cert, key, client_ca } = files;
        let read = |flag, path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read { flag, path: path.to_owned(), source })
        };
        Ok(Self {
            cert: read("--tls-cert", cert)?,
            key: read("--tls-key", key)?,
            client_ca: client_ca.as_ref().map(|path| read("--tls-client-ca", path)).transpose()?,
        })
    }

    fn load(&self, files: &TlsFiles) -> Result<Loaded, TlsError> {
        let chain = certificates("--tls-cert", &files.cert, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| TlsError::Content {
            flag: "--tls-key",
            path: files.key.clone(),
            problem: format!("no private key in PEM: {error}"),
        })?;
        let validity = validity(&files.cert, &chain[0])?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| pair(files, &error))?;
        let builder = match (&files.client_ca, &self.client_ca) {
            (Some(path), Some(pem)) => {
                let refuse = |problem: String| TlsError::Content {
                    flag: "--tls-client-ca",
                    path: path.clone(),
                    problem,
                };
                let mut roots = RootCertStore::empty();
                for ca in certificates("--tls-client-ca", path, pem)? {
                    roots
                        .add(ca)
                        .map_err(|error| refuse(format!("a certificate cannot be a CA: {error}")))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| refuse(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| pair(files, &error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Loaded { config: Arc::new(config), validity })
    }
}

fn pair(files: &TlsFiles, error: &rustls::Error) -> TlsError {
    TlsError::Pair { cert: files.cert.clone(), key: files.key.clone(), problem: error.to_string() }
}

fn certificates(
    flag: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |problem| TlsError::Content { flag, path: path.to_owned(), problem };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(format!("not PEM: {error}")))?;
    if found.is_empty() {
        return Err(refuse("holds no certificate in PEM".to_owned()));
    }
    Ok(found)
}

fn validity(path: &Path, certificate: &CertificateDer<'_>) -> Result<Validity, TlsError> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(Validity {
            not_before: parsed.validity.not_before.timestamp(),
            not_after: parsed.validity.not_after.timestamp(),
        }),
        Err(error) => Err(TlsError::Content {
            flag: "--tls-cert",
            path: path.to_owned(),
            problem: format!("the certificate cannot be parsed: {error}"),
        }),
    }
}

#[cfg(test)]
mod tests;
