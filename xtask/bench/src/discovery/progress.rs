// SPDX-License-Identifier: Apache-2.0
//! Where the benchmark is, on standard error: one line that is rewritten on a terminal, one line per step elsewhere.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// How often a count is worth a new line on a terminal.
const EVERY: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Progress {
    title: String,
    step: String,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// Of the run with this number among all.
    pub(super) fn new(number: usize, all: usize, title: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { title: format!("bench: [{number}/{all}] {title}"), step: String::new(), shown: None, terminal }
    }

    /// A step begins.
    pub(super) fn say(&mut self, step: &str) {
        step.clone_into(&mut self.step);
        self.write(&format!("{} …", self.step));
    }

    /// Within a step.
    pub(super) fn count(&mut self, step: &str, done: usize, all: usize) {
        if self.step != step {
            self.say(step);
        } else if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
            self.write(&format!("{step} {done}/{all}"));
        }
    }

    /// The run is over.
    pub(super) fn done(mut self, summary: &str) {
        self.write(summary);
        if self.terminal {
            eprintln!();
        }
    }

    fn write(&mut self, text: &str) {
        self.shown = Some(Instant::now());
        let line = format!("{}: {text}", self.title);
        let mut out = std::io::stderr().lock();
        // Progress that cannot be shown is no reason to stop measuring.
        let _ = if self.terminal { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
        let _ = out.flush();
    }
}
