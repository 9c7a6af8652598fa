use std::convert::Infallible;

use super::*;
use crate::engine::BatchSizes;

const MS: Duration = Duration::from_millis(1);

fn admission(max_images: usize, max_bytes: usize) -> Arc<Admission> {
    Arc::new(Admission::new(max_images, max_bytes, Arc::new(Metrics::new().unwrap())))
}

/// Every image takes 10 ms, in whatever batch.
fn times() -> BatchTimes {
    let measure = |size| Ok::<_, Infallible>(10 * MS * size as u32);
    let Ok(times) = BatchTimes::measured(BatchSizes::up_to(8), measure);
    times
}

/// A request of this task, with this time left if it has a deadline.
fn ask(
    admission: &Arc<Admission>,
    task: &str,
    images: usize,
    bytes: usize,
    left: Option<Duration>,
) -> Result<Permit, EngineError> {
    let (task, now) = (task.parse().unwrap(), Instant::now());
    let deadline = left.map(|left| now + left);
    let task = &task;
    let request = ReserveRequest { task, images, bytes, deadline, sent_before: false };
    admission.try_reserve(&request, &times(), now)
}

fn fill(admission: &Arc<Admission>, task: &str) -> Vec<Permit> {
    std::iter::from_fn(|| ask(admission, task, 1, 1, None).ok()).collect()
}

#[test]
fn bounds_images_and_bytes_and_gives_both_back() {
    let admission = admission(3, 100);
    let two = ask(&admission, "a", 2, 60, None).unwrap();
    let full = ask(&admission, "b", 2, 1, None).unwrap_err();
    assert!(
        matches!(full, EngineError::QueueFull { unit: Unit::Images, in_use: 2, limit: 3, .. }),
        "{full}"
    );
    let full = ask(&admission, "b", 1, 41, None).unwrap_err();
    assert!(matches!(full, EngineError::QueueFull { unit: Unit::Bytes, in_use: 60, .. }), "{full}");
    let never = ask(&admission, "b", 1, 101, None).unwrap_err();
    assert!(matches!(never, EngineError::NeverFits { unit: Unit::Bytes, .. }), "{never}");
    drop(two);
    assert!(ask(&admission, "a", 3, 100, None).is_ok());
    assert!(admission.usage().by_task.is_empty(), "tasks without a place are forgotten");
}

#[test]
fn one_task_can_use_nearly_all_and_another_still_finds_room() {
    let admission = admission(256, usize::MAX);
    let loud = fill(&admission, "loud");
    assert_eq!(loud.len(), 228, "8 of 9");
    let refused = ask(&admission, "loud", 1, 1, None).unwrap_err();
    let told = refused.to_string();
    for part in ["loud", "228 images", "share of 224", "28 of 256"] {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
    let quiet = fill(&admission, "quiet");
    assert!(quiet.len() >= 24, "{} places", quiet.len());
    assert!(ask(&admission, "third", 1, 1, None).is_ok());
    drop(loud);
    assert_eq!(fill(&admission, "quiet").len() + quiet.len(), 228, "what is given back is for all");
}

#[test]
fn bytes_are_shared_like_images() {
    let admission = admission(1000, 900);
    let loud: Vec<_> = std::iter::from_fn(|| ask(&admission, "loud", 1, 100, None).ok()).collect();
    assert_eq!(loud.len(), 8);
    let refused = ask(&admission, "loud", 1, 100, None).unwrap_err();
    assert!(matches!(refused, EngineError::TaskShareFull { unit: Unit::Bytes, .. }), "{refused}");
    assert!(ask(&admission, "quiet", 1, 100, None).is_ok());
}

#[test]
fn a_request_that_cannot_be_in_time_is_refused_with_both_numbers() {
    let admission = admission(256, 1000);
    let refused = ask(&admission, "a", 1, 1, Some(9 * MS)).unwrap_err();
    assert!(matches!(refused, EngineError::DeadlineTooNear { ahead: 0, .. }), "{refused}");
    assert!(
        refused.to_string().contains("at least 10 ms")
            && refused.to_string().contains("9 ms are left")
    );
    let passed = ask(&admission, "a", 1, 1, Some(Duration::ZERO)).unwrap_err();
    assert!(matches!(passed, EngineError::DeadlinePassed), "{passed}");
    assert!(ask(&admission, "a", 1, 1, Some(10 * MS)).is_ok());
}

#[test]
fn what_waits_before_it_counts_and_what_is_being_computed_only_for_its_rest() {
    let admission = admission(256, 1000);
    let mut waiting: Vec<_> = (0..9).map(|_| ask(&admission, "a", 1, 1, None).unwrap()).collect();
    assert!(ask(&admission, "a", 1, 1, Some(122 * MS)).is_err());
    assert!(
        ask(&admission, "a", 1, 1, Some(123 * MS)).is_ok(),
        "a quarter more for the nine before it"
    );
    waiting.iter_mut().take(8).for_each(Permit::waits_no_more);
    admission.forward_pass_begins(1000 * MS, Instant::now());
    assert!(ask(&admission, "a", 1, 1, Some(900 * MS)).is_err());
    assert!(ask(&admission, "a", 1, 1, Some(1023 * MS)).is_ok());
    admission.forward_pass_ended(true);
    assert!(ask(&admission, "a", 1, 1, Some(23 * MS)).is_ok());
    waiting.truncate(8);
    assert!(
        ask(&admission, "a", 1, 1, Some(10 * MS)).is_ok(),
        "a place given back is no longer before it"
    );
}

#[test]
fn of_two_passes_in_flight_the_second_begins_when_the_first_ends() {
    let admission = admission(256, 1000);
    for _ in 0..2 {
        admission.forward_pass_begins(1000 * MS, Instant::now());
    }
    assert!(ask(&admission, "a", 1, 1, Some(1900 * MS)).is_err());
    assert!(ask(&admission, "a", 1, 1, Some(2010 * MS)).is_ok());
    admission.forward_pass_ended(true);
    assert!(ask(&admission, "a", 1, 1, Some(1900 * MS)).is_err(), "the other is still running");
    admission.forward_pass_ended(true);
    assert!(ask(&admission, "a", 1, 1, Some(100 * MS)).is_ok());
}

#[test]
fn a_loud_task_makes_a_quiet_ones_deadline_hopeless_only_by_its_turns() {
    let admission = admission(256, 1000);
    let _loud: Vec<_> = (0..100).map(|_| ask(&admission, "loud", 1, 1, None).unwrap()).collect();
    assert!(ask(&admission, "loud", 1, 1, Some(1009 * MS)).is_err());
    assert!(ask(&admission, "quiet", 1, 1, Some(10 * MS)).is_ok());
    let _quiet: Vec<_> = (0..20).map(|_| ask(&admission, "quiet", 1, 1, None).unwrap()).collect();
    let refused = ask(&admission, "quiet", 1, 1, Some(297 * MS)).unwrap_err();
    assert!(
        matches!(refused, EngineError::DeadlineTooNear { ahead: 23, .. }),
        "its own twenty, and three of the loud task beyond its savings: {refused}"
    );
    assert!(ask(&admission, "quiet", 1, 1, Some(298 * MS)).is_ok());
}

#[test]
fn many_tasks_with_little_each_are_all_before_a_new_one() {
    let admission = admission(256, 1000);
    let one_each = |number| ask(&admission, &format!("task-{number}"), 1, 1, None).unwrap();
    let _waiting: Vec<_> = (0..100).map(one_each).collect();
    let refused = ask(&admission, "new", 1, 1, Some(1000 * MS)).unwrap_err();
    assert!(matches!(refused, EngineError::DeadlineTooNear { ahead: 100, .. }), "{refused}");
    assert!(ask(&admission, "new", 1, 1, Some(1261 * MS)).is_ok());
}

#[tokio::test]
async fn drained_returns_when_the_last_place_is_back() {
    let admission = admission(3, 100);
    let permit = ask(&admission, "a", 1, 1, None).unwrap();
    admission.stop_accepting();
    assert!(matches!(ask(&admission, "a", 1, 1, None), Err(EngineError::Draining)));
    let waiting = tokio::spawn({
        let admission = admission.clone();
        async move { admission.drained().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(permit);
    waiting.await.unwrap();
}

#[test]
fn a_lost_device_lets_one_request_through_to_find_it_again() {
    let admission = admission(3, 100);
    for _ in 0..FAILURES_UNTIL_LOST {
        admission.forward_pass_ended(false);
    }
    let probe = ask(&admission, "a", 1, 1, None).unwrap();
    assert!(matches!(ask(&admission, "a", 1, 1, None), Err(EngineError::DeviceLost)));
    admission.forward_pass_ended(true);
    assert!(ask(&admission, "a", 1, 1, None).is_ok());
    drop(probe);
}
