//! The names of functions in a profile as people read them: demangled as the JSON goes by.
//!
//! The engine is built without its own demangling (feature `demangle`), which takes names of C++ too: one of 300 bytes can stand for
//! gigabytes, and names are the guest's. Those of Rust are bounded by their crate.

use std::io::{self, Write};

/// Bytes of a name that is demangled.
const NAME_MAX: usize = 1 << 10;
/// Bytes of what it is shown as.
const SHOWN_MAX: usize = 4 << 10;

/// JSON on its way to `out`.
pub(super) struct Readable<W> {
    out: W,
    place: Place,
    /// The string so far, without its quotation marks.
    string: Vec<u8>,
}

/// Where in the text.
enum Place {
    Outside,
    /// In a string that may be a name.
    Name,
    /// In a string that is none: it goes by. Whether the next character is escaped.
    Other(bool),
}

impl<W: Write> Readable<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, place: Place::Outside, string: Vec::new() }
    }

    /// Where it went.
    pub(super) fn into_inner(self) -> W {
        self.out
    }

    fn name_ended(&mut self) -> io::Result<()> {
        let readable = std::str::from_utf8(&self.string).ok().and_then(readable);
        match readable {
            Some(name) => self.out.write_all(name.as_bytes()),
            None => self.out.write_all(&self.string),
        }?;
        self.string.clear();
        Ok(())
    }

    /// Takes one byte, and passes on what is decided by it.
    fn take(&mut self, byte: u8) -> io::Result<()> {
        match (&self.place, byte) {
            (Place::Outside, b'"') => self.place = Place::Name,
            (Place::Name, b'"') => {
                self.name_ended()?;
                self.place = Place::Outside;
            }
            // No mangled name has such characters, or so many.
            (Place::Name, _) if byte == b'\\' || self.string.len() == NAME_MAX => {
                self.out.write_all(&self.string)?;
                self.string.clear();
                self.place = Place::Other(byte == b'\\');
            }
            (Place::Name, _) => {
                self.string.push(byte);
                return Ok(());
            }
            (Place::Other(true), _) => self.place = Place::Other(false),
            (Place::Other(false), b'\\') => self.place = Place::Other(true),
            (Place::Other(false), b'"') => self.place = Place::Outside,
            (Place::Outside | Place::Other(false), _) => {}
        }
        self.out.write_all(&[byte])
    }
}

/// What a mangled name of Rust stands for, as it may stand in JSON.
fn readable(name: &str) -> Option<String> {
    let name = format!("{:#}", rustc_demangle::try_demangle(name).ok()?);
    let shown = name.get(..name.floor_char_boundary(SHOWN_MAX)).unwrap_or_default();
    Some(shown.chars().filter(|c| !c.is_control()).collect::<String>().replace('\\', "\\\\").replace('"', "\\\""))
}

impl<W: Write> Write for Readable<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bytes.iter().try_for_each(|byte| self.take(*byte))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(json: &str, at_once: usize) -> String {
        let mut readable = Readable::new(Vec::new());
        json.as_bytes().chunks(at_once).for_each(|piece| readable.write_all(piece).unwrap());
        String::from_utf8(readable.into_inner()).unwrap()
    }

    #[test]
    fn names_of_rust_are_demangled_wherever_the_text_is_cut() {
        let json =
            r#"{"a":["_ZN5probe8overflow17h9341e7ee0b23c151E","plain",1,"","\"_ZN5probe8overflow17h9341e7ee0b23c151E","é\\"]}"#;
        let want = r#"{"a":["probe::overflow","plain",1,"","\"_ZN5probe8overflow17h9341e7ee0b23c151E","é\\"]}"#;
        for at_once in 1..40 {
            assert_eq!(through(json, at_once), want);
        }
        let long = format!("[\"{}\",\"_ZN5probe8overflow17h9341e7ee0b23c151E\"]", "x\\\"".repeat(NAME_MAX));
        assert_eq!(through(&long, 7), long.replace("_ZN5probe8overflow17h9341e7ee0b23c151E", "probe::overflow"));
    }

    #[test]
    fn names_of_cpp_are_left_as_they_are() {
        // f(A, A<A, A>, A<A, A><A<A, A>, A<A, A>>, …), twice as long with each.
        let doubled: String = (0..30_u8)
            .map(|k| {
                format!("S_I{0}{0}E", if k == 0 { "S_".to_owned() } else { format!("S{}_", char::from(b'0' + (k - 1) % 10)) })
            })
            .collect();
        let json = format!("[\"_Z1f1A{doubled}\"]");
        assert_eq!(through(&json, 64), json);
    }
}
