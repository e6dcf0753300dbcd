//! The shop of services/: orders through all of it, while each of its services is swapped in turn.

use futures::future::join_all;
use hotbay_tests::{Connection, Host, How, Request, Signal, guests};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::sync::Mutex;

const SWAPS: u32 = 200;
const CLIENTS: u64 = 6;
/// More than all clients can order.
const TEAS: u64 = 4_000_000_000;

/// The machine code of the Python takes a minute of a core: one at a time.
static COMPILES: Mutex<()> = Mutex::const_new(());

async fn shop() -> Host {
    let _alone = COMPILES.lock().await;
    let builder = Host::builder().own_state().config("[compile]\ntimeout = \"10min\"\n");
    let builder = ["stock", "orders", "pricing"].into_iter().fold(builder, |builder, name| {
        let settings = guests::settings(name).expect("an example with settings");
        builder.service(name, &guests::service(name)).settings(name, &settings)
    });
    builder.start().await
}

async fn count_teas(host: &Host, level: u64) {
    let counted = host.request("PUT", "/stock/tea").header("content-type", "application/json");
    let counted = counted.body(json!({"level": level}).to_string()).send().await;
    assert_eq!(counted.status, 200, "{}\n{}", counted.text(), host.told());
}

async fn teas(host: &Host) -> u64 {
    host.get("/stock/tea").await.json()["level"].as_u64().expect("a level")
}

fn order_of(host: &Host, quantity: u64) -> Request {
    let draft = json!({"customer": "ada", "lines": [{"sku": "tea", "quantity": quantity}]});
    host.request("POST", "/orders").header("content-type", "application/json").body(draft.to_string())
}

async fn order(connection: &mut Connection, host: &Host, quantity: u64) -> (u16, Value) {
    let answer = connection.send(order_of(host, quantity)).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn an_order_goes_through_the_whole_shop() {
    let host = shop().await;
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
    let (status, kept) = order(&mut connection, &host, 2).await;
    assert_eq!(status, 201, "{kept}");
    let host = host.stop().await.start().await;
    let again = host.get(&format!("/orders/{}", kept["id"])).await.json();
    assert_eq!((again, teas(&host).await), (kept, 18));
}

/// What one client does, over and over: an order, and then one of the ways that it can go.
struct Client {
    host: Arc<Host>,
    connection: Connection,
    other: Connection,
}

impl Client {
    async fn new(host: Arc<Host>) -> Self {
        let (connection, other) = (host.connect().await, host.connect().await);
        Self { host, connection, other }
    }

    fn to(&self, method: &str, id: u64, status: Option<&str>) -> Request {
        let request = self.host.request(method, &format!("/orders/{id}"));
        match status {
            Some(status) => request.header("content-type", "application/json").body(json!({"status": status}).to_string()),
            None => request,
        }
    }

    /// Returns whether it was sold.
    async fn turn(&mut self, way: u64, quantity: u64) -> bool {
        let (status, answer) = order(&mut self.connection, &self.host, quantity).await;
        assert_eq!(status, 201, "{answer}\n{}", self.host.told());
        let id = answer["id"].as_u64().expect("a number");
        let steps: &[(&str, Option<&str>, u16)] = match way % 3 {
            0 => &[("PATCH", Some("paid"), 200), ("PATCH", Some("shipped"), 200)],
            1 => &[("PATCH", Some("paid"), 200), ("PATCH", Some("cancelled"), 200), ("DELETE", None, 204)],
            // Two want to be rid of it at once; one of them may find that it is gone.
            _ => {
                let (cancel, delete) = (self.to("PATCH", id, Some("cancelled")), self.to("DELETE", id, None));
                let (cancelled, deleted) = tokio::join!(self.connection.send(cancel), self.other.send(delete));
                assert!([200, 404].contains(&cancelled.status), "{}\n{}", cancelled.text(), self.host.told());
                assert_eq!(deleted.status, 204, "{}\n{}", deleted.text(), self.host.told());
                &[]
            }
        };
        for (method, status, expected) in steps {
            let answer = self.connection.send(self.to(method, id, *status)).await;
            assert_eq!(answer.status, *expected, "{method} {status:?}: {}\n{}", answer.text(), self.host.told());
        }
        way.is_multiple_of(3)
    }
}

/// Promise 1 for services that call each other, and that nothing is lost or sold twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_fails_while_the_shop_is_swapped_piece_by_piece() {
    let host = Arc::new(shop().await);
    count_teas(&host, TEAS).await;
    let (ended, [sold, kept, orders]) = (Arc::new(AtomicBool::new(false)), [(); 3].map(|()| Arc::new(AtomicU64::new(0))));
    let client = |n: u64| {
        let (host, ended, sold, orders) = (host.clone(), ended.clone(), sold.clone(), orders.clone());
        let kept = kept.clone();
        tokio::spawn(async move {
            let mut client = Client::new(host).await;
            for way in n.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let quantity = 1 + way % 5;
                if client.turn(way, quantity).await {
                    sold.fetch_add(quantity, Ordering::Relaxed);
                    kept.fetch_add(1, Ordering::Relaxed);
                }
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
    let [sold, kept, orders] = [sold, kept, orders].map(|count| count.load(Ordering::Relaxed));
    let there = host.get("/orders?limit=1").await.json()["count"].as_u64();
    assert_eq!((there, TEAS - teas(&host).await), (Some(kept), sold));
    println!(
        "{SWAPS} swaps in {:.1?}: {orders} orders, {kept} of them shipped with {sold} teas, the others cancelled and deleted, 0 failed, \
         none lost, none sold twice",
        begun.elapsed()
    );
}

/// Orders, one after the other, until nobody answers.
async fn orders_until_the_end(host: &Host, quantity: u64) {
    let mut connection = host.connect().await;
    while let Ok(answer) = connection.try_send(order_of(host, quantity)).await {
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
}

/// Whatever a kill breaks off, the number of an order says what belongs to it: nothing is lost once the rest is deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_orders_loses_nothing() {
    let mut host = shop().await;
    count_teas(&host, 1_000).await;
    for round in 0..5 {
        let mark = host.mark();
        let clients = (1..=CLIENTS).map(|quantity| orders_until_the_end(&host, quantity));
        let kill = async {
            // In the middle of whatever the others do.
            host.since(mark).wait("an order", |event| event.target == "hotbay::request" && event.service == "orders").await;
            host.signal(Signal::KILL);
        };
        tokio::join!(join_all(clients), kill);
        host.exit_status().await;
        host = host.again().start().await;
        let listed = host.get("/orders?limit=100").await.json();
        let listed = listed["orders"].as_array().expect("orders");
        assert!(listed.len() < 100, "{round}: {}", listed.len());
        let mut sold = 0;
        for order in listed {
            if order["status"] == "open" {
                sold += order["lines"][0]["quantity"].as_u64().expect("a number");
                continue;
            }
            let deleted = host.request("DELETE", &format!("/orders/{}", order["id"])).send().await;
            assert_eq!(deleted.status, 204, "{order}: {}", deleted.text());
        }
        assert_eq!(teas(&host).await, 1_000 - sold, "{round}\n{}", host.told());
    }
}
