//! Points at which a test can have the host killed, compiled in with the feature `fault-points` alone: no release has them.

/// Ends the process as `kill -9` does, where `HOTBAY_FAULT_POINT` names this point.
#[cfg(feature = "fault-points")]
pub(crate) fn reached(point: &str) {
    if std::env::var("HOTBAY_FAULT_POINT").is_ok_and(|named| named == point) {
        // The signal comes before the call returns; if it could not be sent, the test sees a host that lives.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(feature = "fault-points"))]
pub(crate) fn reached(_point: &str) {}
