//! Torture line 18: requests that two readers could cut at different places, and header values that could begin a line of their
//! own. What is refused here ends the connection, so that nothing after it is taken for a request.

use hotbay_tests::{Host, guests};

async fn probe() -> Host {
    Host::builder()
        .service("probe", &guests::fixture("probe"))
        .service("program", &guests::fixture("run"))
        .config("[http]\nheader_timeout = \"1s\"\n")
        .start()
        .await
}

/// What a smuggler hopes is answered as a second request.
const SMUGGLED: &str = "GET /probe/status?code=418 HTTP/1.1\r\nHost: x\r\n\r\n";

/// How many answers there are, and that none is the smuggled one's.
fn answers(answer: &str) -> usize {
    assert!(!answer.contains(" 418 "), "a second request was seen: {answer}");
    answer.matches("HTTP/1.1 ").count()
}

#[tokio::test]
async fn a_request_with_two_ideas_of_its_length_is_refused() {
    let host = probe().await;
    let head = "POST /probe/body HTTP/1.1\r\nHost: x\r\n";
    let len = SMUGGLED.len();
    for (what, rest) in [
        ("two lengths", format!("Content-Length: 0\r\nContent-Length: {len}\r\n\r\n{SMUGGLED}")),
        ("two lengths in one", format!("Content-Length: 0, {len}\r\n\r\n{SMUGGLED}")),
        ("a signed length", format!("Content-Length: +0\r\n\r\n{SMUGGLED}")),
        ("a negative length", format!("Content-Length: -1\r\n\r\n{SMUGGLED}")),
        ("a length in hex", format!("Content-Length: 0x0\r\n\r\n{SMUGGLED}")),
        ("a length beyond 64 bits", format!("Content-Length: 18446744073709551616\r\n\r\n{SMUGGLED}")),
        ("an encoding after chunked", format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{SMUGGLED}")),
        ("an encoding that is not chunked", format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{SMUGGLED}")),
        ("an encoding in quotes", format!("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n{SMUGGLED}")),
        ("a blank before the colon", format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{SMUGGLED}")),
        ("a folded header", format!("X-A: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}")),
        ("a folded encoding", format!("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{SMUGGLED}")),
        ("a return without its feed", format!("X-A: 1\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}")),
        ("a zero in a value", format!("X-A: a\0b\r\n\r\n{SMUGGLED}")),
    ] {
        let answer = host.raw(format!("{head}{rest}")).await;
        assert!(answers(&answer) <= 1 && (answer.is_empty() || answer.starts_with("HTTP/1.1 400 ")), "{what}: {answer}");
    }
    let old = format!("POST /probe/body HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
    let answer = host.raw(old).await;
    assert!(answers(&answer) <= 1 && answer.starts_with("HTTP/1.1 400 "), "chunks in HTTP/1.0: {answer}");
    assert_eq!(host.get("/probe/marker").await.status, 200);
}

/// RFC 9112 §6.3: where both are there the chunks count, and the connection ends after the answer, whichever comes first.
#[tokio::test]
async fn with_a_length_and_chunks_the_chunks_count_and_nothing_follows() {
    let host = probe().await;
    for (what, both) in [
        ("CL.TE", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
        ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        ("in capitals", "CONTENT-LENGTH: 3\r\nTRANSFER-ENCODING: CHUNKED\r\n"),
    ] {
        let answer = host.raw(format!("POST /probe/body HTTP/1.1\r\nHost: x\r\n{both}\r\n3\r\nabc\r\n0\r\n\r\n{SMUGGLED}")).await;
        assert_eq!(answers(&answer), 1, "{what}: {answer}");
        assert!(answer.contains("\"bytes\":3"), "{what}: {answer}");
        let seen = host.raw(format!("POST /probe/headers HTTP/1.1\r\nHost: x\r\n{both}\r\n0\r\n\r\n")).await;
        assert!(
            !seen.contains("content-length\",") && !seen.contains("transfer-encoding\","),
            "{what}: the guest sees one idea: {seen}"
        );
    }
}

/// Every way in which a chunk can be odd: refused, and never the beginning of another request.
#[tokio::test]
async fn odd_chunks_are_refused() {
    let host = probe().await;
    let head = "POST /probe/body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (what, chunks) in [
        ("no number", "zz\r\nab\r\n0\r\n\r\n"),
        ("a signed size", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a negative size", "-1\r\nabc\r\n0\r\n\r\n"),
        ("a size with a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("no size", "\r\nabc\r\n0\r\n\r\n"),
        ("a blank before the size", " 3\r\nabc\r\n0\r\n\r\n"),
        ("a size that ends in a bare feed", "3\nabc\r\n0\r\n\r\n"),
        ("a chunk longer than its size", "2\r\nabc\r\n0\r\n\r\n"),
        ("a chunk that ends in a bare feed", "3\r\nabc\n0\r\n\r\n"),
        ("a chunk that ends in a bare return", "3\r\nabc\r0\r\n\r\n"),
    ] {
        let answer = host.raw(format!("{head}{chunks}{SMUGGLED}")).await;
        assert!(answers(&answer) <= 1 && !answer.contains(" 200 OK"), "{what}: {answer}");
    }
    let fine =
        host.raw(format!("{}3;name=\"v\"\r\nabc\r\n000\r\n\r\n", head.replace("Host: x", "Host: x\r\nConnection: close"))).await;
    assert!(fine.contains("\"bytes\":3"), "an extension and zeros in front are allowed: {fine}");
}

/// RFC 9112 §2.2 lets a bare feed end a line of the head. It ends one for all that read it here, so the same headers count.
#[tokio::test]
async fn a_bare_feed_ends_a_line_and_hides_nothing() {
    let host = probe().await;
    let answer = host
        .raw(format!(
            "POST /probe/body HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nContent-Length: 3\n\n3\r\nabc\r\n0\r\n\r\n{SMUGGLED}"
        ))
        .await;
    assert_eq!(answers(&answer), 1, "{answer}");
    assert!(answer.contains("\"bytes\":3"), "{answer}");
}

/// What a guest writes into a header value cannot end its line: neither by the interface of WASI nor by CGI.
#[tokio::test]
async fn a_guest_cannot_write_a_header_of_its_own_making() {
    let host = probe().await;
    for value in ["a%0d%0aX-Evil:1", "a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\0b"] {
        let set = host.request("POST", "/probe/set-raw").body(value.to_owned()).send().await;
        assert!(!set.headers.contains_key("x-evil"), "{value:?}: {:?}", set.headers);
        assert!(
            set.status == 200 && (set.text().starts_with("Err") || !value.contains(['\r', '\n', '\0'])),
            "{value:?}: {}",
            set.text()
        );
    }
    for path in ["split", "return"] {
        let answer = host.get(&format!("/program/{path}")).await;
        assert!(!answer.headers.contains_key("x-evil"), "{path}: {:?}", answer.headers);
    }
}
