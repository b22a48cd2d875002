//! What all apps of this agent share: the Engine, the settings in force, facts of the machine, and what each app shows
//! to operators. Single-threaded: plain cells.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use landfall_core::config::Settings;
use landfall_core::contract::ChannelFile;
use landfall_core::ids::AppName;
use landfall_core::layout::Layout;
use landfall_core::protocol::Cause;
use landfall_core::secrets::SecretNeed;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::engine::{Engine, MachineFacts};
use crate::found_plugin::FoundPlugin;
use crate::observed::Observed;
use crate::previews::Slots;
use crate::pulls::{Pulls, TooLarge};
use crate::spec::ServiceSecrets;
use crate::state::AppState;
use crate::totals::Totals;

/// What all apps share.
#[derive(Debug)]
pub struct Shared {
    /// Every path.
    pub layout: Layout,
    /// The Engine.
    pub engine: Engine,
    /// Where it listens.
    pub engine_socket: PathBuf,
    /// The settings in force, with an app for each preview.
    pub settings: RefCell<Rc<Settings>>,
    /// The settings as they are written.
    pub written: RefCell<Rc<Settings>>,
    /// The apps that stand for tags.
    pub previews: RefCell<Slots>,
    /// Previews whose life is over, and why: one that an operator holds stays until it is let go.
    pub ending: RefCell<BTreeMap<AppName, String>>,
    /// What is wrong with the previews.
    pub preview_problems: RefCell<Vec<String>>,
    /// Held while it is decided whether a release fits this machine: two that are examined at once must not be promised the same memory.
    pub admission: tokio::sync::Mutex<()>,
    /// Raised at each change of the settings.
    pub settings_epoch: Cell<u64>,
    /// Why the settings on disk are not those in force.
    pub settings_problem: RefCell<Option<String>>,
    /// The Compose plugin.
    pub plugin: FoundPlugin,
    /// The machine, once the Engine has answered.
    pub machine: RefCell<MachineFacts>,
    /// Why the Engine does not answer.
    pub engine_problem: RefCell<Option<String>>,
    /// The kernel's boot id.
    pub boot: String,
    /// How long the way back stays armed after a deployment went live, milliseconds.
    pub probation: crate::observed::Millis,
    /// What each app shows.
    pub views: RefCell<BTreeMap<AppName, AppView>>,
    /// Told when something that `status` shows may have changed.
    pub changed: Notify,
    /// The images that are being pulled.
    pub pulls: RefCell<Pulls>,
    /// Images of newest releases that there was no room for.
    pub too_large: RefCell<TooLarge>,
    /// Told when an app's life is over: what it had is free.
    pub ended: Notify,
    /// What the newest release of each app needs of vaults; nothing is known before its first preflight.
    pub needs: RefCell<BTreeMap<AppName, Vec<SecretNeed>>>,
    /// What containers shall see that see rotations while they run, of the release that is examined: chosen once, by service.
    pub first_live: RefCell<BTreeMap<AppName, BTreeMap<String, ServiceSecrets>>>,
    /// Told when the fetcher may have said something new.
    pub secrets_changed: Notify,
    /// How to reach each app's loop.
    pub mailboxes: RefCell<BTreeMap<AppName, mpsc::UnboundedSender<Mail>>>,
}

/// What an app's loop shows to operators.
#[derive(Debug, Clone, Default)]
pub struct AppView {
    /// What it remembers.
    pub state: AppState,
    /// What it saw last.
    pub seen: Observed,
    /// What it waits for; none when all is as it should be.
    pub why: Option<String>,
    /// Memory promised to what passed preflight and does not run yet, bytes.
    pub promised: u64,
    /// Why the newest release is not rolled out.
    pub refused: Option<String>,
    /// What kind of reason that is, where it is known.
    pub refused_for: Option<Cause>,
    /// Why the newest release, though valid, is not tried again.
    pub quarantined: Option<String>,
    /// True while images are pulled and a release is examined.
    pub preflight: bool,
    /// What the watcher says.
    pub channel: Option<ChannelFile>,
    /// Containers whose health check passed by our own probe since their start.
    pub opened: std::collections::BTreeSet<String>,
    /// How often the agent started each container again.
    pub restarts: BTreeMap<String, u32>,
    /// Containers that exited in a row and are started again with a delay.
    pub backing_off: std::collections::BTreeSet<String>,
    /// What its history adds up to.
    pub totals: Totals,
    /// True while the agent cannot act on it, for example because the Engine hangs.
    pub stuck: bool,
}

/// What reaches an app's loop.
#[derive(Debug)]
pub enum Mail {
    /// Something happened to this container.
    Touched(String),
    /// The Engine's answer to a start: why not, if it could not.
    Started(AskedStart, Option<String>),
    /// The Engine was out of sight.
    Gap,
    /// Its channel file, or the settings, may have changed.
    Look,
    /// What is wanted of the other daemons has changed.
    Want,
    /// Something was freed that a refused release may have lacked.
    Again,
    /// Its life is over, and why: it was a preview.
    End(String),
    /// An operator's word; the answer says what was done, or code, message and next step.
    Intent(Intent, oneshot::Sender<Result<String, landfall_core::protocol::Failure>>),
}

/// A container that the Engine was asked to start, as it was then: its events may be seen before the answer.
#[derive(Debug, Clone)]
pub struct AskedStart {
    /// Which.
    pub id: String,
    /// Of which service.
    pub service: String,
    /// It had never run before.
    pub fresh: bool,
}

/// An operator's word to one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// No release changes.
    Hold(String),
    /// The end of hold and hands-off.
    Resume,
    /// No healing either, for this many seconds.
    HandsOff(u64, String),
    /// Back to what ran before.
    Rollback(String),
    /// Lift the quarantines and try again.
    Retry,
}

impl Shared {
    /// The settings in force.
    pub fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    /// Memory caps promised to all apps but this one, bytes.
    pub fn memory_of_others(&self, app: &AppName) -> u64 {
        let views = self.views.borrow();
        let others = views.iter().filter(|(name, _)| *name != app);
        let memory = |view: &AppView| {
            let now = view.state.current().map_or(0, |generation| generation.deployment.memory());
            now.max(view.promised)
        };
        others.map(|(_, view)| memory(view)).fold(0, u64::saturating_add)
    }

    /// Sends mail to every app.
    pub fn tell_all(&self, mail: impl Fn() -> Mail) {
        for mailbox in self.mailboxes.borrow().values() {
            // A loop that is gone needs no mail.
            let _ = mailbox.send(mail());
        }
    }
}
