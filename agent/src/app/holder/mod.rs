// SPDX-License-Identifier: Apache-2.0
//! The holder: a process that shares the agent's table of descriptors, so that those sockets of a killed agent that somebody
//! may be about to look at stay open for another [`GRACE`].
//!
//! The kernel hands nothing to an agent that is dying (`ek_exit`). But a client that was handed over just before may be kept
//! off the CPU until the sockets are gone, and would see its connect fail although nobody refused it. With the holder it
//! finds a connection when it comes to look, which then breaks like every other that the dead agent had ([`wind_up`]).
//!
//! Always true: while its agent lives the holder does nothing but wait, and it is gone [`GRACE`] after its agent, or before an
//! agent that ends in order. It ignores every signal that can be ignored, so that only its agent's end ends it.
//!
//! Deliberately not here: help against what kills both at once, as a container that is killed as a whole. And a container's
//! runtime ends what its first process has left as soon as it has noticed (containerd with runc: after 31 to 37 ms), which is part
//! of the grace, not all of it.

mod wind_up;

use std::{
    ffi::CStr,
    fs, io,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, clone},
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::{Pid, getpid, getppid},
};

/// How long the sockets outlive the agent. More than a runnable thread waits for a CPU on a busy node; less than anybody
/// minds whose connection breaks that much later, before it was used.
const GRACE: Duration = Duration::from_millis(50);
/// Its name in lists of processes. Not the agent's: who kills that by name shall not kill both.
const NAME: &CStr = c"ek-holder";
/// What the kernel sends when the agent has died.
const ORPHANED: Signal = Signal::SIGUSR1;
/// Of the holder's stack.
const STACK_BYTES: usize = 64 * 1024;
/// Of a pid namespace.
const FIRST: Pid = Pid::from_raw(1);

/// The agent's holder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder(Pid);

/// Nobody holds the sockets of this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("if this agent is killed, a connect at that moment may be reset: {reason}")]
pub(super) struct Unheld {
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    /// The kernel ends a pid namespace with its first process.
    #[error(
        "it is the first process of its pid namespace, which ends with it; set shareProcessNamespace in its pod, or start it \
         with an init (docker run --init)"
    )]
    FirstProcess,
    #[error(
        "the system does not allow it a second process that holds its sockets ({0}); raise the limit of processes"
    )]
    Refused(Errno),
    #[error("the process that held its sockets was killed; restart the agent")]
    Gone,
}

impl Holder {
    /// Starts it. To be called while the process has one thread, and by the one that lives longest.
    pub(super) fn start() -> Result<Self, Unheld> {
        if getpid() == FIRST {
            return Err(Unheld { reason: Reason::FirstProcess });
        }
        Self::clone_agent().map_err(|errno| Unheld { reason: Reason::Refused(errno) })
    }

    fn clone_agent() -> Result<Self, Errno> {
        let agent = getpid();
        let mut stack = vec![0; STACK_BYTES];
        // SAFETY: without CLONE_VM the child has its own copy of all memory, the stack and the closure among it. There is no
        // other thread that could hold a lock in that copy.
        let pid = unsafe {
            let holder = Box::new(|| isize::from(outlive(agent).is_err()));
            clone(holder, &mut stack, CloneFlags::CLONE_FILES, Some(Signal::SIGCHLD as i32))
        }?;
        Ok(Self(pid))
    }

    /// Whether it is there.
    pub(super) fn check(self) -> Result<(), Unheld> {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.0), look) {
            Ok(WaitStatus::StillAlive) => Ok(()),
            _ => Err(Unheld { reason: Reason::Gone }),
        }
    }

    /// Ends it: the agent closes its sockets in order.
    pub(super) fn dismiss(self) {
        let ended = kill(self.0, Signal::SIGKILL).and_then(|()| waitpid(self.0, None));
        if let Err(error) = ended {
            tracing::debug!(%error, "the holder was gone already");
        }
    }
}

/// The life of the holder.
fn outlive(agent: Pid) -> Result<(), Errno> {
    SigSet::all().thread_block()?;
    prctl::set_pdeathsig(ORPHANED)?;
    rename();
    let orphaned = SigSet::from(ORPHANED);
    // Asked after the request for the signal: an agent that died before has left none.
    while !is_dying(agent) {
        orphaned.wait()?;
    }
    let until = Instant::now() + GRACE;
    // SAFETY: this process has one thread, and the threads of the agent, with which it shares them, have been killed: what they
    // are in the middle of keeps its own reference. The owners in this copy of the agent's memory are never dropped: the
    // holder ends without unwinding what the agent had called.
    match unsafe { wind_up::inherited() } {
        Ok(descriptors) => wind_up::wind_up(descriptors, until),
        // The agent had used up its descriptors, so that not even the list of them can be opened: all are kept.
        Err(_) => std::thread::sleep(GRACE),
    }
    Ok(())
}

/// Whether the agent's first thread is on its way out, or gone. The others are not waited for: they end with it, and on a
/// busy node that takes them some time, in which their clients could not connect again.
fn is_dying(agent: Pid) -> bool {
    /// `PF_EXITING` (the kernel's `sched.h`).
    const EXITING: u64 = 4;
    let flags = || field(&fs::read_to_string(format!("/proc/{agent}/stat")).ok()?, 9);
    getppid() != agent || flags().is_none_or(|flags| flags & EXITING != 0)
}

/// Takes another name, as well as the system allows it: a second `evenkeel run` in a list of processes would be a riddle.
fn rename() {
    let _ = prctl::set_name(NAME);
    let _ = overwrite_arguments();
}

fn overwrite_arguments() -> io::Result<()> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (Some(start), Some(end)) = (field(&stat, 48), field(&stat, 49)) else { return Ok(()) };
    let mut title = NAME.to_bytes().to_vec();
    title.resize(end.saturating_sub(start) as usize, 0);
    fs::OpenOptions::new().write(true).open("/proc/self/mem")?.write_all_at(&title, start)
}

/// A field of `/proc/PID/stat`, from the fourth on, as proc_pid_stat(5) counts them: 9 are the flags of the first thread, 48
/// and 49 where the arguments begin and end in memory.
fn field(stat: &str, number: usize) -> Option<u64> {
    // The second field, in brackets, may hold blanks; the third is the first after them.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    fields.nth(number - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_a_name_with_blanks_and_brackets() {
        let stat = "12 (a ) (b) S 1 2 3 4 5 4194560 7";
        assert_eq!((field(stat, 4), field(stat, 9), field(stat, 10)), (Some(1), Some(4_194_560), Some(7)));
        assert_eq!(field(stat, 11), None);
    }

    #[test]
    fn who_lives_is_not_dying_and_who_is_gone_is() {
        assert!(!is_dying(getppid()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_dying(Pid::from_raw(child.id() as i32)));
    }
}
