//! Commands as services: one run a request, CGI/1.1 (RFC 3875). Environment and stdin in, header block and body from stdout.

use super::{
    call::Call,
    fault::Fault,
    linker::Linked,
    revision::Revision,
    running::HeadSender,
    store::{HostState, new_store},
};
use crate::config::without_port;
use bytes::{Buf, Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::Frame;
use http_body_util::{BodyDataStream, BodyExt, StreamBody};
use percent_encoding::percent_decode_str;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_util::{io::StreamReader, sync::PollSender};
use wasmtime::Store;
use wasmtime_wasi::{
    I32Exit,
    cli::{AsyncStdinStream, AsyncStdoutStream},
};
use wasmtime_wasi_http::WasiBody;

/// Bytes of a header block, and lines in it: the host's own map of headers holds 24,576 names and no more.
const HEADERS_MAX: usize = 64 << 10;
const HEADER_LINES_MAX: usize = 100;
/// Bytes that a command may write at once, and how many such writes wait for the client.
const WRITE_MAX: usize = 64 << 10;
const WRITES_MAX: usize = 4;

/// Headers that belong to one connection (RFC 9110 §7.6.1); a command has none.
const CONNECTION_HEADERS: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// The meta-variables of RFC 3875 §4.1 without those of headers, also where a request has none of them.
const META_VARIABLES: [&str; 19] = [
    "AUTH_TYPE",
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "GATEWAY_INTERFACE",
    "PATH_INFO",
    "PATH_TRANSLATED",
    "QUERY_STRING",
    "REMOTE_ADDR",
    "REMOTE_HOST",
    "REMOTE_IDENT",
    "REMOTE_PORT",
    "REMOTE_USER",
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
    "REQUEST_URI",
];

/// One run of a command.
pub(super) async fn drive(
    revision: Arc<Revision>,
    request: Request<WasiBody>,
    call: Call,
    sender: HeadSender,
) -> Result<(), Fault> {
    let (parts, body) = request.into_parts();
    let environment = environment(&parts, &call)?;
    let (written, output) = mpsc::channel(WRITES_MAX);
    let store = new_store(revision.common(), |wasi| {
        wasi.envs(&environment).arg(revision.service().as_str());
        wasi.stdin(AsyncStdinStream::new(Stdin::new(body)));
        wasi.stdout(AsyncStdoutStream::new(WRITE_MAX, Stdout { sender: PollSender::new(written) }));
    });
    let mut store = store?;
    store.data_mut().begin(&call);
    let run = run(&revision, store);
    let (ran, ()) = tokio::join!(run, answer(output, sender));
    ran
}

/// The store, and with it the write end of stdout, goes before the reader is waited for.
async fn run(revision: &Revision, mut store: Store<HostState>) -> Result<(), Fault> {
    let outcome = match &revision.code.linked {
        Linked::Command2(pre) => match pre.instantiate_async(&mut store).await {
            Ok(command) => command.wasi_cli_run().call_run(&mut store).await,
            Err(error) => Err(error),
        },
        Linked::Command3(pre) => match pre.instantiate_async(&mut store).await {
            Ok(command) => store.run_concurrent(async |accessor| command.wasi_cli_run().call_run(accessor).await).await.flatten(),
            Err(error) => Err(error),
        },
        Linked::Http(..) | Linked::Library(_) => return Err(Fault::Library),
    };
    store.data().log.flush();
    match outcome {
        Ok(_) => Ok(()),
        // A command that exits has answered, whatever its exit code; CGI gives the code no meaning.
        Err(error) if error.is::<I32Exit>() => Ok(()),
        Err(error) => Err(revision.failed(error, store)),
    }
}

/// Reads the header block and hands over the head; the rest of stdout is the body.
async fn answer(mut output: mpsc::Receiver<Bytes>, sender: HeadSender) {
    let mut block = BytesMut::new();
    let head = loop {
        if let Some(head) = split_head(&mut block) {
            break head;
        }
        match output.recv().await {
            Some(bytes) => block.extend_from_slice(&bytes),
            // It ended without a header block. If it trapped, its end says more; else there is no response.
            None if block.is_empty() => return,
            None => break Err(Fault::Protocol("its output has no blank line after the CGI headers".to_owned())),
        }
    };
    let first = (!block.is_empty()).then(|| block.freeze());
    let chunks = futures::stream::iter(first)
        .chain(futures::stream::unfold(output, async |mut output| output.recv().await.map(|bytes| (bytes, output))));
    let body = StreamBody::new(chunks.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync();
    // Nobody waits for the head any more where the deadline was faster.
    let _ = sender.send(head.map(|head| head.map(|()| body)));
}

/// Takes the header block and the blank line that ends it off the output. Nothing where it is not all there, unless that is too
/// much already.
pub(crate) fn split_head(output: &mut BytesMut) -> Option<Result<Response<()>, Fault>> {
    let end = end_of_headers(output);
    // A write may be as large as a block may be, so one that is whole can be twice that.
    if end.map_or(output.len(), |(len, _)| len) > HEADERS_MAX {
        return Some(Err(Fault::Protocol(format!("its CGI header block has more than {HEADERS_MAX} bytes"))));
    }
    let (len, blank) = end?;
    let headers = output.split_to(len);
    output.advance(blank);
    Some(parse(&headers))
}

/// The length of the header block and of the blank line that ends it.
fn end_of_headers(block: &[u8]) -> Option<(usize, usize)> {
    let mut start = 0;
    while let Some(found) = block.get(start..)?.iter().position(|byte| *byte == b'\n') {
        let next = start + found + 1;
        match block.get(next..) {
            Some([b'\n', ..]) => return Some((next, 1)),
            Some([b'\r', b'\n', ..]) => return Some((next, 2)),
            _ => start = next,
        }
    }
    None
}

/// The header block of RFC 3875 §6.3: `Status` and `Location` are for the host, the rest for the client.
fn parse(block: &[u8]) -> Result<Response<()>, Fault> {
    let fault = |line: &str| Fault::Protocol(format!("its CGI header block has the line {line:?}, which is no header"));
    let text = std::str::from_utf8(block).map_err(|_| Fault::Protocol("its CGI header block is not UTF-8".to_owned()))?;
    let (mut status, mut headers) = (None, HeaderMap::new());
    for (before, line) in text.lines().enumerate() {
        if before == HEADER_LINES_MAX {
            return Err(Fault::Protocol(format!("its CGI header block has more than {HEADER_LINES_MAX} lines")));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| fault(line))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let code = value.split_whitespace().next().and_then(|code| code.parse().ok());
            status = Some(code.ok_or_else(|| fault(line))?);
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault(line))?;
        let value = HeaderValue::from_str(value).map_err(|_| fault(line))?;
        if !CONNECTION_HEADERS.contains(&name.as_str()) {
            // The lines are far fewer than the map holds.
            headers.try_append(name, value).map_err(|_| fault(line))?;
        }
    }
    let usual = if headers.contains_key(header::LOCATION) { StatusCode::FOUND } else { StatusCode::OK };
    let mut head = Response::new(());
    *head.status_mut() = status.unwrap_or(usual);
    *head.headers_mut() = headers;
    Ok(head)
}

/// Whether a variable tells a command of its request: only the request may say what it says.
pub(super) fn is_meta_variable(name: &str) -> bool {
    META_VARIABLES.contains(&name) || name.starts_with("HTTP_")
}

/// The meta-variables of RFC 3875 §4.1, and REMOTE_PORT, which most servers give. `Authorization` is passed on, since the host
/// authenticates nobody: the command has to.
fn environment(parts: &Parts, call: &Call) -> Result<Vec<(String, String)>, Fault> {
    let path = percent_decode_str(parts.uri.path()).decode_utf8();
    let path = path.map_err(|_| Fault::BadRequest("the path is not UTF-8, which a command cannot take"))?;
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let host = authority.or_else(|| parts.headers.get(header::HOST)?.to_str().ok()).unwrap_or_default();
    let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let mut variables = vec![
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        ("SERVER_SOFTWARE", concat!("hotbay/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("SERVER_PROTOCOL", format!("{:?}", parts.version)),
        ("SERVER_NAME", without_port(host).to_owned()),
        ("SERVER_PORT", call.errand.local.port().to_string()),
        ("REQUEST_METHOD", parts.method.to_string()),
        ("SCRIPT_NAME", call.prefix.as_deref().unwrap_or_default().to_owned()),
        ("PATH_INFO", path.into_owned()),
        ("QUERY_STRING", parts.uri.query().unwrap_or_default().to_owned()),
        ("REMOTE_ADDR", call.errand.peer.ip().to_string()),
        ("REMOTE_PORT", call.errand.peer.port().to_string()),
    ];
    variables.extend(text(header::CONTENT_LENGTH).map(|value| ("CONTENT_LENGTH", value.to_owned())));
    variables.extend(text(header::CONTENT_TYPE).map(|value| ("CONTENT_TYPE", value.to_owned())));
    let mut variables: Vec<_> = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for name in parts.headers.keys() {
        // `Proxy` would become HTTP_PROXY, which HTTP clients obey (CVE-2016-5385).
        // A name with `_` would pass for one with `-`, such as x_forwarded_for for what only the host may say.
        let forged = name == "proxy" || name.as_str().contains('_');
        if forged || [header::CONTENT_LENGTH, header::CONTENT_TYPE].contains(name) {
            continue;
        }
        // HTTP/2 splits cookies, which belong together with a semicolon (RFC 9113 §8.2.3).
        let separator = if name == header::COOKIE { "; " } else { ", " };
        let values: Vec<_> = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        variables.push((format!("HTTP_{}", name.as_str().to_ascii_uppercase().replace('-', "_")), values.join(separator)));
    }
    if variables.iter().any(|(_, value)| value.contains('\0')) {
        return Err(Fault::BadRequest("the request holds a NUL, which an environment variable cannot"));
    }
    Ok(variables)
}

type BodyReader = StreamReader<Pin<Box<dyn futures::Stream<Item = io::Result<Bytes>> + Send>>, Bytes>;

/// The request body as stdin. The lock is there because WASI asks for `Sync`; only the guest ever takes it.
struct Stdin(Mutex<BodyReader>);

impl Stdin {
    fn new(body: WasiBody) -> Self {
        let chunks = BodyDataStream::new(body).map_err(io::Error::other);
        Self(Mutex::new(StreamReader::new(Box::pin(chunks))))
    }
}

impl AsyncRead for Stdin {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut tokio::io::ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *reader).poll_read(cx, buf)
    }
}

/// Stdout as a bounded channel: a command that writes faster than its client reads waits.
struct Stdout {
    sender: PollSender<Bytes>,
}

impl AsyncWrite for Stdout {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.sender.poll_reserve(cx)).map_err(|_| closed())?;
        self.sender.send_item(Bytes::copy_from_slice(bytes)).map_err(|_| closed())?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(block: &str) -> Result<Response<()>, Fault> {
        let (len, _) = end_of_headers(block.as_bytes()).unwrap();
        parse(block.get(..len).unwrap().as_bytes())
    }

    #[test]
    fn both_line_ends_are_taken() {
        for block in ["Content-Type: text/plain\n\nbody", "Content-Type: text/plain\r\n\r\nbody"] {
            let head = head(block).unwrap();
            assert_eq!(head.status(), 200);
            assert_eq!(head.headers()["content-type"], "text/plain");
        }
        assert_eq!(end_of_headers(b"A: b\nC: d"), None);
    }

    #[test]
    fn status_and_location_are_the_hosts() {
        assert_eq!(head("Status: 404 Not Found\n\n").unwrap().status(), 404);
        assert_eq!(head("Location: https://example.com/\n\n").unwrap().status(), 302);
        assert!(!head("Connection: close\nA: b\n\n").unwrap().headers().contains_key("connection"));
        assert!(head("no header at all\n\n").is_err());
        assert!(head("Status: nine\n\n").is_err());
        assert!(head("A: b\u{1}\n\n").is_err());
    }

    /// More names than a `HeaderMap` holds end the request and not the host's thread, and a block is bounded however it is written.
    #[test]
    fn a_header_block_is_bounded() {
        let split = |block: String| split_head(&mut BytesMut::from(block.as_bytes()));
        let lines = |lines: usize| -> String { (0..lines).map(|n| format!("{n:x}:\n")).collect() };
        assert!(split(lines(HEADER_LINES_MAX) + "\n").unwrap().is_ok());
        for block in [lines(HEADER_LINES_MAX + 1), lines(25_000), format!("A: {}\n", "b".repeat(HEADERS_MAX))] {
            assert!(matches!(split(block.clone() + "\n"), Some(Err(Fault::Protocol(_)))), "{} bytes", block.len());
        }
        assert!(matches!(split("a".repeat(HEADERS_MAX + 1)), Some(Err(_))), "it is not waited for the rest");
    }
}
