//! The agent's short-lived children: this same program again, by another first word. All that parses YAML or knows the Compose
//! model runs in them and never in the daemon: what reads untrusted text does not hold the Docker socket, and the daemon stays
//! small (docs/decisions/0008). A question goes to the child's stdin as JSON, the answer comes from its stdout.
//!
//! This is the daemon's side and the types that both sides speak; `child` is the other side. Both are always the same build
//! (`/proc/self/exe` is it even after an upgrade replaced the file), so these types are no contract.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use landfall_core::command::Command;
use landfall_core::config::{App, Host, Settings};
use landfall_core::ids::{AppName, ReleaseId, printable};
use landfall_core::layout::Layout;
use landfall_core::secrets::SecretNeed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::caps::HostContext;
use crate::compose_plugin::ComposePlugin;
use crate::preflight::Stop;
use crate::spec::Deployment;
use crate::translate::ImageFacts;

/// This program, for its own children: also after the file was replaced or removed.
pub const OWN_PROGRAM: &str = "/proc/self/exe";
/// Reading a few small files takes milliseconds.
const SHORT: Duration = Duration::from_secs(20);
/// Compose has 20 s of its own; up to 16 MiB are written and synced.
const LONG: Duration = Duration::from_mins(1);

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// From landfall.yaml and its drop-ins to [`Settings`].
    Settings,
    /// Which images a release will surely need.
    Images,
    /// Which images the compose file on this machine names.
    Tags,
    /// From the sources of a release to the text of its canonical model.
    Translate,
    /// From that text and the images to a [`Deployment`] and its files.
    Finalise,
}

/// Which release is asked for, and the settings that it is read under.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Question {
    /// Every path.
    pub layout: Layout,
    /// Whose release.
    pub app: AppName,
    /// Which release; it is staged.
    pub release: ReleaseId,
    /// The app's settings.
    pub settings: App,
    /// The host's policy.
    pub host: Host,
}

/// What [`Job::Translate`] is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToTranslate {
    /// What is to be read.
    pub question: Question,
    /// By whom.
    pub plugin: ComposePlugin,
}

/// What [`Job::Translate`] answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Translation {
    /// The model, or why there is none.
    pub result: Result<Model, Stop>,
    /// What Compose warned of.
    pub warnings: Vec<String>,
}

/// A canonical model on its way from one child to the next.
#[derive(Debug, Serialize, Deserialize)]
pub struct Model {
    /// Every image that it names, as the release writes it.
    pub images: BTreeSet<String>,
    /// What its services need of vaults.
    pub needs: Vec<SecretNeed>,
    /// Its text. The daemon never looks into it.
    pub text: String,
}

/// What [`Job::Finalise`] is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToFinalise {
    /// What was read.
    pub question: Question,
    /// [`Model::text`].
    pub text: String,
    /// By reference.
    pub images: BTreeMap<String, ImageFacts>,
    /// This machine and the other apps on it.
    pub context: HostContext,
    /// What is live, whose volumes and networks must fit.
    pub live: Option<Deployment>,
    /// Whether the files are laid down.
    pub files: Files,
}

/// What becomes of the files that a deployment needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Files {
    /// They are laid down.
    Write,
    /// It is only a plan.
    Leave,
}

/// Why there are no settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsettled {
    /// They have a mistake.
    #[error("{0}")]
    Invalid(String),
    /// The child gave no answer.
    #[error("{0}")]
    NoAnswer(String),
}

impl Job {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Settings, Self::Images, Self::Tags, Self::Translate, Self::Finalise];

    /// The program's first argument.
    pub fn word(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Images => "images",
            Self::Tags => "tags",
            Self::Translate => "translate",
            Self::Finalise => "finalise",
        }
    }

    /// The job of this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|job| job.word() == word)
    }

    fn deadline(self) -> Duration {
        match self {
            Self::Settings | Self::Images => SHORT,
            Self::Tags | Self::Translate | Self::Finalise => LONG,
        }
    }
}

/// The settings on disk.
pub async fn settings(layout: &Layout) -> Result<Settings, Unsettled> {
    let read: Result<Settings, String> = ask(Job::Settings, layout).await.map_err(Unsettled::NoAnswer)?;
    read.map_err(Unsettled::Invalid)
}

/// The images whose download need not wait for the translation; none where that cannot be said.
pub async fn images(question: &Question) -> BTreeSet<String> {
    // Those that are missed here are fetched after the translation, which also says what is wrong.
    ask(Job::Images, question).await.unwrap_or_default()
}

/// The images of the compose file on this machine, by service, as it writes them. The release of the question is not looked at.
pub async fn tags(question: &ToTranslate) -> Result<BTreeMap<String, String>, Stop> {
    ask(Job::Tags, question).await.unwrap_or_else(|why| Err(Stop::Later(why)))
}

/// The canonical model of a release.
pub async fn translate(question: &ToTranslate) -> Translation {
    let answer = ask(Job::Translate, question).await;
    answer.unwrap_or_else(|why| Translation { result: Err(Stop::Later(why)), warnings: Vec::new() })
}

/// What the release becomes here; its files are laid down first, if that is asked.
pub async fn finalise(question: &ToFinalise) -> Result<Deployment, Stop> {
    ask(Job::Finalise, question).await.unwrap_or_else(|why| Err(Stop::Later(why)))
}

/// One child. The error says what became of it.
async fn ask<A: DeserializeOwned>(job: Job, question: &impl Serialize) -> Result<A, String> {
    let failed = |what: &dyn std::fmt::Display| {
        let word = job.word();
        format!("the agent's own child `landfall-agent {word}` {what}; it is tried again")
    };
    let question = serde_json::to_vec(question).map_err(|error| failed(&format!("cannot be asked: {error}")))?;
    let child = Command::new(OWN_PROGRAM).arg(job.word()).stdin(question).deadline(job.deadline());
    let output =
        child.run().await.map_err(|error| failed(&format!("gave no answer: {:#}", anyhow::Error::from(error))))?;
    if !output.success() {
        return Err(failed(&format!("ended with {}; {}", output.code, output.last_words())));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| failed(&format!("answered what cannot be read: {}", printable(&error.to_string(), 200))))
}
