//! landfall-agent: makes the VM match the release. See `docs/architecture.md` for the map.

#![deny(clippy::disallowed_methods)]

pub mod agent;
pub mod app_loop;
pub mod canonical;
pub mod caps;
pub mod clock;
pub mod compose_plugin;
pub mod converge;
pub mod decide;
pub mod engine;
pub mod fence;
pub mod final_model;
pub mod graph;
pub mod history;
pub mod intents;
pub mod ledger;
pub mod live_files;
pub mod look;
pub mod model;
pub mod mounts;
pub mod observed;
pub mod order;
pub mod plan_view;
pub mod policy;
pub mod preflight;
pub mod probers;
pub mod project_files;
pub mod raw_policy;
pub mod reading;
pub mod refusal;
pub mod release_watch;
pub mod released;
pub mod report;
pub mod runtime;
pub mod shared;
pub mod socket;
pub mod spec;
pub mod spec_hash;
pub mod state;
pub mod status;
pub mod translate;
pub mod updates;
pub mod watch;
pub mod yaml;
