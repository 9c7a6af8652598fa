//! The base as a head sees it before it is installed.

use std::fmt;

use crate::{
    base::{FeatureBatch, Wanted},
    features::{BaseIdentity, FeatureWidths},
    head::{Head, ReferenceSet},
    image::PreparedImage,
};

/// Gives the features of pictures, or says why it cannot.
pub type ComputeFeatures = dyn Fn(Vec<PreparedImage>, Wanted) -> Result<FeatureBatch, String> + Send;

/// What a head has to fit, and a way to ask the base itself.
pub struct ServingBase {
    pub identity: BaseIdentity,
    pub widths: FeatureWidths,
    /// As [`Base::arithmetic`](crate::base::Base::arithmetic).
    pub arithmetic: String,
    pub compute: Box<ComputeFeatures>,
}

impl ServingBase {
    /// Recomputes the head's reference pictures: whatever the weights' digest cannot tell - other arithmetic, another
    /// library, a broken device - shows in them.
    pub(super) fn check(&self, head: &Head, reference: &ReferenceSet) -> Result<(), String> {
        if reference.is_empty() {
            return Ok(());
        }
        let pictures = reference.pictures(&head.preprocess);
        let count = pictures.len();
        let batch = (self.compute)(pictures, Wanted::for_sets([head.features]))
            .map_err(|reason| format!("its reference pictures could not be computed: {reason}"))?;
        let rows = (0..count).filter_map(|image| batch.row(head.features, image, self.widths));
        let found: Vec<f32> = rows.flatten().copied().collect();
        head.check_references(reference, &found, &self.arithmetic).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for ServingBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServingBase")
            .field("identity", &self.identity)
            .field("arithmetic", &self.arithmetic)
            .finish()
    }
}
