//! Whether the vaults have confirmed what an app runs with lately: one line for `landfall status`. Pure. What has been fetched serves
//! on; a person should know that a rotation would not arrive.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::config::Vault;
use landfall_core::protocol::StaleSecrets;
use landfall_core::secrets::{NeedAnswer, SecretNeed, SecretsFile};

/// Refreshes that may fail before it is said.
const REFRESHES: u32 = 3;
/// Before that nothing is: vaults that are asked every second are slow now and then.
const LEAST: Duration = Duration::from_secs(10);

/// The stalest of these needs, if any is stale. What names all its versions is never asked for again, and so is never stale.
pub fn stalest(
    app: &str,
    needs: &[SecretNeed],
    index: &SecretsFile,
    vaults: &BTreeMap<String, Vault>,
    now: Timestamp,
) -> Option<StaleSecrets> {
    let mut all = Vec::new();
    for need in needs.iter().filter(|need| need.is_open()) {
        let Some(answer) = index.needs.get(&need.id()) else { continue };
        let Some(age) = age(need, answer, vaults, now) else { continue };
        all.push((age, need, answer));
    }
    let (age, need, answer) = all.iter().max_by_key(|(age, ..)| *age)?;
    Some(StaleSecrets {
        services: all.iter().map(|(_, need, _)| need.service.clone()).collect(),
        service: need.service.clone(),
        checked_at: answer.checked_at.clone().unwrap_or_default(),
        age_s: age.as_secs(),
        reason: answer.problem.clone().unwrap_or_else(|| {
            "the fetcher has not looked since; see `journalctl -u landfall-secrets-fetcher`".to_owned()
        }),
        next: format!("`landfall secrets {app}`"),
    })
}

/// How old its last good look is, where that is too old.
fn age(need: &SecretNeed, answer: &NeedAnswer, vaults: &BTreeMap<String, Vault>, now: Timestamp) -> Option<Duration> {
    let checked: Timestamp = answer.checked_at.as_ref()?.parse().ok()?;
    let refresh = need.files.values().filter_map(|file| Some(vaults.get(&file.secret.vault)?.refresh)).max()?;
    let age = Duration::try_from(now.duration_since(checked)).ok()?;
    (age > (refresh * REFRESHES).max(LEAST)).then_some(age)
}

#[cfg(test)]
mod tests {
    use landfall_core::config::VaultSource;
    use landfall_core::secrets::NeededFile;

    use super::*;

    fn need(service: &str, reference: &str) -> SecretNeed {
        let file = NeededFile { secret: reference.parse().unwrap(), uid: None, gid: None, mode: None };
        SecretNeed { service: service.to_owned(), files: [("DB".to_owned(), file)].into(), live: None }
    }

    #[test]
    fn the_oldest_look_is_told_when_three_refreshes_were_missed() {
        let vault = Vault {
            source: VaultSource::Directory("/etc/credstore".into()),
            refresh: Duration::from_mins(1),
            cache: landfall_core::config::CacheMode::Off,
            cache_age: std::time::Duration::from_hours(1),
            allow: Vec::new(),
        };
        let vaults = BTreeMap::from([("default".to_owned(), vault)]);
        let needs = [need("api", "db"), need("web", "db"), need("pinned", "db@1")];
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for (api, web, told) in [
            ("09:57:30", "09:59:59", None),
            ("09:56:59", "09:59:59", Some(("api", 181, 1))),
            ("09:56:59", "09:50:00", Some(("web", 600, 2))),
            // A clock that went back tells nothing.
            ("10:56:59", "10:50:00", None),
        ] {
            let answer = |at: &str| NeedAnswer {
                set: Some("s".to_owned()),
                checked_at: Some(format!("2026-11-22T{at}.000Z")),
                problem: Some("no access".to_owned()),
                ..NeedAnswer::default()
            };
            let index = SecretsFile {
                format: 1,
                app: "web".parse().unwrap(),
                request: String::new(),
                needs: [(&needs[0], api), (&needs[1], web), (&needs[2], "00:00:00")]
                    .map(|(n, at)| (n.id(), answer(at)))
                    .into(),
                live: BTreeMap::new(),
            };
            let found = stalest("shop", &needs, &index, &vaults, now);
            let found = found.as_ref().map(|stale| (stale.service.as_str(), stale.age_s, stale.services.len()));
            assert_eq!(found, told, "{api} {web}");
        }
    }
}
