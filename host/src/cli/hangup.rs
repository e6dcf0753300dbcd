//! SIGHUP: the end of a terminal is the end of what runs in it, unless that was started to outlive it.

use std::fs;

/// Whether it was ignored when the process began, as `nohup` and `trap '' HUP` have it. Whoever would listen to it all the same takes that back.
pub(super) fn is_ignored() -> bool {
    // The lowest bit of the mask in proc_pid_status(5) is signal 1.
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
        mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & 1 == 1)
    })
}
