//! Line 20: destinations in disguise, over TCP. Each is refused, and the server that they are after sees no connection.

use super::{DIALERS, asked, assert_error, both, configured, connected, counted, grant, is_error, silent};
use hotbay_tests::{Host, NameServer, guests};
use std::net::Ipv4Addr;

/// An address of the public network that nobody dials for earnest (RFC 7535): packets to it end in a sink.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(192, 31, 196, 77);

/// Guards `Guest::may_reach` in host/src/capabilities/outbound/tcp/guest.rs.
#[tokio::test]
async fn an_address_that_is_not_granted_is_not_reached() {
    let (inside, granted) = (silent().await, silent().await);
    let port = inside.port();
    let host = both(&grant(&[&granted.address().to_string(), &format!("db.example.com:{port}")])).await;
    for service in DIALERS {
        let mut denied =
            Vec::from(["127.0.0.2", "169.254.169.254", "10.0.0.1", "192.31.196.77", "[::1]"].map(|ip| format!("{ip}:{port}")));
        // The right address and the wrong port, and the other way round.
        denied.push(inside.address().to_string());
        denied.push(format!("127.0.0.1:{}", granted.port() ^ 1));
        denied.push(format!("127.0.0.2:{}", granted.port()));
        denied.push(format!("[::1]:{}", granted.port()));
        for address in &denied {
            assert_error(&connected(&host, service, address).await, "AccessDenied");
        }
        // IPv4 in IPv6, of what is granted and of what is not: the interface has no such address.
        for address in ["[::ffff:127.0.0.1]", "[::127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]"] {
            for port in [port, granted.port()] {
                assert_error(&connected(&host, service, &format!("{address}:{port}")).await, "InvalidArgument");
            }
        }
        assert_eq!(connected(&host, service, &granted.address().to_string()).await["connected"], true, "{service}");
    }
    assert_eq!((inside.connections(), granted.connections()), (0, 2));
    let line = host.log().wait("a line on a denied connection", |event| event.target == "hotbay::denied").await;
    assert_eq!((&line.fields["authority"], &line.fields["capability"]), (&format!("127.0.0.2:{port}").into(), &"tcp".into()));
    assert!(line.reason.contains("not granted") && line.fields["request_id"].is_string(), "{}", line.fields);
    assert_eq!(counted(&host, "hotbay_denied_total", &["service=\"dialer\"", "capability=\"tcp\""]).await, 9.0);
}

/// Guards `Guest::look_up`: no name server hears of a name that is not granted.
#[tokio::test]
async fn a_name_that_is_not_granted_is_not_looked_up() {
    let names = NameServer::answering(|_, _| vec![PUBLIC]).await;
    let host = configured(&grant(&["db.example.com:5432", "127.0.0.1:6379"]), &names.config()).await;
    for service in DIALERS {
        for name in [
            "example.com",
            "x.db.example.com",
            "db.example.com.evil.example",
            "localhost",
            "stock.internal",
            "c2VjcmV0.evil.example",
            // Spellings of an address are that address, and it is another.
            "127.2",
            "0x7f.2",
            "2130706434",
            "0177.0.0.2",
            "169.254.169.254",
            "2852039166",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            let said = asked(&host, service, "look-up", &[("x-name", name)]).await;
            assert_error(&said, "AccessDenied");
        }
        for name in ["db.example.com:5432", "user@db.example.com", "a b", "256.0.0.1", "db..example.com", "fe80::1%eth0"] {
            assert_error(&asked(&host, service, "look-up", &[("x-name", name)]).await, "InvalidArgument");
        }
        // Of what is granted, each spelling is the same.
        for name in ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1"] {
            let said = asked(&host, service, "look-up", &[("x-name", name)]).await;
            assert_eq!(said["found"], serde_json::json!(["127.0.0.1"]), "{service} {name}: {said}");
        }
        assert!(names.asked().is_empty(), "{:?}", names.asked());
    }
    let denied = counted(&host, "hotbay_denied_total", &["service=\"dialer\"", "capability=\"tcp\""]).await;
    assert_eq!(denied, 20.0);
    for name in ["DB.Example.com", "db.example.com."] {
        let said = asked(&host, "dialer", "look-up", &[("x-name", name)]).await;
        assert_eq!(said["found"], serde_json::json!([PUBLIC.to_string()]), "{name}: {said}");
    }
    assert_eq!(names.asked(), ["db.example.com", "db.example.com"]);
}

/// Guards that `Network::addresses` leaves out what is not of the public network.
#[tokio::test]
async fn a_name_leads_to_no_address_of_the_inside() {
    let inside = silent().await;
    let names = NameServer::answering(|name, _| match name {
        "loopback.example" => vec![Ipv4Addr::LOCALHOST],
        "private.example" => vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 168, 0, 1)],
        "metadata.example" => vec![Ipv4Addr::new(169, 254, 169, 254)],
        "zero.example" => vec![Ipv4Addr::UNSPECIFIED],
        "mixed.example" => vec![Ipv4Addr::LOCALHOST, PUBLIC],
        _ => Vec::new(),
    })
    .await;
    let port = inside.port();
    let granted: Vec<_> =
        ["loopback", "private", "metadata", "zero", "mixed", "nobody"].map(|name| format!("{name}.example:{port}")).into();
    let granted: Vec<_> = granted.iter().map(String::as_str).collect();
    let host = configured(&grant(&granted), &names.config()).await;
    let address = inside.address().to_string();
    for service in DIALERS {
        for name in ["loopback", "private", "metadata", "zero"] {
            let name = format!("{name}.example");
            assert_error(&asked(&host, service, "look-up", &[("x-name", &name)]).await, "AccessDenied");
        }
        let mixed = asked(&host, service, "look-up", &[("x-name", "mixed.example")]).await;
        assert_eq!(mixed["found"], serde_json::json!([PUBLIC.to_string()]), "of two the allowed one: {mixed}");
        let said = asked(&host, service, "connect", &[("x-name", "mixed.example"), ("x-address", &address)]).await;
        assert_error(&said, "AccessDenied");
        assert_error(&asked(&host, service, "look-up", &[("x-name", "nobody.example")]).await, "NameUnresolvable");
    }
    assert_eq!(inside.connections(), 0);
    let line = host.log().wait("a line on the address", |event| event.target == "hotbay::denied").await;
    assert!(line.reason.contains("`loopback.example` leads to 127.0.0.1"), "{}", line.fields);
}

/// Guards `Resolved`: what is connected to is what was found, for that name and its port, by that instance.
#[tokio::test]
async fn an_address_must_have_been_found_for_a_name_of_that_port() {
    let names = NameServer::answering(|name, before| match (name, before) {
        ("rebound.example", 1..) => vec![Ipv4Addr::LOCALHOST],
        ("other.example", _) => vec![Ipv4Addr::new(8, 8, 8, 8)],
        _ => vec![PUBLIC],
    })
    .await;
    let inside = silent().await;
    let settings = grant(&["db.example:1", "other.example:2", &format!("rebound.example:{}", inside.port())]);
    let host = configured(&format!("{settings}[limits]\ndeadline = \"1s\"\n"), &names.config()).await;
    for service in DIALERS {
        // Found for a name of another port.
        let said = asked(&host, service, "connect", &[("x-name", "db.example"), ("x-address", &format!("{PUBLIC}:2"))]).await;
        assert_error(&said, "AccessDenied");
        // Found by nobody, or by an instance before.
        assert_error(&connected(&host, service, &format!("{PUBLIC}:1")).await, "AccessDenied");
    }
    assert_eq!(counted(&host, "hotbay_tcp_connections_total", &[]).await, 0.0);
    // Found for this name and its port: begun, and nobody answers there.
    let address = format!("{PUBLIC}:1");
    let answer = super::asking(&host, "dialer", "connect", &[("x-name", "db.example"), ("x-address", &address)]).send().await;
    assert!(!answer.text().contains("denied"), "{}", answer.text());
    assert_eq!(counted(&host, "hotbay_tcp_connections_total", &["service=\"dialer\""]).await, 1.0);
    // An answer that changes leads nowhere else.
    let first = asked(&host, "dialer", "look-up", &[("x-name", "rebound.example")]).await;
    assert_eq!(first["found"], serde_json::json!([PUBLIC.to_string()]), "{first}");
    let headers = [("x-name", "rebound.example"), ("x-address", &*inside.address().to_string())];
    for service in DIALERS {
        assert_error(&asked(&host, service, "connect", &headers).await, "AccessDenied");
        assert_error(&connected(&host, service, headers[1].1).await, "AccessDenied");
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn there_is_no_udp_no_binding_and_no_listening() {
    let host = both(&grant(&["127.0.0.1:6379", "[::1]:6379"])).await;
    for service in DIALERS {
        assert_error(&asked(&host, service, "udp", &[]).await, "AccessDenied");
        for address in ["127.0.0.1:0", "127.0.0.1:6379", "0.0.0.0:6379", "[::1]:0", "[::]:6379"] {
            let said = asked(&host, service, "bind", &[("x-address", address)]).await;
            assert!(is_error(&said["bound"], "AccessDenied"), "{service} {address}: {said}");
            assert!(said["listens"].is_string(), "{service} {address}: {said}");
        }
        // What the system does for each connection by itself opens nothing.
        for address in ["0.0.0.0:0", "[::]:0"] {
            let said = asked(&host, service, "bind", &[("x-address", address)]).await;
            assert!(is_error(&said["listens"], "AccessDenied"), "{service} {address}: {said}");
        }
    }
    let line = host.log().wait("a line on binding", |event| event.target == "hotbay::denied").await;
    assert!(line.reason.contains("only connections are granted"), "{}", line.fields);
}

/// Guards what `SocketsView` says where nothing is granted, and that grants of HTTP are none of TCP.
#[tokio::test]
async fn without_a_grant_there_is_no_socket_and_no_name() {
    let inside = silent().await;
    let names = NameServer::answering(|_, _| vec![PUBLIC]).await;
    let (address, wasm) = (inside.address().to_string(), guests::fixture("dialer"));
    let builder = Host::builder().config(&format!("[outbound]\n{}", names.config())).service("bare", &wasm);
    let builder = builder.service("web", &wasm).settings("web", &inside.grant());
    let host = builder.service("bare3", &guests::fixture("dialer3")).start().await;
    for service in ["bare", "web", "bare3"] {
        assert_error(&connected(&host, service, &address).await, "AccessDenied");
        assert_error(&asked(&host, service, "look-up", &[("x-name", "db.example")]).await, "AccessDenied");
        assert_error(&asked(&host, service, "udp", &[]).await, "AccessDenied");
        let label = format!("service=\"{service}\"");
        assert_eq!(counted(&host, "hotbay_denied_total", &[&label, "capability=\"tcp\""]).await, 2.0, "{service}");
    }
    assert!(inside.connections() == 0 && names.asked().is_empty());
    let line = host.log().wait("a line on the socket", |event| event.target == "hotbay::denied").await;
    assert!(line.reason == "no TCP is granted" && line.service == "bare", "{}", line.fields);
}
