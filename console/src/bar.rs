// SPDX-License-Identifier: Apache-2.0
//! Numbers as drawings of one line: a bar beside its column's largest, and the course of a value.

/// Columns that a full bar takes.
const WIDTH: u64 = 6;
/// Eighths of a column.
const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Heights of a course.
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar for `value`, full at `largest`. What is not zero is never without a mark.
#[must_use]
pub fn bar(value: u64, largest: u64) -> String {
    if value == 0 || largest == 0 {
        return String::new();
    }
    let eighths = u128::from(value.min(largest)) * u128::from(WIDTH) * 8 / u128::from(largest);
    let eighths = (eighths as usize).max(1);
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

/// A course of values, the highest at full height; zero is the lowest mark.
#[must_use]
pub fn spark(values: &[u64]) -> String {
    let highest = values.iter().copied().max().unwrap_or_default().max(1);
    let mark = |value: &u64| {
        let step = (u128::from(*value) * (SPARKS.len() as u128 - 1)).div_ceil(u128::from(highest));
        SPARKS[step as usize]
    };
    values.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bar_is_in_proportion() {
        assert_eq!(bar(12, 12), "██████");
        assert_eq!(bar(6, 12), "███");
        assert_eq!(bar(1, 16), "▍");
        assert_eq!(bar(0, 10), "");
        assert_eq!(bar(0, 0), "");
        assert_eq!(bar(1, u64::MAX), "▏", "little is not nothing");
    }

    #[test]
    fn a_course_is_in_proportion_and_little_is_not_nothing() {
        assert_eq!(spark(&[0, 1, 50, 100]), "▁▂▅█");
        assert_eq!(spark(&[0, 0]), "▁▁");
        assert_eq!(spark(&[1, u64::MAX]), "▂█");
        assert_eq!(spark(&[]), "");
    }

    proptest! {
        #[test]
        fn a_bar_fits_its_column_and_more_is_never_shorter(a: u64, b: u64, largest: u64) {
            let (less, more) = (bar(a.min(b), largest), bar(a.max(b), largest));
            prop_assert!(more.chars().count() <= WIDTH as usize);
            prop_assert!(less.chars().count() <= more.chars().count());
        }
    }
}
