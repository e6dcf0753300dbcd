//! Torture line 3 and promises 1 and 2: no request fails because of a swap, and each runs wholly on one revision that was in force when it began.
//!
//! `SWAPS` says how many swaps (300 unless set); the requests grow with them. The figures are printed.

mod leaks;

use anyhow::{Context, Result, ensure};
use hotbay_tests::{
    Host, How, guests,
    load::{self, Answer, Connections, Load, Tally, Until},
};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const SWAPS: u32 = 300;
/// Requests that there are at least for each swap: 50,000 for 300 swaps.
const REQUESTS_A_SWAP: u64 = 167;
/// Clients that keep their connections, and clients that do not.
const KEPT: usize = 8;
const NEW: usize = 4;
/// The body that streams through a drain, how many of them there are, and after how much of it the swap begins.
const STREAM: u64 = 100 << 20;
const STREAMS: u32 = 3;
const SWAP_AT: u64 = 10 << 20;
/// While a build is away, so many requests are answered before it comes back…
const ANSWERS_WITHOUT_BUILD: u64 = 40;
/// …unless they take so long that the grace of a second comes near.
const ABSENCE_MAX: Duration = Duration::from_millis(300);

/// A way of placing a file. Each one meets what it is about: an overwrite a regular file, a switch a link.
#[derive(Debug, Clone, Copy)]
enum Way {
    Place(How),
    /// Deleted, missed by the host, and created again within the grace.
    PutBack,
}

const WAYS: [(&str, Way); 6] = [
    ("rename", Way::Place(How::Rename)),
    ("overwrite in place", Way::Place(How::Overwrite)),
    ("delete and create", Way::Place(How::Replace)),
    ("delete, wait, put back", Way::PutBack),
    ("a link for the file", Way::Place(How::Symlink)),
    ("symlink switch", Way::Place(How::Symlink)),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_and_each_runs_on_one_revision() {
    let swaps = std::env::var("SWAPS").map_or(SWAPS, |swaps| swaps.parse().expect("SWAPS is a number"));
    let stream_settings = "[limits]\nresponse_body = \"200MiB\"\ncpu = \"60s\"\n";
    let host = Host::builder()
        .service("busy", &guests::revision("marker", 0))
        .service("flow", &guests::revision("probe", 0))
        .settings("flow", stream_settings)
        .config("drain = \"120s\"\n")
        // The lines of the requests are left out: what the test needs of them it sees at its end of the connection.
        .log("warn,hotbay::swap=info")
        .start()
        .await;
    let seen = Seen::new(swaps);
    seen.expect(0, &guests::revision("marker", 0));

    let until = Until::stopped();
    let load = |connections, clients| {
        let load = Load { address: host.address(), path: "/busy".to_owned(), clients, connections };
        let (seen, until) = (seen.clone(), until.clone());
        tokio::spawn(async move { load::run(&load, &until, move |answer: &Answer<'_>| seen.check(answer)).await })
    };
    let (kept, new) = (load(Connections::Kept, KEPT), load(Connections::New, NEW));
    let swapping = async {
        let times = swap_many(&host, &seen, swaps).await;
        until.stop();
        times
    };
    let (times, ()) = tokio::join!(swapping, streams(&host));
    let (kept, new) = (kept.await.expect("the kept connections"), new.await.expect("the new connections"));

    print_figures(&times, &kept, &new);
    for tally in [&kept, &new] {
        assert_eq!(tally.failed, 0, "{:#?}", tally.failures);
    }
    let requests = kept.requests + new.requests;
    assert!(requests >= REQUESTS_A_SWAP * u64::from(swaps), "only {requests} requests for {swaps} swaps");
    assert!(kept.requests > 0 && new.requests > 0);
    seen.nobody_saw_the_past(&host).await;
}

/// Swaps as fast as the host publishes. Returns how long each took, and goes on until there were enough requests.
async fn swap_many(host: &Host, seen: &Seen, swaps: u32) -> Vec<(usize, Duration)> {
    let mut times = Vec::new();
    for n in 1..=seen.most {
        if n > swaps && seen.answers() >= REQUESTS_A_SWAP * u64::from(swaps) {
            break;
        }
        let build = guests::revision("marker", n);
        let revision = seen.expect(n, &build);
        let since = host.mark();
        let at = n as usize % WAYS.len();
        match WAYS[at].1 {
            Way::Place(how) => host.place("busy", &build, how),
            Way::PutBack => {
                host.remove("busy");
                seen.more_answers(ANSWERS_WITHOUT_BUILD).await;
                std::fs::write(host.build_path("busy"), &build).expect("the build is put back");
            }
        }
        let placed = Instant::now();
        let published = host.since(since).wait_published("busy", &revision).await;
        times.push((at, published.seen.saturating_duration_since(placed)));
    }
    times
}

/// Bodies that are in the middle of their way when their revision is replaced arrive whole and of one revision.
async fn streams(host: &Host) {
    let request = load::get(host.address(), &format!("/flow/stream?bytes={STREAM}"), Connections::Kept);
    for n in 0..STREAMS {
        let old = guests::digest(&guests::revision("probe", n));
        let since = host.mark();
        let mut connection = load::Connection::open(host.address()).await.expect("a connection");
        let head = connection.begin(&request).await.expect("a head");
        assert_eq!((head.status, head.revision.as_str()), (200, old.as_str()));
        let mut body = Streamed::default();
        let mut rest = connection.body(&head);
        while body.bytes < SWAP_AT {
            body.take(rest.next().await.expect("the beginning").expect("more than the beginning"));
        }
        host.swap("flow", &guests::revision("probe", n + 1), How::Rename).await;
        host.since(since).wait_for("flow", "draining").await;
        assert!(!host.since(since).states("flow").contains(&"retired".to_owned()), "retired while its body is on its way");
        while let Some(piece) = rest.next().await.expect("the rest of a body whose revision drains") {
            body.take(piece);
        }
        assert_eq!(body.bytes, STREAM);
        let marker = guests::marker(n);
        assert_eq!((body.first.as_slice(), body.last.as_slice()), (marker.as_bytes(), marker.as_bytes()));
        host.since(since).wait_retired("flow", &old).await;
    }
}

/// What is kept of a body that is too long to be kept.
#[derive(Default)]
struct Streamed {
    bytes: u64,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Streamed {
    fn take(&mut self, piece: &[u8]) {
        let marker = guests::marker(0).len();
        self.bytes += piece.len() as u64;
        let missing = marker - self.first.len();
        self.first.extend(piece.iter().take(missing));
        self.last.extend(&piece[piece.len().saturating_sub(marker)..]);
        self.last.drain(..self.last.len().saturating_sub(marker));
    }
}

/// Which revisions there are, and what the clients saw of them. The number in a revision's marker is its index.
struct Seen {
    /// The last number that there may be.
    most: u32,
    revisions: Vec<Revision>,
    answers: AtomicU64,
}

#[derive(Default)]
struct Revision {
    digest: OnceLock<String>,
    /// When the last request began that it answered, in µs since 1970; 0 for none.
    last_begun: AtomicU64,
}

impl Seen {
    fn new(swaps: u32) -> Arc<Self> {
        // Swaps beyond those asked for, where the requests are slower than the swaps.
        let most = swaps * 20 + 200;
        Arc::new(Self { most, revisions: (0..=most).map(|_| Revision::default()).collect(), answers: AtomicU64::new(0) })
    }

    /// From now on revision `n` may answer. Returns its digest.
    fn expect(&self, n: u32, build: &[u8]) -> String {
        let digest = guests::digest(build);
        self.revisions[n as usize].digest.set(digest.clone()).expect("each number is used once");
        digest
    }

    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    async fn more_answers(&self, count: u64) {
        let (before, begun) = (self.answers(), Instant::now());
        while self.answers() < before + count && begun.elapsed() < ABSENCE_MAX {
            tokio::task::yield_now().await;
        }
    }

    fn check(&self, answer: &Answer<'_>) -> Result<()> {
        let body = String::from_utf8_lossy(answer.body);
        ensure!(answer.status == 200, "status {}: {body}", answer.status);
        let (first, last) = body.split_once(' ').with_context(|| format!("an answer that is not whole: {body:?}"))?;
        ensure!(first == last, "two revisions in one answer: {body:?}");
        let number = first.strip_prefix("hotbay-marker:").context("no marker")?;
        let revision = self.revisions.get(number.parse::<usize>()?).context("an unknown revision")?;
        let digest = revision.digest.get().context("a revision that was not placed yet")?;
        ensure!(digest == answer.revision, "the header says {}, {first} is {digest}", answer.revision);
        revision.last_begun.fetch_max(micros(answer.begun), Ordering::Relaxed);
        self.answers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A revision answers nothing that began after its successor was published, let alone after it was retired.
    async fn nobody_saw_the_past(&self, host: &Host) {
        let placed: Vec<&Revision> = self.revisions.iter().take_while(|revision| revision.digest.get().is_some()).collect();
        let digest = |revision: &Revision| revision.digest.get().cloned().expect("it was placed");
        for pair in placed.windows(2) {
            host.log().wait_retired("busy", &digest(pair[0])).await;
        }
        let events = host.log().events();
        let said = |state: &str, revision: &Revision| {
            let digest = digest(revision);
            let mut found = events.iter().filter(|event| event.is("busy", state) && event.revision == digest);
            let event = found.next().unwrap_or_else(|| panic!("{digest} was never {state}"));
            assert!(found.next().is_none(), "{digest} was {state} twice");
            let timestamp = event.fields["timestamp"].as_str().expect("a timestamp");
            micros(humantime::parse_rfc3339(timestamp).expect("a timestamp of RFC 3339"))
        };
        for (n, pair) in placed.windows(2).enumerate() {
            let (old, new) = (pair[0], pair[1]);
            let (last, replaced, retired) =
                (old.last_begun.load(Ordering::Relaxed), said("published", new), said("retired", old));
            assert!(last < retired, "revision {n} answered a request that began {} µs after it was retired", last - retired);
            assert!(
                last < replaced,
                "revision {n} answered a request that began {} µs after its successor was published",
                last - replaced
            );
        }
    }
}

fn micros(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn print_figures(times: &[(usize, Duration)], kept: &Tally, new: &Tally) {
    let all = times.iter().map(|(_, time)| *time);
    println!(
        "swap under load: {} swaps, {} requests ({} on kept, {} on new connections), {} failed, {:.0} requests/s, slowest {:.0?}; \
         placed to published: {}; {STREAMS} streams of {} MiB through a drain",
        times.len(),
        kept.requests + new.requests,
        kept.requests,
        new.requests,
        kept.failed + new.failed,
        kept.rate() + new.rate(),
        kept.slowest.max(new.slowest),
        median_and_worst(all),
        STREAM >> 20,
    );
    for (at, (name, _)) in WAYS.iter().enumerate() {
        let of_way = times.iter().filter(|(way, _)| *way == at).map(|(_, time)| *time);
        println!("  {name}: {}", median_and_worst(of_way));
    }
}

fn median_and_worst(times: impl Iterator<Item = Duration>) -> String {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(worst)) => format!("median {median:.0?}, worst {worst:.0?}"),
        _ => "none".to_owned(),
    }
}
