// SPDX-License-Identifier: Apache-2.0
//! Whether the source hears of changes, and how old what is served may be if it does not.
//!
//! Losing the source makes a replica neither unready nor unhealthy: what it knows is still the best there is, and a
//! restart would only lose it. But it must be seen how old that is. Time is an argument, save where metrics are read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// The state of the connection to the source, shared.
#[derive(Clone, Debug, Default)]
pub struct Link(Arc<Mutex<Option<Lost>>>);

/// The source is out of reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Since when.
    pub since: Instant,
    /// Why, for people.
    pub reason: String,
}

// === impl Link ===

impl Link {
    /// The source is out of reach since `now`, unless it was already.
    pub fn lose(&self, reason: &str, now: Instant) {
        let mut lost = self.0.lock();
        let since = lost.as_ref().map_or(now, |lost| lost.since);
        *lost = Some(Lost { since, reason: reason.to_owned() });
    }

    /// The source is there again; for how long it was not.
    pub fn restore(&self, now: Instant) -> Option<Duration> {
        self.0.lock().take().map(|lost| now.saturating_duration_since(lost.since))
    }

    /// Since when and why the source is out of reach, if it is.
    pub fn lost(&self) -> Option<Lost> {
        self.0.lock().clone()
    }

    fn seconds(&self, now: Instant) -> f64 {
        self.lost().map_or(0.0, |lost| now.saturating_duration_since(lost.since).as_secs_f64())
    }
}

impl Collector for Link {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(self.seconds(Instant::now()));
        let metric = encoder.encode_descriptor(
            "source_disconnected",
            "For how long the source has been out of reach; what is served is that old",
            Some(&Unit::Seconds),
            gauge.metric_type(),
        )?;
        gauge.encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_counts_from_the_first_loss_and_ends_with_the_source() {
        let (link, start) = (Link::default(), Instant::now());
        let later = |seconds| start + Duration::from_secs(seconds);
        assert!(link.seconds(start).abs() < f64::EPSILON);
        link.lose("refused", start);
        link.lose("403", later(5));
        assert_eq!(link.lost(), Some(Lost { since: start, reason: "403".into() }));
        assert!((link.seconds(later(7)) - 7.0).abs() < f64::EPSILON);
        assert_eq!(link.restore(later(8)), Some(Duration::from_secs(8)));
        assert_eq!((link.lost(), link.restore(later(9))), (None, None));
    }
}
