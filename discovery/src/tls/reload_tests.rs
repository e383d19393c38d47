// SPDX-License-Identifier: Apache-2.0
//! What is in force after each change of the files. The clock is an argument, except in the last test.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

/// 2020-01-01 and 2030-01-01.
const THEN: i64 = 1_577_836_800;
const LATER: i64 = 1_893_456_000;

/// A certificate that ends in this year, and its key.
fn write(folder: &TempDir, year: i32) -> TlsFiles {
    let mut params = CertificateParams::new(vec!["d".to_owned()]).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    put(folder, "cert", &params.self_signed(&key).unwrap().pem());
    put(folder, "key", &key.serialize_pem());
    TlsFiles { cert: folder.path().join("cert"), key: folder.path().join("key"), client_ca: None }
}

fn put(folder: &TempDir, name: &str, text: &str) {
    std::fs::write(folder.path().join("draft"), text).unwrap();
    std::fs::rename(folder.path().join("draft"), folder.path().join(name)).unwrap();
}

fn reloads(metrics: &TransportMetrics, result: &str) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = format!("tls_reloads_total{{result=\"{result}\"}} ");
    text.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

#[test]
fn bad_content_is_told_once_and_what_was_good_stays() {
    let (folder, metrics) = (TempDir::new().unwrap(), TransportMetrics::default());
    let mut reloader = Reloader::open(write(&folder, 2090), metrics.clone()).unwrap();
    let first = reloader.config().borrow().clone();
    put(&folder, "cert", "garbage");
    for _ in 0..3 {
        reloader.renew(THEN);
    }
    assert!(Arc::ptr_eq(&first, &reloader.config().borrow()));
    assert_eq!((reloads(&metrics, "refused"), reloads(&metrics, "taken")), (1, 0));
    write(&folder, 2091);
    reloader.renew(THEN);
    assert!(!Arc::ptr_eq(&first, &reloader.config().borrow()));
    assert_eq!((reloads(&metrics, "refused"), reloads(&metrics, "taken")), (1, 1));
}

#[test]
fn an_expired_certificate_never_replaces_a_valid_one() {
    let (folder, metrics) = (TempDir::new().unwrap(), TransportMetrics::default());
    let mut reloader = Reloader::open(write(&folder, 2090), metrics.clone()).unwrap();
    write(&folder, 2010);
    reloader.renew(THEN);
    assert_eq!((reloads(&metrics, "refused"), reloads(&metrics, "taken")), (1, 0));
    assert!(metrics.tls_not_after.get() > LATER, "the metric shows what is in force");
}

#[test]
fn an_expired_certificate_at_the_start_is_served_and_replaced() {
    let (folder, metrics) = (TempDir::new().unwrap(), TransportMetrics::default());
    let mut reloader = Reloader::open(write(&folder, 2010), metrics.clone()).unwrap();
    assert!(metrics.tls_not_after.get() < THEN);
    write(&folder, 2090);
    reloader.renew(THEN);
    assert_eq!(reloads(&metrics, "taken"), 1);
    assert!(metrics.tls_not_after.get() > LATER);
}

#[tokio::test]
async fn changed_files_are_noticed_without_being_asked() {
    let (folder, metrics) = (TempDir::new().unwrap(), TransportMetrics::default());
    let reloader = Reloader::open(write(&folder, 2090), metrics).unwrap();
    let (mut config, shutdown) = (reloader.config(), CancellationToken::new());
    config.mark_unchanged();
    let running = tokio::spawn(reloader.run(shutdown.clone()));
    let changed = async {
        // The watch begins some time after the task has been started.
        loop {
            write(&folder, 2091);
            if tokio::time::timeout(Duration::from_millis(500), config.changed()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), changed)
        .await
        .expect("noticed long before the next recheck");
    shutdown.cancel();
    running.await.unwrap();
}
