//! The sandbox of Azure is judged before it judges: Microsoft's client for Python must find in it what it finds in Azure. What
//! that client does on the wire is in docs/facts.md.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use landfall_sample::http;
use landfall_tests::sandbox::certificates::Certificate;
use landfall_tests::sandbox::fault::{Fault, Service, Trouble};
use landfall_tests::sandbox::identity::{Identity, TOKEN_LIFE_SECONDS};
use landfall_tests::sandbox::log::{Entry, busiest, of, statuses};
use landfall_tests::sandbox::python::{Client, Outcome};
use landfall_tests::sandbox::secret::{Attributes, MAX_VALUE_BYTES};
use landfall_tests::sandbox::vault::{Challenge, Grant};
use landfall_tests::sandbox::{Sandbox, namespace};
use landfall_tests::wait::eventually;
use serde_json::json;
use tempfile::TempDir;

/// A sandbox with vaults `one` and `two`, of which the VM may read `one`, and a client of that.
fn start() -> Result<(TempDir, Sandbox, Client)> {
    let directory = tempfile::tempdir()?;
    let sandbox = Sandbox::start(directory.path(), &["one", "two"])?;
    sandbox.grant("one", "system", Grant::GET)?;
    let client = Client::start(&sandbox, "one", None)?;
    Ok((directory, sandbox, client))
}

fn value(outcome: &Outcome) -> Option<&str> {
    outcome.value["value"].as_str()
}

/// Class of the exception, status, code and inner code, those that there are.
fn refusal(outcome: &Outcome) -> String {
    let status = outcome.status.map(|status| status.to_string());
    let words = [&outcome.error, &status, &outcome.code, &outcome.inner];
    words.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn asked_of(entries: &[Entry], service: &Service) -> Vec<u16> {
    statuses(&of(entries, service))
}

#[test]
fn a_secret_is_fetched_as_in_azure() -> Result<()> {
    let (_directory, sandbox, mut client) = start()?;
    let first = sandbox.set_secret("one", "db-password", "p-a_ss:wörd\n")?;
    let second = sandbox.set_secret("one", "db-password", "second")?;

    let got = client.get("db-password")?;
    assert_eq!((value(&got), got.value["version"].as_str()), (Some("second"), Some(second.as_str())), "{got:?}");
    let got = client.ask(&json!({ "do": "get", "name": "db-password", "version": first }))?;
    assert_eq!(value(&got), Some("p-a_ss:wörd\n"), "{got:?}");

    let log = sandbox.log()?;
    // A challenge first, then the token once for both.
    assert_eq!(asked_of(&log, &Service::vault("one")), [401, 200, 200]);
    assert_eq!(asked_of(&log, &Service::Imds), [200]);
    assert!(log.iter().all(|entry| entry.user_agent.contains("azsdk-python")), "{log:?}");
    assert_eq!(log[0].path(), "/secrets/db-password/");
    assert_eq!(log[3].path(), format!("/secrets/db-password/{first}"));
    assert_eq!(log[2].identity.as_deref(), Some("system"));
    Ok(())
}

#[test]
fn lists_come_in_pages_to_who_may_list() -> Result<()> {
    let (_directory, sandbox, mut client) = start()?;
    for name in ["a", "b", "c", "d", "e"] {
        sandbox.set_secret("one", name, "1")?;
    }
    for number in 0..5 {
        sandbox.set_secret("one", "e", &number.to_string())?;
    }
    let refused = client.ask(&json!({ "do": "list" }))?;
    assert_eq!(refusal(&refused), "HttpResponseError 403 Forbidden ForbiddenByRbac");

    sandbox.grant("one", "system", Grant::GET_AND_LIST)?;
    let listed = client.ask(&json!({ "do": "list", "page": 2 }))?;
    let pages: Vec<Vec<&str>> = listed
        .value
        .as_array()
        .context("no list")?
        .iter()
        .map(|page| page.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect())
        .collect();
    assert_eq!(pages, [vec!["a", "b"], vec!["c", "d"], vec!["e"]], "{listed:?}");
    let listed = client.ask(&json!({ "do": "versions", "name": "e", "page": 2 }))?;
    let sizes: Vec<usize> =
        listed.value.as_array().into_iter().flatten().filter_map(|p| Some(p.as_array()?.len())).collect();
    assert_eq!(sizes, [2, 2, 2], "{listed:?}");
    Ok(())
}

#[test]
fn what_is_disabled_deleted_or_absent_is_refused_and_what_is_expired_is_not() -> Result<()> {
    let (_directory, sandbox, mut client) = start()?;
    for name in ["a", "b", "c"] {
        sandbox.set_secret("one", name, "v")?;
    }
    sandbox.describe("one", "a", Attributes { enabled: false, ..Attributes::default() })?;
    sandbox.delete("one", "b")?;
    let times = Attributes { not_before: Some(4_102_444_800), expires: Some(946_684_800), ..Attributes::default() };
    sandbox.describe("one", "c", times)?;

    assert_eq!(refusal(&client.get("a")?), "HttpResponseError 403 Forbidden SecretDisabled");
    assert_eq!(refusal(&client.get("b")?), "ResourceNotFoundError 404 SecretNotFound");
    assert_eq!(refusal(&client.get("absent")?), "ResourceNotFoundError 404 SecretNotFound");
    let deleted = client.ask(&json!({ "do": "deleted", "name": "b" }))?;
    assert_eq!(deleted.value["name"], "b", "{deleted:?}");
    let got = client.get("c")?;
    assert_eq!((value(&got), &got.value["expires"]), (Some("v"), &json!(946_684_800.0)), "{got:?}");
    sandbox.recover("one", "b")?;
    assert_eq!(value(&client.get("b")?), Some("v"));
    Ok(())
}

#[test]
fn the_largest_value_comes_whole_and_a_vault_without_a_grant_gives_nothing() -> Result<()> {
    let (_directory, sandbox, mut client) = start()?;
    let largest = "x".repeat(MAX_VALUE_BYTES);
    sandbox.set_secret("one", "a", &largest)?;
    sandbox.set_secret("two", "a", "of two")?;
    assert_eq!(value(&client.get("a")?), Some(largest.as_str()));

    let reader = Identity::user("reader");
    sandbox.assign(&reader)?;
    sandbox.grant("two", "reader", Grant::GET)?;
    let mut as_system = Client::start(&sandbox, "two", None)?;
    assert_eq!(refusal(&as_system.get("a")?), "HttpResponseError 403 Forbidden ForbiddenByRbac");
    let mut as_reader = Client::start(&sandbox, "two", Some(&reader.client_id))?;
    assert_eq!(value(&as_reader.get("a")?), Some("of two"));
    let mut as_nobody = Client::start(&sandbox, "two", Some("00000000-0000-0000-0000-000000000000"))?;
    let refused = as_nobody.get("a")?;
    assert!(refused.error.is_some() && refused.status != Some(200), "{refused:?}");
    let identities: Vec<Option<String>> =
        of(&sandbox.log()?, &Service::vault("two")).into_iter().map(|e| e.identity).collect();
    assert!(identities.contains(&Some("reader".to_owned())) && identities.contains(&Some("system".to_owned())));
    Ok(())
}

#[test]
fn a_token_that_is_no_longer_taken_is_shown_again_and_imds_not_asked() -> Result<()> {
    let (_directory, sandbox, mut client) = start()?;
    sandbox.set_secret("one", "a", "v")?;
    let expire = |sandbox: &Sandbox| sandbox.jump_clock(2 * TOKEN_LIFE_SECONDS);
    let revoke = |sandbox: &Sandbox| sandbox.revoke_tokens("system");
    // The client's own clock stands still, so that to it the token is good.
    for spoil in [&revoke as &dyn Fn(&Sandbox) -> Result<()>, &expire] {
        assert_eq!(value(&client.get("a")?), Some("v"));
        spoil(&sandbox)?;
        sandbox.forget_log()?;
        for _ in 0..2 {
            assert_eq!(refusal(&client.get("a")?), "ClientAuthenticationError 401 Unauthorized");
        }
        let log = sandbox.log()?;
        assert_eq!((asked_of(&log, &Service::vault("one")), asked_of(&log, &Service::Imds)), (vec![401; 4], vec![]));
        // A new client gets a new token.
        client = Client::start(&sandbox, "one", None)?;
    }
    assert_eq!(value(&client.get("a")?), Some("v"));
    Ok(())
}

#[test]
fn a_busy_vault_is_asked_again_when_it_says() -> Result<()> {
    let (_directory, sandbox, mut client) = start()?;
    sandbox.set_secret("one", "a", "v")?;
    sandbox.fault(Fault::of_vault("one", 429, Some("2")).below("/secrets/a").times(1))?;
    let got = client.get("a")?;
    assert_eq!(value(&got), Some("v"), "{got:?}");
    assert!(got.seconds >= 2.0, "it waited {} s", got.seconds);
    assert_eq!(asked_of(&sandbox.log()?, &Service::vault("one")), [401, 429, 200]);
    Ok(())
}

#[test]
fn imds_is_asked_again_when_it_is_ill() -> Result<()> {
    let (_directory, sandbox, mut client) = start()?;
    sandbox.set_secret("one", "a", "v")?;
    for status in [500, 410] {
        sandbox.fault(Fault::of_imds(status, None).times(1))?;
    }
    let got = client.get("a")?;
    assert_eq!(value(&got), Some("v"), "{got:?}");
    assert_eq!(asked_of(&sandbox.log()?, &Service::Imds), [500, 410, 200]);
    Ok(())
}

#[test]
fn what_breaks_on_the_way_is_an_error_and_no_secret() -> Result<()> {
    let (_directory, sandbox, mut client) = start()?;
    sandbox.set_secret("one", "a", "v")?;
    let one = Service::vault("one");
    sandbox.fault(Fault::new(one.clone(), Trouble::Garbled).times(1))?;
    assert_eq!(refusal(&client.get("a")?), "DecodeError 200");
    sandbox.fault(Fault::html(one.clone(), 200).times(1))?;
    assert_eq!(refusal(&client.get("a")?), "JSONDecodeError");
    // These it gets over by itself.
    for trouble in [Trouble::Close, Trouble::CutOff] {
        sandbox.fault(Fault::new(one.clone(), trouble.clone()).times(1))?;
        let got = client.get("a")?;
        assert_eq!(value(&got), Some("v"), "{trouble:?}: {got:?}");
    }
    Ok(())
}

#[test]
fn imds_answers_as_it_does_to_a_client_that_forgets_something() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let sandbox = Sandbox::start(directory.path(), &[])?;
    let address = sandbox.imds_url().trim_start_matches("http://").to_owned();
    let target = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";
    let ask = |headers: &[(&str, &str)]| -> Result<u16> {
        Ok(http::exchange(TcpStream::connect(&address)?, ("GET", target), headers, &[])?.status)
    };
    let metadata = ("Metadata", "true");
    assert_eq!(ask(&[])?, 400);
    assert_eq!(ask(&[metadata, ("X-Forwarded-For", "10.0.0.1")])?, 400);
    assert_eq!(ask(&[metadata])?, 200);

    for status in [400, 404, 410, 429, 500] {
        sandbox.fault(Fault::of_imds(status, None).times(1))?;
        assert_eq!(ask(&[metadata])?, status);
    }
    sandbox.fault(Fault::new(Service::Imds, Trouble::Hang))?;
    let mut stream = TcpStream::connect(&address)?;
    http::send(&mut stream, ("GET", target), &[metadata], &[])?;
    eventually(Duration::from_secs(5), "the request is seen", || {
        ensure!(sandbox.log()?.last().is_some_and(|entry| entry.status.is_none()));
        Ok(())
    })?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    assert_eq!(stream.read(&mut [0]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    // Closing the door ends also what hangs.
    sandbox.refuse(&Service::Imds)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    assert_eq!(stream.read(&mut [0])?, 0);
    assert_eq!(TcpStream::connect(&address).map(drop).map_err(|e| e.kind()), Err(ErrorKind::ConnectionRefused));
    sandbox.listen(&Service::Imds)?;
    sandbox.clear_faults()?;
    assert_eq!(ask(&[metadata])?, 200);
    assert_eq!(busiest(&sandbox.log()?, Duration::from_mins(1)), 10);
    Ok(())
}

#[test]
fn inside_the_namespace_all_is_at_its_real_place() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let sandbox = Sandbox::start_in_namespace(directory.path(), &["one", "two"])?;
    for (vault, text) in [("one", "of one"), ("two", "of two")] {
        sandbox.grant(vault, "system", Grant::GET)?;
        sandbox.set_secret(vault, "a", text)?;
        let mut client = Client::start(&sandbox, vault, None)?;
        let got = client.get("a")?;
        assert_eq!(value(&got), Some(text), "{got:?}");
    }
    let log = sandbox.log()?;
    let imds = of(&log, &Service::Imds);
    assert_eq!(statuses(&imds), [200, 200]);
    assert!(imds.iter().all(|entry| entry.remote.starts_with(namespace::IMDS)), "{imds:?}");

    // The machine itself has neither the address nor the names.
    let addresses = Command::new("ip").args(["-brief", "address"]).output()?;
    ensure!(!String::from_utf8_lossy(&addresses.stdout).contains(namespace::IMDS));
    ensure!(!fs::read_to_string("/etc/hosts")?.contains("one.vault.azure.net"));
    let inside = sandbox.inside(Path::new("ip"))?.args(["-brief", "address"]).output()?;
    ensure!(String::from_utf8_lossy(&inside.stdout).contains(namespace::IMDS));
    Ok(())
}

#[test]
fn a_wrong_certificate_and_a_hostile_challenge_end_before_a_token_is_shown() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let sandbox = Sandbox::start_in_namespace(directory.path(), &["one"])?;
    sandbox.grant("one", "system", Grant::GET)?;
    sandbox.set_secret("one", "a", "v")?;
    sandbox.set_challenge("one", Challenge::of("https://login.microsoftonline.com/x", "https://evil.example"))?;
    let hostile = Client::start(&sandbox, "one", None)?.get("a")?;
    assert_eq!(refusal(&hostile), "ValueError");
    assert!(hostile.message.is_some_and(|text| text.contains("evil.example")));
    sandbox.set_challenge("one", Challenge::Silent)?;
    let silent = Client::start(&sandbox, "one", None)?.get("a")?;
    assert_eq!(refusal(&silent), "ClientAuthenticationError 401 Unauthorized");
    sandbox.set_challenge("one", Challenge::Right)?;
    for certificate in [Certificate::Expired, Certificate::OtherName, Certificate::UnknownAuthority] {
        sandbox.set_certificate("one", certificate)?;
        let wrong = Client::start(&sandbox, "one", None)?.get("a")?;
        assert_eq!(refusal(&wrong), "ServiceRequestError", "{certificate:?}: {wrong:?}");
    }
    assert_eq!(asked_of(&sandbox.log()?, &Service::Imds), [0; 0]);
    Ok(())
}
