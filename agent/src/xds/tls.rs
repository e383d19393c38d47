// SPDX-License-Identifier: Apache-2.0
//! TLS to discovery: files in, a connection or words for people out.
//!
//! The files are read for each connection, so that whatever renews them is followed without being watched. Sessions are not
//! resumed. What must always be true: the server's certificate is checked against our CAs and name, and nothing else.
//!
//! Deliberately not here: HTTP/2, and when to try again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::config::TlsFiles;

/// What is read from the files, ready for one connection.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    words: Arc<Words>,
}

/// What an explanation has to know.
#[derive(Debug)]
struct Words {
    name: String,
    ca: PathBuf,
    cert: Option<PathBuf>,
    /// The reason for which TLS ended the connection. Whoever uses the connection only learns that it broke.
    reason: OnceLock<String>,
}

/// A TLS connection that remembers why it broke.
///
/// In TLS 1.3 the client has finished before the server has seen its certificate: a refusal comes as an alert with the first
/// bytes that are read, when HTTP/2 already runs.
#[derive(Debug)]
pub(super) struct Noting {
    stream: TlsStream<TcpStream>,
    words: Arc<Words>,
}

// === impl Tls ===

impl Tls {
    /// Reads the files. `host` is what is dialled.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it.
    pub(super) fn read(files: &TlsFiles, host: &str) -> Result<Self, String> {
        let TlsFiles { ca, name, identity } = files;
        let host = name.as_deref().unwrap_or(host);
        let mut roots = RootCertStore::empty();
        for certificate in certificates("--discovery-ca", ca)? {
            roots.add(certificate).map_err(|error| format!("--discovery-ca {}: {error}", ca.display()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates("--discovery-cert", cert)?;
                let der = PrivateKeyDer::from_pem_slice(&read("--discovery-key", key)?)
                    .map_err(|error| format!("--discovery-key {}: no private key: {error}", key.display()))?;
                builder.with_client_auth_cert(chain, der).map_err(|error| {
                    format!(
                        "--discovery-cert {} with --discovery-key {}: {error}",
                        cert.display(),
                        key.display()
                    )
                })?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        let server = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host:?} is no DNS name and no IP address; give --discovery-name"))?;
        let words = Words {
            name: host.to_owned(),
            ca: ca.clone(),
            cert: identity.as_ref().map(|(cert, _)| cert.clone()),
            reason: OnceLock::new(),
        };
        Ok(Self { config: Arc::new(config), name: server, words: Arc::new(words) })
    }

    /// The TLS handshake over a connection.
    pub(super) async fn handshake(self, stream: TcpStream) -> io::Result<Noting> {
        let Self { config, name, words } = self;
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => Ok(Noting { stream, words }),
            Err(error) => {
                words.note(&error);
                Err(error)
            }
        }
    }

    /// Why TLS ended the connection, if it did.
    pub(super) fn reason(&self) -> Option<&str> {
        self.words.reason.get().map(String::as_str)
    }
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{flag} {}: {error}", path.display()))
}

fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(flag, path)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| format!("{flag} {}: not PEM: {error}", path.display()))?;
    match found.is_empty() {
        true => Err(format!("{flag} {}: holds no certificate in PEM", path.display())),
        false => Ok(found),
    }
}

// === impl Words ===

impl Words {
    /// Keeps the first reason: the others follow from it.
    fn note(&self, error: &io::Error) {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        if let Some(cause) = cause {
            self.reason.get_or_init(|| self.explain(cause));
        }
    }

    fn explain(&self, error: &rustls::Error) -> String {
        match error {
            rustls::Error::InvalidCertificate(reason) => self.explain_certificate(reason),
            rustls::Error::AlertReceived(alert) => self.explain_alert(*alert),
            rustls::Error::InvalidMessage(_) => {
                "what answers does not speak TLS; is it discovery with --plaintext? Then give http://"
                    .to_owned()
            }
            rustls::Error::NoApplicationProtocol => "what answers does not speak HTTP/2".to_owned(),
            other => format!("TLS: {other}"),
        }
    }

    fn explain_certificate(&self, reason: &CertificateError) -> String {
        let Self { name, ca, .. } = self;
        match reason {
            // A CA that was made anew under its old name is found, and then its signature is not.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("its certificate is not from a CA in --discovery-ca {}", ca.display())
            }
            CertificateError::ExpiredContext { time, not_after } => {
                let ago = time.as_secs().saturating_sub(not_after.as_secs());
                format!("its certificate expired {} ago, by this node's clock", span(ago))
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                let left = not_before.as_secs().saturating_sub(time.as_secs());
                format!("its certificate is not valid for another {}, by this node's clock", span(left))
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().map(|name| plain(name)).collect::<Vec<_>>().join(", ");
                format!("its certificate is for {names}, not for {name}; --discovery-name sets the name")
            }
            other => format!("its certificate is refused: {other}"),
        }
    }

    fn explain_alert(&self, alert: AlertDescription) -> String {
        use AlertDescription as Alert;
        let refused = match alert {
            Alert::CertificateRequired => "is missing",
            Alert::CertificateExpired => "has expired or is not valid yet",
            Alert::UnknownCA | Alert::DecryptError => "is not from a CA that it knows",
            Alert::CertificateRevoked => "is revoked",
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateUnknown
            | Alert::AccessDenied => "is refused",
            other => return format!("it ended the TLS handshake: {other:?}"),
        };
        match &self.cert {
            Some(cert) => {
                format!("it says that our certificate, --discovery-cert {}, {refused}", cert.display())
            }
            None => format!(
                "it asks for a client certificate, which {refused}; give --discovery-cert and --discovery-key"
            ),
        }
    }
}

/// rustls writes `DnsName("a.b")` and `IpAddress(10.0.0.1)`.
fn plain(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"')
}

/// A time in one unit, as people say it.
fn span(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{number} {unit}")
}

// === impl Noting ===

impl Noting {
    fn noted<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &poll {
            self.words.note(error);
        }
        poll
    }
}

impl AsyncRead for Noting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.noted(poll)
    }
}

impl AsyncWrite for Noting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.noted(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.noted(poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_one_unit() {
        for (seconds, words) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (86_400 * 3, "3 days")]
        {
            assert_eq!(span(seconds), words);
        }
    }

    #[test]
    fn an_alert_is_explained_by_whether_a_certificate_was_shown() {
        let mut words = Words { name: "d".into(), ca: "/ca".into(), cert: None, reason: OnceLock::new() };
        let none = words.explain_alert(AlertDescription::CertificateRequired);
        assert!(
            none.contains("asks for a client certificate, which is missing; give --discovery-cert"),
            "{none}"
        );
        words.cert = Some("/c".into());
        let unknown = words.explain_alert(AlertDescription::UnknownCA);
        assert_eq!(
            unknown,
            "it says that our certificate, --discovery-cert /c, is not from a CA that it knows"
        );
    }
}
