//! The one immutable snapshot that maps requests to revisions.

use super::Serving;
use crate::{
    config::{HostPattern, Methods, RouteSpec, ServiceName, without_port},
    runtime::Revision,
};
use http::Method;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tracing::error;

/// What a route leads to.
pub struct Target {
    /// Who serves it.
    pub serving: Serving,
    /// Taken off the path before the guest sees it.
    pub strip: Option<Arc<str>>,
    methods: Methods,
}

/// What the table says of a request.
pub enum Found<'table> {
    /// A route.
    Hit(&'table Target),
    /// Routes for the path, none for the method: the methods that there are, for `Allow`.
    WrongMethod(String),
    /// No route.
    Nothing,
    /// No route, and the bay has not been read to its end yet.
    StillLoading,
}

/// Routes by host, each host's by path, each path's by method.
pub struct RouteTable {
    exact: HashMap<String, PathTable>,
    wildcard: HashMap<String, PathTable>,
    any: PathTable,
    named: Named,
    loading: bool,
}

/// For calls from service to service, which know names and no routes.
#[derive(Default)]
pub(super) struct Named {
    /// Who takes HTTP.
    pub(super) services: HashMap<ServiceName, Serving>,
    /// Who exports functions to other services.
    pub(super) providers: HashMap<ServiceName, Arc<Revision>>,
}

#[derive(Default)]
struct PathTable(matchit::Router<Vec<Target>>);

impl RouteTable {
    pub(super) fn empty() -> Self {
        Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            any: PathTable::default(),
            named: Named::default(),
            loading: true,
        }
    }

    /// Whether what is not there may still come.
    pub fn is_loading(&self) -> bool {
        self.loading
    }

    /// Builds the table; the routes have been checked for collisions.
    pub(super) fn build<'a>(routes: impl Iterator<Item = (&'a Serving, &'a RouteSpec)>, named: Named, loading: bool) -> Self {
        // One pattern may stand in several routes that differ in their methods; matchit takes each pattern once.
        let mut grouped: BTreeMap<(&HostPattern, &str), Vec<Target>> = BTreeMap::new();
        for (serving, route) in routes {
            let target = Target { serving: serving.clone(), strip: route.strip.clone(), methods: route.methods.clone() };
            grouped.entry((&route.host, route.path.normal())).or_default().push(target);
        }
        let mut table = Self { named, loading, ..Self::empty() };
        for ((host, path), targets) in grouped {
            let paths = match host {
                HostPattern::Any => &mut table.any,
                HostPattern::Exact(host) => table.exact.entry(host.clone()).or_default(),
                HostPattern::Wildcard(suffix) => table.wildcard.entry(suffix.clone()).or_default(),
            };
            // Collisions were refused before; what could not be inserted would be one.
            if let Err(error) = paths.0.insert(path, targets) {
                error!(route = path, %error, "a route that was let through does not fit into the route table and is left out");
            }
        }
        table
    }

    /// Who serves the service `name`, if there is one.
    pub fn service(&self, name: &ServiceName) -> Option<&Serving> {
        self.named.services.get(name)
    }

    /// The revision that gets calls of functions of the service `name`, if it exports any to other services.
    pub fn provider(&self, name: &ServiceName) -> Option<&Arc<Revision>> {
        self.named.providers.get(name)
    }

    /// Finds the target of a request. `host` may carry a port. The most particular host that has a route for the path decides;
    /// within a host, matchit's order: literal before parameter before rest.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Found<'_> {
        let host = without_port(host);
        let lower;
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            lower.as_str()
        } else {
            host
        };
        let wildcard = || self.wildcard.get(host.split_once('.')?.1);
        let layers = [self.exact.get(host), if self.wildcard.is_empty() { None } else { wildcard() }, Some(&self.any)];
        let mut allowed: Vec<&str> = Vec::new();
        for targets in layers.into_iter().flatten().filter_map(|paths| Some(paths.0.at(path).ok()?.value)) {
            if let Some(target) = targets.iter().find(|target| target.methods.contains(method)) {
                return Found::Hit(target);
            }
            allowed.extend(targets.iter().flat_map(|target| target.methods.names()));
        }
        match (allowed.is_empty(), self.loading) {
            (false, _) => {
                allowed.sort_unstable();
                allowed.dedup();
                Found::WrongMethod(allowed.join(", "))
            }
            (true, true) => Found::StillLoading,
            (true, false) => Found::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn services(list: &[(&str, &str)]) -> Vec<(Serving, Vec<RouteSpec>)> {
        let service = |(name, settings): &(&str, &str)| {
            let name = ServiceName::parse(name).unwrap();
            let routes = Settings::parse(&name, settings).unwrap().routes;
            (Serving::Down(name), routes)
        };
        list.iter().map(service).collect()
    }

    fn table(services: &[(Serving, Vec<RouteSpec>)]) -> RouteTable {
        let routes = services.iter().flat_map(|(serving, routes)| routes.iter().map(move |route| (serving, route)));
        RouteTable::build(routes, Named::default(), false)
    }

    fn hit(table: &RouteTable, host: &str, path: &str, method: Method) -> String {
        match table.find(host, path, &method) {
            Found::Hit(Target { serving: Serving::Down(name), strip, .. }) => {
                format!("{name} {}", strip.as_deref().unwrap_or("-"))
            }
            Found::Hit(_) => unreachable!("no revision in this test"),
            Found::WrongMethod(allow) => format!("405 {allow}"),
            Found::Nothing => "404".to_owned(),
            Found::StillLoading => "503".to_owned(),
        }
    }

    #[test]
    fn a_service_without_settings_answers_its_name() {
        let services = services(&[("hello", ""), ("hello-2", "")]);
        let table = table(&services);
        for path in ["/hello", "/hello/", "/hello/a/b", "/hello/%2e%2e"] {
            assert_eq!(hit(&table, "example.com", path, Method::GET), "hello /hello", "{path}");
        }
        assert_eq!(hit(&table, "Hello.LOCALHOST:8080", "/any/thing", Method::PUT), "hello -");
        assert_eq!(hit(&table, "x", "/hello-2", Method::GET), "hello-2 /hello-2");
        for path in ["/", "/hell", "/helloo", "/%68ello"] {
            assert_eq!(hit(&table, "x", path, Method::GET), "404", "{path}");
        }
    }

    #[test]
    fn the_nearer_host_and_path_win() {
        let services = services(&[
            ("a", "[[route]]\nhost = 'api.example.com'\npath = '/v/{id}'\nmethods = ['GET']"),
            ("b", "[[route]]\nhost = '*.example.com'\npath = '/v/{*rest}'"),
            ("c", "[[route]]\npath = '/v/one'\nmethods = ['GET', 'POST']\n[[route]]\npath = '/{*rest}'\nmethods = ['DELETE']"),
        ]);
        let table = table(&services);
        assert_eq!(hit(&table, "api.example.com", "/v/1", Method::GET), "a -");
        assert_eq!(hit(&table, "api.example.com", "/v/1", Method::HEAD), "a -");
        assert_eq!(hit(&table, "api.example.com", "/v/1", Method::PUT), "b -", "the next host that takes the method");
        assert_eq!(hit(&table, "www.example.com", "/v/1/2", Method::GET), "b -");
        assert_eq!(hit(&table, "a.b.example.com", "/v/one", Method::GET), "c -", "a wildcard takes one label");
        assert_eq!(hit(&table, "[::1]:80", "/v/one", Method::PUT), "405 GET, HEAD, POST");
        assert_eq!(hit(&table, "[::1]", "/w", Method::DELETE), "c -");
    }
}
