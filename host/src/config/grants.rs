//! `[grants]`: what a service may reach outside itself.

use super::{
    ServiceName,
    granted_name::{BucketName, ConfigKey, EnvName, SecretName},
    http_grant::HttpGrant,
    origin::Origin,
    tcp_grant::TcpGrant,
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

/// Everything that is granted; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Grants {
    http: Vec<HttpGrant>,
    keyvalue: BTreeSet<BucketName>,
    env: BTreeMap<EnvName, String>,
    config: BTreeMap<ConfigKey, String>,
    secrets: BTreeSet<SecretName>,
    calls: Vec<ServiceName>,
    tcp: Vec<TcpGrant>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    http: Vec<HttpGrant>,
    calls: Vec<ServiceName>,
    tcp: Vec<TcpGrant>,
    keyvalue: BTreeSet<BucketName>,
    env: BTreeMap<EnvName, String>,
    config: BTreeMap<ConfigKey, String>,
    secrets: BTreeSet<SecretName>,
}

impl TryFrom<Raw> for Grants {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let Raw { http, calls, tcp, keyvalue, env, config, secrets } = raw;
        if let Some((name, _)) = env.iter().find(|(_, value)| value.contains('\0')) {
            return Err(format!("the value of `env.{name}` holds a NUL, which an environment variable cannot"));
        }
        // A guest reads both by their names from one interface.
        if let Some(both) = secrets.iter().find(|secret| config.contains_key(secret.as_str())) {
            return Err(format!(
                "`{both}` is in `config` and in `secrets`, and a service reads both by that name; rename one of them"
            ));
        }
        Ok(Self { http, calls, tcp, keyvalue, env, config, secrets })
    }
}

impl Grants {
    /// Whether any outbound HTTP is granted.
    pub fn any_http(&self) -> bool {
        !self.http.is_empty()
    }

    /// Whether outbound HTTP to `origin` is granted. Of a name this says nothing of the addresses behind it.
    pub fn allow_http(&self, origin: &Origin) -> bool {
        self.http.iter().any(|grant| grant.covers(origin))
    }

    /// The services that it may call, by HTTP or by WIT, whether they are there or not; in the order in which they are listed.
    pub fn calls(&self) -> &[ServiceName] {
        &self.calls
    }

    /// Where TCP connections may go. Of a name this says nothing of the addresses behind it.
    pub fn tcp(&self) -> &[TcpGrant] {
        &self.tcp
    }

    /// The buckets that it may open.
    pub fn keyvalue(&self) -> &BTreeSet<BucketName> {
        &self.keyvalue
    }

    /// Its environment variables.
    pub fn env(&self) -> &BTreeMap<EnvName, String> {
        &self.env
    }

    /// What `wasi:config` tells it, without the secrets.
    pub fn config(&self) -> &BTreeMap<ConfigKey, String> {
        &self.config
    }

    /// The secrets that `wasi:config` tells it as well.
    pub fn secrets(&self) -> &BTreeSet<SecretName> {
        &self.secrets
    }

    /// The line of `[grants]` that allows outbound HTTP to `origin` beside what is granted; none where no line can.
    pub fn line_with_http(&self, origin: &Origin) -> Option<String> {
        let wanted = format!("{}://{}", if origin.tls { "https" } else { "http" }, origin.authority());
        HttpGrant::try_from(wanted).ok().map(|wanted| line("http", &self.http, wanted))
    }

    /// The line that allows calls of `service`.
    pub fn line_with_call(&self, service: ServiceName) -> String {
        line("calls", &self.calls, service)
    }

    /// The line that allows TCP connections to `destination`, of which only the host may be known.
    pub fn line_with_tcp(&self, destination: &str) -> String {
        line_with_tcp(&self.tcp, destination)
    }

    /// The line that allows the bucket `name`; none where no bucket has such a name.
    pub fn line_with_bucket(granted: &BTreeSet<BucketName>, name: &str) -> Option<String> {
        BucketName::try_from(name.to_owned()).ok().map(|name| line("keyvalue", granted, name))
    }

    /// The line that sets `key` beside what is set; none where no key has such a name.
    pub fn line_with_setting(set: &BTreeMap<ConfigKey, String>, key: &str) -> Option<String> {
        let key = ConfigKey::try_from(key.to_owned()).ok()?;
        let entry =
            |(key, value): (&ConfigKey, &str)| format!("{} = {}", toml::Value::from(key.as_str()), toml::Value::from(value));
        let set = set.iter().map(|(key, value)| (key, value.as_str()));
        let entries = set.chain([(&key, "VALUE")]).map(entry).collect::<Vec<_>>();
        Some(format!("config = {{ {} }}", entries.join(", ")))
    }

    /// Each one as people write it, with its kind in front. Of variables, settings and secrets only the names.
    pub fn listed(&self) -> Vec<String> {
        let http = self.http.iter().map(|grant| format!("http {grant}"));
        let calls = self.calls.iter().map(|service| format!("calls {service}"));
        let tcp = self.tcp.iter().map(|grant| format!("tcp {grant}"));
        let keyvalue = self.keyvalue.iter().map(|bucket| format!("keyvalue {bucket}"));
        let env = self.env.keys().map(|name| format!("env {name}"));
        let config = self.config.keys().map(|key| format!("config {key}"));
        let secrets = self.secrets.iter().map(|secret| format!("secret {secret}"));
        http.chain(calls).chain(tcp).chain(keyvalue).chain(env).chain(config).chain(secrets).collect()
    }
}

/// The line that allows TCP connections to `destination`; a port that is not known is written as PORT.
pub fn line_with_tcp<'a>(granted: impl IntoIterator<Item = &'a TcpGrant>, destination: &str) -> String {
    let wanted = match TcpGrant::try_from(destination.to_owned()) {
        Ok(grant) => grant.to_string(),
        Err(_) => format!("{destination}:PORT"),
    };
    line("tcp", granted, wanted)
}

/// A line of `[grants]` with one entry more.
fn line<'a, T: Display + 'a>(key: &str, granted: impl IntoIterator<Item = &'a T>, wanted: impl Display) -> String {
    let granted = granted.into_iter().map(ToString::to_string);
    let quoted = granted.chain([wanted.to_string()]).map(|entry| toml::Value::String(entry).to_string());
    format!("{key} = [{}]", quoted.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Uri;

    fn grants(list: &str) -> Result<Grants, String> {
        toml::from_str(&format!("http = [{list}]")).map_err(|error| error.message().to_owned())
    }

    fn covers(list: &str, asked: &str) -> bool {
        let asked = Origin::of(&asked.parse::<Uri>().unwrap()).unwrap();
        grants(list).unwrap().allow_http(&asked)
    }

    #[test]
    fn scheme_host_and_port_must_all_be_the_granted_ones() {
        let list = "'https://api.example.com', 'http://127.0.0.1:9000', 'https://*.Example.org:8443'";
        for asked in [
            "https://api.example.com/x",
            "https://API.example.com.:443",
            "http://127.0.0.1:9000",
            "http://127.1:9000",
            "https://a.example.org:8443",
        ] {
            assert!(covers(list, asked), "{asked}");
        }
        for asked in [
            "http://api.example.com",
            "http://api.example.com:443",
            "https://api.example.com:8443",
            "https://example.com",
            "https://x.api.example.com",
            "https://api.example.com.evil.org",
            "http://127.0.0.1",
            "http://localhost:9000",
            "http://[::ffff:127.0.0.1]:9000",
            "https://example.org:8443",
            "https://a.b.example.org:8443",
            "https://a.example.org",
            "https://aexample.org:8443",
        ] {
            assert!(!covers(list, asked), "{asked}");
        }
        assert!(!covers("", "https://api.example.com") && !Grants::default().any_http());
    }

    #[test]
    fn what_is_no_grant_is_told() {
        for (bad, reason) in [
            ("'api.example.com'", "neither http nor https"),
            ("'ftp://example.com'", "neither http nor https"),
            ("'https://'", "names no host"),
            ("'https://example.com/'", "whole origin"),
            ("'https://example.com?x'", "whole origin"),
            ("'https://u@example.com'", "user before the host"),
            ("'https://example.com:0'", "port"),
            ("'https://*'", "`*`"),
            ("'https://*.com'", "top-level"),
            ("'https://a.*.com'", "`*`"),
            ("'https://*.127.0.0.1'", "`*` before an address"),
            ("'http://0.0.0.0:9000'", "0.0.0.0"),
            ("'http://[::]:9000'", "::"),
            ("'http://224.0.0.1'", "224.0.0.1"),
            ("'http://stock.internal'", "calls between services"),
            ("'https://*.internal'", "calls between services"),
            ("5", "string"),
        ] {
            let error = grants(bad).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
        assert!(toml::from_str::<Grants>("udp = []").is_err());
        for (bad, reason) in [("'Stock'", "'S'"), ("'stock.internal'", "'.'"), ("''", "empty"), ("'*'", "'*'"), ("5", "string")] {
            let error = toml::from_str::<Grants>(&format!("calls = [{bad}]")).unwrap_err();
            assert!(error.message().contains(reason), "{bad}: {error}");
        }
    }

    #[test]
    fn calls_are_granted_by_the_names_of_services() {
        let grants: Grants = toml::from_str("calls = ['stock', 'pricing']").unwrap();
        assert_eq!(grants.calls().iter().map(ServiceName::as_str).collect::<Vec<_>>(), ["stock", "pricing"]);
        assert_eq!(grants.listed(), ["calls stock", "calls pricing"]);
        let error = toml::from_str::<Grants>("calls = ['Stock']").unwrap_err();
        assert!(error.message().contains("service name `Stock`"), "{error}");
    }

    #[test]
    fn grants_are_shown_in_normal_form() {
        let listed =
            grants("'HTTPS://API.example.com:443', 'http://*.bücher.example:80', 'http://0x7f.1:9000'").unwrap().listed();
        let calls: Grants = toml::from_str("calls = ['stock', 'pricing-2']").unwrap();
        assert_eq!(calls.listed(), ["calls stock", "calls pricing-2"]);
        assert_eq!(listed, ["http https://api.example.com", "http http://*.xn--bcher-kva.example", "http http://127.0.0.1:9000"]);
    }

    /// What a developer is told to write is taken as it stands, and takes nothing away.
    #[test]
    fn the_line_of_a_missing_grant_is_one_that_grants_it() {
        let text = "http = ['https://a.example']\ntcp = ['db.example:5432']\ncalls = ['stock']\nkeyvalue = ['default']";
        let granted: Grants = toml::from_str(text).unwrap();
        let origin = Origin::of(&"http://API.example.com:8080/x".parse().unwrap()).unwrap();
        let lines = [
            granted.line_with_http(&origin).unwrap(),
            granted.line_with_tcp("[::1]:6379"),
            granted.line_with_call(ServiceName::parse("pricing").unwrap()),
            Grants::line_with_bucket(granted.keyvalue(), "carts").unwrap(),
        ];
        assert_eq!(lines[0], r#"http = ["https://a.example", "http://api.example.com:8080"]"#);
        let now: Grants = toml::from_str(&lines.join("\n")).unwrap();
        assert!(now.allow_http(&origin) && granted.listed().iter().all(|grant| now.listed().contains(grant)));
        assert_eq!(now.listed().len(), 8);
        assert_eq!(Grants::default().line_with_tcp("db.example.com"), r#"tcp = ["db.example.com:PORT"]"#);
        assert_eq!(Grants::line_with_bucket(granted.keyvalue(), "a/b"), None);
        let set: Grants = toml::from_str("config = { 'page.size' = '20' }").unwrap();
        let line = Grants::line_with_setting(set.config(), "colour").unwrap();
        assert_eq!(line, r#"config = { "page.size" = "20", "colour" = "VALUE" }"#);
        assert!(toml::from_str::<Grants>(&line).is_ok());
        let nowhere = Origin::of(&"http://0.0.0.0/".parse().unwrap()).unwrap();
        assert_eq!(granted.line_with_http(&nowhere), None);
    }

    #[test]
    fn names_are_held_to_what_they_are_for() {
        for (bad, reason) in [
            ("keyvalue = ['a/b']", "bucket"),
            ("keyvalue = ['']", "bucket"),
            ("env = { 'A=B' = 'x' }", "environment variable"),
            ("env = { A = \"x\\u0000\" }", "NUL"),
            ("env = { A = 5 }", "string"),
            ("config = { '' = 'x' }", "setting"),
            ("secrets = ['../key']", "secret"),
            ("secrets = ['.hidden']", "secret"),
            ("secrets = ['a']\nconfig = { a = 'x' }", "in `config` and in `secrets`"),
        ] {
            let error = toml::from_str::<Grants>(bad).unwrap_err();
            assert!(error.message().contains(reason), "{bad}: {}", error.message());
        }
    }

    #[test]
    fn values_are_not_listed() {
        let text =
            "keyvalue = ['default']\nenv = { LOG_LEVEL = 'vvv' }\nconfig = { 'page.size' = 'vvv' }\nsecrets = ['db_password']";
        let listed = toml::from_str::<Grants>(text).unwrap().listed();
        assert_eq!(listed, ["keyvalue default", "env LOG_LEVEL", "config page.size", "secret db_password"]);
    }
}
