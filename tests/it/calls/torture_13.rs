//! Line 13 of the torture list for calls: services that call each other in a circle, or one behind the other without end, and
//! permits that wait for each other.

use super::called;
use crate::outbound::{asked, asking, counted, said};
use futures::future::join_all;
use hotbay_tests::{Builder, Host, Request, Response, guests};

/// Services by these names, each of which may call all of them.
fn ring<const N: usize>(names: [&str; N], settings: &str) -> Builder {
    let fetcher = guests::fixture("fetcher");
    let settings = format!("[grants]\ncalls = {names:?}\n{settings}");
    names.into_iter().fold(Host::builder(), |builder, name| builder.service(name, &fetcher).settings(name, &settings))
}

/// A request to the first of them, which passes it on to the second, which passes it on to the third…
fn through<const N: usize>(host: &Host, names: [&str; N]) -> Request {
    let [first, rest @ ..] = names.as_slice() else { panic!("nobody to ask") };
    let request = host.request("GET", &format!("/{first}/pass"));
    rest.iter().enumerate().fold(request, |request, (depth, name)| {
        let prefix = "x-pass-".repeat(depth);
        let request = request.header(&format!("{prefix}x-authority"), &format!("{name}.internal"));
        // The last one is not asked to call.
        let path = if depth + 1 == rest.len() { "/" } else { "/pass" };
        request.header(&format!("{prefix}x-path"), path)
    })
}

#[track_caller]
fn assert_chain(answer: &Response, chain: &str, callee: &str) {
    let problem = answer.json();
    assert_eq!((answer.status, &problem["status"]), (508, &508.into()), "{problem}");
    assert_eq!((&problem["chain"], &problem["service"]), (&chain.into(), &callee.into()), "{problem}");
}

/// Guards `Shared::linked` in host/src/dispatch/calls.rs.
#[tokio::test]
async fn a_circle_is_refused_and_named() {
    let host = ring(["a", "b", "c"], "").start().await;
    assert_chain(&through(&host, ["a", "b", "a"]).send().await, "a → b → a", "a");
    assert_chain(&through(&host, ["a", "b", "c", "b"]).send().await, "a → b → c → b", "b");
    let itself = through(&host, ["c", "c"]).send().await;
    assert_chain(&itself, "c → c", "c");
    let line = called(&host, "c", "c").await;
    assert!(
        line.status == Some(508) && line.reason.contains("c → c") && line.request_id == itself.request_id(),
        "{}",
        line.fields
    );
    // The same service twice, one after the other, is no circle.
    assert_eq!(through(&host, ["a", "b", "c"]).send().await.status, 200);
    let twice = asking(&host, "a", "b.internal").header("x-count", "5");
    let twice = said(twice).await;
    assert_eq!(twice["status"], 200, "{twice}");
    assert_eq!(counted(&host, "hotbay_calls_total", &["caller=\"c\"", "callee=\"c\"", "code_class=\"5xx\""]).await, 1.0);
}

#[tokio::test]
async fn calls_one_behind_the_other_are_bounded() {
    let names = ["a", "b", "c", "d"];
    let host = ring(names, "").config("[calls]\ndepth = 2\n").start().await;
    assert_eq!(through(&host, ["a", "b", "c"]).send().await.status, 200);
    let answer = through(&host, names).send().await;
    assert_chain(&answer, "a → b → c → d", "d");
    let line = called(&host, "d", "c").await;
    assert!(line.reason.contains("calls.depth"), "{}", line.fields);
    // By default it is eight.
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let host = ring(names, "").start().await;
    let nine = through(&host, ["a", "b", "c", "d", "e", "f", "g", "h", "i"]).send().await;
    assert_eq!(nine.status, 200, "{}", nine.text());
    assert_chain(&through(&host, names).send().await, "a → b → c → d → e → f → g → h → i → j", "j");
}

/// Two services with one permit each that call each other: those who hold one wait for the other, and each wait has its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_that_wait_for_each_other_are_given_back() {
    let host = ring(["a", "b"], "[limits]\nconcurrency = 1\nqueue = 64\nqueue_wait = \"200ms\"\n").start().await;
    for _ in 0..5 {
        let asked = (0..8).flat_map(|_| [("a", "b.internal"), ("b", "a.internal")]);
        let answers = join_all(asked.map(|(service, authority)| asking(&host, service, authority).send())).await;
        for answer in answers {
            // The caller had no permit in time, or its callee had none.
            let fine = answer.status == 503
                || answer.status == 200 && [200, 503].contains(&answer.json()["status"].as_u64().unwrap_or(0));
            assert!(fine, "{}: {}", answer.status, answer.text());
        }
    }
    for (service, authority) in [("a", "b.internal"), ("b", "a.internal")] {
        assert_eq!(asked(&host, service, authority).await["status"], 200);
        assert_eq!(counted(&host, "hotbay_requests_in_flight", &[&format!("service=\"{service}\"")]).await, 0.0);
    }
}
