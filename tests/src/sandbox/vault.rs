//! How a Key Vault answers: the challenge, who may do what, one secret, lists in pages. It decides by the request and what it
//! holds; faults were looked at before, and it changes nothing: whoever tries to write gets 405.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use landfall_sample::http::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::identity::{Identity, TENANT, Unfit, VAULT_RESOURCE};
use super::secret::{RECOVERABLE_DAYS, Secret, Secrets, Version, is_name};
use super::wire::{self, Request};

/// The most that a page holds, and what it holds by default.
const PAGE: usize = 25;
const DAY_SECONDS: i64 = 86_400;

/// How a vault decides who may do what; it shows in the inner code of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Role assignments.
    #[default]
    Rbac,
    /// The vault's own access policies.
    Policy,
}

/// What an identity may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grant {
    /// Read a value.
    pub get: bool,
    /// See which secrets and versions there are.
    pub list: bool,
}

impl Grant {
    /// To read values, no more: all that Landfall may need.
    pub const GET: Self = Self { get: true, list: false };
    /// To read values and to list.
    pub const GET_AND_LIST: Self = Self { get: true, list: true };
    /// Nothing.
    pub const NOTHING: Self = Self { get: false, list: false };
}

/// What a 401 tells the client: where tokens are, and for which resource it needs one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Challenge {
    /// As the service does.
    Right,
    /// A 401 without the header.
    Silent,
    /// The header with this value, hostile or malformed.
    Header(String),
}

impl Challenge {
    /// A challenge that asks for tokens of another service, or sends to another authority.
    pub fn of(authorization: &str, resource: &str) -> Self {
        Self::Header(format!("Bearer authorization=\"{authorization}\", resource=\"{resource}\""))
    }

    fn header(&self) -> Option<String> {
        match self {
            Self::Right => Self::of(&format!("https://login.microsoftonline.com/{TENANT}"), VAULT_RESOURCE).header(),
            Self::Silent => None,
            Self::Header(value) => Some(value.clone()),
        }
    }
}

/// A vault.
#[derive(Debug)]
pub struct Vault {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub secrets: Secrets,
    /// How it decides.
    pub model: Model,
    /// What it tells whom it does not know.
    pub challenge: Challenge,
    /// By identity, and by secret where one is named; that one counts.
    pub grants: BTreeMap<(String, Option<String>), Grant>,
}

impl Vault {
    /// An empty one that trusts nobody.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            secrets: Secrets::default(),
            model: Model::Rbac,
            challenge: Challenge::Right,
            grants: BTreeMap::new(),
        }
    }

    /// 401, for one of the reasons that the service has.
    pub fn challenge(&self, why: Option<Unfit>) -> Response {
        let message = match why {
            None => "AKV10000: Request is missing a Bearer or PoP token.",
            Some(Unfit::Unknown | Unfit::Revoked) => {
                "AKV10046: Unable to resolve the key used for signature validation."
            }
            Some(Unfit::Expired) => "[TokenExpired] Error validating token: 'S2S12086'.",
            Some(Unfit::OtherResource) => "AKV10022: Invalid audience. Expected https://vault.azure.net.",
        };
        let mut response = refusal(401, "Unauthorized", message, None);
        if let Some(value) = self.challenge.header() {
            response.headers.push(("WWW-Authenticate".to_owned(), value));
        }
        response
    }

    /// The answer to one whose token was taken.
    pub fn answer(&self, identity: &Identity, request: &Request, now: i64) -> Response {
        let version = request.query("api-version").unwrap_or_default();
        if !is_supported(&version) {
            let message =
                "The specified api-version is missing or not recognized. Consider using the latest: 2025-07-01.";
            return refusal(400, "BadParameter", message, None);
        }
        if request.method != "GET" {
            return refusal(405, "MethodNotAllowed", "The sandbox is written by its control socket only", None);
        }
        let base = format!("https://{}", request.header("host").unwrap_or("no-host"));
        let segments: Vec<&str> = request.path().trim_start_matches('/').split('/').collect();
        let asked = match segments[..] {
            ["secrets"] => self.allow(identity, None, Action::List).and_then(|()| self.list(&base, request)),
            ["secrets", name, "versions"] => self
                .named(identity, name, Action::List)
                .and_then(|()| self.living(name))
                .and_then(|secret| versions(secret, name, &base, request)),
            ["secrets", name] | ["secrets", name, ""] => self
                .named(identity, name, Action::Get)
                .and_then(|()| self.living(name))
                .and_then(|secret| one(secret.latest(), name, &base)),
            ["secrets", name, id] => self
                .named(identity, name, Action::Get)
                .and_then(|()| self.living(name))
                .and_then(|secret| one(secret.version(id), name, &base)),
            ["deletedsecrets", name] => {
                self.named(identity, name, Action::Get).and_then(|()| self.deleted(name, &base, now))
            }
            _ => Err(refusal(404, "NotFound", "There is no such path", None)),
        };
        asked.map_or_else(|refused| refused, |body| wire::json(200, &body))
    }

    fn named(&self, identity: &Identity, name: &str, action: Action) -> Result<(), Response> {
        if is_name(name) {
            return self.allow(identity, Some(name), action);
        }
        Err(refusal(400, "BadParameter", &format!("The request URI contains an invalid name: {name}"), None))
    }

    fn allow(&self, identity: &Identity, name: Option<&str>, action: Action) -> Result<(), Response> {
        let of = |secret: Option<&str>| self.grants.get(&(identity.name.clone(), secret.map(str::to_owned)));
        let grant = name.and_then(|name| of(Some(name))).or_else(|| of(None)).copied().unwrap_or_default();
        let (is_allowed, word) = match action {
            Action::Get => (grant.get, "get"),
            Action::List => (grant.list, "list"),
        };
        if is_allowed {
            return Ok(());
        }
        let caller =
            format!("appid={};oid={};iss=https://sts.windows.net/{TENANT}/", identity.client_id, identity.object_id);
        let (code, message) = match self.model {
            Model::Rbac => (
                "ForbiddenByRbac",
                format!(
                    "Caller is not authorized to perform action on resource.\r\nCaller: {caller}\r\nAction: 'Microsoft.KeyVault/vaults/secrets/{word}Secret/action'\r\nAssignment: (not found)\r\nVault: {}",
                    self.name
                ),
            ),
            Model::Policy => (
                "ForbiddenByPolicy",
                format!(
                    "The user, group or application '{caller}' does not have secrets {word} permission on key vault '{}'.",
                    self.name
                ),
            ),
        };
        Err(refusal(403, "Forbidden", &message, Some(code)))
    }

    fn living(&self, name: &str) -> Result<&Secret, Response> {
        self.secrets.find(name).filter(|secret| secret.deleted.is_none()).ok_or_else(|| not_found(name))
    }

    fn list(&self, base: &str, request: &Request) -> Result<Value, Response> {
        let items = self.secrets.living().filter_map(|(name, secret)| {
            let id = format!("{base}/secrets/{name}");
            Some((name.as_str(), secret.latest()?.show(&id, None)))
        });
        page(items, base, request)
    }

    fn deleted(&self, name: &str, base: &str, now: i64) -> Result<Value, Response> {
        let found = self.secrets.find(name).and_then(|secret| Some((secret.deleted?, secret.latest()?)));
        let (deleted, version) = found
            .filter(|(at, _)| *at + RECOVERABLE_DAYS * DAY_SECONDS > now)
            .ok_or_else(|| refusal(404, "SecretNotFound", &format!("Deleted Secret not found: {name}"), None))?;
        let mut shown = version.show(&format!("{base}/secrets/{name}/{}", version.id), None);
        shown["recoveryId"] = format!("{base}/deletedsecrets/{name}").into();
        shown["deletedDate"] = deleted.into();
        shown["scheduledPurgeDate"] = (deleted + RECOVERABLE_DAYS * DAY_SECONDS).into();
        Ok(shown)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    List,
}

/// 7.0 and later of the old numbers, 2025-07-01 and later of the dates.
fn is_supported(version: &str) -> bool {
    version.starts_with("7.") || (version.len() >= 10 && ("2025-07-01".."2100").contains(&version))
}

fn one(version: Option<&Version>, name: &str, base: &str) -> Result<Value, Response> {
    let version = version.ok_or_else(|| not_found(name))?;
    if !version.attributes.enabled {
        let message = "Operation get is not allowed on a disabled secret.";
        return Err(refusal(403, "Forbidden", message, Some("SecretDisabled")));
    }
    Ok(version.show(&format!("{base}/secrets/{name}/{}", version.id), Some(&version.value)))
}

fn versions(secret: &Secret, name: &str, base: &str, request: &Request) -> Result<Value, Response> {
    let show = |(id, version): (_, &Version)| (id, version.show(&format!("{base}/secrets/{name}/{id}"), None));
    page(secret.by_id().into_iter().map(show), base, request)
}

/// The items behind the one that `$skiptoken` names, and the way to those behind them.
fn page<'a>(items: impl Iterator<Item = (&'a str, Value)>, base: &str, request: &Request) -> Result<Value, Response> {
    let bad = |what: &str| refusal(400, "BadParameter", &format!("The parameter {what} is not valid"), None);
    let size = match request.query("maxresults") {
        None => PAGE,
        Some(text) => text.parse().ok().filter(|n| (1..=PAGE).contains(n)).ok_or_else(|| bad("maxresults"))?,
    };
    let after = match request.query("$skiptoken") {
        None => String::new(),
        Some(text) => URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| bad("$skiptoken"))?,
    };
    let mut rest = items.filter(|(key, _)| *key > after.as_str()).peekable();
    let mut shown = Vec::new();
    let mut last = "";
    while let Some((key, item)) = rest.next_if(|_| shown.len() < size) {
        shown.push(item);
        last = key;
    }
    let next = rest.peek().map(|_| {
        let version = request.query("api-version").unwrap_or_default();
        let token = URL_SAFE_NO_PAD.encode(last);
        format!("{base}{}?api-version={version}&$skiptoken={token}&maxresults={size}", request.path())
    });
    Ok(json!({ "value": shown, "nextLink": next }))
}

fn not_found(name: &str) -> Response {
    let message = format!("A secret with (name/id) {name} was not found in this key vault.");
    refusal(404, "SecretNotFound", &message, None)
}

fn refusal(status: u16, code: &str, message: &str, inner: Option<&str>) -> Response {
    let mut error = json!({ "code": code, "message": message });
    if let Some(inner) = inner {
        error["innererror"] = json!({ "code": inner });
    }
    wire::json(status, &json!({ "error": error }))
}

#[cfg(test)]
mod tests;
