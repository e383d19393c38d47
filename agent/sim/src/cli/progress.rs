// SPDX-License-Identifier: Apache-2.0
//! One line on standard error that says how far a run is. Nothing is written where nobody looks (no terminal), and nothing
//! when it did not change, so that it costs nothing.

use std::io::{self, Write as _};

/// Characters of the bar.
const WIDTH: usize = 30;

/// See the module.
pub(super) struct Progress {
    shown: bool,
    policies: usize,
    current: usize,
    name: String,
    percent: Option<u32>,
}

impl Progress {
    pub(super) fn new(shown: bool, policies: usize) -> Self {
        Self { shown, policies, current: 0, name: String::new(), percent: None }
    }

    /// Something to know before it starts; told without a terminal too.
    pub(super) fn say(&self, text: &str) {
        let _ = writeln!(io::stderr(), "evenkeel: {text}");
    }

    /// The next policy starts.
    pub(super) fn next(&mut self, name: &str) {
        self.current += 1;
        name.clone_into(&mut self.name);
        self.percent = None;
        self.at(0.0);
    }

    /// So much of it is done, 0 to 1.
    pub(super) fn at(&mut self, share: f64) {
        let percent = (share.clamp(0.0, 1.0) * 100.0) as u32;
        if !self.shown || self.percent == Some(percent) {
            return;
        }
        self.percent = Some(percent);
        let line = line(self.current, self.policies, &self.name, percent);
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
        let _ = io::stderr().flush();
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(current: usize, policies: usize, name: &str, percent: u32) -> String {
    let full = percent as usize * WIDTH / 100;
    format!("{current}/{policies} [{}{}] {percent:>3} % {name}", "█".repeat(full), " ".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_line_says_which_policy_and_how_far() {
        assert_eq!(line(2, 3, "p2c", 50), format!("2/3 [{}{}]  50 % p2c", "█".repeat(15), " ".repeat(15)));
    }
}
