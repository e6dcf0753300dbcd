//! docs/security.md says what each import does and by what it is bounded; here the table is held against what the host links.

use anyhow::{Context, Result, ensure};
use hotbay_tests::host::{finish, hotbay};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// `wasi:cli/environment` and `0.2`: an interface and the versions of it that one implementation answers.
type Interface = (String, String);

/// Something in an interface that only a host that has it can give.
#[derive(Debug)]
enum Sign {
    Function(String),
    Resource(String),
}

#[tokio::test]
async fn the_table_of_imports_is_what_is_linked() -> Result<()> {
    let known = interfaces()?;
    ensure!(known.len() > 30, "the WIT packages were read: {known:?}");
    let folder = tempfile::tempdir()?;
    let mut files = BTreeMap::new();
    for (n, ((name, _), (version, sign))) in known.iter().enumerate() {
        let path = folder.path().join(format!("import-{n}.wasm"));
        fs::write(&path, importing(name, version, sign)?)?;
        files.insert(path, n);
    }
    let paths: Vec<_> = files.keys().map(|path| path.to_string_lossy().into_owned()).collect();
    let ended = finish(hotbay(["check".to_owned(), "--json".to_owned()].into_iter().chain(paths))).await;
    let told: Vec<Value> = serde_json::from_str(&ended.stdout).with_context(|| ended.stderr.clone())?;
    let mut linked = BTreeSet::new();
    for told in &told {
        let n = files.get(Path::new(told["file"].as_str().unwrap_or_default())).context("a file of ours")?;
        let (interface, (_, sign)) = known.iter().nth(*n).context("an interface")?;
        let reason = told["reason"].as_str().unwrap_or_default();
        ensure!(!reason.contains("no valid component"), "{interface:?} {sign:?}: {reason}");
        // A sign has no type here; where there is something of that name, the host says that its type is another.
        if !reason.contains("implementation is missing") && !reason.contains("does not offer") {
            linked.insert(interface.clone());
        }
    }
    let table = table()?;
    let missing: Vec<_> = linked.difference(&table).collect();
    let stale: Vec<_> = table.difference(&linked).collect();
    ensure!(missing.is_empty(), "linked, and not in the table of docs/security.md: {missing:?}");
    ensure!(stale.is_empty(), "in the table of docs/security.md, and not linked: {stale:?}");
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rows of the table: "| `wasi:cli/environment` | 0.2, 0.3 | … |".
fn table() -> Result<BTreeSet<Interface>> {
    let text = fs::read_to_string(root().join("docs/security.md"))?;
    let mut interfaces = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| `wasi:")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, names, versions, granted, bounded, _] = cells.as_slice() else {
            anyhow::bail!("a row has four cells: {line}");
        };
        ensure!(!granted.is_empty() && !bounded.is_empty(), "{line}");
        for name in names.split(", ") {
            for version in versions.split(", ") {
                interfaces.insert((name.trim_matches('`').to_owned(), version.trim_matches('`').to_owned()));
            }
        }
    }
    Ok(interfaces)
}

/// Every interface of the WIT packages that the engine's own crates and ours are made from, with its whole version and a sign of it.
fn interfaces() -> Result<BTreeMap<Interface, (String, Sign)>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // What only other systems need was not fetched.
    let system = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let arguments = ["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", &system];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let mut folders = vec![root().join("wit")];
    for package in metadata["packages"].as_array().context("packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        if ["wasmtime-wasi", "wasmtime-wasi-http", "wasmtime-wasi-config"].contains(&name) {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
            folders.push(manifest.parent().context("a folder")?.to_owned());
        }
    }
    let mut found = BTreeMap::new();
    for folder in folders {
        // A package may be in several files, of which one names it.
        let mut files = Vec::new();
        wit_files(&folder, &mut files)?;
        for file in files {
            let text = fs::read_to_string(&file)?;
            let beside = || {
                let mut texts =
                    fs::read_dir(file.parent()?).ok()?.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
                texts.find_map(|text| package(&text))
            };
            if let Some((package, version)) = package(&text).or_else(beside) {
                read(&text, &package, &version, &mut found);
            }
        }
    }
    Ok(found)
}

fn wit_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            wit_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "wit") {
            found.push(path);
        }
    }
    Ok(())
}

fn package(text: &str) -> Option<(String, String)> {
    let line = text.lines().find_map(|line| line.strip_prefix("package ")?.strip_suffix(';'))?;
    let (name, version) = line.split_once('@')?;
    name.starts_with("wasi:").then(|| (name.to_owned(), version.to_owned()))
}

fn read(text: &str, package: &str, version: &str, found: &mut BTreeMap<Interface, (String, Sign)>) {
    let mut inside: Option<String> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("interface ").and_then(|rest| rest.strip_suffix(" {")) {
            inside = Some(format!("{package}/{name}"));
        } else if line == "}" {
            inside = None;
        }
        // The first counts: that of a resource comes before its members.
        let (Some(name), item) = (&inside, line.trim_start()) else { continue };
        let sign = match item.strip_prefix("resource ") {
            Some(resource) => Some(Sign::Resource(resource.trim_end_matches([' ', '{', ';']).to_owned())),
            None => item
                .split_once(": ")
                .filter(|(name, ty)| {
                    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                        && ["func(", "async func("].iter().any(|func| ty.starts_with(func))
                })
                .map(|(name, _)| Sign::Function(name.to_owned())),
        };
        if let Some(sign) = sign {
            // One implementation answers all versions that are compatible; drafts are themselves.
            let line = match version.split('.').collect::<Vec<_>>().as_slice() {
                ["0", minor, patch] if patch.bytes().all(|byte| byte.is_ascii_digit()) => format!("0.{minor}"),
                _ => version.to_owned(),
            };
            found.entry((name.clone(), line)).or_insert((version.to_owned(), sign));
        }
    }
}

/// A library that imports the sign from the interface.
fn importing(name: &str, version: &str, sign: &Sign) -> Result<Vec<u8>> {
    let sign = match sign {
        Sign::Function(function) => format!("(export \"{function}\" (func))"),
        Sign::Resource(resource) => format!("(export \"{resource}\" (type (sub resource)))"),
    };
    // What uses a stream is for the engine that has WASI 0.3.
    let flavour = if version.starts_with("0.3.") { "(type (stream u8))" } else { "" };
    Ok(wat::parse_str(format!(
        "(component {flavour} (import \"{name}@{version}\" (instance {sign})) (component $lib) (instance $lib (instantiate $lib))
           (export \"fixture:stock/levels@1.0.0\" (instance $lib)))"
    ))?)
}
