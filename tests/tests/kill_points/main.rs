//! kill -9 at every point where it could hurt: the agent at each write, fsync, rename and change it asks of the Engine, and
//! the Compose child at moments all over its life. The agent is started again at once, as `Restart=always` in its unit
//! does; nobody else helps. The judges are an HTTP client and the Engine's own list of containers.
//!
//! A test program of its own: nothing else of ours runs beside it.

mod agent;
mod compose;
mod drill;
mod ending;
mod together;
