//! End to end on the real Engine and a real registry, with the shipped programs as processes. Each test has an app, a
//! root and a registry of its own; the judges stand outside (see `landfall_tests`).

mod adoption;
mod bad_artifact;
mod bad_input;
mod cloud_init;
mod crash;
mod credentials;
mod disk;
mod host_compose;
mod idempotence;
mod live_secrets;
mod outage;
mod previews;
mod pulls;
mod rollout;
mod secrets;
mod settings;
mod shapes;
mod sources;
mod supervision;
mod unclean;
mod upgrade;
