//! One settings document: TOML text into a type, or an error that names the key, the line and the nearest known key.

use serde::de::DeserializeOwned;
use std::fmt;

/// Settings that are not understood: where, what and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// 1-based line in the document, where there is one.
    pub line: Option<usize>,
    /// The text of that line.
    pub excerpt: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line} (`{}`): ", self.excerpt)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for SettingsError {}

/// Reads `text` as a `T`.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, SettingsError> {
    toml::from_str(text).map_err(|error| explain(text, &error))
}

fn explain(text: &str, error: &toml::de::Error) -> SettingsError {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| before.matches('\n').count() + 1);
    let excerpt = line.and_then(|line| text.lines().nth(line - 1)).unwrap_or_default();
    let (reason, remedy) = reason_and_remedy(error.message());
    SettingsError { line, excerpt: without_credentials(excerpt.trim()).chars().take(120).collect(), reason, remedy }
}

/// The line without who logs in where it holds an address: a password belongs into no log.
fn without_credentials(line: &str) -> String {
    let parts = line.split_once("://").and_then(|(before, rest)| Some((before, rest.rsplit_once('@')?.1)));
    parts.map_or_else(|| line.to_owned(), |(before, after)| format!("{before}://…@{after}"))
}

/// serde words a value of the wrong type as: invalid type: integer `5`, expected a string.
fn reworded(message: &str) -> String {
    let Some((found, expected)) = message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected ")) else {
        return message.to_owned();
    };
    let expected = match expected {
        "a string" => "text in quotation marks, such as \"10s\" or \"64MiB\",",
        "i64" | "u32" | "u64" | "usize" => "a whole number",
        "a sequence" => "a list in [brackets]",
        "a boolean" => "true or false",
        _ if expected.starts_with("struct ") => "a table of its own",
        other => other,
    };
    format!("the value is the {found} where {expected} is expected").replace(", is expected", " is expected")
}

/// serde words an unknown key as: unknown field `x`, expected one of `a`, `b`.
fn reason_and_remedy(message: &str) -> (String, String) {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((key, known)) if message.starts_with("unknown field") => {
            let reason = format!("unknown key `{key}`");
            let nearest = known
                .iter()
                .map(|known| (strsim::jaro_winkler(key, known), known))
                .filter(|(likeness, _)| *likeness > 0.7)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let remedy = match nearest {
                Some((_, nearest)) => format!("did you mean `{nearest}`? known here: {}", known.join(", ")),
                None => format!("known here: {}", known.join(", ")),
            };
            (reason, remedy)
        }
        _ => (reworded(message.trim()), "correct the value; docs/settings.md lists every setting".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(default)]
        #[allow(dead_code, reason = "only its name matters here")]
        memory: u32,
        #[serde(default)]
        #[allow(dead_code, reason = "only its name matters here")]
        deadline: u32,
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest() {
        let error = parse::<Sample>("deadline = 1\n\nmemmory = 2\n").unwrap_err();
        assert_eq!(error.line, Some(3));
        assert_eq!(error.reason, "unknown key `memmory`");
        assert!(error.remedy.starts_with("did you mean `memory`?"), "{}", error.remedy);
    }

    #[test]
    fn text_that_is_no_toml_shows_its_line() {
        let error = parse::<Sample>("memory = 1\n= nonsense").unwrap_err();
        assert_eq!(error.line, Some(2));
    }
}
