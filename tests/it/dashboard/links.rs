//! The page's way to the host: what it holds of it, what it asks, and what it says when it is refused or gets no answer.

use super::{content, dashboard, go, probe};
use hotbay_tests::{How, guests};

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
