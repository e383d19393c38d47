// SPDX-License-Identifier: Apache-2.0
//! Small bars for tables: a load compared with the largest of its column.

/// Columns that a full bar takes.
const WIDTH: u64 = 6;
/// Eighths of a column.
const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A bar for `value`, full at `largest`. What is not zero is never without a mark.
pub(super) fn bar(value: u64, largest: u64) -> String {
    if value == 0 || largest == 0 {
        return String::new();
    }
    let eighths = u128::from(value.min(largest)) * u128::from(WIDTH) * 8 / u128::from(largest);
    let eighths = (eighths as usize).max(1);
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
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

    proptest! {
        #[test]
        fn a_bar_fits_its_column_and_more_is_never_shorter(a: u64, b: u64, largest: u64) {
            let (less, more) = (bar(a.min(b), largest), bar(a.max(b), largest));
            prop_assert!(more.chars().count() <= WIDTH as usize);
            prop_assert!(less.chars().count() <= more.chars().count());
        }
    }
}
