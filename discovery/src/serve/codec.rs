// SPDX-License-Identifier: Apache-2.0
//! The codec of ADS streams: requests are decoded as ever, responses write themselves.
//!
//! A response is made of pieces that all clients share. They are copied once, straight into the buffer that goes to the
//! transport; no message is built.

use std::marker::PhantomData;

use evenkeel_xds::Response;
use evenkeel_xds::server::Variant;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// First size of a stream's buffer for requests, in bytes. It is kept while the stream is open, and an acknowledgement
/// is a hundred bytes.
const READ_BUFFER: usize = 512;
/// Above this many bytes what is encoded goes to the transport before more is encoded.
const YIELD_AT: usize = 32 << 10;

/// Codec of one variant's streams.
#[derive(Debug)]
pub(super) struct AdsCodec<V>(PhantomData<fn() -> V>);

/// Writes responses of one variant.
#[derive(Debug)]
pub(super) struct ResponseEncoder<V>(PhantomData<fn() -> V>);

impl<V> Default for AdsCodec<V> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(READ_BUFFER, YIELD_AT)
}

impl<V: Variant> Codec for AdsCodec<V> {
    type Encode = Box<Response>;
    type Decode = V::Request;
    type Encoder = ResponseEncoder<V>;
    type Decoder = ProstDecoder<V::Request>;

    fn encoder(&mut self) -> Self::Encoder {
        ResponseEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        // The encoder of this type is not used, so any message will do.
        ProstCodec::<V::Request, V::Request>::raw_decoder(buffers())
    }
}

impl<V: Variant> Encoder for ResponseEncoder<V> {
    type Item = Box<Response>;
    type Error = Status;

    fn encode(&mut self, response: Self::Item, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(V::encoded_len(&response));
        V::encode(&response, out);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
