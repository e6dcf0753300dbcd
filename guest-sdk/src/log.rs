//! Messages with a level in the service's log, by `wasi:logging`. Needs the feature `log`, and no grant.
//!
//! ```
//! use hotbay_sdk::log::{self, Level};
//!
//! fn sell(n: u32) {
//!     log::info!("sold {n}");
//!     if n > 100 {
//!         log::warn!(context: "stock", "{n} at once");
//!     }
//! }
//!
//! sell(101);
//! // Natively messages are kept, for tests.
//! let told = log::take_for_tests();
//! assert_eq!((told[0].level, told[0].message.as_str()), (Level::Info, "sold 101"));
//! assert_eq!((told[1].level, told[1].context.as_str()), (Level::Warn, "stock"));
//! ```
//!
//! The context is the path of the module unless a message says another. What a guest writes to stdout and stderr comes into the same
//! log, line by line and without a level.

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Values, and the way through the code.
    Trace,
    /// For whoever mends the service.
    Debug,
    /// For whoever runs it.
    Info,
    /// Something may go wrong.
    Warn,
    /// Something went wrong.
    Error,
    /// The service cannot go on.
    Critical,
}

/// Writes one message. `context` is any text by which readers may group messages.
pub fn log(level: Level, context: &str, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::wasi::log::log(level, context, message);
    #[cfg(not(target_family = "wasm"))]
    memory::keep(level, context, message);
}

#[cfg(not(target_family = "wasm"))]
pub use memory::{Message, take_for_tests};

/// A message of a level, with the words of [`format!`] and perhaps a `context:` before them.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, context: $context:expr, $($message:tt)+) => {
        $crate::log::log($crate::log::Level::$level, $context, &::std::format!($($message)+))
    };
    ($level:ident, $($message:tt)+) => {
        $crate::log::log($crate::log::Level::$level, ::std::module_path!(), &::std::format!($($message)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace {
    ($($message:tt)+) => { $crate::__log!(Trace, $($message)+) };
}
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($message:tt)+) => { $crate::__log!(Debug, $($message)+) };
}
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($message:tt)+) => { $crate::__log!(Info, $($message)+) };
}
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($message:tt)+) => { $crate::__log!(Warn, $($message)+) };
}
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($message:tt)+) => { $crate::__log!(Error, $($message)+) };
}
#[doc(hidden)]
#[macro_export]
macro_rules! __log_critical {
    ($($message:tt)+) => { $crate::__log!(Critical, $($message)+) };
}

#[doc(inline)]
pub use crate::{
    __log_critical as critical, __log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace,
    __log_warn as warn,
};

/// In memory, for each thread its own.
#[cfg(not(target_family = "wasm"))]
mod memory {
    use super::Level;
    use std::cell::RefCell;

    thread_local! {
        static MESSAGES: RefCell<Vec<Message>> = RefCell::default();
    }

    /// A message that was written.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Message {
        /// How much it matters.
        pub level: Level,
        /// What it belongs to.
        pub context: String,
        /// Its text.
        pub message: String,
    }

    pub(super) fn keep(level: Level, context: &str, message: &str) {
        let message = Message { level, context: context.to_owned(), message: message.to_owned() };
        MESSAGES.with_borrow_mut(|messages| messages.push(message));
    }

    /// Natively: what this thread, and so this test, has written since it was asked last.
    pub fn take_for_tests() -> Vec<Message> {
        MESSAGES.take()
    }
}
