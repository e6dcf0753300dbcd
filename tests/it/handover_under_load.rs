//! No request fails because the host itself is replaced: ten hosts one after another, under full load.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hotbay_tests::{
    Host, PATIENCE, guests,
    load::{self, Answer, Connections, Load, Until},
};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};
use tokio::net::TcpStream;

const HANDOVERS: u32 = 10;
const KEPT: usize = 8;
const NEW: usize = 4;
const HTTP2: usize = 2;
/// Requests that each host answers at least on its way, so that none is replaced before it was used.
const REQUESTS_A_HOST: u64 = 3000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_hosts_in_a_row_and_no_request_fails() {
    let build = guests::revision("marker", 7);
    let builder = Host::builder().service("busy", &build).service("probe", &guests::fixture("probe"));
    let mut host = builder.log("warn,hotbay=info,hotbay::request=warn").start().await;
    let (address, until) = (host.address(), Until::stopped());
    let load = |connections, clients| {
        let load = Load { address, path: "/busy".to_owned(), clients, connections };
        let until = until.clone();
        tokio::spawn(async move { load::run(&load, &until, |answer: &Answer<'_>| check(answer.status, answer.body)).await })
    };
    let (kept, new) = (load(Connections::Kept, KEPT), load(Connections::New, NEW));
    let stopped = Arc::new(AtomicBool::new(false));
    let http2: Vec<_> = (0..HTTP2).map(|_| tokio::spawn(http2_client(address, stopped.clone()))).collect();

    let mut took = Vec::new();
    for n in 1..=HANDOVERS {
        let (before, begun) = (until.begun(), Instant::now());
        let next = host.successor();
        next.table().await;
        took.push(begun.elapsed());
        let status = host.exit_status().await;
        assert_eq!(status.code(), Some(0), "host {n}: {status}\n{}", host.told());
        let waiting = Instant::now();
        while until.begun() < before + REQUESTS_A_HOST {
            assert!(waiting.elapsed() < PATIENCE, "host {n} answers nothing\n{}", next.told());
            tokio::task::yield_now().await;
        }
        host = next;
    }
    until.stop();
    stopped.store(true, Ordering::Relaxed);
    let (kept, new) = (kept.await.expect("the kept connections"), new.await.expect("the new connections"));
    let (mut asked, mut failures) = (0, Vec::new());
    for client in http2 {
        let (requests, failed) = client.await.expect("a client of HTTP/2");
        asked += requests;
        failures.extend(failed);
    }
    let failed = kept.failed + new.failed + failures.len() as u64;
    took.sort_unstable();
    println!(
        "{HANDOVERS} take-overs in a row: {} requests ({} on kept, {} on new connections, {asked} over HTTP/2), {failed} failed, \
         slowest {:.0?}; started to taken over: median {:.0?}, worst {:.0?}",
        kept.requests + new.requests + asked,
        kept.requests,
        new.requests,
        kept.slowest.max(new.slowest),
        took[took.len() / 2],
        took[took.len() - 1],
    );
    assert_eq!(failed, 0, "{:#?}\n{:#?}\n{failures:#?}", kept.failures, new.failures);
    assert!(kept.requests > 0 && new.requests > 0 && asked > 0);
    host.stop().await;
}

fn check(status: u16, body: &[u8]) -> Result<()> {
    let expected = format!("{0} {0}", guests::marker(7));
    ensure!(status == 200 && body == expected.as_bytes(), "status {status}: {:?}", String::from_utf8_lossy(body));
    Ok(())
}

/// Asks on one connection for as long as the host keeps it, as a pool of connections does: a request that was never sent, since
/// the host has said that it goes away, is sent on the next connection. What was sent must be answered.
async fn http2_client(address: SocketAddr, stopped: Arc<AtomicBool>) -> (u64, Vec<String>) {
    let (mut requests, mut failures) = (0, Vec::new());
    let mut kept = None;
    while !stopped.load(Ordering::Relaxed) {
        requests += 1;
        if let Err(error) = http2_request(address, &mut kept).await {
            failures.push(format!("{error:#}"));
            kept = None;
        }
    }
    (requests, failures)
}

async fn http2_request(address: SocketAddr, kept: &mut Option<SendRequest<Empty<Bytes>>>) -> Result<()> {
    loop {
        let mut sender = match kept.take() {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(address).await.context("connecting")?;
                let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                sender
            }
        };
        if sender.ready().await.is_err() {
            continue;
        }
        let request = http::Request::get(format!("http://{address}/busy")).body(Empty::new())?;
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => match error.take_message() {
                Some(_) => continue,
                None => return Err(error.into_error()).context("the request"),
            },
        };
        let status = response.status().as_u16();
        check(status, &response.into_body().collect().await.context("the body")?.to_bytes())?;
        *kept = Some(sender);
        return Ok(());
    }
}
