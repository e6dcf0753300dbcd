//! Requests by `wasi:http/outgoing-handler`.

use crate::http::{RESPONSE_MAX, SendError};
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body as _;
use std::{future::poll_fn, pin::pin};
use wasip2::http::types::ErrorCode;
use wstd::http::Client;

pub(crate) async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
    let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let response = Client::new().send(request).await.map_err(|error| failed(&error, &host))?;
    let (parts, body) = response.into_parts();
    let mut body = pin!(body.into_boxed_body());
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(data) = frame.map_err(|error| failed(&error, &host))?.into_data() else { continue };
        if whole.len() + data.len() > RESPONSE_MAX {
            return Err(SendError::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Response::from_parts(parts, whole.freeze()))
}

fn failed(error: &wstd::http::Error, host: &str) -> SendError {
    match error.downcast_ref::<ErrorCode>() {
        Some(ErrorCode::HttpRequestDenied | ErrorCode::DestinationNotFound) => SendError::NotGranted(host.to_owned()),
        Some(ErrorCode::ConnectionTimeout | ErrorCode::HttpResponseTimeout | ErrorCode::ConnectionReadTimeout) => {
            SendError::Timeout
        }
        Some(ErrorCode::HttpResponseBodySize(_)) => SendError::TooLarge,
        _ => SendError::Failed(format!("{host}: {error}")),
    }
}
