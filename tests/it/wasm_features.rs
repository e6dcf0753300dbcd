//! Which WebAssembly a build may use: what docs/services.md names, and nothing of what comes with the next engine.

use hotbay_tests::{Host, How, guests};

/// A component that instantiates this module and can be served.
fn component(module: &str) -> bytes::Bytes {
    let text = format!(
        "(component (core module $m {module}) (core instance (instantiate $m)) (component $lib) (instance $lib (instantiate $lib))
           (export \"fixture:stock/levels@1.0.0\" (instance $lib)))"
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{module}: {error}")).into()
}

/// Guards `features` in host/src/runtime/engine.rs.
#[tokio::test]
async fn what_the_readme_names_is_on_and_all_else_is_off() {
    let host = Host::builder().start().await;
    for (name, module) in [
        ("bulk-memory", "(memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 1)))"),
        ("references", "(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))"),
        ("many-values", "(func (result i32 i32) (i32.const 1) (i32.const 2))"),
        ("simd", "(func (result v128) (i32x4.splat (i32.const 1)))"),
        ("tail-calls", "(func $f (return_call $f))"),
        ("constants", "(global i32 (i32.add (i32.const 1) (i32.const 2)))"),
        ("memories", "(memory 1) (memory 1)"),
    ] {
        host.swap(name, &component(module), How::Rename).await;
    }
    for (name, module) in [
        ("memory64", "(memory i64 1)"),
        ("relaxed-simd", "(func (result v128) (i32x4.relaxed_trunc_f32x4_s (v128.const i32x4 0 0 0 0)))"),
        ("threads", "(memory 1 1 shared)"),
        ("wide", "(func (result i64 i64) (i64.mul_wide_u (i64.const 1) (i64.const 2)))"),
        ("pages", "(memory 1 (pagesize 1))"),
        ("gc", "(type (struct (field i32)))"),
        ("external", "(table 1 externref)"),
        ("exceptions", "(tag $t) (func (throw $t))"),
        ("functions", "(type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0)))"),
    ] {
        host.place(name, &component(module), How::Rename);
        let rejected = host.wait_rejected(name).await;
        assert!(rejected.reason.contains("no valid component"), "{name}: {}", rejected.reason);
    }
}

/// The engine's code between two components uses the memories of both, so composed services need several memories.
#[tokio::test]
async fn composed_components_are_compiled() {
    let text = r#"(component
      (component $callee
        (core module $m (memory (export "memory") 1)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
          (func (export "greet") (param i32 i32)))
        (core instance $i (instantiate $m))
        (func (export "greet") (param "name" string)
          (canon lift (core func $i "greet") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
      (component $caller
        (import "greet" (func $greet (param "name" string)))
        (core module $libc (memory (export "memory") 1))
        (core instance $libc (instantiate $libc))
        (core func $greet' (canon lower (func $greet) (memory (core memory $libc "memory"))))
        (core module $m (import "" "greet" (func (param i32 i32))) (func (export "run") (call 0 (i32.const 0) (i32.const 4))))
        (core instance $i (instantiate $m (with "" (instance (export "greet" (func $greet'))))))
        (func (export "run") (canon lift (core func $i "run"))))
      (instance $callee (instantiate $callee))
      (instance $caller (instantiate $caller (with "greet" (func $callee "greet"))))
      (export "fixture:stock/levels@1.0.0" (instance $caller)))"#;
    let host = Host::builder().start().await;
    host.swap("composed", &wat::parse_str(text).expect("a component"), How::Rename).await;
    assert_eq!(guests::digest(&wat::parse_str(text).expect("a component")).len(), 12);
}
