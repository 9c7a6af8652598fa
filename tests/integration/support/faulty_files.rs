//! A file system that the test makes fail.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
};

use turret::store::{Files, Fingerprint, LocalFiles};

/// What goes wrong.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Opening a file fails with this error number.
    Open(i32),
    /// Looking at a file fails with this error number.
    Fingerprint(i32),
    /// Listing a folder panics.
    Panic,
    /// Opening a file or listing a folder waits until there is no fault.
    Hang,
    /// Opening a file below a folder of this name waits until there is no fault.
    HangBelow(&'static str),
}

/// The error of a disk or a mount that is gone for a moment.
pub(crate) const EIO: i32 = 5;

/// The local files, behind a fault.
#[derive(Debug, Default)]
pub(crate) struct FaultyFiles {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    fault: Fault,
    /// How often the fault showed.
    shown: usize,
    /// Files opened so far.
    opened: usize,
}

impl FaultyFiles {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn set(&self, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        (state.fault, state.shown) = (fault, 0);
        drop(state);
        self.changed.notify_all();
    }

    /// Returns once the fault has shown so often.
    pub(crate) async fn has_shown(&self, times: usize) {
        super::eventually("the fault shows", async || self.state.lock().unwrap().shown >= times)
            .await;
    }

    /// Returns how many files were opened so far.
    pub(crate) fn opened(&self) -> usize {
        self.state.lock().unwrap().opened
    }

    fn hang(&self, path: &Path) {
        let hangs = |fault| match fault {
            Fault::Hang => true,
            Fault::HangBelow(name) => path.parent().is_some_and(|folder| folder.ends_with(name)),
            Fault::None | Fault::Open(_) | Fault::Fingerprint(_) | Fault::Panic => false,
        };
        let mut state = self.state.lock().unwrap();
        while hangs(state.fault) {
            state.shown += 1;
            state = self.changed.wait(state).unwrap();
        }
    }

    fn fail(&self, error: impl FnOnce(Fault) -> Option<i32>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let Some(number) = error(state.fault) else { return Ok(()) };
        state.shown += 1;
        Err(io::Error::from_raw_os_error(number))
    }

    fn panics(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        let panics = state.fault == Fault::Panic;
        state.shown += usize::from(panics);
        panics
    }
}

impl Files for FaultyFiles {
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.hang(folder);
        assert!(!self.panics(), "told to panic");
        LocalFiles.list(folder)
    }

    fn fingerprint(&self, file: &Path) -> io::Result<Fingerprint> {
        self.fail(
            |fault| if let Fault::Fingerprint(number) = fault { Some(number) } else { None },
        )?;
        LocalFiles.fingerprint(file)
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn Read>> {
        self.hang(file);
        self.fail(|fault| if let Fault::Open(number) = fault { Some(number) } else { None })?;
        self.state.lock().unwrap().opened += 1;
        LocalFiles.open(file)
    }
}
