//! Types of the component model as WIT text, written out in full: what two components must agree on, and what people read.

use std::fmt::{self, Write};
use wasmtime::component::{Type, types::ComponentFunc};

/// Bytes of text of one function's type. A type that repeats itself within itself grows by every level.
const TEXT_MAX: usize = 64 << 10;
/// Bytes of text of all functions of one component: many may share one long type.
const ALL_MAX: usize = 1 << 20;
/// What a function takes beside its text.
const BESIDE: usize = 64;

/// What is left of the text that one component may have.
pub(super) struct Room(usize);

impl Room {
    pub(super) fn new() -> Self {
        Self(ALL_MAX)
    }

    fn take(&mut self, bytes: usize) -> Result<(), TooMuch> {
        self.0 = self.0.checked_sub(bytes).ok_or(TooMuch)?;
        Ok(())
    }
}

/// The functions of a component have more text than is read.
#[derive(Debug, thiserror::Error)]
#[error("the types of the functions that it shares with other services take more than 1 MiB of text")]
pub(crate) struct TooMuch;

/// The type of one function, and whether values of it can go from one store to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// `func(item: string) -> option<u32>`.
    pub text: String,
    /// What keeps it from being called across stores, if anything does.
    pub obstacle: Option<&'static str>,
    /// `async func`.
    pub is_async: bool,
}

impl Signature {
    pub(super) fn of(name: &str, function: &ComponentFunc, room: &mut Room) -> Result<Self, TooMuch> {
        let mut writer = Writer { text: String::new(), obstacle: None };
        // Only a text that is too long is an error.
        if writer.function(function).is_err() {
            writer.obstacle = Some("a type of more than 64 KiB of text");
        }
        room.take(BESIDE + name.len() + writer.text.len())?;
        Ok(Self { text: writer.text, obstacle: writer.obstacle, is_async: function.async_() })
    }
}

/// Writes types and notes what cannot cross.
struct Writer {
    text: String,
    obstacle: Option<&'static str>,
}

impl Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.len().saturating_add(text.len()) > TEXT_MAX {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

impl Writer {
    fn function(&mut self, function: &ComponentFunc) -> fmt::Result {
        self.write_str(if function.async_() { "async func(" } else { "func(" })?;
        self.list(function.params(), |writer, (name, ty)| {
            write!(writer, "{name}: ")?;
            writer.ty(&ty)
        })?;
        self.write_str(")")?;
        for result in function.results() {
            self.write_str(" -> ")?;
            self.ty(&result)?;
        }
        Ok(())
    }

    fn list<I>(&mut self, items: impl Iterator<Item = I>, mut each: impl FnMut(&mut Self, I) -> fmt::Result) -> fmt::Result {
        for (position, item) in items.enumerate() {
            if position > 0 {
                self.write_str(", ")?;
            }
            each(self, item)?;
        }
        Ok(())
    }

    fn stops(&mut self, obstacle: &'static str, text: &str) -> fmt::Result {
        self.obstacle.get_or_insert(obstacle);
        self.write_str(text)
    }

    /// `head<inner>`; of a missing inner type the head alone.
    fn around(&mut self, head: &str, inner: Option<Type>) -> fmt::Result {
        self.write_str(head)?;
        let Some(inner) = inner else { return Ok(()) };
        self.write_str("<")?;
        self.ty(&inner)?;
        self.write_str(">")
    }

    fn case(&mut self, name: &str, payload: Option<Type>) -> fmt::Result {
        self.write_str(name)?;
        let Some(payload) = payload else { return Ok(()) };
        self.write_str("(")?;
        self.ty(&payload)?;
        self.write_str(")")
    }

    fn ty(&mut self, ty: &Type) -> fmt::Result {
        match ty {
            Type::Bool => self.write_str("bool"),
            Type::S8 => self.write_str("s8"),
            Type::U8 => self.write_str("u8"),
            Type::S16 => self.write_str("s16"),
            Type::U16 => self.write_str("u16"),
            Type::S32 => self.write_str("s32"),
            Type::U32 => self.write_str("u32"),
            Type::S64 => self.write_str("s64"),
            Type::U64 => self.write_str("u64"),
            Type::Float32 => self.write_str("f32"),
            Type::Float64 => self.write_str("f64"),
            Type::Char => self.write_str("char"),
            Type::String => self.write_str("string"),
            Type::List(list) => self.around("list", Some(list.ty())),
            Type::FixedLengthList(list) => {
                self.write_str("list<")?;
                self.ty(&list.ty())?;
                write!(self, ", {}>", list.len())
            }
            Type::Map(map) => {
                self.write_str("map<")?;
                self.ty(&map.key())?;
                self.write_str(", ")?;
                self.ty(&map.value())?;
                self.write_str(">")
            }
            Type::Record(record) => {
                self.write_str("record { ")?;
                self.list(record.fields(), |writer, field| {
                    write!(writer, "{}: ", field.name)?;
                    writer.ty(&field.ty)
                })?;
                self.write_str(" }")
            }
            Type::Tuple(tuple) => {
                self.write_str("tuple<")?;
                self.list(tuple.types(), |writer, ty| writer.ty(&ty))?;
                self.write_str(">")
            }
            Type::Variant(variant) => {
                self.write_str("variant { ")?;
                self.list(variant.cases(), |writer, case| writer.case(case.name, case.ty))?;
                self.write_str(" }")
            }
            Type::Enum(names) => {
                self.write_str("enum { ")?;
                self.list(names.names(), |writer, name| writer.write_str(name))?;
                self.write_str(" }")
            }
            Type::Flags(names) => {
                self.write_str("flags { ")?;
                self.list(names.names(), |writer, name| writer.write_str(name))?;
                self.write_str(" }")
            }
            Type::Option(option) => self.around("option", Some(option.ty())),
            Type::Result(result) => match (result.ok(), result.err()) {
                (ok, None) => self.around("result", ok),
                (ok, Some(err)) => {
                    self.write_str("result<")?;
                    match ok {
                        Some(ok) => self.ty(&ok)?,
                        None => self.write_str("_")?,
                    }
                    self.write_str(", ")?;
                    self.ty(&err)?;
                    self.write_str(">")
                }
            },
            Type::Own(_) => self.stops("a resource", "own<resource>"),
            Type::Borrow(_) => self.stops("a resource", "borrow<resource>"),
            Type::Future(future) => {
                self.obstacle.get_or_insert("a future");
                self.around("future", future.ty())
            }
            Type::Stream(stream) => {
                self.obstacle.get_or_insert("a stream");
                self.around("stream", stream.ty())
            }
            Type::ErrorContext => self.stops("an error-context", "error-context"),
        }
    }
}
