// SPDX-License-Identifier: Apache-2.0
//! The daemon: parts started in order, kept alive together, ended in order.
//!
//! ```text
//! control half (one thread)                          proxy half (a thread per CPU)
//!   kernel opened: programs attached, maps adopted
//!   last-good file ▶ store ◀ discovery                 pods found, listeners opened (standby)
//!   ├─ wait: a snapshot, and the pods are scanned ────────┘
//!   claim the node ▶ listeners registered ▶ publish ▶ first heartbeat
//!   then: publish on change, heart, admin API, HTTP    accept, balance
//! ```
//!
//! Always true:
//! * nothing is handed to this agent before it can take it: until the claim, whatever an earlier agent left in force stays
//!   so, and an agent without endpoints never claims;
//! * the maps are up to date before the first heartbeat vouches for them;
//! * half an agent does not beat ([`heart`]) and does not live on ([`tasks`]);
//! * going takes back what was registered first, and leaves programs, maps and links: open connections never notice.
//!
//! | file | what it is |
//! |---|---|
//! | `start` | the parts, and the order of their start |
//! | `heart` | beats only while both halves answer |
//! | `publish` | snapshots into the maps |
//! | `holder` | keeps a killed agent's sockets open for a moment |
//! | `drain`, `stay` | the way out, and what waits at its end under a supervisor |
//! | `live` | what can be asked of all this |
//! | `discovery` | the xDS client as the rest sees it |
//! | `adapters` | the kernel's handles as the traits of pods and proxy |
//! | `ledger` | requests by Service |
//! | `tasks`, `signals` | tasks that must not end; SIGTERM |

mod adapters;
mod discovery;
mod drain;
mod heart;
mod holder;
mod ledger;
mod live;
mod publish;
mod signals;
mod start;
mod stay;
mod tasks;

use anyhow::Context as _;
use tokio::runtime::Builder;

use self::holder::Holder;
use crate::config::Config;

/// Runs the agent until it is asked to go, or a newer one has taken over. To be called by the first and only thread of the
/// process.
///
/// # Errors
/// It could not start (what was in force before still is), or a part of it ended.
pub fn run(config: Config) -> anyhow::Result<()> {
    raise_descriptor_limit();
    // Before the first thread is started.
    let holder = Holder::start().inspect_err(|error| tracing::warn!("{error}"));
    let proxy = Builder::new_multi_thread()
        .thread_name("evenkeel-proxy")
        .enable_all()
        .build()
        .context("cannot start the proxy's threads")?;
    let control =
        Builder::new_current_thread().enable_all().build().context("cannot start the control thread")?;
    let result = control.block_on(start::run(config, holder, proxy.handle().clone()));
    // What is still open has had its time.
    proxy.shutdown_background();
    control.shutdown_background();
    if let Ok(holder) = holder {
        holder.dismiss();
    }
    result
}

/// The request path holds two descriptors per connection; the soft limit is for programs that use `select(2)`.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most).map(|()| most));
    match raised {
        Ok(most) => tracing::debug!(most, "descriptors allowed"),
        Err(error) => tracing::warn!(%error, "the limit of open descriptors cannot be raised"),
    }
}
