//! The pictures of the documents, taken of the example shop while it is at work: target/pictures. `make pictures` puts them into docs.

use super::{content, dashboard, go};
use crate::outbound::asking;
use hotbay_tests::{Browser, Host, How, guests};
use serde_json::json;
use std::{fs, path::Path};

/// Requests all over the shop, so that there is something to see.
async fn trade(host: &Host, rounds: u32) {
    let json = |method, target, body: serde_json::Value| {
        host.request(method, target).header("content-type", "application/json").body(body.to_string())
    };
    assert_eq!(json("PUT", "/stock/tea", json!({ "level": 4_000_000 })).send().await.status, 200);
    for _ in 0..rounds {
        for target in ["/stock/tea", "/hello/?name=ada"] {
            assert_eq!(host.get(target).await.status, 200, "{target}\n{}", host.told());
        }
        for (callee, path) in [("hello.internal", "/?name=web"), ("stock.internal", "/stock/tea")] {
            assert_eq!(asking(host, "web", callee).header("x-path", path).send().await.status, 200, "{callee}\n{}", host.told());
        }
    }
}

async fn take(browser: &Browser, name: &str, width: u32, height: u32, colours: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pictures");
    fs::create_dir_all(&folder).expect("a folder");
    browser.show(width, height, colours).await;
    // Charts follow the width once the browser has laid the page out.
    browser.holds("document.querySelectorAll('.chart canvas').length === 0 || [...document.querySelectorAll('.plot')].every((one) => Math.abs(one.querySelector('canvas').getBoundingClientRect().width - one.clientWidth) < 2)").await;
    browser
        .run("document.activeElement?.blur(); document.querySelectorAll('.notice button').forEach((one) => one.click())", &[])
        .await;
    browser.holds("document.querySelectorAll('.notice').length === 0").await;
    fs::write(folder.join(format!("{name}.png")), browser.picture(width, height).await).expect("a picture");
}

#[tokio::test]
async fn pictures_are_taken_of_a_shop_at_work() {
    // Of the shop, the one in Python is left out: it takes long to compile, and one that is missing shows too.
    let shop = ["stock", "orders"].into_iter().fold(Host::builder().own_state(), |builder, name| {
        builder.service(name, &guests::service(name)).settings(name, &guests::settings(name).expect("an example with settings"))
    });
    let web = "[grants]\ncalls = [\"hello\", \"stock\"]\n";
    let shop = shop.service("web", &guests::fixture("fetcher")).settings("web", web);
    let hello = guests::service("hello");
    let host = shop
        .service("hello", &hello)
        .service("hello@beta", &guests::stamped(&hello, "beta"))
        .settings("hello", "[traffic]\nbeta = 10\n");
    let host = host.service("legacy", b"\x7fELF").start().await;
    let Some(browser) = dashboard(&host).await else { return };
    trade(&host, 30).await;
    host.swap("stock", &guests::stamped(&guests::service("stock"), "next"), How::Rename).await;
    host.place("orders", &guests::text("unknown-import"), How::Rename);
    host.log().wait_rejected("orders").await;
    trade(&host, 40).await;
    // Three samples in which something happened, so that there are lines to draw.
    for _ in 0..3 {
        let seen = browser.run("return document.querySelector('.plot')?.ariaLabel ?? ''", &[]).await;
        trade(&host, 25).await;
        browser.holds(&format!("document.querySelector('.plot')?.ariaLabel !== {seen}")).await;
    }
    browser.holds("document.querySelectorAll('table.services tbody tr').length === 6").await;
    for (name, width, height, colours) in [
        ("overview", 1280, 960, "light"),
        ("overview-dark", 1280, 960, "dark"),
        ("phone", 375, 1100, "dark"),
        ("phone-light", 375, 1100, "light"),
    ] {
        take(&browser, name, width, height, colours).await;
    }
    go(&browser, "#/services/hello").await;
    browser.reads(&["Revisions side by side", "History"]).await;
    browser.holds("document.querySelector('.bar .live')?.innerText === 'live'").await;
    take(&browser, "service", 1280, 1300, "light").await;
    take(&browser, "service-phone", 375, 1500, "dark").await;
    browser.show(1280, 900, "light").await;
    go(&browser, "#/calls").await;
    browser.holds("document.querySelectorAll('svg .edge').length === 4").await;
    take(&browser, "calls", 1280, 600, "light").await;
    go(&browser, "#/swaps").await;
    browser.reads(&["rejected", "What to do"]).await;
    take(&browser, "swaps", 1280, 900, "dark").await;
    go(&browser, "#/").await;
    browser.drop_file("broken.wasm", b"\x7fELF\x02\x01\x01").await;
    browser.press("Deploy").await;
    browser.reads(&["Rejected: what served goes on serving"]).await;
    take(&browser, "reject", 1280, 900, "light").await;
    content(&browser).await;
}
