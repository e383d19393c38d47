// SPDX-License-Identifier: Apache-2.0
//! Text that many objects share, kept once.
//!
//! A hundred thousand endpoints name a handful of zones and a few thousand nodes. What must always be true: text that
//! nobody else holds is let go, so the table does not grow with everything that was ever seen.
//! Deliberately not here: text that is unique anyway, such as the names of pods.

use std::collections::HashSet;
use std::sync::Arc;

/// Tables smaller than this are not worth looking through.
const SMALLEST_SWEEP: usize = 1024;

/// The table.
#[derive(Debug)]
pub struct Strings {
    known: HashSet<Arc<str>>,
    empty: Arc<str>,
    /// The size at which what nobody holds is looked for.
    sweep_at: usize,
}

// === impl Strings ===

impl Default for Strings {
    fn default() -> Self {
        Self { known: HashSet::new(), empty: "".into(), sweep_at: SMALLEST_SWEEP }
    }
}

impl Strings {
    /// The shared copy of `text`.
    pub fn share(&mut self, text: &str) -> Arc<str> {
        if text.is_empty() {
            return self.empty.clone();
        }
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_at = SMALLEST_SWEEP.max(2 * self.known.len());
        }
        let shared: Arc<str> = text.into();
        self.known.insert(shared.clone());
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_text_is_kept_once_and_text_that_nobody_holds_is_let_go() {
        let mut strings = Strings::default();
        let (first, second) = (strings.share("zone-a"), strings.share("zone-a"));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&strings.share(""), &strings.share("")));
        for number in 0..10 * SMALLEST_SWEEP {
            strings.share(&number.to_string());
        }
        assert!(strings.known.len() <= SMALLEST_SWEEP + 1, "{}", strings.known.len());
        assert!(Arc::ptr_eq(&first, &strings.share("zone-a")), "somebody holds it");
    }
}
