//! Points at which a test can have the host killed, compiled in with the feature `fault-points` alone: no release has them.

/// Ends the process as `kill -9` does, where `HOTBAY_FAULT_POINT` names this point and the file that `HOTBAY_FAULT_ARMED` names
/// is there.
#[cfg(feature = "fault-points")]
pub(crate) fn reached(point: &str) {
    let named = std::env::var("HOTBAY_FAULT_POINT").is_ok_and(|named| named == point);
    if named && std::env::var_os("HOTBAY_FAULT_ARMED").is_some_and(|file| std::path::Path::new(&file).exists()) {
        // The signal comes before the call returns; if it could not be sent, the test sees a host that lives.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(feature = "fault-points"))]
pub(crate) fn reached(_point: &str) {}
