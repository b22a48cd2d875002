//! The commands that look at a machine, with stand-ins for most of it and containers of the real Engine.

mod stand_in;
mod support_bundle;
mod verify;
