//! The smallest service: one function that answers every request.
//!
//! ```text
//! $ curl http://127.0.0.1:8080/hello
//! Hello from Hotbay!
//! ```
//!
//! It needs no settings file, and takes `hotbay-sdk` without its default features, so that neither router nor JSON come
//! with it. A handler that looks at the request takes it as its argument: `async fn hello(request: Request)`.

hotbay_sdk::service!(hello);

async fn hello() -> &'static str {
    "Hello from Hotbay!\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_hello() {
        assert_eq!(pollster::block_on(hello()), "Hello from Hotbay!\n");
    }
}
