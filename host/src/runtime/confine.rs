//! What the compiling child shuts itself into: bounds of the system, and no file, no network, no other process.
//!
//! Three layers, since kernels and containers differ in what they have: no new descriptor (a plain limit), Landlock, and a list of
//! the system calls that compiling takes. The child is ready for all of them: what it reads and writes was opened before.

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition, SeccompFilter,
    SeccompRule as Rule,
};
use std::{collections::BTreeMap, fmt::Display, io};

/// Bytes of an artifact. Machine code has some three times the bytes of its wasm, of which there are 256 MiB at most.
pub(super) const ARTIFACT_MAX: u64 = 1 << 30;

/// Least priority that still gets its share: serving comes first.
const NICE: i32 = 10;

/// The newest of Landlock's interfaces that is asked for; an older kernel gives what it has.
const LANDLOCK: ABI = ABI::V7;

/// What a clone must say to make a thread of this process, and nothing more.
const THREAD: u64 = flag(libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_FS);
/// What it must not say.
const NAMESPACES: u64 = flag(
    libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET,
);

const fn flag(flags: i32) -> u64 {
    flags.cast_unsigned() as u64
}

/// Closes what whoever started the host left open for all of its children: nothing of the host's own is open here.
#[allow(unsafe_code, reason = "the call has no safe form, since it can close what somebody else owns")]
fn close_inherited() {
    // SAFETY: this process has begun just now and has opened nothing; stdin, stdout and stderr are below the range. Before Linux
    // 5.9 there is no such call; then what was inherited stays open, of which the host itself has nothing.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3_u64, u64::from(u32::MAX), 0_u64) };
}

/// Bounds memory, computing time and what else a process may take. `seconds` are those of one core.
///
/// # Errors
/// Where the system refuses a bound; none is above what it allows anybody.
pub(super) fn bound(memory: u64, seconds: u64) -> io::Result<()> {
    close_inherited();
    let limit = |resource, value, grace: u64| {
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value.saturating_add(grace)) })
    };
    limit(Resource::As, memory, 0)?;
    // The limit counts the time of all threads, of which there is one a core. The first signal is SIGXCPU; the SIGKILL of the
    // hard limit would look like one from outside.
    let cores = std::thread::available_parallelism().map_or(1, |cores| u64::try_from(cores.get()).unwrap_or(1));
    limit(Resource::Cpu, seconds.saturating_mul(cores), 5)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, ARTIFACT_MAX, 0)?;
    // Where the kernel is out of memory the child goes before the host. Raising this is always allowed; without /proc it is not done.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Lets whoever serves go first.
pub(super) fn give_way() {
    // Refused where a lower priority is already in force; that is as good.
    let _ = rustix::process::nice(NICE);
}

/// Shuts the calling thread, and all that it starts from here on, off from files, networks and other processes. It may read and
/// write what is open. Returns what this system does not do for that.
pub(super) fn shut_off() -> Vec<String> {
    let mut lacking = Vec::new();
    let mut lacks = |what: &str, why: &dyn Display| lacking.push(format!("{what}: {why}"));
    match no_files_no_networks() {
        Ok(RulesetStatus::FullyEnforced) => {}
        Ok(RulesetStatus::PartiallyEnforced) => lacks("Landlock", &"an older one, which does less"),
        Ok(RulesetStatus::NotEnforced) => lacks("Landlock", &"not there, or not switched on"),
        Err(error) => lacks("Landlock", &error),
    }
    // Not a bound of what may be open, but of the numbers that new descriptors may have: there is none left.
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: Some(0) }) {
        lacks("the limit of open files", &error);
    }
    let program = calls().map_err(|error| error.to_string());
    if let Err(error) = program.and_then(|program| seccompiler::apply_filter(&program).map_err(|error| error.to_string())) {
        lacks("seccomp", &error);
    }
    lacking
}

/// No rule follows, so nothing of what is handled is allowed. Sets `no_new_privs` even where the kernel has no Landlock.
fn no_files_no_networks() -> Result<RulesetStatus, landlock::RulesetError> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let ruleset = ruleset.handle_access(AccessFs::from_all(LANDLOCK))?.handle_access(AccessNet::from_all(LANDLOCK))?;
    Ok(ruleset.scope(Scope::from_all(LANDLOCK))?.create()?.restrict_self()?.ruleset)
}

/// The system calls that compiling takes. All others do not exist for the child (ENOSYS), which a libc of another time takes better
/// than being killed, and which makes it start its threads by the call whose flags can be looked at.
fn calls() -> Result<BpfProgram, seccompiler::BackendError> {
    let always = [
        // What is open.
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        // Memory.
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        // Threads.
        libc::SYS_futex,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_membarrier,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_getcpu,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_exit,
        libc::SYS_exit_group,
        // Signals: a stack that is too small, an abort.
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        // Time and chance.
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_getrandom,
    ];
    let mut rules: BTreeMap<i64, Vec<Rule>> = always.into_iter().map(|call| (call, Vec::new())).collect();
    let mut only = |call, condition: Condition| Rule::new(vec![condition]).map(|rule| drop(rules.insert(call, vec![rule])));
    only(libc::SYS_clone, Condition::new(0, Len::Qword, Op::MaskedEq(THREAD | NAMESPACES), THREAD)?)?;
    // It makes code and runs none of it.
    let executable = Op::MaskedEq(flag(libc::PROT_EXEC));
    only(libc::SYS_mmap, Condition::new(2, Len::Dword, executable.clone(), 0)?)?;
    only(libc::SYS_mprotect, Condition::new(2, Len::Dword, executable, 0)?)?;
    // An abort; nobody else can be signalled.
    only(libc::SYS_tgkill, Condition::new(0, Len::Dword, Op::Eq, u64::from(std::process::id()))?)?;
    let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let filter = SeccompFilter::new(rules, absent, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    filter.try_into()
}

/// Tries what the child must not be able to do, and says for each what came of it: for tests of the real binary.
#[cfg(any(test, feature = "fault-points"))]
pub(super) mod attempts {
    use std::{fs::File, io, net::TcpStream, process::Command};

    /// A call of the system by its number; the error that it ended with, 0 where it went through.
    #[allow(unsafe_code, reason = "tests call what has no safe form, to see it refused")]
    fn call(number: i64, args: [i64; 3]) -> i32 {
        let [a, b, c] = args;
        // SAFETY: each of the calls below gets numbers and null pointers only, and touches no memory of ours.
        let outcome = unsafe { libc::syscall(number, a, b, c) };
        if outcome == -1 { io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
    }

    fn error<T>(outcome: io::Result<T>) -> i32 {
        outcome.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
    }

    /// Name and error number of each.
    pub(crate) fn all() -> Vec<(&'static str, i32)> {
        let parent = i64::from(std::os::unix::process::parent_id());
        vec![
            ("read-a-file", error(File::open("/proc/self/status"))),
            ("read-a-file-of-all", error(File::open("/etc/passwd"))),
            ("write-a-file", error(File::create("/tmp/hotbay-attempt"))),
            ("connect", error(TcpStream::connect(("127.0.0.1", 9)))),
            ("run-a-program", error(Command::new("/bin/true").spawn())),
            ("socket", call(libc::SYS_socket, [i64::from(libc::AF_INET), i64::from(libc::SOCK_DGRAM), 0])),
            ("execve", call(libc::SYS_execve, [0, 0, 0])),
            ("fork", call(libc::SYS_clone, [i64::from(libc::SIGCHLD), 0, 0])),
            ("clone3", call(libc::SYS_clone3, [0, 0, 0])),
            ("unshare", call(libc::SYS_unshare, [0, 0, 0])),
            ("ptrace", call(libc::SYS_ptrace, [16, 1, 0])),
            ("bpf", call(libc::SYS_bpf, [0, 0, 0])),
            ("mount", call(libc::SYS_mount, [0, 0, 0])),
            ("keyctl", call(libc::SYS_keyctl, [0, -3, 0])),
            ("io_uring", call(libc::SYS_io_uring_setup, [0, 0, 0])),
            ("userfaultfd", call(libc::SYS_userfaultfd, [0, 0, 0])),
            ("perf", call(libc::SYS_perf_event_open, [0, 0, 0])),
            ("memfd", call(libc::SYS_memfd_create, [0, 0, 0])),
            ("signal-the-host", call(libc::SYS_kill, [parent, 0, 0])),
            ("read-the-host", call(libc::SYS_process_vm_readv, [parent, 0, 0])),
            ("limits-of-the-host", call(libc::SYS_prlimit64, [parent, 0, 0])),
            ("executable-memory", call(libc::SYS_mmap, [0, 4096, i64::from(libc::PROT_EXEC)])),
        ]
    }

    /// Descriptors that are open beside the three of every process.
    #[cfg(feature = "fault-points")]
    pub(crate) fn open_files() -> usize {
        (3..256).filter(|fd| call(libc::SYS_fcntl, [*fd, i64::from(libc::F_GETFD), 0]) == 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// What is shut off is a thread, which ends with the test.
    fn shut<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        thread::spawn(work).join().unwrap()
    }

    fn apply(filter: Result<BpfProgram, seccompiler::BackendError>) {
        seccompiler::apply_filter(&filter.unwrap()).unwrap();
    }

    #[test]
    fn landlock_by_itself_leaves_no_file_and_no_network() {
        let (status, read, connected) = shut(|| {
            let status = no_files_no_networks().unwrap();
            let read = std::fs::read("/proc/self/status").map_err(|error| error.kind());
            let connected = std::net::TcpStream::connect(("127.0.0.1", 9)).map_err(|error| error.kind());
            (status, read, connected)
        });
        if status == RulesetStatus::NotEnforced {
            return println!("skipped: this kernel has no Landlock");
        }
        assert_eq!(read, Err(io::ErrorKind::PermissionDenied));
        assert_eq!(connected.err(), Some(io::ErrorKind::PermissionDenied));
    }

    #[test]
    fn calls_that_compiling_does_not_take_are_not_there() {
        let tried = shut(|| {
            apply(calls());
            attempts::all()
        });
        for (what, error) in tried {
            assert_eq!(error, libc::ENOSYS, "{what}");
        }
    }

    #[test]
    fn threads_memory_and_chance_are_there() {
        let sum = shut(|| {
            apply(calls());
            let threads: Vec<_> = (0..4).map(|n| thread::spawn(move || vec![n; 1 << 20].into_iter().sum::<u64>())).collect();
            let sum: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            getrandom::fill(&mut [0; 8]).unwrap();
            sum
        });
        assert_eq!(sum, 6 << 20);
    }

    /// As in a container that lets nobody use Landlock or seccomp.
    #[test]
    fn what_the_system_lacks_is_told_and_no_reason_to_end() {
        let lacking = shut(|| {
            let none = [libc::SYS_landlock_create_ruleset, libc::SYS_seccomp].map(|call| (call, Vec::new()));
            let (absent, arch) = (SeccompAction::Errno(libc::ENOSYS.cast_unsigned()), std::env::consts::ARCH.try_into().unwrap());
            apply(SeccompFilter::new(none.into(), SeccompAction::Allow, absent, arch).and_then(TryInto::try_into));
            [no_files_no_networks().map(|status| format!("{status:?}")).unwrap_or_else(|error| error.to_string())]
                .into_iter()
                .chain(seccompiler::apply_filter(&calls().unwrap()).err().map(|error| error.to_string()))
                .collect::<Vec<_>>()
        });
        assert_eq!(lacking.len(), 2, "{lacking:?}");
        assert_eq!(lacking.first().map(String::as_str), Some("NotEnforced"));
    }
}
