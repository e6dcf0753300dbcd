//! Line 20: destinations in disguise. Each is refused, and the server that they are after sees no connection.

use super::{FETCHERS, HELLO, asked, asking, assert_error, both, configured, counted, said};
use hotbay_tests::{NameServer, Upstream};
use std::net::Ipv4Addr;

/// An address of the public network that nobody dials for earnest (RFC 7535): packets to it end in a sink.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(192, 31, 196, 77);

/// Guards `Origin` in host/src/config/origin.rs and `Grants::allow_http`.
#[tokio::test]
async fn no_spelling_of_an_address_gets_around_the_grants() {
    let inside = Upstream::answering(HELLO).await;
    let port = inside.port();
    // The port and the scheme are right, so that the host alone decides.
    let host = both(&format!("[grants]\nhttp = [\"http://api.example.com:{port}\"]\n")).await;
    let disguises = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "127.0.0.2",
        "%31%32%37.0.0.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "api.localhost",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "2852039166",
        "api.example.com.evil.example",
        "evil-api.example.com",
        "example.com",
    ];
    for service in FETCHERS {
        for disguise in disguises {
            let said = asked(&host, service, &format!("{disguise}:{port}")).await;
            // Some never leave the guest: the interface takes no such authority.
            let refused = ["HttpRequestDenied", "cannot be set"].iter().any(|error| said["error"].to_string().contains(error));
            assert!(refused, "{service} {disguise}: {said}");
        }
        for authority in [
            format!("api.example.com:{port}@127.0.0.1:{port}"),
            format!("api.example.com@127.0.0.1:{port}"),
            format!("127.0.0.1:{port}@api.example.com:{port}"),
            "256.0.0.1".to_owned(),
            "api.example.com:99999".to_owned(),
            format!("api..example.com:{port}"),
        ] {
            let said = asked(&host, service, &authority).await;
            let refused =
                ["HttpRequestUriInvalid", "cannot be set"].iter().any(|error| said["error"].to_string().contains(error));
            assert!(refused, "{service} {authority}: {said}");
        }
        // No authority at all.
        assert_error(&said(host.request("GET", &format!("/{service}/get"))).await, "HttpRequestUriInvalid");
    }
    assert_eq!(inside.connections(), 0);
    let line = host.log().wait("a line on a denied request", |event| event.target == "hotbay::denied").await;
    assert!(line.fields["authority"] == format!("127.0.0.1:{port}") && line.reason == "not granted", "{}", line.fields);
    let denied = counted(&host, "hotbay_denied_total", &["service=\"fetcher\"", "capability=\"http\""]).await;
    assert!(denied >= 30.0, "{denied}");
}

#[tokio::test]
async fn a_grant_is_for_the_address_that_it_names_and_for_no_other() {
    let inside = Upstream::answering(HELLO).await;
    let port = inside.port();
    let host = both(&inside.grant()).await;
    for service in FETCHERS {
        for same in ["127.0.0.1", "127.1", "0x7f.0.0.1"] {
            assert_eq!(asked(&host, service, &format!("{same}:{port}")).await["status"], 200, "{service} {same}");
        }
        for other in ["localhost", "127.0.0.2", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"] {
            assert_error(&asked(&host, service, &format!("{other}:{port}")).await, "HttpRequestDenied");
        }
        assert_error(&asked(&host, service, "127.0.0.1:1").await, "HttpRequestDenied");
        let https = said(asking(&host, service, &inside.address().to_string()).header("x-scheme", "https")).await;
        assert_error(&https, "HttpRequestDenied");
    }
    let tunnel = said(asking(&host, "fetcher", &inside.address().to_string()).header("x-method", "CONNECT")).await;
    assert_error(&tunnel, "HttpRequestMethodInvalid");
    let ftp = said(asking(&host, "fetcher", &inside.address().to_string()).header("x-scheme", "ftp")).await;
    assert_error(&ftp, "HttpProtocolError");
    // The name of this machine, where it is what is granted.
    let host = both(&format!("[grants]\nhttp = [\"http://localhost:{port}\"]\n")).await;
    for same in ["localhost", "LocalHost", "localhost."] {
        assert_eq!(asked(&host, "fetcher", &format!("{same}:{port}")).await["status"], 200, "{same}");
    }
    assert_error(&asked(&host, "fetcher", &inside.address().to_string()).await, "HttpRequestDenied");
}

#[tokio::test]
async fn a_redirect_is_handed_to_the_guest_and_not_followed() {
    let inside = Upstream::answering(HELLO).await;
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", inside.address());
    let outside = Upstream::answering(answer).await;
    let host = both(&outside.grant()).await;
    for service in FETCHERS {
        assert_eq!(asked(&host, service, &outside.address().to_string()).await["status"], 302);
        assert_error(&asked(&host, service, &inside.address().to_string()).await, "HttpRequestDenied");
    }
    assert_eq!(inside.connections(), 0);
}

/// Guards `Network::addresses` and `is_public`.
#[tokio::test]
async fn a_name_leads_to_no_address_of_the_inside() {
    let inside = Upstream::answering(HELLO).await;
    let names = NameServer::answering(|name, _| match name {
        "loopback.example" => vec![Ipv4Addr::LOCALHOST],
        "private.example" => vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 168, 0, 1)],
        "metadata.example" => vec![Ipv4Addr::new(169, 254, 169, 254)],
        "zero.example" => vec![Ipv4Addr::UNSPECIFIED],
        _ => Vec::new(),
    })
    .await;
    let port = inside.port();
    let granted: Vec<_> = ["loopback", "private", "metadata", "zero", "nobody"]
        .iter()
        .map(|name| format!("\"http://{name}.example:{port}\""))
        .collect();
    let host = configured(&format!("[grants]\nhttp = [{}]\n", granted.join(", ")), &names.config()).await;
    for service in FETCHERS {
        for name in ["loopback", "private", "metadata", "zero"] {
            assert_error(&asked(&host, service, &format!("{name}.example:{port}")).await, "DestinationIpProhibited");
        }
        assert_error(&asked(&host, service, &format!("nobody.example:{port}")).await, "DnsError");
    }
    assert_eq!(inside.connections(), 0);
    let line = host.log().wait("a line on the address", |event| event.target == "hotbay::denied").await;
    assert!(line.reason.contains("`loopback.example` leads to 127.0.0.1"), "{}", line.fields);
    assert_eq!(counted(&host, "hotbay_denied_total", &["service=\"fetcher\""]).await, 4.0);
}

/// Guards that the address which was looked at is the one that is dialled: one look-up a connection, and none after it.
#[tokio::test]
async fn a_name_that_changes_between_look_ups_leads_nowhere_else() {
    let inside = Upstream::answering(HELLO).await;
    let names = NameServer::answering(|name, before| match (name, before) {
        ("mixed.example", _) => vec![Ipv4Addr::LOCALHOST, PUBLIC],
        (_, 0) => vec![PUBLIC],
        _ => vec![Ipv4Addr::LOCALHOST],
    })
    .await;
    let port = inside.port();
    let settings = format!("[grants]\nhttp = [\"http://rebound.example:{port}\", \"http://mixed.example:{port}\"]\n");
    let host = configured(&settings, &format!("connect_timeout = \"500ms\"\n{}", names.config())).await;
    let first = asked(&host, "fetcher", &format!("rebound.example:{port}")).await;
    assert!(
        first["error"].is_string() && !first["error"].to_string().contains("Prohibited"),
        "it was allowed and dialled: {first}"
    );
    assert_eq!(names.asked(), ["rebound.example"], "one look-up");
    assert_error(&asked(&host, "fetcher", &format!("rebound.example:{port}")).await, "DestinationIpProhibited");
    assert_eq!(names.asked().len(), 2);
    let mixed = asked(&host, "fetcher", &format!("mixed.example:{port}")).await;
    assert!(mixed["error"].is_string(), "of two addresses the allowed one was dialled: {mixed}");
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn hosts_below_internal_are_reserved() {
    let host = both("[grants]\nhttp = [\"https://api.example.com\"]\n").await;
    for service in FETCHERS {
        let mark = host.mark();
        assert_error(&asked(&host, service, "stock.internal").await, "DestinationNotFound");
        let line = host.since(mark).wait("a line on the denied request", |event| event.target == "hotbay::denied").await;
        assert!(line.reason.contains("grants.calls"), "{}", line.fields);
    }
}
