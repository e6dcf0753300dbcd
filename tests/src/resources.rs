//! What a process holds, read from `/proc`.

use std::fs;

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Resident memory in bytes.
    pub resident: u64,
    /// Open file descriptors.
    pub descriptors: usize,
    /// Memory mappings.
    pub mappings: usize,
    /// Threads.
    pub threads: usize,
    /// CPU time used so far, user and system, in clock ticks.
    pub cpu_ticks: u64,
    /// The part of it that the kernel used.
    pub system_ticks: u64,
}

impl Resources {
    /// Reads those of process `pid`, which must be alive.
    pub fn of(pid: u32) -> Self {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}; has the host ended?"))
        };
        let count = |folder: &str| fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count);
        let status = read("status");
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        // The second field is the command in parentheses and may hold blanks; utime and stime are the 12th and 13th after it.
        let stat = read("stat");
        let (_, after) = stat.rsplit_once(')').expect("a command in parentheses");
        let mut ticks = after.split_whitespace().skip(11).filter_map(|field| field.parse::<u64>().ok());
        let (user, system) = (ticks.next().expect("utime"), ticks.next().expect("stime"));
        Self {
            resident: resident.expect("VmRSS") << 10,
            descriptors: count("fd"),
            mappings: read("maps").lines().count(),
            threads: count("task"),
            cpu_ticks: user + system,
            system_ticks: system,
        }
    }
}

/// How often the threads of process `pid` have given the CPU up to wait for something: another thread, a disk, a socket.
pub fn waits(pid: u32) -> u64 {
    let of_thread = |thread: fs::DirEntry| {
        // A thread may have ended by now.
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
    };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(of_thread).sum()
}
