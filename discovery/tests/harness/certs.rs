// SPDX-License-Identifier: Apache-2.0
//! Certificates for tests, made on the spot.

use std::path::{Path, PathBuf};

use evenkeel_discovery::config::TlsFiles;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// A certificate authority.
pub(crate) struct Ca {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, as PEM.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

// === impl Ca ===

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Valid from 1975 to 4096, as rcgen has it.
    pub(crate) fn issue(&self, name: &str) -> Pair {
        self.sign(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    /// Expired in 2001.
    pub(crate) fn issue_expired(&self, name: &str) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }
}

// === impl Pair ===

impl Pair {
    /// Writes both into a directory, as the kubelet does: into a new folder, then the link `..data` is swapped.
    pub(crate) fn mount(&self, directory: &Path) -> TlsFiles {
        mount(directory, &[("tls.crt", &self.cert), ("tls.key", &self.key)]);
        TlsFiles { cert: directory.join("tls.crt"), key: directory.join("tls.key"), client_ca: None }
    }
}

/// Swaps the content of a mounted Secret.
pub(crate) fn mount(directory: &Path, files: &[(&str, &str)]) {
    use std::os::unix::fs::symlink;
    let version = (0..).map(|n| format!("..v{n}")).find(|name| !directory.join(name).exists()).unwrap();
    std::fs::create_dir(directory.join(&version)).unwrap();
    for (name, text) in files {
        std::fs::write(directory.join(&version).join(name), text).unwrap();
        let link: PathBuf = directory.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    let draft = directory.join("..data_tmp");
    symlink(&version, &draft).unwrap();
    std::fs::rename(draft, directory.join("..data")).unwrap();
}
