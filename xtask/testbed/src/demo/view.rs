// SPDX-License-Identifier: Apache-2.0
//! The live picture: a bar per endpoint and a line of figures, redrawn in place.
//!
//! Rendering is a pure function of a [`Scene`]; a thread draws it four times a second while standard output is a
//! terminal. It fits 80 columns and 24 lines. When output is not a terminal, one line per phase goes to standard error.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::figures::{Latencies, skew};
use super::hub::{Hub, ServerView};
use super::parameters::SLOW_POD;
use crate::peer::messages::{ClientLive, LIVE_EVERY_MS};

/// Columns of the longest bar.
const BAR: usize = 34;
/// A full bar is this many times an even share: what a random choice readily gives an endpoint.
const FULL_SCALE: f64 = 2.5;

/// Everything that is on the screen.
pub(super) struct Scene {
    pub(super) phase: String,
    pub(super) note: String,
    pub(super) elapsed: Duration,
    /// Zone and server, in order.
    pub(super) servers: Vec<(String, ServerView)>,
    pub(super) clients: ClientLive,
}

/// The lines of a scene, none longer than 80 columns.
pub(super) fn render(scene: &Scene) -> Vec<String> {
    let seconds = scene.elapsed.as_secs();
    let mut lines = vec![
        clip(format!("{:<14} {}", scene.phase, scene.note), 73) + &format!(" {seconds:>4} s"),
        String::new(),
    ];
    let up: Vec<&ServerView> =
        scene.servers.iter().filter(|(_, view)| view.up).map(|(_, view)| view).collect();
    let total: f64 = up.iter().map(|view| view.rps).sum();
    let even = total / up.len().max(1) as f64;
    let mut zone = "";
    for (server_zone, view) in &scene.servers {
        let label = if server_zone == zone { "" } else { server_zone.as_str() };
        zone = server_zone;
        lines.push(bar(label, view, even));
    }
    lines.push(String::new());
    let mut latencies = Latencies::default();
    latencies.add(&scene.clients.latencies);
    let answered = scene.clients.requests - scene.clients.failures;
    let local = if answered == 0 { 0.0 } else { scene.clients.zone_local as f64 * 100.0 / answered as f64 };
    // In thousandths, so that the integer function serves rates too.
    let rates: Vec<u64> =
        up.iter().filter(|view| view.name != SLOW_POD).map(|view| (view.rps * 1e3) as u64).collect();
    lines.push(format!(
        "{:>5} rps  p50 {:>6.1} ms  p99 {:>6.0} ms  errors {:>3}/s  local {:>3.0} %  skew {:.2}",
        scene.clients.requests,
        latencies.quantile(0.5) as f64 / 1e3,
        latencies.quantile(0.99) as f64 / 1e3,
        scene.clients.failures + scene.clients.new_connection_errors,
        local,
        skew(&rates),
    ));
    lines
}

fn bar(zone: &str, view: &ServerView, even: f64) -> String {
    let name = if view.name == SLOW_POD { format!("{} slow", view.name) } else { view.name.clone() };
    if !view.up {
        return format!("{zone:<7}{name:<13}{:<BAR$} down", "");
    }
    let eighths = if even > 0.0 { view.rps / even / FULL_SCALE * (BAR * 8) as f64 } else { 0.0 };
    let eighths = (eighths as usize).min(BAR * 8);
    let mut bar: Vec<char> = vec!['█'; eighths / 8];
    let partial = [None, Some('▏'), Some('▎'), Some('▍'), Some('▌'), Some('▋'), Some('▊'), Some('▉')];
    bar.extend(partial[eighths % 8]);
    bar.resize(BAR, ' ');
    // The even share, where the bar has not covered it.
    let mark = (BAR as f64 / FULL_SCALE) as usize;
    if bar[mark] == ' ' {
        bar[mark] = '·';
    }
    let bar: String = bar.into_iter().collect();
    format!(
        "{zone:<7}{name:<13}{bar}{:>5.0}/s {:>2} conn{:>4} busy",
        view.rps, view.open_connections, view.in_flight
    )
}

fn clip(text: String, width: usize) -> String {
    let text: String = text.chars().take(width).collect();
    format!("{text:<width$}")
}

/// Shows what goes on until dropped.
pub(super) struct Screen {
    caption: Arc<Mutex<(String, String)>>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Screen {
    /// Draws if standard output is a terminal.
    pub(super) fn open(hub: &Hub, servers: Vec<(String, String)>) -> Self {
        let caption: Arc<Mutex<(String, String)>> = Arc::default();
        if !std::io::stdout().is_terminal() {
            return Self { caption, thread: None };
        }
        let (stop, stopped) = channel();
        let (hub, shared) = (hub.clone(), caption.clone());
        let thread = std::thread::spawn(move || draw(&hub, &shared, &servers, &stopped));
        Self { caption, thread: Some((stop, thread)) }
    }

    /// Says which phase it is and what is being done.
    pub(super) fn say(&self, phase: &str, note: &str) {
        let mut caption = self.caption.lock().unwrap_or_else(PoisonError::into_inner);
        let new_phase = caption.0 != phase;
        *caption = (phase.to_owned(), note.to_owned());
        if self.thread.is_none() && new_phase {
            eprintln!("{phase:<14} {note}");
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            let _panicked = thread.join();
        }
    }
}

fn draw(hub: &Hub, caption: &Mutex<(String, String)>, servers: &[(String, String)], stopped: &Receiver<()>) {
    let began = Instant::now();
    let names: Vec<String> = servers.iter().map(|(_, name)| name.clone()).collect();
    let mut drawn = 0;
    let mut out = std::io::stdout();
    let _closed = write!(out, "\x1b[?25l");
    while stopped.recv_timeout(Duration::from_millis(LIVE_EVERY_MS)) == Err(RecvTimeoutError::Timeout) {
        let (phase, note) = caption.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let zones = servers.iter().map(|(zone, _)| zone.clone());
        let scene = Scene {
            phase,
            note,
            elapsed: began.elapsed(),
            servers: zones.zip(hub.view(&names)).collect(),
            clients: hub.clients(),
        };
        let mut frame = if drawn > 0 { format!("\x1b[{drawn}F") } else { String::new() };
        let lines = render(&scene);
        drawn = lines.len();
        for line in lines {
            frame.push_str("\x1b[2K");
            frame.push_str(&line);
            frame.push('\n');
        }
        let _closed = out.write_all(frame.as_bytes()).and_then(|()| out.flush());
    }
    // The last picture is not wiped: the table follows below it.
    let _closed = writeln!(out, "\x1b[?25h").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(rps: f64) -> Scene {
        let server = |zone: char, i: usize| {
            let name = format!("echo-{zone}{i}");
            let up = name != "echo-c4";
            (format!("zone-{zone}"), ServerView { name, up, rps, open_connections: 12, in_flight: 120 })
        };
        Scene {
            phase: "zone-outage".into(),
            note: "a note that is much longer than the line has room for, so that it has to be cut off"
                .into(),
            elapsed: Duration::from_secs(75),
            servers: "abc".chars().flat_map(|zone| (1..=4).map(move |i| server(zone, i))).collect(),
            clients: ClientLive {
                requests: 99_999,
                failures: 999,
                latencies: vec![(2_000_000, 9)],
                ..ClientLive::default()
            },
        }
    }

    #[test]
    fn a_scene_fits_a_small_terminal() {
        for rps in [0.0, 1.0, 150.0, 99_999.0] {
            let lines = render(&scene(rps));
            assert!(lines.len() <= 23, "{} lines", lines.len());
            for line in lines {
                assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
            }
        }
    }

    #[test]
    fn a_bar_is_as_long_as_the_share_it_stands_for() {
        let view = |rps| ServerView { name: "echo-b1".into(), up: true, rps, ..ServerView::default() };
        let blocks = |rps| bar("", &view(rps), 100.0).matches('█').count();
        assert_eq!(blocks(0.0), 0);
        assert_eq!(blocks(125.0), BAR / 2);
        assert_eq!(blocks(1e9), BAR);
    }
}
