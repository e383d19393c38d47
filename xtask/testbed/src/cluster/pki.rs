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
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

/// An authority and the folder of what it issued.
pub(crate) struct Pki {
    folder: PathBuf,
    authority: Issuer<'static, KeyPair>,
    certificate: String,
}

/// Paths of a certificate and its key.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pki {
    /// A new authority, and the key of ServiceAccount tokens as `sa.key` and `sa.pub`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
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
    pub(crate) fn path(&self, file: &str) -> String {
        self.folder.join(file).to_string_lossy().into_owned()
    }

    /// A certificate for user `name` in `groups`, valid as a server for `hosts` (names or addresses).
    pub(crate) fn issue(&self, file: &str, name: &str, groups: &[&str], hosts: &[String]) -> Result<Issued> {
        let (certificate, key) = self.sign(name, groups, hosts)?;
        let (at, key_at) = (format!("{file}.crt"), format!("{file}.key"));
        self.write(&at, &certificate)?;
        self.write(&key_at, &key)?;
        Ok(Issued { certificate: self.path(&at), key: self.path(&key_at) })
    }

    /// A kubeconfig for user `name` in `groups` at `server`; returns its path.
    pub(crate) fn kubeconfig(
        &self,
        file: &str,
        server: &str,
        name: &str,
        groups: &[&str],
    ) -> Result<PathBuf> {
        let (certificate, key) = self.sign(name, groups, &[])?;
        let user = json!({
            "client-certificate-data": BASE64.encode(&certificate),
            "client-key-data": BASE64.encode(&key),
        });
        self.kubeconfig_for(file, server, &user)
    }

    /// A kubeconfig with what proves the user, such as `{"token": …}`; returns its path. JSON is YAML.
    pub(crate) fn kubeconfig_for(&self, file: &str, server: &str, user: &Value) -> Result<PathBuf> {
        let cluster =
            json!({ "server": server, "certificate-authority-data": BASE64.encode(&self.certificate) });
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

#[cfg(test)]
mod tests {
    use super::*;

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
