//! What guests write by `wasi:logging`: records of their service, bounded, that hold nobody up.

use hotbay_tests::{Host, guests};

async fn host() -> Host {
    Host::builder().service("talks", &guests::fixture("logging")).service("neighbour", &guests::fixture("probe")).start().await
}

#[tokio::test]
async fn a_message_is_a_record_of_its_service_revision_and_request() {
    let host = Host::builder().service("talks", &guests::fixture("logging")).log("hotbay=info,hotbay::guest=trace").start().await;
    let answer = host.request("GET", "/talks/levels").header("x-request-id", "seven").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (name, level) in
        [("trace", "TRACE"), ("debug", "DEBUG"), ("info", "INFO"), ("warn", "WARN"), ("error", "ERROR"), ("critical", "ERROR")]
    {
        let text = format!("words of {name}");
        let record = host.log().wait(&text, |event| event.message == text).await;
        assert_eq!((record.target.as_str(), record.level.as_str()), ("hotbay::guest", level), "{name}");
        assert_eq!((record.service.as_str(), record.request_id.as_str()), ("talks", "seven"), "{name}");
        assert_eq!(record.revision, answer.revision(), "{name}");
        assert_eq!((&record.fields["stream"], &record.fields["context"]), (&"logging".into(), &"prices".into()), "{name}");
    }
}

/// Guards the cut in `State::line` in host/src/runtime/stdio.rs.
#[tokio::test]
async fn a_flood_is_cut_and_counted_while_a_neighbour_answers() {
    let host = host().await;
    let flood = host.request("GET", "/talks/flood").header("x-request-id", "flood").send();
    let (flood, ()) = tokio::join!(flood, async {
        for _ in 0..50 {
            assert_eq!(host.get("/neighbour/marker").await.status, 200);
        }
    });
    assert_eq!(flood.status, 200, "{}", flood.text());
    let cut = host.log().wait("a record of what was cut", |event| event.fields.get("cut").is_some()).await;
    assert_eq!((cut.service.as_str(), cut.request_id.as_str(), cut.revision.as_str()), ("talks", "flood", flood.revision()));
    assert_eq!(cut.fields["cut"], 99_800);
    let told = host.events().into_iter().filter(|event| event.message.starts_with("flood ")).count();
    assert_eq!(told, 200);
}

/// Guards `is_logged` in host/src/runtime/stdio.rs: what no filter lets through uses nothing up.
#[tokio::test]
async fn what_nobody_hears_does_not_drown_what_matters() {
    let host = host().await;
    assert_eq!(host.get("/talks/unheard").await.status, 200);
    host.log().wait("the error", |event| event.message == "and this is heard" && event.level == "ERROR").await;
}

#[tokio::test]
async fn a_message_of_several_lines_is_several_records() {
    let host = host().await;
    assert_eq!(host.get("/talks/lines").await.status, 200);
    for line in ["first", "second"] {
        host.log().wait(line, |event| event.message == line && event.target == "hotbay::guest").await;
    }
}

#[tokio::test]
async fn the_report_of_a_trap_has_the_last_messages() {
    let host = Host::builder().service("talks", &guests::fixture("logging")).dev().start().await;
    let answer = host.get("/talks/trap").await;
    assert_eq!(answer.status, 500);
    assert!(answer.json()["dev"]["output"].to_string().contains("the last words"), "{}", answer.text());
}

/// Guards the drop of `State` in host/src/runtime/stdio.rs: a guest that is ended in the middle has said something too.
#[tokio::test]
async fn a_guest_that_is_ended_leaves_its_last_words() {
    let host = Host::builder()
        .service("talks", &guests::fixture("logging"))
        .settings("talks", "[limits]\ndeadline = \"200ms\"\n")
        .start()
        .await;
    let answer = host.get("/talks/mutter").await;
    assert_eq!(answer.status, 504);
    let words = host.log().wait("the words", |event| event.message == "words without an end").await;
    assert_eq!(words.request_id, answer.request_id());
}

#[tokio::test]
async fn the_macros_of_the_sdk_write_records_with_level_and_context() {
    let host = Host::builder().service("keeper", &guests::fixture("keeper")).start().await;
    let answer = host.request("GET", "/keeper/log?ink").header("x-request-id", "eight").send().await;
    assert_eq!(answer.text(), "done");
    for (text, level, context) in [("told of ink", "INFO", "keeper"), ("and of 3", "ERROR", "keeper")] {
        let record = host.log().wait(text, |event| event.message == text).await;
        assert_eq!((record.level.as_str(), record.request_id.as_str()), (level, "eight"), "{record:?}");
        assert_eq!(record.fields["context"], context, "{record:?}");
    }
}
