// SPDX-License-Identifier: Apache-2.0
//! Starting other programs: with an environment that `cargo run` has not coloured, and with errors that name
//! the program and show the end of what it said.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::progress;

/// How often a long quiet step says where it is.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How many lines of a failed step's output are shown; the log has the rest.
const SHOWN_ON_FAILURE: usize = 25;

/// Cargo as it runs this program, to build in the same workspace with the same toolchain.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    clean(&mut command);
    command
}

/// Takes out what `cargo run` put into the environment about this package: to a build script or to a compiler
/// they would look like facts about another package. `RUSTUP_TOOLCHAIN` stays, so that `rustc` is the pinned one.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_about_this_package) {
            command.env_remove(name);
        }
    }
}

fn is_about_this_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix))
        || ["CARGO", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"].contains(&name)
}

/// Runs to the end with the output passed through. Fails unless it exits with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs to the end and returns standard output. Fails with standard error unless it exits with 0.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a long step whose output nobody wants to read unless it fails: into `log`, with a line of progress now
/// and then, and with the end of the output in the error.
pub(crate) fn run_logged(area: &str, command: &mut Command, log: &Path) -> Result<()> {
    let mut log_file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log_file.try_clone()?)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", name(command)))?;
    let stderr = child.stderr.take().context("standard error was not piped")?;

    let mut last = VecDeque::with_capacity(SHOWN_ON_FAILURE);
    let (started, mut told) = (Instant::now(), Instant::now());
    for line in BufReader::new(stderr).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        writeln!(log_file, "{line}")?;
        if told.elapsed() >= HEARTBEAT {
            told = Instant::now();
            progress::say(
                area,
                format!("  {} so far: {}", progress::seconds(started.elapsed()), line.trim()),
            );
        }
        if last.len() == SHOWN_ON_FAILURE {
            last.pop_front();
        }
        last.push_back(line);
    }
    let status = child.wait()?;
    if !status.success() {
        let end = last.into_iter().collect::<Vec<_>>().join("\n  ");
        bail!("{} failed ({status}); the end of its output:\n  {end}", shown(command));
    }
    Ok(())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// The command as one would type it, short: program's file name and arguments.
fn shown(command: &Command) -> String {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::iter::once(program)
        .chain(command.get_args().map(|arg| arg.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn what_cargo_run_says_about_this_package_is_recognised_and_the_users_settings_are_not() {
        for name in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_PKG_VERSION", "CARGO_PRIMARY_PACKAGE"] {
            assert!(is_about_this_package(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL", "RUSTUP_TOOLCHAIN", "PATH"] {
            assert!(!is_about_this_package(name), "{name}");
        }
    }

    #[test]
    fn a_failed_step_shows_the_end_of_its_output_and_logs_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let script = "for i in $(seq 100); do echo line $i >&2; done; exit 3";
        let error =
            run_logged("test", Command::new("sh").args(["-c", script]), &log).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("line 100") && !error.contains("line 75\n"), "{error}");
        assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 100);
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = run(&mut Command::new("/no/such/program")).unwrap_err();
        assert!(format!("{error:#}").contains("cannot start /no/such/program"));
    }
}
