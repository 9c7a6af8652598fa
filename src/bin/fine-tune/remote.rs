//! `--server`: the base of a running server, called over gRPC.
//!
//! The head then fits the server's arithmetic exactly, and the training machine needs neither the
//! base file nor a device.

use anyhow::Context;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use turret::{
    base::{Base, BaseError, BaseIdentity, FeatureBatch, FeatureWidths, Outputs},
    grpc::proto::{self, classifier_client::ClassifierClient},
    image::{PreparedImage, Preprocess, Resize},
};
use turret_client::ServerUrl;

/// Side of the smallest image that every base takes.
const PROBE_SIDE: u32 = 32;
/// Maximum size of a response, in bytes.
const MAX_MESSAGE: usize = 64 << 20;

/// A base that runs in a server.
#[derive(Debug)]
pub(crate) struct RemoteBase {
    runtime: Runtime,
    client: ClassifierClient<Channel>,
    identity: BaseIdentity,
    widths: FeatureWidths,
    arithmetic: String,
}

impl RemoteBase {
    /// Connects, and learns the server's base from the response to a probe image.
    pub(crate) fn connect(url: &ServerUrl) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime
            .block_on(ClassifierClient::connect(String::from(url.clone())))
            .with_context(|| format!("cannot reach {url}"))?
            .max_decoding_message_size(MAX_MESSAGE);
        let Preprocess { mean, std, .. } = Preprocess::default();
        let pixels = vec![127; (PROBE_SIDE * PROBE_SIDE * 3) as usize].into();
        let probe = request(0, &PreparedImage { side: PROBE_SIDE, pixels, mean, std });
        let mut responses = runtime
            .block_on(embed(client.clone(), vec![probe]))
            .with_context(|| format!("{url} returned no features"))?;
        let response = responses.pop().context("server returned no response")?;
        let digest = response.base_digest.parse().context("server returned no base digest")?;
        let identity = BaseIdentity { architecture: response.architecture, digest };
        let widths =
            FeatureWidths { gap: response.gap_width as usize, pyramid: response.embedding.len() };
        anyhow::ensure!(
            widths.gap > 0 && widths.pyramid / 2 >= widths.gap,
            "{url} returned {} features with {} in the last stage, which is impossible; does it \
             run another version of turret?",
            widths.pyramid,
            widths.gap
        );
        Ok(Self { runtime, client, identity, widths, arithmetic: response.arithmetic })
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
        let responses = self.runtime.block_on(embed(self.client.clone(), requests));
        let responses = responses.map_err(|error| device(format!("{error:#}")))?;
        let FeatureWidths { gap, pyramid } = self.widths;
        let mut batch = FeatureBatch::default();
        for response in responses {
            if response.base_digest != self.identity.digest.to_string()
                || response.arithmetic != self.arithmetic
            {
                return Err(device("server changed its base meanwhile; train again".to_owned()));
            }
            if response.embedding.len() != pyramid {
                return Err(device(format!(
                    "server returned {} features, expected {pyramid}",
                    response.embedding.len()
                )));
            }
            // The last stage: averages, then maxima.
            batch.gap.extend(&response.embedding[pyramid - 2 * gap..pyramid - gap]);
            if outputs.pyramid {
                batch.pyramid.extend(response.embedding);
            }
        }
        Ok(batch)
    }
}

/// Returns a request with the prepared pixels, which the server's preprocessing leaves unchanged.
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
        ..Default::default()
    }
}

/// Returns a response for each request, in order.
async fn embed(
    mut client: ClassifierClient<Channel>,
    requests: Vec<proto::EmbedRequest>,
) -> anyhow::Result<Vec<proto::EmbedResponse>> {
    let count = requests.len();
    let mut stream = client.embed(tokio_stream::iter(requests)).await?.into_inner();
    let mut responses: Vec<Option<proto::EmbedResponse>> = vec![None; count];
    while let Some(response) = stream.message().await? {
        if let Some(error) = response.error {
            anyhow::bail!("{}: {}", error.reason, error.message);
        }
        let slot =
            response.request_id.parse().ok().and_then(|number: usize| responses.get_mut(number));
        *slot.context("server answered a request that was not sent")? = Some(response);
    }
    responses
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .context("server closed the stream before it answered every request")
}
