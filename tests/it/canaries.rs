//! Labelled revisions: shares, stickiness, the header that picks, weights that change, promotion.

use hotbay_tests::{
    Host, How, guests,
    load::{self, Answer, Connections, Load, Until},
};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const REQUESTS: u64 = 100_000;

/// A host with the service `shop`, revision 1 as the main one and 2 as `beta`.
async fn with_beta(settings: &str) -> Host {
    let builder = Host::builder().own_state().service("shop", &guests::revision("marker", 1));
    let builder = builder.service("shop@beta", &guests::revision("marker", 2)).settings("shop", settings);
    let host = builder.log("warn,hotbay=info,hotbay::request=warn").start().await;
    host.wait_published("shop@beta", &beta()).await;
    host
}

fn main() -> String {
    guests::digest(&guests::revision("marker", 1))
}

fn beta() -> String {
    guests::digest(&guests::revision("marker", 2))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_split_is_within_one_percent_of_the_weight() {
    let host = with_beta("[traffic]\nbeta = 10\n").await;
    let got = Arc::new(AtomicU64::new(0));
    let load = Load { address: host.address(), path: "/shop".to_owned(), clients: 16, connections: Connections::Kept };
    let (mine, beta) = (got.clone(), beta());
    let tally = load::run(&load, &Until::requests(REQUESTS), move |answer: &Answer<'_>| {
        if answer.revision == beta {
            mine.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    })
    .await;
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    let got = got.load(Ordering::Relaxed);
    println!("{REQUESTS} requests at a weight of 10 %: {got} were answered by the labelled revision");
    assert!((REQUESTS * 9 / 100..=REQUESTS * 11 / 100).contains(&got), "{got}");
}

#[tokio::test]
async fn a_user_stays_on_one_revision_and_the_header_picks_where_it_may() {
    let host = with_beta("[traffic]\nbeta = 50\nsticky = \"header:x-user\"\nheader_override = true\n").await;
    let ask = async |user: &str, pick: Option<&str>| {
        let request = host.request("GET", "/shop").header("x-user", user);
        let request = match pick {
            Some(pick) => request.header("x-hotbay-revision", pick),
            None => request,
        };
        request.send().await.revision().to_owned()
    };
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..40 {
        let user = format!("user-{user}");
        let first = ask(&user, None).await;
        assert_eq!(ask(&user, None).await, first, "{user}");
        seen.insert(first);
    }
    assert_eq!(seen.len(), 2, "both have users");
    assert_eq!(ask("user-1", Some("beta")).await, beta());
    assert_eq!(ask("user-1", Some("main")).await, main());
    assert_eq!(ask("user-1", Some(&beta())).await, beta());
}

#[tokio::test]
async fn weights_change_without_touching_the_revisions() {
    let host = with_beta("[traffic]\nbeta = 0\n").await;
    assert_eq!(host.get("/shop").await.revision(), main());
    let mark = host.mark();
    host.place_settings("shop", "[traffic]\nbeta = 100\n");
    host.since(mark).wait("the new shares", |event| event.message.contains("shares its requests anew")).await;
    for _ in 0..20 {
        assert_eq!(host.get("/shop").await.revision(), beta());
    }
    host.place_settings("shop", "[traffic]\nbeta = 100\n# a remark\n");
    host.place("shop@beta", &guests::revision("marker", 3), How::Rename);
    host.since(mark).wait_published("shop@beta", &guests::digest(&guests::revision("marker", 3))).await;
    let published: Vec<_> = host.since(mark).events().into_iter().filter(|event| event.state == "published").collect();
    assert_eq!(published.len(), 1, "the labelled build alone: {}", host.told());
    assert_eq!(published[0].fields["label"], "beta");
}

#[tokio::test]
async fn a_share_for_a_label_without_a_file_is_rejected_as_settings() {
    let host = Host::builder().own_state().service("shop", &guests::revision("marker", 1)).start().await;
    let mark = host.mark();
    host.place_settings("shop", "[traffic]\nbeta = 10\n");
    let rejected = host.since(mark).wait_rejected("shop").await;
    assert!(rejected.reason.contains("there is no shop@beta.wasm"), "{}", rejected.reason);
    assert_eq!(host.get("/shop").await.status, 200);
    let mark = host.mark();
    host.place("shop@beta", &guests::revision("marker", 2), How::Rename);
    host.since(mark).wait("the shares", |event| event.message.contains("shares its requests anew")).await;
}

#[tokio::test]
async fn a_labelled_revision_that_goes_leaves_its_share_to_the_main_one() {
    let host = with_beta("[traffic]\nbeta = 100\n").await;
    assert_eq!(host.get("/shop").await.revision(), beta());
    let mark = host.mark();
    host.remove("shop@beta");
    host.since(mark).wait_retired("shop@beta", &beta()).await;
    let answer = host.get("/shop").await;
    assert_eq!((answer.status, answer.revision()), (200, main().as_str()), "{}", host.told());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_labelled_revision_that_fails_gives_its_share_back() {
    let builder = Host::builder().own_state().service("shop", &guests::revision("marker", 1));
    let builder = builder.service("shop@beta", &guests::text("trap-when-run"));
    let host = builder.settings("shop", "[traffic]\nbeta = 100\n").start().await;
    let bad = guests::digest(&guests::text("trap-when-run"));
    host.wait_published("shop@beta", &bad).await;
    let mut failed = 0;
    while host.get("/shop").await.status == 500 {
        failed += 1;
        assert!(failed < 10_000, "{}", host.told());
    }
    let back = host.wait_for("shop@beta", "rolled-back").await;
    assert_eq!((back.fields["label"].as_str(), back.revision.as_str()), (Some("beta"), bad.as_str()));
    assert_eq!(host.get("/shop").await.revision(), main());
}

#[tokio::test]
async fn a_promoted_revision_is_the_main_one_and_its_share_ends() {
    let host = with_beta("# mine\n[traffic]\nbeta = 10\n\n[limits]\nqueue = 5\n").await;
    let promoted = host.admin().post("/v1/services/shop/promote", r#"{"label":"beta"}"#).await;
    assert_eq!(promoted.status, 200, "{}", promoted.text());
    for _ in 0..20 {
        assert_eq!(host.get("/shop").await.revision(), beta());
    }
    assert!(!host.build_path("shop@beta").exists());
    assert_eq!(fs::read(host.build_path("shop")).unwrap(), guests::revision("marker", 2));
    assert_eq!(fs::read_to_string(host.bay().join("shop.toml")).unwrap(), "# mine\n[traffic]\n\n[limits]\nqueue = 5\n");
    let none = host.admin().post("/v1/services/shop/promote", r#"{"label":"gamma"}"#).await;
    assert_eq!(none.status, 404, "{}", none.text());
}
