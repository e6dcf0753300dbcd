//! What the machine has, for the defaults that depend on it.

use rustix::process::{Resource, getrlimit};
use std::{fs, path::Path};

/// Bytes of memory where the system does not say how much there is.
const MEMORY_UNKNOWN: u64 = 4 << 30;

/// Bytes of memory that this process may use: the machine's, or its container's where that has less.
pub(super) fn memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text)).unwrap_or(MEMORY_UNKNOWN);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    container(&groups, |file| fs::read_to_string(file).ok()).map_or(machine, |container| container.min(machine))
}

/// Files that this process may have open once it has raised its limit as far as it may.
pub(super) fn descriptors() -> u32 {
    // No limit is a large one.
    getrlimit(Resource::Nofile).maximum.and_then(|most| u32::try_from(most).ok()).unwrap_or(u32::MAX)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

/// The least limit of the control groups that the process is in, of version 2 or 1. A group holds those below it too.
fn container(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            some if some.split(',').any(|one| one == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        let within = Path::new(root).join(group.trim_start_matches('/'));
        let read = |folder: &Path| read(&folder.join(file))?.trim().parse::<u64>().ok();
        within.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(read).collect()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_something() {
        assert!(memory() > 1 << 20);
        assert!(descriptors() > 16);
        assert_eq!(total("MemFree:  1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
    }

    #[test]
    fn the_least_limit_of_the_groups_counts() {
        let files = [
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "1000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n"),
        ];
        let read = |path: &Path| files.iter().find(|(file, _)| path == Path::new(file)).map(|(_, text)| (*text).to_owned());
        assert_eq!(container("0::/a/b\n", read), Some(1000));
        assert_eq!(container("5:cpu,memory:/\n2:freezer:/\n", read), Some(2000));
        assert_eq!(container("0::/c\n", read), None);
    }
}
