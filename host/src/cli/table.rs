//! The table that `serve` prints once the bay has been read.

use hotbay::{
    config::{HostPattern, RouteSpec},
    deploy::Standing,
    runtime::Kind,
};
use std::{fmt::Write as _, net::SocketAddr};

/// Services, routes, and what was rejected with the reason and the remedy.
pub(super) fn services(standings: &[(String, Standing)], bound: SocketAddr) -> String {
    let mut text = String::new();
    let width = standings.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max("SERVICE".len());
    // Writing to a String does not fail.
    let _ = writeln!(text, "{:width$}  {:12}  ROUTES", "SERVICE", "REVISION");
    for (name, standing) in standings {
        let _ = match standing {
            Standing::Published { revision, kind, routes, instead_of } => {
                let routes = match kind {
                    Kind::Library => "none: a library for other services".to_owned(),
                    _ => shown(name, routes),
                };
                let _ = writeln!(text, "{name:width$}  {revision:12}  {routes}");
                let indent = " ".repeat(width + 2);
                instead_of.as_ref().map_or(Ok(()), |reject| {
                    writeln!(text, "{indent}last good     {}\n{indent}remedy        {}", reject.reason, reject.remedy)
                })
            }
            Standing::Rejected(reject) => {
                let indent = " ".repeat(width + 2);
                writeln!(text, "{:width$}  rejected      {}\n{indent}remedy        {}", name, reject.reason, reject.remedy)
            }
            Standing::Gone => Ok(()),
        };
    }
    let served = standings.iter().filter_map(|(name, standing)| match standing {
        Standing::Published { kind, routes, .. } if *kind != Kind::Library => Some((name, routes)),
        _ => None,
    });
    // A route that can be asked as it stands, where there is one.
    let plain = |(name, routes): &(&String, &Vec<RouteSpec>)| {
        are_default(name, routes)
            || routes
                .first()
                .is_some_and(|route| !route.path.written().contains('{') && route.methods.contains(&http::Method::GET))
    };
    let example = served.clone().find(plain).or_else(|| served.clone().next());
    let _ = match example {
        Some((name, routes)) => writeln!(text, "try: {}", request(name, routes, bound)),
        None if standings.is_empty() => writeln!(text, "no service yet: put a NAME.wasm into the bay"),
        None => writeln!(text, "no service yet: mend what was rejected, or put a NAME.wasm into the bay"),
    };
    text
}

/// Whether a service without routes in its settings would have these.
fn are_default(name: &str, routes: &[RouteSpec]) -> bool {
    let localhost = format!("{name}.localhost");
    routes.iter().any(|route| matches!(&route.host, HostPattern::Exact(host) if *host == localhost))
}

/// A request that the service answers.
pub(super) fn request(name: &str, routes: &[RouteSpec], bound: SocketAddr) -> String {
    match routes.first() {
        Some(route) if !are_default(name, routes) => {
            let path = route.path.written();
            match &route.host {
                HostPattern::Any => format!("curl http://{bound}{path}"),
                host => format!("curl -H 'host: {host}' http://{bound}{path}"),
            }
        }
        _ => format!("curl http://{bound}/{name}"),
    }
}

fn shown(name: &str, routes: &[RouteSpec]) -> String {
    if are_default(name, routes) {
        return format!("/{name}/…  and everything on {name}.localhost");
    }
    routes.iter().map(RouteSpec::to_string).collect::<Vec<_>>().join(", ")
}
