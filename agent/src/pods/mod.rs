// SPDX-License-Identifier: Apache-2.0
//! The pods of this node: their network namespaces found, a listener opened in each and registered with the kernel programs.
//!
//! ```text
//! folder of namespaces ──inotify──▶ watcher ──▶ one task per pod: readiness ▶ listeners ▶ registry ▶ accept ─▶ proxy
//! event from connect() ──process──▶    ┘                          netlink      setns       kernel
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `watcher` | which pods there are, and the handle for the rest of the agent |
//! | `task` | one pod, from its file's appearance to its deletion |
//! | `inotify` | the folder as a stream of changes |
//! | `namespace` | entering and leaving a namespace, its cookie; this module's `unsafe` (one line more in `inotify`) |
//! | `readiness` | loopback and addresses, by netlink |
//! | `listener` | the listeners on the pod's loopback |
//! | `registry` | the trait towards the kernel's maps |
//!
//! Always true:
//! * a thread that entered a namespace is back before anything else runs on it, or the process aborts;
//! * a pod is registered only while its loopback is up: the redirect of a connect would hang otherwise;
//! * a deleted pod's descriptors are closed and its connections reset at once: each would keep the namespace and its veth;
//! * while a newer agent owns the node nothing is registered; only own entries are taken back.
//!
//! Deliberately not here: what travels on the connections ([`crate::proxy`]), the maps ([`crate::kernel`]).

mod inotify;
mod listener;
mod namespace;
mod readiness;
mod registry;
mod task;
mod watcher;

pub use namespace::{HostNamespace, Namespace, netns_cookie};
pub use registry::{Registry, Role};
pub use watcher::{Config, Handle, Phase, Status, start};
