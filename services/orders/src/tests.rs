//! The service without a host: requests straight into the router.

use hotbay_sdk::http::{self, Request, Response, StatusCode, header::CONTENT_TYPE};
use hotbay_sdk::{Body, Bytes, Router, kv};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{
    app,
    shop::stand_in::{CLOSED, TEAS},
};

/// What `pricing` answers: a tea costs 490 cents, and there is nothing else.
fn prices(request: Request<Bytes>) -> Response<Bytes> {
    assert_eq!(request.uri().authority().unwrap().as_str(), "pricing.internal");
    let asked: Value = serde_json::from_slice(request.body()).unwrap();
    let lines = asked["lines"].as_array().unwrap();
    let (status, body) = match lines.iter().find(|line| line["sku"] != "tea") {
        Some(line) => (422, json!({"detail": format!("there is no price for {}", line["sku"])})),
        None => (200, json!({"total_cents": lines.iter().map(|line| line["quantity"].as_u64().unwrap() * 490).sum::<u64>()})),
    };
    Response::builder().status(status).body(body.to_string().into()).unwrap()
}

/// One request: the status, and the body as JSON. The orders of a test are its thread's.
fn ask(app: &Router, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    http::answer_for_tests(prices);
    let mut request = Request::builder().method(method).uri(path);
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let response = pollster::block_on(app.clone().oneshot(request.body(body).unwrap())).unwrap();
    let status = response.status();
    if status.is_client_error() {
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }
    let body = pollster::block_on(response.into_body().collect()).unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn two_teas() -> Option<Value> {
    Some(json!({"customer": "ada", "lines": [{"sku": "tea", "quantity": 2}]}))
}

#[test]
fn an_order_from_the_first_request_to_the_last() {
    let app = app();
    let made = json!({
        "id": 1, "customer": "ada", "lines": [{"sku": "tea", "quantity": 2}], "total_cents": 980, "status": "open",
    });
    assert_eq!(ask(&app, "POST", "/orders", two_teas()), (StatusCode::CREATED, made.clone()));
    assert_eq!(ask(&app, "GET", "/orders/1", None), (StatusCode::OK, made));
    for status in ["paid", "paid", "shipped"] {
        let (code, order) = ask(&app, "PATCH", "/orders/1", Some(json!({"status": status})));
        assert_eq!((code, &order["status"]), (StatusCode::OK, &json!(status)));
    }
    assert_eq!(ask(&app, "DELETE", "/orders/1", None).0, StatusCode::CONFLICT);
}

#[test]
fn a_new_order_says_where_it_is() {
    http::answer_for_tests(prices);
    let request = Request::post("/orders").header(CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(two_teas().unwrap().to_string())).unwrap();
    let response = pollster::block_on(app().oneshot(request)).unwrap();
    assert_eq!(response.headers()["location"], "/orders/1");
}

#[test]
fn lists_are_filtered_and_limited() {
    let app = app();
    for _ in 0..3 {
        ask(&app, "POST", "/orders", two_teas());
    }
    ask(&app, "PATCH", "/orders/2", Some(json!({"status": "paid"})));
    let (_, page) = ask(&app, "GET", "/orders?status=open&limit=1", None);
    assert_eq!((&page["count"], &page["orders"][0]["id"]), (&json!(2), &json!(1)));
    assert_eq!(page["orders"].as_array().unwrap().len(), 1);
    assert_eq!(ask(&app, "GET", "/orders?status=lost", None).0, StatusCode::BAD_REQUEST);
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let draft = json!({"customer": " ", "lines": [{"sku": "gold", "quantity": 0}]});
    let (status, problem) = ask(&app(), "POST", "/orders", Some(draft));
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["errors"], json!(["customer: must not be empty", "lines[0].quantity: from 1 to 1000"]));
    let draft = json!({"customer": "ada", "lines": [{"sku": "gold", "quantity": 1}]});
    let (status, problem) = ask(&app(), "POST", "/orders", Some(draft));
    assert_eq!((status, &problem["errors"][0]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("there is no price for \"gold\"")));
}

#[test]
fn a_deleted_order_is_gone_and_its_number_does_not_come_again() {
    let app = app();
    ask(&app, "POST", "/orders", two_teas());
    assert_eq!(ask(&app, "DELETE", "/orders/1", None), (StatusCode::NO_CONTENT, Value::Null));
    let (status, problem) = ask(&app, "GET", "/orders/1", None);
    assert_eq!((status, &problem["order"]), (StatusCode::NOT_FOUND, &json!(1)));
    assert_eq!(ask(&app, "POST", "/orders", two_teas()).1["id"], json!(2));
}

#[test]
fn what_is_not_understood_is_a_problem_too() {
    let app = app();
    assert_eq!(ask(&app, "GET", "/orders/first", None).0, StatusCode::BAD_REQUEST);
    assert_eq!(ask(&app, "PUT", "/orders", None).0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(&app, "GET", "/stock", None).0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&app, "POST", "/orders", None).0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(ask(&app, "POST", "/orders", Some(json!({"customer": 1}))).0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(ask(&app, "PATCH", "/orders/1", Some(json!({"status": "paid"}))).0, StatusCode::NOT_FOUND);
}

#[test]
fn the_build_can_start() {
    assert_eq!(pollster::block_on(super::start()), Ok(()));
}

#[test]
fn what_is_ordered_is_taken_once_and_comes_back_once() {
    let app = app();
    ask(&app, "POST", "/orders", two_teas());
    ask(&app, "POST", "/orders", two_teas());
    assert_eq!(TEAS.get(), 96);
    for _ in 0..2 {
        ask(&app, "PATCH", "/orders/1", Some(json!({"status": "cancelled"})));
    }
    ask(&app, "DELETE", "/orders/1", None);
    ask(&app, "DELETE", "/orders/2", None);
    assert_eq!(TEAS.get(), 100);
    TEAS.set(1);
    let (status, problem) = ask(&app, "POST", "/orders", two_teas());
    assert_eq!((status, &problem["left"], TEAS.get()), (StatusCode::CONFLICT, &json!(1), 1));
}

#[test]
fn what_breaks_off_is_done_to_the_end_by_asking_again() {
    let app = app();
    ask(&app, "POST", "/orders", two_teas());
    ask(&app, "POST", "/orders", two_teas());
    let cancelled = || Some(json!({"status": "cancelled"}));
    CLOSED.set(true);
    assert_eq!(ask(&app, "PATCH", "/orders/1", cancelled()).0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&app, "DELETE", "/orders/2", None).0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&app, "POST", "/orders", two_teas()).0, StatusCode::SERVICE_UNAVAILABLE);
    CLOSED.set(false);
    let (_, page) = ask(&app, "GET", "/orders", None);
    let stands = page["orders"].as_array().unwrap().iter().map(|order| order["status"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!((stands, TEAS.get()), (vec!["cancelling", "cancelling", "pending"], 96));
    assert_eq!(ask(&app, "PATCH", "/orders/1", cancelled()).1["status"], json!("cancelled"));
    for id in [2, 3] {
        assert_eq!(ask(&app, "DELETE", &format!("/orders/{id}"), None).0, StatusCode::NO_CONTENT);
    }
    assert_eq!(TEAS.get(), 100);
}

#[test]
fn an_order_that_is_paid_is_cancelled_but_not_deleted() {
    let app = app();
    ask(&app, "POST", "/orders", two_teas());
    ask(&app, "PATCH", "/orders/1", Some(json!({"status": "paid"})));
    let (status, problem) = ask(&app, "DELETE", "/orders/1", None);
    assert_eq!((status, TEAS.get()), (StatusCode::CONFLICT, 98), "{problem}");
    assert_eq!(ask(&app, "PATCH", "/orders/1", Some(json!({"status": "open"}))).0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(ask(&app, "PATCH", "/orders/1", Some(json!({"status": "cancelled"}))).0, StatusCode::OK);
    assert_eq!(ask(&app, "DELETE", "/orders/1", None).0, StatusCode::NO_CONTENT);
    assert_eq!(TEAS.get(), 100);
}

#[test]
fn one_order_that_cannot_be_read_hides_no_other() {
    let app = app();
    ask(&app, "POST", "/orders", two_teas());
    kv::Bucket::open("default").unwrap().set("order:00000000000000000002", "").unwrap();
    assert_eq!(ask(&app, "GET", "/orders", None).1["count"], json!(1));
}

#[test]
fn an_order_that_cannot_be_kept_takes_nothing() {
    let app = app();
    kv::fail_for_tests(Some(kv::Error::Other("the disk is full".to_owned())));
    let (status, problem) = ask(&app, "POST", "/orders", two_teas());
    assert_eq!((status, TEAS.get()), (StatusCode::SERVICE_UNAVAILABLE, 100));
    assert!(!problem.to_string().contains("disk"), "{problem}");
}
