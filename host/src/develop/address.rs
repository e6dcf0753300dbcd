//! Where a service answers: its routes, and what one puts into a browser.

use crate::workshop::Project;
use hotbay::config::{HostPattern, RouteSpec, Settings, SettingsError};
use std::{fs, net::SocketAddr};

/// By the settings among the sources; those that cannot be read are told of when they are placed.
pub(super) fn of(project: &Project, bound: SocketAddr) -> String {
    let routes = routes(project);
    routes.first().map_or_else(|| format!("http://{bound}/{}", project.name()), |route| shown(route, bound))
}

/// Its settings among the sources; the defaults where there are none.
pub(super) fn settings(project: &Project) -> Result<Settings, SettingsError> {
    let text = project.settings().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    Settings::parse(project.name(), &text)
}

/// The routes that it will have, as far as its settings can be read.
pub(super) fn routes(project: &Project) -> Vec<RouteSpec> {
    let settings = settings(project).or_else(|_| Settings::parse(project.name(), ""));
    settings.map(|settings| settings.routes.to_vec()).unwrap_or_default()
}

/// What comes before the first parameter of a path is a path too.
fn shown(route: &RouteSpec, bound: SocketAddr) -> String {
    let path = route.path.written().split('{').next().unwrap_or("/");
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    match &route.host {
        HostPattern::Exact(host) => format!("http://{host}:{}{path}", bound.port()),
        _ => format!("http://{bound}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_can_be_put_into_a_browser() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("orders");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("hotbay-build.toml"), "command = \"true\"\noutput = \"out.wasm\"\n").unwrap();
        let project = Project::find(&[&dir]).unwrap().remove(0);
        for (settings, address) in [
            ("", "http://127.0.0.1:80/orders"),
            ("[[route]]\npath = \"/shop/{*rest}\"\n", "http://127.0.0.1:80/shop"),
            ("[[route]]\npath = \"/{*rest}\"\n", "http://127.0.0.1:80/"),
            ("[[route]]\nhost = \"a.localhost\"\npath = \"/x\"\n", "http://a.localhost:80/x"),
            ("half a thought", "http://127.0.0.1:80/orders"),
        ] {
            fs::write(dir.join("orders.toml"), settings).unwrap();
            assert_eq!(of(&project, ([127, 0, 0, 1], 80).into()), address, "{settings}");
        }
    }
}
