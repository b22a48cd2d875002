//! The settings files as a daemon that runs for months follows them: read again when they change, a mistake is told once and takes
//! nothing away from what is in force. What settings mean for the daemon is its own affair.

use super::{Settings, Stamp};
use crate::ids::printable;
use crate::journal::event;
use crate::layout::Layout;

/// The files, and what came of reading them.
#[derive(Debug)]
pub struct SettingsFiles {
    layout: Layout,
    /// How they looked when they were read.
    stamp: Stamp,
    /// The mistake that was told last.
    mistake: Option<String>,
    /// Some were valid.
    in_force: bool,
}

impl SettingsFiles {
    /// Not read yet.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), stamp: Stamp::default(), mistake: None, in_force: false }
    }

    /// Whether they changed since they were read.
    pub fn have_changed(&self) -> bool {
        Stamp::take(&self.layout) != self.stamp
    }

    /// What they say; none where they have a mistake, which is told once. `without` says what that means where none were ever valid.
    pub fn read(&mut self, without: &str) -> Option<Settings> {
        // Before the reading: a change in between is seen by the next look.
        self.stamp = Stamp::take(&self.layout);
        match Settings::load(&self.layout) {
            Ok(settings) => {
                (self.mistake, self.in_force) = (None, true);
                Some(settings)
            }
            Err(error) => {
                let mistake = printable(&format!("{:#}", anyhow::Error::from(error)), 1000);
                if self.mistake.as_ref() != Some(&mistake) {
                    let kept = if self.in_force { "the last valid ones stay in force" } else { without };
                    tracing::error!(
                        MESSAGE_ID = event::SETTINGS_INVALID,
                        "the settings cannot be used, {kept}: {mistake}"
                    );
                    self.mistake = Some(mistake);
                }
                None
            }
        }
    }

    /// What is wrong with them.
    pub fn mistake(&self) -> Option<&String> {
        self.mistake.as_ref()
    }
}
