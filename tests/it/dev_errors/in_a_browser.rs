//! Pages of services that are open in a browser: they load themselves again at a swap, once, and stay where that is switched off.

use super::pages;
use hotbay_tests::{Browser, Host, How, guests};

fn address(host: &Host, path: &str) -> String {
    format!("http://{}{path}", host.address())
}

fn is_of(revision: u32) -> String {
    format!("document.title === '{}'", guests::marker(revision))
}

/// A page that was loaded anew knows nothing of this.
const MARK: &str = "window.stays = true";

/// Guards `told` in host/src/http/dev/reload.js.
#[tokio::test]
async fn an_open_page_loads_itself_again_when_its_service_is_swapped_and_only_then() {
    let host = pages().dev().start().await;
    let Some(browser) = Browser::start().await else { return };
    browser.open(&address(&host, "/pages/page")).await;
    browser.holds(&is_of(0)).await;
    for revision in [1, 2] {
        host.swap("pages", &guests::revision("pages", revision), How::Rename).await;
        browser.holds(&is_of(revision)).await;
    }
    // What is swapped beside it is no news to it.
    browser.run(MARK, &[]).await;
    host.swap("beside", &guests::revision("marker", 1), How::Rename).await;
    let heard = "const [done] = arguments;
        const events = new EventSource('/.hotbay/reload?service=beside');
        events.onmessage = ({ data }) => JSON.parse(data).length && (events.close(), done(window.stays === true));";
    assert_eq!(browser.run_to_its_end(heard, &[]).await, true);
    assert!(browser.complaints().await.is_empty());

    // The page that says that nobody is there waits for whoever comes.
    browser.open(&address(&host, "/later/page")).await;
    browser.reads(&["No service answers this host and path."]).await;
    host.swap("later", &guests::revision("pages", 3), How::Rename).await;
    browser.holds(&is_of(3)).await;
}

/// Guards `reload` in host/src/http/dev/mod.rs.
#[tokio::test]
async fn an_open_page_stays_as_it_was_where_the_setting_is_off() {
    let host = pages().config("[dev]\non = true\nreload = false\n").start().await;
    let Some(browser) = Browser::start().await else { return };
    browser.open(&address(&host, "/pages/page")).await;
    browser.holds(&is_of(0)).await;
    browser.run(MARK, &[]).await;
    host.swap("pages", &guests::revision("pages", 1), How::Rename).await;
    // The browser gets the new revision, and the page is the old one.
    let script = "const [done] = arguments; fetch('/pages/page').then((answer) => answer.text()).then(done)";
    let fetched = browser.run_to_its_end(script, &[]).await;
    assert!(fetched.as_str().is_some_and(|page| page.contains(&guests::marker(1))), "{fetched}");
    browser.holds(&format!("{} && window.stays && document.scripts.length === 0", is_of(0))).await;
    browser.reload().await;
    browser.holds(&is_of(1)).await;
}
