//! Files that follow from what an app remembers: `wanted`, which says what the watcher must keep, and
//! `current/compose.yaml`, which starts what is live without us. Nothing is read back from them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use landfall_core::contract::{self, Read, WantedFile};
use landfall_core::ids::{AppName, ReleaseId, sha256_hex};

use crate::decide::Candidate;
use crate::release_watch::ReleaseWatch;
use crate::secret_sets;
use crate::shared::Shared;
use crate::spec::Deployment;
use crate::state::{AppState, Phase};
use crate::tag_watch::Tags;
use crate::yaml;

/// `current/compose.yaml` starts what is live by a plain `docker compose up -d`. Deployments that nothing needs go; the
/// candidate is needed though no state names it yet: its file was written by preflight and is not written again.
pub fn publish_current(shared: &Shared, app: &AppName, state: &AppState, candidate: Option<&Candidate>) -> Result<()> {
    let Some(live) = &state.live else { return Ok(()) };
    // An adopted project has no file of ours; its own stands where it stood.
    let Ok(model) = std::fs::read(shared.layout.deployment_model(app, &live.deployment.id)) else { return Ok(()) };
    let text = yaml::compose_text(&serde_json::from_slice(&model)?);
    let path = shared.layout.current(app).join("compose.yaml");
    if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
        landfall_core::publish::write(&path, text.as_bytes(), 0o640)?;
    }
    let kept = deployments_in_use(state).into_iter().chain(candidate.map(|c| &c.deployment));
    let keep: Vec<String> = kept.map(|d| d.id.to_string()).collect();
    let all = shared.layout.agent_app(app).join("deployments");
    for entry in std::fs::read_dir(all)?.flatten() {
        if !keep.iter().any(|id| entry.file_name() == id.as_str()) {
            // Clean-up: what cannot be removed now is removed after the next release.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// What the watcher must not delete, and what it is to follow.
pub fn write_wanted(shared: &Shared, app: &AppName, state: &AppState, newest: &ReleaseWatch) -> Result<()> {
    let mut releases: Vec<ReleaseId> = deployments_in_use(state).iter().map(|d| d.release.clone()).collect();
    releases.extend(newest.aimed().cloned());
    releases.sort();
    releases.dedup();
    let old = match contract::read::<WantedFile>(&shared.layout.wanted(app)) {
        Read::Found(old) => Some(old),
        Read::Absent | Read::Garbled(_) | Read::NewerFormat(_) => None,
    };
    let before = || old.as_ref().map(|old| old.tags.clone()).unwrap_or_default();
    let tags = newest.tags().cloned().unwrap_or_else(before);
    let mut in_use = deployments_in_use(state);
    in_use.extend(newest.candidate().map(|candidate| &candidate.deployment));
    let (needs, asked) = (shared.needs.borrow(), old.as_ref().map_or(&[][..], |old| &old.secrets));
    let first = shared.first_live.borrow();
    let chosen = first.get(app).into_iter().flat_map(BTreeMap::values);
    let (secrets, live) = secret_sets::wanted(needs.get(app).map(Vec::as_slice), state, &in_use, chosen, asked);
    let same =
        |old: &WantedFile| old.releases == releases && old.tags == tags && old.secrets == secrets && old.live == live;
    if old.as_ref().is_some_and(same) {
        return Ok(());
    }
    let poll = old.as_ref().map_or(0, |old| old.poll);
    want(
        shared,
        WantedFile {
            format: contract::FORMAT,
            app: app.clone(),
            releases,
            poll,
            tags,
            secrets,
            live,
            request: String::new(),
        },
    )
}

/// Has the watcher ask the channel now, between its polls.
pub fn raise_poll(shared: &Shared, app: &AppName) -> Result<()> {
    let path = shared.layout.wanted(app);
    match contract::read::<WantedFile>(&path) {
        Read::Found(old) => want(shared, WantedFile { poll: old.poll + 1, ..old }),
        Read::Absent => want(
            shared,
            WantedFile {
                format: contract::FORMAT,
                app: app.clone(),
                releases: Vec::new(),
                poll: 1,
                tags: Tags::new(),
                secrets: Vec::new(),
                live: BTreeMap::new(),
                request: String::new(),
            },
        ),
        // To write it anew without what it keeps would let the watcher delete that.
        Read::Garbled(why) => bail!("what the watcher must keep cannot be read: {why}"),
        Read::NewerFormat(format) => bail!("`{}` has format {format}, of a newer agent", path.display()),
    }
}

fn want(shared: &Shared, mut wanted: WantedFile) -> Result<()> {
    wanted.request.clear();
    wanted.request = sha256_hex(&serde_json::to_vec(&wanted)?);
    landfall_core::publish::write_json(&shared.layout.wanted(&wanted.app), &wanted)?;
    Ok(())
}

/// All that is kept of an app, when its life is over. The ledger goes last: until then the end goes on after a kill.
pub fn forget(shared: &Shared, app: &AppName) -> Result<()> {
    let layout = &shared.layout;
    let directory = layout.agent_app(app);
    if directory.exists() {
        std::fs::remove_dir_all(&directory).with_context(|| format!("cannot remove `{}`", directory.display()))?;
    }
    for file in [layout.wanted(app), layout.history(app), layout.ledger(app)] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove `{}`", file.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// The deployments of which a container exists or may be started again.
pub fn deployments_in_use(state: &AppState) -> Vec<&Deployment> {
    let mut all: Vec<&Deployment> = state.live.iter().map(|g| &g.deployment).collect();
    match &state.phase {
        Phase::Preparing { target, probation, .. } => {
            all.push(target);
            all.extend(probation.iter().map(|armed| &armed.from.deployment));
        }
        Phase::Rolling { target, from, .. } | Phase::Monitoring { target, from, .. } => {
            all.push(&target.deployment);
            all.extend(from.iter().map(|g| &g.deployment));
        }
        Phase::Probation(armed) => all.push(&armed.from.deployment),
        Phase::RollingBack { failed, to, .. } => {
            all.push(&failed.deployment);
            all.extend(to.iter().map(|g| &g.deployment));
        }
        Phase::Held { way_back, .. } => all.extend(way_back.iter().map(|g| &g.deployment)),
        Phase::Idle | Phase::Ending { .. } => {}
    }
    all
}
