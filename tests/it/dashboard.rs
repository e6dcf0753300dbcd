//! The dashboard in a real browser: what a person does on it, what it shows while things happen, and that all can do so.

mod everybody;
mod links;
mod pictures;

use hotbay_tests::{Browser, Builder, Host, How, Key, PATIENCE, guests};
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt};

fn probe() -> Builder {
    Host::builder().own_state().service("probe", &guests::revision("probe", 1))
}

fn revision(n: u32) -> String {
    guests::digest(&guests::revision("probe", n))
}

/// The address that `hotbay dashboard` opens.
fn address(host: &Host) -> String {
    format!("http://{}/#token={}", host.admin().address(), host.admin().token())
}

/// A browser that shows the host's dashboard; none where there is no browser.
pub(crate) async fn dashboard(host: &Host) -> Option<Browser> {
    let browser = Browser::start().await?;
    browser.show(1280, 900, "light").await;
    browser.open(&address(host)).await;
    browser.reads(&["live"]).await;
    Some(browser)
}

/// Goes to a part of the page as a link does.
pub(crate) async fn go(browser: &Browser, part: &str) {
    browser.run("location.hash = arguments[0]", &[json!(part)]).await;
}

#[track_caller]
pub(crate) fn content(browser: &Browser) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let complaints = browser.complaints().await;
        assert!(complaints.is_empty(), "{caller}: the browser complains: {complaints:#?}");
    }
}

#[tokio::test]
async fn a_file_that_is_dropped_is_deployed_and_one_that_will_not_serve_is_refused_with_its_remedy() {
    let host = Host::builder().own_state().start().await;
    let Some(browser) = dashboard(&host).await else { return };
    browser.reads(&["The bay is empty", "Drop a .wasm file"]).await;

    browser.drop_file("My_Probe.wasm", &guests::revision("probe", 1)).await;
    browser.reads(&["My_Probe.wasm", "It becomes the new service my-probe."]).await;
    browser.write("dialog input[name=service]", "probe").await;
    browser.reads(&["It becomes the new service probe."]).await;
    browser.press("Deploy").await;
    browser.reads(&["It serves", &revision(1), "compiling", &format!("http://{}/probe", host.address())]).await;
    assert_eq!(host.get("/probe/marker").await.revision(), revision(1));
    browser.press("Close").await;
    browser.holds("document.querySelector('table.services tbody tr th')?.innerText === 'probe'").await;

    // By the button, which anybody can reach.
    let file = host.folder().join("probe.wasm");
    fs::write(&file, guests::revision("probe", 2)).expect("a file");
    browser.choose("input[type=file]", &file).await;
    browser.reads(&[&format!("It takes the place of {}", revision(1))]).await;
    browser.press("Deploy").await;
    browser.reads(&["It serves", &revision(2)]).await;
    browser.press("Close").await;

    browser.drop_file("probe.wasm", b"\x7fELF and more").await;
    browser.press("Deploy").await;
    browser.reads(&["Rejected: what served goes on serving", "ELF", "What to do"]).await;
    browser.press("Cancel").await;
    browser.drop_file("probe.wasm", &guests::text("unknown-import")).await;
    browser.press("Deploy").await;
    browser.reads(&["Rejected: what served goes on serving", "What to do"]).await;
    browser.write("dialog input[name=service]", "No Name").await;
    browser.reads(&["A name is 1 to 63"]).await;
    browser.key(Key::Escape).await;
    browser.holds("!document.querySelector('dialog')").await;
    assert_eq!(host.get("/probe/marker").await.revision(), revision(2));
    browser.drop_file("notes.toml", b"[limits]\n").await;
    browser.reads(&["Drop a .wasm file; settings (.toml) may come with it."]).await;
    content(&browser).await;
}

#[tokio::test]
async fn swaps_and_rejects_show_as_they_happen_and_a_revision_is_gone_back_to() {
    let host = probe().start().await;
    let Some(browser) = dashboard(&host).await else { return };
    go(&browser, "#/swaps").await;
    browser.reads(&["probe", "published", &revision(1), "compiling", "linking", "warming"]).await;

    host.place("probe", &guests::revision("probe", 2), How::Rename);
    browser.reads(&[&revision(2), &format!("{} retired after", revision(1))]).await;
    host.place("probe", b"no wasm", How::Rename);
    browser.reads(&["rejected", "What to do"]).await;

    go(&browser, "#/services/probe").await;
    browser.reads(&["The last files of probe were rejected; what served goes on", "Limits", "History", "v1", "v2"]).await;
    browser.press("Roll back").await;
    browser.reads(&["Roll probe back?", "To the good revision before the one that serves"]).await;
    browser.press("Roll back").await;
    browser.reads(&[&format!("probe runs on {} again.", revision(1))]).await;
    assert_eq!(host.get("/probe/marker").await.revision(), revision(1));
    browser.holds("!document.body.innerText.includes('were rejected')").await;

    // To a certain one of the history.
    browser.holds("[...document.querySelectorAll('td.acts button')].some((one) => one.innerText.includes('to v2'))").await;
    browser.press("Go back to v2").await;
    browser.press("Roll back").await;
    browser.reads(&[&format!("probe runs on {} again.", revision(2))]).await;

    browser.press("Remove").await;
    browser.reads(&["Remove probe?"]).await;
    browser.press("Cancel").await;
    assert_eq!(host.get("/probe/marker").await.status, 200);
    browser.press("Remove").await;
    browser.press("Remove probe").await;
    browser.reads(&["There is no service of this name in the bay.", "History"]).await;
    assert_eq!(host.get("/probe/marker").await.status, 404);
    browser.press("Roll back to what it was").await;
    browser.press("Roll back").await;
    browser.reads(&["serving", "Limits"]).await;
    assert_eq!(host.get("/probe/marker").await.revision(), revision(2));
    content(&browser).await;
}

#[tokio::test]
async fn requests_are_shared_out_and_a_labelled_revision_is_promoted() {
    let host = probe().service("probe@beta", &guests::revision("probe", 2)).settings("probe", "# mine\n").start().await;
    let Some(browser) = dashboard(&host).await else { return };
    browser.reads(&["probe@beta", "0 %"]).await;
    go(&browser, "#/services/probe").await;
    browser.reads(&["Revisions side by side", "100 %", "@beta"]).await;
    browser.write(".percent input", "101").await;
    browser.reads(&["Shares are whole percents, of 100 in all."]).await;
    browser.write(".percent input", "100").await;
    browser.press("Share out").await;
    browser.reads(&["The requests of probe are shared out anew."]).await;
    browser.holds("document.querySelector('output')?.innerText.startsWith('0')").await;
    assert_eq!(host.get("/probe/marker").await.revision(), revision(2));
    let settings = fs::read_to_string(host.bay().join("probe.toml")).expect("settings");
    assert_eq!(settings, "# mine\n\n[traffic]\nbeta = 100\n");

    browser.press("Promote").await;
    browser.reads(&["Promote probe@beta?"]).await;
    browser.press("Promote").await;
    browser.reads(&[&format!("probe runs on {}.", revision(2))]).await;
    browser.holds("!document.body.innerText.includes('Revisions side by side')").await;
    content(&browser).await;
}

#[tokio::test]
async fn settings_are_edited_as_text_and_a_slip_is_shown() {
    let host = probe().settings("probe", "[limits]\nqueue = 7\n").start().await;
    let Some(browser) = dashboard(&host).await else { return };
    go(&browser, "#/services/probe").await;
    browser.press("Settings").await;
    browser.holds("document.querySelector('textarea').value === '[limits]\\nqueue = 7\\n'").await;
    browser.write("textarea", "[limits]\nqueu = 8\n").await;
    browser.press("Save").await;
    browser.reads(&["Rejected: the settings that held go on", "queu", "What to do"]).await;
    browser.write("textarea", "[limits]\nqueue = 8\n").await;
    browser.press("Save").await;
    browser.reads(&["The settings of probe hold."]).await;
    browser.holds("!document.querySelector('dialog')").await;
    assert_eq!(fs::read_to_string(host.bay().join("probe.toml")).expect("settings"), "[limits]\nqueue = 8\n");
    content(&browser).await;
}

#[tokio::test]
async fn what_somebody_else_changed_meanwhile_stays() {
    let builder =
        probe().service("probe@beta", &guests::revision("probe", 2)).service("probe@next", &guests::revision("probe", 3));
    let host = builder.settings("probe", "[limits]\nqueue = 7\n").start().await;
    let Some(browser) = dashboard(&host).await else { return };
    let settings = || fs::read_to_string(host.bay().join("probe.toml")).expect("settings");
    go(&browser, "#/services/probe").await;
    browser.reads(&["Revisions side by side", "@next"]).await;
    // The page does not know yet of the share of the other, as no event tells it.
    browser.write(".percent input", "50").await;
    let shared = host.admin().put("/v1/services/probe/traffic", r#"{"shares": {"next": 7}}"#).await;
    assert_eq!(shared.status, 200, "{}", shared.text());
    browser.press("Share out").await;
    browser.reads(&["The requests of probe are shared out anew."]).await;
    let shared_out = "[limits]\nqueue = 7\n\n[traffic]\nnext = 7\nbeta = 50\n";
    assert_eq!(settings(), shared_out);

    browser.press("Settings").await;
    browser.holds("document.querySelector('textarea').value.includes('beta = 50')").await;
    let theirs = format!("# theirs\n{shared_out}");
    let changed = host.admin().put("/v1/services/probe/settings", theirs.clone()).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    browser.write("textarea", "[limits]\nqueue = 8\n").await;
    browser.press("Save").await;
    browser.reads(&["They were not changed", "others by now", "make the change in those"]).await;
    assert_eq!(settings(), theirs);
    assert_eq!(browser.run("return document.querySelector('textarea').value", &[]).await, "[limits]\nqueue = 8\n");
    content(&browser).await;
}

#[tokio::test]
async fn lines_of_guests_are_followed_and_figures_and_calls_are_drawn() {
    let grants = "[grants]\ncalls = [\"probe\", \"nobody\"]\n";
    let talks = probe().service("talks", &guests::fixture("logging"));
    let host = talks.service("caller", &guests::fixture("fetcher")).settings("caller", grants).start().await;
    let Some(browser) = dashboard(&host).await else { return };
    go(&browser, "#/services/talks").await;
    browser.holds("document.querySelector('.bar .live')?.innerText === 'live'").await;
    assert_eq!(host.get("/talks/levels").await.status, 200);
    browser.reads(&["words of info", "words of error", "prices"]).await;
    browser.write("input[placeholder='Filter lines']", "of error").await;
    browser.holds("!document.body.innerText.includes('words of info')").await;

    // What was asked for shows within the time of a sample.
    browser.holds("/p50 \\/ p99\\n\\d/.test(document.body.innerText)").await;
    browser.holds("document.querySelectorAll('.chart canvas').length === 2").await;
    browser.holds("/requests: [\\d.]+ at last/.test(document.querySelector('.plot').ariaLabel)").await;
    go(&browser, "#/").await;
    browser.holds("[...document.querySelectorAll('tbody tr')].some((row) => row.innerText.includes('talks') && / µs| ms/.test(row.innerText))").await;

    crate::outbound::asked(&host, "caller", "probe.internal").await;
    go(&browser, "#/calls").await;
    browser.reads(&["As a list", "caller", "nobody", "missing"]).await;
    browser
        .holds("document.querySelectorAll('svg .node').length === 3 && document.querySelectorAll('svg .edge').length === 2")
        .await;
    browser.holds("document.querySelector('svg .edge.used text')?.textContent === '1'").await;
    go(&browser, "#/logs").await;
    browser.holds("document.querySelector('.bar .live')?.innerText === 'live'").await;
    assert_eq!(host.get("/talks/levels").await.status, 200);
    browser.reads(&["talks", "words of critical"]).await;
    content(&browser).await;
}

#[tokio::test]
async fn a_wrong_token_and_a_host_that_is_gone_are_told_and_a_new_one_is_found() {
    let host = probe().start().await;
    let Some(browser) = Browser::start().await else { return };
    let page = format!("http://{}/", host.admin().address());
    browser.open(&page).await;
    browser.reads(&["This page needs the admin token"]).await;
    browser.write("input[name=token]", &"0".repeat(64)).await;
    browser.press("Open").await;
    browser.reads(&["The host refuses this token."]).await;
    browser.write("input[name=token]", &host.admin().token()).await;
    browser.key(Key::Enter).await;
    browser.reads(&["live", "probe"]).await;
    browser.reload().await;
    browser.reads(&["live", "probe"]).await;
    browser.press("Leave").await;
    browser.reads(&["This page needs the admin token"]).await;
    assert_eq!(browser.run("return sessionStorage.length + document.cookie.length", &[]).await, 0);

    browser.open("about:blank").await;
    browser.open(&address(&host)).await;
    browser.reads(&["live", "probe"]).await;
    assert_eq!(browser.address().await, page, "the token stays in the address");

    let admin = host.admin().address();
    let builder = host.stop().await;
    browser.reads(&["The host does not answer. What is shown may be old.", "no answer"]).await;
    browser.press("Try now").await;
    let host = builder.service("later", &guests::revision("probe", 3)).admin_at(admin).start().await;
    browser.reads(&["live", "later"]).await;
    browser.holds("!document.body.innerText.includes('does not answer')").await;
    assert_eq!(host.admin().address(), admin);
    content(&browser).await;
}

/// `hotbay dashboard` where the program that opens a browser is this script, if it is there at all; with `path` after its folder.
async fn command(host: &Host, script: Option<&str>, path: &str) -> hotbay_tests::Finished {
    let folder = host.folder().join("browser");
    fs::create_dir_all(&folder).expect("a folder");
    if let Some(script) = script {
        fs::write(folder.join("xdg-open"), script).expect("a file");
        fs::set_permissions(folder.join("xdg-open"), fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let mut command = host.command(["dashboard"]);
    command.env("PATH", format!("{}:{path}", folder.display()));
    hotbay_tests::host::finish(command).await
}

#[tokio::test]
async fn without_a_browser_the_command_says_so_in_words() {
    let host = probe().start().await;
    let page = format!("http://{}/", host.admin().address());
    for (script, why) in [(None, "no program that opens one"), (Some("#!/bin/sh\nexit 3\n"), "none is found on this machine")] {
        let ended = command(&host, script, "").await;
        hotbay_tests::host::assert_fails(&ended, &["no browser could be opened", why, &page, "hotbay dashboard --print"]);
        assert!(!ended.stderr.contains("ticket") && !ended.stderr.contains("ExitStatus"), "{ended:?}");
    }
}

/// What `hotbay dashboard` hands to the browser: an argument, which other users may read.
async fn opened(host: &Host) -> String {
    let folder = host.folder().join("browser");
    let _ = fs::remove_file(folder.join("opened"));
    let script = format!("#!/bin/sh\necho \"$1\" > {0}/opened.new && mv {0}/opened.new {0}/opened\n", folder.display());
    let path = std::env::var("PATH").unwrap_or_default();
    let ended = command(host, Some(&script), &path).await;
    assert!(ended.code == Some(0) && !ended.stdout.contains("ticket"), "{ended:?}");
    let began = std::time::Instant::now();
    loop {
        if let Ok(address) = fs::read_to_string(folder.join("opened")) {
            return address.trim().to_owned();
        }
        assert!(began.elapsed() < PATIENCE, "no browser was opened");
        tokio::task::yield_now().await;
    }
}

/// Guards `Tickets::take` in host/src/admin/tickets.rs, and `page_with_ticket` in host/src/cli/client.rs.
#[tokio::test]
async fn the_browser_is_handed_a_ticket_that_is_good_once_and_not_the_token() {
    let host = probe().start().await;
    let admin = host.admin();
    let exchange = async |address: &str| {
        let ticket = address.split_once("#ticket=").map(|(_, ticket)| ticket).unwrap_or_else(|| panic!("{address}"));
        let body = json!({ "ticket": ticket }).to_string();
        admin.stranger("POST", "/v1/tickets/exchange").header("content-type", "application/json").body(body).send().await
    };
    let address = opened(&host).await;
    assert!(!address.contains(&admin.token()), "{address}");
    let got = exchange(&address).await;
    assert_eq!((got.status, got.header("cache-control")), (200, "no-store"));
    assert_eq!(got.json()["token"], admin.token());
    for nothing in [address.as_str(), "#ticket=", &format!("#ticket={}", "0".repeat(64)), &format!("#ticket={}", admin.token())] {
        let refused = exchange(nothing).await;
        assert_eq!(refused.status, 403, "{nothing}");
        assert!(!refused.text().contains(&admin.token()), "{}", refused.text());
    }
    assert_eq!(admin.stranger("POST", "/v1/tickets").send().await.status, 401, "only who has the token gets a ticket");
    let strange = admin.stranger("POST", "/v1/tickets/exchange").header("origin", "http://elsewhere.example.com");
    assert_eq!(strange.send().await.status, 403);

    let Some(browser) = Browser::start().await else { return };
    let address = opened(&host).await;
    browser.open(&address).await;
    browser.reads(&["live", "probe"]).await;
    assert_eq!(browser.address().await, format!("http://{}/", admin.address()), "nothing of it stays in the address");
    browser.reload().await;
    browser.reads(&["live", "probe"]).await;
    browser.press("Leave").await;
    browser.open("about:blank").await;
    browser.open(&address).await;
    browser.reads(&["This page needs the admin token", "was used before, or is older than a minute", "hotbay dashboard"]).await;
}

/// Guards the look at the user in `Tickets::take`: whoever lists the processes is faster than a browser.
#[tokio::test]
async fn another_user_of_the_machine_gets_nothing_for_a_ticket() {
    let may = tokio::process::Command::new("setpriv").args(["--reuid", "65534", "--clear-groups", "true"]).output().await;
    if !may.is_ok_and(|ended| ended.status.success()) {
        return println!("skipped: this user cannot become another one (setpriv of util-linux)");
    }
    let host = probe().start().await;
    let address = opened(&host).await;
    let ticket = address.split_once("#ticket=").map(|(_, ticket)| ticket.to_owned()).unwrap_or_else(|| panic!("{address}"));
    let as_user = async |user: &str| {
        let body = json!({ "ticket": ticket }).to_string();
        let admin = host.admin().address();
        let head = format!(
            "POST /v1/tickets/exchange HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        let line = format!("exec 3<>/dev/tcp/{}/{}; printf %s \"$1\" >&3; cat <&3", admin.ip(), admin.port());
        let mut command = tokio::process::Command::new("setpriv");
        command.args(["--reuid", user, "--clear-groups", "bash", "-c", &line, "bash", &(head + &body)]);
        String::from_utf8_lossy(&command.output().await.expect("it runs").stdout).into_owned()
    };
    let refused = as_user("65534").await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("another user's"), "{refused}");
    host.log().wait("a warning", |event| event.level == "WARN" && event.message.contains("another user")).await;
    let own = as_user("0").await;
    assert!(own.starts_with("HTTP/1.1 200") && own.contains(&host.admin().token()), "{own}");
}

/// What `hotbay dashboard --print` prints, for a browser elsewhere.
#[tokio::test]
async fn the_command_prints_an_address_that_lets_one_in() {
    let host = probe().start().await;
    let printed = hotbay_tests::host::ask(&host, ["dashboard", "--print"]).await;
    assert_eq!((printed.code, printed.stdout.trim()), (Some(0), address(&host).as_str()), "{}", printed.stderr);
    let Some(browser) = Browser::start().await else { return };
    browser.open(printed.stdout.trim()).await;
    browser.reads(&["live", "probe"]).await;
    content(&browser).await;
}
