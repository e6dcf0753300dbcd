//! Events of the admin listener: each state of a swap, resumed where a reader stood, and what was lost is told.

use hotbay_tests::{Host, How, guests};
use serde_json::json;

async fn host() -> Host {
    Host::builder().service("probe", &guests::fixture("probe")).start().await
}

#[tokio::test]
async fn each_state_of_a_swap_is_an_event() {
    let host = host().await;
    let admin = host.admin();
    let mut events = admin.follow("/v1/events", None).await;
    let first = events.until("probe", "published").await;
    let next = guests::revision("probe", 2);
    host.place("probe", &next, How::Rename);
    let mut states = Vec::new();
    let mut last = first.id.expect("a number");
    while states.last().is_none_or(|state| state != "retired") {
        let message = events.expect().await;
        assert_eq!(message.id, Some(last + 1), "numbers have no gaps: {message:?}");
        assert_eq!((&message.data["sequence"], &message.data["state"]), (&json!(message.id), &json!(message.event)));
        assert!(
            message.data["at"].as_str().is_some_and(|at| at.ends_with('Z')) && message.data["took_us"].is_u64(),
            "{message:?}"
        );
        last += 1;
        states.push(message.event);
    }
    assert_eq!(states, ["detected", "reading", "compiling", "linking", "warming", "published", "draining", "retired"]);
    let mark = host.mark();
    host.place("probe", b"no wasm", How::Rename);
    let rejected = events.until("probe", "rejected").await.data;
    let logged = host.since(mark).wait_rejected("probe").await;
    assert_eq!((&rejected["reason"], &rejected["remedy"]), (&json!(logged.reason), &json!(logged.remedy)));
}

#[tokio::test]
async fn a_reader_goes_on_where_it_stood() {
    let host = host().await;
    let admin = host.admin();
    let all = admin.follow("/v1/events?follow=false", None).await.rest().await;
    assert_eq!(all[0].id, Some(1), "{all:?}");
    let after = admin.follow("/v1/events?follow=false", Some(2)).await.rest().await;
    assert_eq!(after, all[2..]);
    let after = admin.follow("/v1/events?follow=false&since=3", None).await.rest().await;
    assert_eq!(after, all[3..]);
    let after = admin.follow("/v1/events?follow=false&since=3", Some(4)).await.rest().await;
    assert_eq!(after, all[4..], "Last-Event-ID is the newer");
    // What happens between two connections is not lost.
    let last = all.last().and_then(|message| message.id);
    host.swap("probe", &guests::revision("probe", 2), How::Rename).await;
    assert_eq!(admin.follow("/v1/events", last).await.expect().await.event, "detected");
    // A number of a host before this one.
    let after = admin.follow("/v1/events?follow=false", Some(1_000_000)).await.rest().await;
    assert_eq!(after[..all.len()], all);
    host.swap("other", &guests::fixture("probe"), How::Rename).await;
    let of_one = admin.follow("/v1/events?follow=false&service=other", None).await.rest().await;
    assert!(!of_one.is_empty() && of_one.iter().all(|message| message.data["service"] == "other"), "{of_one:?}");
    for (target, id) in [("/v1/events", "x"), ("/v1/events", "-1"), ("/v1/events?since=x", "1"), ("/v1/events?sinze=1", "1")] {
        let answer = admin.request("GET", target).header("last-event-id", id).send().await;
        assert_eq!((answer.status, answer.header("content-type")), (400, "application/problem+json"), "{target} {id}");
    }
}

/// Guards the ring in host/src/deploy/event.rs.
#[tokio::test]
async fn who_asks_for_more_than_is_kept_is_told_how_many_are_lost() {
    const FILES: u64 = 1100;
    let host = host().await;
    let admin = host.admin();
    let before = admin.follow("/v1/events?follow=false", None).await.rest().await;
    let seen = before.last().and_then(|message| message.id).expect("a number");
    let mut events = admin.follow("/v1/events", Some(seen)).await;
    // Each of these is an event of its own: its name is not allowed.
    (0..FILES).for_each(|n| std::fs::write(host.bay().join(format!("N{n}.wasm")), "").expect("a file"));
    let mut told = 0;
    while told < FILES {
        let message = events.expect().await;
        told += message.data["lost"].as_u64().unwrap_or(1);
    }
    let late = admin.follow("/v1/events?follow=false", Some(seen)).await.rest().await;
    assert_eq!((late[0].event.as_str(), &late[0].data, late[0].id), ("lost", &json!({ "lost": FILES - 1024 }), None));
    assert_eq!(late[1].id, Some(seen + FILES - 1024 + 1));
    assert_eq!(late.len(), 1025);
    let kept = admin.follow("/v1/events?follow=false", None).await.rest().await;
    assert_eq!(kept, late[1..], "who asks for none of the old ones has lost none");
}

/// Guards `Admin::stream_place` in host/src/admin/mod.rs.
#[tokio::test]
async fn readers_of_events_leave_room_for_questions() {
    let host = host().await;
    let admin = host.admin();
    let mut readers = Vec::new();
    for _ in 0..64 {
        readers.push(admin.follow("/v1/events", None).await);
    }
    let answer = admin.get("/v1/events").await;
    assert_eq!((answer.status, answer.header("content-type")), (503, "application/problem+json"), "{}", answer.text());
    assert_eq!(admin.get("/v1/services").await.status, 200);
    readers.clear();
    host.stop().await;
}
