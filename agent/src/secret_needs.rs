//! What a project needs of vaults: from its `secrets:` to a [`SecretNeed`] for each service, and whether this machine's settings
//! let a release have it. Pure. A value is never seen here; a secret that names no vault is refused, because the file or the
//! variable that it names on a laptop is not on a VM.

use std::collections::BTreeMap;

use landfall_core::config::{NamePattern, Vault};
use landfall_core::secrets::{NeededFile, SecretNeed, SecretReference, is_file_name};

use crate::model::{Canonical, Secret, SecretUse, Text};
use crate::on_rotate;
use crate::refusal::{Problem, Rule};

/// Where Compose mounts a secret that says nothing else.
const DIRECTORY: &str = "/run/secrets";
/// Stands for a set that nobody has fetched: in a plan, and where no fetcher is (`landfall check`).
pub const NO_SET: &str = "not-fetched";

/// What each service needs. Problems are added for secrets that name no vault.
pub fn of_project(canonical: &Canonical, problems: &mut Vec<Problem>) -> Vec<SecretNeed> {
    for (service, model) in &canonical.services {
        problems.extend(in_environment(&model.environment, &canonical.secrets).map(|problem| problem.of(service)));
    }
    let mut needs = Vec::new();
    for (service, model) in canonical.services.iter().filter(|(_, model)| !model.secrets.is_empty()) {
        let live = on_rotate::is_live(model);
        let mut files: BTreeMap<String, NeededFile> = BTreeMap::new();
        for used in &model.secrets {
            match file(used, &canonical.secrets) {
                Ok(file) => {
                    // In a live directory a file has the name that containers see.
                    let seen = target(used);
                    let name = on_rotate::file_name(&seen).filter(|_| live).unwrap_or(&used.source).to_owned();
                    let other = files.insert(name.clone(), file.clone()).is_some_and(|before| before != file);
                    if other {
                        let what = format!("`{name}` is mounted twice, with another owner or mode");
                        problems.push(Problem::new(Rule::BadValue, "secrets", what).of(service));
                    }
                }
                Err(problem) => problems.push(problem.of(service)),
            }
        }
        let need = SecretNeed { service: service.clone(), files, live: None };
        needs.push(if live { need.served_live() } else { need });
    }
    needs
}

/// Variables that have the name of a secret of the project and a text that is no path: what a laptop's shell or an env file gives
/// them is the value. (Compose has put the content of each `env_file` into `environment` by now.) A secret under another name
/// cannot be known.
fn in_environment<'a>(
    environment: &'a BTreeMap<String, Option<Text>>,
    secrets: &'a BTreeMap<String, Secret>,
) -> impl Iterator<Item = Problem> + 'a {
    let written = environment.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    written.filter(|(_, value)| !value.is_empty() && !value.starts_with('/')).filter_map(|(name, _)| {
        let is_named = |(key, secret): &(&String, &Secret)| *key == name || secret.environment.as_deref() == Some(name);
        let (key, _) = secrets.iter().find(is_named)?;
        let what = format!("its value is secret `{key}` of this project");
        Some(Problem::new(Rule::SecretInEnvironment, format!("environment.{name}"), what))
    })
}

/// Where in the container a secret is.
pub fn target(used: &SecretUse) -> String {
    match used.target.as_deref().filter(|target| !target.is_empty()) {
        Some(absolute) if absolute.starts_with('/') => absolute.to_owned(),
        Some(name) => format!("{DIRECTORY}/{name}"),
        None => format!("{DIRECTORY}/{}", used.source),
    }
}

fn file(used: &SecretUse, definitions: &BTreeMap<String, Secret>) -> Result<NeededFile, Problem> {
    let key = format!("secrets.{}", used.source);
    if !is_file_name(&used.source) {
        return Err(Problem::new(
            Rule::BadValue,
            key,
            "the name cannot be a file's: use letters, digits, `_`, `.` and `-`",
        ));
    }
    let definition = definitions.get(&used.source.0).cloned().unwrap_or_default();
    if definition.template_driver.is_some() || definition.driver.is_some() || !definition.driver_opts.is_empty() {
        return Err(Problem::new(Rule::NotSupported, key, "a driver of Swarm's"));
    }
    let named = match (&definition.keyvault, definition.external) {
        (Some(reference), _) => reference.0.clone(),
        (None, true) => definition.name.map_or_else(|| used.source.0.clone(), |name| name.0),
        (None, false) => {
            let what = match (&definition.file, &definition.environment) {
                (Some(_), _) => "a file that is not on a VM",
                (None, Some(_)) => "a variable that is not on a VM",
                (None, None) => "no content",
            };
            return Err(Problem::new(Rule::Secret, key, what));
        }
    };
    let secret: SecretReference =
        named.parse().map_err(|error| Problem::new(Rule::Secret, key.clone(), format!("{error}")))?;
    let number = |name: &str, value: &Option<Text>| match value.as_deref().filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse::<u32>().map(Some).map_err(|_| {
            let what = format!("`{name}: {text}` is no number: names of users are the image's own");
            Problem::new(Rule::BadValue, key.clone(), what)
        }),
    };
    Ok(NeededFile {
        secret,
        uid: number("uid", &used.uid)?,
        gid: number("gid", &used.gid)?,
        mode: used.mode.as_ref().map(|mode| bits(mode, &key)).transpose()?,
    })
}

/// Permission bits as Compose writes them: octal with a leading zero, else decimal.
fn bits(text: &Text, key: &str) -> Result<u32, Problem> {
    let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|rest| !rest.is_empty()));
    let parsed = digits.map_or_else(|| text.parse().ok(), |octal| u32::from_str_radix(octal, 8).ok());
    parsed
        .filter(|bits| *bits <= 0o777)
        .ok_or_else(|| Problem::new(Rule::BadValue, key, format!("`mode: {text}` is none: expected `0000` to `0777`")))
}

/// Why a release may not have what it needs, as one text; it names everything that is wrong, and the line of landfall.yaml.
pub fn forbidden(needs: &[SecretNeed], vaults: &BTreeMap<String, Vault>) -> Option<String> {
    let mut against = Vec::new();
    for need in needs {
        for file in need.files.values() {
            let SecretReference { vault, name, .. } = &file.secret;
            let (service, secret) = (&need.service, &file.secret);
            match vaults.get(vault) {
                None => against.push(format!(
                    "`{service}` needs secret `{secret}` and landfall.yaml has no vault `{vault}`; add `vaults.{vault}` with its `url`"
                )),
                Some(known) if !known.allows(name) => {
                    let allow: Vec<&str> = known.allow.iter().map(NamePattern::as_str).collect();
                    against.push(format!(
                        "`{service}` needs secret `{secret}`, which `vaults.{vault}.allow` ({}) does not let releases here have; \
                         name one that is this machine's, or add it there",
                        allow.join(", ")
                    ));
                }
                Some(_) => {}
            }
        }
    }
    against.sort();
    against.dedup();
    (!against.is_empty()).then(|| against.join("\n"))
}

#[cfg(test)]
mod tests {
    use landfall_core::config::{Identity, VaultSource};

    use super::*;

    #[test]
    fn modes() {
        for (text, wanted) in [
            ("288", Some(0o440)),
            ("0440", Some(0o440)),
            ("0o400", Some(0o400)),
            ("0", Some(0)),
            ("9999", None),
            ("x", None),
        ] {
            assert_eq!(bits(&Text(text.to_owned()), "k").ok(), wanted, "{text}");
        }
    }

    #[test]
    fn a_release_has_what_the_settings_let_it_have() {
        let vault = |allow: &str| Vault {
            source: VaultSource::KeyVault { url: "https://kv.vault.azure.net".to_owned(), identity: Identity::System },
            refresh: std::time::Duration::from_mins(1),
            allow: serde_json::from_value(serde_json::json!([allow])).unwrap(),
            cache: landfall_core::config::CacheMode::Auto,
            cache_age: std::time::Duration::from_hours(1),
        };
        let need = |reference: &str| {
            let file = NeededFile { secret: reference.parse().unwrap(), uid: None, gid: None, mode: None };
            vec![SecretNeed { service: "api".to_owned(), files: [("DB".to_owned(), file)].into(), live: None }]
        };
        let vaults = BTreeMap::from([("default".to_owned(), vault("stage-*"))]);
        assert_eq!(forbidden(&need("stage-db"), &vaults), None);
        let said = forbidden(&need("prod-db"), &vaults).unwrap();
        assert!(said.contains("`api` needs secret `prod-db`, which `vaults.default.allow` (stage-*)"), "{said}");
        let said = forbidden(&need("other/stage-db"), &vaults).unwrap();
        assert!(said.contains("no vault `other`"), "{said}");
    }
}
