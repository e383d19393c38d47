// SPDX-License-Identifier: Apache-2.0
//! What the API server has said about tokens, for a while.
//!
//! What must always be true: memory is bounded, and refused tokens never push accepted ones out: anybody can make up
//! tokens. Pure: the time is an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::token::Digest;

/// How long an acceptance needs no second look. The API server takes as long to notice that a token's pod is gone.
pub(super) const FRESH: Duration = Duration::from_secs(300);
/// How long a refusal needs no second look: a client that tries again all the time costs the API server little, and one
/// whose token becomes good waits little.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(10);
/// A node's agent has one token, and a new one each hour.
const MAX_ACCEPTED: usize = 16_384;
const MAX_REFUSED: usize = 1_024;

/// What is known of a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It belongs to this user.
    Fresh(Arc<str>),
    /// It belonged to this user when the API server was last asked, and has not ended by its own words.
    Stale(Arc<str>),
    /// It is refused, for this reason.
    Refused(Arc<str>),
    /// Nothing.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct TokenCache {
    accepted: HashMap<Digest, Entry>,
    refused: HashMap<Digest, Entry>,
}

#[derive(Debug)]
struct Entry {
    words: Arc<str>,
    fresh_until: Instant,
    good_until: Instant,
}

// === impl TokenCache ===

impl TokenCache {
    /// What is known at `now`.
    pub(super) fn look_up(&self, key: &Digest, now: Instant) -> Known {
        match (self.accepted.get(key), self.refused.get(key)) {
            (Some(entry), _) if now < entry.fresh_until => Known::Fresh(entry.words.clone()),
            (Some(entry), _) if now < entry.good_until => Known::Stale(entry.words.clone()),
            (_, Some(entry)) if now < entry.good_until => Known::Refused(entry.words.clone()),
            _ => Known::Unknown,
        }
    }

    /// The API server accepts the token, which goes on for `lifetime`; `None`: it does not say how long.
    pub(super) fn accept(&mut self, key: Digest, user: Arc<str>, lifetime: Option<Duration>, now: Instant) {
        self.refused.remove(&key);
        let good_until = now + lifetime.unwrap_or(FRESH);
        let entry = Entry { words: user, fresh_until: good_until.min(now + FRESH), good_until };
        put(&mut self.accepted, MAX_ACCEPTED, key, entry, now);
    }

    /// The API server refuses the token, whatever it said before.
    pub(super) fn refuse(&mut self, key: Digest, reason: Arc<str>, now: Instant) {
        self.accepted.remove(&key);
        let until = now + REFUSED_FOR;
        put(
            &mut self.refused,
            MAX_REFUSED,
            key,
            Entry { words: reason, fresh_until: until, good_until: until },
            now,
        );
    }
}

/// Makes room by what has ended; if there is none, by what ends first.
fn put(entries: &mut HashMap<Digest, Entry>, most: usize, key: Digest, entry: Entry, now: Instant) {
    if entries.len() >= most && !entries.contains_key(&key) {
        entries.retain(|_, entry| now < entry.good_until);
        if entries.len() >= most
            && let Some(first) = entries.iter().min_by_key(|(_, entry)| entry.good_until).map(|(key, _)| *key)
        {
            entries.remove(&first);
        }
    }
    entries.insert(key, entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn key(number: usize) -> Digest {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn an_acceptance_is_fresh_then_stale_then_over() {
        let (mut cache, now) = (TokenCache::default(), Instant::now());
        assert_eq!(cache.look_up(&key(1), now), Known::Unknown);
        cache.accept(key(1), "agent".into(), Some(HOUR), now);
        assert_eq!(cache.look_up(&key(1), now), Known::Fresh("agent".into()));
        assert_eq!(cache.look_up(&key(1), now + FRESH), Known::Stale("agent".into()));
        assert_eq!(cache.look_up(&key(1), now + HOUR), Known::Unknown);
    }

    #[test]
    fn a_token_that_ends_soon_is_not_fresh_longer_than_it_lives() {
        let (mut cache, now) = (TokenCache::default(), Instant::now());
        cache.accept(key(1), "agent".into(), Some(Duration::from_secs(5)), now);
        assert_eq!(cache.look_up(&key(1), now + Duration::from_secs(5)), Known::Unknown);
        cache.accept(key(2), "agent".into(), None, now);
        assert_eq!(cache.look_up(&key(2), now + FRESH), Known::Unknown, "nothing is known of its end");
    }

    #[test]
    fn the_last_word_counts() {
        let (mut cache, now) = (TokenCache::default(), Instant::now());
        cache.accept(key(1), "agent".into(), Some(HOUR), now);
        cache.refuse(key(1), "deleted".into(), now);
        assert_eq!(cache.look_up(&key(1), now), Known::Refused("deleted".into()));
        assert_eq!(
            cache.look_up(&key(1), now + REFUSED_FOR),
            Known::Unknown,
            "and the API server is asked again"
        );
        cache.refuse(key(1), "deleted".into(), now);
        cache.accept(key(1), "agent".into(), Some(HOUR), now);
        assert_eq!(cache.look_up(&key(1), now), Known::Fresh("agent".into()));
    }

    #[test]
    fn made_up_tokens_cost_bounded_memory_and_push_no_good_one_out() {
        let (mut cache, now) = (TokenCache::default(), Instant::now());
        cache.accept(key(0), "agent".into(), Some(HOUR), now);
        for number in 1..10 * MAX_REFUSED {
            cache.refuse(key(number), "made up".into(), now);
        }
        assert_eq!(cache.refused.len(), MAX_REFUSED);
        assert_eq!(cache.look_up(&key(0), now), Known::Fresh("agent".into()));
        for number in 1..=MAX_ACCEPTED {
            cache.accept(key(number), "agent".into(), Some(2 * HOUR), now);
        }
        assert_eq!(cache.accepted.len(), MAX_ACCEPTED);
        assert_eq!(cache.look_up(&key(0), now), Known::Unknown, "the one that ends first made room");
    }
}
