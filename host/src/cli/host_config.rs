//! The host's settings as commands get them: from `--config`, or the defaults.

use hotbay::config::HostConfig;
use std::{fs, path::Path};

/// Reads the file that was named; without one the defaults hold.
pub(super) fn read(path: Option<&Path>) -> Result<HostConfig, String> {
    let Some(path) = path else {
        return Ok(HostConfig::default());
    };
    let shown = path.display();
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(format!("{shown} is no regular file; name a file of settings with --config"));
    }
    let text = fs::read_to_string(path)
        .map_err(|error| format!("{shown} cannot be read: {error}; name a file that is there with --config, or leave it out"))?;
    HostConfig::parse(&text).map_err(|error| format!("{shown} {error}; {}", error.remedy))
}
