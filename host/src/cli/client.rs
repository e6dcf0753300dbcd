//! The way from a command to the admin listener of a host: where it is, and what is said when it is not there.

use super::host_config;
use crate::develop::Bay;
use hotbay::admin::{self, ADDRESS_FILE, Address, Outcome, Problem, TOKEN_FILE, Ticket};
use hotbay::config::HostConfig;
use serde::de::DeserializeOwned;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use ureq::{
    Agent, Body, BodyReader, SendBody,
    http::{Request, Response},
};

/// Instead of the token in the state folder.
const TOKEN_VARIABLE: &str = "HOTBAY_ADMIN_TOKEN";

/// What to do where nobody serves.
const REMEDY: &str = "start one with `hotbay serve` or `hotbay dev`, or name it with --bay (that of `hotbay dev` is --bay \
                      .hotbay/dev in its folder), --state or --admin";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest silence of a host that answers: streams say something every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// The same of one that makes a copy before it says anything.
const COPYING: Duration = Duration::from_hours(1);

/// Which host; found through its state folder.
#[derive(Clone, clap::Args)]
pub(super) struct Which {
    /// The bay of the host [default: bay, or .hotbay/dev where `hotbay dev` runs]
    #[arg(long, value_name = "DIR")]
    bay: Option<PathBuf>,
    /// Its state folder, where its address and its token are [default: BAY/.hotbay]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Its settings, which name both
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address of its admin listener; the token comes from the state folder or $HOTBAY_ADMIN_TOKEN
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
}

/// The longest wait for the end of a swap, with those before it.
const SWAP: Duration = Duration::from_secs(600);

/// Bytes of a profile at most, with room for what the host may send one day.
const PROFILE_MAX: u64 = 256 << 20;

/// A profile as it was taken.
pub(super) struct Profiled {
    /// The API's JSON.
    pub(super) json: String,
    /// How often a guest was seen.
    pub(super) samples: String,
    /// Of which revision.
    pub(super) revision: String,
}

/// An answer that still comes.
pub(super) type Stream = io::BufReader<BodyReader<'static>>;

/// A host to talk to.
pub(super) struct Client {
    agent: Agent,
    address: String,
    token: String,
    /// Where the token comes from, for messages.
    token_source: String,
    /// The host as it was found in the state folder.
    found: Option<Address>,
}

impl Which {
    /// Finds the host. It may not answer.
    pub(super) fn client(&self) -> Result<Client, String> {
        let config = host_config::read(self.config.as_deref())?;
        // Where only the state folder was named, the bay is not asked for.
        let bay = match (&self.bay, &self.state, &self.config) {
            (Some(bay), ..) => Some(bay.clone()),
            (None, Some(_), None) => None,
            (None, None, None) => Some(usual_bay(&config)),
            (None, _, Some(_)) => Some(config.bay.clone()),
        };
        let default = bay.as_deref().map(HostConfig::state_of);
        let state = self.state.clone().or(config.state.clone()).or(default).unwrap_or_else(|| config.state_dir());
        let (address, found) = match &self.admin {
            Some(address) => (address.clone(), None),
            None => {
                let is_usual = self.bay.is_none() && self.state.is_none() && self.config.is_none();
                let found = find(&state, bay.as_deref(), is_usual)?;
                (found.address.to_string(), Some(found))
            }
        };
        let (token, token_source) = token(&state)?;
        Ok(Client { agent: agent(SILENCE), address, token, token_source, found })
    }
}

/// The bay that holds where none was named: that of `hotbay dev` in this folder, where it runs and nobody serves the default.
fn usual_bay(config: &HostConfig) -> PathBuf {
    let developed = Path::new(Bay::OWN);
    let serves = |bay: &Path| match admin::addresses(&HostConfig::state_of(bay)) {
        Ok(hosts) => hosts.iter().any(Address::is_alive),
        // What may not be read is somebody else's, and there.
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    if !serves(&config.bay) && serves(developed) { developed.to_owned() } else { config.bay.clone() }
}

fn agent(silence: Duration) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        // The host is asked, and no proxy of the environment.
        .proxy(None)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(silence))
        .build()
        .into()
}

/// `is_usual`: nobody has said where to look.
fn find(state: &Path, bay: Option<&Path>, is_usual: bool) -> Result<Address, String> {
    let shown = state.join(ADDRESS_FILE);
    let shown = shown.display();
    let hosts = admin::addresses(state).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if is_usual => {
            let here = env::current_dir().unwrap_or_default();
            let (here, developed) = (here.display(), Bay::OWN);
            format!("no host runs in {here}: {shown} is missing, and no `hotbay dev` answers in {developed}; {REMEDY}")
        }
        io::ErrorKind::NotFound => format!("no host runs there: {shown} is missing; {REMEDY}"),
        _ => format!("{shown} cannot be read: {error}; run the command as the user that hotbay runs as"),
    })?;
    let wanted = bay.map(|bay| bay.canonicalize().unwrap_or_else(|_| bay.to_owned()));
    let of_bay = hosts.iter().filter(|host| wanted.as_ref().is_none_or(|wanted| host.bay == *wanted));
    // Whoever listens where a host has ended may be anybody, and must not be sent the token.
    let (alive, ended): (Vec<_>, Vec<_>) = of_bay.partition(|host| host.is_alive());
    let bays = || hosts.iter().map(|host| host.bay.display().to_string()).collect::<Vec<_>>().join(", ");
    match (alive.as_slice(), &wanted) {
        ([host], _) => Ok((*host).clone()),
        ([], _) if let [host, ..] = ended.as_slice() => Err(has_ended(host)),
        ([], Some(wanted)) => {
            let wanted = wanted.display();
            Err(format!("no host of the bay {wanted} runs there: {shown} names those of {}; {REMEDY}", bays()))
        }
        ([], None) => Err(format!("no host runs there: {shown} names none; {REMEDY}")),
        _ => Err(format!("several hosts share this state folder; name the bay of one with --bay: {}", bays())),
    }
}

fn token(state: &Path) -> Result<(String, String), String> {
    if let Ok(token) = env::var(TOKEN_VARIABLE) {
        return Ok((token.trim().to_owned(), format!("${TOKEN_VARIABLE}")));
    }
    let path = state.join(TOKEN_FILE);
    let shown = path.display().to_string();
    match fs::read_to_string(&path) {
        Ok(token) => Ok((token.trim().to_owned(), shown)),
        Err(error) => Err(format!(
            "the token {shown} cannot be read: {error}; run the command as the user that hotbay runs as, or set {TOKEN_VARIABLE}"
        )),
    }
}

impl Client {
    /// The host as it was found in the state folder.
    pub(super) fn found(&self) -> Option<&Address> {
        self.found.as_ref()
    }

    /// The address of the dashboard, and the same with the token in it: in the fragment, which no browser sends to anybody.
    pub(super) fn page(&self) -> (String, String) {
        let page = format!("http://{}/", self.address);
        let with_token = format!("{page}#token={}", self.token);
        (page, with_token)
    }

    /// The address of the dashboard with a ticket in it, for which its page gets the token: once, and within a minute.
    pub(super) fn page_with_ticket(&self) -> Result<String, String> {
        let request = self.request("POST", "/v1/tickets").body(()).map_err(|error| error.to_string())?;
        let mut response = self.answered(self.agent.run(request))?;
        let text = response.body_mut().read_to_string().map_err(|error| self.unreachable(&error))?;
        let made: Ticket = serde_json::from_str(&text).map_err(|error| self.not_understood(&error.to_string()))?;
        Ok(format!("http://{}/#ticket={}", self.address, made.ticket))
    }

    /// Asks, and returns the answer as it came beside what it means.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<(String, T), String> {
        let mut response = self.ask(&self.agent, path)?;
        let text = response.body_mut().read_to_string().map_err(|error| self.unreachable(&error))?;
        let value = serde_json::from_str(&text).map_err(|error| self.not_understood(&error.to_string()))?;
        Ok((text, value))
    }

    /// Asks, and returns the answer while it still comes.
    pub(super) fn open(&self, path: &str) -> Result<Stream, String> {
        Ok(io::BufReader::new(self.ask(&self.agent, path)?.into_body().into_reader()))
    }

    /// As [`Self::open`], of what the host makes whole before it sends it.
    pub(super) fn open_once_made(&self, path: &str) -> Result<Stream, String> {
        Ok(io::BufReader::new(self.ask(&agent(COPYING), path)?.into_body().into_reader()))
    }

    /// Has a profile taken, and waits for so many seconds and for what follows.
    pub(super) fn profile(&self, path: &str, seconds: u64) -> Result<Profiled, String> {
        let request = self.request("POST", path).body(()).map_err(|error| error.to_string())?;
        let agent = agent(SILENCE + Duration::from_secs(seconds));
        let mut response = self.answered(agent.run(request))?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("?").to_owned();
        let (samples, revision) = (header("x-hotbay-samples"), header("x-hotbay-revision"));
        let json = response.body_mut().with_config().limit(PROFILE_MAX).read_to_string();
        Ok(Profiled { json: json.map_err(|error| self.unreachable(&error))?, samples, revision })
    }

    /// Orders a change, waits for its end, and returns the answer as it came beside what it means. A change that the host refuses
    /// is such an answer.
    pub(super) fn order(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: SendBody<'_>,
    ) -> Result<(String, Result<Outcome, Problem>), String> {
        let mut request = self.request(method, path);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(body).map_err(|error| error.to_string())?;
        let mut response = agent(SWAP).run(request).map_err(|error| self.unreachable(&error))?;
        if response.status().as_u16() == 401 {
            return Err(self.token_refused());
        }
        let text = response.body_mut().read_to_string().map_err(|error| self.unreachable(&error))?;
        let meaning = match response.status().is_success() {
            true => serde_json::from_str(&text).map(Ok),
            false => serde_json::from_str(&text).map(Err),
        };
        let meaning = meaning.map_err(|error| self.not_understood(&format!("status {}: {error}", response.status())))?;
        Ok((text, meaning))
    }

    /// Orders a change that JSON describes.
    pub(super) fn order_json(&self, path: &str, body: &serde_json::Value) -> Result<(String, Result<Outcome, Problem>), String> {
        let body = body.to_string();
        let headers = [("content-type", "application/json".to_owned()), ("content-length", body.len().to_string())];
        self.order("POST", path, &headers, SendBody::from_reader(&mut body.as_bytes()))
    }

    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let url = format!("http://{}{path}", self.address);
        Request::builder().method(method).uri(url).header("authorization", format!("Bearer {}", self.token))
    }

    fn ask(&self, agent: &Agent, path: &str) -> Result<Response<Body>, String> {
        let request = self.request("GET", path).body(()).map_err(|error| error.to_string())?;
        self.answered(agent.run(request))
    }

    fn answered(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, String> {
        let mut response = answer.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        if response.status().as_u16() == 401 {
            return Err(self.token_refused());
        }
        let text = response.body_mut().read_to_string().unwrap_or_default();
        Err(match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => told(problem),
            Err(_) => self.not_understood(&format!("status {}", response.status())),
        })
    }

    fn token_refused(&self) -> String {
        format!(
            "the host at {} refuses the token of {}; name the state folder of that host with --state",
            self.address, self.token_source
        )
    }

    fn not_understood(&self, what: &str) -> String {
        format!(
            "the answer of {} is not understood: {what}; is that the admin listener of a hotbay of this version?",
            self.address
        )
    }

    fn unreachable(&self, error: &ureq::Error) -> String {
        let address = &self.address;
        match &self.found {
            Some(host) if !host.is_alive() => has_ended(host),
            Some(host) => format!("process {} does not answer at {address}: {error}; its log says more", host.pid),
            None => format!("no host answers at {address}: {error}; name the address that `hotbay serve` or `hotbay dev` prints"),
        }
    }
}

fn has_ended(host: &Address) -> String {
    format!(
        "no host answers at {}: process {} of the bay {} has ended; start it with `hotbay serve` or `hotbay dev`, or name it with \
         --admin if it runs in a container of its own",
        host.address,
        host.pid,
        host.bay.display()
    )
}

/// A problem as a person reads it.
pub(super) fn told(problem: Problem) -> String {
    match problem {
        Problem { detail, remedy: Some(remedy), .. } => format!("{detail}; {remedy}"),
        problem => problem.detail,
    }
}

/// `text` as one part of a path.
pub(super) fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
