//! The names that `[grants]` gives to buckets, variables, settings and secrets.

use serde::Deserialize;
use std::{borrow::Borrow, fmt};

/// Bytes of a name of a bucket, a variable or a secret; of the key of a setting twice as many.
const NAME_MAX: usize = 64;
const KEY_MAX: usize = 2 * NAME_MAX;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $is:path, $rule:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(name: String) -> Result<Self, String> {
                if $is(&name) { Ok(Self(name)) } else { Err(format!("`{}` {}", name.escape_debug(), $rule)) }
            }
        }

        // So that sets and maps of names are asked by text, which only a guest may have.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A bucket of `wasi:keyvalue`.
    BucketName,
    is_plain,
    "is no name of a bucket: letters, digits, `-`, `_` and `.` are allowed, 64 at most, the first no `.`"
);
name!(
    /// A secret, and the file that holds it.
    SecretName,
    is_plain,
    "is no name of a secret: letters, digits, `-`, `_` and `.` are allowed, 64 at most, the first no `.`"
);
name!(
    /// An environment variable.
    EnvName,
    is_variable,
    "is no name of an environment variable: letters, digits and `_` are allowed, 64 at most, the first no digit"
);
name!(
    /// The key of a setting that `wasi:config` tells.
    ConfigKey,
    is_key,
    "is no name of a setting: 1 to 128 bytes of any text without control characters are allowed"
);

/// Such a name can be a file's.
fn is_plain(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

fn is_variable(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=NAME_MAX).contains(&name.len()) && !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(allowed)
}

fn is_key(key: &str) -> bool {
    (1..=KEY_MAX).contains(&key.len()) && !key.chars().any(char::is_control)
}
