//! What services keep, in a Redis that several hosts may share. A change is a script, which Redis runs wholly and alone.

mod heard;
mod link;
mod unreached;

use self::link::Link;
use super::{
    change::{Change, Changed},
    failure::Failure,
    limits::{self, CALL_MAX, ENTRY_COST, PAGE_MAX},
    report::Use,
    store::{Page, Values},
    turns::Turns,
};
use crate::{
    capabilities::{Network, SecretFolder},
    config::{KeyValueConfig, RedisAddress},
};
use redis::{Cmd, FromRedisValue, Script, ScriptInvocation, Value, from_redis_value};
use std::{
    str::FromStr,
    sync::{Arc, LazyLock},
};

static CHANGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("change.lua")));
static GET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("get.lua")));

/// Bytes of keys and values that a call may ask with, or be answered with, to be one of the small ones.
const SMALL: usize = 64 << 10;
/// Calls of all services at once, small ones and others, each on a connection for them all. With the bytes of each they bound what the
/// host holds on its way to Redis and back.
const SMALL_AT_ONCE: usize = 256;
const LARGE_AT_ONCE: usize = 4;

/// Keys with their values in a Redis.
pub(super) struct Redis {
    small: Lane,
    /// What is large has a connection for itself: nobody with little to ask waits behind it.
    large: Lane,
    quota: u64,
}

/// A connection, and who may ask by it.
struct Lane {
    link: Arc<Link>,
    turns: Turns,
}

impl Redis {
    /// Connects at the first use.
    pub(super) fn new(address: RedisAddress, config: &KeyValueConfig, network: &Network, secrets: SecretFolder) -> Self {
        let lane = |is_large, at_once| Lane {
            link: Link::new(is_large, address.clone(), config, network, secrets.clone()),
            turns: Turns::new(at_once),
        };
        Self { small: lane(false, SMALL_AT_ONCE), large: lane(true, LARGE_AT_ONCE), quota: config.size.0 }
    }

    /// Where it is.
    pub(super) fn address(&self) -> &RedisAddress {
        self.small.link.address()
    }

    /// Lets go of the connections. A later use makes others.
    pub(super) fn close(&self) {
        self.small.link.close();
        self.large.link.close();
    }

    /// The values of these keys, in their order and of one moment.
    pub(super) async fn get(&self, service: &Arc<str>, bucket: &str, keys: Vec<String>) -> Result<Values, Failure> {
        if keys.is_empty() {
            return Ok(Values::new());
        }
        let asked = |bytes: usize| {
            let mut asked = GET.key(values_of(service, bucket));
            asked.arg(bytes).arg(&keys);
            asked
        };
        let mut answer = Value::Int(0);
        if keys.iter().map(String::len).sum::<usize>() <= SMALL {
            answer = self.small.invoke(service, Use::Reading, asked(SMALL)).await?;
        }
        // Instead of the values it is how many bytes they are. Those that no call may have are not asked for again.
        if let Value::Int(bytes) = answer {
            limits::call(usize::try_from(bytes).unwrap_or(usize::MAX))?;
            answer = self.large.invoke(service, Use::Reading, asked(CALL_MAX)).await?;
        }
        if let Value::Int(bytes) = answer {
            return Err(limits::call(usize::try_from(bytes).unwrap_or(usize::MAX)).err().unwrap_or(Failure::Unusable));
        }
        let values: Vec<Option<Vec<u8>>> = from_redis_value(answer).map_err(|_| self.odd(Use::Reading))?;
        if values.len() != keys.len() {
            return Err(self.odd(Use::Reading));
        }
        Ok(keys.into_iter().zip(values).collect())
    }

    /// Whether there is such a key.
    pub(super) async fn exists(&self, service: &Arc<str>, bucket: &str, key: &str) -> Result<bool, Failure> {
        let mut command = redis::cmd("HEXISTS");
        command.arg(values_of(service, bucket)).arg(key);
        self.small.query(service, command).await
    }

    /// The keys of a bucket that come after `after`, in the order of their bytes.
    pub(super) async fn page(&self, service: &Arc<str>, bucket: &str, after: Option<&str>) -> Result<Page, Failure> {
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let mut command = redis::cmd("ZRANGEBYLEX");
        // One more than a page says whether there is a next one.
        command.arg(names_of(service, bucket)).arg(from).arg("+").arg("LIMIT").arg(0).arg(PAGE_MAX + 1);
        let mut keys: Vec<String> = self.large.query(service, command).await?;
        if keys.len() <= PAGE_MAX {
            return Ok((keys, None));
        }
        keys.truncate(PAGE_MAX);
        let cursor = keys.last().cloned();
        Ok((keys, cursor))
    }

    /// Does a change, and returns once Redis has acknowledged it.
    pub(super) async fn change(&self, service: &Arc<str>, bucket: &str, change: &Change) -> Result<Changed, Failure> {
        let (lane, most) = if change.bytes() <= SMALL { (&self.small, SMALL) } else { (&self.large, CALL_MAX) };
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
                asked.arg(value).arg(most);
            }
        }
        let answer: Vec<Vec<u8>> = lane.invoke(service, change.how(), asked).await?;
        let mut answer = answer.into_iter();
        let (word, beside) = (answer.next().unwrap_or_default(), answer.next());
        let odd = || self.odd(change.how());
        match (word.as_slice(), change) {
            (b"done", _) => Ok(Changed::Done),
            (b"differs", _) => Ok(Changed::Differs(beside)),
            (b"differs-much", Change::Swap { key, .. }) => {
                let mut found = self.get(service, bucket, vec![key.clone()]).await?;
                Ok(Changed::Differs(found.pop().and_then(|(_, value)| value)))
            }
            (b"sum", _) => number(beside).map(Changed::Sum).ok_or_else(odd),
            (b"full", _) => Err(limits::quota(number(beside).ok_or_else(odd)?, self.quota)),
            (b"no-number", Change::Add(key, _)) => Err(limits::no_number(key)),
            (b"overflow", Change::Add(_, delta)) => Err(limits::overflow(number(beside).ok_or_else(odd)?, *delta)),
            _ => Err(odd()),
        }
    }

    /// Somebody else writes our keys, or what answers is no Redis.
    fn odd(&self, how: Use) -> Failure {
        let remedy = "let nobody else write the keys that begin with `hotbay:`";
        self.small.link.tell(how.trouble(), "it answers what it should not", remedy);
        Failure::Unusable
    }
}

impl Lane {
    async fn invoke<T: FromRedisValue + Send + 'static>(
        &self,
        service: &Arc<str>,
        how: Use,
        asked: ScriptInvocation<'static>,
    ) -> Result<T, Failure> {
        let turn = self.turns.take(service).await;
        self.link.ask(how, turn, |mut connection| async move { asked.invoke_async(&mut connection).await }).await
    }

    async fn query<T: FromRedisValue + Send + 'static>(&self, service: &Arc<str>, asked: Cmd) -> Result<T, Failure> {
        let turn = self.turns.take(service).await;
        self.link.ask(Use::Reading, turn, |mut connection| async move { asked.query_async(&mut connection).await }).await
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
