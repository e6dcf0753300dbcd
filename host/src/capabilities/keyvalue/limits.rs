//! The bounds of keys, values and calls. docs/state.md tells them to those who write services.

use super::failure::Failure;
use std::fmt::Display;

/// Bytes of a key.
const KEY_MAX: usize = 1 << 10;
/// Bytes of a value.
const VALUE_MAX: usize = 1 << 20;
/// Keys of one call of `batch`.
const BATCH_MAX: usize = 1000;
/// Bytes of the keys and values of one call.
pub(super) const CALL_MAX: usize = 8 << 20;
/// Keys that one page of `list-keys` holds.
pub(super) const PAGE_MAX: usize = 1000;
/// Calls of one revision that read or write at once; more wait. With those that are written together they bound what the host holds
/// of values.
pub(super) const CALLS_MAX: usize = 8;
/// Reads of the database at once, of all services. Each holds up to `CALL_MAX` bytes, and a thread beside those that serve.
pub(super) const READS_MAX: usize = 4;
/// What a key counts against the quota beside its own bytes and those of its value, so that empty ones cost something too.
pub(super) const ENTRY_COST: u64 = 64;

/// Whether a key can be kept.
pub(super) fn key(key: &str) -> Result<(), Failure> {
    match key.len() {
        len if len > KEY_MAX => Err(Failure::limit(format!("the key has {len} bytes, and {KEY_MAX} are the most"))),
        _ => Ok(()),
    }
}

/// Whether a value can be kept.
pub(super) fn value(key: &str, value: &[u8]) -> Result<(), Failure> {
    match value.len() {
        len if len > VALUE_MAX => {
            let key = shown(key);
            Err(Failure::limit(format!("the value of `{key}` has {len} bytes, and {VALUE_MAX} are the most")))
        }
        _ => Ok(()),
    }
}

/// Whether so many keys can be asked for or changed at once.
pub(super) fn batch(keys: usize) -> Result<(), Failure> {
    if keys > BATCH_MAX {
        return Err(Failure::limit(format!("the batch has {keys} keys, and {BATCH_MAX} are the most")));
    }
    Ok(())
}

/// Whether one call may carry so many bytes.
pub(super) fn call(bytes: usize) -> Result<(), Failure> {
    if bytes > CALL_MAX {
        return Err(Failure::limit(format!("the keys and values of the call have more than {CALL_MAX} bytes; ask for fewer")));
    }
    Ok(())
}

/// A handle would keep so many bytes, and there is no room for them in the memory of the instance.
pub(super) fn handle(bytes: usize) -> Failure {
    Failure::limit(format!(
        "a handle of compare-and-swap keeps the value, {bytes} bytes with its key, and the instance has no room for them \
         (limits.memory); drop other handles first"
    ))
}

/// The service would use so many bytes.
pub(super) fn quota(now: u64, quota: u64) -> Failure {
    Failure::limit(format!("the service would use {now} bytes, and {quota} are the most (keyvalue.size); delete keys first"))
}

/// The number that a value is. There is one way to write it: neither `+5` nor `007`, which Redis takes for none either.
pub(super) fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

/// The value of this key cannot be added to.
pub(super) fn no_number(key: &str) -> Failure {
    Failure::limit(format!("the value of `{}` is no whole number and cannot be added to", shown(key)))
}

/// A sum is out of range.
pub(super) fn overflow(number: i64, delta: i64) -> Failure {
    Failure::limit(format!("{number} and {delta} together are more than 64 bits hold"))
}

/// A key as words may hold it: short, and on one line.
fn shown(key: &str) -> impl Display {
    key.chars().take(80).flat_map(char::escape_debug).collect::<String>()
}
