//! The probe: asks a new revision, before anybody else can, until it answers as its settings say.

use super::{
    call::Call,
    fault::{Fault, quoted},
    invoke::invoke,
    request::bounded,
    revision::Revision,
    stdio::Output,
};
use crate::{capabilities::Errand, config::Probe};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Empty};
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};

/// Between two attempts, the least and the most.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// By this a guest knows who asks.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("hotbay-probe/", env!("CARGO_PKG_VERSION")));
/// There is no socket at either end.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A revision that was not ready in time.
pub(crate) struct Unready {
    probe: Probe,
    attempts: u32,
    pub(super) last: Answer,
    output: Vec<String>,
}

/// What came of an attempt.
pub(super) enum Answer {
    Status(StatusCode),
    Fault(Fault),
    /// The time was over while it ran.
    None,
}

/// Asks `revision` until it is ready, for as long as its settings say.
pub(crate) async fn ready(revision: &Arc<Revision>) -> Result<(), Unready> {
    let Some(probe) = &revision.settings().probe else {
        return Ok(());
    };
    let over = Instant::now() + probe.timeout().0;
    let (mut attempts, mut pause) = (1, PAUSE);
    loop {
        let output = Output::wanted();
        let asked = timeout_at(over, ask(revision.clone(), probe, attempts, output.clone())).await;
        let last = match asked {
            Ok(Ok(status)) if status == probe.expect() => return Ok(()),
            Ok(Ok(status)) => Answer::Status(status),
            Ok(Err(fault)) => Answer::Fault(fault),
            Err(_) => Answer::None,
        };
        if Instant::now() + pause >= over {
            return Err(Unready { probe: probe.clone(), attempts, last, output: output.tail() });
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        attempts += 1;
    }
}

/// One request as a client would send it to the service's own host, to the end of its answer.
async fn ask(revision: Arc<Revision>, probe: &Probe, attempt: u32, output: Output) -> Result<StatusCode, Fault> {
    let host = format!("{}.localhost", revision.service());
    let unfit = |error: http::Error| Fault::Host(error.to_string());
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(host.as_str()).path_and_query(probe.target().clone());
    let request = Request::builder()
        .method(Method::GET)
        .uri(uri.build().map_err(unfit)?)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT);
    let (body, inbound) = bounded(Empty::<Bytes>::new(), 0);
    let request = request.body(body).map_err(unfit)?;
    let call = Call { errand: Errand::new(format!("probe-{attempt}"), NOBODY, NOBODY), prefix: None, output };
    // What the last attempt left at work counts, as everywhere.
    let permit = revision.permits().clone().acquire_owned().await.map_err(|_| Fault::Retired)?;
    let (head, mut body) = invoke(revision, request, &inbound, call, permit).await?.into_parts();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(head.status)
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { probe, attempts, last, output } = self;
        write!(f, "its probe `GET {}` was not answered with {} ", probe.target(), probe.expect().as_u16())?;
        write!(f, "within {} (probe.timeout): ", probe.timeout())?;
        match attempts {
            1 => f.write_str("the only attempt "),
            _ => write!(f, "the last of {attempts} attempts "),
        }?;
        match last {
            Answer::Status(status) => write!(f, "was answered with {}", status.as_u16()),
            Answer::Fault(fault) => write!(f, "failed, {}", fault.brief()),
            Answer::None => f.write_str("had not ended"),
        }?;
        f.write_str(&quoted(output))
    }
}
