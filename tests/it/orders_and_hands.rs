//! Orders of the admin API beside hands in the bay: neither takes from the other what it has not seen, and what was gone back from
//! stays gone back from.

use hotbay_tests::{Host, How, client::Response, guests};
use std::{
    fs,
    time::{Duration, SystemTime},
};

const PATIENT: &str = "[probe]\npath = \"/\"\ntimeout = \"60s\"\n";

fn marker(n: u32) -> String {
    guests::digest(&guests::revision("marker", n))
}

/// A host whose service `shop` has had these builds, one after another.
async fn with_builds(count: u32) -> Host {
    let host = Host::builder().own_state().service("shop", &guests::revision("marker", 1)).start().await;
    for n in 2..=count {
        host.swap("shop", &guests::revision("marker", n), How::Rename).await;
    }
    host
}

async fn roll_back(host: &Host, name: &str, to: &str) -> Response {
    host.admin().post(&format!("/v1/services/{name}/rollback"), to.to_owned()).await
}

fn settings_of(host: &Host) -> String {
    fs::read_to_string(host.bay().join("shop.toml")).expect("settings")
}

async fn state_of(host: &Host, name: &str) -> String {
    host.admin().get(&format!("/v1/services/{name}")).await.json()["state"].as_str().unwrap_or_default().to_owned()
}

/// Guards `Swaps::gone`, which must not take a wait that an order ended for one whose time was over.
#[tokio::test]
async fn an_order_that_takes_longer_than_a_removal_is_not_undone_by_it() {
    let host = Host::builder().own_state().settings("slow", PATIENT).start().await;
    let (first, _) = guests::ready_in(Duration::ZERO);
    host.swap("slow", &first, How::Rename).await;
    // One that needs no compiling, and so little more than a look at the bay.
    for n in [1, 2] {
        host.swap("beside", &guests::revision("marker", n), How::Rename).await;
    }
    let mark = host.mark();
    host.remove("slow");
    host.swap("beside", &guests::revision("marker", 1), How::Rename).await;
    let (second, _) = guests::ready_in(Duration::from_millis(2500));
    let deployed = host.admin().put("/v1/services/slow", second.clone()).await;
    assert_eq!(deployed.status, 200, "{}", deployed.text());
    // Whatever the removal leads to has been done before the answer to the next order.
    let again = host.admin().put("/v1/services/slow", second.clone()).await;
    assert_eq!(again.json()["outcome"], "unchanged", "{}\n{}", again.text(), host.told());
    assert_eq!(host.get("/slow").await.status, 200);
    let states = host.since(mark).states("slow");
    assert_eq!(states.iter().filter(|state| *state == "published").count(), 1, "{states:?}");
}

/// Guards the comparison of stamps in `Swaps::place`.
#[tokio::test]
async fn what_was_placed_while_an_order_was_carried_out_stays() {
    let host = Host::builder().own_state().settings("slow", PATIENT).start().await;
    let (first, _) = guests::ready_in(Duration::ZERO);
    host.swap("slow", &first, How::Rename).await;
    let (ordered, _) = guests::ready_in(Duration::from_millis(1500));
    let admin = host.admin();
    let mark = host.mark();
    let order = {
        let ordered = ordered.clone();
        tokio::spawn(async move { admin.put("/v1/services/slow", ordered).await })
    };
    let is_compiled = |event: &hotbay_tests::Event| event.is("slow", "linking") && event.revision == guests::digest(&ordered);
    host.since(mark).wait("the order under way", is_compiled).await;
    let (placed, _) = guests::ready_in(Duration::ZERO);
    host.place("slow", &placed, How::Rename);
    let answer = order.await.expect("an answer");
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.text().contains("somebody placed other files of `slow`"), "{}", answer.text());
    host.since(mark).wait_published("slow", &guests::digest(&placed)).await;
    assert_eq!(fs::read(host.build_path("slow")).expect("a build"), placed);
}

/// Guards the settings of a labelled revision, which are its service's.
#[tokio::test]
async fn a_labelled_revision_goes_back_without_the_settings_of_its_service() {
    let host = with_builds(1).await;
    host.place_settings("shop", "# first\n");
    for n in [2, 3] {
        let deployed = host.admin().put("/v1/services/shop@beta", guests::revision("marker", n)).await;
        assert_eq!(deployed.status, 200, "{}", deployed.text());
    }
    let settings = "# second\n[traffic]\nbeta = 100\n";
    host.place_settings("shop", settings);
    host.get_until("/shop", 200).await;
    let back = roll_back(&host, "shop@beta", "").await;
    assert_eq!((back.status, &back.json()["revision"]), (200, &marker(2).into()), "{}", back.text());
    assert_eq!(settings_of(&host), settings);
    assert_eq!(fs::read(host.build_path("shop@beta")).expect("a build"), guests::revision("marker", 2));
}

/// Guards `Swaps::note_fault` in an order: one step back and one more are two steps.
#[tokio::test]
async fn going_back_twice_goes_two_steps_and_forth_again_by_number() {
    let host = with_builds(3).await;
    for n in [2, 1] {
        let back = roll_back(&host, "shop", "").await;
        assert_eq!((back.status, &back.json()["revision"]), (200, &marker(n).into()), "{}", back.text());
    }
    let none = roll_back(&host, "shop", "").await;
    assert_eq!(none.status, 404, "{}", none.text());
    let forth = roll_back(&host, "shop", r#"{"to":"v3"}"#).await;
    assert_eq!((forth.status, &forth.json()["revision"]), (200, &marker(3).into()), "{}", forth.text());
    // Forth is not back: what served until then is as good as before.
    let back = roll_back(&host, "shop", "").await;
    assert_eq!(back.json()["revision"], marker(1), "{}", back.text());
    let newer = roll_back(&host, "shop", "").await;
    assert_eq!(newer.status, 404, "what came later is not before it: {}", newer.text());
    let unknown = roll_back(&host, "shop", r#"{"to":"v99"}"#).await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("no v99"), "{}", unknown.text());
}

#[tokio::test]
async fn revisions_that_differ_in_their_settings_alone_have_numbers_of_their_own() {
    let host = with_builds(1).await;
    for queue in [5, 6] {
        let put = host.admin().put("/v1/services/shop/settings", format!("[limits]\nqueue = {queue}\n")).await;
        assert_eq!(put.status, 200, "{}", put.text());
    }
    let back = roll_back(&host, "shop", r#"{"to":"v2"}"#).await;
    assert_eq!(back.status, 200, "{}", back.text());
    assert_eq!(settings_of(&host), "[limits]\nqueue = 5\n");
}

/// Guards `without_absent_labels`.
#[tokio::test]
async fn shares_of_labels_that_are_gone_hold_up_no_rollback() {
    let host = with_builds(1).await;
    host.swap("shop@beta", &guests::revision("marker", 2), How::Rename).await;
    let shared = host.admin().put("/v1/services/shop/settings", "[limits]\nqueue = 5\n[traffic]\nbeta = 10\n").await;
    assert_eq!(shared.status, 200, "{}", shared.text());
    let promoted = host.admin().post("/v1/services/shop/promote", r#"{"label":"beta"}"#).await;
    assert_eq!(promoted.status, 200, "{}", promoted.text());
    let back = roll_back(&host, "shop", "").await;
    assert_eq!((back.status, &back.json()["revision"]), (200, &marker(1).into()), "{}", back.text());
    assert_eq!(settings_of(&host), "[limits]\nqueue = 5\n[traffic]\n");
    // Without its shares it is the same revision still, so the next step goes beyond it.
    let further = roll_back(&host, "shop", "").await;
    assert_eq!((further.status, &further.json()["outcome"]), (200, &"published".into()), "{}", further.text());
    assert!(!host.bay().join("shop.toml").exists());
}

async fn share(host: &Host, label: &str, percent: u32) -> Response {
    host.admin().put("/v1/services/shop/traffic", format!(r#"{{"shares": {{"{label}": {percent}}}}}"#)).await
}

/// Guards `Change::Shares`: each order changes what the one before it wrote.
#[tokio::test]
async fn shares_that_are_ordered_at_once_all_hold() {
    let host = with_builds(1).await;
    for (label, n) in [("beta", 2), ("next", 3)] {
        host.swap(&format!("shop@{label}"), &guests::revision("marker", n), How::Rename).await;
    }
    let (beta, next) = tokio::join!(share(&host, "beta", 5), share(&host, "next", 7));
    assert_eq!((beta.status, next.status), (200, 200), "{} {}", beta.text(), next.text());
    let settings = settings_of(&host);
    assert!(settings.contains("beta = 5\n") && settings.contains("next = 7\n"), "{settings}");
}

/// Guards `settled_settings` in an order of shares: an editor that has cut the file writes it anew in a moment.
#[tokio::test]
async fn shares_wait_for_whoever_writes_the_settings() {
    let builder = Host::builder().own_state().service("shop", &guests::revision("marker", 1)).settings("shop", "# mine\n");
    let host = builder.service("shop@beta", &guests::revision("marker", 2)).start().await;
    let (settings, mark) = (host.bay().join("shop.toml"), host.mark());
    fs::write(&settings, "").expect("settings");
    let written = async {
        host.since(mark).wait("the order", |event| event.target == "hotbay::admin" && event.service == "shop").await;
        fs::write(&settings, "# mine still\n[limits]\nqueue = 5\n").expect("settings");
    };
    let (shared, ()) = tokio::join!(share(&host, "beta", 5), written);
    assert_eq!(shared.status, 200, "{}", shared.text());
    assert_eq!(settings_of(&host), "# mine still\n[limits]\nqueue = 5\n\n[traffic]\nbeta = 5\n");
}

/// Guards `made_from` in an order of settings.
#[tokio::test]
async fn settings_that_were_made_from_others_overwrite_nothing() {
    let host = with_builds(1).await;
    let target = "/v1/services/shop/settings";
    let tag = async || host.admin().get(target).await.header("etag").to_owned();
    let sent = async |method: &str, tag: &str| {
        host.admin().request(method, target).header("if-match", tag).body("# ours\n").send().await
    };
    let none = tag().await;
    host.place_settings("shop", "# theirs\n");
    for method in ["PUT", "DELETE"] {
        let refused = sent(method, &none).await;
        assert_eq!(refused.status, 412, "{method}: {}", refused.text());
        assert_eq!(sent(method, "\"abc\"").await.status, 400, "{method}");
    }
    assert_eq!(settings_of(&host), "# theirs\n");
    let put = sent("PUT", &tag().await).await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(settings_of(&host), "# ours\n");
    let deleted = sent("DELETE", &format!("W/{}", tag().await)).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    assert!(!host.bay().join("shop.toml").exists());
}

/// Guards `Entry::is_proven`: what nobody has asked is no better than what failed.
#[tokio::test]
async fn the_host_goes_back_to_what_was_seen_to_work() {
    let good = guests::revision("marker", 1);
    let host = Host::builder().own_state().service("shop", &good).start().await;
    for _ in 0..30 {
        assert_eq!(host.get("/shop").await.status, 200);
    }
    let bad = guests::text("trap-when-run");
    host.swap("shop", &bad, How::Rename).await;
    // The same build under other settings: the one before it is as bad, and nobody knows.
    let put = host.admin().put("/v1/services/shop/settings", "[limits]\nqueue = 7\n").await;
    assert_eq!(put.status, 200, "{}", put.text());
    for _ in 0..60 {
        host.get("/shop").await;
    }
    host.wait_for("shop", "rolled-back").await;
    let answer = host.get("/shop").await;
    assert_eq!((answer.status, answer.revision()), (200, guests::digest(&good).as_str()), "{}", host.told());
}

/// Guards `Swaps::refuse_failed`.
#[tokio::test]
async fn a_labelled_revision_that_was_gone_back_from_is_not_promoted() {
    let host = with_builds(1).await;
    let bad = guests::text("trap-when-run");
    host.swap("shop@beta", &bad, How::Rename).await;
    let shared = host.admin().put("/v1/services/shop/settings", "[traffic]\nbeta = 100\n").await;
    assert_eq!(shared.status, 200, "{}", shared.text());
    for _ in 0..60 {
        host.get("/shop").await;
    }
    host.wait_for("shop@beta", "rolled-back").await;
    let promoted = host.admin().post("/v1/services/shop/promote", r#"{"label":"beta"}"#).await;
    assert_eq!(promoted.status, 422, "{}", promoted.text());
    assert_eq!(host.get("/shop").await.revision(), marker(1));
    // It goes, and its share with it.
    let removed = host.admin().delete("/v1/services/shop@beta").await;
    assert_eq!(removed.status, 200, "{}", removed.text());
    assert_eq!(settings_of(&host), "[traffic]\n");
}

/// Guards `Choice::is_back` for a build that serves for the second time.
#[tokio::test]
async fn a_build_that_was_placed_again_is_gone_back_from_like_any_other() {
    let host = with_builds(3).await;
    host.swap("shop", &guests::revision("marker", 1), How::Rename).await;
    for n in [3, 2] {
        let back = roll_back(&host, "shop", "").await;
        assert_eq!(back.json()["revision"], marker(n), "{}", back.text());
    }
}

/// Guards `SwapContext::take_charge`: a service without its build has been taken out, whatever of it is left.
#[tokio::test]
async fn a_service_whose_settings_were_left_behind_does_not_come_back() {
    let host = with_builds(1).await;
    host.place_settings("shop", "[limits]\nqueue = 5\n");
    host.log().wait("the settings", |event| event.is("shop", "draining")).await;
    let build = host.build_path("shop");
    let again = host.stop().await;
    fs::remove_file(build).expect("a build");
    let host = again.start().await.stop().await.service("shop", b"no wasm at all").start().await;
    assert_eq!(host.get("/shop").await.status, 503, "{}", host.told());
}

/// Guards `check_routes`, which must ask nothing of a library.
#[tokio::test]
async fn a_library_needs_no_routes_to_be_deployed() {
    let host = with_builds(1).await;
    let taken = host.admin().put("/v1/services/shop/settings", "[[route]]\npath = \"/stock/{*rest}\"\n").await;
    assert_eq!(taken.status, 200, "{}", taken.text());
    let deployed = host.admin().put("/v1/services/stock", guests::fixture("library")).await;
    assert_eq!(deployed.status, 200, "{}", deployed.text());
}

/// Guards `Swaps::remember`: the history is the predecessor's until it has been relieved.
#[tokio::test]
async fn a_successor_that_fails_leaves_the_history_as_it_was() {
    let host = with_builds(2).await;
    host.swap("other", &guests::revision("marker", 7), How::Rename).await;
    for name in ["shop", "other"] {
        host.place(name, b"no wasm at all", How::Rename);
        host.wait_rejected(name).await;
    }
    let history = || async { host.admin().get("/v1/services/shop/history").await.json()["revisions"].clone() };
    let before = history().await;
    // The successor finds an earlier revision of the one to fall back to, and none of the other.
    let folder =
        fs::read_dir(host.state().join("history")).expect("a history").next().expect("one bay").expect("a folder").path();
    fs::remove_file(folder.join("other.json")).expect("a record");
    let digest = before[0]["digest"].as_str().expect("a digest");
    fs::remove_file(folder.join("builds").join(format!("{digest}.wasm"))).expect("a build");
    let mut next = host.successor();
    assert_eq!(next.exit_status().await.code(), Some(1), "{}", next.told());
    let after = history().await;
    let numbers = |history: &serde_json::Value| {
        let entries = history.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| (entry["number"].clone(), entry["ended"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&after), numbers(&before), "{}", next.told());
}

/// Guards `Choice` where the bay holds something that failed: what serves is what is meant.
#[tokio::test]
async fn a_rollback_from_the_last_good_revision_puts_it_into_the_bay() {
    let host = with_builds(2).await;
    let host = host.stop().await.service("shop", b"no wasm at all").start().await;
    assert_eq!(state_of(&host, "shop").await, "last-good");
    let back = roll_back(&host, "shop", "").await;
    assert_eq!((back.status, &back.json()["outcome"]), (200, &"unchanged".into()), "{}", back.text());
    assert_eq!(fs::read(host.build_path("shop")).expect("a build"), guests::revision("marker", 2));
    assert_eq!(state_of(&host, "shop").await, "serving");
    let shown = host.admin().get("/v1/services/shop").await.json();
    assert!(shown["rejected"].is_null() && shown["serving"]["reason"].is_null(), "{shown}");
}

/// Guards the comparison of revisions, not texts, and the memory of it over a restart.
#[tokio::test]
async fn other_shares_and_comments_are_no_new_attempt_with_a_build_that_was_gone_back_from() {
    let good = guests::revision("marker", 1);
    let host = Host::builder().own_state().service("shop", &good).settings("shop", "# one\n").start().await;
    let bad = guests::text("trap-when-run");
    host.place("shop", &bad, How::Rename);
    host.wait_published("shop", &guests::digest(&bad)).await;
    for _ in 0..200 {
        host.get("/shop").await;
    }
    host.wait_for("shop", "rolled-back").await;
    let host = {
        comment(&host, "# two\n").await;
        let host = host.stop().await.start().await;
        assert_eq!(state_of(&host, "shop").await, "last-good");
        host
    };
    comment(&host, "# three\n").await;
    assert_eq!(host.get("/shop").await.revision(), guests::digest(&good), "{}", host.told());
    // Another setting is: whoever writes it may have mended the service.
    host.place_settings("shop", "[limits]\nqueue = 9\n");
    host.wait_published("shop", &guests::digest(&bad)).await;
}

/// Changes the settings of `shop` by a comment that seems to have been there for long, and swaps another service: the one costs a
/// look, the other is compiled.
async fn comment(host: &Host, text: &str) {
    let path = host.folder().join("shop.toml");
    fs::write(&path, text).expect("a file");
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(long_ago)).expect("a time");
    fs::rename(path, host.bay().join("shop.toml")).expect("it is placed");
    let beside = guests::revision("marker", u32::try_from(text.len()).expect("a length"));
    host.swap("beside", &beside, How::Rename).await;
}

/// Guards the watch over a revision that is new to the history although nothing served before it.
#[tokio::test]
async fn a_build_that_came_while_no_host_ran_is_watched_too() {
    let host = with_builds(1).await;
    let bad = guests::text("trap-when-run");
    let host = host.stop().await.service("shop", &bad).start().await;
    assert_eq!(host.get("/shop").await.revision(), guests::digest(&bad));
    for _ in 0..100 {
        host.get("/shop").await;
    }
    host.wait_for("shop", "rolled-back").await;
    host.wait_published("shop", &marker(1)).await;
    assert_eq!(state_of(&host, "shop").await, "rolled-back");
    // What lies in the bay is what serves again: nothing is left to say.
    let mark = host.mark();
    host.place("shop", &guests::revision("marker", 1), How::Rename);
    host.swap("beside", &guests::revision("marker", 2), How::Rename).await;
    while state_of(&host, "shop").await != "serving" {
        tokio::task::yield_now().await;
    }
    assert!(!host.since(mark).states("shop").contains(&"published".to_owned()), "it serves already");
}
