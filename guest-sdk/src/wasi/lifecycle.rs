//! The export `hotbay:service/lifecycle`, from the WIT that the host is built from.

#[allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::mem_forget,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "hotbay:service/lifecycle-exports",
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
    });
}

pub use bindings::export_lifecycle as export;
pub use bindings::exports::hotbay::service::lifecycle::Guest;
