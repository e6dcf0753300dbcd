//! The layout of the host: which module may name which, and which crates. Read from the sources.

use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What each module of the host may name, from the top down. `lib.rs` and the binary stand above and may name all of them.
const MODULES: [(&str, &[&str]); 19] = [
    // Of the binary, like `cli`: they name the host as a crate.
    ("develop", &["browser", "workshop"]),
    ("browser", &[]),
    ("workshop", &[]),
    ("admin", &["cron", "deploy", "registry", "runtime", "config", "shutdown", "state", "telemetry"]),
    ("http", &["dispatch", "registry", "runtime", "config", "hop_by_hop", "shutdown", "telemetry"]),
    ("cron", &["dispatch", "registry", "config", "shutdown", "state", "telemetry"]),
    ("dispatch", &["registry", "runtime", "config", "hop_by_hop", "telemetry"]),
    ("deploy", &["registry", "runtime", "config", "fault_point", "shutdown", "state", "telemetry"]),
    ("handover", &["shutdown", "state"]),
    ("registry", &["runtime", "config"]),
    ("runtime", &["capabilities", "config", "state", "telemetry"]),
    ("capabilities", &["config", "hop_by_hop", "state", "telemetry"]),
    ("config", &[]),
    ("telemetry", &[]),
    ("fault_point", &[]),
    ("fuzz", &["admin", "registry", "runtime", "config"]),
    ("hop_by_hop", &[]),
    ("shutdown", &[]),
    ("state", &["fault_point"]),
];

/// Crates that only some modules may name, so that the rest reads like a host and not like a binding.
const CRATES: [(&str, &[&str]); 8] = [
    ("hyper", &["http", "admin", "capabilities"]),
    ("axum", &["admin"]),
    ("wasmtime", &["runtime", "capabilities"]),
    ("wasmparser", &["runtime"]),
    ("notify", &["deploy", "develop"]),
    ("croner", &["config"]),
    ("jiff", &["config", "develop"]),
    ("clap", &["main", "cli", "telemetry", "workshop"]),
];

/// From here on a file holds more than one noun.
const LINES_MAX: usize = 500;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "manager", "misc"];

#[test]
fn dependencies_point_one_way() -> Result<()> {
    for source in sources()? {
        if ["lib", "main", "cli"].contains(&source.module.as_str()) {
            continue;
        }
        let listed = MODULES.iter().find(|(module, _)| source.module == *module);
        let (_, below) =
            listed.with_context(|| format!("{}: a module that this test does not know; give it its place", source.path))?;
        for named in source.modules_named() {
            let inside = named == source.module || below.contains(&named.as_str());
            ensure!(inside, "{}: `{}` must not name `crate::{named}`; it may name {below:?}", source.path, source.module);
        }
    }
    Ok(())
}

#[test]
fn some_crates_have_one_home() -> Result<()> {
    for source in sources()? {
        for named in source.crates_named() {
            for (family, homes) in CRATES {
                let belongs = named == family || named.strip_prefix(family).is_some_and(|rest| rest.starts_with('_'));
                let at_home = homes.contains(&source.module.as_str());
                ensure!(!belongs || at_home, "{}: only {homes:?} may name `{named}`", source.path);
            }
        }
    }
    Ok(())
}

#[test]
fn every_file_is_one_noun_and_says_what_it_owns() -> Result<()> {
    for source in sources()? {
        let lines = source.text.lines().count();
        ensure!(lines < LINES_MAX, "{} has {lines} lines; split it before {LINES_MAX}", source.path);
        ensure!(source.text.starts_with("//! "), "{}: the first line must say what the file owns (`//! …`)", source.path);
        let stem = Path::new(&source.path).file_stem().unwrap_or_default().to_string_lossy();
        ensure!(!EMPTY_NAMES.contains(&stem.as_ref()), "{}: the name says nothing; call it by its noun", source.path);
    }
    Ok(())
}

/// What is written as a place to be filled later is filled before anybody reads it.
#[test]
fn documents_hold_no_placeholders() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files: Vec<_> = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|file| root.join(file)).into();
    for entry in fs::read_dir(root.join("docs"))? {
        files.push(entry?.path());
    }
    for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "md")) {
        for (number, line) in (1..).zip(fs::read_to_string(file)?.lines()) {
            let bare = line.trim();
            let is_word = bare.len() > 2 && bare.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            let marked = ["TODO", "TBD", "FIXME", "XXX"].iter().any(|mark| line.contains(mark));
            ensure!(!is_word && !marked, "{}:{number}: a place that waits to be filled: {line}", file.display());
        }
    }
    Ok(())
}

/// The test would hold anything if its reading of the sources missed what they name.
#[test]
fn the_reading_of_sources_finds_what_is_named() {
    let text = "//! Says crate::doc.\nuse crate::{\n    a::{B, c::D},\n    e::F,\n};\nuse wasmtime::component;\nfn f() {\n    \
                // crate::comment\n    crate::g::h(hyper_util::rt(), x::crate_like());\n}\n";
    let source = Source { path: String::new(), module: String::new(), text: text.to_owned() };
    assert_eq!(source.modules_named().into_iter().collect::<Vec<_>>(), ["a", "e", "g"]);
    let crates = source.crates_named();
    assert!(crates.contains("wasmtime") && crates.contains("hyper_util") && !crates.contains("component"), "{crates:?}");
}

/// One file of the host.
struct Source {
    /// From `host/src` on.
    path: String,
    /// The module directly below the crate that it belongs to.
    module: String,
    text: String,
}

impl Source {
    /// The text without the lines that are comments: they may name what they explain.
    fn code(&self) -> String {
        self.text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    }

    /// The modules directly below the crate that the code names, alone or in a list in braces.
    fn modules_named(&self) -> BTreeSet<String> {
        let code = self.code();
        let mut named = BTreeSet::new();
        for (position, head) in code.match_indices("crate::") {
            let (before, after) = code.split_at(position);
            if before.ends_with(is_of_identifier) {
                continue;
            }
            let after = after.get(head.len()..).unwrap_or_default();
            match after.strip_prefix('{') {
                Some(list) => named.extend(first_names(list)),
                None => named.extend(first_name(after)),
            }
        }
        named
    }

    /// What paths in the code begin with: crates, among modules and types.
    fn crates_named(&self) -> BTreeSet<String> {
        let code = self.code();
        let heads = code.match_indices("::").filter_map(|(position, _)| {
            let before = code.get(..position)?;
            let head = before.get(before.trim_end_matches(is_of_identifier).len()..)?;
            let inner = before.strip_suffix(head)?.ends_with("::");
            (!inner && !head.is_empty()).then(|| head.to_owned())
        });
        heads.collect()
    }
}

fn is_of_identifier(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn first_name(path: &str) -> Option<String> {
    let name: String = path.trim_start().chars().take_while(|c| is_of_identifier(*c)).collect();
    // `crate::Name` is an item of lib.rs itself.
    name.starts_with(|c: char| c.is_ascii_lowercase()).then_some(name)
}

/// The first name of each path in the list that ends with the brace that closes it.
fn first_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut start) = (0_usize, Vec::new(), 0);
    for (position, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.extend(list.get(start..position).and_then(first_name));
                start = position + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn sources() -> Result<Vec<Source>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("host").join("src");
    let (mut folders, mut sources) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                sources.push(read(&root, &path)?);
            }
        }
    }
    ensure!(sources.len() > MODULES.len(), "only {} files in {}", sources.len(), root.display());
    Ok(sources)
}

fn read(root: &Path, path: &Path) -> Result<Source> {
    let inside: PathBuf = path.strip_prefix(root)?.to_owned();
    let first = inside.components().next().context("a path without parts")?;
    let module = Path::new(&first).with_extension("").display().to_string();
    Ok(Source { path: inside.display().to_string(), module, text: fs::read_to_string(path)? })
}
