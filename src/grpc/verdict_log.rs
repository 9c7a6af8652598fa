//! Logs the verdicts on parts, so that a part can be found again.

use std::str::FromStr;

use super::proto::{self, Decision};
use crate::error::{ParseNameError, ServiceError};

/// Which verdicts of a request with a `part_id` are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerdictLog {
    #[default]
    All,
    /// All but PASS: the parts that somebody will ask about.
    Rejects,
    Off,
}

impl FromStr for VerdictLog {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            "rejects" => Ok(Self::Rejects),
            "off" => Ok(Self::Off),
            _ => Err(ParseNameError::new("choice", text, &["all", "rejects", "off"])),
        }
    }
}

impl VerdictLog {
    fn takes(self, decision: Decision) -> bool {
        match self {
            Self::All => true,
            Self::Rejects => decision != Decision::Pass,
            Self::Off => false,
        }
    }

    /// Logs the response's verdicts; the log's own thread writes them.
    pub(super) fn log(self, response: &proto::ClassifyResponse) {
        if response.part_id.is_empty() {
            return;
        }
        for verdict in response.verdicts.iter().filter(|verdict| self.takes(verdict.decision())) {
            tracing::info!(
                part_id = response.part_id,
                result_id = response.result_id,
                task = verdict.task,
                decision = verdict.decision().as_str_name(),
                label = verdict.label,
                head_version = verdict.head_version,
                "verdict"
            );
        }
    }

    /// Logs that a part was not judged, and why.
    pub(super) fn log_failure(self, part_id: &str, tasks: &[String], error: &dyn ServiceError) {
        /// Of a request that names many, so that its line stays short.
        const MOST_TASKS: usize = 8;
        if part_id.is_empty() || !self.takes(Decision::NotJudged) {
            return;
        }
        let named = tasks.iter().take(MOST_TASKS).map(String::as_str).collect::<Vec<_>>();
        tracing::info!(
            part_id,
            tasks = named.join(","),
            decision = Decision::NotJudged.as_str_name(),
            reason = error.reason(),
            "not judged"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_are_all_decisions_but_pass() {
        let taken = |log: VerdictLog| {
            [Decision::Pass, Decision::Reject, Decision::Review].map(|decision| log.takes(decision))
        };
        assert_eq!(taken(VerdictLog::All), [true, true, true]);
        assert_eq!(taken(VerdictLog::Rejects), [false, true, true]);
        assert_eq!(taken(VerdictLog::Off), [false, false, false]);
    }
}
