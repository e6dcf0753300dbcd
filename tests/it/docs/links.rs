//! Every link of the documentation leads to something that is there.

use super::root;
use anyhow::{Context, Result, ensure};
use std::{fs, path::Path};

#[test]
fn every_link_holds() -> Result<()> {
    let mut broken = Vec::new();
    for page in super::pages()? {
        let text = fs::read_to_string(root().join(&page))?;
        for target in targets(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let found = match path {
                "" => page.clone(),
                path => page.parent().unwrap_or(Path::new("")).join(path),
            };
            let holds = match fs::read_to_string(root().join(&found)) {
                _ if anchor.is_empty() => root().join(&found).exists(),
                Ok(text) => anchors(&text).iter().any(|known| known == anchor),
                Err(_) => false,
            };
            if !holds {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    Ok(())
}

/// Each page of docs/ is in its index: a page that nobody finds is none.
#[test]
fn the_index_has_every_page() -> Result<()> {
    let index = fs::read_to_string(root().join("docs/README.md")).context("docs/README.md")?;
    let listed: Vec<_> = targets(&index).collect();
    for page in super::pages()?.iter().filter(|page| page.starts_with("docs") && !page.ends_with("README.md")) {
        let name = page.file_name().unwrap_or_default().to_string_lossy();
        ensure!(listed.iter().any(|target| *target == name), "docs/README.md does not lead to {name}");
    }
    Ok(())
}

/// What the links of a page lead to, blocks of code left out.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let mut in_block = false;
    let prose = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !in_block && !fence
    });
    prose.flat_map(|line| line.split("](").skip(1).filter_map(|rest| rest.split(')').next()))
}

/// The names by which headings can be linked: small letters, hyphens for spaces, and of other signs only hyphens and underscores.
fn anchors(text: &str) -> Vec<String> {
    let mut in_block = false;
    let headings = text.lines().filter(|line| {
        in_block ^= line.trim_start().starts_with("```");
        !in_block && line.starts_with('#')
    });
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}
