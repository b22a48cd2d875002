//! Everything that can go wrong between here and a secret, one after the other: what is laid down stays, the problem says what and what
//! to do, few requests are made, and the next good answer ends it.

use std::slice::from_ref;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use landfall_core::secrets::{NeedAnswer, SecretNeed};
use landfall_tests::fetcher::{Fetcher, need};
use landfall_tests::sandbox::Sandbox;
use landfall_tests::sandbox::certificates::Certificate;
use landfall_tests::sandbox::control::Command;
use landfall_tests::sandbox::fault::{Fault, Service, Stage, Trouble};
use landfall_tests::sandbox::identity::{Identity, TOKEN_LIFE_SECONDS};
use landfall_tests::sandbox::log::of;
use landfall_tests::sandbox::secret::Attributes;
use landfall_tests::sandbox::vault::{Challenge, Grant, Model};
use landfall_tests::wait::throughout;

use super::started;

/// One thing that goes wrong.
struct Row {
    name: &'static str,
    /// Makes it go wrong.
    spoil: fn(&Sandbox) -> Result<()>,
    /// What the problem says.
    says: &'static str,
    /// Makes it good, beyond clearing the faults.
    heal: fn(&Sandbox) -> Result<()>,
}

const NOTHING: fn(&Sandbox) -> Result<()> = |_| Ok(());
/// Until a problem shows: an attempt with a refused token is two requests, a new client one more, and then there is another attempt.
const MOST_REQUESTS: usize = 12;

fn vault() -> Service {
    Service::vault("one")
}

/// IMDS is asked only for a token that is needed.
fn imds(sandbox: &Sandbox, fault: Fault) -> Result<()> {
    sandbox.fault(fault)?;
    sandbox.revoke_tokens("system")
}

/// What the vault shows is seen by new connections only.
fn certificate(sandbox: &Sandbox, certificate: Certificate) -> Result<()> {
    sandbox.set_certificate("one", certificate)?;
    sandbox.refuse(&vault())?;
    sandbox.listen(&vault())
}

/// So many rows for each of some fetchers: most of the time is waiting.
fn check(rows: &[Row], each: usize) -> Result<()> {
    std::thread::scope(|scope| {
        let parts: Vec<_> = rows.chunks(each).map(|part| scope.spawn(move || check_in_turn(part))).collect();
        parts.into_iter().try_for_each(|part| part.join().unwrap_or_else(|_| Err(anyhow!("a part panicked"))))
    })
}

fn check_in_turn(rows: &[Row]) -> Result<()> {
    let mut fetcher = started()?;
    fetcher.sandbox.set_secret("one", "a", "the-value")?;
    let need = need("api", &[("A", "a")])?;
    fetcher.want("web", from_ref(&need))?;
    let set = fetcher.set("web", &need)?;
    for row in rows {
        one(&mut fetcher, &need, &set, row).with_context(|| row.name)?;
    }
    ensure!(!fetcher.log(10_000).contains("the-value"), "the value is in the log");
    Ok(())
}

fn one(fetcher: &mut Fetcher, need: &SecretNeed, set: &String, row: &Row) -> Result<()> {
    let before = fetcher.answer("web", need, |answer| answer.problem.is_none())?;
    fetcher.sandbox.forget_log()?;
    (row.spoil)(&fetcher.sandbox)?;
    let says = |answer: &NeedAnswer| answer.problem.as_ref().is_some_and(|problem| problem.contains(row.says));
    let told = fetcher.answer("web", need, says)?;
    let log = fetcher.sandbox.log()?;
    let problem = told.problem.context("no problem")?;
    // For people, with --nocapture: how it reads.
    eprintln!("{}, after {} requests: {problem}", row.name, log.len());
    ensure!(problem.contains("next: "), "it does not say what to do next");
    ensure!(told.set.as_ref() == Some(set), "the set is gone from the answer");
    ensure!(fetcher.read("web", "api", set, "A")? == "the-value", "the set changed");
    ensure!(log.len() <= MOST_REQUESTS, "{} requests: {log:?}", log.len());
    fetcher.sandbox.clear_faults()?;
    (row.heal)(&fetcher.sandbox)?;
    let good = fetcher.answer("web", need, |answer| answer.problem.is_none())?;
    ensure!(good.set.as_ref() == Some(set), "another set");
    ensure!(good.checked_at != before.checked_at, "it was not looked at again");
    Ok(())
}

#[test]
fn a_vault_that_is_ill() -> Result<()> {
    check(
        &[
            Row {
                name: "refused",
                spoil: |s| s.refuse(&vault()),
                says: "Connection refused",
                heal: |s| s.listen(&vault()),
            },
            Row {
                name: "500",
                spoil: |s| s.fault(Fault::of_vault("one", 500, None)),
                says: "https://one.vault.azure.net answers 500 (The server encountered an internal error.)",
                heal: NOTHING,
            },
            Row {
                name: "HTML",
                spoil: |s| s.fault(Fault::html(vault(), 200)),
                says: "answered with something that is no secret",
                heal: NOTHING,
            },
            Row {
                name: "truncated JSON",
                spoil: |s| s.fault(Fault::new(vault(), Trouble::Garbled)),
                says: "answered with something that is no secret",
                heal: NOTHING,
            },
            Row {
                name: "an answer that is cut off",
                spoil: |s| s.fault(Fault::new(vault(), Trouble::CutOff)),
                says: "no answer of use from https://one.vault.azure.net",
                heal: NOTHING,
            },
            Row {
                name: "a closed connection",
                spoil: |s| s.fault(Fault::new(vault(), Trouble::Close)),
                says: "no answer of use from https://one.vault.azure.net",
                heal: NOTHING,
            },
        ],
        2,
    )
}

#[test]
fn a_secret_that_is_not_given() -> Result<()> {
    check(
        &[
            Row {
                name: "403 by role",
                spoil: |s| s.grant("one", "system", Grant::NOTHING),
                says: "next: `az role assignment create --role \"Key Vault Secrets User\" --assignee ",
                heal: |s| s.grant("one", "system", Grant::GET),
            },
            Row {
                name: "403 by policy",
                spoil: |s| {
                    s.tell(&Command::SetModel { vault: "one".to_owned(), model: Model::Policy })?;
                    s.grant("one", "system", Grant::NOTHING)
                },
                says: "next: `az keyvault set-policy --name one --object-id ",
                heal: |s| s.grant("one", "system", Grant::GET),
            },
            Row {
                name: "403 because it is disabled",
                spoil: |s| s.describe("one", "a", Attributes { enabled: false, ..Attributes::default() }),
                says: "`a` in https://one.vault.azure.net is disabled",
                heal: |s| s.describe("one", "a", Attributes::default()),
            },
            Row {
                name: "404",
                spoil: |s| s.delete("one", "a"),
                says: "`a` is not in https://one.vault.azure.net; next: `az keyvault secret set --vault-name one --name a`",
                heal: |s| s.recover("one", "a"),
            },
            Row {
                name: "another name in the certificate",
                spoil: |s| certificate(s, Certificate::OtherName),
                says: "certificate",
                heal: |s| certificate(s, Certificate::Right),
            },
            Row {
                name: "an unknown authority",
                spoil: |s| certificate(s, Certificate::UnknownAuthority),
                says: "certificate",
                heal: |s| certificate(s, Certificate::Right),
            },
            Row {
                name: "an expired certificate",
                spoil: |s| certificate(s, Certificate::Expired),
                says: "certificate",
                heal: |s| certificate(s, Certificate::Right),
            },
            Row {
                name: "a hostile challenge",
                spoil: |s| {
                    s.set_challenge("one", Challenge::of("https://login.evil.example/x", "https://evil.example"))?;
                    s.revoke_tokens("system")
                },
                says: "no token was shown to it",
                heal: |s| {
                    let asked_for_evil =
                        of(&s.log()?, &Service::Imds).iter().any(|entry| entry.target.contains("evil"));
                    ensure!(!asked_for_evil, "a token for evil.example was asked for");
                    s.set_challenge("one", Challenge::Right)
                },
            },
        ],
        2,
    )
}

#[test]
fn imds_that_is_ill() -> Result<()> {
    check(
        &[
            Row {
                name: "refused",
                spoil: |s| {
                    s.refuse(&Service::Imds)?;
                    s.revoke_tokens("system")
                },
                says: "no token from IMDS for the identity `system`: ",
                heal: |s| s.listen(&Service::Imds),
            },
            Row {
                name: "400",
                spoil: |s| imds(s, Fault::of_imds(400, None)),
                says: "this machine has not the identity `system` (IMDS: Identity not found); next: assign it with `az vm identity assign`",
                heal: NOTHING,
            },
            Row {
                name: "410",
                spoil: |s| imds(s, Fault::of_imds(410, None)),
                says: "IMDS gives no token for the identity `system` (410: ",
                heal: NOTHING,
            },
            Row {
                name: "429",
                spoil: |s| imds(s, Fault::of_imds(429, Some("1"))),
                says: "(429: Temporarily throttled",
                heal: NOTHING,
            },
            Row {
                name: "500",
                spoil: |s| imds(s, Fault::of_imds(500, None)),
                says: "(500: Failed to retrieve token",
                heal: NOTHING,
            },
            Row {
                name: "HTML",
                spoil: |s| imds(s, Fault::html(Service::Imds, 200)),
                says: "IMDS answered with something that is no token",
                heal: NOTHING,
            },
            Row {
                name: "truncated JSON",
                spoil: |s| imds(s, Fault::new(Service::Imds, Trouble::Garbled)),
                says: "IMDS answered with something that is no token",
                heal: NOTHING,
            },
        ],
        2,
    )
}

#[test]
fn who_does_not_answer_at_all_is_named() -> Result<()> {
    check(
        &[
            Row {
                name: "a vault that hangs",
                spoil: |s| s.fault(Fault::new(vault(), Trouble::Hang)),
                says: "`one.vault.azure.net` did not answer within 8 s",
                heal: NOTHING,
            },
            Row {
                name: "IMDS that hangs",
                spoil: |s| imds(s, Fault::new(Service::Imds, Trouble::Hang)),
                says: "`169.254.169.254` did not answer within 8 s",
                heal: NOTHING,
            },
        ],
        1,
    )
}

#[test]
fn a_token_that_is_no_longer_taken_is_replaced_without_a_word() -> Result<()> {
    let mut fetcher = started()?;
    fetcher.sandbox.set_secret("one", "a", "v")?;
    let need = need("api", &[("A", "a")])?;
    fetcher.want("web", from_ref(&need))?;
    fetcher.set("web", &need)?;
    let revoke: fn(&Sandbox) -> Result<()> = |s| s.revoke_tokens("system");
    // Our clock stands still, so that to us the token is good; then its clock goes back, and its tokens are of the future.
    let forward: fn(&Sandbox) -> Result<()> = |s| s.jump_clock(2 * TOKEN_LIFE_SECONDS);
    let back: fn(&Sandbox) -> Result<()> = |s| s.jump_clock(-2 * TOKEN_LIFE_SECONDS);
    for (name, spoil) in [("revoked", revoke), ("expired", forward), ("clock back", back)] {
        let before = fetcher.answer("web", &need, |_| true)?.checked_at;
        fetcher.sandbox.forget_log()?;
        spoil(&fetcher.sandbox)?;
        for _ in 0..2 {
            let now = fetcher.answer("web", &need, |_| true)?.checked_at;
            let answer = fetcher.answer("web", &need, |answer| answer.checked_at != now || answer.problem.is_some())?;
            assert_eq!((answer.problem, answer.checked_at > before), (None, true), "{name}");
        }
        let asked = of(&fetcher.sandbox.log()?, &Service::Imds).len();
        assert!(asked <= 1, "{name}: IMDS was asked {asked} times");
    }
    assert!(!fetcher.log(1000).contains("cannot be had"), "{}", fetcher.log(20));
    Ok(())
}

#[test]
fn a_vault_that_wants_to_be_left_alone_is() -> Result<()> {
    let mut fetcher = started()?;
    fetcher.sandbox.set_secret("one", "a", "v")?;
    let (first, second) = (need("api", &[("A", "a")])?, need("worker", &[("A", "a")])?);
    fetcher.want("web", from_ref(&first))?;
    let set = fetcher.set("web", &first)?;
    fetcher.sandbox.fault(Fault::of_vault("one", 429, Some("86400")))?;
    let told = fetcher.answer("web", &first, |answer| answer.problem.is_some())?;
    assert_eq!(told.set, Some(set));
    fetcher.sandbox.clear_faults()?;
    fetcher.sandbox.forget_log()?;
    // Also who is new has to wait, and is told why.
    fetcher.want("web", &[first.clone(), second.clone()])?;
    let told = fetcher.answer("web", &second, |answer| answer.problem.is_some())?;
    assert!(told.problem.is_some_and(|problem| problem.contains("answers 429")));
    throughout(Duration::from_secs(3), "nobody is asked", || {
        ensure!(fetcher.sandbox.log()?.is_empty(), "{:?}", fetcher.sandbox.log()?);
        Ok(())
    })?;
    fetcher.kill()?;
    fetcher.start()?;
    fetcher.set("web", &second)?;
    Ok(())
}

#[test]
fn an_outage_of_many_secrets_costs_a_few_requests() -> Result<()> {
    let mut fetcher = started()?;
    let names: Vec<String> = (0..30).map(|number| format!("s{number}")).collect();
    for name in &names {
        fetcher.sandbox.set_secret("one", name, "v")?;
    }
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let need = need("api", &files)?;
    fetcher.want("web", from_ref(&need))?;
    fetcher.set("web", &need)?;
    let outage = Fault { stage: Stage::Door, ..Fault::of_vault("one", 503, None) };
    fetcher.sandbox.fault(outage)?;
    fetcher.answer("web", &need, |answer| answer.problem.is_some())?;
    fetcher.sandbox.forget_log()?;
    // Pauses of 1, 2, 4 s, four requests each.
    throughout(Duration::from_secs(4), "few requests", || {
        let asked = fetcher.sandbox.log()?.len();
        ensure!(asked <= 3 * 4, "{asked} requests");
        Ok(())
    })?;
    fetcher.sandbox.clear_faults()?;
    fetcher.answer("web", &need, |answer| answer.problem.is_none())?;
    Ok(())
}

#[test]
fn an_identity_that_the_machine_has_not_is_told_by_name() -> Result<()> {
    let absent = Identity::user("absent");
    let settings = format!(
        "vaults:\n  default: {{ url: 'https://one.vault.azure.net', refresh: 1s, identity: 'resource-id:{}' }}\n",
        absent.resource_id
    );
    let mut fetcher = Fetcher::new(&["one"], &settings)?;
    fetcher.sandbox.set_secret("one", "a", "v")?;
    fetcher.sandbox.grant("one", "absent", Grant::GET)?;
    fetcher.start()?;
    let need = need("api", &[("A", "a")])?;
    fetcher.want("web", from_ref(&need))?;
    let told = fetcher.answer("web", &need, |answer| answer.problem.is_some())?.problem.context("no problem")?;
    assert!(
        told.contains(&format!("this machine has not the identity `resource-id:{}`", absent.resource_id)),
        "{told}"
    );
    fetcher.sandbox.assign(&absent)?;
    fetcher.set("web", &need)?;
    Ok(())
}
