//! The WIT of services, for languages whose tools read it: the service's own copy, or the one in this binary.

use super::{Project, home};
use include_dir::{Dir, include_dir};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What this host links against.
pub(super) static WIT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../wit");
/// The version of WASI in it. A host takes every 0.2.
const WASI: &str = "0.2.12";

/// The folder `wit` of the service; where it has none, this binary's, which is unpacked for all services of the user with the
/// version of WASI that the tool has.
pub(super) fn of(project: &Project, wasi: Option<&str>) -> io::Result<PathBuf> {
    let own = project.dir().join("wit");
    if own.is_dir() {
        return Ok(own);
    }
    let wasi = wasi.unwrap_or(WASI);
    let shared = home::cache()?.join("wit").join(format!("{}-wasi-{wasi}", env!("CARGO_PKG_VERSION")));
    write(&WIT, &shared, &|text| text.replace(WASI, wasi))?;
    Ok(shared)
}

/// Writes the files of `from` that differ from what is there.
pub(super) fn unpack(from: &Dir<'_>, to: &Path) -> io::Result<()> {
    write(from, to, &str::to_owned)
}

fn write(from: &Dir<'_>, to: &Path, reworded: &impl Fn(&str) -> String) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for folder in from.dirs() {
        write(folder, &to.join(folder.path().file_name().unwrap_or_default()), reworded)?;
    }
    for file in from.files() {
        let path = to.join(file.path().file_name().unwrap_or_default());
        let text = file.contents_utf8().map(reworded).unwrap_or_default();
        if !fs::read_to_string(&path).is_ok_and(|there| there == text) {
            // Another hotbay may be reading it.
            let draft = path.with_extension(format!("{}.new", std::process::id()));
            fs::write(&draft, text)?;
            fs::rename(&draft, &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_wasi_is_the_one_in_the_wit() {
        let text = WIT.get_file("service.wit").and_then(|file| file.contents_utf8()).unwrap();
        assert!(text.contains(&format!("wasi:http/proxy@{WASI};")), "{text}");
    }
}
