//! Which interfaces of other services a component imports, which ones it exports to them, and whether two sides agree.

use super::wit_text::{Room, Signature, TooMuch};
use crate::config::ServiceName;
use std::collections::BTreeMap;
use wasmtime::component::{Component, types::ComponentItem};

/// Functions by name.
pub type Interface = BTreeMap<String, Signature>;

/// The interfaces on both sides of a component that are no one's but services', by their whole names
/// (`shop:stock/stock@0.1.0`). Those without functions need nobody and are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// The services that it may call.
    pub granted: Vec<ServiceName>,
    /// What it calls.
    pub imports: BTreeMap<String, Interface>,
    /// What can be called.
    pub exports: BTreeMap<String, Interface>,
}

impl Links {
    /// Reads the types of `component`: work that grows with them.
    ///
    /// # Errors
    /// They are more than the host reads.
    pub(super) fn of(component: &Component, granted: &[ServiceName]) -> Result<Self, TooMuch> {
        let (ty, engine) = (component.component_type(), component.engine());
        let mut room = Room::new();
        let mut functions = |(name, item): (&str, ComponentItem)| {
            let ComponentItem::ComponentInstance(interface) = item else { return None };
            let functions = interface.exports(engine).filter_map(|(name, export)| match export.ty {
                ComponentItem::ComponentFunc(function) => {
                    Some(Signature::of(name, &function, &mut room).map(|signature| (name.to_owned(), signature)))
                }
                _ => None,
            });
            if !is_of_services(name) {
                return None;
            }
            let functions: Result<Interface, TooMuch> = functions.collect();
            let functions = functions.map(|functions| (!functions.is_empty()).then(|| (name.to_owned(), functions)));
            functions.transpose()
        };
        let imports: Result<_, _> = ty.imports(engine).filter_map(|(name, import)| functions((name, import.ty))).collect();
        let exports: Result<_, _> = ty.exports(engine).filter_map(|(name, export)| functions((name, export.ty))).collect();
        Ok(Self { granted: granted.to_vec(), imports: imports?, exports: exports? })
    }

    /// Whether it has to do with other services.
    pub fn is_empty(&self) -> bool {
        self.imports.is_empty() && self.exports.is_empty()
    }

    /// The first function that it calls and that cannot be called across stores, and why.
    pub(super) fn obstacle(&self) -> Option<(String, &'static str)> {
        let functions = self.imports.iter().flat_map(|(interface, functions)| functions.iter().map(move |one| (interface, one)));
        let mut stopped = functions.filter_map(|(interface, (name, function))| Some((interface, name, function.obstacle?)));
        stopped.next().map(|(interface, name, obstacle)| (format!("{interface}#{name}"), obstacle))
    }
}

/// Whether an import or export of this name is an interface of services: `ns:package/interface`, and of no package of the host's.
pub(super) fn is_of_services(name: &str) -> bool {
    name.contains('/') && !name.starts_with("wasi:") && !name.starts_with("hotbay:")
}

/// What of `wanted` is not there, or not of the same type, in `offered`: both as WIT.
pub fn difference(wanted: &Interface, offered: &Interface) -> Option<String> {
    let differs = wanted.iter().filter_map(|(name, wanted)| match offered.get(name) {
        None => Some(format!("there is no `{name}: {}`", wanted.text)),
        Some(offered) if offered.text != wanted.text => {
            Some(format!("`{name}: {}` is exported where `{name}: {}` is called", offered.text, wanted.text))
        }
        // A text that was cut off says nothing of the rest.
        Some(offered) => offered.obstacle.map(|obstacle| format!("`{name}` has {obstacle}")),
    });
    let differs: Vec<_> = differs.collect();
    (!differs.is_empty()).then(|| brief(differs.join("; ")))
}

/// Bytes of what people are told of types.
const TOLD_MAX: usize = 4 << 10;

/// Cuts what nobody would read to its end.
pub fn brief(mut told: String) -> String {
    if told.len() > TOLD_MAX {
        told.truncate(told.floor_char_boundary(TOLD_MAX));
        told.push('…');
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::Engine;

    fn links(text: &str) -> Links {
        read(text).unwrap()
    }

    fn read(text: &str) -> Result<Links, TooMuch> {
        Links::of(&Component::new(&Engine::default(), wat::parse_str(text).unwrap()).unwrap(), &[])
    }

    const IMPORTS: &str = r#"(component
        (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (result u64)))))
        (import "shop:a/types@1.0.0" (instance (type $t u8) (export "t" (type (eq $t)))))
        (import "shop:a/b@1.0.0" (instance
            (type $r (record (field "x" s8) (field "of" (list (option string)))))
            (export "r" (type $q (eq $r)))
            (type $v (variant (case "none") (case "some" $q)))
            (export "v" (type $w (eq $v)))
            (type $e (enum "red" "blue"))
            (export "e" (type $d (eq $e)))
            (type $f (flags "read" "write"))
            (export "f" (type $g (eq $f)))
            (export "call" (func (param "one" $w) (param "two" $d) (result (result (tuple char f64) (error $g)))))
            (export "rest" (func (param "a" (result)) (param "b" (result (error bool))) (result (result u16))))
            (export "file" (type $file (sub resource)))
            (export "[method]file.size" (func (param "self" (borrow $file)) (result u64)))
        )))"#;

    #[test]
    fn types_are_written_as_wit() {
        let links = links(IMPORTS);
        assert_eq!(links.imports.keys().collect::<Vec<_>>(), ["shop:a/b@1.0.0"], "types alone and WASI need no service");
        let functions = &links.imports["shop:a/b@1.0.0"];
        assert_eq!(
            functions["call"].text,
            "func(one: variant { none, some(record { x: s8, of: list<option<string>> }) }, two: enum { red, blue }) -> \
             result<tuple<char, f64>, flags { read, write }>"
        );
        assert_eq!(functions["rest"].text, "func(a: result, b: result<_, bool>) -> result<u16>");
        assert_eq!(links.obstacle().unwrap(), ("shop:a/b@1.0.0#[method]file.size".to_owned(), "a resource"));
    }

    #[test]
    fn a_type_that_would_fill_the_memory_with_its_text_is_an_obstacle() {
        let mut text = "(component (type $t0 (tuple u8 u8))".to_owned();
        for level in 1..16 {
            text += &format!("(type $t{level} (tuple $t{0} $t{0}))", level - 1);
        }
        text += r#"(import "shop:a/b" (instance (alias outer 1 $t15 (type $all)) (export "call" (func (param "x" $all))))))"#;
        let links = links(&text);
        assert!(links.obstacle().unwrap().1.contains("64 KiB"));
    }

    /// `count` functions that share one type, which has a field with a name of `len` bytes.
    fn sharing(count: usize, len: usize) -> String {
        let functions: String = (0..count).map(|n| format!(r#"(export "f{n}" (func (param "x" $u)))"#)).collect();
        let field = "a".repeat(len);
        format!(
            r#"(component (import "shop:a/b" (instance
                (type $t (record (field "{field}" u8))) (export "t" (type $u (eq $t))) {functions})))"#
        )
    }

    #[test]
    fn many_functions_of_one_long_type_do_not_fill_the_memory() {
        assert_eq!(read(&sharing(10, 60_000)).unwrap().imports["shop:a/b"].len(), 10);
        assert!(read(&sharing(20, 60_000)).is_err());
        assert_eq!(read(&sharing(1000, 1)).unwrap().imports["shop:a/b"].len(), 1000);
        assert!(read(&sharing(20_000, 1)).is_err(), "each function takes memory, however short it is");
    }

    #[test]
    fn what_is_told_is_cut() {
        let of = |text: &str| Signature { text: text.to_owned(), obstacle: None, is_async: false };
        let wanted: Interface = (0..1000).map(|n| (format!("f{n}"), of("func(ü: u8)"))).collect();
        let told = difference(&wanted, &Interface::new()).unwrap();
        assert!(told.len() < TOLD_MAX + 4 && told.ends_with('…'), "{}", told.len());
    }

    #[test]
    fn what_differs_is_told_from_both_sides() {
        let of = |text: &str| Signature { text: text.to_owned(), obstacle: None, is_async: false };
        let wanted = Interface::from([("a".to_owned(), of("func()")), ("b".to_owned(), of("func(x: u8)"))]);
        assert_eq!(difference(&wanted, &wanted), None);
        let mut more = wanted.clone();
        more.insert("c".to_owned(), of("func()"));
        assert_eq!(difference(&wanted, &more), None, "what is not called does not matter");
        let other = Interface::from([("b".to_owned(), of("func(x: u16)"))]);
        let told = difference(&wanted, &other).unwrap();
        assert!(
            told.contains("no `a: func()`") && told.contains("`b: func(x: u16)` is exported where `b: func(x: u8)` is called")
        );
    }
}
