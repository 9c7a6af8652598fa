//! An HTTP/2 server that accepts every request, discards its body and answers OK.

use std::{net::Ipv4Addr, process::Command};

use anyhow::Result;
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use tokio::net::{TcpListener, TcpStream};
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};

/// Returns a command that runs this program as a sink.
pub(crate) fn command() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("sink");
    Ok(command)
}

pub(crate) fn run() -> Result<()> {
    tracing_subscriber::fmt().json().flatten_event(true).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        tracing::info!(grpc = %address, admin = %address, "listening");
        tracing::info!("ready");
        loop {
            // A connection that cannot be accepted is the abuser's loss.
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream));
            }
        }
    })
}

async fn connection(stream: TcpStream) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(16 << 20);
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(discard(request, respond));
    }
}

/// Errors mean that the caller is gone.
async fn discard(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    while let Some(Ok(part)) = body.data().await {
        if body.flow_control().release_capacity(part.len()).is_err() {
            return;
        }
    }
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let Ok(mut answer) = respond.send_response(response, false) else { return };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let _gone = answer.send_trailers(trailers);
}
