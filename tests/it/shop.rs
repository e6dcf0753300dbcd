//! The shop of services/: orders through all of it, while each of its services is swapped in turn.

use hotbay_tests::{Builder, Connection, Host, How, guests};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

const SWAPS: u32 = 200;
const CLIENTS: u64 = 6;
/// More than all clients can order.
const TEAS: u64 = 4_000_000_000;

fn shop() -> Builder {
    let builder = Host::builder().own_state();
    ["stock", "orders", "pricing"].into_iter().fold(builder, |builder, name| {
        let settings = guests::settings(name).expect("an example with settings");
        builder.service(name, &guests::service(name)).settings(name, &settings)
    })
}

async fn count_teas(host: &Host, level: u64) {
    let counted = host.request("PUT", "/stock/tea").header("content-type", "application/json");
    let counted = counted.body(json!({"level": level}).to_string()).send().await;
    assert_eq!(counted.status, 200, "{}\n{}", counted.text(), host.told());
}

async fn teas(host: &Host) -> u64 {
    host.get("/stock/tea").await.json()["level"].as_u64().expect("a level")
}

async fn order(connection: &mut Connection, host: &Host, quantity: u64) -> (u16, Value) {
    let draft = json!({"customer": "ada", "lines": [{"sku": "tea", "quantity": quantity}]});
    let request = host.request("POST", "/orders").header("content-type", "application/json").body(draft.to_string());
    let answer = connection.send(request).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn an_order_goes_through_the_whole_shop() {
    let host = shop().start().await;
    count_teas(&host, 20).await;
    let mut connection = host.connect().await;
    let (status, made) = order(&mut connection, &host, 12).await;
    let expected = json!({
        "id": 1, "customer": "ada", "lines": [{"sku": "tea", "quantity": 12}], "total_cents": 5292, "status": "open",
    });
    assert_eq!((status, &made), (201, &expected), "{}", host.told());
    let (status, problem) = order(&mut connection, &host, 9).await;
    assert_eq!((status, &problem["left"]), (409, &json!(8)), "{problem}");
    assert_eq!(host.get("/catalogue").await.json()["tea"], 490);
    assert_eq!(host.request("DELETE", "/orders/1").send().await.status, 204);
    assert_eq!(teas(&host).await, 20);

    let graph = hotbay_tests::host::ask(&host, ["ps", "--graph"]).await;
    for (caller, callee) in [("orders", "stock"), ("orders", "pricing")] {
        assert!(graph.stdout.contains(&format!("{caller} -> {callee}")), "{}", graph.stdout);
    }
    // What was ordered is there after a restart.
    order(&mut connection, &host, 2).await;
    let host = host.stop().await.start().await;
    assert_eq!((host.get("/orders/2").await.json()["status"].as_str(), teas(&host).await), (Some("open"), 18));
}

/// Promise 1 for services that call each other, and that nothing is lost or sold twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_fails_while_the_shop_is_swapped_piece_by_piece() {
    let host = Arc::new(shop().start().await);
    count_teas(&host, TEAS).await;
    let (ended, sold, orders) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let client = |n: u64| {
        let (host, ended, sold, orders) = (host.clone(), ended.clone(), sold.clone(), orders.clone());
        tokio::spawn(async move {
            let mut connection = host.connect().await;
            while !ended.load(Ordering::Relaxed) {
                let quantity = 1 + n % 3;
                let (status, answer) = order(&mut connection, &host, quantity).await;
                assert_eq!(status, 201, "{answer}\n{}", host.told());
                sold.fetch_add(quantity, Ordering::Relaxed);
                orders.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();

    let begun = Instant::now();
    let builds = |name: &str| [guests::stamped(&guests::service(name), "other"), guests::service(name)];
    let (stock, order_builds) = (builds("stock"), builds("orders"));
    let pricing = guests::settings("pricing").expect("settings");
    for swap in 0..SWAPS {
        let turn = swap / 3 % 2;
        let build = usize::try_from(turn).expect("0 or 1");
        match swap % 3 {
            0 => drop(host.swap("stock", &stock[build], How::Rename).await),
            1 => drop(host.swap("orders", &order_builds[build], How::Rename).await),
            // Its machine code takes a minute, so that its settings make the new revision.
            _ => {
                let mark = host.mark();
                host.place_settings("pricing", &format!("{pricing}queue = {}\n", 100 + swap));
                host.since(mark).wait_for("pricing", "published").await;
            }
        }
        assert!(clients.iter().all(|client| !client.is_finished()), "an order failed after {swap} swaps\n{}", host.told());
    }
    ended.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("orders that went through");
    }
    let (sold, orders) = (sold.load(Ordering::Relaxed), orders.load(Ordering::Relaxed));
    let kept = host.get("/orders?limit=1").await.json()["count"].as_u64();
    assert_eq!((kept, TEAS - teas(&host).await), (Some(orders), sold));
    println!("{SWAPS} swaps in {:.1?}: {orders} orders of {sold} teas, 0 failed, none lost, none sold twice", begun.elapsed());
}
