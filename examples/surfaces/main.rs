//! A small factory data set: six classes of steel surface in the manner of NEU-CLS (Song and Yan, 2013),
//! drawn from formulas alone, so that a demonstration needs no download. Real data is harder; this is for
//! trying things out.

mod camera;
mod defects;
mod noise;
mod sheet;

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use image::GrayImage;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use sheet::Sheet;

/// Writes OUT/<class>/<class>-<number>.png: grey 8-bit pictures of 200x200 pixels, six classes of steel
/// surface.
///
/// A picture depends on the seed, its class and its number only, so a larger set contains every smaller one.
#[derive(Parser, Debug)]
struct Arguments {
    /// Folder that gets one folder for each class; pictures of the same name are replaced
    out: PathBuf,
    /// Another seed gives other pictures
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of pictures of each class
    #[arg(long, default_value_t = 50)]
    per_class: u32,
    /// Number of the first picture: 50 leaves out the pictures of a run with `--per-class 50`
    #[arg(long, default_value_t = 0)]
    start: u32,
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
    const ALL: [Self; 6] =
        [Self::Ok, Self::Crazing, Self::Patches, Self::Pitting, Self::RolledInScale, Self::Scratches];

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
}

/// Picture `number` of a class: a sheet, its defects, and a photograph of them.
fn draw(class: SurfaceClass, number: u32, seed: u64) -> GrayImage {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Streams of one seed never overlap, so no picture depends on how many were drawn before it.
    rng.set_stream((class as u64) << 32 | u64::from(number));
    let mut sheet = Sheet::rolled(&mut rng);
    match class {
        SurfaceClass::Ok => {}
        SurfaceClass::Crazing => defects::craze(&mut sheet, &mut rng),
        SurfaceClass::Patches => defects::stain_in_patches(&mut sheet, &mut rng),
        SurfaceClass::Pitting => defects::pit(&mut sheet, &mut rng),
        SurfaceClass::RolledInScale => defects::roll_scale_in(&mut sheet, &mut rng),
        SurfaceClass::Scratches => defects::scratch(&mut sheet, &mut rng),
    }
    camera::photograph(&sheet, &mut rng)
}

fn main() -> Result<()> {
    let Arguments { out, seed, per_class, start } = Arguments::parse();
    let end = start.checked_add(per_class).context("--start and --per-class together exceed 2^32 - 1")?;
    for class in SurfaceClass::ALL {
        let name = class.name();
        let folder = out.join(name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        for number in start..end {
            let file = folder.join(format!("{name}-{number:04}.png"));
            draw(class, number, seed)
                .save(&file)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        writeln!(std::io::stdout(), "{name:<16} {per_class} pictures in {}", folder.display())?;
    }
    Ok(())
}
