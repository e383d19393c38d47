// SPDX-License-Identifier: Apache-2.0
//! Tier 1: who does not read.

use evenkeel_xds::server::{Delta, Variant as _};
use tokio::time::{Instant, timeout};

use super::*;
use crate::registry::Registry;

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_given_up_and_one_that_reads_is_not() {
    let (registry, peer) = (Registry::default(), Peer::new(None));
    let (reads, _asks) = registry.enter(Delta::NAME, None);
    let (gone, _asks) = registry.enter(Delta::NAME, None);
    peer.watch(&reads);
    peer.watch(&gone);
    gone.writing();
    drop(gone);
    for _ in 0..1_000 {
        peer.watch(&registry.enter(Delta::NAME, None).0);
        assert!(peer.streams().len() <= MAX_STREAMS_PER_CONNECTION as usize);
    }
    let busy = async {
        loop {
            reads.writing();
            tokio::time::sleep(PATIENCE / 2).await;
            reads.wrote();
        }
    };
    let both = async { tokio::join!(peer.does_not_read(), busy) };
    assert!(timeout(PATIENCE * 9, both).await.is_err());
    assert_eq!(peer.streams().len(), 1, "the one that has gone is forgotten");
    reads.writing();
    let began = Instant::now();
    peer.does_not_read().await;
    assert!((PATIENCE..=PATIENCE + GLANCE).contains(&began.elapsed()), "{:?}", began.elapsed());
}
