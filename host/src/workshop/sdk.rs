//! The SDK for Rust as it lies in this binary, on its way into a service's folder: it is in no registry.

use super::wit::{self, WIT};
use include_dir::{Dir, include_dir};
use std::{fs, io, path::Path};
use toml_edit::{DocumentMut, InlineTable, Item, TableLike, Value};

/// Where a service has it, below its folder. The SDK finds the WIT beside itself.
pub(super) const FOLDER: &str = "vendor/hotbay-sdk";
const WIT_FOLDER: &str = "vendor/wit";

static SDK: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk");
/// Holds the versions that the SDK's own manifest refers to.
const WORKSPACE: &str = include_str!("../../../Cargo.toml");

const HEAD: &str = "# As it came with hotbay; `hotbay new --update-sdk` in the service's folder writes it anew.\n\n";

/// Writes the SDK and its WIT into the service's folder `service`, in place of what is there.
///
/// # Errors
/// The file that cannot be written.
pub(crate) fn unpack(service: &Path) -> io::Result<()> {
    let manifest = SDK.get_file("Cargo.toml").and_then(|file| file.contents_utf8()).unwrap_or_default();
    let manifest = standalone(manifest, WORKSPACE).map_err(io::Error::other)?;
    let folder = service.join(FOLDER);
    // Files that a later SDK no longer has must not stay.
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(sources) = SDK.get_dir("src") {
        wit::unpack(sources, &folder.join("src"))?;
    }
    fs::write(folder.join("Cargo.toml"), format!("{HEAD}{manifest}"))?;
    wit::unpack(&WIT, &service.join(WIT_FOLDER))
}

/// The manifest of a member of a workspace, as it reads without the workspace. Tests and lints are left out: they are the SDK's own.
fn standalone(member: &str, workspace: &str) -> Result<String, toml_edit::TomlError> {
    let (mut member, workspace): (DocumentMut, DocumentMut) = (member.parse()?, workspace.parse()?);
    let shared = |table: &str| workspace.get("workspace").and_then(|of| of.get(table)).and_then(Item::as_table_like);
    member.remove("lints");
    member.remove("dev-dependencies");
    if let (Some(package), Some(of)) = (member.get_mut("package").and_then(Item::as_table_like_mut), shared("package")) {
        each_inherited(package, |key, _| of.get(key).cloned());
    }
    let Some(of) = shared("dependencies") else {
        return Ok(member.to_string());
    };
    let inherit = |dependencies: Option<&mut Item>| {
        if let Some(dependencies) = dependencies.and_then(Item::as_table_like_mut) {
            each_inherited(dependencies, |key, own| Some(dependency(of.get(key)?, own)));
        }
    };
    inherit(member.get_mut("dependencies"));
    if let Some(targets) = member.get_mut("target").and_then(Item::as_table_like_mut) {
        for (_, target) in targets.iter_mut() {
            inherit(target.get_mut("dependencies"));
        }
    }
    Ok(member.to_string())
}

/// Puts what `value` says in place of each entry with `workspace = true`.
fn each_inherited(table: &mut dyn TableLike, value: impl Fn(&str, &dyn TableLike) -> Option<Item>) {
    for (key, item) in table.iter_mut() {
        let inherited = item
            .as_table_like()
            .filter(|own| own.get("workspace").and_then(Item::as_bool) == Some(true))
            .and_then(|own| value(key.get(), own));
        if let Some(inherited) = inherited {
            *item = inherited;
        }
    }
}

/// What the workspace says of a dependency, with what the member adds.
fn dependency(shared: &Item, own: &dyn TableLike) -> Item {
    let mut whole = InlineTable::new();
    if let Some(version) = shared.as_str() {
        whole.insert("version", version.into());
    }
    let entries = shared.as_table_like().into_iter().flat_map(TableLike::iter).chain(own.iter());
    for (key, item) in entries.filter(|(key, _)| *key != "workspace") {
        let Some(value) = item.as_value() else { continue };
        match (whole.get_mut(key), value) {
            // Features of both hold.
            (Some(Value::Array(all)), Value::Array(more)) => all.extend(more.iter().cloned()),
            _ => {
                whole.insert(key, value.clone());
            }
        }
    }
    whole.fmt();
    Item::Value(Value::InlineTable(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_stands_alone() {
        let member = "[package]\nname = \"x\"\nversion.workspace = true\n\n[dependencies]\na.workspace = true\nb = { workspace = true, \
                      features = [\"two\"], optional = true }\nc = \"3\"\n\n[target.'cfg(unix)'.dependencies]\na = { workspace = true \
                      }\n\n[dev-dependencies]\nd.workspace = true\n\n[lints]\nworkspace = true\n";
        let workspace = "[workspace.package]\nversion = \"1.2.3\"\n[workspace.dependencies]\na = \"1\"\nb = { version = \"2\", \
                         default-features = false, features = [\"one\"] }\nd = \"4\"\n";
        let alone = standalone(member, workspace).unwrap();
        let read: toml::Table = toml::from_str(&alone).unwrap();
        assert_eq!(read["package"]["version"].as_str(), Some("1.2.3"));
        assert_eq!(read["dependencies"]["a"]["version"].as_str(), Some("1"));
        let b = &read["dependencies"]["b"];
        assert_eq!(
            (b["version"].as_str(), b["optional"].as_bool(), b["default-features"].as_bool()),
            (Some("2"), Some(true), Some(false))
        );
        assert_eq!(b["features"].as_array().map(Vec::len), Some(2));
        assert_eq!(read["dependencies"]["c"].as_str(), Some("3"));
        assert_eq!(read["target"]["cfg(unix)"]["dependencies"]["a"]["version"].as_str(), Some("1"));
        assert!(!alone.contains("workspace") && !alone.contains("dev-dependencies") && !alone.contains("lints"), "{alone}");
    }

    /// The real one: nothing that only the workspace knows is left in it.
    #[test]
    fn the_sdk_stands_alone() {
        let manifest = SDK.get_file("Cargo.toml").and_then(|file| file.contents_utf8()).unwrap();
        let alone = standalone(manifest, WORKSPACE).unwrap();
        assert!(!alone.contains("workspace") && alone.contains("wstd"), "{alone}");
    }
}
