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
            Standing::Published(revision) => {
                let short = revision.digest().short();
                let routes = match revision.kind() {
                    Kind::Library => "none: a library for other services".to_owned(),
                    _ => routes(name, &revision.settings().routes),
                };
                writeln!(text, "{name:width$}  {short:12}  {routes}")
            }
            Standing::Rejected(reject) => {
                let indent = " ".repeat(width + 2);
                writeln!(text, "{:width$}  rejected      {}\n{indent}remedy        {}", name, reject.reason, reject.remedy)
            }
            Standing::Gone => Ok(()),
        };
    }
    let example = standings.iter().find_map(|(name, standing)| match standing {
        Standing::Published(revision) if revision.kind() != Kind::Library => Some(name),
        _ => None,
    });
    let _ = match example {
        Some(name) => writeln!(text, "try: curl -H 'host: {name}.localhost' http://{bound}/"),
        None => writeln!(text, "no service yet: put a NAME.wasm into the bay"),
    };
    text
}

fn routes(name: &str, routes: &[RouteSpec]) -> String {
    let localhost = format!("{name}.localhost");
    let default = routes.iter().any(|route| matches!(&route.host, HostPattern::Exact(host) if *host == localhost));
    if default {
        return format!("/{name}/…  and everything on {localhost}");
    }
    routes.iter().map(RouteSpec::to_string).collect::<Vec<_>>().join(", ")
}
