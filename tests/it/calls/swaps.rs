//! The callee is swapped while it is called: no call fails, each is of one revision, and a long answer arrives whole.

use super::{GRANTS, callers};
use crate::outbound::{FETCHERS, counted};
use anyhow::{Context, Result, ensure};
use hotbay_tests::{How, guests};
use serde_json::Value;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

const SWAPS: u32 = 200;
/// Clients of each caller.
const CLIENTS: usize = 4;
/// Longer than what lies between the two guests and the client, so that its callee is at work while it is swapped.
const LONG: u64 = 30 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_its_callee_is_swapped() {
    let host = callers(GRANTS).service("stock", &guests::revision("marker", 0)).log("warn,hotbay::swap=info").start().await;
    let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for service in FETCHERS {
        for _ in 0..CLIENTS {
            let (mut connection, over, calls) = (host.connect().await, over.clone(), calls.clone());
            clients.push(tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let request = connection.request("GET", &format!("/{service}/get")).header("x-authority", "stock.internal");
                    let answer = connection.try_send(request).await?;
                    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
                    of_one_revision(&answer.json()).with_context(|| answer.text())?;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            }));
        }
    }
    for n in 1..=SWAPS {
        host.swap("stock", &guests::revision("marker", n), How::Rename).await;
        let seen = calls.load(Ordering::Relaxed);
        // Each revision is called under load, or a client has failed.
        while calls.load(Ordering::Relaxed) < seen + 10 && !clients.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client").expect("no call fails");
    }
    let calls = calls.load(Ordering::Relaxed);
    println!("{SWAPS} swaps of a callee under load: {calls} calls, 0 failed");
    assert!(calls >= 10 * u64::from(SWAPS), "{calls}");
    assert_eq!(counted(&host, "hotbay_calls_total", &["code_class=\"5xx\""]).await, 0.0);
    assert_eq!(counted(&host, "hotbay_calls_total", &["code_class=\"none\""]).await, 0.0);
}

fn of_one_revision(said: &Value) -> Result<()> {
    ensure!(said["status"] == 200 && said["broke"].is_null());
    let (first, last) = said["body"].as_str().and_then(|body| body.split_once(' ')).context("an answer that is not whole")?;
    ensure!(first == last && first.starts_with("hotbay-marker:"), "two revisions in one answer");
    Ok(())
}

#[tokio::test]
async fn an_answer_that_streams_outlives_the_swap_of_its_callee() {
    let host = callers(GRANTS).service("stock", &guests::revision("probe", 1)).start().await;
    for (last, service) in (1..).zip(FETCHERS) {
        let request = host.request("GET", &format!("/{service}/pass")).header("x-authority", "stock.internal");
        let mut reply = request.header("x-path", &format!("/stream?bytes={LONG}")).open().await;
        let first = reply.chunk().await.expect("a piece").expect("the beginning");
        assert!(first.starts_with(guests::marker(last).as_bytes()), "{service}");
        let mark = host.mark();
        host.swap("stock", &guests::revision("probe", last + 1), How::Rename).await;
        host.since(mark).wait_for("stock", "draining").await;
        assert!(!host.since(mark).states("stock").contains(&"retired".to_owned()), "retired while its answer is on its way");
        let rest = reply.whole().await.expect("the rest of an answer whose revision drains").body;
        assert_eq!((first.len() + rest.len()) as u64, LONG, "{service}");
        assert!(rest.ends_with(guests::marker(last).as_bytes()), "{service}: of one revision");
        host.since(mark).wait_retired("stock", &guests::digest(&guests::revision("probe", last))).await;
    }
}
