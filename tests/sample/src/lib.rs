//! The sample application that the tests, the benchmarks and `make try` deploy: a proxy, an api, a store and a
//! migration, each a role of one static binary, so that images are made without a build daemon; and one that misuses its machine.
//! It must behave as a decent application does (drain on SIGTERM, no stale connections), never better: what is
//! measured is the deployment, not the sample.

pub mod api;
pub mod http;
pub mod misuse;
pub mod proxy;
pub mod proxy_config;
pub mod store;
