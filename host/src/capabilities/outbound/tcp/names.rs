//! `wasi:sockets/ip-name-lookup`, 0.2 and 0.3, in place of the engine's: names go through the host's own resolver and rules.

use super::{
    guest::{Found, NameFailure},
    sockets::SocketsView,
};
use std::{
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    vec,
};
use tokio_util::task::AbortOnDropHandle;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource, ResourceType},
};
use wasmtime_wasi::{
    async_trait,
    p2::{
        DynPollable, Network, Pollable,
        bindings::sockets::network::{ErrorCode as ErrorCode2, IpAddress as IpAddress2},
        subscribe,
    },
    p3::bindings::sockets::{ip_name_lookup::ErrorCode as ErrorCode3, types::IpAddress as IpAddress3},
};

/// The names by which the engine links its own, so that ours take their place.
const NAMES_2: &str = "wasi:sockets/ip-name-lookup@0.2.12";
const NAMES_3: &str = "wasi:sockets/ip-name-lookup@0.3.0";

impl From<NameFailure> for ErrorCode2 {
    fn from(failure: NameFailure) -> Self {
        match failure {
            NameFailure::Denied => Self::AccessDenied,
            NameFailure::Invalid => Self::InvalidArgument,
            NameFailure::Missing => Self::NameUnresolvable,
            NameFailure::Timeout => Self::TemporaryResolverFailure,
        }
    }
}

impl From<NameFailure> for ErrorCode3 {
    fn from(failure: NameFailure) -> Self {
        match failure {
            NameFailure::Denied => Self::AccessDenied,
            NameFailure::Invalid => Self::InvalidArgument,
            NameFailure::Missing => Self::NameUnresolvable,
            NameFailure::Timeout => Self::TemporaryResolverFailure,
        }
    }
}

/// `resolve-address-stream`: a look-up under way, or what came of it. Dropping it ends the look-up.
enum LookUp {
    Asked(AbortOnDropHandle<Found>),
    Told(Result<vec::IntoIter<IpAddr>, NameFailure>),
}

impl LookUp {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&mut Result<vec::IntoIter<IpAddr>, NameFailure>> {
        if let Self::Asked(asked) = self {
            // A task that was ended with the host answers nothing.
            let found = ready!(Pin::new(asked).poll(cx)).unwrap_or(Err(NameFailure::Missing));
            *self = Self::Told(found.map(Vec::into_iter));
        }
        match self {
            Self::Told(told) => Poll::Ready(told),
            Self::Asked(_) => Poll::Pending,
        }
    }
}

#[async_trait]
impl Pollable for LookUp {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx).map(|_| ())).await;
    }
}

type View<T> = fn(&mut T) -> SocketsView<'_>;

/// Links the 0.2 interface.
pub(super) fn add<T: 'static>(linker: &mut Linker<T>, view: View<T>) -> wasmtime::Result<()> {
    let mut names = linker.instance(NAMES_2)?;
    names.resource("resolve-address-stream", ResourceType::host::<LookUp>(), move |mut store, handle| {
        view(store.data_mut()).wasi.table.delete(Resource::<LookUp>::new_own(handle))?;
        Ok(())
    })?;
    names.func_wrap(
        "resolve-addresses",
        move |mut store: StoreContextMut<'_, T>, (network, name): (Resource<Network>, String)| {
            let mut view = view(store.data_mut());
            view.wasi.table.get(&network)?;
            let look_up = match view.look_up(&name) {
                Ok(asked) => Ok(view.wasi.table.push(LookUp::Asked(asked))?),
                Err(failure) => Err(ErrorCode2::from(failure)),
            };
            Ok((look_up,))
        },
    )?;
    names.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        move |mut store: StoreContextMut<'_, T>, (look_up,): (Resource<LookUp>,)| {
            let look_up = view(store.data_mut()).wasi.table.get_mut(&look_up)?;
            let next = match look_up.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(found)) => Ok(found.next().map(IpAddress2::from)),
                Poll::Ready(Err(failure)) => Err(ErrorCode2::from(*failure)),
                Poll::Pending => Err(ErrorCode2::WouldBlock),
            };
            Ok((next,))
        },
    )?;
    names.func_wrap(
        "[method]resolve-address-stream.subscribe",
        move |mut store: StoreContextMut<'_, T>, (look_up,): (Resource<LookUp>,)| -> wasmtime::Result<(Resource<DynPollable>,)> {
            Ok((subscribe(view(store.data_mut()).wasi.table, look_up)?,))
        },
    )
}

/// Links the 0.3 interface.
pub(super) fn add_async<T: 'static>(linker: &mut Linker<T>, view: View<T>) -> wasmtime::Result<()> {
    linker.instance(NAMES_3)?.func_wrap_concurrent("resolve-addresses", move |accessor, (name,): (String,)| {
        Box::pin(async move {
            let found = match accessor.with(|mut access| view(access.data_mut()).look_up(&name)) {
                Ok(asked) => asked.await.unwrap_or(Err(NameFailure::Missing)),
                Err(failure) => Err(failure),
            };
            let found = found.map(|found| found.into_iter().map(IpAddress3::from).collect::<Vec<_>>());
            Ok((found.map_err(ErrorCode3::from),))
        })
    })
}
