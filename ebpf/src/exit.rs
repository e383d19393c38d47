// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `sched_process_exit`: says that the agent is dead before any of its sockets is closed.
//!
//! A process that is killed loses its descriptors one after the other. A client whose connection went first connects
//! again at once, and would be handed to a listener that goes next. The kernel runs this before it closes the first.
//!
//! Always true: only the death of the agent that loaded this program is told, and only while that agent owns the node.

use aya_ebpf::bindings::bpf_pidns_info;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_get_ns_current_pid_tgid};

use crate::maps;

/// The hook.
#[inline(always)]
pub fn exited() {
    if !is_leader() {
        return;
    }
    let Some(agent) = maps::process() else { return };
    if agent.namespace_inode != 0 && pid_in(agent.namespace_device, agent.namespace_inode) == Some(agent.pid)
    {
        maps::depart(agent.generation);
    }
}

/// Whether the thread is the first of its process. The descriptors stay until the last one has come by here, so one of
/// them is enough, and this one ends only with the process.
#[inline(always)]
fn is_leader() -> bool {
    // SAFETY: no arguments.
    let both = unsafe { bpf_get_current_pid_tgid() };
    (both >> 32) as u32 == both as u32
}

/// The process's id in a pid namespace, if that is its own.
#[inline(always)]
fn pid_in(device: u64, inode: u64) -> Option<u32> {
    let mut info = bpf_pidns_info { pid: 0, tgid: 0 };
    let size = core::mem::size_of::<bpf_pidns_info>() as u32;
    // SAFETY: `info` is as long as is said.
    let result = unsafe { bpf_get_ns_current_pid_tgid(device, inode, &mut info, size) };
    (result == 0).then_some(info.tgid)
}
