//! A service's settings: what `NAME.toml` may say and what holds where it says nothing.

use super::{
    ByteSize, Count, CronEntry, Grants, HostPattern, Methods, PathPattern, Probe, RouteSpec, ServiceName, SettingsError, Share,
    Span, Traffic, cron, document, units::not_zero,
};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// The validated settings of one service. See docs/settings.md for each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it answers; never empty.
    pub routes: Vec<RouteSpec>,
    /// What it may use.
    pub limits: Limits,
    /// How its instances live.
    pub instances: InstancePolicy,
    /// What it may reach outside itself.
    pub grants: Grants,
    /// When the host goes back to the revision before.
    pub rollback: RollbackPolicy,
    /// What it is asked before it is published.
    pub probe: Option<Probe>,
    /// What the host asks of it by the clock.
    pub crons: Arc<[CronEntry]>,
    /// Which share goes to its labelled revisions. No part of a revision: see [`Self::same_revision`].
    pub traffic: Traffic,
}

/// `[limits]`: each one is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// All linear memories and tables of one instance together.
    #[serde(deserialize_with = "not_zero")]
    pub memory: ByteSize,
    /// Wall clock from admission until the response head.
    #[serde(deserialize_with = "not_zero")]
    pub deadline: Span,
    /// Time the guest computes for one request.
    #[serde(deserialize_with = "not_zero")]
    pub cpu: Span,
    /// Longest silence of a body, in either direction, once the response has begun.
    #[serde(deserialize_with = "not_zero")]
    pub stream_idle: Span,
    /// Requests that run at once.
    pub concurrency: Count,
    /// Requests that wait for their turn at most.
    pub queue: u32,
    /// Longest wait for a turn.
    pub queue_wait: Span,
    /// Bytes of one request body.
    pub request_body: ByteSize,
    /// Bytes of one response body.
    #[serde(deserialize_with = "not_zero")]
    pub response_body: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(64),
            deadline: Span(Duration::from_secs(10)),
            cpu: Span(Duration::from_secs(2)),
            stream_idle: Span(Duration::from_secs(30)),
            concurrency: Count(64),
            queue: 128,
            queue_wait: Span(Duration::from_secs(1)),
            request_body: ByteSize::mib(8),
            response_body: ByteSize::mib(64),
        }
    }
}

/// `[instances]`: what happens to an instance after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstancePolicy {
    /// A new instance for each request: nothing of one request is there for the next.
    Fresh,
    /// An instance serves one request after another.
    Reuse(Reuse),
}

/// When an instance that is kept ends, at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// After so many requests.
    pub max_requests: u32,
    /// So long after it began, once its request is over.
    pub max_age: Duration,
    /// After so long without a request.
    pub idle: Duration,
}

/// `[rollback]`: when a revision that was just published fails so often that the host goes back to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackPolicy {
    /// Share of the requests that ended in a fault which the host saw: a trap, a limit, a broken protocol.
    pub faults: Share,
    /// Requests that there must have been.
    pub min_requests: Count,
    /// How long after a publication the revision is watched; zero: not at all.
    pub window: Span,
}

impl Default for RollbackPolicy {
    fn default() -> Self {
        Self { faults: Share::percent(50), min_requests: Count(20), window: Span(Duration::from_secs(30)) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default, rename = "route")]
    routes: Vec<RouteSpec>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    instances: RawInstances,
    #[serde(default)]
    grants: Grants,
    #[serde(default)]
    rollback: RollbackPolicy,
    probe: Option<Probe>,
    #[serde(default, rename = "cron", deserialize_with = "cron::entries")]
    crons: Arc<[CronEntry]>,
    #[serde(default)]
    traffic: Traffic,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawInstances {
    policy: RawPolicy,
    max_requests: Count,
    #[serde(deserialize_with = "not_zero")]
    max_age: Span,
    #[serde(deserialize_with = "not_zero")]
    idle: Span,
}

impl Default for RawInstances {
    fn default() -> Self {
        Self {
            policy: RawPolicy::Fresh,
            max_requests: Count(1000),
            max_age: Span(Duration::from_secs(3600)),
            idle: Span(Duration::from_secs(30)),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawPolicy {
    Fresh,
    Reuse,
}

impl Settings {
    /// What holds for service `name` without a settings file.
    pub fn defaults(name: &ServiceName) -> Self {
        Self {
            routes: default_routes(name),
            limits: Limits::default(),
            instances: InstancePolicy::Fresh,
            grants: Grants::default(),
            rollback: RollbackPolicy::default(),
            probe: None,
            crons: Arc::default(),
            traffic: Traffic::default(),
        }
    }

    /// Reads the text of `NAME.toml`.
    pub fn parse(name: &ServiceName, text: &str) -> Result<Self, SettingsError> {
        let raw: Raw = document::parse(text)?;
        let routes = if raw.routes.is_empty() { default_routes(name) } else { raw.routes };
        let RawInstances { policy, max_requests, max_age, idle } = raw.instances;
        let instances = match policy {
            RawPolicy::Fresh => InstancePolicy::Fresh,
            RawPolicy::Reuse => InstancePolicy::Reuse(Reuse { max_requests: max_requests.0, max_age: max_age.0, idle: idle.0 }),
        };
        let Raw { limits, grants, rollback, probe, crons, traffic, .. } = raw;
        Ok(Self { routes, limits, instances, grants, rollback, probe, crons, traffic })
    }

    /// Whether a revision under these settings is one under `other` too: everything but the traffic decides that, so that
    /// shares change without a new revision.
    pub fn same_revision(&self, other: &Self) -> bool {
        // Taken apart so that a new setting has to be thought of here.
        let Self { routes, limits, instances, grants, rollback, probe, crons, traffic: _ } = self;
        (routes, limits, instances, grants, rollback, probe, crons)
            == (&other.routes, &other.limits, &other.instances, &other.grants, &other.rollback, &other.probe, &other.crons)
    }
}

/// `/NAME`, `/NAME/…` without the prefix, and everything on `NAME.localhost`.
fn default_routes(name: &ServiceName) -> Vec<RouteSpec> {
    let prefix: Arc<str> = format!("/{name}").into();
    let localhost = HostPattern::Exact(format!("{name}.localhost"));
    let specs = [
        (HostPattern::Any, prefix.to_string(), Some(prefix.clone())),
        (HostPattern::Any, format!("{prefix}/"), Some(prefix.clone())),
        (HostPattern::Any, format!("{prefix}/{{*rest}}"), Some(prefix)),
        (localhost.clone(), "/".to_owned(), None),
        (localhost, "/{*rest}".to_owned(), None),
    ];
    let route = |(host, path, strip)| {
        // A service name holds nothing that a pattern could trip over, so none of the five is lost here.
        let path = PathPattern::try_from(path).ok()?;
        Some(RouteSpec { host, path, methods: Methods::ALL, strip })
    };
    specs.into_iter().filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ServiceName {
        ServiceName::parse("orders").unwrap()
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(Settings::parse(&name(), "").unwrap(), Settings::defaults(&name()));
        assert_eq!(Settings::defaults(&name()).routes.len(), 5);
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            [[route]]
            host = "api.example.com"
            path = "/orders/{*rest}"
            methods = ["GET", "POST"]
            strip = "/orders"
            [limits]
            memory = "1MiB"
            deadline = "1s"
            cpu = "1s"
            stream_idle = "1s"
            concurrency = 1
            queue = 0
            queue_wait = "1s"
            request_body = "1KiB"
            response_body = "1KiB"
            [instances]
            policy = "reuse"
            max_requests = 7
            max_age = "1min"
            idle = "1s"
            [grants]
            http = ["https://api.example.com"]
            keyvalue = ["default"]
            env = { LOG_LEVEL = "info" }
            config = { page_size = "20" }
            secrets = ["db_password"]
            [probe]
            path = "/ready"
            expect = 204
            timeout = "1s"
            [[cron]]
            schedule = "30 4 * * MON"
            path = "/tick?deep=1"
            timezone = "Europe/Berlin"
            method = "GET"
            [traffic]
            beta = 10
        "#;
        let settings = Settings::parse(&name(), text).unwrap();
        let second = Span(Duration::from_secs(1));
        let expected = Limits {
            memory: ByteSize::mib(1),
            deadline: second,
            cpu: second,
            stream_idle: second,
            concurrency: Count(1),
            queue: 0,
            queue_wait: second,
            request_body: ByteSize(1024),
            response_body: ByteSize(1024),
        };
        assert_eq!(settings.limits, expected);
        assert_eq!(settings.instances, InstancePolicy::Reuse(Reuse { max_requests: 7, max_age: 60 * second.0, idle: second.0 }));
        let grants =
            ["http https://api.example.com", "keyvalue default", "env LOG_LEVEL", "config page_size", "secret db_password"];
        assert_eq!(settings.grants.listed(), grants);
        assert_eq!(settings.probe.unwrap().expect().as_u16(), 204);
        assert_eq!(settings.crons[0].to_string(), "GET /tick?deep=1 at 30 4 * * MON (Europe/Berlin)");
        assert_eq!(settings.routes.len(), 1);
    }

    #[test]
    fn traffic_makes_no_new_revision() {
        let settings = |text| Settings::parse(&name(), text).unwrap();
        let (plain, split) = (settings(""), settings("[traffic]\nbeta = 10"));
        assert!(plain != split && plain.same_revision(&split));
        for other in [
            "[limits]\nqueue = 1",
            "[instances]\npolicy = 'reuse'",
            "[[route]]\npath = '/'",
            "[probe]\npath = '/'",
            "[[cron]]\nschedule = '@daily'\npath = '/'",
            "[grants]\nhttp = ['http://a.b']",
            "[grants]\nkeyvalue = ['default']",
            "[grants]\nenv = { A = '' }",
            "[grants]\nconfig = { a = '' }",
            "[grants]\nsecrets = ['a']",
        ] {
            assert!(!plain.same_revision(&settings(other)), "{other}");
        }
    }

    #[test]
    fn a_wrong_value_shows_its_line() {
        let error = Settings::parse(&name(), "[limits]\ndeadline = \"soon\"\n").unwrap_err();
        assert_eq!(error.line, Some(2));
        assert!(error.reason.contains("`soon` is not a duration"), "{}", error.reason);
        assert!(Settings::parse(&name(), "[limits]\nconcurrency = 0\n").is_err());
    }
}
