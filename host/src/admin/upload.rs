//! Bodies that become files of the bay: taken in piece by piece, bounded in size, time and number, and checked.

use super::{content_digest::Expected, problem::Problem};
use crate::{
    deploy::{BUILD_MAX, SETTINGS_MAX},
    runtime::{Build, Digest},
    state,
};
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::BodyExt;
use std::{
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    fs::File,
    io::AsyncWriteExt,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Where builds lie while they come in, in the state folder. The files have no name, so that nothing can be left over.
const FOLDER: &str = "uploads";
/// Builds that come in at once; others wait.
const PLACES: usize = 8;
/// MiB of builds in memory, from when they are whole until their orders have ended; others wait on the disk.
const MEMORY: u32 = 512;
/// The longest wait for either.
const WAIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;
/// Bytes of settings that are too large and are read all the same, before it is said.
const LINGER: u64 = 4 << 20;

/// How slow a client may be.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Between two pieces.
    silence: Duration,
    whole: Duration,
}

const PACE: Pace = Pace { silence: Duration::from_secs(30), whole: Duration::from_secs(600) };

/// What builds come in through.
pub(super) struct Uploads {
    folder: PathBuf,
    places: Semaphore,
    memory: Arc<Semaphore>,
}

/// A build that came in whole, with its share of the memory.
pub(super) struct Uploaded {
    pub(super) build: Build,
    pub(super) memory: OwnedSemaphorePermit,
}

impl Uploads {
    pub(super) fn new(state: &Path) -> Self {
        let memory = Arc::new(Semaphore::new(usize::try_from(MEMORY).unwrap_or(usize::MAX)));
        Self { folder: state.join(FOLDER), places: Semaphore::new(PLACES), memory }
    }

    /// Takes a build in.
    pub(super) async fn build(&self, headers: &HeaderMap, body: Body) -> Result<Uploaded, Problem> {
        let expected = Expected::of(headers)?;
        refuse_large(headers, BUILD_MAX)?;
        let place = timeout(WAIT, self.places.acquire()).await.map_err(|_| busy("uploads come in"))?;
        let (file, size) = receive(self.create().await?, body, BUILD_MAX, PACE).await?;
        drop(place);
        let mib = u32::try_from(size.div_ceil(MIB)).unwrap_or(MEMORY);
        let memory = timeout(WAIT, self.memory.clone().acquire_many_owned(mib)).await;
        let memory = memory.map_err(|_| busy("builds wait for their swaps"))?;
        let memory = memory.map_err(|error| unwritten(&io::Error::other(error)))?;
        let read = tokio::task::spawn_blocking(move || read(file, size).map(Build::of)).await;
        let build = read.map_err(io::Error::other).flatten().map_err(|error| unwritten(&error))?;
        expected.check(build.digest())?;
        Ok(Uploaded { build, memory })
    }

    /// A file without a name.
    async fn create(&self) -> Result<File, Problem> {
        let folder = self.folder.clone();
        let create = move || {
            state::make_private(&folder)?;
            tempfile::tempfile_in(&folder)
        };
        let created = tokio::task::spawn_blocking(create).await.map_err(io::Error::other).flatten();
        created.map(File::from_std).map_err(|error| unwritten(&error))
    }
}

/// Takes the text of settings in.
pub(super) async fn settings(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let expected = Expected::of(headers)?;
    if let Err(refusal) = refuse_large(headers, SETTINGS_MAX) {
        // A client that writes while nobody reads learns that its connection broke, and not why.
        let _ = receive(tokio::io::sink(), body, LINGER, PACE).await;
        return Err(refusal);
    }
    let text = receive(Vec::new(), body, SETTINGS_MAX, PACE).await.map(|(text, _)| Bytes::from(text))?;
    expected.check(&Digest::of(&text))?;
    Ok(text)
}

fn refuse_large(headers: &HeaderMap, max: u64) -> Result<(), Problem> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max) { Err(too_large(max)) } else { Ok(()) }
}

/// Writes the body into `to` as it comes, and returns it with its length.
async fn receive<W: tokio::io::AsyncWrite + Unpin>(to: W, body: Body, max: u64, pace: Pace) -> Result<(W, u64), Problem> {
    let whole = timeout(pace.whole, receive_all(to, body, max, pace.silence)).await;
    whole.map_err(|_| too_slow(&format!("the body was not whole after {:?}", pace.whole)))?
}

async fn receive_all<W: tokio::io::AsyncWrite + Unpin>(
    mut to: W,
    mut body: Body,
    max: u64,
    silence: Duration,
) -> Result<(W, u64), Problem> {
    let mut size = 0_u64;
    loop {
        let frame = timeout(silence, body.frame()).await;
        let frame = frame.map_err(|_| too_slow(&format!("nothing of the body came for {silence:?}")))?;
        let frame = match frame {
            None => break,
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let detail = format!("the body was cut after {size} bytes: {error}");
                return Err(Problem::new(StatusCode::BAD_REQUEST, detail).remedy("send it again, whole"));
            }
        };
        // Trailers say nothing here.
        let Ok(piece) = frame.into_data() else { continue };
        size = size.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if size > max {
            return Err(too_large(max));
        }
        to.write_all(&piece).await.map_err(|error| unwritten(&error))?;
    }
    to.flush().await.map_err(|error| unwritten(&error))?;
    Ok((to, size))
}

/// What came in. Waits for the disk.
fn read(file: File, size: u64) -> io::Result<Bytes> {
    let Ok(mut file) = file.try_into_std() else {
        return Err(io::Error::other("the file is still being written"));
    };
    file.rewind()?;
    let mut wasm = Vec::with_capacity(usize::try_from(size).map_err(io::Error::other)?);
    file.read_to_end(&mut wasm)?;
    Ok(wasm.into())
}

fn too_large(max: u64) -> Problem {
    let detail = format!("the body has more than {} MiB", max / MIB);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        .remedy("the bay takes no larger one; strip a build of its debug information")
}

fn too_slow(detail: &str) -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, detail).remedy("send it again over a quicker way")
}

fn busy(what: &str) -> Problem {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("too many {what} at once"));
    problem.remedy("send it again in a moment").retry_after(5)
}

/// Something of the host's disk.
pub(super) fn unwritten(error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string()).remedy("make room on the host's disk")
        }
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            .remedy("see to it that hotbay's user may read and write the bay and the state folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};

    const QUICK: Pace = Pace { silence: Duration::from_millis(20), whole: Duration::from_millis(200) };

    async fn status(body: Body, max: u64) -> u16 {
        receive(Vec::new(), body, max, QUICK).await.err().map_or(200, |problem| problem.status)
    }

    #[tokio::test]
    async fn a_body_that_stops_or_never_ends_is_given_up() {
        let piece = || Ok::<_, io::Error>(Bytes::from_static(b"abc"));
        assert_eq!(status(Body::from("abc"), 3).await, 200);
        assert_eq!(status(Body::from("abcd"), 3).await, 413);
        assert_eq!(status(Body::from_stream(stream::iter([piece()]).chain(stream::pending())), 100).await, 408);
        let slow = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, io::Error>(Bytes::from_static(b"a")), ()))
        });
        assert_eq!(status(Body::from_stream(slow), u64::MAX).await, 408);
        let cut = stream::iter([piece(), Err(io::Error::other("cut"))]);
        assert_eq!(status(Body::from_stream(cut), 100).await, 400);
    }
}
