//! Runs the programs as processes.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    sync::mpsc,
    thread,
};

use super::PATIENCE;

pub(crate) fn turret() -> Command {
    Command::new(env!("CARGO_BIN_EXE_turret"))
}

pub(crate) fn fine_tune() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fine-tune"))
}

/// Runs a command that must succeed and returns its standard output.
pub(crate) fn success(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?} ended with {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// Runs a command that must fail and returns its exit code and standard error.
pub(crate) fn failure(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} succeeded");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Waits for a process, which must end within twice [`PATIENCE`].
pub(crate) fn outcome(child: Child) -> Output {
    let process = child.id().to_string();
    let (sender, ended) = mpsc::channel();
    // Fails if nobody waits any more.
    thread::spawn(move || sender.send(child.wait_with_output()).is_ok());
    match ended.recv_timeout(2 * PATIENCE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            success(Command::new("kill").args(["-KILL", &process]));
            panic!("process {process} does not end");
        }
    }
}

/// Makes a folder of pictures that a random base can tell apart: `light/`, `dark/` and `striped/`.
pub(crate) fn small_data_set(root: &Path, per_class: u32) -> PathBuf {
    let folder = root.join("data");
    for class in ["light", "dark", "striped"] {
        let class_folder = folder.join(class);
        fs_err::create_dir_all(&class_folder).unwrap();
        for number in 0..per_class {
            let picture = image::GrayImage::from_fn(64, 64, |x, y| {
                let grain = (x * 31 + y * 17 + number * 7) % 13;
                let value = match class {
                    "light" => 210 + grain,
                    "dark" => 30 + grain,
                    _ => 40 + 170 * (((x + number) / 4) % 2) + grain,
                };
                image::Luma([value as u8])
            });
            picture.save(class_folder.join(format!("{number:03}.png"))).unwrap();
        }
    }
    folder
}
