//! Names of services that no crate can have: cargo or rustc would say so at the first build only.

use hotbay::config::ServiceName;

/// Words of the language, as far as they could be names of services.
const KEYWORDS: [&str; 49] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else", "enum",
    "extern", "false", "final", "fn", "for", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut",
    "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "use", "virtual", "where", "while", "yield",
];

/// Crates that every other one has beside itself.
const OF_RUST: [&str; 5] = ["alloc", "core", "proc-macro", "std", "test"];

/// Two crates of one name, each in a folder, are more than cargo takes.
const OF_SDK: &str = "hotbay-sdk";

/// Why the crate of a service cannot be called as the service is, if it cannot.
pub(super) fn fault(name: &ServiceName) -> Option<&'static str> {
    let name = name.as_str();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        return Some("it begins with a digit");
    }
    if KEYWORDS.contains(&name) {
        return Some("it is a word of the language");
    }
    if name == OF_SDK {
        return Some("the SDK in its vendor folder is called so");
    }
    OF_RUST.contains(&name).then_some("a crate that comes with Rust is called so")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_would_refuse_is_refused() {
        let fault = |name: &str| fault(&ServiceName::parse(name).unwrap());
        for (name, word) in [
            ("1abc", "digit"),
            ("self", "language"),
            ("fn", "language"),
            ("test", "comes with"),
            ("std", "comes with"),
            ("hotbay-sdk", "SDK"),
        ] {
            assert!(fault(name).is_some_and(|reason| reason.contains(word)), "{name}");
        }
        for name in ["greet", "a1", "self-service", "service-1abc", "tests"] {
            assert_eq!(fault(name), None);
        }
    }
}
