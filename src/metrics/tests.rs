use super::*;

fn no_heads() -> std::iter::Empty<HeadInfo<'static>> {
    std::iter::empty()
}

fn metrics() -> Metrics {
    Metrics::new().unwrap()
}

fn counters(task: &str) -> Arc<TaskCounters> {
    Arc::new(TaskCounters::new(task, ["ok", "dent"]))
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|found| found == line)
}

#[test]
fn closed_series_are_zero_before_the_first_request() {
    let text = metrics().render(no_heads());
    for line in [
        r#"turret_requests_total{code="OK",rpc="Classify",task=""} 0"#,
        r#"turret_rejected_total{reason="queue_full"} 0"#,
        r#"turret_head_reloads_total{result="refused"} 0"#,
        r#"turret_stage_duration_seconds_count{stage="forward"} 0"#,
        r#"turret_stage_duration_seconds_bucket{stage="forward",le="0.035"} 0"#,
        r#"turret_batch_images_bucket{le="+Inf"} 0"#,
        "turret_queue_bytes 0",
        "turret_heads_serving 0",
        "# HELP turret_batch_images Images in a forward pass.",
        "# TYPE turret_batch_images histogram",
    ] {
        assert!(has_line(&text, line), "{line} is not in\n{text}");
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "));
    assert!(!text.contains("quantile="), "summaries cannot be aggregated over servers");
}

#[test]
fn each_family_has_one_help_and_one_type_line() {
    let metrics = metrics();
    metrics.count_verdict(&counters("part"), 0, DecisionLabel::Pass);
    metrics.set_base("resnet34", "12", "cpu", "fp32");
    let head = HeadInfo { task: "part", version: 3, digest: "ab".to_owned() };
    let text = metrics.render(std::iter::once(head));
    let names_after = |start: &str| {
        let mut names: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix(start)?.split(' ').next()).collect();
        names.sort_unstable();
        names
    };
    let mut families = names_after("# TYPE ");
    assert_eq!(families, names_after("# HELP "));
    families.dedup();
    assert_eq!(families, names_after("# TYPE "), "a family occurs twice");
    for family in RECORDED {
        assert!(families.contains(&family.name), "{} is never written", family.name);
    }
    assert!(has_line(&text, "turret_heads_serving 1"));
    assert!(has_line(&text, r#"turret_head_info{digest="ab",task="part",version="3"} 1"#));
}

#[test]
fn odd_label_values_are_escaped_and_stay_distinct() {
    let metrics = metrics();
    let labels = [
        "\\",
        "\\\\",
        "a\\\"b",
        "\"",
        "two\nlines",
        "\\\n",
        "Kratzer äöü 裂け目",
        "tab\t",
        "C:\\new",
    ];
    let counters = Arc::new(TaskCounters::new("part", labels));
    for class in 0..labels.len() {
        metrics.count_verdict(&counters, class, DecisionLabel::Reject);
    }
    let text = metrics.render(no_heads());
    for label in labels {
        let escaped = label.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        let line = format!(
            r#"turret_verdicts_total{{decision="REJECT",label="{escaped}",task="part"}} 1"#
        );
        assert!(has_line(&text, &line), "{line} is not in\n{text}");
    }
}

#[test]
fn later_head_of_a_task_continues_its_counters() {
    let metrics = metrics();
    let line = |count| {
        format!(r#"turret_verdicts_total{{decision="REJECT",label="dent",task="part"}} {count}"#)
    };
    let (first, second) = (counters("part"), counters("part"));
    metrics.count_verdict(&first, 1, DecisionLabel::Reject);
    metrics.count_verdict(&second, 1, DecisionLabel::Reject);
    assert!(has_line(&metrics.render(no_heads()), &line(2)));
    drop(first);
    metrics.count_verdict(&second, 1, DecisionLabel::Reject);
    metrics.count_verdict(&counters("part"), 1, DecisionLabel::Reject);
    assert!(has_line(&metrics.render(no_heads()), &line(4)));
}

#[test]
fn concurrent_counts_arrive_once_during_renders() {
    const THREADS: u64 = 4;
    const COUNTS: u64 = 20_000;
    let (metrics, counters) = (metrics(), counters("part"));
    std::thread::scope(|scope| {
        let work = || {
            for _ in 0..COUNTS {
                metrics.count_request(Rpc::Classify, Some(&counters), Code::Ok);
                metrics.count_request(Rpc::Classify, None, Code::NotFound);
            }
        };
        let counting: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        while !counting.iter().all(|thread| thread.is_finished()) {
            metrics.render(no_heads());
        }
    });
    let text = metrics.render(no_heads());
    let sum = THREADS * COUNTS;
    for labels in
        [r#"code="OK",rpc="Classify",task="part""#, r#"code="NOT_FOUND",rpc="Classify",task="""#]
    {
        let line = format!("turret_requests_total{{{labels}}} {sum}");
        assert!(has_line(&text, &line), "{line} is not in\n{text}");
    }
}

#[test]
fn tasks_and_labels_beyond_the_limits_share_a_series() {
    let metrics = metrics();
    for number in 0..MAX_TASKS + 3 {
        metrics.count_verdict(&counters(&format!("task-{number}")), 0, DecisionLabel::Pass);
    }
    let text = metrics.render(no_heads());
    let series = text.lines().filter(|line| line.starts_with("turret_verdicts_total{")).count();
    assert_eq!(series, MAX_TASKS + 1);
    assert!(has_line(
        &text,
        r#"turret_verdicts_total{decision="PASS",label="_other",task="_other"} 3"#
    ));

    let labels: Vec<String> = (0..MAX_LABELS + 2).map(|number| format!("label-{number}")).collect();
    let many = Arc::new(TaskCounters::new("task-0", labels.iter().map(String::as_str)));
    for class in 0..labels.len() {
        metrics.count_verdict(&many, class, DecisionLabel::Review);
    }
    let text = metrics.render(no_heads());
    // The task already had the label "ok".
    assert!(has_line(
        &text,
        r#"turret_verdicts_total{decision="REVIEW",label="_other",task="task-0"} 3"#
    ));
    assert!(has_line(
        &text,
        r#"turret_verdicts_total{decision="REVIEW",label="label-0",task="task-0"} 1"#
    ));
}

#[test]
fn heads_without_a_request_add_no_series() {
    let metrics = metrics();
    let _idle = counters("idle");
    metrics.upkeep();
    assert!(!metrics.render(no_heads()).contains("idle"));
}

#[test]
fn two_servers_in_one_process_count_separately() {
    let (one, other) = (metrics(), metrics());
    one.count_rejection(Rejection::Draining);
    let line = |count| format!("turret_rejected_total{{reason=\"draining\"}} {count}");
    assert!(has_line(&one.render(no_heads()), &line(1)));
    assert!(has_line(&other.render(no_heads()), &line(0)));
}

#[test]
fn concurrent_observations_arrive_once_during_upkeeps() {
    const THREADS: u64 = 4;
    const OBSERVATIONS: u64 = 200_000;
    let metrics = metrics();
    std::thread::scope(|scope| {
        let work = || {
            for _ in 0..OBSERVATIONS {
                metrics.observe_stage(Stage::Head, Duration::from_millis(3));
            }
        };
        let observing: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        while !observing.iter().all(|thread| thread.is_finished()) {
            metrics.upkeep();
        }
    });
    // The first render brings what was set aside during the last upkeep.
    let line =
        format!("turret_stage_duration_seconds_count{{stage=\"head\"}} {}", THREADS * OBSERVATIONS);
    assert!(has_line(&metrics.render(no_heads()), &line));
}

#[test]
fn upkeep_loses_no_observation() {
    let metrics = metrics();
    for _ in 0..3 {
        metrics.observe_stage(Stage::Head, Duration::from_millis(3));
        metrics.upkeep();
    }
    let text = metrics.render(no_heads());
    assert!(has_line(&text, r#"turret_stage_duration_seconds_bucket{stage="head",le="0.002"} 0"#));
    assert!(has_line(&text, r#"turret_stage_duration_seconds_bucket{stage="head",le="0.005"} 3"#));
    assert!(has_line(&text, r#"turret_stage_duration_seconds_count{stage="head"} 3"#));
}
