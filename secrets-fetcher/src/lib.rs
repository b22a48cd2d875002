//! landfall-secrets-fetcher: turns references to secrets into files in memory. It asks vaults and writes `/run/landfall/secrets` and
//! `/run/landfall/index`; it never touches the Docker socket, never parses a compose file, never writes a value to a disk but sealed,
//! and never shows one in a log, an index or an error.
//!
//! | module | what it does |
//! |---|---|
//! | [`fetcher`] | the loop: what is wanted, the settings, rounds, sets, index files |
//! | [`wanted`] | edge: what the agent wants of every app |
//! | [`plan`] | pure: what is to be fetched, for all needs at once |
//! | [`schedule`] | pure: when a vault is asked: refresh, back-off |
//! | [`mod@round`] | one round: all that some needs take, each secret once |
//! | [`app`] | pure: what became of an app's needs, and what the journal is told |
//! | [`settle`] | from what a round brought to a set and an answer |
//! | [`sets`] | edge: sets are laid down whole, and removed |
//! | [`cache`] | what is sealed on the disk for a boot while a vault is out of reach |
//! | [`machine`] | what the machine itself needs: credentials of registries and of systemd units |
//! | [`held_files`] | edge: their files, each replaced when it rotates |
//! | [`unit_socket`] | edge: where systemd fetches a unit's credentials |
//! | [`live`] | edge: directories in which containers see a rotation while they run |
//! | [`source`], [`value`] | what a vault is, and what it gives |
//! | [`azure`] | edge: Key Vault, with Microsoft's client; [`door`]: the HTTP client under it; [`explain`]: pure: what its errors mean |
//! | [`directory`] | edge: a directory with a file for each secret |
//! | [`mod@owner`] | edge: files of another owner, given away by a process that can do nothing else |
//! | [`environment`], [`hygiene`] | what the process does before it has a secret |

#![deny(clippy::disallowed_methods)]

pub mod app;
pub mod azure;
pub mod cache;
pub mod directory;
pub mod door;
pub mod environment;
pub mod explain;
pub mod fetcher;
pub mod held_files;
pub mod hygiene;
pub mod live;
pub mod machine;
pub mod owner;
pub mod plan;
pub mod round;
pub mod schedule;
pub mod sets;
pub mod settle;
pub mod source;
pub mod unit_socket;
pub mod value;
pub mod wanted;
