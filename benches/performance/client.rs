//! A minimal gRPC client that takes little of the processors it shares with the server.
//!
//! Requests are encoded beforehand, and share the bytes of the picture that they carry.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::SendRequest};
use prost::Message as _;
use tokio::net::TcpStream;
use tonic::{
    Code,
    codegen::http::{HeaderMap, Request},
};
use turret::{
    grpc::proto::{self, ClassifyRequest, ClassifyResponse},
    image::PreparedImage,
};

use crate::pictures;

pub(crate) const CLASSIFY: &str = "/turret.v1.Classifier/Classify";
pub(crate) const CLASSIFY_STREAM: &str = "/turret.v1.Classifier/ClassifyStream";
pub(crate) const EMBED: &str = "/turret.v1.Classifier/Embed";
/// Length of gRPC's frame header: one byte for compression, four for the length.
const FRAME_HEADER: usize = 5;

/// A request ready for the wire, in two parts of one message, which protobuf merges.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    /// Frame header and tasks.
    head: Bytes,
    picture: Bytes,
}

/// Returns an encoded picture as a part of a request.
pub(crate) fn encoded(picture: Vec<u8>) -> Bytes {
    picture_field(proto::image::Data::Encoded(picture.into()))
}

/// Returns pictures as JPEG, each as a part of a request.
pub(crate) fn jpegs(shown: &[PreparedImage]) -> Result<Vec<Bytes>> {
    shown.iter().map(|picture| Ok(encoded(pictures::jpeg(picture)?))).collect()
}

/// Returns raw pixels, as a camera sends them, as a part of a request.
pub(crate) fn raw(picture: &PreparedImage) -> Bytes {
    picture_field(proto::image::Data::Raw(proto::RawFrame {
        pixels: picture.pixels.clone(),
        width: picture.side,
        height: picture.side,
        stride_bytes: 0,
        pixel_format: "RGB8".to_owned(),
    }))
}

fn picture_field(data: proto::image::Data) -> Bytes {
    let image = Some(proto::Image { data: Some(data) });
    ClassifyRequest { image, ..ClassifyRequest::default() }.encode_to_vec().into()
}

impl Payload {
    pub(crate) fn new(tasks: &[String], picture: Bytes) -> Self {
        let fields =
            ClassifyRequest { tasks: tasks.to_vec(), ..ClassifyRequest::default() }.encode_to_vec();
        let mut head = BytesMut::with_capacity(FRAME_HEADER + fields.len());
        head.put_u8(0);
        head.put_u32((fields.len() + picture.len()) as u32);
        head.put_slice(&fields);
        Self { head: head.freeze(), picture }
    }

    /// Takes a whole message with its frame header.
    pub(crate) fn whole(message: Bytes) -> Self {
        Self { head: message, picture: Bytes::new() }
    }
}

/// An HTTP/2 connection; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    address: SocketAddr,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(stream)
            .await?;
        // Ends with the connection; every request on it sees its error.
        tokio::spawn(async move { connection.await.is_ok() });
        Ok(Self { sender, address })
    }

    /// Starts a call without a body yet; dropping both parts resets it.
    pub(crate) async fn start(
        &self,
        path: &str,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>)> {
        let mut sender = self.sender.clone().ready().await?;
        let request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        Ok(sender.send_request(request.body(())?, false)?)
    }

    /// Sends a request and waits for its answer; dropping the future cancels the request.
    pub(crate) async fn call(
        &self,
        payload: &Payload,
        timeout: Option<Duration>,
    ) -> Result<(Code, Bytes)> {
        let mut sender = self.sender.clone().ready().await?;
        let mut request = Request::post(format!("http://{}{CLASSIFY}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", format!("{}m", timeout.as_millis()));
        }
        let (response, mut body) = sender.send_request(request.body(())?, false)?;
        body.send_data(payload.head.clone(), false)?;
        body.send_data(payload.picture.clone(), true)?;
        let (headers, mut answer) = {
            let (parts, answer) = response.await?.into_parts();
            (parts.headers, answer)
        };
        let bytes = read(&mut answer).await?;
        // An error may come in the headers alone.
        let code = match code_of(&headers) {
            Some(code) => code,
            None => {
                let trailers = answer.trailers().await?.context("the answer has no trailers")?;
                code_of(&trailers).context("the answer has no grpc-status")?
            }
        };
        Ok((code, bytes))
    }
}

/// Decodes the message of a successful answer.
pub(crate) fn decode(bytes: &Bytes) -> Result<ClassifyResponse> {
    let message = bytes.get(FRAME_HEADER..).context("the answer has no message")?;
    Ok(ClassifyResponse::decode(message)?)
}

async fn read(answer: &mut RecvStream) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    while let Some(part) = answer.data().await {
        let part = part?;
        answer.flow_control().release_capacity(part.len())?;
        bytes.put(part);
    }
    Ok(bytes.freeze())
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}
