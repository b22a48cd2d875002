//! The agent's side of secrets: tells the fetcher what services need, and learns which sets there are. It reads the index and never
//! a set: a value is nothing that this program may see.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use landfall_core::contract::{self, Read, WantedFile};
use landfall_core::ids::{AppName, printable};
use landfall_core::machine_secrets::{MachineSecret, MachineSecretsFile};
use landfall_core::protocol::{SecretStatus, StaleSecrets};
use landfall_core::secrets::{NeedAnswer, SecretNeed, SecretsFile};
use tokio::time::Instant;

use crate::live_secrets::Switch;
use crate::preflight::Stop;
use crate::secret_ages::{self, SecretAges};
use crate::secret_needs::{self, NO_SET};
use crate::shared::{Mail, Shared};
use crate::spec::{Deployment, ServiceSecrets};
use crate::state::AppState;
use crate::{live_files, live_secrets, stale_secrets};

/// How long a release waits for the fetcher before it is said, and tried again.
const PATIENCE: Duration = Duration::from_secs(30);

/// The sets of a release, by service.
pub type Sets = BTreeMap<String, ServiceSecrets>;

/// Asks the fetcher for what a release needs and waits for all of it.
pub async fn obtain(shared: &Rc<Shared>, app: &AppName, needs: &[SecretNeed]) -> Result<Sets, Stop> {
    if let Some(why) = secret_needs::forbidden(needs, &shared.settings().vaults) {
        return Err(Stop::Refused(why));
    }
    shared.first_live.borrow_mut().remove(app);
    let before = shared.needs.borrow_mut().insert(app.clone(), needs.to_vec());
    if before.as_deref() != Some(needs)
        && let Some(mailbox) = shared.mailboxes.borrow().get(app)
    {
        // A loop that is gone asks for nothing.
        let _ = mailbox.send(Mail::Want);
    }
    if needs.is_empty() {
        return Ok(Sets::new());
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let changed = shared.secrets_changed.notified();
        let index = index(shared, app);
        let mut missing: Vec<String> = needs.iter().filter_map(|need| missing(need, index.as_ref())).collect();
        if missing.is_empty() {
            let sets = with_live(shared, app, found(needs, index.as_ref()));
            missing.extend(sets.values().filter_map(|secrets| unseen(secrets, index.as_ref())));
            if missing.is_empty() {
                return Ok(sets);
            }
        }
        if tokio::time::timeout_at(deadline, changed).await.is_err() {
            return Err(Stop::Later(format!(
                "waits for secrets: {}; see `journalctl -u landfall-secrets-fetcher`; it is tried again",
                missing.join(", ")
            )));
        }
    }
}

/// What containers see live is what they see already, or else the newest, which is chosen once.
fn with_live(shared: &Shared, app: &AppName, mut sets: Sets) -> Sets {
    let mut first = shared.first_live.borrow_mut();
    let first = first.entry(app.clone()).or_default();
    let views = shared.views.borrow();
    for (service, secrets) in &mut sets {
        let Some(directory) = &secrets.need.live else { continue };
        if let Some(live) = views.get(app).and_then(|view| view.state.live_secrets.get(directory)) {
            *secrets = live.shown.clone();
        } else if let Some(chosen) = first.get(service) {
            *secrets = chosen.clone();
        } else {
            first.insert(service.clone(), secrets.clone());
            if let Some(mailbox) = shared.mailboxes.borrow().get(app) {
                // A loop that is gone asks for nothing.
                let _ = mailbox.send(Mail::Want);
            }
        }
    }
    sets
}

/// Why containers would not see this set live, where they should.
fn unseen(secrets: &ServiceSecrets, index: Option<&SecretsFile>) -> Option<String> {
    let directory = secrets.need.live.as_ref()?;
    let seen = index.and_then(|index| index.live.get(directory));
    (seen != Some(&secrets.set)).then(|| format!("`{}`: the fetcher has not put them in place", secrets.need.service))
}

/// The sets that a rotation rolls out: another of these is another deployment.
pub fn rolled_out<'a>(secrets: impl Iterator<Item = &'a ServiceSecrets>) -> Vec<String> {
    secrets.filter(|secrets| secrets.need.live.is_none()).map(|secrets| secrets.set.clone()).collect()
}

/// What there is already; a stand-in for what is not. For a plan.
pub fn known(shared: &Shared, app: &AppName, needs: &[SecretNeed]) -> Sets {
    let index = index(shared, app);
    let stand_in = |need: &SecretNeed| {
        let secrets = ServiceSecrets { set: NO_SET.to_owned(), need: need.clone(), open: None };
        (need.service.clone(), secrets)
    };
    let mut sets: Sets = needs.iter().map(stand_in).collect();
    sets.extend(found(needs, index.as_ref()));
    sets
}

/// The newest sets of what the newest release needs: another of these is a rotation.
pub fn newest(shared: &Shared, app: &AppName) -> Vec<String> {
    let needs = shared.needs.borrow();
    let Some(needs) = needs.get(app).filter(|needs| !needs.is_empty()) else { return Vec::new() };
    let index = index(shared, app);
    rolled_out(found(needs, index.as_ref()).values())
}

/// The sets, and live directories, that a container of what is in use may be started with, of those that it needs.
pub fn present(shared: &Shared, app: &AppName, state: &AppState) -> BTreeSet<String> {
    let deployments = live_files::deployments_in_use(state);
    let needed: Vec<&ServiceSecrets> = deployments
        .iter()
        .flat_map(|deployment| deployment.services.values())
        .filter_map(|s| s.secrets.as_ref())
        .collect();
    if needed.is_empty() {
        return BTreeSet::new();
    }
    // Whichever need it answers: the fetcher may not have looked at the one with versions yet.
    let index = index(shared, app);
    let there: BTreeSet<&String> =
        index.iter().flat_map(|index| index.needs.values()).filter_map(|a| a.set.as_ref()).collect();
    let is_there = |secrets: &ServiceSecrets| match &secrets.need.live {
        None => there.contains(&secrets.set),
        Some(_) => unseen(live_secrets::shown(state, secrets), index.as_ref()).is_none(),
    };
    needed.into_iter().filter(|secrets| is_there(secrets)).map(|secrets| secrets.mounted().to_owned()).collect()
}

/// What to ask the fetcher for: the newest of what the newest release needs, and exactly what is in use or chosen; and which sets
/// containers shall see, by live directory.
pub fn wanted<'a>(
    newest: Option<&[SecretNeed]>,
    state: &'a AppState,
    in_use: &[&'a Deployment],
    chosen: impl Iterator<Item = &'a ServiceSecrets>,
    before: &[SecretNeed],
) -> (Vec<SecretNeed>, BTreeMap<String, String>) {
    let (mut needs, mut live): (Vec<SecretNeed>, _) = (live_secrets::kept(state).cloned().collect(), BTreeMap::new());
    let used = in_use.iter().flat_map(|deployment| deployment.services.values()).filter_map(|s| s.secrets.as_ref());
    for secrets in used.chain(chosen) {
        let shown = live_secrets::shown(state, secrets);
        needs.push(shown.need.clone());
        // The newest of it even where the newest release does not get as far.
        needs.extend(secrets.open.clone());
        live.extend(secrets.need.live.clone().map(|directory| (directory, shown.set.clone())));
    }
    match newest {
        Some(newest) => needs.extend_from_slice(newest),
        // Nothing is known since a restart: what was asked before is asked on, so that nothing goes stale.
        None => needs.extend(before.iter().filter(|need| need.is_open()).cloned()),
    }
    needs.sort();
    needs.dedup();
    (needs, live)
}

/// What an operator may see: all but the values.
pub fn shown(shared: &Shared, app: &AppName) -> Vec<SecretStatus> {
    let index = index(shared, app);
    let views = shared.views.borrow();
    let running =
        views.get(app).and_then(|view| view.state.current()).map(|generation| &generation.deployment.services);
    let state = views.get(app).map(|view| &view.state);
    let running = |service: &str, key: &str| {
        let secrets = running?.get(service)?.secrets.as_ref()?;
        let secrets = seen_now(state?, secrets, index.as_ref())?;
        secrets.need.files.get(key)?.secret.version.clone()
    };
    let mut shown = Vec::new();
    for need in newest_needs(shared, app) {
        let answer = index.as_ref().and_then(|index| index.needs.get(&need.id()));
        for (key, file) in &need.files {
            let fetched = answer.and_then(|answer| answer.files.get(key));
            shown.push(SecretStatus {
                service: need.service.clone(),
                key: key.clone(),
                secret: file.secret.to_string(),
                running: running(&need.service, key),
                newest: fetched.map(|fetched| fetched.version.clone()),
                since: fetched.map(|fetched| fetched.fetched_at.clone()),
                expires: fetched.and_then(|fetched| fetched.expires.clone()),
                checked_at: answer.and_then(|answer| answer.checked_at.clone()),
                from_cache_at: answer.and_then(|answer| answer.from_cache_at.clone()),
                problem: match answer {
                    Some(answer) => answer.problem.clone().or_else(|| taken_back(state?, &need, answer)),
                    None => {
                        Some("the fetcher has not answered; see `journalctl -u landfall-secrets-fetcher`".to_owned())
                    }
                },
            });
        }
    }
    shown.extend(of_registries(shared));
    shown
}

/// The credentials of registries, which no release names. What a process shows a registry is what the file has.
fn of_registries(shared: &Shared) -> Vec<SecretStatus> {
    let known = match contract::read::<MachineSecretsFile>(&shared.layout.machine_secrets_index()) {
        Read::Found(file) => file.registries,
        Read::Absent | Read::Garbled(_) | Read::NewerFormat(_) => BTreeMap::new(),
    };
    let settings = shared.settings();
    let of_vaults = settings.registries.iter().filter_map(|(host, registry)| Some((host, registry.secret.as_ref()?)));
    let shown = of_vaults.map(|(host, of)| {
        let secret = of.secret.to_string();
        let found = known.get(host).filter(|found| found.secret == secret).cloned();
        let MachineSecret { version, fetched_at, expires, problem, .. } = found.unwrap_or_else(|| MachineSecret {
            problem: Some("the fetcher has not answered; see `journalctl -u landfall-secrets-fetcher`".to_owned()),
            ..MachineSecret::default()
        });
        SecretStatus {
            service: "(registry)".to_owned(),
            key: host.clone(),
            secret,
            running: version.clone(),
            newest: version,
            since: fetched_at,
            expires,
            checked_at: None,
            from_cache_at: None,
            problem,
        }
    });
    shown.collect()
}

/// What the newest release needs.
fn newest_needs(shared: &Shared, app: &AppName) -> Vec<SecretNeed> {
    if let Some(needs) = shared.needs.borrow().get(app) {
        return needs.clone();
    }
    // Before the first preflight of this agent: what the one before it asked for.
    match contract::read::<WantedFile>(&shared.layout.wanted(app)) {
        Read::Found(wanted) => wanted.secrets.into_iter().filter(SecretNeed::is_open).collect(),
        Read::Absent | Read::Garbled(_) | Read::NewerFormat(_) => Vec::new(),
    }
}

/// Its secrets, where their vaults have not confirmed them for long.
pub fn stale(shared: &Shared, app: &AppName) -> Option<StaleSecrets> {
    let needs = newest_needs(shared, app);
    if needs.is_empty() {
        return None;
    }
    let index = index(shared, app)?;
    stale_secrets::stalest(app.as_str(), &needs, &index, &shared.settings().vaults, jiff::Timestamp::now())
}

/// How old its secrets are; none where it needs none.
pub fn ages(shared: &Shared, app: &AppName) -> Option<SecretAges> {
    let needs = newest_needs(shared, app);
    if needs.is_empty() {
        return None;
    }
    secret_ages::ages(&needs, index(shared, app).as_ref())
}

/// What containers of a service have now.
fn seen_now<'a>(
    state: &'a AppState,
    secrets: &'a ServiceSecrets,
    index: Option<&SecretsFile>,
) -> Option<&'a ServiceSecrets> {
    let Some(directory) = &secrets.need.live else { return Some(secrets) };
    let seen = index?.live.get(directory)?;
    let live = state.live_secrets.get(directory);
    let before = live.and_then(|live| match &live.switch {
        Switch::Done => None,
        Switch::Asked { from, .. } | Switch::Watched { from, .. } | Switch::TakenBack { from } => Some(from),
    });
    [Some(live_secrets::shown(state, secrets)), before].into_iter().flatten().find(|secrets| secrets.set == *seen)
}

/// Why containers do not see the newest set live.
fn taken_back(state: &AppState, need: &SecretNeed, answer: &NeedAnswer) -> Option<String> {
    let refused = state.live_secrets.get(need.live.as_ref()?)?.refused.as_ref()?;
    (answer.set.as_ref() == Some(&refused.set)).then(|| {
        format!(
            "the newest version was taken back, {}; put another version into the vault, or `landfall retry`",
            refused.reason
        )
    })
}

/// What the fetcher says.
pub fn index(shared: &Shared, app: &AppName) -> Option<SecretsFile> {
    match contract::read::<SecretsFile>(&shared.layout.secrets_index(app)) {
        Read::Found(index) => Some(index),
        // The fetcher's own file, in memory: it is written anew whole. What is not known is waited for.
        Read::Absent | Read::Garbled(_) | Read::NewerFormat(_) => None,
    }
}

/// Why this need has no set, if it has none.
fn missing(need: &SecretNeed, index: Option<&SecretsFile>) -> Option<String> {
    let answer = index.and_then(|index| index.needs.get(&need.id()));
    if answer.is_some_and(|answer| answer.set.is_some()) {
        return None;
    }
    let service = &need.service;
    Some(match answer.and_then(|answer| answer.problem.as_deref()) {
        Some(problem) => format!("`{service}`: {}", printable(problem, 400)),
        None => format!("`{service}`: the fetcher has not answered"),
    })
}

fn found(needs: &[SecretNeed], index: Option<&SecretsFile>) -> Sets {
    let set = |need: &SecretNeed| Some((need.service.clone(), live_secrets::answered(need, index?)?));
    needs.iter().filter_map(set).collect()
}
