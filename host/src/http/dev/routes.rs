//! The routes that there are, for whoever asked for one that there is not: the nearest first.

use crate::config::{HostPattern, RouteSpec, without_port};
use std::collections::BTreeSet;

/// Routes that are shown.
const SHOWN_MAX: usize = 20;

/// The routes nearest to what was asked for, as people write them. `/orders` stands for `/orders/` and `/orders/{*rest}` too.
pub(super) fn nearest(routes: &[RouteSpec], host: &str, path: &str) -> Vec<String> {
    let host = without_port(host).to_ascii_lowercase();
    let mut ranked: Vec<_> = routes.iter().map(|route| (likeness(route, &host, path), route)).collect();
    // Stable, so that what is equally near stays in the order of the services.
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let written: BTreeSet<String> = routes.iter().map(ToString::to_string).collect();
    let is_said = |route: &String| {
        let base = match route.rsplit_once("{*") {
            Some((base, _)) => base,
            None => route.as_str(),
        };
        let bare = base.strip_suffix('/').unwrap_or(base);
        (base != route && written.contains(base)) || (bare != route && written.contains(bare))
    };
    ranked.into_iter().map(|(_, route)| route.to_string()).filter(|route| !is_said(route)).take(SHOWN_MAX).collect()
}

/// How near a route is: whole segments that are the same count most, then how alike the next ones are, then the host.
fn likeness(route: &RouteSpec, host: &str, path: &str) -> f64 {
    let mut asked = path.split('/').skip(1);
    let mut near = 0.0;
    for segment in route.path.written().split('/').skip(1) {
        let Some(other) = asked.next() else { break };
        if segment.starts_with('{') {
            near += 0.5;
        } else {
            let alike = strsim::jaro_winkler(segment, other);
            near += alike;
            if alike < 1.0 {
                break;
            }
        }
    }
    near + match &route.host {
        HostPattern::Any => 0.1,
        HostPattern::Exact(name) => 0.2 * strsim::jaro_winkler(name, host),
        HostPattern::Wildcard(suffix) if host.ends_with(suffix.as_str()) => 0.2,
        HostPattern::Wildcard(_) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ServiceName, Settings};

    fn routes(services: &[(&str, &str)]) -> Vec<RouteSpec> {
        let of = |(name, settings): &(&str, &str)| Settings::parse(&ServiceName::parse(name).unwrap(), settings).unwrap().routes;
        services.iter().flat_map(of).collect()
    }

    #[test]
    fn what_was_meant_comes_first() {
        let shop = routes(&[("pricing", ""), ("stock", ""), ("orders", "")]);
        for (asked, meant) in [("/order/7", "/orders"), ("/Stock", "/stock"), ("/pricng", "/pricing")] {
            assert_eq!(nearest(&shop, "localhost:8080", asked)[0], meant, "{asked}");
        }
        let hosts = routes(&[
            ("a", "[[route]]\nhost = 'api.example.com'\npath = '/v1/users/{id}'\n[[route]]\npath = '/v1/groups'"),
            ("b", "[[route]]\nhost = 'www.example.com'\npath = '/v1/users/{id}'"),
        ]);
        assert_eq!(nearest(&hosts, "www.exmple.com", "/v1/user/7")[0], "www.example.com/v1/users/{id}");
        assert_eq!(nearest(&routes(&[("orders", "")]), "x", "/order"), ["/orders", "orders.localhost/"]);
        let many = routes(&(0..100).map(|_| ("a", "[[route]]\npath = '/{*rest}'")).collect::<Vec<_>>());
        assert_eq!(nearest(&many, "x", "/").len(), SHOWN_MAX);
    }
}
