//! That everybody can use it: by the keyboard, with a screen reader, in both colours, at the width of a phone, and with a thousand services.

use super::{content, dashboard, go, probe};
use hotbay_tests::{Key, guests, host::tool};
use serde_json::{Value, json};
use std::fs;

#[tokio::test]
async fn the_keyboard_reaches_everything_and_enter_does_it() {
    let host = probe().start().await;
    let Some(browser) = dashboard(&host).await else { return };
    browser.reads(&["probe"]).await;
    let focused = async || {
        let script = "const e = document.activeElement; return e === document.body ? '' : (e.getAttribute('aria-label') ?? e.innerText ?? '').trim() || e.placeholder || e.tagName";
        browser.run(script, &[]).await.as_str().unwrap_or_default().to_owned()
    };
    let mut reached = Vec::new();
    for _ in 0..40 {
        browser.key(Key::Tab).await;
        let now = focused().await;
        // Past the last, the browser's own buttons take it.
        if now.is_empty() {
            break;
        }
        let outline = "const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none' || document.activeElement.matches('.skip')";
        assert_eq!(browser.run(outline, &[]).await, true, "the focus cannot be seen on {now:?}");
        reached.push(now);
    }
    for wanted in [
        "To the content",
        "Services",
        "Swaps",
        "Calls",
        "Logs",
        "Dark colours",
        "Leave",
        "Deploy a file…",
        "Service\u{2191}",
        "probe",
    ] {
        let is = |one: &String| one.split_whitespace().collect::<String>() == wanted.split_whitespace().collect::<String>();
        assert!(reached.iter().any(is), "Tab does not reach {wanted:?}: {reached:?}");
    }
    let tab_to = async |wanted: &str| {
        for _ in 0..60 {
            if focused().await.starts_with(wanted) {
                return;
            }
            browser.key(Key::Tab).await;
        }
        panic!("Tab does not reach {wanted:?}");
    };
    tab_to("probe").await;
    browser.key(Key::Enter).await;
    browser.reads(&["Limits", "History"]).await;
    browser.holds("document.activeElement.tagName === 'H1' && document.title.startsWith('probe')").await;
    tab_to("Settings").await;
    browser.key(Key::Enter).await;
    browser.holds("document.querySelector('dialog').contains(document.activeElement)").await;
    browser.key(Key::Escape).await;
    browser.holds("!document.querySelector('dialog')").await;
    assert!(focused().await.starts_with("Settings"), "the focus is not where it was: {}", focused().await);
    content(&browser).await;
}

/// axe-core reads the page as a screen reader does, and knows the rules (WCAG 2.2 A and AA).
#[tokio::test]
async fn no_rule_of_accessibility_is_broken_in_light_or_dark() {
    let Some(axe) = tool("lib/axe.min.js") else {
        println!("skipped: axe-core is not here; `.ci/setup test` brings it from npm");
        return;
    };
    let axe = fs::read_to_string(axe).expect("a script");
    let builder = probe().service("probe@beta", &guests::revision("probe", 2)).settings(
        "probe",
        "[traffic]\nbeta = 10\n[grants]\ncalls = [\"nobody\"]\n[[cron]]\nschedule = \"0 0 1 1 *\"\npath = \"/marker\"\n",
    );
    let host = builder.service("broken", b"no wasm").service("talks", &guests::fixture("logging")).start().await;
    let Some(browser) = dashboard(&host).await else { return };
    for colours in ["light", "dark"] {
        for (part, shown, pressed) in [
            ("#/", "Latest swaps", None),
            ("#/", "Latest swaps", Some("Deploy a file")),
            ("#/swaps", "published", None),
            ("#/calls", "As a list", None),
            ("#/logs", "What guests write", None),
            ("#/services/probe", "By the clock", None),
            ("#/services/probe", "By the clock", Some("Settings")),
            ("#/services/broken", "was rejected", None),
            ("#/services/nothing", "There is no service of this name", None),
        ] {
            browser.show(1280, 900, colours).await;
            go(&browser, part).await;
            browser.reads(&[shown]).await;
            match pressed {
                Some("Deploy a file") => browser.drop_file("new.wasm", b"x").await,
                Some(button) => browser.press(button).await,
                None => {}
            }
            check(&browser, &axe, &format!("{part} {pressed:?} {colours}")).await;
            if pressed.is_some() {
                browser.press("Cancel").await;
            }
        }
    }
    browser.press("Leave").await;
    browser.reads(&["This page needs the admin token"]).await;
    check(&browser, &axe, "the login").await;
    content(&browser).await;
}

async fn check(browser: &hotbay_tests::Browser, axe: &str, what: &str) {
    browser.run(&format!("if (!window.axe) {{ {axe} }}"), &[]).await;
    let script = "const done = arguments[0];
        axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }).then(
          ({ violations }) => done(violations.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map(({ html, failureSummary }) => [html, failureSummary]) }))),
          (error) => done([String(error)]));";
    let broken = browser.run_to_its_end(script, &[]).await;
    assert_eq!(broken, json!([]), "{what}: {broken:#}");
}

#[tokio::test]
async fn at_the_width_of_a_phone_nothing_sticks_out() {
    let host =
        probe().service("probe@beta", &guests::revision("probe", 2)).service(&"long".repeat(12), &guests::revision("probe", 3));
    let host = host.service("broken", b"no wasm").start().await;
    let Some(browser) = dashboard(&host).await else { return };
    browser.show(375, 800, "dark").await;
    for (part, shown) in [
        ("#/", "Latest swaps"),
        ("#/swaps", "published"),
        ("#/calls", "No service may call"),
        ("#/logs", "What guests write"),
        ("#/services/probe", "History"),
    ] {
        go(&browser, part).await;
        browser.reads(&[shown]).await;
        browser.holds("document.documentElement.scrollWidth <= innerWidth").await;
    }
    content(&browser).await;
}

/// What it costs to draw a thousand rows is printed. Most are of files that will not serve: the page makes no difference, and the test
/// asks less of the machine.
#[tokio::test]
async fn a_thousand_services_are_listed_filtered_and_sorted() {
    let (serves, does_not) = (guests::text("hold"), bytes::Bytes::from_static(b"no wasm"));
    let build = |number: u32| if number.is_multiple_of(20) { &serves } else { &does_not };
    let host = (0..1000)
        .fold(probe(), |builder, number| builder.service(&format!("many-{number:04}"), build(number)))
        .start_listening()
        .await;
    // They are listed while they load.
    let Some(browser) = dashboard(&host).await else { return };
    browser.holds("document.querySelectorAll('table.services tbody tr').length === 1001").await;
    let timed = "const done = arguments[0];
        const field = document.querySelector('input[type=search]');
        const rows = () => document.querySelectorAll('table.services tbody tr').length;
        const drawn = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
        const type = async (text) => {
          const begun = performance.now();
          field.value = text;
          field.dispatchEvent(new Event('input', { bubbles: true }));
          await drawn();
          return [rows(), Math.round(performance.now() - begun)];
        };
        const sort = async () => {
          const begun = performance.now();
          document.querySelector('.sort').click();
          await drawn();
          return Math.round(performance.now() - begun);
        };
        (async () => done({ none: await type('nothing at all'), all: await type(''), some: await type('many-099'), again: await type(''), sorted: await sort() }))();";
    let timed: Value = browser.run_to_its_end(timed, &[]).await;
    println!("1001 rows: milliseconds to draw all of them anew {}, to sort them {}", timed["all"][1], timed["sorted"]);
    let rows = ["none", "all", "some", "again"].map(|step| timed[step][0].as_u64());
    assert_eq!(rows, [Some(0), Some(1001), Some(10), Some(1001)], "{timed}");
    browser.holds("document.querySelector('table.services tbody th')?.innerText === 'probe'").await;
    browser
        .holds("[...document.querySelectorAll('table.services tbody tr')].some((row) => row.innerText.includes('serving'))")
        .await;
    content(&browser).await;
}
