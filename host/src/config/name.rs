//! What a file in the bay is called and which service it belongs to.

use serde::Deserialize;
use std::{fmt, sync::Arc};

/// The longest service name, the limit of a DNS label (RFC 1035 §2.3.4), since `NAME.localhost` is a host name.
const NAME_MAX: usize = 63;

/// The name of a service: `[a-z0-9-]`, 1 to 63 characters, no hyphen at either end. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ServiceName(Arc<str>);

impl TryFrom<String> for ServiceName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::parse(&name)
    }
}

impl ServiceName {
    /// Checks `name` against the rules above.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        checked(name, Noun::Service).map(Self)
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

/// The label of a revision beside the main one: written like a service name, and not one of the words that mean something else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

impl Label {
    /// What stands for the revision without a label, where one is asked for by name.
    pub const MAIN: &'static str = "main";

    /// Keys of `[traffic]` that are no labels.
    const KEYS: [&'static str; 2] = ["sticky", "header_override"];

    /// Checks `label` against the rules above.
    pub fn parse(label: &str) -> Result<Self, NameError> {
        let digest = label.len() == 12 && label.bytes().all(|byte| byte.is_ascii_hexdigit());
        if label == Self::MAIN || digest || Self::KEYS.contains(&label) {
            return Err(NameError { name: label.to_owned(), noun: Noun::Label, fault: NameFault::Reserved });
        }
        checked(label, Noun::Label).map(Self)
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a build in the bay is for: `NAME`, a service's main revision, or `NAME@LABEL`, one beside it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildName {
    /// The service.
    pub service: ServiceName,
    /// Absent for the main revision.
    pub label: Option<Label>,
}

impl BuildName {
    /// Reads `NAME` or `NAME@LABEL`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (service, label) = match text.split_once('@') {
            Some((service, label)) => (service, Some(Label::parse(label)?)),
            None => (text, None),
        };
        Ok(Self { service: ServiceName::parse(service)?, label })
    }

    /// The label as text.
    pub fn label(&self) -> Option<&str> {
        self.label.as_ref().map(Label::as_str)
    }

    /// The main revision of the same service.
    pub fn main(&self) -> Self {
        self.service.clone().into()
    }
}

impl From<ServiceName> for BuildName {
    fn from(service: ServiceName) -> Self {
        Self { service, label: None }
    }
}

impl fmt::Display for BuildName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "{}@{label}", self.service),
            None => fmt::Display::fmt(&self.service, f),
        }
    }
}

impl fmt::Debug for BuildName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noun {
    Service,
    Label,
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "service name",
            Self::Label => "label",
        })
    }
}

fn checked(name: &str, noun: Noun) -> Result<Arc<str>, NameError> {
    let fault = if name.is_empty() {
        NameFault::Empty
    } else if name.len() > NAME_MAX {
        NameFault::TooLong(name.len())
    } else if let Some(found) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        NameFault::Character(found)
    } else if name.starts_with('-') || name.ends_with('-') {
        NameFault::Hyphen
    } else {
        return Ok(name.into());
    };
    Err(NameError { name: name.to_owned(), noun, fault })
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NameFault {
    Empty,
    TooLong(usize),
    Character(char),
    Hyphen,
    /// A word that means something else where labels are asked for.
    Reserved,
    /// Settings of a label's own.
    LabelSettings,
}

/// A name that is not allowed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    name: String,
    noun: Noun,
    fault: NameFault,
}

impl NameError {
    /// What the person should do about it.
    pub fn remedy(&self) -> &'static str {
        match (&self.fault, self.noun) {
            (NameFault::LabelSettings, _) => {
                "put the settings into NAME.toml, which holds for the labelled revisions too, and take this file away"
            }
            (NameFault::Reserved, _) => "take another label; main, sticky, header_override and 12 hex digits mean something else",
            (_, Noun::Label) => "take another label: 1 to 63 of a-z, 0-9 and -, without - at either end",
            (_, Noun::Service) => "rename the file: a service name is 1 to 63 of a-z, 0-9 and -, without - at either end",
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, noun) = (self.name.escape_debug(), self.noun);
        match &self.fault {
            NameFault::Empty => write!(f, "the {noun} is empty"),
            NameFault::TooLong(len) => {
                let head: String = self.name.chars().take(20).collect();
                write!(f, "the {noun} `{}…` has {len} bytes, {NAME_MAX} are allowed", head.escape_debug())
            }
            NameFault::Character(found) => {
                write!(f, "the {noun} `{shown}` holds {found:?} (U+{:04X})", u32::from(*found))
            }
            NameFault::Hyphen => write!(f, "the {noun} `{shown}` begins or ends with a hyphen"),
            NameFault::Reserved => write!(f, "the {noun} `{shown}` is reserved"),
            NameFault::LabelSettings => write!(f, "`{shown}.toml` would be the settings of a labelled revision (NAME@LABEL)"),
        }
    }
}

impl std::error::Error for NameError {}

/// What a file name in the bay stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BayFile {
    /// `NAME.wasm`: the build of service NAME.
    Build(ServiceName),
    /// `NAME@LABEL.wasm`: a build of service NAME for a share of its traffic.
    Labelled(ServiceName, Label),
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
        let read = match stem.split_once('@') {
            // An empty label is no label at all: the character is what is wrong.
            Some((name, label)) if !label.is_empty() => ServiceName::parse(name).and_then(|name| match build {
                true => Ok(Self::Labelled(name, Label::parse(label)?)),
                false => Err(NameError { name: stem.to_owned(), noun: Noun::Label, fault: NameFault::LabelSettings }),
            }),
            _ => ServiceName::parse(stem).map(|name| if build { Self::Build(name) } else { Self::Settings(name) }),
        };
        read.unwrap_or_else(Self::Misnamed)
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
        assert!(
            matches!(BayFile::of("orders@beta.wasm"), BayFile::Labelled(n, l) if (n.as_str(), l.as_str()) == ("orders", "beta"))
        );
        assert!(matches!(BayFile::of("orders@beta.toml"), BayFile::Misnamed(e) if e.fault == NameFault::LabelSettings));
        for reserved in ["main", "sticky", "header_override", "0123456789ab"] {
            let file = BayFile::of(&format!("orders@{reserved}.wasm"));
            assert!(matches!(file, BayFile::Misnamed(e) if e.fault == NameFault::Reserved), "{reserved}");
        }
        for bad in ["orders@.wasm", "@beta.wasm", "orders@Beta.wasm", "a@b@c.wasm"] {
            assert!(matches!(BayFile::of(bad), BayFile::Misnamed(_)), "{bad}");
        }
        assert!(matches!(BayFile::of("Orders.wasm"), BayFile::Misnamed(e) if e.fault == NameFault::Character('O')));
        for ignored in [".orders.wasm", "orders.wasm.tmp", "README", "orders.wasm~"] {
            assert_eq!(BayFile::of(ignored), BayFile::Ignored, "{ignored}");
        }
    }
}
