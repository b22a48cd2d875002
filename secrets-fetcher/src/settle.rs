//! From what a round brought to a set and an answer: all files of a need, or none and why. It asks nobody.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use landfall_core::ids::AppName;
use landfall_core::layout::Layout;
use landfall_core::secrets::{NeededFile, SecretReference};

use crate::app::{Need, Seen};
use crate::plan::{self, NeedKey, Vaults};
use crate::schedule::Eagerness;
use crate::sets;
use crate::source::{FetchError, Fetched};

/// Each secret that was asked for, or why it was not given.
pub type Given = BTreeMap<SecretReference, Result<Fetched, FetchError>>;

/// A need that names one set, which is there: there is nothing to ask.
pub fn note_laid(app: &AppName, need: &mut Need, set: String, path: impl Fn(&str, &str) -> PathBuf) {
    need.eagerness = Eagerness::Never;
    let is_told =
        need.answer.as_ref().is_some_and(|answer| answer.set.as_ref() == Some(&set) && answer.problem.is_none());
    if is_told {
        return;
    }
    let laid_at = sets::laid_at(&path(&need.need.service, &set));
    let seen = |(name, file): (&String, &NeededFile)| Seen {
        name: name.clone(),
        version: file.secret.version.clone().unwrap_or_default(),
        expires: None,
    };
    let (files, now) = (need.need.files.iter().map(seen).collect(), Timestamp::now());
    need.found(app, set, files, laid_at.unwrap_or(now), now);
}

/// Lays down the set of a need, all of it or nothing, and answers.
pub fn settle(layout: &Layout, vaults: &Vaults, (app, _): &NeedKey, need: &mut Need, given: &Given) {
    let service = need.need.service.clone();
    let is_there = |set: &str| layout.secret_set(app, &service, set).is_dir();
    need.eagerness = Eagerness::Refresh;
    match lay(layout, vaults, app, need, given) {
        Ok((set, files)) => {
            let now = Timestamp::now();
            let laid_at = sets::laid_at(&layout.secret_set(app, &service, &set)).unwrap_or(now);
            need.found(app, set, files, laid_at, now);
        }
        Err(problem) => need.failed(app, problem, is_there),
    }
}

fn lay(
    layout: &Layout,
    vaults: &Vaults,
    app: &AppName,
    need: &Need,
    given: &Given,
) -> Result<(String, Vec<Seen>), String> {
    let need = &need.need;
    let mut files = Vec::new();
    let mut problems: Vec<String> = Vec::new();
    for (name, file) in &need.files {
        match given.get(&file.secret) {
            Some(Ok(fetched)) => files.push((name, file, fetched)),
            Some(Err(error)) if problems.contains(&error.problem) => {}
            Some(Err(error)) => problems.push(error.problem.clone()),
            None => problems.push(format!("nobody was asked for `{}`; next: nothing, it is asked again", file.secret)),
        }
    }
    if !problems.is_empty() {
        return Err(problems.join("; also "));
    }
    let versions = files.iter().map(|(name, _, fetched)| ((*name).clone(), fetched.version.clone())).collect();
    let set = plan::set_of(need, vaults, &versions)
        .ok_or("the vaults in the settings changed; next: nothing, it is asked again")?;
    let target = layout.secret_set(app, &need.service, &set);
    let contents = files.iter().map(|(name, file, fetched)| (name.as_str(), *file, &fetched.value));
    sets::lay(&target, contents).map_err(|error| error.to_string())?;
    let seen = |(name, _, fetched): (&String, _, &Fetched)| Seen {
        name: name.clone(),
        version: fetched.version.clone(),
        expires: fetched.expires,
    };
    Ok((set, files.into_iter().map(seen).collect()))
}
