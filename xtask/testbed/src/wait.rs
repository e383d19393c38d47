// SPDX-License-Identifier: Apache-2.0
//! Waiting for a condition that has no event to await: poll until it holds or a deadline passes.
//!
//! The one place where the testbed sleeps. A failure names what was awaited and why it did not hold the last time.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Time between two polls: short against what is awaited, long enough to leave the CPU to those who are awaited.
const POLL: Duration = Duration::from_millis(5);

/// Polls `condition` until it is `Ok`, for at most `deadline`; returns its value.
///
/// # Errors
/// The deadline passed: names `what`, the time waited and the last failure of `condition`.
pub fn eventually<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= deadline => {
                return Err(anyhow!("{what}: not within {:.1} s: {error:#}", deadline.as_secs_f64()));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_names_what_was_awaited_and_the_last_failure() {
        let error =
            eventually("the moon", Duration::ZERO, || Err::<(), _>(anyhow!("still down"))).unwrap_err();
        assert!(error.to_string().starts_with("the moon: not within"), "{error}");
        assert!(error.to_string().contains("still down"), "{error}");
    }

    #[test]
    fn a_condition_that_holds_later_is_seen() {
        let mut polls = 0;
        let value = eventually("third poll", Duration::from_secs(5), || {
            polls += 1;
            if polls < 3 { Err(anyhow!("poll {polls}")) } else { Ok(polls) }
        });
        assert_eq!(value.unwrap(), 3);
    }
}
