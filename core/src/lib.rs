//! What two or more Landfall programs share, and nothing else.
//!
//! | module | what it holds |
//! |---|---|
//! | [`ids`] | names and identities: [`ids::AppName`], [`ids::Digest`], [`ids::ReleaseId`], [`ids::DeploymentId`] |
//! | [`layout`] | every path on the VM, under one root |
//! | [`contract`] | the files between daemons: channel, staged release, wanted |
//! | [`secrets`] | what is asked of vaults and what was found there: references, needs, sets; never a value |
//! | [`machine_secrets`] | the same of what the machine itself needs: credentials of registries and of systemd units |
//! | [`protocol`] | the agent's socket: requests, answers, status and history records |
//! | [`outcome`] | what became of a release on a machine, as it is told outside of it |
//! | [`secrets_mount`] | the memory that secrets lie in: mounted, and looked at before it is written to |
//! | [`publish`] | the one atomic publish: write-temp, fsync, rename, fsync-dir |
//! | [`directory_watch`] | its other end: the kernel tells when something was published |
//! | [`command`] | the one door to child processes: deadline, group kill, bounded output |
//! | [`backoff`], [`retry_after`] | exponential back-off and jitter as values; what the other side asks for |
//! | [`clock_doubt`] | what is said where a certificate is refused for its time |
//! | [`config`] | what is written in landfall.yaml, and [`config::Settings`], what it means |
//! | [`credential`] | who we are to a registry, from a file |
//! | [`daemon`] | what a daemon owes systemd: READY, STATUS, WATCHDOG, STOPPING, signals, exit codes |
//! | [`image_store`] | where the Engine keeps images |
//! | [`journal`] | events with a MESSAGE_ID, and the log's set-up |

#![deny(clippy::disallowed_methods)]

pub mod backoff;
pub mod clock_doubt;
pub mod command;
pub mod config;
pub mod contract;
pub mod credential;
pub mod daemon;
pub mod directory_watch;
pub mod ids;
pub mod image_store;
pub mod journal;
pub mod layout;
pub mod machine_secrets;
pub mod outcome;
pub mod protocol;
pub mod publish;
pub mod retry_after;
pub mod secrets;
pub mod secrets_mount;
