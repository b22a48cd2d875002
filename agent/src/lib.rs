//! landfall-agent: makes the VM match the release. See `docs/architecture.md` for the map.

pub mod spec;
