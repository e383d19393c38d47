// SPDX-License-Identifier: Apache-2.0
//! Bars for a terminal.

/// Width of a bar that just reaches its target.
const BAR: f64 = 20.0;
/// Longest bar drawn: what is longer ends in an arrow.
const LONGEST: usize = 40;

/// A bar for this part of a target, in eighths of a character.
pub(crate) fn bar(part: f64) -> String {
    let eighths = (part.max(0.0) * BAR * 8.0).round() as usize;
    if eighths > LONGEST * 8 {
        return "█".repeat(LONGEST) + "▶";
    }
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_part_of_the_target() {
        assert_eq!(bar(1.0).chars().count(), BAR as usize);
        assert_eq!((bar(0.0), bar(1.0 / 160.0)), (String::new(), "▏".to_owned()));
        assert!(bar(100.0).ends_with('▶'));
    }
}
