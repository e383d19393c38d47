// SPDX-License-Identifier: Apache-2.0
//! Lines that say what is being done, why, and how long it took. Always on standard error.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Says one thing that `area` (setup, ebpf, test …) does or found.
pub(crate) fn say(area: &str, text: impl AsRef<str>) {
    eprintln!("{area}: {}", text.as_ref());
}

/// Runs one step between a line that names it and a line that says how it ended and after how long.
pub(crate) fn step<T>(area: &str, what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    say(area, format!("{what} …"));
    let started = Instant::now();
    let result = run();
    let end = if result.is_ok() { "done" } else { "FAILED" };
    say(area, format!("{what}: {end} in {}", seconds(started.elapsed())));
    result
}

/// A duration as people read it: `0.12 s`, `1 min 42 s`.
pub(crate) fn seconds(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        0 => format!("{:.2} s", elapsed.as_secs_f64()),
        1..60 => format!("{:.1} s", elapsed.as_secs_f64()),
        whole => format!("{} min {} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_the_unit_that_fits() {
        assert_eq!(seconds(Duration::from_millis(123)), "0.12 s");
        assert_eq!(seconds(Duration::from_millis(9_140)), "9.1 s");
        assert_eq!(seconds(Duration::from_secs(102)), "1 min 42 s");
    }
}
