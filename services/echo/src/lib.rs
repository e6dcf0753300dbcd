//! Gives back what it is sent, of any size, while it is being sent; built on WASI 0.3.
//!
//! ```text
//! $ curl -T big-file http://127.0.0.1:8080/echo | cmp - big-file
//! $ curl http://127.0.0.1:8080/echo?a=1
//! {"method":"GET","path":"/?a=1","authority":"127.0.0.1:8080","headers":[["x-forwarded-prefix","/echo"], …]}
//! ```
//!
//! A request with a body gets that body back, with its type and trailers. Any other gets a JSON document of what the
//! request looks like from inside: the place to see which headers reach a service.
//!
//! In WASI 0.3 a body is a stream and its trailers are a future, and both are values that can be handed on. So the
//! body never passes through the memory of this component: the request's stream becomes the response's, the handler
//! returns, and the host moves the bytes. There is no buffer to fill, and a client that takes slowly slows down the
//! one that sends.

use serde::Serialize;
use wasip3::http::types::{ErrorCode, Fields, HeaderError, Method, Request, Response};
use wasip3::{wit_future, wit_stream};
use wit_bindgen::spawn;

wasip3::http::service::export!(Echo);

struct Echo;

impl wasip3::exports::http::handler::Guest for Echo {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        match request.get_method() {
            Method::Post | Method::Put | Method::Patch => echo(request),
            method => describe(&method, &request),
        }
    }
}

/// The headers of a request that say something of its body, and so of ours. `trailer` announces which trailers come.
const KEPT: [&str; 4] = ["content-type", "content-length", "content-encoding", "trailer"];

fn echo(request: Request) -> Result<Response, ErrorCode> {
    let headers: Vec<_> =
        request.get_headers().copy_all().into_iter().filter(|(name, _)| KEPT.contains(&name.as_str())).collect();

    // By this future a component tells the host whether it could do with the body; dropped, it says yes.
    let (_, fine) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, fine);
    // The second value tells how sending went. There is nothing left to do then, whatever it says.
    let (response, _sent) = Response::new(fields(&headers)?, Some(body), trailers);
    Ok(response)
}

fn describe(method: &Method, request: &Request) -> Result<Response, ErrorCode> {
    let document = Document {
        method: method_name(method).to_owned(),
        path: request.get_path_with_query().unwrap_or_default(),
        authority: request.get_authority(),
        headers: request.get_headers().copy_all().iter().map(|(name, value)| header(name, value)).collect(),
    };
    let text = document.to_json().map_err(|error| ErrorCode::InternalError(Some(error.to_string())))?;

    let headers = [
        ("content-type".to_owned(), b"application/json".to_vec()),
        ("content-length".to_owned(), text.len().to_string().into_bytes()),
    ];
    let (mut writer, body) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    // The host reads the body when it has the response, so the writing has to outlive the handler. What a
    // client that has gone away does not take is dropped.
    spawn(async move { drop(writer.write_all(text).await) });
    let (response, _sent) = Response::new(fields(&headers)?, Some(body), trailers);
    Ok(response)
}

fn fields(headers: &[(String, Vec<u8>)]) -> Result<Fields, ErrorCode> {
    let refused = |error: HeaderError| ErrorCode::InternalError(Some(format!("headers: {error:?}")));
    Fields::from_list(headers).map_err(refused)
}

/// What a request looks like from inside.
#[derive(Serialize)]
struct Document {
    method: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<String>,
    /// A list and no map: a header may come more than once, and its place counts.
    headers: Vec<(String, String)>,
}

impl Document {
    fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// Header values are bytes; what is not UTF-8 in them is shown as `\u{fffd}`.
fn header(name: &str, value: &[u8]) -> (String, String) {
    (name.to_owned(), String::from_utf8_lossy(value).into_owned())
}

fn method_name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_described_with_all_its_headers() {
        let document = Document {
            method: method_name(&Method::Other("PURGE".to_owned())).to_owned(),
            path: "/echo?a=%20".to_owned(),
            authority: None,
            headers: vec![header("accept", b"*/*"), header("x-a", b"1"), header("x-a", b"\xff")],
        };
        let expected = "{\"method\":\"PURGE\",\"path\":\"/echo?a=%20\",\
            \"headers\":[[\"accept\",\"*/*\"],[\"x-a\",\"1\"],[\"x-a\",\"\u{fffd}\"]]}\n";
        assert_eq!(String::from_utf8(document.to_json().unwrap()).unwrap(), expected);
    }
}
