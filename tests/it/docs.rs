//! The documentation, as it is tried: each command of the README and of the pages in docs/ is run, or listed with the reason why not.

mod expected;
mod links;
mod page;
mod terminal;

use anyhow::{Context, Result, ensure};
use page::Action;
use std::{
    fs,
    path::{Path, PathBuf},
};
use terminal::Terminals;

/// A test for each page that has commands, so that they run side by side.
macro_rules! pages {
    ($($test:ident $page:literal)*) => {
        const TRIED: &[&str] = &[$($page),*];
        $(
            #[tokio::test]
            async fn $test() -> Result<()> {
                run($page).await
            }
        )*
    };
}

pages! {
    readme "README.md"
    admin_api "docs/admin-api.md"
    building "docs/building.md"
    developing "docs/developing.md"
    errors_that_clients_see "docs/errors-that-clients-see.md"
    operating "docs/operating.md"
    routing "docs/routing.md"
    services "docs/services.md"
    shop "docs/shop.md"
    state "docs/state.md"
    swapping "docs/swapping.md"
    tutorial_c "docs/tutorial-c.md"
    tutorial_javascript "docs/tutorial-javascript.md"
    tutorial_python "docs/tutorial-python.md"
    tutorial_rust "docs/tutorial-rust.md"
}

/// Goes through a page as a reader would, in folders that are empty at its beginning.
async fn run(name: &str) -> Result<()> {
    let text = fs::read_to_string(root().join(name)).with_context(|| name.to_owned())?;
    let mut terminals = Terminals::new()?;
    for step in page::steps(&text).with_context(|| name.to_owned())? {
        let place = || format!("{name}:{}", step.line);
        match &step.action {
            Action::Run(typed) => terminals.enter(typed).await.with_context(place)?,
            Action::Write { path, text } => terminals.write(path, text).with_context(place)?,
            Action::Interrupt => terminals.close().await.with_context(place)?,
            Action::Skip { reason, commands } => println!("{} is not run, since it {reason}:\n{commands}", place()),
            Action::Need(command) => {
                if let Err(error) = terminals.try_out(command).await {
                    println!("{}: skipped from here on: {error:#}", place());
                    break;
                }
            }
        }
    }
    terminals.close().await.with_context(|| name.to_owned())
}

#[test]
fn every_page_with_commands_is_tried() -> Result<()> {
    for page in pages()? {
        let text = fs::read_to_string(root().join(&page))?;
        let is_public = page == Path::new("README.md") || page.starts_with("docs");
        let steps = if is_public { page::steps(&text).with_context(|| page.display().to_string())? } else { Vec::new() };
        let has_commands = steps.iter().any(|step| matches!(step.action, Action::Run(_)));
        let tried = TRIED.iter().any(|tried| page == Path::new(tried));
        ensure!(tried || !has_commands, "{}: its commands are run by no test; add it to `pages!`", page.display());
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every page that people read, from the root on.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages: Vec<_> = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "wit/README.md"].map(PathBuf::from).into();
    for entry in fs::read_dir(root().join("docs"))? {
        let path = Path::new("docs").join(entry?.file_name());
        if path.extension().is_some_and(|ending| ending == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(pages)
}
