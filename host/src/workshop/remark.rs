//! What lies in a folder as if it were meant for a service and is not taken for it, each with the remedy: nothing is left out in silence.

use super::{Project, c, recipe};
use std::{fs, path::Path};

/// What the settings of a service have, and other files of this kind seldom do.
const OF_SETTINGS: [&str; 8] = ["route", "limits", "instances", "grants", "rollback", "probe", "cron", "traffic"];

/// Of a folder that is no service.
pub(super) fn of_folder(dir: &Path, remarks: &mut Vec<String>) {
    let shown = dir.display();
    if c::is_program(dir) {
        let folder = dir.file_name().unwrap_or_default().to_string_lossy();
        let rename = match settings_in(dir).as_slice() {
            [] => format!("put a {folder}.toml beside it, which may be empty"),
            [other, ..] => format!("rename its {other} to {folder}.toml"),
        };
        remarks.push(format!(
            "{shown} holds a main.c and is left out, since nothing says that it is a service; if it is one, {rename}"
        ));
    } else if dir.join(recipe::FILE).is_file() {
        remarks.push(format!(
            "{shown} holds a {} and is left out, since nothing there can be built; set `language`, or `command` and `output`, in it",
            recipe::FILE
        ));
    }
}

/// Of the folder of a service: settings that bear another name than it.
pub(super) fn of_service(project: &Project, remarks: &mut Vec<String>) {
    if project.settings().is_some() {
        return;
    }
    let (dir, name) = (project.dir(), project.name());
    for other in settings_in(dir) {
        remarks.push(format!(
            "{}/{other} is not read: the settings of the service {name} stand in {name}.toml, and without it the defaults hold; \
             rename {other} to {name}.toml",
            dir.display()
        ));
    }
}

/// Files of this folder that can be nothing but the settings of a service.
fn settings_in(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_settings = |name: &String| {
        let text = if name.ends_with(".toml") { fs::read_to_string(dir.join(name)).ok() } else { None };
        let table = text.and_then(|text| text.parse::<toml::Table>().ok());
        table.is_some_and(|table| OF_SETTINGS.iter().any(|key| table.contains_key(*key)))
    };
    let mut found: Vec<_> = names.filter(is_settings).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_are_taken_for_settings() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.toml", "[limits]\nmemory = \"8MiB\"\n"),
            ("a.toml", "[[route]]\npath = \"/a\"\n"),
            ("pyproject.toml", "[project]\nname = \"x\"\n"),
            ("empty.toml", ""),
            ("broken.toml", "[limits"),
            ("notes.md", "[limits]\n"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(settings_in(folder.path()), ["a.toml", "b.toml"]);
    }
}
