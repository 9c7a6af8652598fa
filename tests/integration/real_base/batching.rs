//! Batches of a real network, as callers see them.

use turret::{
    base::{
        Architecture, Base, BaseWeights, BatchNormStatistics, Device, FeatureSet, Precision,
        PrecisionChoice,
    },
    engine::BatchSizes,
    grpc::proto::{self, Extra},
    head::{DecisionRule, Linear},
    image::Preprocess,
    torch::Network,
};

use crate::support::{
    TestServer, heads,
    pictures::{pattern, request},
};

#[tokio::test(flavor = "multi_thread")]
async fn batch_of_eight_mixed_tasks_equals_eight_single_answers() {
    let weights = BaseWeights::random(Architecture::ResNet18, 7, BatchNormStatistics::Identity);
    let base = Network::new(&weights, Device::Cpu, PrecisionChoice(Some(Precision::Fp32))).unwrap();
    let widths = base.widths();
    let builder = TestServer::builder();
    for task in 0..8u32 {
        let features = if task % 2 == 0 { FeatureSet::Gap } else { FeatureSet::Pyramid };
        let width = widths.of(features);
        let weight = (0..3 * width as u32).map(|i| ((i * 7 + task * 13) % 11) as f32 / 11.0 - 0.5);
        let mut draft = heads::draft(&format!("task-{task}"), 0.0);
        draft.base = weights.identity();
        draft.features = features;
        draft.preprocess = Preprocess::default();
        draft.classes = ["a", "b", "c"].map(|label| (label.to_owned(), false)).into();
        draft.decision = DecisionRule { temperature: 50.0, thresholds: [0.4; 3].into() };
        draft.linear =
            Linear::new(weight.map(|w| w / width as f32).collect(), vec![0.0; 3], width).unwrap();
        heads::publish(builder.heads(), &draft);
    }
    // A full batch starts at once; a single request waits for the delay to pass.
    let batching = builder.engine(|engine| {
        engine.batch_sizes = BatchSizes::up_to(8);
        engine.max_delay = std::time::Duration::from_secs(2);
    });
    let server = batching.base(base).start().await;
    let answer = |task: u32| {
        let mut request = request(&[&format!("task-{task}")], pattern(task));
        request.want = vec![Extra::Logits.into(), Extra::Embedding.into()];
        let address = format!("http://{}", server.grpc);
        async move {
            let mut client =
                proto::classifier_client::ClassifierClient::connect(address).await.unwrap();
            client.classify(request).await.unwrap().into_inner()
        }
    };
    let together: Vec<_> = (0..8).map(|task| tokio::spawn(answer(task))).collect();
    for (task, together) in (0..8).zip(together) {
        let together = together.await.unwrap();
        assert_eq!(together.times.unwrap().batch_size, 8, "all eight shared a forward pass");
        let alone = answer(task).await;
        assert_eq!(alone.times.unwrap().batch_size, 1);
        let (together, alone) = (&together.verdicts[0], &alone.verdicts[0]);
        assert_eq!(together.label, alone.label);
        let largest =
            alone.embedding.iter().fold(1e-6f32, |largest, value| largest.max(value.abs()));
        for (a, b) in together.embedding.iter().zip(&alone.embedding) {
            assert!((a - b).abs() <= 1e-5 * largest, "features {a} and {b} of {largest}");
        }
        for (a, b) in together.scores.iter().zip(&alone.scores) {
            assert!((a.probability - b.probability).abs() <= 1e-5, "{a:?} and {b:?}");
        }
    }
}
