//! landfall-image-watcher: finds, verifies and stages releases. It talks to registries and writes
//! `/var/lib/landfall/watcher`; it never touches the Docker socket, never reads a secret, and never parses a compose file.
//!
//! | module | what it does |
//! |---|---|
//! | [`watcher`] | the loop: settings, one follower per app, polls wanted now, cleaning |
//! | [`follow`] | one channel: one HEAD per poll |
//! | [`schedule`] | pure: when the next poll is: jitter, back-off |
//! | [`tags`] | pure: a set of image tags, and when it is whole |
//! | [`follow_tags`] | edge: one poll of such a set; [`revision`]: what an image was built from |
//! | [`previews`] | pure: which tags of an entry of `previews` have an app |
//! | [`follow_previews`] | edge: lists those tags and writes `previews/<entry>.json` |
//! | [`take`] | from a new manifest to a staged release, step by step |
//! | [`manifest`] | pure: a manifest's bytes to an artifact, with all limits |
//! | [`titles`] | pure: which paths a release may name |
//! | [`sequence`] | pure: which manifest is newer |
//! | [`release`] | pure: identity, record and tree of a release |
//! | [`registry`] | edge: the HTTP client |
//! | [`stage`], [`clean`] | edge: what is laid down, and what goes |
//! | [`memory`], [`channel_file`] | edge: `state.json` and `channels/<app>.json` |
//! | [`chain`] | an error with its sources, for people |
//! | [`wanted`] | edge: what the agent wants now |

#![deny(clippy::disallowed_methods)]

pub mod chain;
pub mod channel_file;
pub mod clean;
pub mod follow;
pub mod follow_previews;
pub mod follow_tags;
pub mod manifest;
pub mod memory;
pub mod previews;
pub mod registry;
pub mod release;
pub mod revision;
pub mod schedule;
pub mod sequence;
pub mod stage;
pub mod tags;
pub mod take;
pub mod titles;
pub mod wanted;
pub mod watcher;
