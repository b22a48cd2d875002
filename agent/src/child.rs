//! Inside one of the agent's short-lived children ([`crate::children`]): reads the question, narrows itself, answers, ends.
//!
//! It opens no socket, and a release is untrusted text: it may read the staged releases and the settings, write the agent's own
//! directory (and that only to lay down files), and use so much CPU and memory. It dies with the agent, so that a new agent is
//! the one writer of its directory.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use landfall_core::config::Settings;
use landfall_core::contract::{self, Read, StagedRelease, StagedSource};
use landfall_core::layout::Layout;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::children::{Files, Job, Model, OWN_PROGRAM, Question, ToFinalise, ToTranslate, Translation};
use crate::fence::{self, Confinement};
use crate::preflight::Stop;
use crate::spec::Deployment;
use crate::{canonical, continuity, early_images, raw_policy, translate};

/// The largest project takes a tenth of a second. No less than Compose is given, which inherits it.
const CPU_SECONDS: u64 = 20;
/// No less than Compose is given.
const MEMORY_BYTES: u64 = 512 << 20;

/// Does one job and says its answer on stdout.
pub fn main(job: Job) -> ExitCode {
    let done = work(job).and_then(|answer| std::io::stdout().write_all(&answer).context("stdout"));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not the journal: this process has no log of its own, its stderr goes to the one who asked.
            let _ = std::io::stderr().write_all(format!("{error:#}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn work(job: Job) -> Result<Vec<u8>> {
    fence::die_with_parent()?;
    match job {
        Job::Settings => {
            let layout: Layout = question()?;
            // All of the machine: a settings file may be a link to anywhere.
            narrow(&[], &[Path::new("/")], &[])?;
            let settings = Settings::load(&layout);
            answer(&settings.map_err(|error| format!("{:#}", anyhow::Error::from(error))))
        }
        Job::Images => {
            let question: Question = question()?;
            narrow(&[], &sources(&question), &[])?;
            answer(&images(&question))
        }
        Job::Tags => {
            let ToTranslate { question, plugin } = question()?;
            narrow(&[Path::new(OWN_PROGRAM), plugin.binary()], &sources(&question), &[])?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let images: Result<_, Stop> = runtime.block_on(async {
                let (app, app_settings, host) = (&question.app, &question.settings, &question.host);
                let input = translate::host_input(&question.layout, app, app_settings, host);
                Ok(canonical::read(&plugin, input, &mut Vec::new()).await?.images())
            });
            answer(&images)
        }
        Job::Translate => {
            let ToTranslate { question, plugin } = question()?;
            narrow(&[Path::new(OWN_PROGRAM), plugin.binary()], &sources(&question), &[])?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut warnings = Vec::new();
            let result = runtime.block_on(async {
                let staged = staged(&question)?;
                let input = input(&question, &staged);
                let text = translate::text(&plugin, &input, &mut warnings).await?;
                let project = translate::understand(input, &text)?;
                let images = project.images().into_values().collect();
                Ok(Model { images, needs: project.needs().to_vec(), text })
            });
            answer(&Translation { result, warnings })
        }
        Job::Finalise => {
            let asked: ToFinalise = question()?;
            let own = asked.question.layout.agent();
            let write: &[&Path] = match asked.files {
                Files::Write => &[&own],
                Files::Leave => &[],
            };
            narrow(&[], &sources(&asked.question), write)?;
            answer(&finalise(&asked))
        }
    }
}

fn question<Q: DeserializeOwned>() -> Result<Q> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read the question")?;
    serde_json::from_slice(&bytes).context("the question does not parse")
}

fn answer(answer: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(answer).context("the answer cannot be written")
}

fn narrow(run: &[&Path], read: &[impl AsRef<Path>], write: &[&Path]) -> Result<()> {
    let read: Vec<&Path> = read.iter().map(AsRef::as_ref).collect();
    fence::confine(&Confinement { cpu_seconds: CPU_SECONDS, memory_bytes: MEMORY_BYTES, run, read: &read, write })
}

/// Where the sources of a release lie.
fn sources(question: &Question) -> [std::path::PathBuf; 2] {
    [question.layout.watcher(), question.layout.host_app(question.settings.project(&question.app))]
}

fn input<'a>(question: &'a Question, staged: &'a StagedRelease) -> translate::Input<'a> {
    translate::input(&question.layout, staged, &question.app, &question.settings, &question.host)
}

fn staged(question: &Question) -> Result<StagedRelease, Stop> {
    let id = &question.release;
    let path = question.layout.release(&question.app, id).join("release.json");
    match contract::read::<StagedRelease>(&path) {
        Read::Found(staged) => Ok(staged),
        Read::Absent => Err(Stop::Later(format!("release {} is not staged at `{}`", id.short(), path.display()))),
        Read::NewerFormat(format) => Err(Stop::Later(format!(
            "release {} was staged in format {format}, newer than this agent reads: update landfall-agent",
            id.short()
        ))),
        Read::Garbled(why) => Err(Stop::Later(format!("release {} is garbled ({why})", id.short()))),
    }
}

fn images(question: &Question) -> BTreeSet<String> {
    let Ok(staged) = staged(question) else { return BTreeSet::new() };
    let StagedSource::Bundle { compose, .. } = &staged.source else { return BTreeSet::new() };
    let directory = question.layout.release(&question.app, &question.release).join("compose");
    let documents = compose.iter().filter_map(|name| raw_policy::read_documents(&directory.join(name), name).ok());
    early_images::of(&documents.flatten().collect::<Vec<_>>(), &question.settings.profiles)
}

fn finalise(asked: &ToFinalise) -> Result<Deployment, Stop> {
    let staged = staged(&asked.question)?;
    let project = translate::understand(input(&asked.question, &staged), &asked.text)?;
    let done = translate::finalise(&project, &asked.images, &asked.context)?;
    if let Some(live) = &asked.live {
        continuity::judge(live, &done.deployment)?;
    }
    match asked.files {
        Files::Leave => {}
        Files::Write => write(asked, &done).map_err(|error| {
            let id = asked.question.release.short();
            Stop::Later(format!("cannot write what release {id} needs: {error}"))
        })?,
    }
    Ok(done.deployment)
}

fn write(asked: &ToFinalise, done: &translate::Final) -> std::io::Result<()> {
    for (path, bytes, mode) in &done.files {
        if !path.exists() {
            landfall_core::publish::write(path, bytes, *mode)?;
        }
    }
    let path = asked.question.layout.deployment_model(&asked.question.app, &done.deployment.id);
    landfall_core::publish::write(&path, done.model.to_string().as_bytes(), 0o640)
}
