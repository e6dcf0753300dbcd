//! The hand-over from host to host: what runs finishes, who fails before it is ready changes nothing, and sockets that others
//! opened are used.

use bytes::Bytes;
use hotbay_tests::{Event, Host, How, Signal, guests};
use rustix::io::{FdFlags, fcntl_setfd};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    net::TcpListener,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, net::UnixDatagram},
    },
    path::{Path, PathBuf},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

async fn probe() -> Host {
    Host::builder().service("probe", &guests::fixture("probe")).start().await
}

/// Where the host of a bay is reached by the next one.
fn socket(state: &Path, bay: &Path) -> PathBuf {
    let whole = fs::canonicalize(bay).expect("a bay");
    let id = hex::encode(Sha256::digest(whole.as_os_str().as_bytes()));
    state.join(format!("handover-{}.sock", &id[..12]))
}

fn says(words: &'static str) -> impl Fn(&Event) -> bool {
    move |event| event.message.contains(words)
}

async fn handed_over(host: &Host) {
    host.log().wait("the line on the hand-over", says("handed over")).await;
}

/// It serves, and the next host takes over from it.
async fn serves_on(mut host: Host) {
    assert_eq!(host.get("/probe/marker").await.status, 200);
    let next = host.successor();
    next.table().await;
    assert_eq!(host.exit_status().await.code(), Some(0), "{}", host.told());
    assert_eq!(next.get("/probe/marker").await.status, 200);
    next.stop().await;
}

#[tokio::test]
async fn a_long_stream_finishes_on_the_old_host() {
    for h2 in [false, true] {
        let mut host = probe().await;
        let (request, mut body) = host.request("POST", "/probe/echo").writing();
        let mut reply = if h2 { request.h2() } else { request }.open().await;
        body.send_data(Bytes::from_static(b"before")).await.expect("it is read");
        assert_eq!(reply.chunk().await.expect("an open body"), Some(Bytes::from_static(b"before")));

        let next = host.successor();
        assert!(next.table().await.starts_with(&format!("listening on http://{}\n", host.address())));
        handed_over(&host).await;
        for piece in ["after", "and more"] {
            assert_eq!(next.get("/probe/marker").await.status, 200);
            // The old one, which drains, would say that it is not ready.
            assert_eq!(next.admin().stranger("GET", "/readyz").send().await.status, 200);
            body.send_data(Bytes::from(piece)).await.expect("it is still read");
            assert_eq!(reply.chunk().await.expect("an open body"), Some(Bytes::from(piece)), "h2: {h2}");
        }
        assert!(host.is_alive());
        drop(body);
        assert_eq!(reply.chunk().await.expect("a whole body"), None);
        drop(reply);
        assert_eq!(host.exit_status().await.code(), Some(0), "h2: {h2}\n{}", host.told());
        next.stop().await;
    }
}

/// Guards the grace in `http::connection`: without it a request meets the connection as it closes.
#[tokio::test]
async fn connections_at_rest_get_an_answer_to_one_more_request() {
    let mut host = probe().await;
    let mut kept = host.connect().await;
    assert_eq!(kept.get("/probe/marker").await.header("connection"), "");
    // One that has not said anything yet. What is asked after it is accepted after it.
    let mut silent = host.socket().await;
    assert_eq!(host.get("/probe/marker").await.status, 200);
    let next = host.successor();
    next.table().await;
    handed_over(&host).await;

    let last = kept.get("/probe/marker").await;
    assert_eq!((last.status, last.header("connection")), (200, "close"));
    kept.closed().await;
    silent.write_all(b"GET /probe/marker HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("an open connection");
    let mut answer = String::new();
    silent.read_to_string(&mut answer).await.expect("an answer, and the end");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(host.exit_status().await.code(), Some(0));
    next.stop().await;
}

#[tokio::test]
async fn connections_at_rest_hold_up_no_end() {
    let mut host = Host::builder().service("probe", &guests::fixture("probe")).config("drain = \"600ms\"\n").start().await;
    let mut kept = host.connect().await;
    assert_eq!(kept.get("/probe/marker").await.status, 200);
    let next = host.successor();
    next.table().await;
    assert_eq!(host.exit_status().await.code(), Some(0));
    host.log().wait("the end in time", says("everything has finished")).await;
    kept.closed().await;
}

#[tokio::test]
async fn a_new_host_that_is_killed_while_it_loads_changes_nothing() {
    let host = Host::builder().own_state().service("probe", &guests::fixture("probe")).start().await;
    // Builds that nobody has compiled yet, so that loading takes its time.
    for n in 0..4 {
        host.place(&format!("slow-{n}"), &guests::revision("probe", 100 + n), How::Rename);
    }
    let mut next = host.successor();
    next.log().wait("the line on loading", says("loading the bay to take over")).await;
    next.signal(Signal::KILL);
    next.exit_status().await;
    assert_eq!(next.stdout(), "", "it had taken over already");
    host.log().wait("the line on the failure", says("the take-over failed")).await;
    for n in 0..4 {
        host.wait_for(&format!("slow-{n}"), "published").await;
    }
    serves_on(host).await;
}

#[tokio::test]
async fn a_signal_while_it_loads_ends_the_new_host_alone() {
    let host = Host::builder().own_state().service("probe", &guests::fixture("probe")).start().await;
    for n in 0..4 {
        host.place(&format!("slow-{n}"), &guests::revision("probe", 200 + n), How::Rename);
    }
    let mut next = host.successor();
    next.log().wait("the line on loading", says("loading the bay to take over")).await;
    next.signal(Signal::TERM);
    next.exit_status().await;
    assert_eq!(next.stdout(), "", "it had taken over already");
    for n in 0..4 {
        host.wait_for(&format!("slow-{n}"), "published").await;
    }
    serves_on(host).await;
}

#[tokio::test]
async fn a_service_that_the_new_host_rejects_keeps_the_old_one() {
    let host = Host::builder().own_state().service("probe", &guests::fixture("probe")).start().await;
    host.place("probe", b"no build at all", How::Rename);
    host.wait_rejected("probe").await;
    // Else the new host serves the last good revision too, out of its history.
    fs::remove_dir_all(host.state().join("history")).expect("a history");
    let mut next = host.successor();
    assert_eq!(next.exit_status().await.code(), Some(1), "{}", next.told());
    next.log().wait("why it ended", says("the running host serves probe and this one would not")).await;
    host.log().wait("the line on the failure", says("the take-over failed")).await;
    assert_eq!(next.stdout(), "");
    // Mended, it works.
    host.swap("probe", &guests::revision("probe", 1), How::Rename).await;
    serves_on(host).await;
}

#[tokio::test]
async fn a_stranger_at_the_socket_is_answered_kindly_and_changes_nothing() {
    let host = probe().await;
    let path = socket(&host.state(), host.bay());
    let framed = |message: &str| [&u32::try_from(message.len()).unwrap_or_default().to_be_bytes(), message.as_bytes()].concat();
    let newer = framed(r#"{"protocol":999,"version":"9.0.0","bay":[1,2],"more":{}}"#);
    let other = framed(r#"{"protocol":1,"version":"0.1.0","bay":"000000000000"}"#);
    let cut = framed(r#"{"protocol":1}"#)[..9].to_vec();
    for (sent, answered) in [
        (newer, None),
        (framed(r#"{"protocol":999,"version":"9.0.0","more":{}}"#), Some("speaks hand-over protocol 1 and not 999")),
        (other, Some("serves another bay")),
        (b"\xff\xff\xff\xffmuch".to_vec(), None),
        (b"\0\0\0\x04what".to_vec(), None),
        (cut, None),
        (Vec::new(), None),
    ] {
        let mut stranger = UnixStream::connect(&path).await.expect("the host's socket");
        stranger.write_all(&sent).await.expect("it is read");
        stranger.shutdown().await.expect("an open connection");
        let mut answer = Vec::new();
        stranger.read_to_end(&mut answer).await.expect("an answer, or the end");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answered.map_or(answer.is_empty(), |words| answer.contains(words)), "{sent:?}: {answer}");
    }
    serves_on(host).await;
}

#[tokio::test]
async fn a_host_that_answers_strangely_is_not_taken_over() {
    let builder = Host::builder().own_state().service("probe", &guests::fixture("probe"));
    let state = builder.bay_path().join(".hotbay");
    let nobody = builder.clone().args(["--take-over"]).run().await;
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("nothing to take over") && nobody.stdout.is_empty(), "{}", nobody.stderr);

    fs::create_dir_all(&state).expect("a state folder");
    for (answer, words) in [
        (&b"\0\0\0\x02{}"[..], "not understood"),
        (b"", "has hung up"),
        (b"\0\0\0\x40{\"message\":\"offer\",\"version\":\"2.0.0\",\"sockets\":[\"public\"],\"m\":1}", "0 sockets came"),
    ] {
        let path = socket(&state, builder.bay_path());
        let _ = fs::remove_file(&path);
        let old = UnixListener::bind(&path).expect("a socket");
        let answering = async {
            let (mut stream, _) = old.accept().await.expect("a new host");
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(answer).await.expect("it is read");
            stream
        };
        let (new, _) = tokio::join!(builder.clone().args(["--take-over"]).run(), async { drop(answering.await) });
        assert_eq!(new.code, Some(1));
        assert!(new.stderr.contains(words) && new.stdout.is_empty(), "{}", new.stderr);
    }
    // The socket of the last one is still there, as after a crash.
    serves_on(builder.start().await).await;
}

#[tokio::test]
async fn a_second_host_of_the_bay_leaves_the_first_its_post() {
    let mut first = probe().await;
    let second = first.again().start().await;
    second.log().wait("the line on the post", says("no other can take over from it")).await;
    let found = hotbay_tests::host::ask(&first, ["ps", "--json"]).await;
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    second.log().wait("the line on the commands", says("commands do not find this admin listener")).await;
    let next = second.successor();
    next.table().await;
    assert_eq!(first.exit_status().await.code(), Some(0), "{}", first.told());
    assert_eq!(second.get("/probe/marker").await.status, 200);
    // One that ends leaves the post of another alone.
    second.stop().await;
    assert!(socket(&next.state(), next.bay()).exists());
    let (state, bay) = (next.state(), next.bay().to_owned());
    next.stop().await;
    assert!(!socket(&state, &bay).exists());
}

#[tokio::test]
async fn a_rejected_build_whose_last_good_revision_is_kept_holds_up_no_hand_over() {
    let host = Host::builder().own_state().service("probe", &guests::fixture("probe")).start().await;
    host.place("probe", b"no build at all", How::Rename);
    host.wait_rejected("probe").await;
    serves_on(host).await;
}

/// Guards `Predecessor::relieve`: a host that dies while the next one loads is replaced all the same.
#[tokio::test]
async fn a_host_that_dies_while_the_next_one_loads_is_replaced() {
    let mut host = Host::builder().own_state().service("probe", &guests::fixture("probe")).start().await;
    for n in 0..4 {
        host.place(&format!("slow-{n}"), &guests::revision("probe", 300 + n), How::Rename);
    }
    let next = host.successor();
    next.log().wait("the line on loading", says("loading the bay to take over")).await;
    host.signal(Signal::KILL);
    host.exit_status().await;
    assert_eq!(next.get("/probe/marker").await.status, 200);
    next.log().wait("what it did", says("ended before it could hand over")).await;
    serves_on(next).await;
}

/// Starts the host as a service manager would, with `sockets` as its descriptors from 3 on.
fn activated(sockets: &[&TcpListener], names: Option<&str>) -> hotbay_tests::Builder {
    let mut script = String::new();
    for (at, socket) in sockets.iter().enumerate() {
        fcntl_setfd(socket, FdFlags::empty()).expect("a socket that is passed on");
        script.push_str(&format!("exec {}<&{}; ", 3 + at, socket.as_raw_fd()));
    }
    let names = names.map(|names| format!("LISTEN_FDNAMES={names} ")).unwrap_or_default();
    script.push_str(&format!("LISTEN_PID=$$ LISTEN_FDS={} {names}exec \"$@\"", sockets.len()));
    Host::builder().service("probe", &guests::fixture("probe")).wrapped(["bash", "-c", &script, "bash"])
}

#[tokio::test]
async fn a_socket_of_the_service_manager_is_used() {
    for names in [None, Some("public"), Some("hotbay.socket")] {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let host = activated(&[&socket], names).start().await;
        // The harness says --listen too; the first line tells which one counts.
        assert_eq!(host.address(), socket.local_addr().expect("an address"), "{names:?}");
        assert_eq!(host.get("/probe/marker").await.status, 200);
        host.stop().await;
    }
}

#[tokio::test]
async fn sockets_that_cannot_be_used_are_named() {
    let (one, two) = (TcpListener::bind("127.0.0.1:0").expect("a socket"), TcpListener::bind("127.0.0.1:0").expect("a socket"));
    let twice = activated(&[&one, &two], Some("public:public")).run().await;
    assert!(twice.code == Some(1) && twice.stderr.contains("FileDescriptorName="), "{}", twice.stderr);
    let wrapper = ["bash", "-c", "exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"", "bash"];
    let none = Host::builder().wrapped(wrapper).run().await;
    assert!(none.code == Some(1) && none.stderr.contains("no TCP socket that listens"), "{}", none.stderr);
}

#[tokio::test]
async fn the_service_manager_hears_who_is_ready_and_who_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(hotbay_tests::PATIENCE)).expect("a socket");
    let heard = || {
        let mut text = [0; 1024];
        let read = manager.recv(&mut text).expect("something is said in time");
        String::from_utf8_lossy(&text[..read]).into_owned()
    };
    let path = path.to_str().expect("a path in UTF-8");
    let mut host = Host::builder().service("probe", &guests::fixture("probe")).env("NOTIFY_SOCKET", path).start().await;
    assert_eq!(heard(), "READY=1\n");
    let next = host.successor();
    next.table().await;
    assert_eq!(host.exit_status().await.code(), Some(0));
    assert_eq!(heard(), format!("MAINPID={}\nREADY=1\n", next.pid()));
    next.stop().await;
    // Nothing between: a unit would end with the words of its old process.
    assert_eq!(heard(), "STOPPING=1\n");
    manager.set_nonblocking(true).expect("a socket");
    assert!(manager.recv(&mut [0; 64]).is_err(), "more was said");
}
