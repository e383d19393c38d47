// SPDX-License-Identifier: Apache-2.0
//! The serving end: one ADS stream as a plain struct.
//!
//! A [`Session`] is fed requests and told of new views; it answers with the responses to write. [`DeltaSession`] and
//! [`SotwSession`] are the two variants of the protocol over the same code. What is served comes from a
//! [`ResourceSource`], an immutable view that the session keeps until it is given another, so one session serves one
//! view per client zone without knowing of zones.
//!
//! The view is also the memory: a client has been told all that is in the view, except for the names that are pending.
//! So a client that is in sync costs its subscribed names and nothing per resource, and what a change costs depends on
//! the names that changed, not on those that exist. Sessions of one [`NamePool`] that have subscribed to the same names
//! hold them once.
//!
//! What must always be true:
//! * at most one response per type is unacknowledged; what changes meanwhile is coalesced into the next one, so a
//!   client that never answers costs no more memory than its subscriptions;
//! * a response is cut near [`Limits::response_bytes`]; the rest follows the acknowledgement. Only state-of-the-world
//!   listeners and clusters come whole, as the protocol demands;
//! * what a client rejected is not sent again until its content changes or the client asks for it by name;
//! * a cluster that is sent is followed by its endpoints, changed or not: Envoy puts it into use only then;
//! * exceeding a limit ends the stream with a reason; nothing else does.
//!
//! Deliberately not here: sockets; timers; time-to-live of resources.

mod acknowledgement;
mod changes;
mod limits;
mod message;
mod names;
mod report;
mod response;
mod session;
mod subscription;
mod variant;

use crate::resource::EncodedResource;
pub use acknowledgement::Acknowledgement;
pub use changes::{Changes, Difference};
pub use limits::{Limits, SessionError};
pub use message::Message;
pub use names::NamePool;
pub use report::{Rejection, SessionReport, TypeReport};
pub use response::Response;
pub use session::{DeltaSession, Session, SotwSession};
pub use variant::{Delta, Head, StateOfTheWorld, Variant};

/// The name that stands for all resources.
pub(crate) const WILDCARD: &str = "*";

/// One immutable view of all resources, as one client sees them. A clone is another handle to the same view and is
/// cheap.
pub trait ResourceSource {
    /// The resource of this name, if there is one.
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource>;

    /// Visits all resources of a type that a wildcard subscription covers. Each name once, in any order.
    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource));

    /// Whether a wildcard subscription covers a resource of this name; others are served to those who name them. Has to
    /// agree with [`ResourceSource::for_each`] and to depend on nothing that changes during a stream.
    fn in_wildcard(&self, _type_url: &str, _name: &str) -> bool {
        true
    }
}
