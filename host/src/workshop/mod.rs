//! From sources to builds: finds the services below a folder, builds them with the tools of their language, and puts them into
//! a bay. Knows neither arguments nor what is printed.
//!
//! [`Project::find`] says what is there, [`Workshop::build`] runs the tools and looks at what they made, and [`Built::place`] puts
//! it where a host sees it. Dropping the future of a build ends its processes.

mod build;
mod c;
mod child;
mod home;
mod javascript;
mod language;
mod need;
mod place;
mod project;
mod python;
mod recipe;
mod rust;
mod toolchain;
mod wit;

pub(crate) use build::{BuildFailure, Built, Line, Mode, Workshop};
pub(crate) use language::Language;
pub(crate) use need::Need;
pub(crate) use place::{PlaceError, Placed};
pub(crate) use project::{Project, ProjectError};
