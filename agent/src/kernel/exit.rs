// SPDX-License-Identifier: Apache-2.0
//! The program that says that an agent is dead, while the kernel takes it apart.
//!
//! Always true: it knows the process that [`ExitHook::arm`] named and no other, and its link goes with this process, after
//! it has run.
//!
//! Deliberately not here: what follows from it ([`evenkeel_abi::has_departed`]).

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{Program, raw_trace_point::RawTracePointLink},
};
use evenkeel_abi::{Process, maps, programs};
use parking_lot::Mutex;

use super::KernelError;

/// The tracepoint, which is there since Linux 2.6.
const TRACEPOINT: &str = "sched_process_exit";
/// Our own pid namespace.
const NAMESPACE: &str = "/proc/self/ns/pid";

/// The attached program. Dropping it detaches.
pub struct ExitHook {
    process: Mutex<Array<MapData, Process>>,
    _link: RawTracePointLink,
}

impl ExitHook {
    /// What it means that there is none, and what to do.
    pub const MISSING: &str = "the kernel does not tell of this agent's end: if it is killed, connects at that moment may be \
                               refused; add SYS_ADMIN or PERFMON to the container's capabilities";

    /// Loads and attaches the program. It needs more than the others do: CAP_SYS_ADMIN or CAP_PERFMON.
    pub(super) fn attach(object: &mut Ebpf) -> Result<Self, KernelError> {
        const NAME: &str = programs::EXIT;
        let map =
            object.take_map(maps::PROCESS).ok_or(KernelError::Lacks { what: "map", name: maps::PROCESS })?;
        let process = map.try_into().map_err(KernelError::map("open", maps::PROCESS))?;
        let Some(Program::RawTracePoint(program)) = object.program_mut(NAME) else {
            return Err(KernelError::Lacks { what: "program", name: NAME });
        };
        let refused = |source| KernelError::Program { program: NAME, source };
        program.load().map_err(refused)?;
        let link = program.attach(TRACEPOINT).and_then(|id| program.take_link(id)).map_err(refused)?;
        Ok(Self { process: Mutex::new(process), _link: link })
    }

    /// Waits for the end of process `pid` of our own pid namespace, which is the agent of `generation`.
    ///
    /// # Errors
    /// The namespace cannot be inspected, or the map not written.
    pub fn arm(&self, pid: u32, generation: u64) -> Result<(), KernelError> {
        let process = describe(Path::new(NAMESPACE), pid, generation).map_err(|source| {
            KernelError::File { operation: "inspect the pid namespace", path: NAMESPACE.into(), source }
        })?;
        self.process.lock().set(0, process, 0).map_err(KernelError::map("write to", maps::PROCESS))
    }
}

fn describe(namespace: &Path, pid: u32, generation: u64) -> io::Result<Process> {
    let file = fs::metadata(namespace)?;
    let namespace_device = Process::device(libc::major(file.dev()), libc::minor(file.dev()));
    Ok(Process { namespace_device, namespace_inode: file.ino(), generation, pid, reserved: 0 })
}
