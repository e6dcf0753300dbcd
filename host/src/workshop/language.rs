//! The languages that services are written in, and what each says of itself.

use super::{c, javascript, need::Need, python, recipe::Recipe, rust};
use std::{fmt, path::Path};

/// A language whose tools are known here. A file for each says how a folder of it is recognised, how it is built, and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub(crate) enum Language {
    /// A crate, built by cargo for wasm32-wasip2 or wasm32-wasip1.
    Rust,
    /// `app.py`, made a component by componentize-py.
    Python,
    /// A package that depends on componentize-js.
    JavaScript,
    /// A command of WASI preview 1, compiled by clang.
    C,
}

impl Language {
    /// All of them, in the order in which people are asked.
    pub(crate) const ALL: [Self; 4] = [Self::Rust, Self::Python, Self::JavaScript, Self::C];

    /// As it is written on the command line and in `hotbay-build.toml`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::C => "c",
        }
    }

    /// The language of the service in this folder, if it holds one.
    pub(super) fn of(dir: &Path, recipe: &Recipe) -> Option<Self> {
        let recognised = |language: &Self| match language {
            Self::Rust => rust::recognises(dir),
            Self::Python => python::recognises(dir),
            Self::JavaScript => javascript::recognises(dir),
            Self::C => c::recognises(dir, recipe),
        };
        recipe.language.or_else(|| Self::ALL.into_iter().find(recognised))
    }

    /// What has to be installed to build it, each with what was found. Runs the tools for their versions.
    pub(crate) fn needs(self) -> Vec<Need> {
        match self {
            Self::Rust => rust::needs(),
            Self::Python => python::needs(),
            Self::JavaScript => javascript::needs(),
            Self::C => c::needs(),
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::JavaScript => "JavaScript",
            Self::C => "C",
        })
    }
}
