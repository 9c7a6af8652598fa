//! Whether the server can judge, and whether a restart would help if it cannot.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    engine::{Engine, EngineStatus, RunningWork},
    grpc::ServerState,
    reload::{ReloadProgress, ReloadStatus},
};

/// A forward pass may take so many times what it takes as a rule before it counts as too old.
const TIMES_EXPECTED: u32 = 10;

/// Whether the server should receive traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The base is not warm, or the first scan of the heads is not installed.
    Starting,
    Ready,
    Draining,
}

/// How long each part may take until the server is not ready, or needs a restart.
///
/// A forward pass may always take ten times as long as it does as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthBounds {
    /// Age of a forward pass until the server is not ready.
    pub old_pass: Duration,
    /// Age of a forward pass until only a restart helps.
    pub hung_pass: Duration,
    /// How long the queue may stand still while images wait in it.
    pub stalled_queue: Duration,
    /// How long a scan may stand still; the interval between scans comes on top.
    pub late_scan: Duration,
}

impl Default for HealthBounds {
    fn default() -> Self {
        Self {
            old_pass: Duration::from_secs(10),
            hung_pass: Duration::from_secs(60),
            stalled_queue: Duration::from_secs(10),
            late_scan: Duration::from_secs(60),
        }
    }
}

/// Why a server cannot judge, or will soon judge by old heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    DeviceLost,
    DeviceEnded,
    OldPass { age: Duration },
    HungPass { age: Duration },
    StalledQueue { age: Duration },
    LateScan { age: Duration },
    ReloadEnded,
}

impl Cause {
    /// Returns whether a restart of the process helps.
    pub fn needs_restart(self) -> bool {
        match self {
            Self::DeviceLost | Self::DeviceEnded | Self::HungPass { .. } | Self::ReloadEnded => {
                true
            }
            Self::OldPass { .. } | Self::StalledQueue { .. } | Self::LateScan { .. } => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceLost => f.write_str("the device does not answer: forward passes fail"),
            Self::DeviceEnded => f.write_str("the device thread ended"),
            Self::OldPass { age } => write!(f, "a forward pass has run for {} s", age.as_secs()),
            Self::HungPass { age } => write!(f, "a forward pass hangs since {} s", age.as_secs()),
            Self::StalledQueue { age } => {
                write!(f, "the queue has not moved for {} s", age.as_secs())
            }
            Self::LateScan { age } => {
                write!(f, "the scan of the heads has not moved for {} s", age.as_secs())
            }
            Self::ReloadEnded => f.write_str("the reload thread ended"),
        }
    }
}

impl HealthBounds {
    /// Returns why an engine in this state cannot judge.
    pub fn of_engine(&self, status: &EngineStatus) -> Vec<Cause> {
        let &EngineStatus { device_lost, device_ended, running, stalled } = status;
        let mut causes = Vec::new();
        match (device_ended, device_lost) {
            (true, _) => causes.push(Cause::DeviceEnded),
            (false, true) => causes.push(Cause::DeviceLost),
            (false, false) => {}
        }
        if let Some(RunningWork { age, expected }) = running {
            let usual = expected.saturating_mul(TIMES_EXPECTED);
            if age > self.hung_pass.max(usual) {
                causes.push(Cause::HungPass { age });
            } else if age > self.old_pass.max(usual) {
                causes.push(Cause::OldPass { age });
            }
        }
        let stalled = stalled.filter(|age| *age > self.stalled_queue);
        causes.extend(stalled.map(|age| Cause::StalledQueue { age }));
        causes
    }

    /// Returns why a reload thread in this state, which scans every `rescan`, has failed.
    pub fn of_reload(&self, status: &ReloadStatus, rescan: Duration) -> Option<Cause> {
        if status.ended {
            return Some(Cause::ReloadEnded);
        }
        let is_late = status.still > self.late_scan.saturating_add(rescan);
        is_late.then_some(Cause::LateScan { age: status.still })
    }
}

/// Observes the parts of a running server.
#[derive(Debug)]
pub struct Health {
    pub bounds: HealthBounds,
    /// The interval of the scans.
    pub rescan: Duration,
    pub phase: watch::Receiver<Phase>,
    pub state: Arc<ServerState>,
    /// Unset until the reload thread starts.
    pub reload: OnceLock<Arc<ReloadProgress>>,
}

impl Health {
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Returns why the server cannot judge now, whatever its phase.
    pub fn causes(&self, now: Instant) -> Vec<Cause> {
        let engine = self.engine_status(now);
        let reload = self.reload_status(now);
        let of_engine = engine.map(|status| self.bounds.of_engine(&status)).unwrap_or_default();
        let of_reload = reload.and_then(|status| self.bounds.of_reload(&status, self.rescan));
        of_engine.into_iter().chain(of_reload).collect()
    }

    /// Makes a device that counts as lost show whether it is back: no request comes to try it.
    pub fn try_lost_device(&self, causes: &[Cause]) {
        if causes.contains(&Cause::DeviceLost)
            && let Some(engine) = self.state.engine.get()
        {
            engine.try_device();
        }
    }

    /// Sets the gauges that grow by themselves.
    pub fn show_ages(&self, now: Instant) {
        let running = self.engine_status(now).and_then(|status| status.running);
        let pass = running.map_or(Duration::ZERO, |work| work.age);
        let scan = self.reload_status(now).map_or(Duration::ZERO, |status| status.scan_age);
        self.state.metrics.forward_pass_age.set(pass.as_secs_f64());
        self.state.metrics.last_scan_age.set(scan.as_secs_f64());
    }

    fn engine_status(&self, now: Instant) -> Option<EngineStatus> {
        self.state.engine.get().map(|engine: &Engine| engine.status(now))
    }

    fn reload_status(&self, now: Instant) -> Option<ReloadStatus> {
        self.reload.get().map(|progress| progress.status(now))
    }
}

/// Joins causes to one line of text.
pub fn reasons(causes: impl IntoIterator<Item = Cause>) -> String {
    causes.into_iter().map(|cause| cause.to_string()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn running(age: Duration, expected: Duration) -> EngineStatus {
        let running = Some(RunningWork { age, expected });
        EngineStatus { running, ..EngineStatus::default() }
    }

    #[test]
    fn old_pass_is_not_ready_and_only_a_hung_one_needs_a_restart() {
        let bounds = HealthBounds::default();
        let of = |age| bounds.of_engine(&running(age, SECOND / 10));
        assert_eq!(of(10 * SECOND), []);
        assert_eq!(of(11 * SECOND), [Cause::OldPass { age: 11 * SECOND }]);
        assert_eq!(of(61 * SECOND), [Cause::HungPass { age: 61 * SECOND }]);
        assert!(!of(11 * SECOND)[0].needs_restart());
        assert!(of(61 * SECOND)[0].needs_restart());
    }

    #[test]
    fn pass_that_is_slow_as_a_rule_may_take_longer() {
        let bounds = HealthBounds::default();
        assert_eq!(bounds.of_engine(&running(190 * SECOND, 20 * SECOND)), []);
        assert_eq!(bounds.of_engine(&running(201 * SECOND, 20 * SECOND)).len(), 1);
    }

    #[test]
    fn lost_and_ended_devices_need_a_restart() {
        let bounds = HealthBounds::default();
        let lost = EngineStatus { device_lost: true, ..EngineStatus::default() };
        assert_eq!(bounds.of_engine(&lost), [Cause::DeviceLost]);
        let ended = EngineStatus { device_ended: true, ..lost };
        assert_eq!(bounds.of_engine(&ended), [Cause::DeviceEnded]);
        assert!(Cause::DeviceLost.needs_restart() && Cause::DeviceEnded.needs_restart());
    }

    #[test]
    fn queue_that_stands_still_is_not_ready_but_no_restart_helps() {
        let bounds = HealthBounds::default();
        let of =
            |age| bounds.of_engine(&EngineStatus { stalled: Some(age), ..EngineStatus::default() });
        assert_eq!(of(10 * SECOND), []);
        let age = 11 * SECOND;
        assert_eq!(of(age), [Cause::StalledQueue { age }]);
        assert!(!Cause::StalledQueue { age }.needs_restart());
    }

    #[test]
    fn scan_is_late_only_after_the_interval_and_the_bound() {
        let bounds = HealthBounds::default();
        let still = |still| ReloadStatus { still, ..ReloadStatus::default() };
        assert_eq!(bounds.of_reload(&still(65 * SECOND), 5 * SECOND), None);
        let age = 66 * SECOND;
        assert_eq!(bounds.of_reload(&still(age), 5 * SECOND), Some(Cause::LateScan { age }));
        assert!(!Cause::LateScan { age }.needs_restart(), "the file system may hang");
        let installing = ReloadStatus { scan_age: 900 * SECOND, ..still(SECOND) };
        assert_eq!(bounds.of_reload(&installing, 5 * SECOND), None, "many heads are no fault");
        let ended = ReloadStatus { ended: true, ..ReloadStatus::default() };
        assert_eq!(bounds.of_reload(&ended, 5 * SECOND), Some(Cause::ReloadEnded));
        assert!(Cause::ReloadEnded.needs_restart());
    }
}
