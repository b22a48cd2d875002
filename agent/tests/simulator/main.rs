//! The state machine under a made-up Engine and clock: whole stories in microseconds, with every step checked.

mod shapes;
mod stories;
mod unclean;
mod world;
