//! A small factory data set: six classes of steel surface, as in NEU-CLS (Song and Yan, 2013).
//!
//! It is drawn from formulas, so a demonstration needs no download. Real data is harder.

mod camera;
mod defects;
mod noise;
mod sheet;
mod stamps;

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use image::GrayImage;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use sheet::Sheet;
use stamps::Plate;

/// Writes OUT/<class>/<class>-<number>.png: grey 8-bit pictures of 200x200 pixels, six classes of
/// steel surface, or two of stamped plates.
///
/// A picture depends on the seed, its class and its number only: larger sets contain smaller ones.
#[derive(Parser, Debug)]
struct Arguments {
    /// Folder for one folder per class; pictures of the same name are replaced
    out: PathBuf,
    /// Kind of pictures
    #[arg(long, value_enum, default_value_t = Set::Steel)]
    set: Set,
    /// Seed of the pictures
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of pictures per class
    #[arg(long, default_value_t = 50)]
    per_class: u32,
    /// Number of the first picture: 50 leaves out the pictures of a run with `--per-class 50`
    #[arg(long, default_value_t = 0)]
    start: u32,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Set {
    /// A faultless sheet and five defects
    Steel,
    /// Plates with six stamped pairs, one of them reversed on a bad plate
    Stamps,
}

impl Set {
    fn classes(self) -> Vec<&'static str> {
        match self {
            Self::Steel => SurfaceClass::ALL.map(SurfaceClass::name).to_vec(),
            Self::Stamps => Plate::ALL.map(Plate::name).to_vec(),
        }
    }

    /// Draws picture `number` of the class at this index in [`classes`](Self::classes).
    fn draw(self, class: usize, number: u32, seed: u64) -> GrayImage {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Streams of a seed never overlap, so a picture does not depend on those drawn before.
        rng.set_stream((class as u64) << 32 | u64::from(number));
        let mut sheet = Sheet::rolled(&mut rng);
        match self {
            Self::Steel => SurfaceClass::ALL[class].spoil(&mut sheet, &mut rng),
            Self::Stamps => stamps::stamp(&mut sheet, Plate::ALL[class], &mut rng),
        }
        camera::photograph(&sheet, &mut rng)
    }
}

#[derive(Clone, Copy, Debug)]
enum SurfaceClass {
    Ok,
    Crazing,
    Patches,
    Pitting,
    RolledInScale,
    Scratches,
}

impl SurfaceClass {
    const ALL: [Self; 6] = [
        Self::Ok,
        Self::Crazing,
        Self::Patches,
        Self::Pitting,
        Self::RolledInScale,
        Self::Scratches,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Crazing => "crazing",
            Self::Patches => "patches",
            Self::Pitting => "pitting",
            Self::RolledInScale => "rolled-in-scale",
            Self::Scratches => "scratches",
        }
    }

    fn spoil(self, sheet: &mut Sheet, rng: &mut ChaCha8Rng) {
        match self {
            Self::Ok => {}
            Self::Crazing => defects::craze(sheet, rng),
            Self::Patches => defects::stain_in_patches(sheet, rng),
            Self::Pitting => defects::pit(sheet, rng),
            Self::RolledInScale => defects::roll_scale_in(sheet, rng),
            Self::Scratches => defects::scratch(sheet, rng),
        }
    }
}

fn main() -> Result<()> {
    let Arguments { out, set, seed, per_class, start } = Arguments::parse();
    let end =
        start.checked_add(per_class).context("--start and --per-class together exceed 2^32 - 1")?;
    for (class, name) in set.classes().into_iter().enumerate() {
        let folder = out.join(name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        for number in start..end {
            let file = folder.join(format!("{name}-{number:04}.png"));
            set.draw(class, number, seed)
                .save(&file)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        let told =
            writeln!(std::io::stdout(), "{name:<16} {per_class} pictures in {}", folder.display());
        match told {
            // The reader has seen enough, but the other pictures are still wanted.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            told => told.context("cannot write to standard output")?,
        }
    }
    Ok(())
}
