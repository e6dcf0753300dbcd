//! What Hotbay does, a module a behaviour, each on the real binary.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on ends and says why"
)]

mod admin;
mod admin_changes;
mod admin_events;
mod admin_figures;
mod bad_input;
mod calls;
mod canaries;
mod check;
mod clients;
mod clocks;
mod commands;
mod config_and_secrets;
mod cron;
mod dashboard;
mod debugging;
mod deploy_commands;
mod dev;
mod dev_errors;
mod docs;
mod errors;
mod going_back;
mod granted;
mod guest_logs;
mod handover;
mod handover_under_load;
mod keyvalue;
mod kinds;
mod limits;
mod metrics;
mod orders_and_hands;
mod outbound;
mod probe;
mod routing;
mod shop;
mod structure;
mod swap;
mod tcp;
mod torture_01_damage;
mod torture_02_files;
mod torture_03_swaps;
mod torture_04_storms;
mod torture_05_compile_bombs;
mod torture_06_kills;
mod torture_07_state;
mod torture_08_cache;
mod torture_09_names;
mod torture_10_ends;
mod torture_11_growth;
mod torture_12_bodies;
mod torture_13_traps;
mod torture_14_reuse;
mod torture_15_fairness;
mod torture_16_budgets;
mod torture_17_clients;
mod torture_18_smuggling;
mod torture_19_headers;
mod torture_22_admin;
mod torture_23_ends;
mod traffic;
mod typed_calls;
mod wasm_features;
mod workshop;
