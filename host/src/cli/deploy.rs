//! `hotbay deploy`: a build on its way into the bay of a running host.

use super::{
    client::{Which, segment},
    outcome,
    progress::Progress,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Parser;
use hotbay::{config::BuildName, deploy::BUILD_MAX, runtime::Digest};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};
use ureq::SendBody;

/// Settings that go in a header with the build.
const SETTINGS_MAX: usize = 20 << 10;

#[derive(Parser)]
pub(super) struct Args {
    /// The build
    file: PathBuf,
    /// The service, or a labelled revision by NAME@LABEL [default: the file's name without its ending]
    #[arg(long)]
    name: Option<String>,
    /// Settings that are changed with the build [default: those that are there]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Do not wait for the end of the swap
    #[arg(long)]
    no_wait: bool,
    /// Print the API's JSON as it comes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Exit code 0 where the build serves, or was taken with `--no-wait`; 1 where not.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let name = name(args)?;
    let wasm = read(&args.file, BUILD_MAX)?;
    let digest = Digest::of(&wasm);
    let mut headers = vec![
        ("content-type", "application/wasm".to_owned()),
        ("content-length", wasm.len().to_string()),
        ("content-digest", format!("sha-256=:{}:", STANDARD.encode(digest.as_bytes()))),
        // So that a host that takes none of it says so before all of it was sent.
        ("expect", "100-continue".to_owned()),
    ];
    if let Some(path) = &args.settings {
        let text = read(path, u64::try_from(SETTINGS_MAX).unwrap_or(u64::MAX))?;
        headers.push(("x-hotbay-settings", STANDARD.encode(text)));
    }
    let client = Arc::new(args.which.client()?);
    let progress = if args.json { Progress::none() } else { Progress::of(&client, &name, &digest.short(), &wasm, !args.no_wait) };
    let mut body = progress.sending(io::Cursor::new(wasm));
    let path = format!("/v1/services/{}?wait={}", segment(&name.to_string()), !args.no_wait);
    let answer = client.order("PUT", &path, &headers, SendBody::from_reader(&mut body));
    progress.end();
    outcome::end(answer?, args.json)
}

fn name(args: &Args) -> Result<BuildName, String> {
    let text = match &args.name {
        Some(name) => name.clone(),
        None => args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    BuildName::parse(&text).map_err(|error| {
        format!("{error}; name the service with --name: 1 to 63 of a-z, 0-9 and -, without - at either end, and perhaps @LABEL")
    })
}

fn read(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| format!("{shown} cannot be read: {error}; name a file that is there");
    let found = fs::metadata(path).map_err(unreadable)?;
    if !found.is_file() {
        return Err(format!("{shown} is no regular file; name a file"));
    }
    if found.len() > max {
        return Err(format!("{shown} has {} bytes, {max} are taken; make it smaller", found.len()));
    }
    fs::read(path).map_err(unreadable)
}
