//! `--server`: the base of a running server, asked over gRPC. What is trained fits its arithmetic exactly, and the machine
//! that trains needs neither the base file nor a device.

use anyhow::Context;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use turret::{
    base::{Base, BaseError, BaseIdentity, FeatureBatch, FeatureWidths, Outputs},
    grpc::proto::{self, classifier_client::ClassifierClient},
    image::{PreparedImage, Preprocess, Resize},
};

/// The smallest picture that every base takes.
const PROBE_SIDE: u32 = 32;
/// Room for what a server may answer.
const LARGEST_MESSAGE: usize = 64 << 20;

#[derive(Debug)]
pub(crate) struct RemoteBase {
    runtime: Runtime,
    client: ClassifierClient<Channel>,
    identity: BaseIdentity,
    widths: FeatureWidths,
    arithmetic: String,
}

impl RemoteBase {
    /// Asks the server which base it has, by a picture.
    pub(crate) fn connect(url: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime
            .block_on(ClassifierClient::connect(url.to_owned()))
            .with_context(|| format!("cannot reach {url}"))?
            .max_decoding_message_size(LARGEST_MESSAGE);
        let Preprocess { mean, std, .. } = Preprocess::default();
        let pixels = vec![127; (PROBE_SIDE * PROBE_SIDE * 3) as usize].into();
        let probe = request(0, &PreparedImage { side: PROBE_SIDE, pixels, mean, std });
        let mut answers = runtime
            .block_on(ask(client.clone(), vec![probe]))
            .with_context(|| format!("{url} gives no features"))?;
        let answer = answers.pop().context("the server gave no answer")?;
        let digest = answer.base_digest.parse().context("the server's base has no digest")?;
        let identity = BaseIdentity { architecture: answer.architecture, digest };
        let widths =
            FeatureWidths { gap: answer.gap_width as usize, pyramid: answer.embedding.len() };
        anyhow::ensure!(
            widths.gap > 0 && widths.pyramid / 2 >= widths.gap,
            "{url} gives {} features with {} in the last stage, which cannot be; is it a turret of another version?",
            widths.pyramid,
            widths.gap
        );
        Ok(Self { runtime, client, identity, widths, arithmetic: answer.arithmetic })
    }
}

impl Base for RemoteBase {
    fn identity(&self) -> &BaseIdentity {
        &self.identity
    }

    fn widths(&self) -> FeatureWidths {
        self.widths
    }

    fn arithmetic(&self) -> &str {
        &self.arithmetic
    }

    fn forward(
        &mut self,
        images: &[&PreparedImage],
        outputs: Outputs,
    ) -> Result<FeatureBatch, BaseError> {
        let device = |detail: String| BaseError::Device { detail };
        let requests =
            images.iter().enumerate().map(|(number, image)| request(number, image)).collect();
        let answers = self.runtime.block_on(ask(self.client.clone(), requests));
        let answers = answers.map_err(|error| device(format!("{error:#}")))?;
        let FeatureWidths { gap, pyramid } = self.widths;
        let mut batch = FeatureBatch::default();
        for answer in answers {
            if answer.base_digest != self.identity.digest.to_string()
                || answer.arithmetic != self.arithmetic
            {
                return Err(device(
                    "the server has another base than before; train again".to_owned(),
                ));
            }
            if answer.embedding.len() != pyramid {
                return Err(device(format!(
                    "{} features came, expected {pyramid}",
                    answer.embedding.len()
                )));
            }
            // The last stage: averages, then maxima.
            batch.gap.extend(&answer.embedding[pyramid - 2 * gap..pyramid - gap]);
            if outputs.pyramid {
                batch.pyramid.extend(answer.embedding);
            }
        }
        Ok(batch)
    }
}

/// The pixels as they are: the server finds the square that it would make.
fn request(number: usize, image: &PreparedImage) -> proto::EmbedRequest {
    let (mean, std) = (image.mean, image.std);
    let preprocess = Preprocess {
        resize: Resize::Stretch { size: image.side },
        mean,
        std,
        ..Preprocess::default()
    };
    let frame = proto::RawFrame {
        pixels: image.pixels.clone(),
        width: image.side,
        height: image.side,
        stride_bytes: 0,
        pixel_format: "RGB8".to_owned(),
    };
    proto::EmbedRequest {
        request_id: number.to_string(),
        image: Some(proto::Image { data: Some(proto::image::Data::Raw(frame)) }),
        roi: None,
        preprocess: serde_json::json!(preprocess).to_string(),
    }
}

/// An answer for each request, in their order.
async fn ask(
    mut client: ClassifierClient<Channel>,
    requests: Vec<proto::EmbedRequest>,
) -> anyhow::Result<Vec<proto::EmbedResponse>> {
    let outputs = requests.len();
    let mut stream = client.embed(tokio_stream::iter(requests)).await?.into_inner();
    let mut answers: Vec<Option<proto::EmbedResponse>> = vec![None; outputs];
    while let Some(answer) = stream.message().await? {
        if let Some(error) = answer.error {
            anyhow::bail!("{}: {}", error.reason, error.message);
        }
        let place =
            answer.request_id.parse().ok().and_then(|number: usize| answers.get_mut(number));
        *place.context("the server answered something else")? = Some(answer);
    }
    answers
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .context("the server ended before it had answered all")
}
