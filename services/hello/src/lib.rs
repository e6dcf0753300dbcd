//! The smallest service: one function that answers every request.
//!
//! ```text
//! $ curl http://127.0.0.1:8080/hello
//! Hello from Hotbay!
//! ```
//!
//! It needs no settings file, and takes `hotbay-sdk` without its default features: no router and no JSON, so that all
//! a request pays for is the request.

use hotbay_sdk::Request;

hotbay_sdk::service!(hello);

async fn hello(_request: Request) -> &'static str {
    "Hello from Hotbay!\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_hello() {
        assert_eq!(pollster::block_on(hello(Request::default())), "Hello from Hotbay!\n");
    }
}
