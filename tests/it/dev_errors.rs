//! What `--dev` does for whoever writes a service: errors that say where and what to do, and pages that load themselves again.

mod in_a_browser;

use crate::outbound::{asking, counted};
use hotbay_tests::{Builder, Host, How, Message, Messages, Reply, Request, Response, Signal, guests};
use serde_json::json;

/// What a browser says of what it likes, when it goes to a page.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

fn pages() -> Builder {
    Host::builder().service("pages", &guests::fixture("pages"))
}

async fn dev() -> Host {
    pages().dev().start().await
}

fn browsing(host: &Host, target: &str) -> Request {
    host.request("GET", target).header("accept", BROWSER)
}

async fn browsed(host: &Host, target: &str) -> Response {
    browsing(host, target).send().await
}

/// A page of the host's own, with all that keeps it from doing what a guest's words say.
fn assert_error_page(answer: &Response, status: u16) -> String {
    assert_eq!((answer.status, answer.header("content-type")), (status, "text/html; charset=utf-8"), "{}", answer.text());
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    assert_eq!((answer.header("cache-control"), answer.header("vary")), ("no-store", "accept"));
    answer.text()
}

#[tokio::test]
async fn a_browser_gets_a_page_and_everybody_else_a_problem() {
    let host = dev().await;
    let page = assert_error_page(&browsing(&host, "/pages/panic").header("x-words", "out of plums").send().await, 500);
    assert!(page.contains("<h1>out of plums</h1>"), "the panic's message comes first: {page}");
    for told in ["pages::price::of", "src/price.rs:6", "The request", "GET /pages/panic", "unreachable", "<b>To do:</b>"] {
        assert!(page.contains(told), "{told}: {page}");
    }
    for accept in [None, Some("*/*"), Some("application/json"), Some("text/html;q=0.5, application/json")] {
        let request = host.request("GET", "/pages/panic").header("x-words", "out of plums");
        let request = match accept {
            Some(accept) => request.header("accept", accept),
            None => request,
        };
        let answer = request.send().await;
        assert_eq!((answer.status, answer.header("content-type")), (500, "application/problem+json"), "{accept:?}");
        let dev = answer.json()["dev"].clone();
        assert_eq!(dev["failure"]["message"], "out of plums", "{dev}");
        assert!(dev["failure"]["at"].as_str().is_some_and(|at| at.contains("src/price.rs:6:")), "{dev}");
        let frames = dev["backtrace"].to_string();
        assert!(frames.contains("pages::price::of at ") && frames.contains("src/price.rs:6"), "{frames}");
        assert_eq!((&dev["request"]["method"], &dev["request"]["target"]), (&json!("GET"), &json!("/pages/panic")));
        assert!(dev["output"].to_string().contains("panicked at"), "{dev}");
    }
}

/// Guards `Text` in host/src/http/dev/html.rs and `CREDENTIALS` in host/src/dispatch/details.rs.
#[tokio::test]
async fn a_page_shows_strangers_words_as_words_and_credentials_not_at_all() {
    let host = dev().await;
    let evil = "</style><script>alert('x')</script>";
    let request = browsing(&host, "/pages/panic")
        .header("x-words", evil)
        .header("x-other", evil)
        .header("authorization", "Bearer t0p-secret")
        .header("cookie", "id=t0p-secret");
    let page = assert_error_page(&request.send().await, 500);
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"), "{page}");
    assert!(!page.contains("alert('x')") && !page.contains("t0p-secret") && page.contains("(hidden)"), "{page}");
    assert_eq!((page.matches("<script").count(), page.matches("</style>").count()), (1, 1), "its own and no other: {page}");
    let request = host.request("GET", "/pages/panic").header("authorization", "Bearer t0p-secret");
    let answer = request.send().await.text();
    assert!(!answer.contains("t0p-secret") && answer.contains("(hidden)"), "{answer}");
}

/// The last lines are there for every way to fail, and not for a trap alone.
#[tokio::test]
async fn whatever_a_guest_fails_by_its_last_lines_are_shown() {
    let host = pages().settings("pages", "[limits]\ndeadline = \"300ms\"").dev().start().await;
    let page = assert_error_page(&browsed(&host, "/pages/sleep").await, 504);
    assert!(page.contains("before the sleep") && page.contains("limits.deadline"), "{page}");
    let dev = host.get("/pages/silent").await.json()["dev"].clone();
    assert_eq!(dev["output"], json!(["nothing is answered"]), "{dev}");
}

/// Guards `edge.dev` in host/src/http/exchange.rs: a host without `--dev` answers as if none of this were there.
#[tokio::test]
async fn production_shows_none_of_it() {
    let host = pages().start().await;
    let answer = browsing(&host, "/pages/panic").header("x-words", "out of plums").send().await;
    assert_eq!((answer.status, answer.header("content-type")), (500, "application/problem+json"));
    let members: Vec<_> = answer.json().as_object().expect("an object").keys().cloned().collect();
    assert_eq!(members, ["detail", "request_id", "service", "status", "title"]);
    assert!(!answer.headers.contains_key("vary") && !answer.headers.contains_key("content-security-policy"));
    let page = browsing(&host, "/pages/page").header("x-set-x-hotbay-reload", "off").header("x-set-etag", "\"1\"").send().await;
    assert!(page.text().ends_with("</html>"), "{}", page.text());
    assert_eq!((page.header("x-hotbay-reload"), page.header("etag")), ("off", "\"1\""), "{:?}", page.headers);
    assert!(!browsed(&host, "/pages/fetch?api.example.com").await.headers.contains_key("x-hotbay-dev"));
    for own in ["/.hotbay/reload?service=pages", "/.hotbay/reload.js"] {
        assert_eq!(host.get(own).await.status, 404, "{own}");
    }
}

#[tokio::test]
async fn a_missing_grant_is_shown_as_the_line_that_grants_it() {
    let settings = "[grants]\nhttp = [\"https://other.example.com\"]";
    let host = pages().settings("pages", settings).dev().start().await;
    let line = r#"http = ["https://other.example.com", "https://api.example.com:8443"]"#;
    let page = assert_error_page(&browsed(&host, "/pages/fetch-panic?api.example.com:8443").await, 500);
    let shown = line.replace('"', "&quot;");
    assert!(page.contains(&format!("in pages.toml, where a line of that name is in its place:<pre>{shown}</pre>")), "{page}");
    let denied = host.get("/pages/fetch-panic?api.example.com:8443").await.json()["dev"]["denied"].clone();
    let expected = json!([{ "service": "pages", "capability": "http", "destination": "api.example.com:8443",
                            "reason": "not granted", "grant": line }]);
    assert_eq!(denied, expected);
    // A guest that makes an answer of it keeps its answer.
    let answer = host.get("/pages/fetch?api.example.com:8443").await;
    assert!(answer.status == 503 && answer.text().contains("HttpRequestDenied"), "{}", answer.text());
    let told = format!("denied http api.example.com:8443: put {line} below [grants] in pages.toml");
    assert_eq!(answer.header("x-hotbay-dev"), told);
    let event = host.log().wait("a line on what was denied", |event| event.target == "hotbay::denied").await;
    assert_eq!(event.fields["remedy"], format!("put {line} below [grants] in pages.toml"));
    // And the line does what it says.
    let mark = host.mark();
    host.place_settings("pages", &format!("[grants]\n{line}"));
    host.since(mark).wait("its publication", |event| event.is("pages", "published")).await;
    let denied = host.get("/pages/fetch?api.example.com:8443").await;
    assert!(!denied.text().contains("HttpRequestDenied"), "{}", denied.text());
}

/// Guards `add_setting` in host/src/capabilities/settings.rs: the interface's own function tells nobody what is missing.
#[tokio::test]
async fn a_setting_that_is_not_set_is_shown_as_the_line_that_sets_it() {
    let settings = "[grants]\nconfig = { colour = \"red\" }";
    let host = Host::builder().service("keeper", &guests::fixture("keeper")).settings("keeper", settings).dev().start().await;
    assert_eq!(host.get("/keeper/config-must?colour").await.text(), "red");
    let dev = host.get("/keeper/config-must?page.size").await.json()["dev"].clone();
    assert_eq!(dev["failure"]["message"], "there is no page.size", "{dev}");
    let (denied, line) = (&dev["denied"][0], r#"config = { "colour" = "red", "page.size" = "VALUE" }"#);
    assert_eq!((&denied["capability"], &denied["grant"]), (&json!("config"), &json!(line)), "{dev}");
    let page = assert_error_page(&browsed(&host, "/keeper/config-must?page.size").await, 500);
    assert!(page.contains("<b>Not set:</b> keeper asked for config <code>page.size</code>"), "{page}");
}

/// The denials of one request are not those of the next one on the same instance.
#[tokio::test]
async fn what_was_denied_is_told_of_the_request_that_asked() {
    let host = pages().settings("pages", "[instances]\npolicy = \"reuse\"").dev().start().await;
    assert!(host.get("/pages/fetch?api.example.com").await.headers.contains_key("x-hotbay-dev"));
    let answer = host.get("/pages/page?500").await;
    assert!(answer.status == 500 && !answer.headers.contains_key("x-hotbay-dev"), "{:?}", answer.headers);
}

#[tokio::test]
async fn a_service_without_a_good_revision_says_why() {
    let host = Host::builder().service("broken", b"no wasm at all").dev().start().await;
    let reject = host.wait_rejected("broken").await;
    let remedy = reject.fields["remedy"].as_str().expect("a remedy").to_owned();
    let dev = host.get("/broken").await.json()["dev"].clone();
    assert_eq!((&dev["rejected"]["reason"], &dev["rejected"]["remedy"]), (&json!(reject.reason), &json!(remedy)), "{dev}");
    assert_eq!(dev["remedy"], remedy);
    let page = assert_error_page(&browsed(&host, "/broken").await, 503);
    assert!(page.contains("The last build was rejected:") && page.matches("To do:").count() == 1, "{page}");
    // It is told of another reason, and of a build that works, as soon as there is one.
    let (_, seen) = page.split_once("data-watch=\"service=broken\" data-seen=\"").expect("it waits");
    let (seen, _) = seen.split_once('"').expect("an end");
    let mut told = follow(&host, "service=broken").await;
    assert_eq!(serving(&told.expect().await), [seen]);
    host.place("broken", &guests::text("unknown-import"), How::Rename);
    let other = serving(&told.expect().await);
    assert!(other.len() == 1 && other[0] != seen, "{other:?}");
    assert!(assert_error_page(&browsed(&host, "/broken").await, 503).contains(&format!("data-seen=\"{}\"", other[0])));
    host.swap("broken", &guests::fixture("pages"), How::Rename).await;
    let good = serving(&told.expect().await);
    assert!(good.len() == 1 && good != other, "{good:?}");
}

#[tokio::test]
async fn a_path_that_is_not_there_leads_to_those_that_are() {
    let pages = guests::fixture("pages");
    let host = Host::builder().service("orders", &pages).service("stock", &pages).dev().start().await;
    let routes = host.get("/order/7").await.json()["dev"]["routes"].clone();
    assert!(routes[0] == "/orders" && routes.to_string().contains("/stock"), "{routes}");
    let page = assert_error_page(&browsed(&host, "/pricing/7").await, 404);
    assert!(page.contains("<a href=\"/stock\">") && page.contains("data-watch=\"path=%2Fpricing%2F7\""), "{page}");
    let mut told = follow(&host, "path=%2Fpricing%2F7").await;
    assert_eq!(serving(&told.expect().await), Vec::<String>::new());
    host.swap("pricing", &pages, How::Rename).await;
    assert_eq!(serving(&told.expect().await).len(), 1, "somebody answers there now");
}

/// The script at the end of a page, and the sign of the revision that made it.
fn sign_of(page: &str) -> Option<String> {
    let (_, tag) =
        page.split_once("</html>\n<script src=\"/.hotbay/reload.js\" async data-watch=\"service=pages\" data-seen=\"")?;
    let (sign, end) = tag.split_once('"')?;
    (end == "></script>\n").then(|| sign.to_owned())
}

async fn follow(host: &Host, query: &str) -> Messages {
    Messages::of(followed(host, query).await)
}

async fn followed(host: &Host, query: &str) -> Reply {
    let reply = host.get_open(&format!("/.hotbay/reload?{query}")).await;
    assert_eq!((reply.status, &reply.headers["content-type"]), (200, &"text/event-stream".parse().expect("a value")));
    reply
}

fn serving(message: &Message) -> Vec<String> {
    serde_json::from_value(message.data.clone()).expect("a list")
}

#[tokio::test]
async fn a_page_hears_of_the_swap_of_its_service_however_late_it_listens() {
    let host = dev().await;
    let page = browsed(&host, "/pages/page").await;
    let first = sign_of(&page.text()).expect("a script");
    let mut told = follow(&host, "service=pages").await;
    assert_eq!(serving(&told.expect().await), std::slice::from_ref(&first), "what the page has seen serves still");
    host.swap("pages", &guests::revision("pages", 2), How::Rename).await;
    let second = serving(&told.expect().await);
    assert!(second.len() == 1 && second[0] != first, "{second:?}");
    assert_eq!(sign_of(&browsed(&host, "/pages/page").await.text()).as_ref(), second.first());
    // Who was not there when it happened is told at once.
    assert_eq!(serving(&follow(&host, "service=pages").await.expect().await), second);
    // The same build with other settings may answer otherwise, and is news too.
    host.place_settings("pages", "[limits]\ncpu = \"1s\"");
    let third = serving(&told.expect().await);
    assert!(third.len() == 1 && third != second, "{third:?}");
    // The page of an error waits in the same way.
    let error = browsed(&host, "/pages/panic").await.text();
    assert!(error.contains(&format!("data-watch=\"service=pages\" data-seen=\"{}\"", third[0])), "{error}");
    let script = host.get("/.hotbay/reload.js").await;
    assert!(script.status == 200 && script.header("content-type").starts_with("text/javascript"), "{}", script.text());
    assert_eq!(host.get("/.hotbay/reload").await.status, 400);
}

#[tokio::test]
async fn only_whole_plain_pages_for_a_browser_get_the_script() {
    let host = dev().await;
    let with = async |request: Request| sign_of(&request.send().await.text()).is_some();
    let page = || browsing(&host, "/pages/page");
    assert!(with(page()).await && with(page().h2()).await);
    assert!(with(page().header("sec-fetch-dest", "document")).await);
    assert!(with(browsing(&host, "/pages/page?404")).await, "an error of the guest's own is a page too");
    assert!(!with(host.request("GET", "/pages/page").header("accept", "*/*")).await, "curl shows no page");
    assert!(!with(page().header("sec-fetch-dest", "empty")).await, "a script works on the answer");
    assert!(!with(host.request("POST", "/pages/page").header("accept", BROWSER)).await);
    for (name, value) in [
        ("x-set-content-type", "text/plain"),
        ("x-set-content-encoding", "gzip"),
        ("x-set-x-hotbay-reload", "off"),
        ("x-set-content-range", "bytes 0-9/10"),
    ] {
        let answer = page().header(name, value).send().await;
        assert!(answer.text().ends_with("</html>"), "{name}: {}", answer.text());
        assert!(!answer.headers.contains_key("x-hotbay-reload"), "what is for the host stays there");
    }
    let range = browsing(&host, "/pages/page?206").header("x-set-etag", "\"1\"").send().await;
    assert!(range.text().ends_with("</html>") && range.header("etag") == "\"1\"", "{:?}", range.headers);
    let unchanged = browsing(&host, "/pages/page?304").header("x-set-etag", "\"1\"").send().await;
    assert_eq!((unchanged.status, unchanged.body.len(), unchanged.header("etag")), (304, 0, "\"1\""));
    let head = host.request("HEAD", "/pages/page").header("accept", BROWSER).header("x-set-etag", "\"1\"").send().await;
    assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, "\"1\""));
    // A browser that asked again by what names the page without its script would keep the page of the revision before.
    let answer = page().header("x-set-etag", "\"1\"").header("x-set-last-modified", "Thu, 01 Jan 1970 00:00:00 GMT").send().await;
    assert!(sign_of(&answer.text()).is_some());
    assert!(!answer.headers.contains_key("etag") && !answer.headers.contains_key("last-modified"), "{:?}", answer.headers);
}

#[tokio::test]
async fn a_page_that_streams_gets_the_script_at_its_end() {
    let host = dev().await;
    let length = host.get("/pages/page").await.body.len() + "a slow page".len() - "a page".len();
    for h2 in [false, true] {
        let slow = || if h2 { browsing(&host, "/pages/slow").h2() } else { browsing(&host, "/pages/slow") };
        let answer = slow().send().await;
        assert!(sign_of(&answer.text()).is_some(), "h2 {h2}: {}", answer.text());
        let mut reply = slow().open().await;
        let first = reply.chunk().await.expect("a body").expect("a first piece");
        assert!(first.starts_with(b"<!doctype html>") && first.len() < length, "it streams as it did");
        let answer = slow().header("x-set-content-length", &length.to_string()).send().await;
        let (promised, text) = (answer.header("content-length").to_owned(), answer.text());
        assert!(sign_of(&text).is_some() && promised == text.len().to_string(), "{promised}: {text}");
    }
}

#[tokio::test]
async fn a_setting_switches_it_off_and_leaves_the_errors() {
    let host = pages().config("[dev]\non = true\nreload = false\n").start().await;
    assert!(browsed(&host, "/pages/page").await.text().ends_with("</html>"));
    let page = assert_error_page(&browsed(&host, "/pages/panic").await, 500);
    assert!(!page.contains("<script"), "{page}");
    assert_eq!(host.get("/.hotbay/reload?service=pages").await.status, 404);
}

/// Guards `shutdown` in host/src/http/dev/reload.rs: a page that is open somewhere must not keep the host from its end.
#[tokio::test]
async fn pages_that_listen_do_not_hold_the_end_and_are_no_requests() {
    let mut host = pages().config("drain = \"60s\"\n").dev().start().await;
    let mut told: Vec<_> = vec![follow(&host, "service=pages").await, follow(&host, "path=%2F").await];
    for messages in &mut told {
        messages.expect().await;
    }
    assert_eq!(counted(&host, "hotbay_requests_total", &["service=\"pages\""]).await, 0.0);
    host.signal(Signal::TERM);
    for messages in &mut told {
        assert_eq!(messages.next().await.expect("a whole end"), None);
    }
    assert!(host.exit_status().await.success());
    assert!(!host.told().contains("the drain deadline is over"));
    let requests = host.events().into_iter().filter(|event| event.target == "hotbay::request").count();
    assert_eq!(requests, 0);
}

/// Guards `details` in host/src/dispatch/calls.rs: a caller that passes on what its browser likes is no browser.
#[tokio::test]
async fn a_callee_tells_its_caller_as_a_problem() {
    let builder = pages().service("fetcher", &guests::fixture("fetcher")).settings("fetcher", "[grants]\ncalls = [\"pages\"]");
    let host = builder.dev().start().await;
    let request = asking(&host, "fetcher", "pages.internal").header("x-path", "/fetch-panic?api.example.com");
    let said = request.header("accept", BROWSER).send().await.json();
    // The fetcher hands on no more than the beginning.
    let problem = said["body"].as_str().expect("a body");
    assert!(problem.contains(r#""failure":{"message":"no price: "#), "{problem}");
    assert!(problem.contains(r#""denied":[{"service":"pages","capability":"http","destination":"api.example.com""#), "{problem}");
}
