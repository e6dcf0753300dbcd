//! The admin listener as its callers see it: calls with the token, and events as they come.

use crate::client::{Reply, Request, Response};
use anyhow::Result;
use bytes::Bytes;
use serde_json::Value;
use std::{fs, net::SocketAddr, path::PathBuf};

/// The admin listener of a host.
#[derive(Debug, Clone)]
pub struct Admin {
    address: SocketAddr,
    state: PathBuf,
}

impl Admin {
    pub(crate) fn new(address: SocketAddr, state: PathBuf) -> Self {
        Self { address, state }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token, as the state folder holds it at this moment.
    pub fn token(&self) -> String {
        let path = self.state.join("admin.token");
        let token = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        token.trim().to_owned()
    }

    /// A call without the token, to be made up and sent.
    pub fn stranger(&self, method: &str, target: &str) -> Request {
        Request::new(self.address, method, target)
    }

    /// A call with the token, to be made up and sent.
    pub fn request(&self, method: &str, target: &str) -> Request {
        self.stranger(method, target).header("authorization", &format!("Bearer {}", self.token()))
    }

    /// GET with the token.
    pub async fn get(&self, target: &str) -> Response {
        self.request("GET", target).send().await
    }

    /// PUT with the token.
    pub async fn put(&self, target: &str, body: impl Into<Bytes>) -> Response {
        self.request("PUT", target).body(body).send().await
    }

    /// POST with the token.
    pub async fn post(&self, target: &str, body: impl Into<Bytes>) -> Response {
        self.request("POST", target).body(body).send().await
    }

    /// DELETE with the token.
    pub async fn delete(&self, target: &str) -> Response {
        self.request("DELETE", target).send().await
    }

    /// Server-sent events of `target`, from after the event `last` where there is one.
    pub async fn follow(&self, target: &str, last: Option<u64>) -> Messages {
        let request = self.request("GET", target);
        let request = match last {
            Some(last) => request.header("last-event-id", &last.to_string()),
            None => request,
        };
        let reply = request.open().await;
        assert_eq!(reply.status, 200, "{target}");
        Messages::of(reply)
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its `id`.
    pub id: Option<u64>,
    /// Its `event`.
    pub event: String,
    /// Its `data`.
    pub data: Value,
}

/// Server-sent events as they come.
pub struct Messages {
    reply: Reply,
    read: Vec<u8>,
}

impl Messages {
    /// Those of a response whose head is there.
    pub fn of(reply: Reply) -> Self {
        Self { reply, read: Vec::new() }
    }

    /// The next one; none where the stream has ended. Comments are left out.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            while let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.read.drain(..end + 2).collect();
                let text = String::from_utf8(block)?;
                let field = |name: &str| {
                    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_start().to_owned()))
                };
                if let Some(data) = field("data") {
                    let (id, event) = (field("id").and_then(|id| id.parse().ok()), field("event").unwrap_or_default());
                    return Ok(Some(Message { id, event, data: serde_json::from_str(&data)? }));
                }
            }
            match self.reply.chunk().await? {
                Some(chunk) => self.read.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    /// The next one, which must come.
    pub async fn expect(&mut self) -> Message {
        self.next().await.expect("the stream goes on").expect("one more event")
    }

    /// Reads until one is of this service and state.
    pub async fn until(&mut self, service: &str, state: &str) -> Message {
        loop {
            let message = self.expect().await;
            if message.event == state && message.data["service"] == service {
                return message;
            }
        }
    }

    /// All until the stream ends.
    pub async fn rest(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await.expect("the stream ends in good order") {
            all.push(message);
        }
        all
    }
}
