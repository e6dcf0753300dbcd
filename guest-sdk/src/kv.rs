//! What a service keeps beyond its instances: buckets of keys, by `wasi:keyvalue`. Needs the feature `kv`, and `[grants] keyvalue`.
//!
//! ```
//! use hotbay_sdk::kv::{Bucket, Error};
//!
//! fn visit(page: &str) -> Result<i64, Error> {
//!     let visits = Bucket::open("default")?;
//!     visits.increment(page, 1)
//! }
//!
//! // Natively a bucket is in memory, for tests.
//! assert_eq!(visit("/home"), Ok(1));
//! assert_eq!(visit("/home"), Ok(2));
//! ```
//!
//! What [`Bucket::set`] and its like have returned is on the host's disk. Natively each thread, and so each test, has buckets of its
//! own, in memory and empty at first, with the same bounds of keys, values, calls and quota; any name opens one. [`fail_for_tests`] and
//! [`quota_for_tests`] show what a service does where the store fails, and where it is full.

#[cfg(not(target_family = "wasm"))]
mod memory;

#[cfg(target_family = "wasm")]
use crate::wasi::keyvalue as backend;
#[cfg(not(target_family = "wasm"))]
use memory as backend;

use std::fmt;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// `[grants] keyvalue` names other buckets and not this one.
    NoSuchStore,
    /// `[grants] keyvalue` names none.
    AccessDenied,
    /// A limit, or the store cannot be used; the words say which.
    Other(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchStore => f.write_str("there is no bucket of this name: [grants] keyvalue names others"),
            Self::AccessDenied => f.write_str("the bucket is not granted: [grants] keyvalue names none"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for Error {}

/// Natively: from here on every call of this thread, and so of this test, fails with this error; with none it works again.
#[cfg(not(target_family = "wasm"))]
pub fn fail_for_tests(error: Option<Error>) {
    backend::fail(error);
}

/// What a key becomes, from what it is; none where it stays.
pub(crate) type Change<'a> = dyn FnMut(Option<Vec<u8>>) -> Option<Vec<u8>> + 'a;

/// Natively: from here on the buckets of this thread, and so of this test, take so many bytes together, each key counted with its value
/// and 64 bytes. At first it is 64 MiB, as `keyvalue.size` of a host.
#[cfg(not(target_family = "wasm"))]
pub fn quota_for_tests(bytes: u64) {
    backend::quota(bytes);
}

/// Keys, each with its value; none where there is none.
pub type Values = Vec<(String, Option<Vec<u8>>)>;

/// An open bucket: keys of up to 1 KiB, each with a value of up to 1 MiB.
pub struct Bucket(backend::Bucket);

impl Bucket {
    /// Opens a bucket that the settings grant.
    ///
    /// # Errors
    /// It is not granted.
    pub fn open(name: &str) -> Result<Self, Error> {
        backend::Bucket::open(name).map(Self)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The key is too long, or the store cannot be used.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key)
    }

    /// Gives a key this value, whatever it had before.
    ///
    /// # Errors
    /// Key or value are too long, the service has used up its quota, or the store cannot be used.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.0.set(key, value.as_ref())
    }

    /// Takes a key out, if it is there.
    ///
    /// # Errors
    /// The key is too long, or the store cannot be used.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.0.delete(key)
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// The key is too long, or the store cannot be used.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.0.exists(key)
    }

    /// All keys, fetched a page at a time. Those that come and go meanwhile may be among them or not.
    pub fn keys(&self) -> Keys<'_> {
        Keys { bucket: self, page: Vec::new().into_iter(), next: Some(None) }
    }

    /// Adds to the number that a key holds as decimal text, 0 where there is none, and returns the sum. No other change comes
    /// between.
    ///
    /// # Errors
    /// The value is no number, the sum is more than 64 bits hold, or as for [`Self::set`].
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        self.0.increment(key, delta)
    }

    /// Gives a key the value that `change` makes of the one that it has, and returns it; where `change` makes none, the key stays as it
    /// is. Where somebody else changes the key meanwhile, `change` is asked again with what it is then.
    ///
    /// # Errors
    /// As for [`Self::set`].
    pub fn update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, Error> {
        self.0.update(key, &mut change)
    }

    /// The values of these keys, in their order and of one moment.
    ///
    /// # Errors
    /// More than 1000 keys, more than 8 MiB, or as for [`Self::get`].
    pub fn get_many(&self, keys: &[String]) -> Result<Values, Error> {
        self.0.get_many(keys)
    }

    /// Gives all of these keys their values, or none of them.
    ///
    /// # Errors
    /// More than 1000 keys, more than 8 MiB, or as for [`Self::set`].
    pub fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Error> {
        self.0.set_many(entries)
    }

    /// Takes all of these keys out, or none of them.
    ///
    /// # Errors
    /// More than 1000 keys, or as for [`Self::delete`].
    pub fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        self.0.delete_many(keys)
    }

    /// The value of a key, read as JSON.
    ///
    /// # Errors
    /// It is no JSON of this type, or as for [`Self::get`].
    #[cfg(feature = "json")]
    pub fn get_json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let value = self.get(key)?;
        value.map(|value| serde_json::from_slice(&value)).transpose().map_err(|error| Error::Other(error.to_string()))
    }

    /// Gives a key this value, written as JSON.
    ///
    /// # Errors
    /// It cannot be written as JSON, or as for [`Self::set`].
    #[cfg(feature = "json")]
    pub fn set_json<T: serde::Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error> {
        self.set(key, serde_json::to_vec(value).map_err(|error| Error::Other(error.to_string()))?)
    }
}

/// The keys of a bucket.
pub struct Keys<'a> {
    bucket: &'a Bucket,
    page: std::vec::IntoIter<String>,
    /// The cursor of the next page; none after the last.
    next: Option<Option<String>>,
}

impl Iterator for Keys<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.next() {
                return Some(Ok(key));
            }
            match self.bucket.0.page(self.next.take()?) {
                Ok((keys, cursor)) => {
                    self.page = keys.into_iter();
                    self.next = cursor.map(Some);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_keeps_what_it_is_given() {
        let bucket = Bucket::open("default").unwrap();
        bucket.set("a", "1").unwrap();
        bucket.set_many(&[("b".to_owned(), b"2".to_vec()), ("c".to_owned(), b"3".to_vec())]).unwrap();
        assert_eq!(Bucket::open("default").unwrap().get("a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(bucket.keys().collect::<Result<Vec<_>, _>>().unwrap(), ["a", "b", "c"]);
        bucket.delete_many(&["a".to_owned(), "none".to_owned()]).unwrap();
        assert!(!bucket.exists("a").unwrap() && Bucket::open("other").unwrap().keys().next().is_none());
        let many = bucket.get_many(&["c".to_owned(), "a".to_owned()]).unwrap();
        assert_eq!(many, [("c".to_owned(), Some(b"3".to_vec())), ("a".to_owned(), None)]);
    }

    #[test]
    fn bounds_are_those_of_the_host_and_failures_can_be_had() {
        let bucket = Bucket::open("default").unwrap();
        assert!(matches!(bucket.set(&"k".repeat(1025), "x"), Err(Error::Other(words)) if words.contains("1024")));
        let entries = [("a".to_owned(), Vec::new()), ("b".to_owned(), vec![0; (1 << 20) + 1])];
        assert!(matches!(bucket.set_many(&entries), Err(Error::Other(words)) if words.contains("1048576")));
        assert_eq!(bucket.get("a"), Ok(None), "all or none");
        assert!(matches!(bucket.get_many(&vec![String::new(); 1001]), Err(Error::Other(words)) if words.contains("1000")));
        let gone = Error::Other("gone".to_owned());
        fail_for_tests(Some(gone.clone()));
        assert_eq!((bucket.get("a"), bucket.increment("n", 1)), (Err(gone.clone()), Err(gone)));
        fail_for_tests(None);
        assert_eq!(bucket.increment("n", 1), Ok(1));
    }

    #[test]
    fn calls_deletions_and_the_quota_are_bounded_as_by_the_host() {
        let bucket = Bucket::open("default").unwrap();
        let refused =
            |outcome: Result<(), Error>, word: &str| matches!(outcome, Err(Error::Other(words)) if words.contains(word));
        let numbered = |count: u8| (0..count).map(|key| (key.to_string(), vec![0; 1 << 20])).collect::<Vec<_>>();
        assert!(refused(bucket.set_many(&numbered(8)), "8388608 bytes"), "with their keys they are more than 8 MiB");
        bucket.set_many(&numbered(7)).unwrap();
        bucket.set("7", vec![0; 1 << 20]).unwrap();
        let keys: Vec<_> = numbered(8).into_iter().map(|(key, _)| key).collect();
        assert!(refused(bucket.get_many(&keys).map(drop), "8388608 bytes"));
        let long = "k".repeat(1025);
        assert!(refused(bucket.delete(&long), "1024") && refused(bucket.delete_many(&[long]), "1024"));
        bucket.delete_many(&keys).unwrap();

        quota_for_tests(200);
        bucket.set("a", "1").unwrap();
        Bucket::open("other").unwrap().set("b", "2").unwrap();
        assert!(refused(bucket.set("c", vec![0; 100]), "would use 297 bytes, and 200 are the most (keyvalue.size)"));
        quota_for_tests(100);
        assert!(refused(bucket.set("a", "12"), "(keyvalue.size)"));
        bucket.set("a", "").unwrap();
        bucket.delete("a").unwrap();
        assert_eq!(
            bucket.increment("n", 1),
            Err(Error::Other(
                "the service would use 132 bytes, and 100 are the most (keyvalue.size); delete keys first".to_owned(),
            ))
        );
    }

    #[test]
    fn a_number_is_written_in_one_way() {
        let bucket = Bucket::open("default").unwrap();
        for text in ["+5", "007", "-0", " 5", "5 ", "", "5.0"] {
            bucket.set("n", text).unwrap();
            assert!(matches!(bucket.increment("n", 1), Err(Error::Other(_))), "{text:?}");
        }
        bucket.set("n", "-9223372036854775808").unwrap();
        assert_eq!(bucket.increment("n", 1), Ok(i64::MIN + 1));
    }

    #[test]
    fn numbers_are_text_and_updates_see_what_is_there() {
        let bucket = Bucket::open("default").unwrap();
        assert_eq!(bucket.increment("n", -2), Ok(-2));
        assert_eq!(bucket.get("n").unwrap().as_deref(), Some(&b"-2"[..]));
        bucket.set("word", "x").unwrap();
        assert!(matches!(bucket.increment("word", 1), Err(Error::Other(_))));
        let twice = |old: Option<Vec<u8>>| old.map(|old| old.repeat(2));
        assert_eq!(bucket.update("word", twice), Ok(Some(b"xx".to_vec())));
        assert_eq!((bucket.update("none", twice), bucket.get("none")), (Ok(None), Ok(None)));
    }
}
