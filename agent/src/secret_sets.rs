//! The agent's side of secrets: tells the fetcher what services need, and learns which sets there are. It reads the index and never
//! a set: a value is nothing that this program may see.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use landfall_core::contract::{self, Read, WantedFile};
use landfall_core::ids::{AppName, printable};
use landfall_core::machine_secrets::{MachineSecret, MachineSecretsFile};
use landfall_core::protocol::SecretStatus;
use landfall_core::secrets::{SecretNeed, SecretsFile};
use tokio::time::Instant;

use crate::preflight::Stop;
use crate::secret_needs::{self, NO_SET};
use crate::shared::{Mail, Shared};
use crate::spec::{Deployment, ServiceSecrets};

/// How long a release waits for the fetcher before it is said, and tried again.
const PATIENCE: Duration = Duration::from_secs(30);

/// The sets of a release, by service.
pub type Sets = BTreeMap<String, ServiceSecrets>;

/// Asks the fetcher for what a release needs and waits for all of it.
pub async fn obtain(shared: &Rc<Shared>, app: &AppName, needs: &[SecretNeed]) -> Result<Sets, Stop> {
    if let Some(why) = secret_needs::forbidden(needs, &shared.settings().vaults) {
        return Err(Stop::Refused(why));
    }
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
        let missing: Vec<String> = needs.iter().filter_map(|need| missing(need, index.as_ref())).collect();
        if missing.is_empty() {
            return Ok(found(needs, index.as_ref()));
        }
        if tokio::time::timeout_at(deadline, changed).await.is_err() {
            return Err(Stop::Later(format!(
                "waits for secrets: {}; see `journalctl -u landfall-secrets-fetcher`; it is tried again",
                missing.join(", ")
            )));
        }
    }
}

/// What there is already; a stand-in for what is not. For a plan.
pub fn known(shared: &Shared, app: &AppName, needs: &[SecretNeed]) -> Sets {
    let index = index(shared, app);
    let stand_in = |need: &SecretNeed| {
        let secrets = ServiceSecrets { set: NO_SET.to_owned(), need: need.clone() };
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
    found(needs, index.as_ref()).into_values().map(|secrets| secrets.set).collect()
}

/// The sets that a container of this deployment may be started with, of those that it needs.
pub fn present(shared: &Shared, app: &AppName, deployments: &[&Deployment]) -> BTreeSet<String> {
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
    needed.into_iter().map(|secrets| &secrets.set).filter(|set| there.contains(set)).cloned().collect()
}

/// What to ask the fetcher for: the newest of what the newest release needs, and exactly what is in use.
pub fn wanted(newest: Option<&[SecretNeed]>, in_use: &[&Deployment], before: &[SecretNeed]) -> Vec<SecretNeed> {
    let pinned = in_use.iter().flat_map(|deployment| deployment.services.values());
    let mut needs: Vec<SecretNeed> =
        pinned.filter_map(|service| Some(service.secrets.as_ref()?.need.clone())).collect();
    match newest {
        Some(newest) => needs.extend_from_slice(newest),
        // Nothing is known since a restart: what was asked before is asked on, so that nothing goes stale.
        None => needs.extend(before.iter().filter(|need| need.is_open()).cloned()),
    }
    needs.sort();
    needs.dedup();
    needs
}

/// What an operator may see: all but the values.
pub fn shown(shared: &Shared, app: &AppName) -> Vec<SecretStatus> {
    let index = index(shared, app);
    let views = shared.views.borrow();
    let running =
        views.get(app).and_then(|view| view.state.current()).map(|generation| &generation.deployment.services);
    let running =
        |service: &str, key: &str| running?.get(service)?.secrets.as_ref()?.need.files.get(key)?.secret.version.clone();
    let needs = shared.needs.borrow().get(app).cloned();
    // Before the first preflight of this agent: what the one before it asked for.
    let asked = || match contract::read::<WantedFile>(&shared.layout.wanted(app)) {
        Read::Found(wanted) => wanted.secrets.into_iter().filter(SecretNeed::is_open).collect(),
        Read::Absent | Read::Garbled(_) | Read::NewerFormat(_) => Vec::new(),
    };
    let mut shown = Vec::new();
    for need in needs.unwrap_or_else(asked) {
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
                    Some(answer) => answer.problem.clone(),
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

fn index(shared: &Shared, app: &AppName) -> Option<SecretsFile> {
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
    let set = |need: &SecretNeed| {
        let answer = index?.needs.get(&need.id())?;
        let versions = answer.files.iter().map(|(name, file)| (name.clone(), file.version.clone())).collect();
        let secrets = ServiceSecrets { set: answer.set.clone()?, need: need.pinned(&versions)? };
        Some((need.service.clone(), secrets))
    };
    needs.iter().filter_map(set).collect()
}
