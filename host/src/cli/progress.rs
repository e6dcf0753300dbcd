//! How far a deploy has come, on a terminal: the bytes that were sent, then the step under way. Elsewhere nothing is drawn.

use super::{
    client::{Client, segment},
    messages::next,
};
use hotbay::config::BuildName;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use std::{
    io::{self, IsTerminal, Read},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

const TICK: Duration = Duration::from_millis(100);

/// A bar, where somebody looks.
pub(super) struct Progress(Option<ProgressBar>);

/// A step that has ended.
#[derive(Deserialize)]
struct Ended {
    at: String,
    label: Option<String>,
    revision: Option<String>,
    state: String,
}

impl Progress {
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Shows `wasm` on its way, and the steps of its swap if it is `followed`.
    pub(super) fn of(client: &Arc<Client>, name: &BuildName, revision: &str, wasm: &[u8], followed: bool) -> Self {
        if !io::stderr().is_terminal() {
            return Self::none();
        }
        let bar = ProgressBar::new(u64::try_from(wasm.len()).unwrap_or(u64::MAX));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {bar:30}  {bytes} of {total_bytes}  {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(format!("sending {name}"));
        bar.enable_steady_tick(TICK);
        if followed {
            let (bar, client, name, revision) = (bar.clone(), client.clone(), name.clone(), revision.to_owned());
            // It reads until the command ends.
            thread::spawn(move || follow(&bar, &client, &name, &revision));
        }
        Self(Some(bar))
    }

    /// Counts what is read of `source`.
    pub(super) fn sending<'a>(&self, source: impl Read + 'a) -> Box<dyn Read + 'a> {
        match &self.0 {
            Some(bar) => Box::new(bar.wrap_read(source)),
            None => Box::new(source),
        }
    }

    pub(super) fn end(&self) {
        self.0.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// Shows the step under way. What goes wrong here is only not shown.
fn follow(bar: &ProgressBar, client: &Client, name: &BuildName, revision: &str) {
    let begun = SystemTime::now();
    let Ok(mut events) = client.open(&format!("/v1/events?service={}", segment(name.service.as_str()))) else { return };
    while let Ok(Some(message)) = next(&mut events) {
        let Ok(ended) = serde_json::from_str::<Ended>(&message.data) else { continue };
        let is_new = humantime::parse_rfc3339(&ended.at).is_ok_and(|at| at >= begun);
        if is_new && ended.label.as_deref() == name.label() && ended.revision.as_deref() == Some(revision) {
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(format!("{name} {revision} {}", after(&ended.state)));
        }
    }
}

/// The step that follows on one that has ended.
fn after(state: &str) -> &str {
    match state {
        "detected" => "reading",
        "reading" => "compiling",
        "compiling" => "linking",
        "linking" => "warming",
        "warming" => "publishing",
        ended => ended,
    }
}
