//! The functions of `wasi:sockets` by which sockets come and go, 0.2 and 0.3: the engine's own, with a place held meanwhile.

use super::{
    client::Place,
    names,
    sockets::{NoSocket, SocketsView},
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::oneshot;
use wasmtime::{
    StoreContextMut,
    component::{Access, FutureConsumer, FutureReader, Linker, Resource, ResourceType, Source, StreamReader},
};
use wasmtime_wasi::{
    p2::{
        TcpSocket as TcpSocket2,
        bindings::sockets::{
            network::{ErrorCode as ErrorCode2, IpAddressFamily as Family2},
            tcp::HostTcpSocket as HostTcpSocket2,
            tcp_create_socket::Host as CreateSocket2,
        },
    },
    p3::bindings::sockets::types::{
        ErrorCode as ErrorCode3, HostTcpSocket as HostTcpSocket3, HostTcpSocketWithStore as TcpSocketWithStore3,
        IpAddressFamily as Family3,
    },
    sockets::{TcpSocket as TcpSocket3, WasiSockets, WasiSocketsView},
};

/// The names by which the engine links its own, so that ours take their place.
const TCP_2: &str = "wasi:sockets/tcp@0.2.12";
const CREATE_2: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const TYPES_3: &str = "wasi:sockets/types@0.3.0";

const FULL: &str = "all TCP sockets that the service may have are in use (outbound.tcp_connections)";

type View<T> = fn(&mut T) -> SocketsView<'_>;

/// Links what is ours of the 0.2 interfaces, after the engine's.
pub(crate) fn add_sockets<T: 'static>(linker: &mut Linker<T>, view: View<T>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    names::add(linker, view)?;
    linker.instance(CREATE_2)?.func_wrap(
        "create-tcp-socket",
        move |mut store: StoreContextMut<'_, T>, (family,): (Family2,)| {
            let mut view = view(store.data_mut());
            let place = match view.place() {
                Ok(place) => place,
                Err(NoSocket::Denied) => return Ok((Err(ErrorCode2::AccessDenied),)),
                Err(NoSocket::Limit) => return Ok((Err(ErrorCode2::NewSocketLimit),)),
            };
            Ok((match CreateSocket2::create_tcp_socket(&mut view.wasi, family) {
                Ok(socket) => {
                    view.hold(socket.rep(), place);
                    Ok(socket)
                }
                Err(error) => Err(error.downcast()?),
            },))
        },
    )?;
    // Its streams end before it does: the engine traps a guest that drops it first.
    linker.instance(TCP_2)?.resource("tcp-socket", ResourceType::host::<TcpSocket2>(), move |mut store, handle| {
        let mut view = view(store.data_mut());
        HostTcpSocket2::drop(&mut view.wasi, Resource::new_own(handle))?;
        view.release(handle);
        Ok(())
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Links what is ours of the 0.3 interfaces, after the engine's.
pub(crate) fn add_sockets_of_async<T: WasiSocketsView + 'static>(linker: &mut Linker<T>, view: View<T>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    names::add_async(linker, view)?;
    let mut types = linker.instance(TYPES_3)?;
    types.func_wrap("[static]tcp-socket.create", move |mut store: StoreContextMut<'_, T>, (family,): (Family3,)| {
        let mut view = view(store.data_mut());
        let place = match view.place() {
            Ok(place) => place,
            Err(NoSocket::Denied) => return Ok((Err(ErrorCode3::AccessDenied),)),
            Err(NoSocket::Limit) => return Ok((Err(ErrorCode3::Other(Some(FULL.to_owned()))),)),
        };
        Ok((match HostTcpSocket3::create(&mut view.wasi, family) {
            Ok(socket) => {
                view.hold(socket.rep(), place);
                Ok(socket)
            }
            Err(error) => Err(error.downcast()?),
        },))
    })?;
    types.resource("tcp-socket", ResourceType::host::<TcpSocket3>(), move |mut store, handle| {
        let mut view = view(store.data_mut());
        HostTcpSocket3::drop(&mut view.wasi, Resource::new_own(handle))?;
        view.release(handle);
        Ok(())
    })?;
    types.func_wrap(
        "[method]tcp-socket.send",
        move |mut store: StoreContextMut<'_, T>, (socket, data): (Resource<TcpSocket3>, StreamReader<u8>)| {
            let place = view(store.data_mut()).held(socket.rep());
            let ended = TcpSocketWithStore3::send(engine(&mut store), socket, data)?;
            Ok((holding(&mut store, place, ended)?,))
        },
    )?;
    types.func_wrap(
        "[method]tcp-socket.receive",
        move |mut store: StoreContextMut<'_, T>, (socket,): (Resource<TcpSocket3>,)| {
            let place = view(store.data_mut()).held(socket.rep());
            let (data, ended) = TcpSocketWithStore3::receive(engine(&mut store), socket)?;
            Ok(((data, holding(&mut store, place, ended)?),))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The engine's way into a store.
fn engine<'a, T: WasiSocketsView + 'static>(store: &'a mut StoreContextMut<'_, T>) -> Access<'a, T, WasiSockets> {
    use wasmtime::AsContextMut;
    Access::<T, WasiSockets>::new(store.as_context_mut(), T::sockets)
}

/// How one direction of a connection ends.
type Ended = Result<(), ErrorCode3>;

/// The same future, with a place held until it is there: in 0.3 a connection lives on in its streams without its socket.
fn holding<T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    place: Option<Arc<Place>>,
    ended: FutureReader<Ended>,
) -> wasmtime::Result<FutureReader<Ended>> {
    let Some(place) = place else {
        return Ok(ended);
    };
    let (tell, told) = oneshot::channel();
    ended.pipe(&mut *store, Holding { tell: Some(tell), _place: place })?;
    FutureReader::new(&mut *store, told)
}

struct Holding {
    tell: Option<oneshot::Sender<Ended>>,
    _place: Arc<Place>,
}

impl<T: 'static> FutureConsumer<T> for Holding {
    type Item = Ended;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, T>,
        mut source: Source<'_, Ended>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut ended = None;
        source.read(store, &mut ended)?;
        if let (Some(ended), Some(tell)) = (ended, self.tell.take()) {
            // The guest may have let go of its end.
            let _ = tell.send(ended);
        }
        Poll::Ready(Ok(()))
    }
}
