//! Calling a WASI HTTP guest, 0.2 and 0.3.

use super::{call::Call, fault::Fault, instance::Instance, revision::Revision, running::HeadSender};
use http::Request;
use std::{future::poll_fn, sync::Arc};
use wasmtime_wasi_http::{WasiBody, WasiHttpView, handler::Proxy, p2::bindings::http::types::Scheme, p3};

/// A WASI HTTP guest: an instance, the call, and the instance back to the idle ones.
pub(super) async fn drive(
    revision: Arc<Revision>,
    request: Request<WasiBody>,
    call: Call,
    sender: HeadSender,
) -> Result<(), Fault> {
    let mut instance = revision.instance(|state| state.begin(&call)).await?;
    // An idle instance's tick is long over; without this it would give way once before it began.
    instance.store.set_epoch_deadline(1);
    let outcome = match &instance.proxy {
        Some(Proxy::P2(_)) => drive_p2(&mut instance, request, sender).await,
        Some(Proxy::P3(_)) => drive_p3(&mut instance, request, sender).await,
        None => return Err(Fault::Library),
    };
    if let Err(error) = outcome {
        return Err(revision.failed(error, instance.store));
    }
    instance.store.data().log.flush();
    revision.give_back(instance);
    Ok(())
}

async fn drive_p2(instance: &mut Instance, request: Request<WasiBody>, sender: HeadSender) -> wasmtime::Result<()> {
    let Instance { store, proxy: Some(Proxy::P2(proxy)), .. } = instance else {
        return Ok(());
    };
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let outparam = http.new_response_outparam_from_callback(move |head| {
        // Nobody waits for the head any more where the deadline was faster.
        let _ = sender.send(head.map_err(|code| Fault::Refused(format!("{code:?}"))));
    })?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, outparam).await
}

async fn drive_p3(instance: &mut Instance, request: Request<WasiBody>, sender: HeadSender) -> wasmtime::Result<()> {
    let Instance { store, proxy: Some(Proxy::P3(service)), .. } = instance else {
        return Ok(());
    };
    let (request, sent) = p3::Request::from_http(store.data_mut().http().hooks, request);
    let service = &*service;
    store
        .run_concurrent(async |accessor| {
            let head = match service.handle(accessor, request).await? {
                Ok(response) => Ok(accessor.with(|access| response.into_http(access, sent))?),
                Err(code) => Err(Fault::Refused(format!("{code:?}"))),
            };
            // Nobody waits for the head any more where the deadline was faster.
            let _ = sender.send(head);
            // The guest may go on after its response head: the body streams, and it may have work of its own.
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            wasmtime::Result::<()>::Ok(())
        })
        .await?
}
