//! From sources to builds: finds the services below a folder, builds them with the tools of their language, and puts them into
//! a bay. Knows neither arguments nor what is printed.
//!
//! [`Project::find`] says what is there, [`Workshop::build`] runs the tools and looks at what they made, and [`Built::place`] puts
//! it where a host sees it. Dropping the future of a build ends its processes.

mod build;
mod c;
mod child;
mod claim;
mod crate_name;
mod finding;
mod home;
mod javascript;
mod language;
mod listener;
mod machine;
mod need;
mod place;
mod project;
mod python;
mod recipe;
mod remark;
mod rust;
mod sdk;
mod seal;
mod template;
mod toolchain;
mod wit;

pub(crate) use build::{BuildFailure, Built, Effort, Line, Mode, Workshop};
pub(crate) use finding::{Finding, Standing};
pub(crate) use language::Language;
pub(crate) use machine::{bay as bay_findings, findings as machine_findings};
pub(crate) use need::Need;
pub(crate) use place::Placed;
pub(crate) use project::{Project, Search, is_made_by_tools};
pub(crate) use sdk::unpack as update_sdk;
pub(crate) use template::Template;
