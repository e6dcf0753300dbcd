//! The page's way to the host: what it holds of it, what it asks, and what it says when it is refused or gets no answer.

use super::{content, dashboard, go, probe};
use hotbay_tests::{Browser, How, Messages, PATIENCE, guests};
use serde_json::json;
use tokio::time::timeout;

/// What the page waits for before a hidden one lets its streams go, and before a silent one is given up, in milliseconds.
const HIDDEN: u32 = 20_000;
const SILENCE: u32 = 40_000;

/// Waits of this length are over soon, until [`calm_down`].
async fn hurry(browser: &Browser, wait: u32) {
    let script = "const [long, real] = [arguments[0], window.setTimeout];
        window.calmDown = () => (window.setTimeout = real);
        window.setTimeout = (work, wait, ...more) => real(work, wait === long ? 50 : wait, ...more);";
    browser.run(script, &[json!(wait)]).await;
}

async fn calm_down(browser: &Browser) {
    browser.run("calmDown()", &[]).await;
}

/// As if another tab were in front, or this one again.
async fn hide(browser: &Browser, hidden: bool) {
    let script = "Object.defineProperty(document, 'hidden', { configurable: true, value: arguments[0] });
        document.dispatchEvent(new Event('visibilitychange'));";
    browser.run(script, &[json!(hidden)]).await;
}

/// Guards `resting` in api.js, and the problem that `lost` is told.
#[tokio::test]
async fn a_hidden_page_lets_its_streams_go_and_one_that_gets_none_says_why() {
    let host = probe().service("talks", &guests::fixture("logging")).start().await;
    let Some(browser) = dashboard(&host).await else { return };
    let live = "document.querySelector('.bar .live')?.innerText === 'live'";
    go(&browser, "#/services/talks").await;
    browser.holds(live).await;
    assert_eq!(host.get("/talks/levels").await.status, 200);
    browser.reads(&["words of error"]).await;

    let admin = host.admin();
    let mut streams = Vec::new();
    for _ in 0..62 {
        streams.push(admin.follow("/v1/logs", None).await);
    }
    assert_eq!(admin.get("/v1/logs").await.status, 503, "the page holds two");
    hurry(&browser, HIDDEN).await;
    hide(&browser, true).await;
    let freed = async {
        while streams.len() < 64 {
            let reply = admin.request("GET", "/v1/logs").open().await;
            if reply.status == 200 {
                streams.push(Messages::of(reply));
            }
        }
    };
    timeout(PATIENCE, freed).await.expect("the page lets its streams go");

    hide(&browser, false).await;
    browser
        .reads(&["64 streams are open, and no more are taken: end one of them.", "The lines cannot be followed", "refused"])
        .await;
    assert!(!browser.text().await.contains("does not answer"));
    drop(streams);
    browser.holds(live).await;
    browser.reads(&["words of error", "Lines may be missing before this one"]).await;
    browser.holds("!document.body.innerText.includes('no more are taken')").await;
    content(&browser).await;
}

/// Guards the timer in `once` of api.js, which runs before the first question.
#[tokio::test]
async fn an_attempt_that_gets_no_answer_has_an_end() {
    let host = probe().start().await;
    let Some(browser) = dashboard(&host).await else { return };
    browser.press("Leave").await;
    hurry(&browser, SILENCE).await;
    let script = "window.real = window.fetch;
        window.fetch = (path, more) => path !== '/v1/metrics/summary' ? real(path, more) : new Promise((_, reject) => {
          more.signal?.addEventListener('abort', () => reject(more.signal.reason));
        });";
    browser.run(script, &[]).await;
    browser.write("input[name=token]", &host.admin().token()).await;
    browser.press("Open").await;
    browser.reads(&["The host does not answer.", "no answer"]).await;
    calm_down(&browser).await;
    browser.run("window.fetch = real", &[]).await;
    browser.reads(&["live", "probe"]).await;
    content(&browser).await;
}

/// Guards `calm` in `useGraph`.
#[tokio::test]
async fn the_graph_is_asked_for_once_at_a_time_however_much_happens() {
    let host = probe().settings("probe", "[grants]\ncalls = [\"nobody\"]\n").start().await;
    let Some(browser) = dashboard(&host).await else { return };
    let script = "window.real = window.fetch;
        window.asked = 0;
        window.fetch = (path, more) => {
          if (path !== '/v1/graph') return real(path, more);
          window.asked++;
          return new Promise((resolve) => (window.answer = () => resolve(real(path, more))));
        };";
    browser.run(script, &[]).await;
    go(&browser, "#/calls").await;
    browser.holds("asked === 1").await;
    for number in 0..5 {
        let name = format!("bad-{number}");
        host.place(&name, b"no wasm", How::Rename);
        host.wait_rejected(&name).await;
    }
    // What is drawn after the last of them has asked, if it asks.
    let asked = "const done = arguments[0];
        const drawn = () => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(window.asked))));
        import('/dashboard/store.js').then(({ get }) => {
          const look = () => get().swaps.filter((swap) => swap.outcome === 'rejected').length === 5 ? drawn() : setTimeout(look, 10);
          look();
        });";
    assert_eq!(browser.run_to_its_end(asked, &[]).await, 1);
    browser.run("window.fetch = real; answer()", &[]).await;
    browser.reads(&["As a list", "nobody"]).await;
    content(&browser).await;
}
