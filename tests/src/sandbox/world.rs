//! Everything that the sandbox knows: identities, tokens, vaults, faults, the log, its clock. It answers requests and does what
//! tests tell it; it opens no connection and reads no clock.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use landfall_sample::http::Response;

use super::control::{Command, Reply};
use super::fault::{Delivery, Faults, Service, Stage, deliver};
use super::identity::{self, Identity, Tokens};
use super::imds;
use super::log::Entry;
use super::vault::Vault;
use super::wire::Request;

/// From whom a request came, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The client's address.
    pub remote: String,
    /// Counts connections.
    pub connection: u64,
    /// By the machine's clock.
    pub at_ms: u64,
}

/// Everything.
#[derive(Debug, Default)]
pub struct World {
    identities: Vec<Identity>,
    tokens: Tokens,
    vaults: BTreeMap<String, Vault>,
    faults: Faults,
    log: Vec<Entry>,
    clock_offset: i64,
}

/// A right answer, or the way there: who asked, with which token.
struct Answered {
    delivery: Delivery,
    identity: Option<String>,
    token: Option<String>,
}

impl World {
    /// Empty vaults of these names, and a VM with an identity of its own that may do nothing yet.
    pub fn new(vaults: &[String]) -> Self {
        let vaults = vaults.iter().map(|name| (name.clone(), Vault::new(name))).collect();
        Self { identities: vec![Identity::system()], vaults, ..Self::default() }
    }

    /// Answers a request and remembers it.
    pub fn answer(&mut self, service: &Service, request: &Request, origin: &Origin) -> Delivery {
        let now = self.now(origin.at_ms);
        let answered = match service {
            Service::Imds => self.imds(request, now),
            Service::Vault(name) => self.vault(name, request, now),
        };
        self.log.push(Entry {
            at_ms: origin.at_ms,
            service: service.clone(),
            method: request.method.clone(),
            target: request.target.clone(),
            identity: answered.identity,
            token: answered.token.as_deref().map(identity::fingerprint),
            status: answered.delivery.status(),
            remote: origin.remote.clone(),
            connection: origin.connection,
            user_agent: request.header("user-agent").unwrap_or_default().to_owned(),
        });
        answered.delivery
    }

    fn imds(&mut self, request: &Request, now: i64) -> Answered {
        let refused = |response| Answered { delivery: Delivery::Whole(response), identity: None, token: None };
        if let Some(trouble) = self.faults.take(&Service::Imds, request.path(), Stage::Door) {
            let right = || Response::new(200, "");
            return Answered { delivery: deliver(Some(trouble), right), identity: None, token: None };
        }
        let asked = match imds::read(&self.identities, request) {
            Ok(asked) => asked,
            Err(response) => return refused(response),
        };
        let trouble = self.faults.take(&Service::Imds, request.path(), Stage::Inside);
        let mut token = None;
        let delivery = deliver(trouble, || {
            let (response, given) = imds::give(&mut self.tokens, &asked, now);
            token = Some(given.text);
            response
        });
        Answered { delivery, identity: Some(asked.identity.name.clone()), token }
    }

    fn vault(&mut self, name: &str, request: &Request, now: i64) -> Answered {
        let service = Service::vault(name);
        let text = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let judged = text.map(|text| self.tokens.judge(text, now));
        let owner = text.and_then(|text| self.tokens.owner(text)).map(str::to_owned);
        let right = |vault: &Vault, identities: &[Identity]| {
            let identity = owner.as_ref().and_then(|owner| identities.iter().find(|i| i.name == *owner));
            match (&judged, identity) {
                (Some(Ok(_)), Some(identity)) => vault.answer(identity, request, now),
                (Some(Ok(_)), None) => vault.challenge(Some(identity::Unfit::Unknown)),
                (Some(Err(unfit)), _) => vault.challenge(Some(*unfit)),
                (None, _) => vault.challenge(None),
            }
        };
        let at_the_door = self.faults.take(&service, request.path(), Stage::Door);
        let trouble = match (at_the_door, &judged) {
            (None, Some(Ok(_))) => self.faults.take(&service, request.path(), Stage::Inside),
            (trouble, _) => trouble,
        };
        let delivery = match self.vaults.get(name) {
            Some(vault) => deliver(trouble, || right(vault, &self.identities)),
            None => Delivery::Close,
        };
        let token = text.map(str::to_owned);
        Answered { delivery, identity: owner, token }
    }

    fn now(&self, at_ms: u64) -> i64 {
        i64::try_from(at_ms / 1000).unwrap_or(i64::MAX).saturating_add(self.clock_offset)
    }

    /// Does what a test tells it. What concerns doors and certificates is not for here.
    pub fn obey(&mut self, command: Command, at_ms: u64) -> Result<Reply> {
        let now = self.now(at_ms);
        match command {
            Command::SetSecret { vault, name, value, attributes } => {
                return Ok(Reply::Version(self.find(&vault)?.secrets.set(&name, &value, attributes, now)?));
            }
            Command::Describe { vault, name, version, attributes } => {
                self.find(&vault)?.secrets.describe(&name, version.as_deref(), attributes, now)?;
            }
            Command::Delete { vault, name } => self.find(&vault)?.secrets.delete(&name, now)?,
            Command::Recover { vault, name } => self.find(&vault)?.secrets.recover(&name)?,
            Command::Purge { vault, name } => self.find(&vault)?.secrets.purge(&name)?,
            Command::Assign { identity } => {
                ensure!(self.identities.iter().all(|known| known.name != identity.name), "it is assigned already");
                self.identities.push(identity);
            }
            Command::Unassign { identity } => self.identities.retain(|known| known.name != identity),
            Command::Grant { vault, secret, identity, grant } => {
                self.find(&vault)?.grants.insert((identity, secret), grant);
            }
            Command::SetModel { vault, model } => self.find(&vault)?.model = model,
            Command::SetChallenge { vault, challenge } => self.find(&vault)?.challenge = challenge,
            Command::SetTokenLife { seconds } => self.tokens.life_seconds = seconds,
            Command::RevokeTokens { identity } => self.tokens.revoke(&identity),
            Command::JumpClock { seconds } => self.clock_offset = self.clock_offset.saturating_add(seconds),
            Command::AddFault { fault } => {
                if let Service::Vault(name) = &fault.service {
                    self.find(name)?;
                }
                self.faults.add(fault);
            }
            Command::ClearFaults => self.faults.clear(),
            Command::Log => return Ok(Reply::Log(self.log.clone())),
            Command::ForgetLog => self.log.clear(),
            Command::Refuse { .. } | Command::Listen { .. } | Command::SetCertificate { .. } => {
                bail!("doors are not kept here")
            }
        }
        Ok(Reply::Done)
    }

    fn find(&mut self, name: &str) -> Result<&mut Vault> {
        self.vaults
            .get_mut(name)
            .with_context(|| format!("there is no vault `{name}`; next: start the sandbox with it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::fault::{Fault, Trouble};
    use crate::sandbox::log::statuses;
    use crate::sandbox::secret::Attributes;
    use crate::sandbox::vault::Grant;

    const TOKEN: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net";
    const SECRET: &str = "/secrets/a/?api-version=2025-07-01";

    fn world() -> World {
        let mut world = World::new(&["one".to_owned()]);
        let (vault, identity) = ("one".to_owned(), "system".to_owned());
        let attributes = Attributes::default();
        let set = Command::SetSecret { vault: vault.clone(), name: "a".to_owned(), value: "v".to_owned(), attributes };
        world.obey(set, 0).unwrap();
        world.obey(Command::Grant { vault, secret: None, identity, grant: Grant::GET }, 0).unwrap();
        world
    }

    fn token(world: &mut World, at_ms: u64) -> String {
        let origin = Origin { at_ms, ..Origin::default() };
        let delivery = world.answer(&Service::Imds, &Request::get(TOKEN, &[("Metadata", "true")]), &origin);
        let body: serde_json::Value = serde_json::from_slice(&delivery.response().unwrap().0.body).unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    }

    fn ask(world: &mut World, token: Option<&str>, at_ms: u64) -> Option<u16> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = bearer.iter().map(|value| ("Authorization", value.as_str())).collect();
        let origin = Origin { at_ms, ..Origin::default() };
        world.answer(&Service::vault("one"), &Request::get(SECRET, &headers), &origin).status()
    }

    #[test]
    fn a_secret_is_given_to_who_shows_a_token_in_force() {
        let mut world = world();
        assert_eq!(ask(&mut world, None, 0), Some(401));
        assert_eq!(ask(&mut world, Some("eyJ"), 0), Some(401));
        let first = token(&mut world, 0);
        assert_eq!(ask(&mut world, Some(&first), 0), Some(200));
        assert_eq!(ask(&mut world, Some(&first), 86_400_000), Some(401));
        world.obey(Command::RevokeTokens { identity: "system".to_owned() }, 0).unwrap();
        assert_eq!(ask(&mut world, Some(&first), 0), Some(401));
        let second = token(&mut world, 0);
        assert_eq!(ask(&mut world, Some(&second), 0), Some(200));
        world.obey(Command::JumpClock { seconds: 86_400 }, 0).unwrap();
        assert_eq!(ask(&mut world, Some(&second), 0), Some(401));
        let Reply::Log(log) = world.obey(Command::Log, 0).unwrap() else { panic!("no log") };
        assert_eq!(statuses(&log), [401, 401, 200, 200, 401, 401, 200, 200, 401]);
        assert_eq!(log[2].token, log[3].token);
        assert_eq!((&log[0].identity, log[3].identity.as_deref()), (&None, Some("system")));
    }

    #[test]
    fn a_fault_inside_waits_for_a_good_token_and_one_at_the_door_for_nothing() {
        let mut world = world();
        let good = token(&mut world, 0);
        let fault = |fault| Command::AddFault { fault };
        world.obey(fault(Fault::of_vault("one", 429, Some("1")).times(1)), 0).unwrap();
        assert_eq!(ask(&mut world, None, 0), Some(401));
        assert_eq!(ask(&mut world, Some(&good), 0), Some(429));
        assert_eq!(ask(&mut world, Some(&good), 0), Some(200));
        world.obey(fault(Fault::of_vault("one", 503, None).times(1).at_the_door()), 0).unwrap();
        assert_eq!(ask(&mut world, None, 0), Some(503));
        world.obey(fault(Fault::new(Service::vault("one"), Trouble::Hang)), 0).unwrap();
        assert_eq!(ask(&mut world, None, 0), None);
        world.obey(Command::ClearFaults, 0).unwrap();
        assert_eq!(ask(&mut world, None, 0), Some(401));
        assert!(world.obey(fault(Fault::of_vault("two", 503, None)), 0).is_err());
    }

    #[test]
    fn tokens_of_an_identity_that_was_taken_away_are_good_for_nothing() {
        let mut world = world();
        let good = token(&mut world, 0);
        world.obey(Command::Unassign { identity: "system".to_owned() }, 0).unwrap();
        assert_eq!(ask(&mut world, Some(&good), 0), Some(401));
    }
}
