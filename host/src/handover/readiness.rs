//! What the service manager is told (sd_notify(3)). Without `NOTIFY_SOCKET` nobody listens and nothing is said.

use sd_notify::NotifyState;
use tracing::warn;

/// This host serves. One that has taken over is the unit's main process from now on, else the unit would end with the old one.
pub fn ready(took_over: bool) {
    match took_over {
        true => tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]),
        false => tell(&[NotifyState::Ready]),
    }
}

/// This host ends, and nobody has taken over from it.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        warn!(%error, "the service manager cannot be told how this host is (NOTIFY_SOCKET)");
    }
}
