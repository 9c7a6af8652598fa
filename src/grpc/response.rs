//! Turns judgements into the protocol's messages.

use std::{sync::Arc, time::Duration};

use super::{
    proto,
    request::{Extras, MAX_ID_BYTES},
    status::{message, to_code},
    wire::{Fields, Value},
};
use crate::{
    engine::{Answer, StageTimes},
    error::ServiceError,
    head::{Decision, Head, Judgement, Reason},
};

/// The fields that a response echoes from its request.
#[derive(Debug, Clone, Default)]
pub(super) struct Echo {
    pub(super) request_id: String,
    pub(super) part_id: String,
}

impl Echo {
    /// Reads the ids from the fields with these numbers; of one that is too long, only the start.
    pub(super) fn in_message(message: &[u8], [request_id, part_id]: [u32; 2]) -> Self {
        let mut echo = Self::default();
        for field in Fields::of(message) {
            let (id, value) = match field {
                (n, Value::Delimited(value)) if n == request_id => (&mut echo.request_id, value),
                (n, Value::Delimited(value)) if n == part_id => (&mut echo.part_id, value),
                _ => continue,
            };
            let text = std::str::from_utf8(value).unwrap_or_default();
            *id = text[..text.floor_char_boundary(MAX_ID_BYTES)].to_owned();
        }
        echo
    }

    fn response(self, verdicts: Vec<proto::Verdict>) -> proto::ClassifyResponse {
        proto::ClassifyResponse {
            // UUIDv7 sorts by time, so a log of verdicts stays in order.
            result_id: uuid::Uuid::now_v7().to_string(),
            request_id: self.request_id,
            part_id: self.part_id,
            verdicts,
            ..Default::default()
        }
    }
}

pub(super) fn judged(
    echo: Echo,
    heads: &[Arc<Head>],
    answer: Answer,
    extras: Extras,
    base_digest: String,
) -> proto::ClassifyResponse {
    let verdicts =
        heads.iter().zip(answer.judgements).enumerate().map(|(number, (head, judged))| {
            let mut verdict = verdict(head, &judged, extras);
            if let Some(&index) = answer.features_of_head.get(number) {
                if extras.embedding {
                    verdict.embedding = answer.features[index].clone();
                }
                verdict.embedding_index = extras.shared_embedding.then_some(index as u32);
            }
            verdict
        });
    let verdicts = verdicts.collect();
    let times = Some(stage_times(&answer.times));
    let features = if extras.shared_embedding { answer.features } else { Vec::new() };
    let embeddings = features.into_iter().map(|values| proto::Embedding { values }).collect();
    proto::ClassifyResponse { base_digest, times, embeddings, ..echo.response(verdicts) }
}

/// Builds a stream's answer to a failed request: one verdict, with the task if it is the only one.
pub(super) fn not_judged(
    echo: Echo,
    only_task: Option<String>,
    error: &dyn ServiceError,
) -> proto::ClassifyResponse {
    echo.response(vec![proto::Verdict {
        task: only_task.unwrap_or_default(),
        decision: proto::Decision::NotJudged.into(),
        error: Some(to_error(error)),
        ..Default::default()
    }])
}

pub(super) fn to_error(error: &dyn ServiceError) -> proto::Error {
    proto::Error {
        code: to_code(error.kind()).into(),
        reason: error.reason().to_owned(),
        message: message(error),
    }
}

fn verdict(head: &Head, judgement: &Judgement, extras: Extras) -> proto::Verdict {
    let mut scores: Vec<proto::ClassScore> = head
        .classes
        .iter()
        .zip(judgement.probabilities.iter().zip(&judgement.logits))
        .map(|(class, (&probability, &logit))| proto::ClassScore {
            label: class.label.to_string(),
            class_code: class.code,
            probability,
            logit: extras.logits.then_some(logit),
        })
        .collect();
    scores.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    let winner = &head.classes[judgement.winner];
    let decision = match judgement.decision {
        Decision::Pass => proto::Decision::Pass,
        Decision::Reject => proto::Decision::Reject,
        Decision::Review => proto::Decision::Review,
    };
    let reason = match judgement.reason {
        Reason::Clear => proto::Reason::Clear,
        Reason::LowConfidence => proto::Reason::LowConfidence,
    };
    proto::Verdict {
        task: head.task.to_string(),
        decision: decision.into(),
        reasons: vec![reason.into()],
        label: winner.label.to_string(),
        class_code: winner.code,
        probability: judgement.probabilities[judgement.winner],
        margin: judgement.margin,
        scores,
        head_version: head.version,
        head_digest: head.digest.to_string(),
        ..Default::default()
    }
}

fn stage_times(times: &StageTimes) -> proto::StageTimes {
    let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    proto::StageTimes {
        decode: microseconds(times.decode),
        queue: microseconds(times.queue),
        forward: microseconds(times.forward),
        head: microseconds(times.head),
        total: microseconds(times.total),
        batch_size: u32::try_from(times.batch_size).unwrap_or(u32::MAX),
    }
}
