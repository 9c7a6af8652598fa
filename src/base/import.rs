//! Finds the network in a checkpoint, whatever prefix its tensors' names have there.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use super::{Architecture, BaseWeights, WeightsError, checkpoint::Checkpoint};

/// Keys of a training state that hold the weights themselves, rather than a copy or an average.
const WEIGHTS_KEYS: [&str; 3] = ["state_dict.", "model_state_dict.", "model."];

/// Name and shape of each tensor, sorted by name.
type Tensors<'a> = [(&'a str, &'a [usize])];

/// A network, perhaps incomplete, among the tensors of a checkpoint.
#[derive(Debug)]
struct Candidate {
    prefix: String,
    /// The nearest one.
    architecture: Architecture,
    /// Number of its parameters that are there under their names and with their shapes.
    shared: usize,
    /// Number of other tensors, its own and those there, to which none on the other side has the
    /// same shape: renamed tensors still tell the architecture.
    unlike: usize,
    /// Parameters that are not there, without the prefix.
    missing: Vec<String>,
    /// Tensors in the base's own modules that the base does not have.
    unexpected: Vec<String>,
}

impl BaseWeights {
    /// Imports a torchvision or timm checkpoint; the tensors determine the architecture.
    ///
    /// The network may lie under any prefix, such as `state_dict.module.` or `encoder_q.`; the
    /// classifier and everything else beside it are not read. Of several networks, one in the
    /// training state's own weights wins over others.
    ///
    /// # Errors
    /// [`WeightsError`] if there is no network or more than one, or if it is not complete.
    pub fn import(path: &Path) -> Result<Self, WeightsError> {
        Self::import_under(path, None)
    }

    /// Imports the network under this prefix; `None` as [`import`](Self::import).
    ///
    /// # Errors
    /// As [`import`](Self::import), and if there is none under the prefix.
    pub fn import_under(path: &Path, prefix: Option<&str>) -> Result<Self, WeightsError> {
        let checkpoint = Checkpoint::open(path)?;
        let found = choose(path, &checkpoint.tensors(), prefix)?;
        let Candidate { prefix, architecture, missing, unexpected, .. } = found;
        let other = |detail| {
            let (path, prefix) = (path.to_owned(), prefix.clone());
            WeightsError::OtherNetwork { path, architecture, prefix, detail }
        };
        let shapes: BTreeMap<String, Vec<usize>> = architecture.parameters().into_iter().collect();
        match missing.as_slice() {
            [] => {}
            [name] => return Err(other(format!("tensor {prefix}{name} is missing"))),
            [first, ..] => {
                let (count, all) = (missing.len(), shapes.len());
                return Err(other(format!(
                    "{count} of {all} tensors are missing, such as {prefix}{first}"
                )));
            }
        }
        if let Some(name) = unexpected.first() {
            return Err(other(format!("tensor {prefix}{name} is unexpected")));
        }
        let read = checkpoint.read_under(&prefix, |name| shapes.contains_key(name))?;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in read {
            let (found, expected) = (&tensor.shape, &shapes[&name]);
            if found != expected {
                let detail = format!("{prefix}{name} has shape {found:?}, expected {expected:?}");
                return Err(other(detail));
            }
            tensors.insert(name, tensor.values);
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let under =
            if prefix.is_empty() { String::new() } else { format!(", under the prefix {prefix}") };
        Ok(Self::new(architecture, tensors, format!("imported from {file}{under}")))
    }
}

/// Returns the only network, or the one nearest to a network.
fn choose(
    path: &Path,
    tensors: &Tensors<'_>,
    prefix: Option<&str>,
) -> Result<Candidate, WeightsError> {
    let mut candidates = candidates(tensors);
    if let Some(prefix) = prefix {
        let prefix = prefix.trim_end_matches('.');
        candidates.retain(|candidate| candidate.prefix.trim_end_matches('.') == prefix);
    }
    let complete = |candidate: &Candidate| candidate.missing.is_empty();
    if candidates.iter().any(complete) {
        candidates.retain(complete);
        for key in WEIGHTS_KEYS {
            if candidates.iter().any(|candidate| candidate.prefix.starts_with(key)) {
                candidates.retain(|candidate| candidate.prefix.starts_with(key));
                break;
            }
        }
        if candidates.len() > 1 {
            let prefixes = candidates.into_iter().map(|candidate| candidate.prefix).collect();
            return Err(WeightsError::SeveralNetworks { path: path.to_owned(), prefixes });
        }
    }
    let order = |candidate: &Candidate| (Reverse(candidate.shared), candidate.missing.len());
    candidates.into_iter().min_by_key(order).ok_or_else(|| WeightsError::NoNetwork {
        path: path.to_owned(),
        prefix: prefix.unwrap_or_default().to_owned(),
        first: tensors.first().map_or("", |(name, _)| name).to_owned(),
    })
}

/// Returns a candidate for each prefix under which any tensor has the name of a parameter.
fn candidates(tensors: &Tensors<'_>) -> Vec<Candidate> {
    let known: BTreeSet<String> = Architecture::ALL
        .into_iter()
        .flat_map(|architecture| architecture.parameters().into_iter().map(|(name, _)| name))
        .collect();
    let mut prefixes = BTreeSet::new();
    for (name, _) in tensors {
        let after_dots = name.match_indices('.').map(|(dot, _)| dot + 1);
        let splits = std::iter::once(0).chain(after_dots).map(|start| name.split_at(start));
        prefixes.extend(splits.filter(|(_, rest)| known.contains(*rest)).map(|(prefix, _)| prefix));
    }
    prefixes.into_iter().filter_map(|prefix| nearest_network(tensors, prefix)).collect()
}

/// Compares the tensors under the prefix with each architecture and returns the most alike.
fn nearest_network(tensors: &Tensors<'_>, prefix: &str) -> Option<Candidate> {
    let begin = tensors.partition_point(|(name, _)| *name < prefix);
    let under: BTreeMap<&str, &[usize]> = tensors[begin..]
        .iter()
        .map_while(|(name, shape)| Some((name.strip_prefix(prefix)?, *shape)))
        .collect();
    let compared =
        Architecture::ALL.into_iter().map(|architecture| compare(&under, prefix, architecture));
    compared.min_by_key(|candidate| {
        let differs = !(candidate.missing.is_empty() && candidate.unexpected.is_empty());
        (differs, Reverse(candidate.shared), candidate.unlike)
    })
}

fn compare(
    under: &BTreeMap<&str, &[usize]>,
    prefix: &str,
    architecture: Architecture,
) -> Candidate {
    let parameters: BTreeMap<String, Vec<usize>> = architecture.parameters().into_iter().collect();
    let modules: BTreeSet<&str> = parameters.keys().map(|name| module(name)).collect();
    let missing = parameters.keys().filter(|name| !under.contains_key(name.as_str())).cloned();
    let unexpected = under
        .keys()
        .filter(|name| !parameters.contains_key(**name) && modules.contains(module(name)))
        .map(|name| (*name).to_owned());
    // For each shape, how many more of the other tensors the architecture has than the checkpoint.
    let (mut shared, mut surplus) = (0, HashMap::<&[usize], isize>::new());
    for (name, shape) in &parameters {
        if under.get(name.as_str()) == Some(&&shape[..]) {
            shared += 1;
        } else {
            *surplus.entry(shape).or_default() += 1;
        }
    }
    for (name, shape) in under {
        if parameters.get(*name).is_none_or(|expected| expected != shape) {
            *surplus.entry(shape).or_default() -= 1;
        }
    }
    Candidate {
        prefix: prefix.to_owned(),
        architecture,
        shared,
        unlike: surplus.into_values().map(isize::unsigned_abs).sum(),
        missing: missing.collect(),
        unexpected: unexpected.collect(),
    }
}

/// Returns the outermost module of a tensor.
fn module(tensor: &str) -> &str {
    tensor.split_once('.').map_or(tensor, |(module, _)| module)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tensor = (String, Vec<usize>);

    fn network(prefix: &str, architecture: Architecture) -> Vec<Tensor> {
        let parameters = architecture.parameters().into_iter();
        parameters.map(|(name, shape)| (format!("{prefix}{name}"), shape)).collect()
    }

    /// Returns a tensor whose shape no network has.
    fn other(name: &str) -> Tensor {
        (name.to_owned(), vec![7])
    }

    fn found(tensors: &[Tensor], prefix: Option<&str>) -> Result<Candidate, WeightsError> {
        let mut tensors: Vec<(&str, &[usize])> =
            tensors.iter().map(|(name, shape)| (name.as_str(), &shape[..])).collect();
        tensors.sort_unstable();
        choose(Path::new("checkpoint"), &tensors, prefix)
    }

    #[test]
    fn renamed_network_is_known_by_its_other_names_and_shapes() {
        for architecture in [Architecture::ResNet18, Architecture::ResNet34] {
            for prefix in ["", "net."] {
                let mut tensors = network(prefix, architecture);
                for (name, _) in &mut tensors {
                    *name = name.replace("layer", "stage");
                }
                tensors.push(other("fc.weight"));
                let network = found(&tensors, None).unwrap();
                assert_eq!((network.prefix.as_str(), network.architecture), (prefix, architecture));
                assert_eq!(network.missing.len(), architecture.parameters().len() - 5);
                assert_eq!(network.missing[0], "layer1.0.bn1.bias");
            }
        }
        let stem = [("conv1.weight".to_owned(), vec![64, 3, 7, 7])];
        assert_eq!(found(&stem, None).unwrap().architecture, Architecture::ResNet18);
    }

    #[test]
    fn network_is_found_under_any_prefix_and_beside_any_head() {
        for architecture in Architecture::ALL {
            for prefix in [
                "",
                "module.",
                "state_dict.",
                "state_dict.module.",
                "_orig_mod.",
                "module._orig_mod.",
                "_orig_mod.module.",
                "backbone.",
                "net.",
                "encoder_q.",
                "model_state_dict.",
                "model.",
                "state_dict.model.backbone.0.",
                "state_dict.net._orig_mod.",
            ] {
                let heads = ["fc.weight", "head.1.bias", "classifier.6.weight", "projector.0.w"];
                let beside = heads.map(|head| other(&format!("{prefix}{head}")));
                let rest = ["optimizer.state.0.exp_avg", "queue", "model.temperature"];
                let rest = rest.map(other);
                let names = [&network(prefix, architecture)[..], &beside, &rest].concat();
                let network = found(&names, None).unwrap();
                assert_eq!((network.prefix.as_str(), network.architecture), (prefix, architecture));
                assert!(network.missing.is_empty() && network.unexpected.is_empty(), "{prefix}");
            }
        }
    }

    #[test]
    fn incomplete_network_is_the_nearest_architecture_under_its_prefix() {
        for architecture in Architecture::ALL {
            for prefix in ["", "backbone.", "state_dict.module.encoder_q."] {
                let mut names = network(prefix, architecture);
                let (missing, _) = names.remove(5);
                let network = found(&names, None).unwrap();
                assert_eq!((network.prefix.as_str(), network.architecture), (prefix, architecture));
                assert_eq!(network.missing, [missing.strip_prefix(prefix).unwrap()]);
            }
        }
    }

    #[test]
    fn network_with_more_layers_is_not_taken_for_a_smaller_one() {
        let more = other("net.layer1.0.se.fc.weight");
        let names = [network("net.", Architecture::ResNet34), vec![more]].concat();
        assert_eq!(found(&names, None).unwrap().unexpected, ["layer1.0.se.fc.weight"]);
        let error = found(&[other("blocks.0.attn.qkv.weight")], None).unwrap_err();
        assert!(matches!(error, WeightsError::NoNetwork { .. }), "{error}");
        assert!(error.to_string().contains("the first is blocks.0.attn.qkv.weight"), "{error}");
    }

    #[test]
    fn one_of_two_networks_is_chosen_by_prefix_or_as_the_weights() {
        let two = |prefixes: [&str; 2]| {
            prefixes.map(|prefix| network(prefix, Architecture::ResNet18)).concat()
        };
        let names = two(["state_dict.module.encoder_q.", "state_dict.module.encoder_k."]);
        let told = found(&names, None).unwrap_err().to_string();
        assert!(told.contains("holds 2 networks, under \"state_dict.module.encoder_k.\" and "));
        assert!(told.contains("such as with --prefix state_dict.module.encoder_q."), "{told}");
        for prefix in ["state_dict.module.encoder_q.", "state_dict.module.encoder_q"] {
            let network = found(&names, Some(prefix)).unwrap();
            assert_eq!(network.prefix, "state_dict.module.encoder_q.");
        }
        let nothing = found(&names, Some("encoder_x.")).unwrap_err().to_string();
        assert!(nothing.contains("under the prefix \"encoder_x.\""), "{nothing}");
        assert!(found(&two(["", "module."]), None).is_err());
        // The weights themselves win over their running average.
        for pair in [["model.", "model_ema.module."], ["state_dict.", "state_dict_ema."]] {
            assert_eq!(found(&two(pair), None).unwrap().prefix, pair[0]);
        }
    }
}
