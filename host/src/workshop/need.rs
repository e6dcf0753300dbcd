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

/// The first line that a tool prints when it is run so, if it can be run at all.
pub(super) fn version(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default().trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
