//! Which pictures are learned and which only judge: by content, so that a growing data set keeps its halves.

use sha2::Digest as _;

use super::dataset::{Half, PictureFile};
use crate::task::Digest;

/// The half of each picture, in their order.
///
/// Where the layout gives halves, those hold. Otherwise every picture draws a number from 0 to 1 out of the seed and its
/// own content, and validates if that is below `share`. So a picture keeps its half whatever is added around it, and the
/// share is met on average. One exception: a class whose pictures all drew the same half gives the nearest one to the
/// other half, because both need one.
pub(super) fn split(pictures: &[PictureFile], share: f64, seed: u64) -> Vec<Half> {
    let draws: Vec<f64> = pictures.iter().map(|picture| draw(seed, picture.digest)).collect();
    let by_draw = |draw: &f64| if *draw < share { Half::Validation } else { Half::Train };
    let mut halves: Vec<Half> = pictures
        .iter()
        .zip(&draws)
        .map(|(picture, draw)| picture.given_half.unwrap_or(by_draw(draw)))
        .collect();
    let classes = pictures.iter().map(|picture| picture.class + 1).max().unwrap_or(0);
    for class in 0..classes {
        let members: Vec<usize> =
            (0..pictures.len()).filter(|&index| pictures[index].class == class).collect();
        for half in [Half::Train, Half::Validation] {
            let nearest = match half {
                Half::Train => members.iter().max_by(|a, b| draws[**a].total_cmp(&draws[**b])),
                Half::Validation => members.iter().min_by(|a, b| draws[**a].total_cmp(&draws[**b])),
            };
            if let Some(&nearest) = nearest.filter(|_| members.iter().all(|&index| halves[index] != half)) {
                halves[nearest] = half;
            }
        }
    }
    halves
}

/// Uniform in [0, 1): the first 53 bits of SHA-256 over seed and content.
fn draw(seed: u64, content: Digest) -> f64 {
    let hash: [u8; 32] = sha2::Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(content.to_string())
        .finalize()
        .into();
    let first = hash.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    (first >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(class: usize, count: u64) -> Vec<PictureFile> {
        let picture = |number: u64| {
            let digest = Digest::of(format!("{class}/{number}").as_bytes());
            PictureFile { class, path: "x".into(), digest, given_half: None }
        };
        (0..count).map(picture).collect()
    }

    #[test]
    fn a_larger_data_set_keeps_every_old_picture_on_its_side() {
        let large = pictures(0, 400);
        let halves = split(&large, 0.2, 7);
        assert_eq!(split(&large[..50], 0.2, 7), halves[..50]);
        let validating = halves.iter().filter(|half| **half == Half::Validation).count();
        assert!((55..=105).contains(&validating), "{validating} of 400 validate");
        assert_ne!(split(&large, 0.2, 8), halves, "another seed gives another split");
    }

    #[test]
    fn every_class_has_a_picture_in_both_halves() {
        for share in [0.001, 0.999] {
            for seed in 0..20 {
                let both = [pictures(0, 2), pictures(1, 5)].concat();
                let halves = split(&both, share, seed);
                for class in [0..2, 2..7] {
                    assert!(halves[class.clone()].contains(&Half::Train));
                    assert!(halves[class].contains(&Half::Validation));
                }
            }
        }
    }

    #[test]
    fn given_halves_hold() {
        let mut given = pictures(0, 6);
        for (number, picture) in given.iter_mut().enumerate() {
            picture.given_half = Some(if number < 3 { Half::Train } else { Half::Validation });
        }
        let halves = split(&given, 0.999, 1);
        assert!(halves[..3].iter().all(|half| *half == Half::Train));
    }
}
