//! The store room without a host: buckets are in memory, each test has its own.

use super::{Refusal, Room, Stock, app, stock::Guest};
use hotbay_sdk::{
    Body,
    http::{Request, StatusCode, header::CONTENT_TYPE},
    kv,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

fn ask(method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, "application/json");
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let response = pollster::block_on(app().oneshot(request.body(body).unwrap())).unwrap();
    let status = response.status();
    let body = pollster::block_on(response.into_body().collect()).unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[test]
fn what_was_counted_is_there() {
    assert_eq!(ask("GET", "/tea", None).0, StatusCode::NOT_FOUND);
    assert_eq!(ask("PUT", "/tea", Some(json!({"level": 5}))).0, StatusCode::OK);
    assert_eq!(ask("GET", "/tea", None), (StatusCode::OK, json!({"sku": "tea", "level": 5})));
    assert_eq!(Stock::level("tea".to_owned()).unwrap(), 5);
}

#[test]
fn all_is_taken_or_nothing() {
    let room = Room::open().unwrap();
    room.count("tea", 5).unwrap();
    room.count("cup", 1).unwrap();
    let take = |order, lines: &[(&'static str, u32)]| room.take(order, &lines.iter().copied().collect());
    assert_eq!(take(1, &[("tea", 2), ("cup", 2)]), Err(Refusal::Short { sku: "cup".to_owned(), left: 1 }));
    assert_eq!(take(1, &[("tea", 2), ("gold", 1)]), Err(Refusal::Unknown("gold".to_owned())));
    assert_eq!((room.level("tea"), room.level("cup")), (Ok(5), Ok(1)));
    take(1, &[("tea", 5), ("cup", 1)]).unwrap();
    assert_eq!((room.level("tea"), room.level("cup")), (Ok(0), Ok(0)));
}

#[test]
fn what_is_done_again_is_done_once() {
    let room = Room::open().unwrap();
    room.count("tea", 5).unwrap();
    for _ in 0..2 {
        room.take(1, &[("tea", 2)].into()).unwrap();
        room.take(2, &[("tea", 1)].into()).unwrap();
        assert_eq!(room.level("tea"), Ok(2));
    }
    for _ in 0..2 {
        room.give_back(1, ["tea"]).unwrap();
        room.sold(2, ["tea"]).unwrap();
        room.give_back(2, ["tea"]).unwrap();
        assert_eq!(room.level("tea"), Ok(4), "what is sold does not come back");
    }
    // One thing in two lines, by the interface.
    let line = |quantity| super::stock::Line { sku: "tea".to_owned(), quantity };
    Stock::take(3, vec![line(1), line(2)]).unwrap();
    assert_eq!(room.level("tea"), Ok(1));
    Stock::give_back(3, vec![line(1), line(2)]).unwrap();
    room.count("tea", u32::MAX).unwrap();
    assert_eq!(room.level("tea"), Ok(u32::MAX));
}

#[test]
fn books_that_cannot_be_read_are_no_empty_room() {
    kv::fail_for_tests(Some(kv::Error::Other("the disk is full".to_owned())));
    let (status, problem) = ask("GET", "/tea", None);
    assert_eq!((status, problem["detail"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("the disk is full")));
}
