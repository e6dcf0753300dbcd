//! What services keep, in a Redis that several hosts may share. A change is a script, which Redis runs wholly and alone.

mod link;

use self::link::Link;
use super::{
    change::{Change, Changed},
    failure::Failure,
    limits::{self, CALL_MAX, ENTRY_COST, PAGE_MAX},
    store::{Page, Values},
};
use crate::{
    capabilities::{Network, SecretFolder},
    config::{KeyValueConfig, RedisAddress},
};
use redis::{FromRedisValue, Script, ScriptInvocation, Value, from_redis_value};
use std::{
    str::FromStr,
    sync::{Arc, LazyLock},
};

static CHANGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("change.lua")));
static GET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("get.lua")));

/// Keys with their values in a Redis.
pub(super) struct Redis {
    link: Arc<Link>,
    quota: u64,
}

impl Redis {
    /// Connects at the first use.
    pub(super) fn new(address: RedisAddress, config: &KeyValueConfig, network: &Network, secrets: SecretFolder) -> Self {
        Self { link: Link::new(address, config, network, secrets), quota: config.size.0 }
    }

    /// Where it is.
    pub(super) fn address(&self) -> &RedisAddress {
        self.link.address()
    }

    /// Lets go of the connection. A later use makes another.
    pub(super) fn close(&self) {
        self.link.close();
    }

    /// The values of these keys, in their order and of one moment.
    pub(super) async fn get(&self, service: &str, bucket: &str, keys: Vec<String>) -> Result<Values, Failure> {
        if keys.is_empty() {
            return Ok(Values::new());
        }
        let mut asked = GET.key(values_of(service, bucket));
        asked.arg(CALL_MAX).arg(&keys);
        let answer = match self.invoke(asked).await? {
            Value::Int(bytes) => {
                return Err(limits::call(usize::try_from(bytes).unwrap_or(usize::MAX)).err().unwrap_or(Failure::Unusable));
            }
            answer => answer,
        };
        let values: Vec<Option<Vec<u8>>> = from_redis_value(answer).map_err(|_| self.odd())?;
        if values.len() != keys.len() {
            return Err(self.odd());
        }
        Ok(keys.into_iter().zip(values).collect())
    }

    /// The keys of a bucket that come after `after`, in the order of their bytes.
    pub(super) async fn page(&self, service: &str, bucket: &str, after: Option<&str>) -> Result<Page, Failure> {
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let mut command = redis::cmd("ZRANGEBYLEX");
        // One more than a page says whether there is a next one.
        command.arg(names_of(service, bucket)).arg(from).arg("+").arg("LIMIT").arg(0).arg(PAGE_MAX + 1);
        let mut keys: Vec<String> =
            self.link.ask(|mut connection| async move { command.query_async(&mut connection).await }).await?;
        if keys.len() <= PAGE_MAX {
            return Ok((keys, None));
        }
        keys.truncate(PAGE_MAX);
        let cursor = keys.last().cloned();
        Ok((keys, cursor))
    }

    /// Does a change, and returns once Redis has acknowledged it.
    pub(super) async fn change(&self, service: &str, bucket: &str, change: &Change) -> Result<Changed, Failure> {
        let mut asked = CHANGE.key(format!("hotbay:{{{service}}}:used"));
        asked.key(values_of(service, bucket)).key(names_of(service, bucket)).arg(self.quota).arg(ENTRY_COST);
        match change {
            Change::Put(entries) => {
                asked.arg("put");
                for (key, value) in entries {
                    given(asked.arg(key), value.as_deref());
                }
            }
            Change::Add(key, delta) => {
                asked.arg("add").arg(key).arg(*delta);
            }
            Change::Swap { key, expected, value } => {
                given(asked.arg("swap").arg(key), expected.as_deref());
                asked.arg(value);
            }
        }
        let answer: Vec<Vec<u8>> = self.invoke(asked).await?;
        let mut answer = answer.into_iter();
        let (word, beside) = (answer.next().unwrap_or_default(), answer.next());
        let odd = || self.odd();
        match (word.as_slice(), change) {
            (b"done", _) => Ok(Changed::Done),
            (b"differs", _) => Ok(Changed::Differs(beside)),
            (b"sum", _) => number(beside).map(Changed::Sum).ok_or_else(odd),
            (b"full", _) => Err(limits::quota(number(beside).ok_or_else(odd)?, self.quota)),
            (b"no-number", Change::Add(key, _)) => Err(limits::no_number(key)),
            (b"overflow", Change::Add(_, delta)) => Err(limits::overflow(number(beside).ok_or_else(odd)?, *delta)),
            _ => Err(odd()),
        }
    }

    async fn invoke<T: FromRedisValue + Send + 'static>(&self, asked: ScriptInvocation<'static>) -> Result<T, Failure> {
        self.link.ask(|mut connection| async move { asked.invoke_async(&mut connection).await }).await
    }

    /// Somebody else writes our keys, or what answers is no Redis.
    fn odd(&self) -> Failure {
        self.link.tell("it answers what it should not", "let nobody else write the keys that begin with `hotbay:`");
        Failure::Unusable
    }
}

/// What is in braces says to a cluster that all keys of one service belong together.
fn values_of(service: &str, bucket: &str) -> String {
    format!("hotbay:{{{service}}}:values:{bucket}")
}

fn names_of(service: &str, bucket: &str) -> String {
    format!("hotbay:{{{service}}}:names:{bucket}")
}

/// A value that may be none, as two arguments.
fn given(asked: &mut ScriptInvocation<'_>, value: Option<&[u8]>) {
    asked.arg(if value.is_some() { 1 } else { 0 }).arg(value.unwrap_or_default());
}

fn number<T: FromStr>(text: Option<Vec<u8>>) -> Option<T> {
    String::from_utf8(text?).ok()?.parse().ok()
}
