//! What a native axum server costs for the answer of the `hello` service: the yardstick of `bench`.
//!
//! It has the allocator of Hotbay, so that the ratio says nothing of allocators.

use axum::{Router, routing::get};
use std::io;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let hello = Router::new().route("/hello", get(|| async { "Hello from Hotbay!\n" }));
    axum::serve(listener, hello).await
}
