// SPDX-License-Identifier: Apache-2.0
//! What the files may hold, and what is said about what they may not.

use super::*;

#[test]
fn a_certificate_that_is_not_valid_replaces_only_one_that_is_not_either() {
    let (old, new, ended) = (
        Validity { not_before: 0, not_after: 100 },
        Validity { not_before: 50, not_after: 200 },
        Validity { not_before: 0, not_after: 60 },
    );
    assert!(new.may_replace(old, 70));
    assert!(!ended.may_replace(old, 70), "the old one is still good");
    assert!(!new.may_replace(old, 40), "the new one is not yet");
    assert!(ended.may_replace(old, 101), "neither is good: the newest is what was wanted");
}

#[test]
fn each_file_that_cannot_be_used_is_named_with_its_flag() {
    let folder = tempfile::TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let made = rcgen::generate_simple_self_signed(vec!["d".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["d".to_owned()]).unwrap();
    let files = TlsFiles { cert: at("cert"), key: at("key"), client_ca: Some(at("ca")) };
    let told = || match Pem::read(&files).and_then(|pem| pem.load(&files)) {
        Ok(_) => "good".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(told().starts_with(&format!("--tls-cert {}: No such file", at("cert").display())), "{}", told());
    for (name, text) in [("cert", &*made.cert.pem()), ("key", "nothing"), ("ca", "nothing")] {
        std::fs::write(at(name), text).unwrap();
    }
    assert!(told().contains("--tls-key") && told().contains("no private key in PEM"), "{}", told());
    std::fs::write(at("key"), other.signing_key.serialize_pem()).unwrap();
    assert!(told().contains("--tls-client-ca") && told().contains("holds no certificate"), "{}", told());
    std::fs::write(at("ca"), made.cert.pem()).unwrap();
    assert!(told().contains("give the key that the certificate was issued for"), "{}", told());
    std::fs::write(at("key"), made.signing_key.serialize_pem()).unwrap();
    assert_eq!(told(), "good");
}
