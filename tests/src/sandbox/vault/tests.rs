use super::*;
use crate::sandbox::secret::Attributes;

fn vault() -> (Vault, Identity) {
    let (mut vault, identity) = (Vault::new("one"), Identity::system());
    vault.grants.insert(("system".to_owned(), None), Grant::GET_AND_LIST);
    for (name, value) in [("a", "1"), ("a", "2"), ("b", "3"), ("c", "4")] {
        vault.secrets.set(name, value, Attributes::default(), 100).unwrap();
    }
    (vault, identity)
}

fn ask(vault: &Vault, identity: &Identity, target: &str) -> (u16, Value) {
    let separator = if target.contains('?') { '&' } else { '?' };
    let target = format!("{target}{separator}api-version=2025-07-01");
    let response = vault.answer(identity, &Request::get(&target, &[("Host", "one.vault.azure.net")]), 200);
    (response.status, serde_json::from_slice(&response.body).unwrap())
}

#[test]
fn the_newest_is_read_with_and_without_the_slash_and_others_by_version() {
    let (vault, identity) = vault();
    for target in ["/secrets/a", "/secrets/a/"] {
        let (status, body) = ask(&vault, &identity, target);
        assert_eq!((status, &body["value"]), (200, &json!("2")), "{target}");
    }
    let first = vault.secrets.find("a").unwrap().by_id().into_iter().find(|(_, version)| version.value == "1").unwrap();
    let (status, body) = ask(&vault, &identity, &format!("/secrets/a/{}", first.0));
    assert_eq!((status, &body["value"]), (200, &json!("1")));
    assert_eq!(body["id"], format!("https://one.vault.azure.net/secrets/a/{}", first.0));
    assert_eq!(ask(&vault, &identity, "/secrets/a/0123").0, 404);
}

#[test]
fn a_list_comes_in_pages_whose_links_lead_to_the_end() {
    let (vault, identity) = vault();
    let (mut target, mut ids, mut pages) = ("/secrets?maxresults=1".to_owned(), Vec::new(), 0);
    loop {
        let (status, body) = ask(&vault, &identity, &target);
        assert_eq!(status, 200);
        pages += 1;
        ids.extend(body["value"].as_array().unwrap().iter().map(|item| item["id"].clone()));
        assert!(body["value"].as_array().unwrap().iter().all(|item| item.get("value").is_none()));
        let Some(next) = body["nextLink"].as_str() else { break };
        target = next.strip_prefix("https://one.vault.azure.net").unwrap().to_owned();
    }
    assert_eq!(pages, 3);
    assert_eq!(ids, ["a", "b", "c"].map(|name| format!("https://one.vault.azure.net/secrets/{name}")));
    let (_, versions) = ask(&vault, &identity, "/secrets/a/versions");
    assert_eq!((versions["value"].as_array().unwrap().len(), &versions["nextLink"]), (2, &Value::Null));
    for target in ["/secrets?maxresults=0", "/secrets?maxresults=26", "/secrets?$skiptoken=%21"] {
        assert_eq!(ask(&vault, &identity, target).0, 400, "{target}");
    }
}

#[test]
fn each_refusal_has_the_code_of_the_service() {
    let (mut vault, identity) = vault();
    let stranger = Identity::user("stranger");
    vault.secrets.delete("c", 150).unwrap();
    vault.secrets.describe("b", None, Attributes { enabled: false, ..Attributes::default() }, 150).unwrap();
    let check = |vault: &Vault, identity: &Identity, target: &str, expected: (u16, &str, Value)| {
        let (status, body) = ask(vault, identity, target);
        let code = body["error"]["code"].as_str().unwrap();
        assert_eq!((status, code, body["error"]["innererror"]["code"].clone()), expected, "{target}");
    };
    check(&vault, &identity, "/secrets/b", (403, "Forbidden", json!("SecretDisabled")));
    check(&vault, &identity, "/secrets/c", (404, "SecretNotFound", Value::Null));
    check(&vault, &identity, "/secrets/absent", (404, "SecretNotFound", Value::Null));
    check(&vault, &identity, "/deletedsecrets/a", (404, "SecretNotFound", Value::Null));
    check(&vault, &identity, "/secrets/a_b", (400, "BadParameter", Value::Null));
    check(&vault, &identity, "/keys/a", (404, "NotFound", Value::Null));
    // Who may not read is not told whether there is something.
    check(&vault, &stranger, "/secrets/absent", (403, "Forbidden", json!("ForbiddenByRbac")));
    vault.model = Model::Policy;
    check(&vault, &stranger, "/secrets", (403, "Forbidden", json!("ForbiddenByPolicy")));
    assert_eq!(ask(&vault, &identity, "/deletedsecrets/c").1["deletedDate"], 150);
}

#[test]
fn a_grant_to_get_is_none_to_list_and_one_for_a_secret_counts_more() {
    let (mut vault, identity) = vault();
    vault.grants.insert(("system".to_owned(), None), Grant::GET);
    vault.grants.insert(("system".to_owned(), Some("b".to_owned())), Grant::NOTHING);
    let statuses =
        ["/secrets/a/", "/secrets", "/secrets/a/versions", "/secrets/b"].map(|t| ask(&vault, &identity, t).0);
    assert_eq!(statuses, [200, 403, 403, 403]);
}

#[test]
fn what_is_expired_or_not_yet_valid_is_returned() {
    let (mut vault, identity) = vault();
    let attributes = Attributes { not_before: Some(300), expires: Some(100), ..Attributes::default() };
    vault.secrets.describe("a", None, attributes, 150).unwrap();
    let (status, body) = ask(&vault, &identity, "/secrets/a");
    assert_eq!((status, &body["attributes"]["exp"], &body["attributes"]["nbf"]), (200, &json!(100), &json!(300)));
}

#[test]
fn versions_of_the_api_are_those_of_the_service() {
    for version in ["7.0", "7.4", "7.6-preview.2", "2025-07-01", "2026-01-01"] {
        assert!(is_supported(version), "{version}");
    }
    for version in ["", "2015-06-01", "2016-10-01", "8", "latest", "2025-07"] {
        assert!(!is_supported(version), "{version}");
    }
}

#[test]
fn the_challenge_is_the_services_unless_a_test_makes_it_hostile() {
    let (mut vault, _) = vault();
    let header = |vault: &Vault| vault.challenge(None).headers.last().cloned();
    let right =
        format!("Bearer authorization=\"https://login.microsoftonline.com/{TENANT}\", resource=\"{VAULT_RESOURCE}\"");
    assert_eq!(header(&vault), Some(("WWW-Authenticate".to_owned(), right)));
    vault.challenge = Challenge::of("https://evil.example/x", "https://management.azure.com");
    assert!(header(&vault).unwrap().1.contains("evil.example"));
    vault.challenge = Challenge::Silent;
    assert_eq!(header(&vault).unwrap().0, "Content-Type");
}
