//! What a component imports is matched with what the host offers, and what it exports says how it is served.

use super::{
    engine::{Engines, Flavour},
    lifecycle,
    links::{Links, is_of_services},
    loader::Reject,
    store::HostState,
    typed_call::{Providers, add_calls},
};
use crate::{
    capabilities::{KEYVALUE_VERSION, add_keyvalue, add_logging, add_setting, add_sockets, add_sockets_of_async, knows_logging},
    config::Grants,
};
use serde::Serialize;
use std::{fmt, sync::Arc};
use wasmtime::Store;
use wasmtime::component::{Component, Instance, InstancePre, Linker, types::ComponentItem};
use wasmtime_wasi::p2::bindings::CommandPre as Command2;
use wasmtime_wasi::p3::bindings::CommandPre as Command3;
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::p2::{self, bindings::ProxyIndices};
use wasmtime_wasi_http::p3::{self, bindings::ServiceIndices};

/// WASI packages that link, whatever the settings grant.
const OFFERED: [&str; 10] = [
    "wasi:cli",
    "wasi:clocks",
    "wasi:config",
    "wasi:filesystem",
    "wasi:http",
    "wasi:io",
    "wasi:keyvalue",
    "wasi:logging",
    "wasi:random",
    "wasi:sockets",
];

/// How a component is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `wasi:http/incoming-handler@0.2`.
    Http02,
    /// `wasi:http/handler@0.3`.
    Http03,
    /// `wasi:cli/run`: one run a request, CGI/1.1.
    Command,
    /// Other WIT interfaces: other services may import them, no route.
    Library,
}

impl Kind {
    /// Of a component that exports these, if any.
    pub(super) fn of(exports: &[String]) -> Option<Self> {
        let has = |interface: &str, version: &str| exports.iter().any(|name| is_of(name, interface, version));
        if has("wasi:http/handler", "0.3.") {
            return Some(Self::Http03);
        }
        if has("wasi:http/incoming-handler", "0.2.") {
            return Some(Self::Http02);
        }
        if has("wasi:cli/run", "0.2.") || has("wasi:cli/run", "0.3.") {
            return Some(Self::Command);
        }
        let is_wasi = |name: &String| name.starts_with("wasi:http/") || name.starts_with("wasi:cli/run");
        (!exports.iter().any(is_wasi) && exports.iter().any(|name| name.contains('/'))).then_some(Self::Library)
    }

    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http02 => "http02",
            Self::Http03 => "http03",
            Self::Command => "command",
            Self::Library => "library",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http02 => "HTTP service (WASI 0.2)",
            Self::Http03 => "HTTP service (WASI 0.3)",
            Self::Command => "command, one run a request (CGI/1.1)",
            Self::Library => "library (no route)",
        })
    }
}

/// The names on both sides of a component, as `namespace:package/interface@version`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Surface {
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

impl Surface {
    pub(crate) fn of(component: &Component) -> Self {
        let (ty, engine) = (component.component_type(), component.engine());
        Self {
            imports: ty.imports(engine).map(|(name, _)| name.to_owned()).collect(),
            exports: ty.exports(engine).map(|(name, _)| name.to_owned()).collect(),
        }
    }

    /// The WASI versions that the names speak of, each once.
    pub fn wasi_versions(&self) -> Vec<String> {
        let names = self.imports.iter().chain(&self.exports).filter(|name| name.starts_with("wasi:"));
        let mut versions: Vec<_> = names.filter_map(|name| name.split_once('@')).map(|(_, version)| version.to_owned()).collect();
        versions.sort();
        versions.dedup();
        versions
    }
}

/// A component that cannot be linked, and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct LinkError {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

/// A component with its imports resolved, ready to be instantiated.
pub(crate) enum Linked {
    Http(InstancePre<HostState>, ProxyExport),
    Command2(Command2<HostState>),
    Command3(Command3<HostState>),
    Library(InstancePre<HostState>),
}

impl Linked {
    /// What instances are made of.
    pub(crate) fn pre(&self) -> &InstancePre<HostState> {
        match self {
            Self::Http(pre, _) | Self::Library(pre) => pre,
            Self::Command2(pre) => pre.instance_pre(),
            Self::Command3(pre) => pre.instance_pre(),
        }
    }
}

/// What the linking of a component comes to.
pub(crate) struct Assembly {
    pub(crate) kind: Kind,
    pub(crate) linked: Linked,
    pub(crate) links: Arc<Links>,
    pub(crate) flavour: Flavour,
}

/// Where the HTTP export is in a component; looked up once a revision.
pub(crate) enum ProxyExport {
    P2(ProxyIndices),
    P3(ServiceIndices),
}

impl ProxyExport {
    /// The export of one instance.
    pub(crate) fn bind(&self, store: &mut Store<HostState>, instance: &Instance) -> wasmtime::Result<Proxy> {
        Ok(match self {
            Self::P2(indices) => Proxy::P2(indices.load(store, instance)?),
            Self::P3(indices) => Proxy::P3(indices.load(store, instance)?),
        })
    }
}

/// One linker an engine, made once.
pub(crate) struct Linkers {
    sync: Linker<HostState>,
    r#async: Linker<HostState>,
}

impl Linkers {
    pub(crate) fn new(engines: &Engines) -> wasmtime::Result<Self> {
        let mut r#async = base(engines, Flavour::Async)?;
        wasmtime_wasi::p3::add_to_linker(&mut r#async)?;
        p3::add_to_linker(&mut r#async)?;
        add_sockets_of_async(&mut r#async, HostState::sockets)?;
        Ok(Self { sync: base(engines, Flavour::Sync)?, r#async })
    }

    /// Resolves the imports of `component`; those of other services by what `providers` says of them, where there are any.
    pub(crate) fn link(
        &self,
        component: &Component,
        flavour: Flavour,
        grants: &Grants,
        providers: Option<&dyn Providers>,
    ) -> Result<Assembly, Reject> {
        let linker = match flavour {
            Flavour::Sync => &self.sync,
            Flavour::Async => &self.r#async,
        };
        refuse_unknown_imports(component)?;
        let kind = kind_of(component)?;
        lifecycle::check(component).map_err(|reason| LinkError {
            reason,
            remedy: "build it against wit/service.wit, unchanged, or leave the export out".to_owned(),
        })?;
        let links = Links::of(component, grants.calls()).map_err(|error| LinkError {
            reason: error.to_string(),
            remedy: "share smaller interfaces with other services, or make several services of it".to_owned(),
        })?;
        let links = Arc::new(links);
        may_call(&links)?;
        // Before it is warmed, since its start may call.
        if let Some(providers) = providers {
            providers.check_imports(&links)?;
        }
        let of_its_own;
        let linker = if links.imports.is_empty() {
            linker
        } else {
            let mut with_calls = linker.clone();
            add_calls(&mut with_calls, &links).map_err(|error| mismatch("an import", &error))?;
            of_its_own = with_calls;
            &of_its_own
        };
        let pre = linker.instantiate_pre(component).map_err(|error| mismatch("an import", &error))?;
        let linked = match kind {
            Kind::Http02 => ProxyIndices::new(&pre).map(|export| Linked::Http(pre, ProxyExport::P2(export))),
            Kind::Http03 => ServiceIndices::new(&pre).map(|export| Linked::Http(pre, ProxyExport::P3(export))),
            Kind::Command if exports(component, "wasi:cli/run", "0.2.") => Command2::new(pre).map(Linked::Command2),
            Kind::Command => Command3::new(pre).map(Linked::Command3),
            Kind::Library => Ok(Linked::Library(pre)),
        };
        let assembly = |linked| Assembly { kind, linked, links, flavour };
        linked.map(assembly).map_err(|error| mismatch("an export", &error).into())
    }
}

/// Whether what is imported of other services can be called across stores at all.
fn may_call(links: &Links) -> Result<(), LinkError> {
    let Some((function, obstacle)) = links.obstacle() else { return Ok(()) };
    Err(LinkError {
        reason: format!("it calls `{function}` of another service, whose type holds {obstacle}, which cannot leave its store"),
        remedy: "let the interface speak of values alone: a key or a name in place of a resource, a list in place of a stream"
            .to_owned(),
    })
}

fn base(engines: &Engines, flavour: Flavour) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engines.get(flavour));
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    p2::add_only_http_to_linker_async(&mut linker)?;
    add_sockets(&mut linker, HostState::sockets)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, HostState::config)?;
    add_setting(&mut linker, HostState::setting)?;
    add_logging(&mut linker, |state, level, context, message| state.log.message(level, context, message))?;
    add_keyvalue(&mut linker, HostState::keyvalue)?;
    Ok(linker)
}

/// Splits `ns:package/interface@version`.
fn parts(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

fn refuse_unknown_imports(component: &Component) -> Result<(), LinkError> {
    let (ty, engine) = (component.component_type(), component.engine());
    for (name, item) in ty.imports(engine) {
        let (path, version) = parts(name);
        let package = path.split('/').next().unwrap_or(path);
        // A component may import types by themselves; they need nothing from the host.
        if matches!(item.ty, ComponentItem::Type(_)) {
            continue;
        }
        // Whether a service has it is seen when all that are there are known.
        if matches!(item.ty, ComponentItem::ComponentInstance(_)) && is_of_services(name) {
            continue;
        }
        let remedy = if package == "wasi:logging" {
            if knows_logging(version) {
                continue;
            }
            format!("build it against wit/deps/logging.wit, version 0.1.0-draft; this one asks for version `{version}`")
        } else if package == "wasi:keyvalue" {
            if version == KEYVALUE_VERSION {
                continue;
            }
            format!("build it against wit/deps/keyvalue.wit, version {KEYVALUE_VERSION}; this one asks for version `{version}`")
        } else if OFFERED.contains(&package) {
            if version.starts_with("0.2.") || version.starts_with("0.3.") || package == "wasi:config" {
                continue;
            }
            format!("build it against {package}@0.2 or 0.3; this one asks for version `{version}`")
        } else if package.starts_with("wasi:") {
            format!("hotbay offers {}; build the service without `{package}`", OFFERED.join(", "))
        } else {
            format!(
                "hotbay knows no `{package}`; compose the component that exports it into this one (wac plug), or build without it"
            )
        };
        return Err(LinkError { reason: format!("it imports `{name}`, which this host does not offer"), remedy });
    }
    Ok(())
}

/// Whether `name` is that of `interface` in a version that begins with `version`.
fn is_of(name: &str, interface: &str, version: &str) -> bool {
    let (path, found) = parts(name);
    path == interface && found.starts_with(version)
}

/// Whether `component` exports `interface` in a version that begins with `version`.
fn exports(component: &Component, interface: &str, version: &str) -> bool {
    let ty = component.component_type();
    ty.exports(component.engine()).any(|(name, _)| is_of(name, interface, version))
}

fn kind_of(component: &Component) -> Result<Kind, LinkError> {
    let exports = Surface::of(component).exports;
    if let Some(kind) = Kind::of(&exports) {
        return Ok(kind);
    }
    let shown = match exports.as_slice() {
        [] => "it exports nothing".to_owned(),
        some => format!("it exports {}", some.iter().take(8).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    Err(LinkError {
        reason: format!(
            "it lacks the export `wasi:http/incoming-handler@0.2` (or `wasi:http/handler@0.3`, or `wasi:cli/run`): {shown}"
        ),
        remedy: "export one of them: docs/services.md says what serves, and its tutorials show how".to_owned(),
    })
}

fn mismatch(what: &str, error: &wasmtime::Error) -> LinkError {
    LinkError {
        reason: format!("{what} does not have the type that WASI gives it: {error:#}"),
        remedy: "build it against the WIT packages in wit/, unchanged".to_owned(),
    }
}
