//! Clients that are careless or hostile, each kind as fast as it can.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use bytes::{BufMut as _, Bytes, BytesMut};
use clap::{Args, ValueEnum};
use prost::Message as _;
use tokio::{net::TcpStream, task::JoinSet, time::sleep};
use turret::grpc::proto::{ClassifyRequest, EmbedRequest, Image, image::Data};

use crate::{
    client::{CLASSIFY, CLASSIFY_STREAM, Connection, EMBED, Payload, encoded},
    heads::task_name,
};

/// Connections of each kind of abuse.
const CONNECTIONS: usize = 16;
/// Calls in flight on each.
const CALLS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Abuse {
    /// Requests without a pause, more than the queue takes
    Flood,
    /// Long messages that arrive a byte a second
    SlowUploads,
    /// Streams whose answers are never read
    SlowReaders,
    /// Small pictures in messages of 8 MB
    Padding,
    /// Messages of a million empty task names
    Names,
    /// Tasks that are nearly those of served heads
    UnknownTasks,
    /// Large pictures to embed, given up at once
    CancelledEmbeds,
    /// Connections that open and close
    Churn,
}

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[arg(long)]
    abuse: Abuse,
    #[arg(long)]
    target: SocketAddr,
}

impl Abuse {
    pub(crate) const ALL: [Self; 8] = [
        Self::Flood,
        Self::SlowUploads,
        Self::SlowReaders,
        Self::Padding,
        Self::Names,
        Self::UnknownTasks,
        Self::CancelledEmbeds,
        Self::Churn,
    ];

    /// Returns its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::SlowUploads => "slow-uploads",
            Self::SlowReaders => "slow-readers",
            Self::Padding => "padding",
            Self::Names => "names",
            Self::UnknownTasks => "unknown-tasks",
            Self::CancelledEmbeds => "cancelled-embeds",
            Self::Churn => "churn",
        }
    }
}

/// Abuses the target until it is killed; a refusal or a lost connection only starts the next try.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let &Arguments { abuse, target } = arguments;
    let message = message_of(abuse)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let message = message.clone();
            connections.spawn(async move {
                loop {
                    if abuse_once(abuse, target, &message).await.is_err() {
                        // The target refuses connections: the next try comes as fast as it may.
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            });
        }
        while connections.join_next().await.is_some() {}
    });
    Ok(())
}

/// Abuses one connection for as long as it lasts.
async fn abuse_once(abuse: Abuse, target: SocketAddr, message: &Bytes) -> Result<()> {
    if abuse == Abuse::Churn {
        drop(TcpStream::connect(target).await?);
        drop(Connection::open(target).await?);
        return Ok(());
    }
    let connection = Connection::open(target).await?;
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let (connection, message) = (connection.clone(), message.clone());
        calls.spawn(async move { while call(abuse, &connection, &message).await.is_ok() {} });
    }
    // All calls end with their connection.
    while calls.join_next().await.is_some() {}
    Ok(())
}

async fn call(abuse: Abuse, connection: &Connection, message: &Bytes) -> Result<()> {
    match abuse {
        Abuse::Flood | Abuse::Padding | Abuse::Names | Abuse::UnknownTasks => {
            connection.call(&Payload::whole(message.clone()), None).await?;
        }
        Abuse::SlowUploads => {
            let (_answer, mut body) = connection.start(CLASSIFY).await?;
            body.send_data(message.slice(..5), false)?;
            for byte in 5..message.len() {
                body.send_data(message.slice(byte..=byte), false)?;
                sleep(Duration::from_secs(1)).await;
            }
        }
        Abuse::SlowReaders => {
            let (_unread, mut body) = connection.start(CLASSIFY_STREAM).await?;
            for _ in 0..1_000 {
                body.send_data(message.clone(), false)?;
                sleep(Duration::from_millis(5)).await;
            }
        }
        Abuse::CancelledEmbeds => {
            let (_answer, mut body) = connection.start(EMBED).await?;
            body.send_data(message.clone(), true)?;
            // Dropping both resets the stream.
            sleep(Duration::from_millis(10)).await;
        }
        Abuse::Churn => {}
    }
    Ok(())
}

/// Returns a whole message with gRPC's prefix.
fn message_of(abuse: Abuse) -> Result<Bytes> {
    const PADDING: usize = 8 << 20;
    /// An unknown field of bytes.
    const UNKNOWN_FIELD: u8 = 15 << 3 | 2;
    let classify = |tasks: Vec<String>, picture: &[u8]| {
        let fields = ClassifyRequest { tasks, ..ClassifyRequest::default() }.encode_to_vec();
        [fields, encoded(picture.to_vec()).to_vec()].concat()
    };
    let small = png(64)?;
    let body = match abuse {
        Abuse::Flood | Abuse::SlowReaders => classify(vec![task_name(0)], &small),
        Abuse::SlowUploads => classify(vec![task_name(0)], &vec![0; 60 << 20]),
        Abuse::Padding => {
            let mut body = BytesMut::from(&classify(vec![task_name(0)], &small)[..]);
            body.put_u8(UNKNOWN_FIELD);
            prost::encoding::encode_varint(PADDING as u64, &mut body);
            body.put_bytes(0, PADDING);
            body.to_vec()
        }
        Abuse::Names => classify(vec![String::new(); 1_000_000], &small),
        Abuse::UnknownTasks => {
            classify(vec![format!("{}x", task_name(0).replace("task", "tusk"))], &small)
        }
        Abuse::CancelledEmbeds => {
            let image = Some(Image { data: Some(Data::Encoded(png(6_000)?.into())) });
            EmbedRequest { image, ..EmbedRequest::default() }.encode_to_vec()
        }
        Abuse::Churn => Vec::new(),
    };
    let mut message = BytesMut::with_capacity(5 + body.len());
    message.put_u8(0);
    message.put_u32(u32::try_from(body.len())?);
    message.put_slice(&body);
    Ok(message.freeze())
}

/// Returns a PNG of one grey, which is small however many pixels it has.
fn png(side: u32) -> Result<Vec<u8>> {
    let mut file = std::io::Cursor::new(Vec::new());
    image::GrayImage::from_pixel(side, side, image::Luma([99]))
        .write_to(&mut file, image::ImageFormat::Png)?;
    Ok(file.into_inner())
}
