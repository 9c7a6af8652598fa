//! Which pictures are learned and which only judge: by content, so that a growing data set keeps
//! its halves, and group by group, so that pictures of one part never stand on both sides.

use std::collections::BTreeMap;

use sha2::Digest as _;

use super::{DatasetError, Part, PictureFile};
use crate::ids::Digest;

/// Pictures that go together, and where.
struct Group {
    part: Part,
    given: bool,
    draw: f64,
    /// Indices of its pictures.
    members: Vec<usize>,
}

/// What each picture is for, in their order: `Train` or `Validation`, or as given.
///
/// Where the data says it, that holds. Otherwise every group (a picture without one is a group of
/// its own) draws a number from 0 to 1 out of the seed and its name (a picture's content), and
/// validates if that is below `share`. So a picture keeps its half whatever is added around it, and
/// the share is met on average. One exception: a class whose pictures all drew the same half gives
/// the nearest group to the other half, because both need one.
///
/// # Errors
/// [`DatasetError::TooFewGroups`] if a class cannot stand in both halves.
pub(crate) fn split(
    pictures: &[PictureFile],
    classes: &[String],
    share: f64,
    seed: u64,
) -> Result<Vec<Part>, DatasetError> {
    let mut groups = groups(pictures, seed);
    for group in &mut groups {
        let given = group.members.iter().find_map(|&member| pictures[member].given);
        let drawn = if group.draw < share { Part::Validation } else { Part::Train };
        (group.part, group.given) = (given.unwrap_or(drawn), given.is_some());
    }
    let has =
        |group: &Group, class| group.members.iter().any(|&member| pictures[member].class == class);
    for (class, label) in classes.iter().enumerate() {
        for half in [Part::Train, Part::Validation] {
            if groups.iter().any(|group| group.part == half && has(group, class)) {
                continue;
            }
            // Whoever leaves must not empty the place that it leaves, for any of its classes.
            let others_stay = |leaving: &Group| {
                leaving.members.iter().all(|&member| {
                    let class = pictures[member].class;
                    let staying = |group: &&Group| group.part == leaving.part && has(group, class);
                    groups.iter().filter(staying).count() > 1
                })
            };
            let distance = |group: &Group| (group.draw - share).abs();
            let nearest = (0..groups.len())
                .filter(|&index| {
                    !groups[index].given
                        && has(&groups[index], class)
                        && others_stay(&groups[index])
                })
                .min_by(|&a, &b| distance(&groups[a]).total_cmp(&distance(&groups[b])));
            let nearest =
                nearest.ok_or_else(|| DatasetError::TooFewGroups { class: label.clone() })?;
            groups[nearest].part = half;
        }
    }
    let mut parts = vec![Part::Train; pictures.len()];
    for group in groups {
        group.members.into_iter().for_each(|member| parts[member] = group.part);
    }
    Ok(parts)
}

/// The fold of each picture for a cross-validation of at most `most` folds, and their number:
/// groups stay whole and classes are spread evenly. `None` where a class has only one group, so
/// that it could not be learned and judged.
pub(crate) fn folds(
    pictures: &[PictureFile],
    most: usize,
    seed: u64,
) -> Option<(Vec<usize>, usize)> {
    let mut groups = groups(pictures, seed);
    let classes = pictures.iter().map(|picture| picture.class + 1).max()?;
    let (mut of_class, mut groups_of_class) = (vec![0usize; classes], vec![0usize; classes]);
    let counts = |group: &Group| {
        let mut counts = BTreeMap::new();
        group
            .members
            .iter()
            .for_each(|&member| *counts.entry(pictures[member].class).or_insert(0usize) += 1);
        counts
    };
    for group in &groups {
        for (class, count) in counts(group) {
            of_class[class] += count;
            groups_of_class[class] += 1;
        }
    }
    let fewest = groups_of_class.into_iter().filter(|&count| count > 0).min()?;
    let count = most.min(fewest);
    if count < 2 {
        return None;
    }
    // Large groups first, while there is room to even them out.
    groups.sort_by(|a, b| b.members.len().cmp(&a.members.len()).then(a.draw.total_cmp(&b.draw)));
    let mut filled = vec![vec![0usize; classes]; count];
    let mut fold_of = vec![0; pictures.len()];
    for group in groups {
        let counts = counts(&group);
        let crowding = |fold: &[usize]| -> f64 {
            counts
                .iter()
                .map(|(&class, &count)| (count * fold[class]) as f64 / of_class[class] as f64)
                .sum()
        };
        let size = |fold: &[usize]| fold.iter().sum::<usize>();
        let emptiest = (0..count).min_by(|&a, &b| {
            let (a, b) = (&filled[a], &filled[b]);
            crowding(a).total_cmp(&crowding(b)).then(size(a).cmp(&size(b)))
        })?;
        counts.into_iter().for_each(|(class, count)| filled[emptiest][class] += count);
        group.members.into_iter().for_each(|member| fold_of[member] = emptiest);
    }
    Some((fold_of, count))
}

/// In the order of their digests.
fn groups(pictures: &[PictureFile], seed: u64) -> Vec<Group> {
    let mut members: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
    for (index, picture) in pictures.iter().enumerate() {
        members.entry(picture.group_digest()).or_default().push(index);
    }
    let group = |(digest, members)| Group {
        part: Part::Train,
        given: false,
        draw: draw(seed, digest),
        members,
    };
    members.into_iter().map(group).collect()
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
            PictureFile { class, path: "x".into(), digest, given: None, group: None, weight: 1.0 }
        };
        (0..count).map(picture).collect()
    }

    /// Three pictures a part; every third part has a picture of each class.
    fn parts(count: u64) -> Vec<PictureFile> {
        let mut all = pictures(0, 3 * count);
        for (number, picture) in all.iter_mut().enumerate() {
            let part = number / 3;
            picture.group = Some(format!("part{part}"));
            picture.class = if part.is_multiple_of(3) { number % 3 } else { part % 3 };
        }
        all
    }

    fn labels() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    fn halves(pictures: &[PictureFile], share: f64, seed: u64) -> Vec<Part> {
        let classes = pictures.iter().map(|picture| picture.class + 1).max().unwrap_or(0);
        split(pictures, &labels()[..classes], share, seed).unwrap()
    }

    fn sides_of_groups<T: Copy + Ord>(
        pictures: &[PictureFile],
        sides: &[T],
    ) -> BTreeMap<Digest, std::collections::BTreeSet<T>> {
        let mut found: BTreeMap<Digest, std::collections::BTreeSet<T>> = BTreeMap::new();
        for (picture, side) in pictures.iter().zip(sides) {
            found.entry(picture.group_digest()).or_default().insert(*side);
        }
        found
    }

    #[test]
    fn a_larger_data_set_keeps_every_old_picture_on_its_side() {
        let large = pictures(0, 400);
        let all = halves(&large, 0.2, 7);
        assert_eq!(halves(&large[..50], 0.2, 7), all[..50]);
        let validating = all.iter().filter(|half| **half == Part::Validation).count();
        assert!((55..=105).contains(&validating), "{validating} of 400 validate");
        assert_ne!(halves(&large, 0.2, 8), all, "another seed gives another split");
    }

    #[test]
    fn every_class_has_a_picture_in_both_halves() {
        for share in [0.001, 0.999] {
            for seed in 0..20 {
                let both = [pictures(0, 2), pictures(1, 5)].concat();
                let halves = halves(&both, share, seed);
                for class in [0..2, 2..7] {
                    assert!(halves[class.clone()].contains(&Part::Train));
                    assert!(halves[class].contains(&Part::Validation));
                }
            }
        }
    }

    #[test]
    fn given_halves_hold() {
        let mut given = pictures(0, 6);
        for (number, picture) in given.iter_mut().enumerate() {
            picture.given = Some(if number < 3 { Part::Train } else { Part::Validation });
        }
        let halves = halves(&given, 0.999, 1);
        assert!(halves[..3].iter().all(|half| *half == Part::Train));
    }

    #[test]
    fn pictures_of_one_part_stand_on_one_side_and_in_one_fold() {
        let pictures = parts(24);
        for seed in 0..20 {
            for share in [0.001, 0.3, 0.999] {
                let halves = halves(&pictures, share, seed);
                assert!(sides_of_groups(&pictures, &halves).values().all(|sides| sides.len() == 1));
                for class in 0..3 {
                    let of_class =
                        pictures.iter().zip(&halves).filter(|(picture, _)| picture.class == class);
                    let sides: std::collections::BTreeSet<_> =
                        of_class.map(|(_, half)| half).collect();
                    assert_eq!(sides.len(), 2, "class {class} stands on one side only");
                }
            }
            let (folds, count) = folds(&pictures, 5, seed).unwrap();
            assert_eq!(count, 5);
            assert!(sides_of_groups(&pictures, &folds).values().all(|folds| folds.len() == 1));
        }
    }

    #[test]
    fn a_class_of_one_part_cannot_be_divided() {
        let mut two = [pictures(0, 4), pictures(1, 4)].concat();
        two[4..].iter_mut().for_each(|picture| picture.group = Some("one part".to_owned()));
        let error = split(&two, &labels()[..2], 0.2, 0).unwrap_err();
        assert!(matches!(error, DatasetError::TooFewGroups { class } if class == "b"));
        assert_eq!(folds(&two, 5, 0), None);
    }

    #[test]
    fn folds_spread_every_class_evenly() {
        let both = [pictures(0, 50), pictures(1, 13), pictures(2, 7)].concat();
        let (fold_of, count) = folds(&both, 5, 3).unwrap();
        for class in 0..3 {
            let sizes: Vec<usize> = (0..count)
                .map(|fold| {
                    both.iter()
                        .zip(&fold_of)
                        .filter(|(p, f)| p.class == class && **f == fold)
                        .count()
                })
                .collect();
            let spread = sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
            assert!(spread <= 1, "class {class}: {sizes:?}");
        }
        assert_eq!(
            folds(&both[..53], 5, 3).unwrap().1,
            3,
            "no more folds than a class has pictures"
        );
    }
}
