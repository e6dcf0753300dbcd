//! What the host says: its log lines as they come, and the waits for them.

use crate::PATIENCE;
use serde_json::Value;
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// One log line of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When the test saw it.
    pub seen: Instant,
    /// All of its fields. Empty for a line that is no JSON, whose text is the message.
    pub fields: Value,
    /// `INFO`, `WARN`, `ERROR`.
    pub level: String,
    /// The text.
    pub message: String,
    /// Which part of the host says it, such as `hotbay::swap`.
    pub target: String,
    /// Of which service; `NAME@LABEL` of a labelled revision.
    pub service: String,
    /// Of which revision.
    pub revision: String,
    /// Which state of a swap.
    pub state: String,
    /// How long the step took.
    pub took: Duration,
    /// Why, where something is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// Of which request.
    pub request_id: String,
    /// The status of a response.
    pub status: Option<u16>,
    /// The path of a request.
    pub path: String,
}

impl Event {
    pub(crate) fn parse(line: &str) -> Self {
        let fields: Value = serde_json::from_str(line).unwrap_or_default();
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |name: &str| fields.get(name).and_then(Value::as_u64);
        Self {
            seen: Instant::now(),
            level: text("level"),
            message: if fields.is_object() { text("message") } else { line.to_owned() },
            target: text("target"),
            service: match fields.get("label").and_then(Value::as_str) {
                Some(label) => format!("{}@{label}", text("service")),
                None => text("service"),
            },
            revision: text("revision"),
            state: text("state"),
            took: Duration::from_micros(number("took_us").unwrap_or_default()),
            reason: text("reason"),
            remedy: text("remedy"),
            request_id: text("request_id"),
            status: number("status").and_then(|status| u16::try_from(status).ok()),
            path: text("path"),
            fields,
        }
    }

    /// Whether it is the state `state` of `service`.
    pub fn is(&self, service: &str, state: &str) -> bool {
        self.service == service && self.state == state
    }
}

/// Everything that the host has said so far.
pub(crate) struct Log {
    events: Mutex<Vec<Event>>,
    /// How many there are; closed when the host has ended.
    count: watch::Sender<usize>,
    /// The host's standard output.
    pub(crate) stdout: watch::Sender<String>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { events: Mutex::default(), count: watch::channel(0).0, stdout: watch::channel(String::new()).0 }
    }

    pub(crate) fn push(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event);
        self.count.send_replace(events.len());
    }

    fn with<T>(&self, look: impl FnOnce(&[Event]) -> T) -> T {
        look(&self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn len(&self) -> usize {
        self.with(<[_]>::len)
    }

    /// The swaps and the end of the log, for the message of a test that fails.
    pub(crate) fn told(&self) -> String {
        let write = |told: &mut String, event: &Event| {
            let line = if event.fields.is_object() { &event.fields.to_string() } else { &event.message };
            told.extend([line, "\n"]);
        };
        self.with(|events| {
            let mut told = format!("stdout of the host:\n{}\nits swaps, the last 40:\n", *self.stdout.borrow());
            let swaps: Vec<_> = events.iter().filter(|event| !event.state.is_empty()).collect();
            swaps[swaps.len().saturating_sub(40)..].iter().for_each(|event| write(&mut told, event));
            told.push_str("its log, the last 20 lines:\n");
            events[events.len().saturating_sub(20)..].iter().for_each(|event| write(&mut told, event));
            told
        })
    }
}

/// The log from one point on.
#[derive(Clone, Copy)]
pub struct Tail<'host> {
    pub(crate) log: &'host Log,
    pub(crate) from: usize,
}

impl Tail<'_> {
    /// What has been said since.
    pub fn events(&self) -> Vec<Event> {
        self.log.with(|events| events[self.from..].to_vec())
    }

    /// The states of `service` since, in their order.
    pub fn states(&self, service: &str) -> Vec<String> {
        self.events()
            .into_iter()
            .filter(|event| event.service == service && !event.state.is_empty())
            .map(|event| event.state)
            .collect()
    }

    /// Waits for the first line that `is` it; `what` says which, in case it does not come.
    pub async fn wait(&self, what: impl AsRef<str>, is: impl Fn(&Event) -> bool) -> Event {
        let mut count = self.log.count.subscribe();
        let mut next = self.from;
        let found = async {
            loop {
                count.borrow_and_update();
                let found = self.log.with(|events| {
                    let found = events[next..].iter().find(|event| is(event)).cloned();
                    next = events.len();
                    found
                });
                match found {
                    Some(event) => return event,
                    // The sender lives as long as the log does.
                    None => count.changed().await.expect("the log is there"),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(event) => event,
            Err(_) => panic!("waited {PATIENCE:?} for {}, which did not come\n{}", what.as_ref(), self.log.told()),
        }
    }

    /// Waits for a state of a service.
    pub async fn wait_for(&self, service: &str, state: &str) -> Event {
        self.wait(format!("{service} {state}"), |event| event.is(service, state)).await
    }

    /// Waits for the publication of one revision.
    pub async fn wait_published(&self, service: &str, revision: &str) -> Event {
        self.wait(format!("{service} published {revision}"), |event| event.is(service, "published") && event.revision == revision)
            .await
    }

    /// Waits for the retirement of one revision.
    pub async fn wait_retired(&self, service: &str, revision: &str) -> Event {
        self.wait(format!("{service} retired {revision}"), |event| event.is(service, "retired") && event.revision == revision)
            .await
    }

    /// Waits for a reject, whose `reason` and `remedy` say why and what to do.
    pub async fn wait_rejected(&self, service: &str) -> Event {
        self.wait_for(service, "rejected").await
    }

    /// Waits for the completion line of one request.
    pub async fn wait_request(&self, request_id: &str) -> Event {
        let what = format!("the completion line of request {request_id}");
        self.wait(what, |event| event.target == "hotbay::request" && event.request_id == request_id).await
    }
}
