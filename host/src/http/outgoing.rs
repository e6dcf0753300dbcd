//! The body of every response of the public edge: what was dispatched, with a script at its end where the host runs with `--dev`,
//! or what the host tells a page of its own.

use super::{dev::Told, watch::Active};
use crate::{dispatch::Observed, runtime::Fault};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// See the file.
#[allow(clippy::large_enum_variant, reason = "the usual one needs no room of its own on the heap")]
pub(super) enum Outgoing {
    /// As it was dispatched.
    Plain(Observed<Active>),
    /// With more at its end.
    Extended(Box<Extended>),
    /// Not dispatched at all.
    Told(Box<Told>),
}

/// A body with more at its end, before the trailers.
pub(super) struct Extended {
    body: Observed<Active>,
    /// Absent once it was sent.
    more: Option<Bytes>,
    /// Those that came before it could be.
    trailers: Option<Frame<Bytes>>,
}

impl Outgoing {
    /// `body`, and `more` behind it.
    pub(super) fn new(body: Observed<Active>, more: Option<Bytes>) -> Self {
        match more {
            None => Self::Plain(body),
            more => Self::Extended(Box::new(Extended { body, more, trailers: None })),
        }
    }
}

impl Extended {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.more.is_none() {
            return Poll::Ready(self.trailers.take().map(Ok));
        }
        // Nothing is added to a body that breaks off.
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) if frame.is_trailers() => self.trailers = Some(frame),
            None => {}
            other => return Poll::Ready(other),
        }
        Poll::Ready(self.more.take().map(|more| Ok(Frame::data(more))))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut *self {
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Extended(body) => body.poll(cx),
            Self::Told(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Extended(body) => body.more.is_none() && body.trailers.is_none(),
            Self::Told(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Extended(extended) => {
                let more = extended.more.as_ref().map_or(0, |more| u64::try_from(more.len()).unwrap_or(u64::MAX));
                let body = extended.body.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(body.lower().saturating_add(more));
                if let Some(upper) = body.upper().and_then(|upper| upper.checked_add(more)) {
                    hint.set_upper(upper);
                }
                hint
            }
            Self::Told(_) => SizeHint::default(),
        }
    }
}
