//! The codec of the services: prost's encoder, and a decoder that checks before it builds.

use std::{fmt, marker::PhantomData};

use bytes::Buf as _;
use prost::Message;
use tonic::{
    Status,
    codec::{self, BufferSettings, DecodeBuf},
};
use tonic_prost::{ProstCodec, ProstEncoder};

use super::received::{Checked, Received};

/// Encodes answers `A` and decodes requests as they are [`Received`].
pub struct Codec<A, R>(PhantomData<(A, R)>);

/// Decodes requests `R`.
pub struct Decoder<R>(PhantomData<R>);

impl<A, R> Default for Codec<A, R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A, R> fmt::Debug for Codec<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec")
    }
}

impl<R> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

impl<A, M> codec::Codec for Codec<A, Received<M>>
where
    A: Message + Send + 'static,
    M: Checked + Send + 'static,
{
    type Encode = A;
    type Decode = Received<M>;
    type Encoder = ProstEncoder<A>;
    type Decoder = Decoder<Received<M>>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<A, M>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decoder(PhantomData)
    }
}

impl<M: Checked> codec::Decoder for Decoder<Received<M>> {
    type Item = Received<M>;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let message = message.copy_to_bytes(message.remaining());
        // The gRPC protocol has INTERNAL for bytes that are not a message.
        Received::decode(message).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
