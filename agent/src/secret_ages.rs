//! How old the secrets of an app are and when the first of them ends, from the fetcher's index, for the metrics. Pure; no value, no
//! name and no version is in it.

use jiff::Timestamp;
use landfall_core::secrets::{SecretNeed, SecretsFile};

/// The moments that matter, RFC 3339.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretAges {
    /// Needs that have no set.
    pub missing: usize,
    /// When the oldest secret was fetched.
    pub fetched: Option<String>,
    /// Since when all are confirmed.
    pub checked: Option<String>,
    /// When the first of them ends.
    pub expires: Option<String>,
}

/// Of these needs, by what the fetcher says; none where nothing is needed.
pub fn ages(needs: &[SecretNeed], index: Option<&SecretsFile>) -> Option<SecretAges> {
    if needs.is_empty() {
        return None;
    }
    let answers: Vec<_> = needs.iter().filter_map(|need| index?.needs.get(&need.id())).collect();
    let files = || answers.iter().flat_map(|answer| answer.files.values());
    let there = answers.iter().filter(|answer| answer.set.is_some()).count();
    Some(SecretAges {
        missing: needs.len() - there,
        fetched: first(files().map(|file| &file.fetched_at)),
        checked: first(answers.iter().filter_map(|answer| answer.checked_at.as_ref())),
        expires: first(files().filter_map(|file| file.expires.as_ref())),
    })
}

fn first<'a>(times: impl Iterator<Item = &'a String>) -> Option<String> {
    let moments = times.filter_map(|text| Some((text.parse::<Timestamp>().ok()?, text)));
    moments.min().map(|(_, text)| text.clone())
}

#[cfg(test)]
mod tests {
    use landfall_core::secrets::{FetchedFile, NeedAnswer, NeededFile};

    use super::*;

    #[test]
    fn the_oldest_and_the_first_to_end_are_told_and_what_is_missing_is_counted() {
        let need = |service: &str| {
            let file = NeededFile { secret: "db".parse().unwrap(), uid: None, gid: None, mode: None };
            SecretNeed { service: service.to_owned(), files: [("DB".to_owned(), file)].into(), live: None }
        };
        let needs = ["a", "b", "c"].map(need);
        let answer = |fetched: &str, expires: Option<&str>, checked: &str| {
            let (fetched_at, expires) = (fetched.to_owned(), expires.map(str::to_owned));
            let file = FetchedFile { version: "1".to_owned(), fetched_at, expires };
            NeedAnswer {
                set: Some("s".to_owned()),
                files: [("DB".to_owned(), file)].into(),
                checked_at: Some(checked.to_owned()),
                ..NeedAnswer::default()
            }
        };
        let answers = [
            answer("2026-01-02T00:00:00Z", Some("2027-01-01T00:00:00Z"), "2026-03-01T00:00:00Z"),
            answer("2026-01-01T00:00:00Z", None, "2026-03-01T00:00:00.5Z"),
            NeedAnswer { problem: Some("no access".to_owned()), ..NeedAnswer::default() },
        ];
        let index = SecretsFile {
            format: 1,
            app: "web".parse().unwrap(),
            request: String::new(),
            needs: needs.iter().map(SecretNeed::id).zip(answers).collect(),
            live: std::collections::BTreeMap::new(),
        };
        let wanted = SecretAges {
            missing: 1,
            fetched: Some("2026-01-01T00:00:00Z".to_owned()),
            checked: Some("2026-03-01T00:00:00Z".to_owned()),
            expires: Some("2027-01-01T00:00:00Z".to_owned()),
        };
        assert_eq!(ages(&needs, Some(&index)), Some(wanted));
        assert_eq!(ages(&needs, None), Some(SecretAges { missing: 3, ..SecretAges::default() }));
        assert_eq!(ages(&[], Some(&index)), None);
    }
}
