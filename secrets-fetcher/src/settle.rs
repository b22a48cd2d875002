//! From what a round brought to a set and an answer: all files of a need, or none and why. It asks nobody.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use landfall_core::ids::AppName;
use landfall_core::layout::Layout;
use landfall_core::secrets::{NeededFile, SecretNeed, SecretReference};

use crate::app::{Need, Seen};
use crate::cache::{Cache, Taken, judge};
use crate::live;
use crate::plan::{self, NeedKey, Vaults};
use crate::schedule::Eagerness;
use crate::sets;
use crate::source::{FetchError, Fetched};

/// Each secret that was asked for, or why it was not given.
pub type Given = BTreeMap<SecretReference, Result<Fetched, FetchError>>;

/// A need that names one set, which is there: there is nothing to ask.
pub fn note_laid(app: &AppName, need: &mut Need, set: String, path: impl Fn(&str) -> PathBuf) {
    need.eagerness = Eagerness::Never;
    let is_told =
        need.answer.as_ref().is_some_and(|answer| answer.set.as_ref() == Some(&set) && answer.problem.is_none());
    if is_told {
        return;
    }
    let laid_at = sets::laid_at(&path(&set));
    let seen = |(name, file): (&String, &NeededFile)| Seen {
        name: name.clone(),
        version: file.secret.version.clone().unwrap_or_default(),
        expires: None,
    };
    let (files, now) = (need.need.files.iter().map(seen).collect(), Timestamp::now());
    need.found(app, set, files, laid_at.unwrap_or(now), now);
}

/// What settling takes beside the need itself.
#[derive(Debug)]
pub struct With<'a> {
    /// Where sets lie.
    pub layout: &'a Layout,
    /// `vaults` of the settings.
    pub vaults: &'a Vaults,
    /// What is sealed for a boot without the vault.
    pub cache: &'a mut Cache,
}

/// Lays down the set of a need, all of it or nothing, and answers.
pub fn settle(with: &mut With<'_>, (app, _): &NeedKey, need: &mut Need, given: &Given) {
    let layout = with.layout;
    let wanted = need.need.clone();
    need.eagerness = Eagerness::Refresh;
    let laid = complete(&need.need, given).and_then(|files| {
        // Before it is laid down: a kill in between leaves nothing in use that is not sealed.
        with.cache.keep(with.vaults, app, &need.need, given, Timestamp::now());
        lay(layout, with.vaults, app, &need.need, files)
    });
    match laid {
        Ok((set, files)) => {
            let now = Timestamp::now();
            let laid_at = sets::laid_at(&layout.set_of(app, &wanted, &set)).unwrap_or(now);
            need.found(app, set, files, laid_at, now);
        }
        Err(problem) => do_without(with, app, need, given, problem),
    }
}

/// A need that its vault did not give: what it has stays; where it has nothing and the vault is out of reach, what was sealed is laid
/// down.
pub fn do_without(with: &mut With<'_>, app: &AppName, need: &mut Need, given: &Given, problem: String) {
    let (layout, wanted) = (with.layout, need.need.clone());
    let is_there = |set: &str| layout.set_of(app, &wanted, set).is_dir();
    let has_set = need.set().is_some_and(|set| is_there(set));
    if has_set || !judge::is_out_of_reach(&need.need, given) {
        return need.failed(app, problem, is_there);
    }
    let now = Timestamp::now();
    let stood_in = match with.cache.take(with.vaults, app, &need.need, now) {
        None => return need.failed(app, problem, is_there),
        Some(taken) => taken.and_then(|Taken { given, sealed_at }| {
            let files = complete(&need.need, &given)?;
            Ok((lay(layout, with.vaults, app, &need.need, files)?, sealed_at))
        }),
    };
    match stood_in {
        Ok(((set, files), sealed_at)) => need.stood_in(app, set, files, (sealed_at, now), problem),
        Err(why) => {
            need.failed(app, format!("{problem}; and what was sealed on this machine is not used: {why}"), is_there);
        }
    }
}

/// A file of a need with what it is from.
type Complete<'a> = Vec<(&'a String, &'a NeededFile, &'a Fetched)>;

/// All files of a need, or why they are not all there.
fn complete<'a>(need: &'a SecretNeed, given: &'a Given) -> Result<Complete<'a>, String> {
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
    if problems.is_empty() { Ok(files) } else { Err(problems.join("; also ")) }
}

fn lay(
    layout: &Layout,
    vaults: &Vaults,
    app: &AppName,
    need: &SecretNeed,
    files: Complete<'_>,
) -> Result<(String, Vec<Seen>), String> {
    let versions = files.iter().map(|(name, _, fetched)| ((*name).clone(), fetched.version.clone())).collect();
    let set = plan::set_of(need, vaults, &versions)
        .ok_or("the vaults in the settings changed; next: nothing, it is asked again")?;
    let target = layout.set_of(app, need, &set);
    let contents = files.iter().map(|(name, file, fetched)| (name.as_str(), *file, &fetched.value));
    let room = live::make_room(layout, app, need).map_err(|error| error.to_string())?;
    sets::lay_in(room, &target, &layout.owner_socket(), contents).map_err(|error| error.to_string())?;
    let seen = |(name, _, fetched): (&String, _, &Fetched)| Seen {
        name: name.clone(),
        version: fetched.version.clone(),
        expires: fetched.expires,
    };
    Ok((set, files.into_iter().map(seen).collect()))
}
