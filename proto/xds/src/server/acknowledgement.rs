// SPDX-License-Identifier: Apache-2.0
//! A request that does nothing but acknowledge, read where it lies.
//!
//! Nearly all requests of a client in sync are that: a type and a nonce. To build a message of them would cost more than
//! all else that is done about them.
//!
//! What must always be true: what is read here is what a decoder would have read. Whatever is not as plain as an
//! acknowledgement, is not read here.
//! Source: `envoy/service/discovery/v3/discovery.proto`, `DeltaDiscoveryRequest`.

/// Keys of `type_url` and `response_nonce`: field number and wire type.
const TYPE_URL: u8 = 2 << 3 | 2;
const RESPONSE_NONCE: u8 = 6 << 3 | 2;
/// The first length that takes more than a byte.
const LONG: u8 = 0x80;

/// What such a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement<'a> {
    pub(super) type_url: &'a [u8],
    pub(super) nonce: &'a [u8],
}

impl<'a> Acknowledgement<'a> {
    /// Reads an encoded `DeltaDiscoveryRequest`. `None`: it says something else, or more.
    pub(super) fn delta(message: &'a [u8]) -> Option<Self> {
        let (mut type_url, mut nonce) = (None, None);
        let mut rest = message;
        while let [key, len @ ..LONG, behind @ ..] = rest {
            let (body, behind) = behind.split_at_checked(usize::from(*len))?;
            let said = match *key {
                TYPE_URL => &mut type_url,
                RESPONSE_NONCE => &mut nonce,
                _ => return None,
            };
            if said.replace(body).is_some() {
                return None;
            }
            rest = behind;
        }
        rest.is_empty().then_some(())?;
        Some(Self { type_url: type_url?, nonce: nonce? })
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::{
        envoy::{config::core::v3::Node, service::discovery::v3::DeltaDiscoveryRequest},
        google::rpc::Status,
    };
    use prop::{collection::vec, option::of};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn request() -> impl Strategy<Value = DeltaDiscoveryRequest> {
        let names = || prop_oneof![3 => Just(Vec::new()), 1 => vec("[a*]{0,2}", 0..3)];
        let node = of(Just(Node { id: "n".into(), ..Node::default() }));
        let error = of(Just(Status { code: 1, ..Status::default() }));
        ("\\PC{0,140}", "\\PC{0,9}", names(), names(), names(), node, error).prop_map(
            |(type_url, response_nonce, subscribe, unsubscribe, held, node, error_detail)| {
                DeltaDiscoveryRequest {
                    node,
                    type_url,
                    resource_names_subscribe: subscribe,
                    resource_names_unsubscribe: unsubscribe,
                    initial_resource_versions: held.into_iter().map(|name| (name, "v".into())).collect(),
                    response_nonce,
                    error_detail,
                    ..DeltaDiscoveryRequest::default()
                }
            },
        )
    }

    /// What a decoder makes of a message has to be all that was read of it.
    fn agrees(message: &[u8]) -> bool {
        let Some(Acknowledgement { type_url, nonce }) = Acknowledgement::delta(message) else { return true };
        let (Ok(type_url), Ok(nonce)) = (std::str::from_utf8(type_url), std::str::from_utf8(nonce)) else {
            // Equal to nothing that was ever sent, so a decoder sees it as well.
            return true;
        };
        DeltaDiscoveryRequest::decode(message) == Ok(acknowledgement(type_url, nonce))
    }

    fn acknowledgement(type_url: &str, nonce: &str) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: type_url.into(),
            response_nonce: nonce.into(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    #[test]
    fn an_acknowledgement_is_read_in_any_order_of_its_fields() {
        let read = Some(Acknowledgement { type_url: b"type", nonce: b"17" });
        assert_eq!(Acknowledgement::delta(&acknowledgement("type", "17").encode_to_vec()), read);
        assert_eq!(Acknowledgement::delta(b"\x32\x0217\x12\x04type"), read);
        for other in [
            &b""[..],
            b"\x32\x0217",
            b"\x12\x04type",
            b"\x32\x0217\x12\x04typ",
            b"\x32\x0217\x32\x0217\x12\x04type",
        ] {
            assert_eq!(Acknowledgement::delta(other), None, "{other:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_reads_what_a_decoder_reads(request in request(), cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut message = request.encode_to_vec();
            prop_assert!(agrees(&message));
            if !message.is_empty() {
                let place = cut.index(message.len());
                prop_assert!(agrees(&message[..place]));
                message[place] = byte;
                prop_assert!(agrees(&message));
            }
        }

        #[test]
        fn it_reads_of_any_bytes_what_a_decoder_reads(message in vec(prop_oneof![Just(0x12), Just(0x32), 0..5_u8, any::<u8>()], 0..12)) {
            prop_assert!(agrees(&message));
        }
    }
}
