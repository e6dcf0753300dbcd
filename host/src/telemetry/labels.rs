//! The values of labels: every reason, result and limit that is counted by itself.

/// Why a request reached no revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrouted {
    /// 404.
    NoRoute,
    /// 405.
    Method,
    /// 503: the bay has not been read to its end.
    Starting,
    /// 503: the service has no good revision.
    NoRevision,
    /// 400.
    BadRequest,
    /// 431.
    HeaderSize,
}

impl Unrouted {
    pub(super) const ALL: [Self; 6] =
        [Self::NoRoute, Self::Method, Self::Starting, Self::NoRevision, Self::BadRequest, Self::HeaderSize];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::Method => "method",
            Self::Starting => "starting",
            Self::NoRevision => "no_revision",
            Self::BadRequest => "bad_request",
            Self::HeaderSize => "header_size",
        }
    }
}

/// The limit that refused a request, by the name of its setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `limits.queue`.
    Queue,
    /// `limits.queue_wait`.
    QueueWait,
    /// `limits.request_body`.
    RequestBody,
    /// `pool.instances`: the instances of all services.
    Pool,
    /// `budgets.memory`: the memory of all guests.
    Memory,
    /// `budgets.requests`: the requests of all services.
    Requests,
}

impl Limit {
    pub(super) const ALL: [Self; 6] = [Self::Queue, Self::QueueWait, Self::RequestBody, Self::Pool, Self::Memory, Self::Requests];

    /// The value of the label `limit`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::QueueWait => "queue_wait",
            Self::RequestBody => "request_body",
            Self::Pool => "pool_instances",
            Self::Memory => "budget_memory",
            Self::Requests => "budget_requests",
        }
    }

    /// The key in the settings.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Queue => "limits.queue",
            Self::QueueWait => "limits.queue_wait",
            Self::RequestBody => "limits.request_body",
            Self::Pool => "pool.instances",
            Self::Memory => "budgets.memory",
            Self::Requests => "budgets.requests",
        }
    }
}

/// How a request of a guest to another host ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboundResult {
    /// It was answered, and the answer was read to its end or let go.
    Answered,
    /// There was no connection, or it broke, or what came was no answer.
    Failed,
    /// Something took too long.
    Timeout,
    /// A bound of `[outbound]`.
    Limit,
    /// Its guest ended, or dropped it, before there was an answer.
    Abandoned,
}

impl OutboundResult {
    pub(super) const ALL: [Self; 5] = [Self::Answered, Self::Failed, Self::Timeout, Self::Limit, Self::Abandoned];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::Abandoned => "abandoned",
        }
    }
}

/// How a call of a guest that reads or writes keys ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyValueResult {
    /// It was done.
    Done,
    /// A limit, or what is there does not fit.
    Refused,
    /// The store could not be used.
    Failed,
}

impl KeyValueResult {
    pub(super) const ALL: [Self; 3] = [Self::Done, Self::Refused, Self::Failed];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What became of a time of a `[[cron]]` entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CronResult {
    /// The guest answered with a status below 400.
    Succeeded,
    /// It answered with one of 400 or more.
    Failed,
    /// The host saw the guest fail.
    Fault,
    /// A limit refused it, or the drain deadline of its revision ended it.
    Refused,
    /// It did not run: the last run had not ended, or the time was over.
    Missed,
}

impl CronResult {
    pub(super) const ALL: [Self; 5] = [Self::Succeeded, Self::Failed, Self::Fault, Self::Refused, Self::Missed];

    /// The value of the label `result`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Fault => "fault",
            Self::Refused => "refused",
            Self::Missed => "missed",
        }
    }
}

/// Why an instance that was kept made room for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// `instances.max_requests`.
    Requests,
    /// `instances.max_age`.
    Age,
    /// It held much more memory than after its first request.
    Memory,
    /// It gathered handles.
    Handles,
}

impl Renewal {
    pub(super) const ALL: [Self; 4] = [Self::Requests, Self::Age, Self::Memory, Self::Handles];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "max_requests",
            Self::Age => "max_age",
            Self::Memory => "memory",
            Self::Handles => "handles",
        }
    }
}

/// How a swap ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// New requests run on it.
    Published,
    /// It will not serve.
    Rejected,
    /// It served, and failed too often.
    RolledBack,
}

impl Outcome {
    pub(super) const ALL: [Self; 3] = [Self::Published, Self::Rejected, Self::RolledBack];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Rejected => "rejected",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// What a guest can be denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// `grants.http`.
    Http,
    /// `grants.calls`.
    Calls,
    /// `grants.keyvalue`.
    KeyValue,
    /// `grants.tcp`.
    Tcp,
}

impl Capability {
    pub(super) const ALL: [Self; 4] = [Self::Http, Self::Calls, Self::KeyValue, Self::Tcp];

    /// The value of the label `capability`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Calls => "calls",
            Self::KeyValue => "keyvalue",
            Self::Tcp => "tcp",
        }
    }
}

/// How a call of a function of another service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallResult {
    /// It returned.
    Answered,
    /// It did not.
    Failed,
    /// It was not begun: a limit, a circle, nobody who exports it.
    Refused,
    /// Its caller ended before it did.
    Abandoned,
}

impl CallResult {
    pub(super) const ALL: [Self; 4] = [Self::Answered, Self::Failed, Self::Refused, Self::Abandoned];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
        }
    }
}
