//! `hotbay doctor`: what this machine has for building and serving, and how to get what is missing.

use super::output::print;
use crate::workshop::{Finding, Language, Project, Standing, bay_findings, machine_findings};
use clap::Parser;
use serde::Serialize;
use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

#[derive(Parser)]
pub(super) struct Args {
    /// Folders with services: what their languages need must be here
    dirs: Vec<PathBuf>,
    /// A language whose needs must be here; several by commas, or given more than once
    #[arg(long, value_enum, value_name = "LANGUAGE", value_delimiter = ',')]
    lang: Vec<Language>,
    /// A bay to look at
    #[arg(long, value_name = "BAY")]
    bay: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// One heading with what belongs to it.
#[derive(Serialize)]
struct Section {
    name: String,
    /// Whether something that is missing here makes the exit code 1.
    needed: bool,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    sections: Vec<Section>,
}

/// Exit code 0 where everything that is needed is here, 1 where not. Needed is what was asked for: languages by `--lang`, those of
/// the services in the folders, the bay.
pub(super) fn run(args: &Args) -> Result<ExitCode, String> {
    let mut needed: BTreeSet<_> = args.lang.iter().copied().collect();
    if !args.dirs.is_empty() {
        let projects = Project::find(&args.dirs).map_err(|error| error.to_string())?;
        needed.extend(projects.iter().filter_map(Project::language));
    }
    // With some named, the others are of no interest.
    let looked_at: Vec<_> = Language::ALL.into_iter().filter(|language| needed.is_empty() || needed.contains(language)).collect();
    let mut sections: Vec<_> = looked_at
        .into_iter()
        .map(|language| Section {
            name: language.word().to_owned(),
            needed: needed.contains(&language),
            findings: language.needs().into_iter().map(Finding::from).collect(),
        })
        .collect();
    sections.push(Section { name: "host".to_owned(), needed: false, findings: machine_findings() });
    if let Some(bay) = &args.bay {
        sections.push(Section { name: "bay".to_owned(), needed: true, findings: bay_findings(bay) });
    }
    let ok = sections.iter().filter(|section| section.needed).all(Section::is_whole);
    let report = Report { ok, sections };
    if args.json {
        print(&(serde_json::to_string_pretty(&report).map_err(|error| error.to_string())? + "\n"))?;
    } else {
        print(&report.text())?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Section {
    fn is_whole(&self) -> bool {
        self.findings.iter().all(|finding| finding.standing != Standing::Missing)
    }
}

impl Report {
    fn text(&self) -> String {
        let width =
            self.sections.iter().flat_map(|section| &section.findings).map(|finding| finding.what.len()).max().unwrap_or(0);
        let mut text = String::new();
        for Section { name, findings, .. } in &self.sections {
            text += &format!("{name}\n");
            for Finding { what, standing, found, remedy } in findings {
                let word = match standing {
                    Standing::Ok => "ok",
                    Standing::Scarce => "scarce",
                    Standing::Missing => "missing",
                };
                text += format!("  {word:8} {what:width$}  {}", found.as_deref().unwrap_or_default()).trim_end();
                text += "\n";
                if let Some(remedy) = remedy {
                    text += &format!("           {remedy}\n");
                }
            }
        }
        text
    }
}
