//! The service without a host: requests straight into the router.

use hotbay_sdk::http::{Request, StatusCode, header::CONTENT_TYPE};
use hotbay_sdk::{Body, Router};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::app;

/// One request: the status, and the body as JSON. A clone of a router shares its state.
fn ask(app: &Router, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
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
    let expected = ["customer: must not be empty", "lines[0].quantity: from 1 to 1000", "lines[0].sku: not in the catalogue"];
    assert_eq!(problem["errors"], json!(expected));
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
