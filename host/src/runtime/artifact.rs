//! What kind of wasm is this, and how it becomes a component.

use std::{collections::BTreeSet, fmt};
use wasmparser::{Encoding, Parser, Payload};

/// The magic number of every wasm binary, modules and components alike.
const MAGIC: &[u8] = b"\0asm";
/// Where wit-bindgen leaves the world of a core module.
const WIT_SECTION: &str = "component-type";
/// The imports that the preview1 adapter stands in for.
const PREVIEW1: &str = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;

/// Exports of a module that are named where it cannot serve, and characters of each name.
const EXPORTS_SHOWN: usize = 8;
const EXPORT_NAME_SHOWN: usize = 128;
/// Modules and components in each other. The reader keeps a place for each that is open, and a few bytes of a file open one.
const DEPTH_MAX: usize = 100;

/// A file that could be made to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binary {
    /// A component.
    Component,
    /// A core module with the WIT world of its component in a custom section.
    ModuleWithWit,
    /// A core module that exports `_start`: a command of WASI preview 1.
    Command,
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "component",
            Self::ModuleWithWit => "core module with WIT metadata",
            Self::Command => "wasip1 command (core module with _start)",
        })
    }
}

/// A file that cannot serve whatever the settings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// Nothing in it.
    Empty,
    /// Something else, by name.
    Foreign(&'static str),
    /// Ends before its last section does.
    Truncated {
        /// Bytes that are there.
        len: usize,
    },
    /// A version of the format that this build does not read.
    Version {
        /// What was found.
        found: u32,
        /// Whether it says it is a component.
        component: bool,
    },
    /// Damaged, and where.
    Malformed(String),
    /// A core module that says nothing about what it serves.
    BareModule {
        /// What it exports, to recognise it by.
        exports: Vec<String>,
    },
}

impl Unfit {
    /// Whether more bytes could mend it: a file that is still being written.
    pub fn may_be_half_written(&self) -> bool {
        matches!(self, Self::Empty | Self::Truncated { .. })
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Foreign("a compiled wasmtime artifact (.cwasm)") => {
                "deploy the .wasm that it was compiled from; hotbay compiles by itself and loads nobody else's machine code"
                    .to_owned()
            }
            Self::Empty | Self::Foreign(_) => "deploy a WebAssembly component, built for wasm32-wasip2 say".to_owned(),
            Self::Truncated { .. } => "copy the file again, best under another name first and then renamed".to_owned(),
            Self::Version { .. } => "build it with tools of today's component model, or take a newer hotbay".to_owned(),
            Self::Malformed(_) => "build it again; the file is damaged".to_owned(),
            Self::BareModule { .. } => {
                "build it for wasm32-wasip2, or for wasm32-wasip1 as a command (fn main) or with wit-bindgen".to_owned()
            }
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const EXPECTED: &str = "expected a WebAssembly component or module";
        match self {
            Self::Empty => write!(f, "the file is empty; {EXPECTED}"),
            Self::Foreign(what) => write!(f, "the file is {what}; {EXPECTED}"),
            Self::Truncated { len } => {
                write!(f, "the file is truncated: a WebAssembly binary that ends in the middle, after {len} bytes")
            }
            Self::Version { found, component: true } => {
                write!(f, "the file is a component of binary version {found:#x}; this hotbay reads version 0xd")
            }
            Self::Version { found, component: false } => {
                write!(f, "the file is a core module of version {found}; this hotbay reads version 1")
            }
            Self::Malformed(why) => write!(f, "the file is damaged WebAssembly: {why}"),
            Self::BareModule { exports } if exports.is_empty() => {
                f.write_str("the file is a core module without WIT metadata and without _start; it exports nothing")
            }
            Self::BareModule { exports } => {
                write!(f, "the file is a core module without WIT metadata and without _start; it exports {}", exports.join(", "))
            }
        }
    }
}

impl std::error::Error for Unfit {}

/// Names what `bytes` are. Reads the structure in one linear pass and validates nothing: the compiling child does that.
///
/// # Errors
/// [`Unfit`] for what can never serve.
pub(crate) fn identify(bytes: &[u8]) -> Result<Binary, Unfit> {
    if bytes.is_empty() {
        return Err(Unfit::Empty);
    }
    if !bytes.starts_with(MAGIC) {
        return Err(foreign(bytes));
    }
    let Some(version) = bytes.get(4..8) else {
        return Err(Unfit::Truncated { len: bytes.len() });
    };
    match version {
        [0x0d, 0, 1, 0] | [1, 0, 0, 0] => {}
        [low, high, layer, _] => {
            return Err(Unfit::Version { found: u32::from(u16::from_le_bytes([*low, *high])), component: *layer != 0 });
        }
        _ => return Err(Unfit::Truncated { len: bytes.len() }),
    }
    let mut shape = Shape::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let read = payload.and_then(|payload| shape.read(payload));
        read.map_err(|error| damage(bytes.len(), &error))?;
        if shape.depth > DEPTH_MAX {
            return Err(Unfit::Malformed(format!("modules and components in each other, more than {DEPTH_MAX} deep")));
        }
    }
    match shape {
        Shape { component: true, .. } => Ok(Binary::Component),
        Shape { start: true, .. } => Ok(Binary::Command),
        Shape { wit: true, .. } => Ok(Binary::ModuleWithWit),
        Shape { exports, .. } => Err(Unfit::BareModule { exports }),
    }
}

/// The names of what a component exports on its outermost level, and of the interfaces of a module that becomes one.
pub(crate) fn exports(bytes: &[u8]) -> Vec<String> {
    let (mut names, mut depth) = (BTreeSet::new(), 0_usize);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::Version { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentExportSection(section)) if depth == 1 => {
                names.extend(section.into_iter().flatten().map(|export| export.name.name.to_owned()));
            }
            // A function of an interface is called INTERFACE#FUNCTION there, with `[async-lift]` or the like before it.
            Ok(Payload::ExportSection(section)) if depth == 1 => {
                let functions = section.into_iter().flatten().filter_map(|export| export.name.split_once('#'));
                let bare = |interface: &str| interface.rsplit_once(']').map_or(interface, |(_, name)| name).to_owned();
                names.extend(functions.map(|(interface, _)| bare(interface)));
            }
            Ok(_) => {}
            // What is wrong with it is told where it is checked itself.
            Err(_) => break,
        }
    }
    names.into_iter().collect()
}

/// What the outermost level of the binary says of itself.
#[derive(Default)]
struct Shape {
    depth: usize,
    component: bool,
    start: bool,
    wit: bool,
    exports: Vec<String>,
}

impl Shape {
    fn read(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::Version { encoding, .. } => {
                if self.depth == 0 {
                    self.component = encoding == Encoding::Component;
                }
                self.depth += 1;
            }
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ExportSection(section) if self.depth == 1 && !self.component => {
                for export in section {
                    let name = export?.name;
                    self.start |= name == "_start";
                    // Millions fit into a file.
                    if self.exports.len() < EXPORTS_SHOWN {
                        let shown: String = name.chars().take(EXPORT_NAME_SHOWN).collect();
                        self.exports.push(format!("`{shown}`"));
                    }
                }
            }
            Payload::CustomSection(section) if self.depth == 1 => self.wit |= section.name().starts_with(WIT_SECTION),
            _ => {}
        }
        Ok(())
    }
}

fn damage(len: usize, error: &wasmparser::BinaryReaderError) -> Unfit {
    if error.message().contains("unexpected end") {
        Unfit::Truncated { len }
    } else {
        Unfit::Malformed(format!("{} at byte {}", error.message(), error.offset()))
    }
}

fn foreign(bytes: &[u8]) -> Unfit {
    const KNOWN: [(&[u8], &str); 8] = [
        (b"\x7fELF", "an ELF binary"),
        (b"\x89PNG", "a PNG image"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive"),
        (b"MZ", "a Windows executable"),
        (b"\xcf\xfa\xed\xfe", "a macOS executable"),
        (b"#!", "a script"),
    ];
    if bytes.len() < MAGIC.len() && MAGIC.starts_with(bytes) {
        return Unfit::Truncated { len: bytes.len() };
    }
    let is_artifact = bytes.starts_with(b"\x7fELF") && wasmtime::Engine::detect_precompiled(bytes).is_some();
    let named = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| *name);
    let head = bytes.get(..1024).unwrap_or(bytes);
    let text = || {
        let printable = |b: &u8| b.is_ascii_graphic() || b.is_ascii_whitespace() || *b >= 0x80;
        let wat = head.trim_ascii_start().starts_with(b"(component") || head.trim_ascii_start().starts_with(b"(module");
        match head.iter().all(printable) {
            true if wat => "WebAssembly text (WAT), not yet assembled to binary",
            true => "text",
            false => "of an unknown kind",
        }
    };
    Unfit::Foreign(match named {
        Some(_) if is_artifact => "a compiled wasmtime artifact (.cwasm)",
        Some(named) => named,
        None => text(),
    })
}

/// Turns what `identify` accepted into a component. Validates: run it in the compiling child.
///
/// # Errors
/// The encoder's words.
pub(crate) fn componentize(binary: Binary, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    use wasi_preview1_component_adapter_provider as adapters;
    let adapter = match binary {
        Binary::Component => return Ok(bytes),
        Binary::ModuleWithWit => adapters::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        Binary::Command => adapters::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    };
    // The encoder's error type is not ours to name; its alternate form prints the whole chain.
    let encoder = wit_component::ComponentEncoder::default().validate(true);
    let encoder = encoder.module(&bytes).map_err(|error| format!("{error:#}"))?;
    let mut encoder = encoder.adapter(PREVIEW1, adapter).map_err(|error| format!("{error:#}"))?;
    encoder.encode().map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn everything_else_is_named() {
        let reason = |bytes: &[u8]| identify(bytes).unwrap_err().to_string();
        assert!(reason(b"").contains("empty"));
        assert!(reason(b"hello\n").contains("is text"));
        assert!(reason(b"\x7fELF\x02\x01\x01").contains("ELF"));
        assert!(reason(b"\x89PNG\r\n").contains("PNG"));
        assert!(reason(b"\0as").contains("truncated"));
        assert!(reason(b"\0asm\x0e\0\x01\0").contains("component of binary version 0xe"));
        assert!(reason(b"\0asm\x02\0\0\0").contains("core module of version 2"));
        assert!(reason(b"(component)").contains("WAT"));
        assert!(reason(MODULE).contains("core module without WIT metadata"));
        assert_eq!(identify(COMPONENT), Ok(Binary::Component));
    }

    #[test]
    fn a_section_that_is_not_all_there_is_truncation() {
        // A custom section of ten bytes of which two are there.
        let cut = [MODULE, b"\0\x0a\x01a"].concat();
        assert!(identify(&cut).unwrap_err().may_be_half_written());
    }

    #[test]
    fn what_is_kept_of_a_file_is_bounded_whatever_is_in_it() {
        let exports: String = (0..1000).map(|n| format!("(export \"{n}{}\" (func 0))", "x".repeat(1000))).collect();
        let module = wat::parse_str(format!("(module (func) {exports})")).unwrap();
        let reason = identify(&module).unwrap_err().to_string();
        assert!(reason.contains("`0xxx") && reason.len() < 2000, "{} bytes", reason.len());
        let nested = |depth: usize| {
            (1..depth).fold(COMPONENT.to_vec(), |inner, _| {
                let (low, high) = (u8::try_from(inner.len() & 0x7f).unwrap(), u8::try_from(inner.len() >> 7).unwrap());
                [COMPONENT, &[4, low | 0x80, high], &inner].concat()
            })
        };
        assert_eq!(identify(&nested(DEPTH_MAX)), Ok(Binary::Component));
        assert!(identify(&nested(DEPTH_MAX + 1)).unwrap_err().to_string().contains("more than 100 deep"));
    }
}
