//! Values of every type of WIT, generated, cross from one service to another as they are.

use super::{
    super::{
        artifact::{Binary, componentize},
        budget::Budgets,
        callee::{Visit, admitted},
        digest::Digest,
        engine::{Backtraces, Engines, Flavour},
        granted::Sources,
        linker::Linkers,
        revision::{Observers, Revision, Surroundings},
    },
    *,
};
use crate::{
    capabilities::{KeyValue, Network, Reach, Secrets},
    config::{BudgetConfig, OutboundConfig, PoolConfig, Settings},
    telemetry::{GuestLines, Metrics},
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use std::{fmt::Write, sync::Mutex};
use tokio::runtime::Runtime;
use wasmtime::component::Component;

/// A type of WIT, of which values may cross.
#[derive(Debug, Clone)]
enum Ty {
    Plain(&'static str),
    List(Box<Ty>),
    Record(Vec<Ty>),
    Tuple(Vec<Ty>),
    Variant(Vec<Option<Ty>>),
    Enum(usize),
    Flags(usize),
    Option(Box<Ty>),
    Result(Option<Box<Ty>>, Option<Box<Ty>>),
}

const PLAIN: [&str; 13] = ["bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string"];

fn types() -> impl Strategy<Value = Ty> {
    let leaf = prop_oneof![
        6 => prop::sample::select(&PLAIN[..]).prop_map(Ty::Plain),
        1 => (1..300_usize).prop_map(Ty::Enum),
        1 => (1..=32_usize).prop_map(Ty::Flags),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed().prop_map(Ty::List),
            vec(inner.clone(), 1..6).prop_map(Ty::Record),
            vec(inner.clone(), 1..6).prop_map(Ty::Tuple),
            vec(prop::option::of(inner.clone()), 1..6).prop_map(Ty::Variant),
            boxed().prop_map(Ty::Option),
            (prop::option::of(boxed()), prop::option::of(boxed())).prop_map(|(ok, err)| Ty::Result(ok, err)),
        ]
    })
}

fn plain(name: &str) -> BoxedStrategy<Val> {
    match name {
        "bool" => any::<bool>().prop_map(Val::Bool).boxed(),
        "s8" => any::<i8>().prop_map(Val::S8).boxed(),
        "u8" => any::<u8>().prop_map(Val::U8).boxed(),
        "s16" => any::<i16>().prop_map(Val::S16).boxed(),
        "u16" => any::<u16>().prop_map(Val::U16).boxed(),
        "s32" => any::<i32>().prop_map(Val::S32).boxed(),
        "u32" => any::<u32>().prop_map(Val::U32).boxed(),
        "s64" => any::<i64>().prop_map(Val::S64).boxed(),
        "u64" => any::<u64>().prop_map(Val::U64).boxed(),
        "f32" => prop::num::f32::ANY.prop_map(Val::Float32).boxed(),
        "f64" => prop::num::f64::ANY.prop_map(Val::Float64).boxed(),
        "char" => any::<char>().prop_map(Val::Char).boxed(),
        _ => any::<String>().prop_map(Val::String).boxed(),
    }
}

impl Ty {
    fn values(&self) -> BoxedStrategy<Val> {
        let all = |types: &[Self]| types.iter().map(Self::values).collect::<Vec<_>>();
        let payload = |ty: Option<&Self>| match ty {
            Some(ty) => ty.values().prop_map(|value| Some(Box::new(value))).boxed(),
            None => Just(None).boxed(),
        };
        match self {
            Self::Plain(name) => plain(name),
            Self::List(ty) => vec(ty.values(), 0..5).prop_map(Val::List).boxed(),
            Self::Record(types) => {
                let named = |values: Vec<Val>| (0..).zip(values).map(|(n, value): (usize, _)| (format!("f{n}"), value)).collect();
                all(types).prop_map(move |values| Val::Record(named(values))).boxed()
            }
            Self::Tuple(types) => all(types).prop_map(Val::Tuple).boxed(),
            Self::Variant(cases) => {
                let case = |(n, ty): (usize, &Option<Self>)| {
                    payload(ty.as_ref()).prop_map(move |value| Val::Variant(format!("c{n}"), value)).boxed()
                };
                proptest::strategy::Union::new(cases.iter().enumerate().map(case)).boxed()
            }
            Self::Enum(count) => (0..*count).prop_map(|n| Val::Enum(format!("c{n}"))).boxed(),
            Self::Flags(count) => {
                let names: Vec<_> = (0..*count).map(|n| format!("b{n}")).collect();
                prop::sample::subsequence(names, 0..=*count).prop_map(Val::Flags).boxed()
            }
            Self::Option(ty) => {
                let some = ty.values().prop_map(|value| Val::Option(Some(Box::new(value))));
                prop_oneof![Just(Val::Option(None)), some].boxed()
            }
            Self::Result(ok, err) => {
                let (ok, err) = (payload(ok.as_deref()), payload(err.as_deref()));
                prop_oneof![ok.prop_map(|value| Val::Result(Ok(value))), err.prop_map(|value| Val::Result(Err(value)))].boxed()
            }
        }
    }

    /// The type as WIT; what needs a name is declared as one of `named`.
    fn wit(&self, named: &mut Vec<String>) -> String {
        let declared = |named: &mut Vec<String>, keyword: &str, inside: String| {
            let name = format!("t{}", named.len());
            named.push(format!("{keyword} {name} {{ {inside} }}"));
            name
        };
        let listed = |prefix: &str, count: usize| (0..count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>().join(", ");
        match self {
            Self::Plain(name) => (*name).to_owned(),
            Self::List(ty) => format!("list<{}>", ty.wit(named)),
            Self::Option(ty) => format!("option<{}>", ty.wit(named)),
            Self::Tuple(types) => {
                let types: Vec<_> = types.iter().map(|ty| ty.wit(named)).collect();
                format!("tuple<{}>", types.join(", "))
            }
            Self::Record(types) => {
                let fields: Vec<_> = types.iter().enumerate().map(|(n, ty)| format!("f{n}: {}", ty.wit(named))).collect();
                declared(named, "record", fields.join(", "))
            }
            Self::Variant(cases) => {
                let case = |(n, ty): (usize, &Option<Self>)| match ty {
                    Some(ty) => format!("c{n}({})", ty.wit(named)),
                    None => format!("c{n}"),
                };
                let cases: Vec<_> = cases.iter().enumerate().map(case).collect();
                declared(named, "variant", cases.join(", "))
            }
            Self::Enum(count) => declared(named, "enum", listed("c", *count)),
            Self::Flags(count) => declared(named, "flags", listed("b", *count)),
            Self::Result(None, None) => "result".to_owned(),
            Self::Result(Some(ok), None) => format!("result<{}>", ok.wit(named)),
            Self::Result(ok, Some(err)) => {
                let ok = ok.as_ref().map_or("_".to_owned(), |ok| ok.wit(named));
                format!("result<{ok}, {}>", err.wit(named))
            }
        }
    }

    /// The package with both interfaces.
    fn package(&self, is_async: bool) -> String {
        let mut named = Vec::new();
        let (ty, keyword) = (self.wit(&mut named), if is_async { "async " } else { "" });
        let names = (0..named.len()).map(|n| format!("t{n}")).collect::<Vec<_>>().join(", ");
        let mut text = format!("package shop:p;\ninterface p {{ {}\n", named.join("\n"));
        let _ = writeln!(text, "call: {keyword}func(value: list<{ty}>) -> list<{ty}>; }}");
        let uses = if named.is_empty() { String::new() } else { format!("use p.{{{names}}};") };
        let _ = writeln!(text, "interface d {{ {uses} call: {keyword}func(value: list<{ty}>) -> list<{ty}>; }}");
        text + "world provider { export p; }\nworld dependent { import p; export d; }"
    }
}

/// Memory that is only taken, which is enough for one call.
const MEMORY: &str = r#"(memory (export "memory") 1)
    (global $top (mut i32) (i32.const 64))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
        (local.set $at (i32.and
            (i32.add (global.get $top) (i32.sub (local.get 2) (i32.const 1))) (i32.sub (i32.const 0) (local.get 2))))
        (global.set $top (i32.add (local.get $at) (local.get 3)))
        (loop $more
            (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
                (then (drop (memory.grow (i32.const 1))) (br $more))))
        (local.get $at))"#;
/// Gives back the list that it gets: its values lie in memory, whatever they are.
const PROVIDER: &str = r#"(func (export "shop:p/p#call") (param i32 i32) (result i32)
    (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1)) (i32.const 16))"#;
/// Hands over what it gets, and gives back what it gets for it.
const DEPENDENT: &str = r#"(func (export "shop:p/d#call") (param i32 i32) (result i32)
    (call $call (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16))"#;
const IMPORT: &str = r#"(import "shop:p/p" "call" (func $call (param i32 i32 i32)))"#;

fn component(package: &str, world: &str, core: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let parsed = resolve.push_str("p.wit", package).unwrap_or_else(|error| panic!("{error:#}\n{package}"));
    let world = resolve.select_world(&[parsed], Some(world)).unwrap();
    let mut module = wat::parse_str(core).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
    componentize(Binary::ModuleWithWit, module).unwrap_or_else(|error| panic!("{error}\n{package}"))
}

/// A bay of one provider.
#[derive(Default)]
struct One(Mutex<Option<Arc<Revision>>>);

impl Providers for One {
    fn provider(&self, _: &ServiceName) -> Option<Arc<Revision>> {
        self.0.lock().unwrap().clone()
    }

    fn queue(&self, _: Arc<Revision>) -> BoxFuture<'static, Result<OwnedSemaphorePermit, &'static str>> {
        Box::pin(async { Err("nobody waits here") })
    }

    fn depth(&self) -> u32 {
        8
    }

    fn check_imports(&self, _: &Arc<Links>) -> Result<(), Reject> {
        Ok(())
    }
}

struct Host {
    engines: Engines,
    linkers: Linkers,
    budgets: Budgets,
    surroundings: Surroundings,
    bay: Arc<One>,
}

impl Host {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let pool = PoolConfig::default();
        let budgets = Budgets::new(&BudgetConfig::default(), &pool, &metrics).unwrap();
        let engines = Engines::new(&pool, budgets.lane().clone(), Backtraces::Names, false).unwrap();
        let bay = Arc::new(One::default());
        let providers: Weak<One> = Arc::downgrade(&bay);
        let surroundings = Surroundings {
            observers: Observers { metrics, lines: GuestLines::new() },
            sources: Sources {
                reach: Reach { network: Network::new(OutboundConfig::default()).unwrap(), services: None },
                keyvalue: KeyValue::in_memory(),
            },
            providers,
            coredumps: None,
        };
        Self { linkers: Linkers::new(&engines).unwrap(), engines, budgets, surroundings, bay }
    }

    fn revision(&self, name: &str, settings: &str, wasm: &[u8], flavour: Flavour) -> Arc<Revision> {
        let name = ServiceName::parse(name).unwrap();
        let settings = Settings::parse(&name, settings).unwrap();
        let component = Arc::new(Component::new(self.engines.get(flavour), wasm).unwrap());
        let assembly = self.linkers.link(&component, flavour, &settings.grants, Some(&*self.bay)).unwrap();
        let (digest, account) = (Digest::of(wasm), self.budgets.account(name.as_str()));
        Revision::new(name, digest, (settings, Secrets::default()), &component, assembly, &self.surroundings, account).0
    }

    /// Calls `interface` of `revision` as another service would.
    async fn call(&self, revision: &Arc<Revision>, interface: &str, value: &Val, from_async: bool) -> Result<Val, String> {
        let errand = Arc::new(Errand::nobodys());
        let lease = admitted(revision, &errand, Some(self.bay.clone())).await.map_err(|refused| refused.reason)?;
        let visit = Visit::new(revision.clone(), revision.callable(interface, "call").unwrap(), errand, lease);
        let mut results = [Val::Bool(false)];
        visit.pay(from_async, std::slice::from_ref(value), &mut results).await.map_err(|fault| fault.to_string())?;
        let [result] = results;
        Ok(result)
    }
}

/// Guards `add_calls` and `Visit`: what arrives is what was handed over, and what the same call gives where no store lies between.
#[test]
fn values_of_every_type_cross_as_they_are() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let host = Host::new();
    let cases = types().prop_flat_map(|ty| {
        let value = vec(ty.values(), 0..4).prop_map(Val::List);
        (Just(ty), value, any::<bool>(), any::<bool>())
    });
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) };
    let outcome = TestRunner::new(config).run(&cases, |(ty, value, is_async, of_async)| {
        let package = ty.package(is_async);
        let flavour = if is_async || of_async { Flavour::Async } else { Flavour::Sync };
        let provider = component(&package, "provider", &format!("(module {MEMORY} {PROVIDER})"));
        let dependent = component(&package, "dependent", &format!("(module {IMPORT} {MEMORY} {DEPENDENT})"));
        let provider = host.revision("provider", "", &provider, flavour);
        *host.bay.0.lock().unwrap() = Some(provider.clone());
        let dependent = host.revision("dependent", "[grants]\ncalls = [\"provider\"]\n", &dependent, flavour);
        let (direct, relayed) = runtime.block_on(async {
            let direct = host.call(&provider, "shop:p/p", &value, of_async).await;
            (direct, host.call(&dependent, "shop:p/d", &value, of_async).await)
        });
        prop_assert_eq!(direct.as_ref(), Ok(&value), "{}", package);
        prop_assert_eq!(relayed, direct, "{}", package);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
