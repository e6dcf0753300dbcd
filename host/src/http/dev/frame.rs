//! The functions of a backtrace: which are the service's own, and which are of the standard library and the glue around it.

/// One function.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) function: &'a str,
    /// `FILE:LINE`, where the build has debug information.
    pub(super) place: Option<&'a str>,
    pub(super) is_own: bool,
}

/// How functions begin that nobody wrote who writes a service; after the `<` of `<Type as Trait>::function`.
const GLUE: [&str; 23] = [
    "std::",
    "core::",
    "alloc::",
    "hashbrown::",
    "wasi::",
    "wasip1::",
    "wasip2::",
    "wasip3::",
    "wit_bindgen::",
    "wstd::",
    "hotbay_sdk::",
    "futures_",
    "compiler_builtins::",
    "panic_abort::",
    "dlmalloc::",
    "exports::",
    "__",
    "_ZN",
    "cabi_",
    "wasi:",
    "wit-component:",
    "rust_panic",
    "<unnamed",
];
/// Those of C, whole.
const GLUE_NAMES: [&str; 8] = ["abort", "exit", "_Exit", "_start", "_initialize", "memcpy", "memset", "malloc"];
/// What stands in the paths of their files; the SDK lies in the service's own folder, or beside this host's sources.
const GLUE_FILES: [&str; 7] =
    ["/rustc/", "/library/std/", "/library/core/", "/library/alloc/", "/registry/src/", "vendor/hotbay-sdk/", "guest-sdk/src/"];

impl<'a> Frame<'a> {
    /// Reads a line of a backtrace: `FUNCTION`, or `FUNCTION at FILE:LINE`.
    pub(super) fn read(line: &'a str) -> Self {
        let placed = line.rsplit_once(" at ").filter(|(_, place)| {
            place.rsplit_once(':').is_some_and(|(_, line)| !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit()))
        });
        let (function, place) = placed.map_or((line, None), |(function, place)| (function, Some(place)));
        let head = function.trim_start_matches(['<', '&']);
        let head = head.strip_prefix("dyn ").or_else(|| head.strip_prefix("mut ")).unwrap_or(head);
        let by_file = place.is_some_and(|place| GLUE_FILES.iter().any(|part| place.contains(part)));
        let by_name = GLUE.iter().any(|begin| function.starts_with(begin) || head.starts_with(begin))
            || GLUE_NAMES.contains(&function)
            || head.contains("::_export_")
            || head.contains("::__");
        Self { function, place: place.map(shortened), is_own: !by_file && !by_name }
    }
}

/// Without the folders of whoever built the standard library, or of a registry's copy.
fn shortened(place: &str) -> &str {
    let of_registry = place.split_once("/registry/src/").and_then(|(_, rest)| Some(rest.split_once('/')?.1));
    let of_std = || place.strip_prefix("/rustc/").and_then(|rest| Some(rest.split_once('/')?.1));
    of_registry.or_else(of_std).unwrap_or(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_is_made_of_is_told_from_what_it_stands_on() {
        for own in [
            "orders::price",
            "<probe::Probe as wasip2::exports::http::incoming_handler::Guest>::handle",
            "probe::overflow at src/lib.rs:7",
            "main at app.c:3",
            "wit_world.Handler at app.py:12",
        ] {
            assert!(Frame::read(own).is_own, "{own}");
        }
        for glue in [
            "std::panicking::begin_panic_handler",
            "<alloc::string::String as core::fmt::Write>::write_str",
            "<&mut core::fmt::Formatter as core::fmt::Write>::write_str",
            "__rustc::rust_begin_unwind",
            "rust_panic",
            "wasip2::proxy::_export_handle_cabi",
            "wasi:http/incoming-handler@0.2.0#handle",
            "serde_json::from_str at /home/me/.cargo/registry/src/x/serde_json/src/lib.rs:1",
            "<other::Router as app::Called>::call at /home/me/greet/vendor/hotbay-sdk/src/router.rs:40",
            "app::called at vendor/hotbay-sdk/src/lib.rs:4",
            "app::called at /home/me/hotbay/services/hello/../../guest-sdk/src/lib.rs:4",
            "abort",
        ] {
            assert!(!Frame::read(glue).is_own, "{glue}");
        }
    }

    #[test]
    fn a_place_is_a_file_and_a_line() {
        let Frame { function, place, .. } = Frame::read("f<T at U> at a b/c.rs:12");
        assert_eq!((function, place), ("f<T at U>", Some("a b/c.rs:12")));
        let of_std = Frame::read("core::f at /rustc/59807616/library/core/src/lib.rs:8");
        assert_eq!(of_std.place, Some("library/core/src/lib.rs:8"));
        let of_registry = Frame::read("f at /home/me/.cargo/registry/src/index-1/serde-1.0.0/src/lib.rs:8");
        assert_eq!((of_registry.place, of_registry.is_own), (Some("serde-1.0.0/src/lib.rs:8"), false));
        for whole in ["looks at me", "f at x:", "f"] {
            assert_eq!(Frame::read(whole).place, None);
        }
    }
}
