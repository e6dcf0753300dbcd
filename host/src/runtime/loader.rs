//! From the bytes of a build to a revision that is ready to be published: compile or find, link, warm.

use super::{
    artifact::Unfit,
    budget::Budgets,
    build::Build,
    cache::{self, Cache},
    cgi,
    compile::{CompileError, Compiler},
    coredump::CoreDumps,
    digest::Digest,
    engine::{Backtraces, Engines, Flavour, compatibility},
    fault::Fault,
    granted::Sources,
    linker::{Assembly, Kind, LinkError, Linkers, Surface},
    links::Links,
    probe::{self, Answer, Unready},
    revision::{Cold, Drain, Observers, Revision, Surroundings},
    typed_call::Providers,
};
use crate::{
    capabilities::{SecretError, Secrets},
    config::{BudgetConfig, CompileConfig, PoolConfig, ServiceName, Settings},
    telemetry::Limit,
};
use futures::future::BoxFuture;
use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::AsRawFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;
use wasmtime::component::Component;

/// The steps of loading, in their order. The names are those of the swap's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Compiling, or finding what was compiled before.
    Compiling,
    /// Matching imports and exports.
    Linking,
    /// Instantiating once, and the probe.
    Warming,
}

/// How often a build is tried again whose compiling process was killed from outside.
const KILLED_MAX: u32 = 3;

/// Why a build or its settings will not serve, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct Reject {
    /// What it is and what was expected.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// How often the same is worth another attempt: never where the build is at fault, again and again where the host is.
    pub retries: u32,
    /// What it has to do with other services, where that is the reason: worth another attempt once those are others.
    pub links: Option<Arc<Links>>,
}

impl Reject {
    /// The build, its settings or its name is at fault.
    pub fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into(), retries: 0, links: None }
    }

    /// The host is at fault: worth another attempt with the same files.
    pub fn transient(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { retries: u32::MAX, ..Self::new(reason, remedy) }
    }

    /// Another service is in the way, or is missing: worth another attempt with the same files when that changes.
    pub fn of_links(links: &Arc<Links>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { links: Some(links.clone()), ..Self::new(reason, remedy) }
    }
}

impl From<LinkError> for Reject {
    fn from(error: LinkError) -> Self {
        Self::new(error.reason, error.remedy)
    }
}

impl From<SecretError> for Reject {
    fn from(error: SecretError) -> Self {
        Self::new(error.reason, error.remedy)
    }
}

impl From<Unfit> for Reject {
    fn from(unfit: Unfit) -> Self {
        Self::new(unfit.to_string(), unfit.remedy())
    }
}

/// What a load would come to, as far as it goes.
#[derive(Debug)]
pub struct Inspection {
    /// How it would be served.
    pub kind: Option<Kind>,
    /// What it imports and exports.
    pub surface: Surface,
    /// What it calls of other services, and what they can call, where its types can be read.
    pub links: Option<Links>,
    /// Why it would not be served.
    pub reject: Option<Reject>,
}

/// Loads builds. One a host.
pub struct Loader {
    engines: Engines,
    compatibility: [(Flavour, String); 2],
    linkers: Linkers,
    cache: Cache,
    /// What is mapped by somebody: a build that several revisions run is there once.
    mapped: Mutex<HashMap<(Digest, Flavour), Weak<Component>>>,
    compiler: Compiler,
    budgets: Budgets,
    surroundings: Surroundings,
}

impl Loader {
    /// Sets the engines up and opens the cache in the state folder; without one, everything is compiled each time. Traps are written
    /// down where there is a place for `coredumps`.
    ///
    /// # Errors
    /// Where the engines cannot be set up with these settings on this machine.
    pub fn new(
        state: Option<&Path>,
        (budgets, pool): (&BudgetConfig, &PoolConfig),
        (compile, backtraces): (CompileConfig, Backtraces),
        observers: Observers,
        sources: Sources,
        providers: Weak<dyn Providers>,
        coredumps: Option<Arc<CoreDumps>>,
    ) -> wasmtime::Result<Self> {
        let budgets = Budgets::new(budgets, pool, &observers.metrics)?;
        let engines = Engines::new(pool, budgets.lane().clone(), backtraces, coredumps.is_some())?;
        Ok(Self {
            compatibility: Flavour::ALL.map(|flavour| (flavour, compatibility(engines.get(flavour)))),
            linkers: Linkers::new(&engines)?,
            engines,
            cache: state.map_or_else(Cache::none, |state| Cache::open(state, compile.cache_size.0)),
            mapped: Mutex::default(),
            compiler: Compiler::new(compile, backtraces),
            budgets,
            surroundings: Surroundings { observers, sources, providers, coredumps },
        })
    }

    /// Makes a revision of `build`. `enter` is told each step as it begins.
    ///
    /// # Errors
    /// [`Reject`]: nothing has changed for anybody.
    pub async fn load(
        self: &Arc<Self>,
        service: &ServiceName,
        build: &Build,
        (settings, secrets): (Settings, Secrets),
        mut enter: impl FnMut(Stage),
    ) -> Result<(Arc<Revision>, Drain), Reject> {
        build.binary().map_err(Unfit::clone)?;
        enter(Stage::Compiling);
        let (component, flavour) = self.component(service, build).await?;
        enter(Stage::Linking);
        let providers = self.surroundings.providers.upgrade();
        // Types are as many as the build has.
        let (loader, linking, grants) = (self.clone(), component.clone(), settings.grants.clone());
        let link = move || loader.linkers.link(&linking, flavour, &grants, providers.as_deref());
        let assembly = tokio::task::spawn_blocking(link).await.map_err(|error| {
            Reject::transient(format!("the host failed while it linked it: {error}"), "the log says more; it is tried again")
        })??;
        suits(assembly.kind, &settings)?;
        let (revision, drained) = self.revision(service, build, (settings, secrets), &component, assembly);
        // The revision's own is the last, and is let go off the async threads.
        drop(component);
        enter(Stage::Warming);
        if let Err(reject) = warm(&revision).await {
            drop(revision);
            drained.retire().await;
            return Err(reject);
        }
        Ok((revision, drained))
    }

    /// Starts the compiling process with nothing to do, so that what is wrong with it is told before the first swap.
    pub async fn try_compiler(self: Arc<Self>) {
        self.compiler.try_out().await;
    }

    /// Goes through the same steps and tells what it saw, for `hotbay check`.
    pub async fn inspect(
        self: &Arc<Self>,
        service: &ServiceName,
        build: &Build,
        (settings, secrets): (Settings, Secrets),
    ) -> Inspection {
        let mut seen = Inspection { kind: None, surface: Surface::default(), links: None, reject: None };
        let outcome = async {
            build.binary().map_err(Unfit::clone)?;
            let (component, flavour) = self.component(service, build).await?;
            seen.surface = Surface::of(&component);
            seen.links = Links::of(&component, settings.grants.calls()).ok();
            let assembly = self.linkers.link(&component, flavour, &settings.grants, Some(&ByItself))?;
            seen.kind = Some(assembly.kind);
            suits(assembly.kind, &settings)?;
            let (revision, _) = self.revision(service, build, (settings, secrets), &component, assembly);
            warm(&revision).await
        };
        seen.reject = outcome.await.err();
        seen
    }

    fn revision(
        &self,
        service: &ServiceName,
        build: &Build,
        made: (Settings, Secrets),
        component: &Arc<Component>,
        assembly: Assembly,
    ) -> (Arc<Revision>, Drain) {
        let account = self.budgets.account(service.as_str());
        Revision::new(service.clone(), *build.digest(), made, component, assembly, &self.surroundings, account)
    }

    /// The component as it is mapped already, from the cache, or compiled now.
    async fn component(self: &Arc<Self>, service: &ServiceName, build: &Build) -> Result<(Arc<Component>, Flavour), Reject> {
        if let Some(mapped) = self.mapped(build.digest()) {
            return Ok(mapped);
        }
        let (component, flavour) = self.map_new(service, build).await?;
        Ok((self.share(*build.digest(), flavour, component), flavour))
    }

    fn mapped(&self, digest: &Digest) -> Option<(Arc<Component>, Flavour)> {
        let mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        Flavour::ALL.into_iter().find_map(|flavour| Some((mapped.get(&(*digest, flavour))?.upgrade()?, flavour)))
    }

    /// That of another who was faster, or this one for all who come.
    fn share(&self, digest: Digest, flavour: Flavour, component: Component) -> Arc<Component> {
        let component = Arc::new(component);
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.retain(|_, component| component.strong_count() > 0);
        if let Some(first) = mapped.get(&(digest, flavour)).and_then(Weak::upgrade) {
            return first;
        }
        mapped.insert((digest, flavour), Arc::downgrade(&component));
        component
    }

    async fn map_new(self: &Arc<Self>, service: &ServiceName, build: &Build) -> Result<(Component, Flavour), Reject> {
        // Checking the seal reads the whole artifact.
        let (loader, digest) = (self.clone(), *build.digest());
        if let Ok(Some(found)) = tokio::task::spawn_blocking(move || loader.cached(&digest)).await {
            if self.compiler.learns() {
                let (loader, wasm) = (self.clone(), build.wasm.clone());
                tokio::spawn(async move { loader.compiler.learn(&wasm).await });
            }
            return Ok(found);
        }
        self.compile(service, build).await.map_err(|error| match error {
            CompileError::Invalid(reason) => Reject::new(
                format!("it is no valid component: {reason}"),
                "build it again with today's tools, for wasm32-wasip2 say",
            ),
            CompileError::Timeout(_) | CompileError::Died { .. } => Reject::new(
                error.to_string(),
                "make the component smaller, or raise compile.timeout and compile.memory in hotbay.toml",
            ),
            // The child limits its own memory, so a kill comes from outside: the kernel that is out of memory, or a person. A
            // build that does it each time must not do it for ever.
            CompileError::Killed(_) => Reject {
                retries: KILLED_MAX,
                ..Reject::new(
                    error.to_string(),
                    "free memory, or lower compile.memory in hotbay.toml; after three attempts hotbay waits for the file to be \
                     placed again",
                )
            },
            CompileError::Map(_) | CompileError::Output(_) | CompileError::Host(_) => Reject::transient(
                error.to_string(),
                "see to the host: free memory, disk, processes and file descriptors; hotbay tries again by itself",
            ),
        })
    }

    fn cached(&self, digest: &Digest) -> Option<(Component, Flavour)> {
        self.compatibility.iter().find_map(|(flavour, compatibility)| {
            let file = self.cache.find(digest, *flavour, compatibility)?;
            self.map_anywhere(&file, *flavour)
                .inspect_err(|error| warn!(%digest, %error, "a cached artifact does not load and is compiled again"))
                .ok()
                .map(|component| (component, *flavour))
        })
    }

    async fn compile(self: &Arc<Self>, service: &ServiceName, build: &Build) -> Result<(Component, Flavour), CompileError> {
        let loader = self.clone();
        let scratch = blocking(move || Ok(loader.cache.scratch())).await?;
        let (artifact, flavour) = match scratch {
            Some(scratch) => match self.compiler.compile(service, &build.wasm, &scratch).await {
                Ok(flavour) => (scratch, flavour),
                Err(CompileError::Output(error)) => {
                    warn!(%error, "the state folder takes no artifact, as where its disk is full; this one is kept in memory only");
                    self.compile_in_memory(service, build).await?
                }
                Err(error) => return Err(error),
            },
            None => self.compile_in_memory(service, build).await?,
        };
        let (loader, mapped) = (self.clone(), artifact.try_clone()?);
        let component = blocking(move || Ok(loader.map_anywhere(&mapped, flavour))).await?;
        let component = component.map_err(|error| CompileError::Map(format!("{error:#}")))?;
        // Sealing a copy for the next time is not waited for: the swap does not need it.
        let (loader, digest) = (self.clone(), *build.digest());
        tokio::task::spawn_blocking(move || {
            if let Some((_, compatibility)) = loader.compatibility.iter().find(|(known, _)| *known == flavour) {
                loader.cache.keep(artifact, &digest, flavour, compatibility);
            }
        });
        Ok((component, flavour))
    }

    async fn compile_in_memory(&self, service: &ServiceName, build: &Build) -> Result<(File, Flavour), CompileError> {
        let artifact = cache::memory()?;
        let flavour = self.compiler.compile(service, &build.wasm, &artifact).await;
        // Here a failed write is the host's lack of memory.
        let flavour = flavour.map_err(|error| match error {
            CompileError::Output(reason) => CompileError::Host(io::Error::other(reason)),
            other => other,
        })?;
        Ok((artifact, flavour))
    }

    /// Maps an artifact where it is, or from memory: a disk that is mounted noexec holds code and lets nobody run it.
    fn map_anywhere(&self, artifact: &File, flavour: Flavour) -> wasmtime::Result<Component> {
        self.map(artifact, flavour).or_else(|error| {
            let copied = cache::in_memory(artifact).map_err(|_| error)?;
            self.map(&copied, flavour)
        })
    }

    /// Maps an artifact that has no name, so that nobody can change it under the host: a page that is cut off a mapped file kills
    /// whoever reads it.
    fn map(&self, file: &File, flavour: Flavour) -> wasmtime::Result<Component> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        #[allow(
            unsafe_code,
            reason = "the file was written by our own child a moment ago, or is a copy of one that carries the seal of this \
                      host's key, checked as it was copied; it has no name by which anybody could change it"
        )]
        // SAFETY: see the reason above; wasmtime itself checks the engine's version and settings.
        unsafe {
            Component::deserialize_file(self.engines.get(flavour), path)
        }
    }
}

/// Runs what waits for the disk off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Whether the settings suit what is served in this way.
fn suits(kind: Kind, settings: &Settings) -> Result<(), Reject> {
    if kind == Kind::Command
        && let Some(name) = settings.grants.env().keys().find(|name| cgi::is_meta_variable(name.as_str()))
    {
        return Err(Reject::new(
            format!("its settings grant the environment variable `{name}`, which tells a command of its request"),
            format!("give `env.{name}` another name in [grants]: those of CGI, and all that begin with HTTP_, are the request's"),
        ));
    }
    match (kind, &settings.probe) {
        (Kind::Library, Some(_)) => Err(Reject::new(
            "its settings have [probe], and a library answers no HTTP",
            "take [probe] out of its settings; that a library starts is tried without it",
        )),
        (Kind::Library, None) if !settings.crons.is_empty() => Err(Reject::new(
            "its settings have [[cron]], and a library answers no HTTP",
            "take [[cron]] out of its settings, and give it to a service that calls the library",
        )),
        _ => Ok(()),
    }
}

/// Starts the revision once and asks its probe.
async fn warm(revision: &Arc<Revision>) -> Result<(), Reject> {
    revision.warm().await.map_err(Reject::from)?;
    Ok(probe::ready(revision).await?)
}

/// The host has no room now.
fn full(reason: String, limit: Limit) -> Reject {
    Reject::transient(reason, format!("raise {} in hotbay.toml; hotbay tries again by itself", limit.setting()))
}

/// A host without a bay, where a call finds nobody.
pub fn nobody() -> Weak<dyn Providers> {
    Weak::<ByItself>::new()
}

/// What can be said of a build without a bay around it: that others export what it calls is believed, where it is granted any.
struct ByItself;

impl Providers for ByItself {
    fn provider(&self, _: &ServiceName) -> Option<Arc<Revision>> {
        None
    }

    fn queue(&self, _: Arc<Revision>) -> BoxFuture<'static, Result<OwnedSemaphorePermit, &'static str>> {
        Box::pin(async { Err("there is no bay") })
    }

    fn depth(&self) -> u32 {
        0
    }

    fn check_imports(&self, links: &Arc<Links>) -> Result<(), Reject> {
        match links.imports.keys().next() {
            Some(interface) if links.granted.is_empty() => Err(Reject::of_links(
                links,
                format!("it imports `{interface}` of another service, and is granted no calls"),
                "name the service that exports it in `calls` of [grants] in its settings, or compose its component into this one \
                 (wac plug)",
            )),
            _ => Ok(()),
        }
    }
}

/// A build that cannot even be started.
impl From<Cold> for Reject {
    fn from(cold: Cold) -> Self {
        let remedy = match &cold.fault {
            Fault::Full(limit) => return full(cold.to_string(), *limit),
            Fault::Memory { .. } => "raise limits.memory in its settings, or make it start with less",
            Fault::Deadline(_) => "let it start faster, or raise limits.deadline in its settings",
            Fault::Cpu(_) => "let it start faster, or raise limits.cpu in its settings",
            Fault::Refused(_) => "see to what lifecycle.start complains about",
            _ => "run the component's start by itself (wasmtime run, a unit test) to see why it traps",
        };
        Self::new(cold.to_string(), remedy)
    }
}

/// A build that starts and does not get ready.
impl From<Unready> for Reject {
    fn from(unready: Unready) -> Self {
        let remedy = match &unready.last {
            Answer::Fault(Fault::Full(limit)) => return full(unready.to_string(), *limit),
            Answer::Fault(_) => "see to what the guest does on that path, or change probe.path in its settings",
            Answer::Status(_) => "see why it is not ready, or correct probe.path and probe.expect in its settings",
            Answer::None => "let it answer sooner, or raise probe.timeout in its settings",
        };
        Self::new(unready.to_string(), remedy)
    }
}
