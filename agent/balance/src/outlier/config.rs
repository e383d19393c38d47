// SPDX-License-Identifier: Apache-2.0
//! What users may say about outlier detection, with gRFC A50's names and defaults where it has them.

use std::time::Duration;

use crate::invalid::{Invalid, check};

/// How outliers are found and for how long they are out. With all three ways off nothing is ever ejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often the caller sweeps. The detector has no clock: it only tells. Not zero.
    pub interval: Duration,
    /// A statistical ejection lasts this × how often the endpoint was ejected lately. Not zero.
    pub base_ejection_time: Duration,
    /// Its bound, if it is not below the base.
    pub max_ejection_time: Duration,
    /// How much of the list may be out at once, at most 100. Of two endpoints and more, one always may.
    pub max_ejection_percent: u32,
    /// By success rate against the others' (A50).
    pub success_rate: Option<SuccessRate>,
    /// By failure percentage (A50).
    pub failure_percentage: Option<FailurePercentage>,
    /// By failures in a row, with a probe before the endpoint is back.
    pub consecutive: Option<Consecutive>,
}

impl Default for Config {
    /// A50's defaults, all three ways on.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 10,
            success_rate: Some(SuccessRate::default()),
            failure_percentage: Some(FailurePercentage::default()),
            consecutive: Some(Consecutive::default()),
        }
    }
}

/// Out: a success rate below mean − `stdev_factor` / 1000 × standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessRate {
    /// In 1/1000.
    pub stdev_factor: u32,
    /// Chance in percent that a finding leads to an ejection, at most 100.
    pub enforcement_percentage: u32,
    /// Fewer endpoints than this with enough requests: nobody is judged.
    pub minimum_hosts: u32,
    /// Fewer requests than this in an interval: this endpoint is not judged.
    pub request_volume: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { stdev_factor: 1_900, enforcement_percentage: 100, minimum_hosts: 5, request_volume: 100 }
    }
}

/// Out: more than `threshold` percent of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    /// At most 100; 100 finds nobody.
    pub threshold: u32,
    /// As in [`SuccessRate`].
    pub enforcement_percentage: u32,
    /// As in [`SuccessRate`].
    pub minimum_hosts: u32,
    /// As in [`SuccessRate`].
    pub request_volume: u32,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self { threshold: 85, enforcement_percentage: 100, minimum_hosts: 5, request_volume: 50 }
    }
}

/// Out: that many failures in a row. Back-off doubles with each ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consecutive {
    /// At least 1.
    pub failures: u32,
    /// The first back-off; not zero.
    pub base_backoff: Duration,
    /// The longest, before jitter; at least the first.
    pub max_backoff: Duration,
    /// Each back-off is lengthened by a random part of up to this percent of it, so that nodes do not probe in step. At
    /// most 100.
    pub jitter_percent: u32,
    /// A probe without an outcome for this long is given up, and another is allowed. Not zero.
    pub probe_timeout: Duration,
}

impl Default for Consecutive {
    /// Envoy's 5 failures; linkerd's back-off of 1 s to 60 s with a jitter of a half.
    fn default() -> Self {
        Self {
            failures: 5,
            base_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            jitter_percent: 50,
            probe_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Fails on the first field that is out of its range.
    pub(super) fn validate(&self) -> Result<(), Invalid> {
        let Self { interval, base_ejection_time, max_ejection_time: _, max_ejection_percent, .. } = self;
        not_zero("interval", *interval)?;
        not_zero("base_ejection_time", *base_ejection_time)?;
        percent("max_ejection_percent", *max_ejection_percent)?;
        if let Some(SuccessRate {
            enforcement_percentage,
            stdev_factor: _,
            minimum_hosts: _,
            request_volume,
        }) = self.success_rate
        {
            percent("success_rate.enforcement_percentage", enforcement_percentage)?;
            check(request_volume > 0, "success_rate.request_volume", request_volume, "above zero")?;
        }
        if let Some(FailurePercentage {
            threshold,
            enforcement_percentage,
            minimum_hosts: _,
            request_volume,
        }) = self.failure_percentage
        {
            percent("failure_percentage.threshold", threshold)?;
            percent("failure_percentage.enforcement_percentage", enforcement_percentage)?;
            check(request_volume > 0, "failure_percentage.request_volume", request_volume, "above zero")?;
        }
        self.consecutive.as_ref().map_or(Ok(()), Consecutive::validate)
    }
}

impl Consecutive {
    fn validate(&self) -> Result<(), Invalid> {
        let Self { failures, base_backoff, max_backoff, jitter_percent, probe_timeout } = *self;
        check(failures > 0, "consecutive.failures", failures, "above zero")?;
        not_zero("consecutive.base_backoff", base_backoff)?;
        let ordered = max_backoff >= base_backoff;
        check(ordered, "consecutive.max_backoff", max_backoff, "at least base_backoff")?;
        percent("consecutive.jitter_percent", jitter_percent)?;
        not_zero("consecutive.probe_timeout", probe_timeout)
    }
}

fn percent(field: &'static str, value: u32) -> Result<(), Invalid> {
    check(value <= 100, field, value, "at most 100")
}

fn not_zero(field: &'static str, value: Duration) -> Result<(), Invalid> {
    check(!value.is_zero(), field, value, "above zero")
}
