// SPDX-License-Identifier: Apache-2.0
//! Who is who in a cluster: an authority, a certificate for each component, kubeconfigs, and the key that signs
//! ServiceAccount tokens. Kubernetes takes a certificate's organisations for groups and its common name for the user
//! (<https://kubernetes.io/docs/setup/best-practices/certificates/>).
//!
//! What must always be true: keys are readable by their owner alone, and die with the run's folder.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

/// An authority and the folder of what it issued.
pub(super) struct Pki {
    folder: PathBuf,
    authority: Issuer<'static, KeyPair>,
    certificate: String,
}

/// Paths of a certificate and its key.
pub(super) struct Issued {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Pki {
    /// A new authority, and the key of ServiceAccount tokens as `sa.key` and `sa.pub`.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "evenkeel-testbed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        let pki = Self { folder: folder.into(), authority: Issuer::new(params, key), certificate };
        pki.write("ca.crt", &pki.certificate)?;
        let tokens = KeyPair::generate()?;
        pki.write("sa.key", &tokens.serialize_pem())?;
        pki.write("sa.pub", &tokens.public_key_pem())?;
        Ok(pki)
    }

    /// The path of one of its files.
    pub(super) fn path(&self, file: &str) -> String {
        self.folder.join(file).to_string_lossy().into_owned()
    }

    /// A certificate for user `name` in `groups`, valid as a server for `hosts` (names or addresses).
    pub(super) fn issue(&self, file: &str, name: &str, groups: &[&str], hosts: &[String]) -> Result<Issued> {
        let (certificate, key) = self.sign(name, groups, hosts)?;
        let (at, key_at) = (format!("{file}.crt"), format!("{file}.key"));
        self.write(&at, &certificate)?;
        self.write(&key_at, &key)?;
        Ok(Issued { certificate: self.path(&at), key: self.path(&key_at) })
    }

    /// A kubeconfig for user `name` in `groups` at `server`; returns its path.
    pub(super) fn kubeconfig(
        &self,
        file: &str,
        server: &str,
        name: &str,
        groups: &[&str],
    ) -> Result<PathBuf> {
        let (certificate, key) = self.sign(name, groups, &[])?;
        let user = json!({
            "client-certificate-data": base64(certificate.as_bytes()),
            "client-key-data": base64(key.as_bytes()),
        });
        self.kubeconfig_for(file, server, &user)
    }

    /// A kubeconfig with what proves the user, such as `{"token": …}`; returns its path. JSON is YAML.
    pub(super) fn kubeconfig_for(&self, file: &str, server: &str, user: &Value) -> Result<PathBuf> {
        let cluster =
            json!({ "server": server, "certificate-authority-data": base64(self.certificate.as_bytes()) });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "evenkeel", "cluster": cluster }],
            "users": [{ "name": "user", "user": user }],
            "contexts": [{ "name": "evenkeel", "context": { "cluster": "evenkeel", "user": "user" } }],
            "current-context": "evenkeel",
        });
        let file = format!("{file}.kubeconfig");
        self.write(&file, &serde_json::to_string_pretty(&config)?)?;
        Ok(self.folder.join(file))
    }

    fn sign(&self, name: &str, groups: &[&str], hosts: &[String]) -> Result<(String, String)> {
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name);
        groups.iter().for_each(|&group| params.distinguished_name.push(DnType::OrganizationName, group));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.authority)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    fn write(&self, file: &str, content: &str) -> Result<()> {
        let path = self.folder.join(file);
        let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let mut opened = opened.with_context(|| format!("make {}", path.display()))?;
        opened.write_all(content.as_bytes()).with_context(|| format!("write {}", path.display()))
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = char::from(ALPHABET[(bits >> (18 - 6 * n) & 63) as usize]);
            text.push(if n <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfcs_test_vectors() {
        let vectors = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn keys_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new(folder.path()).unwrap();
        let issued = pki.issue("x", "user", &["group"], &["10.0.0.1".into()]).unwrap();
        let config = pki.kubeconfig("y", "https://10.0.0.1:6443", "user", &["group"]).unwrap();
        for file in [Path::new(&issued.key), &config, &folder.path().join("sa.key")] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        }
        let text = fs::read_to_string(&config).unwrap();
        assert!(
            serde_json::from_str::<Value>(&text).unwrap()["users"][0]["user"]["client-key-data"].is_string()
        );
    }
}
