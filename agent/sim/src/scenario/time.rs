// SPDX-License-Identifier: Apache-2.0
//! Times as people write them: a decimal number and a unit, `"5ms"`, `"1.5s"`, `"100us"`, `"2h"`.
//!
//! Always true: exact. Digits are counted in integers, never through a float, so that `"0.1s"` is 100 000 000 ns on every
//! machine; what is finer than a nanosecond is refused, as is a sign, an exponent, and anything above [`LONGEST`]. A bare
//! number is refused too (except `0`, which needs no unit): whoever writes `5` may mean seconds or milliseconds.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A hundred days, as the model allows.
const LONGEST: u128 = 100 * 86_400 * 1_000_000_000;

/// Units with their nanoseconds. Longer names first: `ms` ends in `s`.
const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A time in a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Time(pub(super) Duration);

/// The time that `text` names.
///
/// # Errors
/// What is wrong with it, for a person.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let Some((number, unit)) = UNITS.iter().find_map(|(name, ns)| Some((text.strip_suffix(name)?, *ns)))
    else {
        return Err(format!("`{text}` has no unit: write a time as \"5ms\", with ns, us, ms, s, m or h"));
    };
    decimal(number, unit).map_err(|why| format!("`{text}` is not a time: {why}"))
}

/// `number` of units of so many nanoseconds.
///
/// # Errors
/// What is wrong with it, without naming it.
pub(crate) fn decimal(number: &str, unit_ns: u128) -> Result<Duration, &'static str> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.starts_with('-') {
        return Err("it must not be negative");
    }
    let digits =
        |text: &str| !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err("it must be a plain decimal number of at most 18 digits on either side of the point");
    }
    // Digits only, and few enough for 64 bits: neither can fail.
    let (whole, places) = (whole.parse::<u128>().unwrap_or(u128::MAX), fraction.len() as u32);
    let part = fraction.parse::<u128>().unwrap_or(0) * unit_ns;
    if !part.is_multiple_of(10u128.pow(places)) {
        return Err("it is finer than a nanosecond");
    }
    let ns = whole.saturating_mul(unit_ns).saturating_add(part / 10u128.pow(places));
    if ns > LONGEST {
        return Err("it is longer than 100 days");
    }
    Ok(Duration::from_nanos(ns as u64))
}

/// `time` as [`parse`] reads it: in the largest unit below `m` that needs no more than three decimals.
pub(crate) fn show(time: Duration) -> String {
    let ns = time.as_nanos();
    let (unit, name) = match ns {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let thousandths = (ns * 1_000 + unit / 2) / unit;
    let fraction = format!("{:03}", thousandths % 1_000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}{name}", thousandths / 1_000)
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Time;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a time with its unit, as \"5ms\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                parse(text).map(Time).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_exactly() {
        for (text, ns) in [
            ("5ms", 5_000_000),
            ("0.1s", 100_000_000),
            ("1.5us", 1_500),
            ("7ns", 7),
            ("2h", 7_200_000_000_000),
            ("0", 0),
            ("3m", 180_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_reason() {
        for (text, why) in [
            ("5", "no unit"),
            ("", "no unit"),
            ("-5ms", "negative"),
            ("1e3s", "plain decimal"),
            (".s", "plain decimal"),
            ("NaNs", "plain decimal"),
            ("1 s", "plain decimal"),
            ("0.5ns", "finer"),
            ("2401h", "longer than 100 days"),
            ("999999999999999999h", "longer than 100 days"),
            ("9999999999999999999s", "plain decimal"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_an_error_and_never_a_panic(text in "[0-9.nmush-]{0,24}") {
            let _ = parse(&text);
        }

        #[test]
        fn whole_microseconds_survive_being_shown(us in 0u64..1_000_000) {
            let time = Duration::from_micros(us);
            prop_assert_eq!(parse(&show(time)), Ok(time));
        }
    }
}
