//! A certificate that is refused for its time speaks of two clocks: of whoever made it, and of this machine. A machine that boots with
//! a wrong clock refuses everybody, and its people are to look at home first.

/// What to do where [`doubts_the_clock`].
pub const SEE_THE_CLOCK: &str =
    "see by `timedatectl` whether the clock of this machine is right, then who answers there";

/// Whether these words of rustls are about a time.
pub fn doubts_the_clock(words: &str) -> bool {
    ["certificate expired", "certificate not valid yet"].iter().any(|said| words.contains(said))
}
