//! Does this VM's identity read what its releases need, and does a release here name nothing else? By the fetcher's word, through the agent;
//! no vault is asked, and no value seen.

use landfall_core::config::Settings;
use landfall_core::protocol::SecretStatus;

use super::finding::{Finding, Subject};

/// The vault that a reference without a name means.
const DEFAULT_VAULT: &str = "default";
/// What the agent calls the service of those secrets that no release names.
const REGISTRY: &str = "(registry)";
/// How many are named.
const MOST: usize = 5;

/// `known` are the secrets of all apps, or why nobody said.
pub fn check(settings: Option<&Settings>, known: Result<&[SecretStatus], String>) -> Vec<Finding> {
    let reads = || Subject::new("identity", "the vaults give what is needed");
    let scope = || Subject::new("scope", "only secrets within `vaults.NAME.allow` are here");
    let skip = |why: &str| vec![reads().skip(why), scope().skip(why)];
    let Some(settings) = settings else { return skip("the settings cannot be read") };
    if settings.vaults.is_empty() {
        return skip("no vault is configured");
    }
    let known = match known {
        Ok([]) => return skip("no release needs a secret, so no vault was asked"),
        Ok(known) => known,
        Err(why) => return skip(&why),
    };
    let ill: Vec<String> = known.iter().filter_map(of_ill).take(MOST).collect();
    let reads = if ill.is_empty() {
        reads().pass(format!("{} secrets", known.len()))
    } else {
        reads().fail(ill.join("; "), "`landfall secrets`, and for one of them `landfall secrets explain NAME`")
    };
    let outside: Vec<String> = known
        .iter()
        .filter(|secret| secret.newest.is_some() && !allowed(settings, secret))
        .map(of)
        .take(MOST)
        .collect();
    let scope = if outside.is_empty() {
        let patterns = settings.vaults.iter().map(|(name, vault)| {
            let allow: Vec<&str> = vault.allow.iter().map(landfall_core::config::NamePattern::as_str).collect();
            format!("`{name}`: {}", allow.join(" "))
        });
        scope().pass(patterns.collect::<Vec<_>>().join("; "))
    } else {
        scope().fail(
            format!("here and not allowed: {}", outside.join(", ")),
            "a release of before `allow` was narrowed runs: publish one that does not need them",
        )
    };
    vec![reads, scope]
}

fn of(secret: &SecretStatus) -> String {
    format!("`{}` of `{}`", secret.secret, secret.service)
}

/// One that is not here, or that the vault no longer confirms.
fn of_ill(secret: &SecretStatus) -> Option<String> {
    match (&secret.problem, &secret.newest) {
        (Some(problem), _) => Some(format!("{}: {problem}", of(secret))),
        (None, None) => Some(format!("{}: not looked at yet", of(secret))),
        (None, Some(_)) => None,
    }
}

/// `[vault/]name[@version]`. What the machine itself needs is not of a release.
fn allowed(settings: &Settings, secret: &SecretStatus) -> bool {
    if secret.service == REGISTRY {
        return true;
    }
    let path = secret.secret.split('@').next().unwrap_or_default();
    let (vault, name) = path.split_once('/').unwrap_or((DEFAULT_VAULT, path));
    settings.vaults.get(vault).is_some_and(|vault| vault.allows(name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use landfall_core::config::Config;

    use super::super::finding::Grade;
    use super::*;

    fn settings(text: &str) -> Settings {
        Config::parse(Path::new("x"), text).unwrap().settle().unwrap()
    }

    fn secret(service: &str, place: &str, newest: Option<&str>, problem: Option<&str>) -> SecretStatus {
        SecretStatus {
            service: service.to_owned(),
            key: "KEY".to_owned(),
            secret: place.to_owned(),
            running: None,
            newest: newest.map(str::to_owned),
            since: None,
            expires: None,
            checked_at: None,
            problem: problem.map(str::to_owned),
            from_cache_at: None,
        }
    }

    #[test]
    fn each_must_be_read_and_none_besides() {
        let vaults =
            "vaults: { default: { url: 'https://kv.vault.azure.net', allow: ['stage-*'] }, two: { directory: /x } }";
        let good = secret("api", "stage-db", Some("1"), None);
        let both = |settings: Option<&Settings>, known: &[SecretStatus]| {
            check(settings, Ok(known)).iter().map(|finding| finding.grade).collect::<Vec<_>>()
        };
        let of_vaults = settings(vaults);
        for (known, identity, scope) in [
            (vec![good.clone()], Grade::Pass, Grade::Pass),
            (vec![good.clone(), secret("api", "two/any@2", Some("2"), None)], Grade::Pass, Grade::Pass),
            (vec![good.clone(), secret("(registry)", "ghcr", Some("1"), None)], Grade::Pass, Grade::Pass),
            (vec![good.clone(), secret("api", "stage-x", None, Some("403"))], Grade::Fail, Grade::Pass),
            (vec![good.clone(), secret("api", "stage-x", Some("1"), Some("403"))], Grade::Fail, Grade::Pass),
            (vec![secret("api", "stage-x", None, None)], Grade::Fail, Grade::Pass),
            (vec![good.clone(), secret("api", "prod-db", Some("1"), None)], Grade::Pass, Grade::Fail),
            (vec![secret("api", "prod-db", None, Some("refused"))], Grade::Fail, Grade::Pass),
            (vec![secret("api", "gone/db", Some("1"), None)], Grade::Pass, Grade::Fail),
            (vec![], Grade::Skip, Grade::Skip),
        ] {
            assert_eq!(both(Some(&of_vaults), &known), [identity, scope], "{known:?}");
        }
        assert_eq!(both(Some(&settings("apps: {}")), std::slice::from_ref(&good)), [Grade::Skip, Grade::Skip]);
        assert_eq!(both(None, &[good]), [Grade::Skip, Grade::Skip]);
        assert!(check(Some(&of_vaults), Err("no agent".to_owned())).iter().all(|found| found.grade == Grade::Skip));
    }
}
