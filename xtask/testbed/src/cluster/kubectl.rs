// SPDX-License-Identifier: Apache-2.0
//! `kubectl` against the cluster: commands, manifests, and waits that the API server's watches end.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::namespace;

/// A `kubectl` for one user.
#[derive(Debug, Clone)]
pub struct Kubectl {
    pub(super) program: PathBuf,
    pub(super) kubeconfig: PathBuf,
}

impl Kubectl {
    /// The command, to be started as the caller likes.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(args);
        command
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn output(&self, args: &[&str]) -> Result<Output> {
        let output = self.command(args).stdin(Stdio::null()).output();
        output.with_context(|| format!("start {}", self.program.display()))
    }

    /// Runs it to its end; returns its standard output.
    ///
    /// # Errors
    /// It fails: the error has the arguments and what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.run_with(args, "")
    }

    /// As [`Kubectl::run`], with standard input.
    ///
    /// # Errors
    /// As [`Kubectl::run`].
    pub fn run_with(&self, args: &[&str], input: &str) -> Result<String> {
        let output = namespace::run(self.command(args), input);
        let output = output.with_context(|| format!("kubectl {}", args.join(" ")))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies manifests, given as YAML or JSON.
    ///
    /// # Errors
    /// The API server refuses one.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        self.run_with(&["apply", "-f", "-"], manifests).map(drop)
    }

    /// Waits until the conditions of `kubectl wait` hold, e.g. `["--for=condition=Ready", "pod", "-l", "app=x"]`.
    ///
    /// # Errors
    /// They do not within `deadline`.
    pub fn wait(&self, args: &[&str], deadline: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", deadline.as_secs());
        self.run(&[&["wait", &timeout], args].concat()).map(drop)
    }

    /// Waits until a rollout is complete, e.g. of `deployment/x`.
    ///
    /// # Errors
    /// It is not within `deadline`.
    pub fn rolled_out(&self, args: &[&str], deadline: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", deadline.as_secs());
        self.run(&[&["rollout", "status", &timeout], args].concat()).map(drop)
    }

    /// Watches (`kubectl get … --watch --output-watch-events=false`) and gives each line to `done` until that is true.
    ///
    /// # Errors
    /// It is not within `deadline`, or the watch ends: the error has the last line.
    pub fn watch(&self, args: &[&str], deadline: Duration, mut done: impl FnMut(&str) -> bool) -> Result<()> {
        let end = Instant::now() + deadline;
        let what = format!("kubectl get {} --watch", args.join(" "));
        let mut watch = Watch::start(self.command(&[&["get", "--watch"], args].concat()))
            .with_context(|| format!("start {what}"))?;
        let mut last = String::new();
        loop {
            match watch.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if done(&line) => return Ok(()),
                Ok(line) => last = line,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!("{what}: not within {:.1} s; last: {last}", deadline.as_secs_f64())
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = watch.child.wait().context("wait for kubectl")?;
                    return Err(anyhow!("{what} ended ({status}); last: {last}"));
                }
            }
        }
    }
}

/// A running watch and its lines; ended with its owner.
struct Watch {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watch {
    fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().context("standard output was not piped")?;
        // Ends with the child, whose end closes the pipe.
        std::thread::Builder::new().name("kubectl watch".into()).spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let _ = lines.into_iter().try_for_each(|line| sender.send(line));
        })?;
        Ok(Self { child, lines })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
