// SPDX-License-Identifier: Apache-2.0
//! Numbers as people write them: three significant digits, a unit, thousands set apart. The same on any machine.

/// A time in nanoseconds.
pub(super) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    // 999.6 µs is 1000 µs with three digits: said as what it rounds to, not as a fourth digit.
    format!("{} {unit}", three(value))
}

/// Three significant digits, at most two decimals: of what is compared here more would be noise.
pub(super) fn three(value: f64) -> String {
    match value {
        v if !v.is_finite() => "-".to_owned(),
        v if v >= 99.95 => thousands(v.round() as u64),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// A share, as a percentage. What is not zero never reads as zero, what is not all never as all.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        p if !p.is_finite() => "-".to_owned(),
        0.0 => "0 %".to_owned(),
        p if p < 0.01 => "<0.01 %".to_owned(),
        p if p < 9.995 => format!("{p:.2} %"),
        p if p < 99.95 => format!("{p:.1} %"),
        p if p < 100.0 => ">99.9 %".to_owned(),
        p => format!("{p:.0} %"),
    }
}

/// A count with its thousands set apart by spaces.
pub(super) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_the_unit_that_suits() {
        for (ns, text) in [
            (0.0, "0.00 ns"),
            (999.0, "999 ns"),
            (1_500.0, "1.50 µs"),
            (12_345_678.0, "12.3 ms"),
            (99.96e6, "100 ms"),
            (2_345.6e9, "2 346 s"),
        ] {
            assert_eq!(time(ns), text);
        }
    }

    #[test]
    fn little_is_not_nothing_and_almost_all_is_not_all() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.000_001, "<0.01 %"),
            (0.0123, "1.23 %"),
            (0.5, "50.0 %"),
            (0.999_99, ">99.9 %"),
            (1.0, "100 %"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([thousands(7), thousands(1_000), thousands(1_234_567)], ["7", "1 000", "1 234 567"]);
    }
}
