//! `turret.v1.Classifier`: one request, or many in flight on one stream.

use std::{pin::Pin, sync::Arc, time::Instant};

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Edge,
    deadline::deadline,
    embed::embed_one,
    judge::classify,
    proto::{self, classifier_server::Classifier},
    status::to_status,
    stream,
};
use crate::metrics::Rpc;

#[derive(Debug, Clone)]
pub struct ClassifierService {
    edge: Arc<Edge>,
}

impl ClassifierService {
    pub fn new(edge: Arc<Edge>) -> Self {
        Self { edge }
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Classifier for ClassifierService {
    type ClassifyStreamStream = Responses<proto::ClassifyResponse>;
    type EmbedStream = Responses<proto::EmbedResponse>;

    async fn classify(
        &self,
        request: Request<proto::ClassifyRequest>,
    ) -> Result<Response<proto::ClassifyResponse>, Status> {
        let arrived = Instant::now();
        let deadline = deadline(request.metadata(), arrived);
        let answer = classify(&self.edge, Rpc::Classify, request.into_inner(), arrived, deadline).await;
        answer.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn classify_stream(
        &self,
        request: Request<Streaming<proto::ClassifyRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        let deadline = deadline(request.metadata(), Instant::now());
        let answer = move |edge, request| stream::classify_one(edge, request, deadline);
        let responses = stream::answer_each(self.edge.clone(), request.into_inner(), answer);
        Ok(Response::new(Box::pin(responses)))
    }

    async fn embed(
        &self,
        request: Request<Streaming<proto::EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStream>, Status> {
        let responses = stream::answer_each(self.edge.clone(), request.into_inner(), embed_one);
        Ok(Response::new(Box::pin(responses)))
    }
}
