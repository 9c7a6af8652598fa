//! A client that sends messages byte by byte, as no generated client would.

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message;
use tonic::{
    Request, Response, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use turret::grpc::proto;

/// Sends bytes as messages and decodes answers.
#[derive(Default)]
pub(crate) struct RawCodec<A>(std::marker::PhantomData<A>);

impl<A: Message + Default + Send + 'static> Codec for RawCodec<A> {
    type Encode = Bytes;
    type Decode = A;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<A: Send + 'static> Encoder for RawCodec<A> {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl<A: Message + Default + Send + 'static> Decoder for RawCodec<A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        let message = buffer.copy_to_bytes(buffer.remaining());
        A::decode(message).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

pub(crate) struct RawClient(Grpc<Channel>);

impl RawClient {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(Grpc::new(channel))
    }

    pub(crate) async fn classify(
        &mut self,
        message: Bytes,
    ) -> Result<Response<proto::ClassifyResponse>, Status> {
        self.0.ready().await.unwrap();
        let path = "/turret.v1.Classifier/Classify".parse().unwrap();
        self.0.unary(Request::new(message), path, RawCodec::default()).await
    }

    /// Sends the messages to `ClassifyStream` or `Embed`.
    pub(crate) async fn stream<A: Message + Default + Send + Sync + 'static>(
        &mut self,
        method: &str,
        messages: Vec<Bytes>,
    ) -> Streaming<A> {
        self.0.ready().await.unwrap();
        let path = format!("/turret.v1.Classifier/{method}").parse().unwrap();
        let messages = Request::new(tokio_stream::iter(messages));
        self.0.streaming(messages, path, RawCodec::default()).await.unwrap().into_inner()
    }
}
