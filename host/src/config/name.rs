//! What a file in the bay is called and which service it belongs to.

use std::{fmt, sync::Arc};

/// The longest service name, the limit of a DNS label (RFC 1035 §2.3.4), since `NAME.localhost` is a host name.
const NAME_MAX: usize = 63;

/// The name of a service: `[a-z0-9-]`, 1 to 63 characters, no hyphen at either end. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Checks `name` against the rules above.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let fault = if name.is_empty() {
            NameFault::Empty
        } else if name.len() > NAME_MAX {
            NameFault::TooLong(name.len())
        } else if let Some(found) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            NameFault::Character(found)
        } else if name.starts_with('-') || name.ends_with('-') {
            NameFault::Hyphen
        } else {
            return Ok(Self(name.into()));
        };
        Err(NameError { name: name.to_owned(), fault })
    }

    /// Stands in where a build is looked at under a file name that is none.
    pub fn unnamed() -> Self {
        Self("unnamed".into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NameFault {
    Empty,
    TooLong(usize),
    Character(char),
    Hyphen,
    Label,
}

/// A name that is not allowed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    name: String,
    fault: NameFault,
}

impl NameError {
    /// What the person should do about it.
    pub fn remedy(&self) -> &'static str {
        match self.fault {
            NameFault::Label => "deploy it as NAME.wasm; a share of the traffic for a labelled revision is not built yet",
            _ => "rename the file: a service name is 1 to 63 of a-z, 0-9 and -, without - at either end",
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.name.escape_debug();
        match &self.fault {
            NameFault::Empty => f.write_str("the service name is empty"),
            NameFault::TooLong(len) => {
                let head: String = self.name.chars().take(20).collect();
                write!(f, "the service name `{}…` has {len} bytes, {NAME_MAX} are allowed", head.escape_debug())
            }
            NameFault::Character(found) => {
                write!(f, "the service name `{shown}` holds {found:?} (U+{:04X})", u32::from(*found))
            }
            NameFault::Hyphen => write!(f, "the service name `{shown}` begins or ends with a hyphen"),
            NameFault::Label => write!(f, "`{shown}` names a labelled revision (NAME@LABEL)"),
        }
    }
}

impl std::error::Error for NameError {}

/// What a file name in the bay stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BayFile {
    /// `NAME.wasm`: the build of service NAME.
    Build(ServiceName),
    /// `NAME.toml`: the settings of service NAME.
    Settings(ServiceName),
    /// `.wasm` or `.toml` with a name that is not allowed.
    Misnamed(NameError),
    /// Not Hotbay's: begins with a dot or has another ending.
    Ignored,
}

impl BayFile {
    /// Reads the meaning of one file name.
    pub fn of(file_name: &str) -> Self {
        if file_name.starts_with('.') {
            return Self::Ignored;
        }
        let (stem, build) = match (file_name.strip_suffix(".wasm"), file_name.strip_suffix(".toml")) {
            (Some(stem), _) => (stem, true),
            (None, Some(stem)) => (stem, false),
            (None, None) => return Self::Ignored,
        };
        match ServiceName::parse(stem) {
            Ok(name) if build => Self::Build(name),
            Ok(name) => Self::Settings(name),
            Err(error) => match stem.split_once('@') {
                Some((name, label)) if ServiceName::parse(name).is_ok() && ServiceName::parse(label).is_ok() => {
                    Self::Misnamed(NameError { name: stem.to_owned(), fault: NameFault::Label })
                }
                _ => Self::Misnamed(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_a_dns_label() {
        for good in ["a", "orders", "x-1", "0"] {
            assert!(ServiceName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "A", "a.b", "../x", "%2e%2e", "a\0", "a/b", "naïve", "-a", "a-", long.as_str()] {
            assert!(ServiceName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_file_name_says_what_it_is() {
        assert!(matches!(BayFile::of("orders.wasm"), BayFile::Build(n) if n.as_str() == "orders"));
        assert!(matches!(BayFile::of("orders.toml"), BayFile::Settings(n) if n.as_str() == "orders"));
        assert!(matches!(BayFile::of("orders@beta.wasm"), BayFile::Misnamed(e) if e.fault == NameFault::Label));
        assert!(matches!(BayFile::of("Orders.wasm"), BayFile::Misnamed(e) if e.fault == NameFault::Character('O')));
        for ignored in [".orders.wasm", "orders.wasm.tmp", "README", "orders.wasm~"] {
            assert_eq!(BayFile::of(ignored), BayFile::Ignored, "{ignored}");
        }
    }
}
