//! What has to be installed for something, and how to get it.

use std::process::{Command, Stdio};

/// One tool, and what was found of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Need {
    /// What is needed, as people call it.
    pub(crate) what: &'static str,
    /// What is there: a version, a folder. None where it is missing.
    pub(crate) found: Option<String>,
    /// The command that gets it.
    pub(crate) remedy: String,
}

impl Need {
    pub(super) fn new(what: &'static str, found: Option<String>, remedy: impl Into<String>) -> Self {
        Self { what, found, remedy: remedy.into() }
    }
}

impl Need {
    /// The same, where what is there is too old: missing, and the remedy says what was found.
    pub(super) fn from(self, (major, minor): (u32, u32)) -> Self {
        match self.found {
            Some(found) if number(&found).is_some_and(|there| there < (major, minor)) => {
                Self { found: None, remedy: format!("{found} is older than {major}.{minor}; {}", self.remedy), ..self }
            }
            _ => self,
        }
    }
}

/// The first version number in a text, `(1, 95)` of `rustc 1.95.0`.
pub(super) fn number(text: &str) -> Option<(u32, u32)> {
    let word = text
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = word.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The first line that a tool prints when it is run so, if it can be run at all.
pub(super) fn version(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default().trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_is_missing() {
        assert_eq!(number("rustc 1.95.0 (59807616e 2026-04-14)"), Some((1, 95)));
        assert_eq!(number("v20.20.2"), Some((20, 20)));
        assert_eq!(number("Debian clang version 14.0.6"), Some((14, 0)));
        let node = |found: &str| Need::new("node", Some(found.to_owned()), "get it").from((20, 6));
        assert_eq!(node("v20.20.2").found.as_deref(), Some("v20.20.2"));
        assert_eq!((node("v18.19.0").found, node("v18.19.0").remedy), (None, "v18.19.0 is older than 20.6; get it".to_owned()));
    }
}
