//! What a build calls of other services and no build beside it exports to it: in a bay it would wait.

use hotbay::{
    config::{BayFile, ServiceName},
    deploy::read_build,
    runtime::Links,
};
use serde::Serialize;
use std::{collections::BTreeMap, fs, path::Path};

/// One interface that is lacking.
#[derive(Serialize)]
pub(super) struct Lacking {
    /// Its whole name, `shop:stock/stock@0.1.0`.
    interface: String,
    /// Who exports it, or another version of it, or could.
    reason: String,
    remedy: String,
}

impl Lacking {
    /// Of a build in the folder `bay` that imports `links`, by its types' names alone: no build beside it is compiled.
    pub(super) fn of(bay: &Path, links: &Links) -> Vec<Self> {
        if links.imports.is_empty() {
            return Vec::new();
        }
        let offers = offers(bay);
        let is_granted = |service: &ServiceName| links.granted.contains(service);
        let lacks = |interface: &&String| {
            let exports = |service: &ServiceName| offers.get(service).is_some_and(|all| all.contains(interface));
            !links.granted.iter().any(exports)
        };
        let lacking = links.imports.keys().filter(lacks).map(|interface| {
            let other = offers.iter().find(|(_, all)| all.contains(interface)).map(|(service, _)| (service, interface.clone()));
            let package = interface.split('@').next().unwrap_or(interface);
            let is_version = |one: &&String| one.split('@').next() == Some(package);
            let version =
                offers.iter().find_map(|(service, all)| Some((service, all.iter().find(is_version)?.clone())));
            let granted: Vec<_> = links.granted.iter().map(|service| format!("{service}.wasm")).collect();
            let (reason, remedy) = match other.or(version) {
                Some((service, exported)) if exported == *interface => {
                    let names: Vec<_> = links.granted.iter().chain([service]).map(|name| format!("\"{name}\"")).collect();
                    let remedy = format!("add `calls = [{}]` to [grants] in its settings", names.join(", "));
                    (format!("{service}.wasm exports it, and is not granted"), remedy)
                }
                Some((service, exported)) => {
                    let grant = if is_granted(service) { "" } else { ", and name it in `calls` of [grants]" };
                    let remedy = format!(
                        "build it against the WIT of {service}, or let {service} export this version beside its own{grant}"
                    );
                    (format!("{service}.wasm exports {exported} and not this version"), remedy)
                }
                None if granted.is_empty() => (
                    "no build beside it exports it, and it is granted no calls".to_owned(),
                    "put a service that exports it into the bay, and name it in `calls` of [grants]".to_owned(),
                ),
                None => (
                    format!("no build beside it exports it; it may call {}", granted.join(", ")),
                    "put a service that exports it into the bay under one of these names, or name the one that does in `calls` of \
                     [grants]"
                        .to_owned(),
                ),
            };
            Self { interface: interface.clone(), reason, remedy }
        });
        lacking.collect()
    }

    /// As `hotbay check` prints it, two lines.
    pub(super) fn text(&self) -> String {
        let Self { interface, reason, remedy } = self;
        format!("{interface}: {reason};\n           {remedy}")
    }
}

/// What the builds of a bay export, by service.
fn offers(bay: &Path) -> BTreeMap<ServiceName, Vec<String>> {
    // A bare name of a file lies here.
    let bay = if bay.as_os_str().is_empty() { Path::new(".") } else { bay };
    let files = fs::read_dir(bay).into_iter().flatten().flatten();
    let exports = files.filter_map(|entry| match BayFile::of(&entry.file_name().to_string_lossy()) {
        BayFile::Build(name) => Some((name, read_build(&entry.path()).ok()?.0.exports())),
        _ => None,
    });
    exports.collect()
}
