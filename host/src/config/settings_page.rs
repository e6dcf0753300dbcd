//! Guards docs/settings.md: each key that is read is shown there, no other is, and what is shown are the defaults.

use super::{HostConfig, ServiceName, Settings, SettingsError};
use std::collections::{BTreeMap, BTreeSet};

/// The settings of a service and those of the host, as the page shows them.
fn shown() -> [String; 2] {
    let page = include_str!("../../../docs/settings.md");
    let block = |head: &str| {
        let (_, section) = page.split_once(&format!("## Settings of {head}")).unwrap();
        section.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap().to_owned()
    };
    [block("a service"), block("the host")]
}

fn of_service(text: &str) -> Result<Settings, SettingsError> {
    Settings::parse(&ServiceName::parse("orders").unwrap(), text)
}

/// The keys of each section by its header; those that are shown behind a `#` too.
fn keys(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let (mut header, mut keys) = (String::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for line in text.lines().map(|line| line.trim_start_matches("# ")) {
        if line.starts_with('[') {
            header = line.split(" #").next().unwrap().trim().to_owned();
            keys.entry(String::new()).or_default().insert(header.trim_matches(['[', ']']).to_owned());
        } else if let Some((key, _)) = line.split_once(" = ") {
            keys.entry(header.clone()).or_default().insert(key.to_owned());
        }
    }
    keys
}

/// The keys below a header that are read: whoever writes another one is told.
fn known(header: &str, error: impl Fn(&str) -> SettingsError) -> BTreeSet<String> {
    let told = error(&format!("{header}\nzzz = 1\n")).remedy;
    told.strip_prefix("known here: ").expect(&told).split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_is_shown_and_no_other() {
    let [service, host] = shown();
    for (header, shown) in keys(&service) {
        // Its keys are labels.
        if header != "[traffic]" {
            assert_eq!(shown, known(&header, |text| of_service(text).unwrap_err()), "{header}");
        }
    }
    for (header, shown) in keys(&host) {
        assert_eq!(shown, known(&header, |text| HostConfig::parse(text).unwrap_err()), "{header}");
    }
}

#[test]
fn what_is_shown_of_a_service_are_the_defaults() {
    let [shown, _] = shown();
    let least = "[probe]\npath = '/ready'\n[[cron]]\nschedule = '*/5 * * * *'\npath = '/tick'\n";
    let (found, least) = (of_service(&shown).unwrap(), of_service(least).unwrap());
    assert_eq!((found.limits, found.rollback, found.instances), (least.limits, least.rollback, least.instances));
    assert_eq!((found.probe, found.crons), (least.probe, least.crons));
    let reuse = |text: &str| of_service(&text.replace("\"fresh\"", "\"reuse\"")).unwrap().instances;
    assert_eq!(reuse(&shown), reuse("[instances]\npolicy = \"fresh\""));
}

#[test]
fn what_is_shown_of_the_host_are_the_defaults() {
    let [_, shown] = shown();
    let settled: Vec<&str> = shown.lines().filter(|line| !line.contains("\"…\"")).collect();
    let (mut found, defaults) = (HostConfig::parse(&settled.join("\n")).unwrap(), HostConfig::default());
    // Less where few files may be open.
    found.http.connections = defaults.http.connections;
    assert_eq!(format!("{found:?}"), format!("{defaults:?}"));
}
