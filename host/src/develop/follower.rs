//! What a save calls for: which services are built, whose settings are placed, and whether services came or went.

use super::tree::Difference;
use crate::workshop::Project;
use hotbay::config::ServiceName;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The services that are followed.
pub(super) type Projects = BTreeMap<ServiceName, Project>;

/// Files that came while a build of their service ran.
pub(super) type Late = BTreeMap<ServiceName, BTreeSet<PathBuf>>;

/// What tools write beside the sources while they build.
const LOCKS: [&str; 2] = ["Cargo.lock", "package-lock.json"];

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    /// Services to be built, each with what was saved.
    pub(super) builds: BTreeMap<ServiceName, BTreeSet<PathBuf>>,
    /// Services whose settings were saved.
    pub(super) settings: BTreeSet<ServiceName>,
    /// Whether services may have come, gone, or become others.
    pub(super) search: bool,
}

impl Calls {
    /// Leaves out builds that are called for by nothing but what a build that runs has written itself.
    pub(super) fn leave_out_own_locks(&mut self, runs: impl Fn(&ServiceName) -> bool) {
        let is_lock = |path: &PathBuf| path.file_name().is_some_and(|name| LOCKS.iter().any(|lock| name == *lock));
        self.builds.retain(|name, files| !runs(name) || !files.iter().all(is_lock));
    }

    /// Puts off builds for files that come while a build of their service runs, as what it writes beside the sources and takes away
    /// again: whether they stay is seen at its end. `late` are those that were put off before.
    pub(super) fn put_off(&mut self, new: &BTreeSet<PathBuf>, runs: impl Fn(&ServiceName) -> bool, late: &mut Late) {
        self.builds.retain(|name, files| {
            if !runs(name) {
                return true;
            }
            let late = late.entry(name.clone()).or_default();
            files.retain(|file| {
                let is_late = late.contains(file) || new.contains(file);
                if is_late {
                    late.insert(file.clone());
                }
                !is_late
            });
            !files.is_empty()
        });
    }
}

/// Where the tools of this service write while they build.
pub(super) fn locks(project: &Project) -> impl Iterator<Item = PathBuf> {
    LOCKS.iter().map(|lock| project.dir().join(lock))
}

/// Decides by what is other than before.
pub(super) fn decide(projects: &Projects, difference: &Difference) -> Calls {
    let mut calls = Calls::default();
    for path in &difference.files {
        // What says that a folder holds a service lies in that very folder.
        calls.search |= !projects.values().any(|project| is_deep(project, path));
        for (name, project) in projects {
            if is_settings(project, path) {
                calls.settings.insert(name.clone());
            } else if project.concerns(path) {
                calls.builds.entry(name.clone()).or_default().insert(path.clone());
            }
        }
    }
    let mut folders = difference.new_folders.iter().chain(&difference.gone_folders);
    calls.search |= folders.any(|folder| !projects.values().any(|project| is_inside(project, folder)));
    calls
}

/// Services that came, and those that went or lie in another folder now.
pub(super) fn compare(before: &Projects, now: &Projects) -> (BTreeSet<ServiceName>, BTreeSet<ServiceName>) {
    let is_same = |name: &ServiceName, project: &Project, other: &Projects| {
        other.get(name).is_some_and(|known| known.dir() == project.dir())
    };
    let missing = |of: &Projects, other: &Projects| -> BTreeSet<ServiceName> {
        of.iter().filter(|(name, project)| !is_same(name, project, other)).map(|(name, _)| name.clone()).collect()
    };
    (missing(now, before), missing(before, now))
}

/// Services whose folder is there and cannot be made out any more, as with a typing error in what says how it is built. One that is
/// called otherwise now is not among them.
pub(super) fn broken(before: &Projects, now: &Projects) -> Projects {
    let is_broken = |(name, project): &(&ServiceName, &Project)| {
        !now.contains_key(*name) && project.dir().is_dir() && now.values().all(|other| other.dir() != project.dir())
    };
    before.iter().filter(is_broken).map(|(name, project)| (name.clone(), project.clone())).collect()
}

/// The files that were saved, as people call them.
pub(super) fn in_words(project: &Project, saved: &BTreeSet<PathBuf>) -> String {
    let Some(first) = saved.first() else { return "build".to_owned() };
    let shown = first.strip_prefix(project.dir()).unwrap_or(first).display();
    match saved.len() {
        1 => shown.to_string(),
        more => format!("{shown} and {} more", more - 1),
    }
}

fn is_settings(project: &Project, path: &Path) -> bool {
    path == project.dir().join(format!("{}.toml", project.name()))
}

fn is_inside(project: &Project, path: &Path) -> bool {
    path != project.dir() && path.starts_with(project.dir())
}

fn is_deep(project: &Project, path: &Path) -> bool {
    path.parent().is_some_and(|folder| is_inside(project, folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn service(folder: &Path, name: &str) {
        let dir = folder.join(name);
        fs::create_dir_all(dir.join("src")).unwrap();
        fs::write(dir.join("hotbay-build.toml"), "command = \"true\"\noutput = \"out.wasm\"\n").unwrap();
    }

    fn projects(folder: &Path) -> Projects {
        let found = Project::find(&[folder]).unwrap();
        found.into_iter().map(|project| (project.name().clone(), project)).collect()
    }

    fn found_now(folder: &Path) -> Projects {
        Project::search(&[folder]).projects.into_iter().map(|project| (project.name().clone(), project)).collect()
    }

    fn shop() -> (tempfile::TempDir, PathBuf, Projects) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        service(&root, "orders");
        service(&root, "stock");
        let projects = projects(&root);
        (folder, root, projects)
    }

    fn saved(paths: &[PathBuf]) -> Difference {
        Difference { files: paths.iter().cloned().collect(), ..Difference::default() }
    }

    fn names<'a>(names: impl IntoIterator<Item = &'a ServiceName>) -> Vec<String> {
        names.into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_save_calls_for_the_service_that_it_belongs_to() {
        let (_folder, root, projects) = shop();
        let calls = decide(&projects, &saved(&[root.join("orders/src/main.c"), root.join("orders/src/b.c")]));
        assert_eq!((names(calls.builds.keys()), calls.settings.len(), calls.search), (vec!["orders".to_owned()], 0, false));
        let orders = &projects[&ServiceName::parse("orders").unwrap()];
        assert_eq!(in_words(orders, calls.builds.values().next().unwrap()), "src/b.c and 1 more");
        let calls = decide(&projects, &saved(&[root.join("orders/out.wasm")]));
        assert_eq!(calls.builds.len(), 0, "what a build makes calls for none");
    }

    #[test]
    fn what_a_build_locks_while_it_runs_calls_for_no_other() {
        let (_folder, root, projects) = shop();
        let runs = |name: &ServiceName| name.as_str() == "orders";
        let calls = |files: &[&str]| {
            let mut calls = decide(&projects, &saved(&files.iter().map(|file| root.join(file)).collect::<Vec<_>>()));
            calls.leave_out_own_locks(runs);
            names(calls.builds.keys())
        };
        assert_eq!(calls(&["orders/Cargo.lock", "orders/package-lock.json", "stock/Cargo.lock"]), ["stock"]);
        assert_eq!(calls(&["orders/Cargo.lock", "orders/src/main.c"]), ["orders"]);
    }

    #[test]
    fn what_comes_while_a_build_runs_is_put_off() {
        let (_folder, root, projects) = shop();
        let (made, source) = (root.join("orders/out.new"), root.join("orders/src/main.c"));
        let mut late = Late::new();
        let mut calls = |files: &[&PathBuf], new: &[&PathBuf], runs: bool| {
            let paths: Vec<_> = files.iter().map(|file| (*file).clone()).collect();
            let mut calls = decide(&projects, &saved(&paths));
            calls.put_off(&new.iter().map(|file| (*file).clone()).collect(), |_| runs, &mut late);
            calls.builds.into_values().flatten().collect::<Vec<_>>()
        };
        assert!(calls(&[&made], &[&made], true).is_empty());
        assert!(calls(&[&made], &[], true).is_empty(), "it goes, or is written on");
        assert_eq!(calls(&[&made, &source], &[], true), std::slice::from_ref(&source), "a save is a save");
        assert_eq!(calls(&[&made], &[&made], false), std::slice::from_ref(&made));
        assert_eq!(late.into_values().flatten().collect::<Vec<_>>(), [made]);
    }

    #[test]
    fn a_service_goes_with_its_folder_and_not_by_a_typing_error() {
        let (_folder, root, before) = shop();
        let recipe = root.join("orders/hotbay-build.toml");
        let text = fs::read_to_string(&recipe).unwrap();
        for wrong in ["comand = \"true\"\n", ""] {
            fs::write(&recipe, wrong).unwrap();
            assert_eq!(names(broken(&before, &found_now(&root)).keys()), ["orders"], "{wrong}");
        }
        fs::remove_file(&recipe).unwrap();
        assert_eq!(names(broken(&before, &found_now(&root)).keys()), ["orders"]);
        fs::write(&recipe, format!("name = \"buys\"\n{text}")).unwrap();
        assert!(broken(&before, &found_now(&root)).is_empty(), "it is called otherwise");
        fs::remove_dir_all(root.join("orders")).unwrap();
        assert!(broken(&before, &found_now(&root)).is_empty(), "it is gone");
    }

    #[test]
    fn settings_call_for_no_build() {
        let (_folder, root, projects) = shop();
        let calls = decide(&projects, &saved(&[root.join("stock/stock.toml")]));
        assert_eq!((names(&calls.settings), calls.builds.len()), (vec!["stock".to_owned()], 0));
    }

    #[test]
    fn services_come_go_and_move() {
        let (_folder, root, before) = shop();
        service(&root, "prices");
        let came = Difference { new_folders: [root.join("prices"), root.join("prices/src")].into(), ..Difference::default() };
        assert!(decide(&before, &came).search);
        fs::remove_dir_all(root.join("stock")).unwrap();
        let went = Difference { gone_folders: [root.join("stock")].into(), ..Difference::default() };
        assert!(decide(&before, &went).search);
        let moved = root.join("old").join("orders");
        fs::create_dir(root.join("old")).unwrap();
        fs::rename(root.join("orders"), &moved).unwrap();
        let (came, went) = compare(&before, &projects(&root));
        assert_eq!(
            (names(&came), names(&went)),
            (vec!["orders".to_owned(), "prices".to_owned()], vec!["orders".to_owned(), "stock".to_owned()])
        );
        // A new folder of modules is none of a service.
        let module = Difference { new_folders: [root.join("orders/src/parts")].into(), ..Difference::default() };
        assert!(!decide(&before, &module).search);
        assert!(decide(&before, &saved(&[root.join("orders/hotbay-build.toml")])).search, "it may be called otherwise now");
    }
}
