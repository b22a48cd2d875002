//! What an error of Microsoft's client means, to whom it matters, and what to do next. Pure. Its own top line says nothing or too
//! much: what counts is the status, the service's code, and for what never came back the chain of causes. The body of a good answer
//! is never quoted, because a value could be in it.

use azure_core::error::{Error, ErrorKind};
use azure_core::http::RawResponse;
use azure_core::http::headers::RETRY_AFTER;
use jiff::Timestamp;
use landfall_core::clock_doubt::{SEE_THE_CLOCK, doubts_the_clock};
use landfall_core::config::Identity;
use landfall_core::ids::printable;
use landfall_core::retry_after::retry_after;
use serde_json::Value as Json;

use crate::source::{FetchError, Pause, Verdict};

/// How much of what a service says is passed on.
const WORDS: usize = 300;
/// Layers of Microsoft's client and of the one below it that say nothing by themselves.
const SILENT: [&str; 4] =
    ["non-transport error", "failed to execute `reqwest`", "error sending request", "error converting `reqwest`"];
/// What follows these is another each time, or advice for others: the same reason is to read the same.
const ENDS: [&str; 6] = [
    ": verification time",
    ": https://docs.rs/rustls",
    ". Set verify_challenge_resource",
    " Trace ID:",
    " Correlation ID:",
    " Timestamp:",
];

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The vault, `https://…`.
    pub url: &'a str,
    /// The secret.
    pub name: &'a str,
    /// None for the newest.
    pub version: Option<&'a str>,
    /// As whom.
    pub identity: &'a Identity,
}

/// Why nothing was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The token is not taken (any more): a new one may be.
    Token(FetchError),
    /// Asking again at once does not help.
    Final(FetchError),
}

/// What an error means.
pub fn refused(error: &Error, asked: &Asked<'_>, now: Timestamp) -> Refused {
    let response = response_of(error);
    if matches!(error.kind(), ErrorKind::Credential) {
        return Refused::Final(token_error(error, response, asked, now));
    }
    match response {
        None => Refused::Final(unanswered(error, asked)),
        Some((401, response)) => {
            let problem = format!(
                "{} does not take the token of the identity {} ({}); next: see that both belong to the same tenant",
                asked.url,
                identity(asked.identity),
                words(response)
            );
            Refused::Token(FetchError::of_vault(problem, Pause::BackOff).that_is(Verdict::Vault))
        }
        Some((status, response)) => Refused::Final(vault_error(status, response, asked, now)),
    }
}

/// A good answer that is not what a vault answers. Its content is not shown.
pub fn garbled(asked: &Asked<'_>) -> FetchError {
    let problem = format!(
        "{} answered with something that is no secret; next: see whether a proxy or portal is in between",
        asked.url
    );
    FetchError::of_vault(problem, Pause::BackOff)
}

/// A secret without a value, or another than was asked for: that of one secret.
pub fn useless(asked: &Asked<'_>) -> FetchError {
    let problem = format!(
        "`{}` in {} has no value and version that can be used; next: make a new version of it",
        asked.name, asked.url
    );
    FetchError::of_secret(problem)
}

/// The status and the answer, wherever in the chain they are.
fn response_of(error: &Error) -> Option<(u16, Option<&RawResponse>)> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let ErrorKind::HttpResponse { status, raw_response, .. } = error.kind() {
            return Some((u16::from(*status), raw_response.as_deref()));
        }
        next = error.downcast_ref::<Error>();
    }
    None
}

fn token_error(
    error: &Error,
    response: Option<(u16, Option<&RawResponse>)>,
    asked: &Asked<'_>,
    now: Timestamp,
) -> FetchError {
    let who = identity(asked.identity);
    let Some((status, response)) = response else {
        if let Some(ErrorKind::DataConversion) = error.downcast_ref::<Error>().map(Error::kind) {
            let problem =
                "IMDS answered with something that is no token; next: see who answers at 169.254.169.254".to_owned();
            return FetchError::of_vault(problem, Pause::BackOff);
        }
        let problem = format!(
            "no token from IMDS for the identity {who}: {}; next: see that this is a virtual machine of Azure and that nothing keeps the fetcher from 169.254.169.254",
            causes(error)
        );
        return FetchError::of_vault(problem, Pause::BackOff);
    };
    let said = words(response);
    if status == 400 {
        let next =
            "next: assign it with `az vm identity assign`, or name another as `identity` of the vault in landfall.yaml";
        let problem = format!("this machine has not the identity {who} (IMDS: {said}); {next}");
        return FetchError::of_vault(problem, Pause::Refresh).that_is(Verdict::Vault);
    }
    let problem =
        format!("IMDS gives no token for the identity {who} ({status}: {said}); next: nothing, it is asked again");
    // It is told to come back with 404, 410 and 429 too.
    FetchError::of_vault(problem, pause(response, now)).that_is(verdict(status, &[404, 408, 410, 429]))
}

/// Who refuses, says so with 4xx; a few of them mean that nobody has looked.
fn verdict(status: u16, later: &[u16]) -> Verdict {
    if (400..500).contains(&status) && !later.contains(&status) { Verdict::Vault } else { Verdict::Silent }
}

fn vault_error(status: u16, response: Option<&RawResponse>, asked: &Asked<'_>, now: Timestamp) -> FetchError {
    let Asked { url, name, version, .. } = asked;
    let vault = vault_name(url);
    let said = words(response);
    match (status, inner_code(response).as_deref()) {
        (403, Some("SecretDisabled")) => FetchError::of_secret(format!(
            "`{name}` in {url} is disabled; next: `az keyvault secret set-attributes --vault-name {vault} --name {name} --enabled true`"
        )),
        (403, Some("ForbiddenByRbac")) => FetchError::of_secret(format!(
            "the identity {} may not read `{name}` in {url}; next: `az role assignment create --role \"Key Vault Secrets User\" --assignee {} --scope \"$(az keyvault show --name {vault} --query id --output tsv)/secrets/{name}\"`",
            identity(asked.identity),
            assignee(asked.identity, response)
        ))
        .that_is(Verdict::Secret),
        (403, Some("ForbiddenByPolicy")) => FetchError::of_secret(format!(
            "the identity {} may not read secrets of {url}; next: `az keyvault set-policy --name {vault} --object-id {} --secret-permissions get`",
            identity(asked.identity),
            assignee(asked.identity, response)
        ))
        .that_is(Verdict::Vault),
        (403, Some(code @ ("ForbiddenByFirewall" | "ForbiddenByConnection"))) => FetchError::of_vault(
            format!(
                "{url} lets nobody in from this network ({}); next: allow this machine's subnet in its firewall",
                printable(code, 40)
            ),
            Pause::BackOff,
        )
        .that_is(Verdict::Vault),
        (403, _) => FetchError::of_secret(format!(
            "{url} does not give `{name}` to the identity {} ({said}); next: see who may read it",
            identity(asked.identity)
        ))
        .that_is(Verdict::Secret),
        (404, _) => FetchError::of_secret(match version {
            Some(version) => format!(
                "`{name}` in {url} has no version `{version}`; next: see whether it was purged, or name another version"
            ),
            None => format!(
                "`{name}` is not in {url}; next: `az keyvault secret set --vault-name {vault} --name {name}`, or `az keyvault secret recover` if it was deleted"
            ),
        })
        .that_is(if version.is_some() { Verdict::This } else { Verdict::Secret }),
        (400, _) => FetchError::of_secret(format!(
            "{url} does not understand what it is asked for `{name}` ({said}); next: see its name and version"
        )),
        (status, _) => FetchError::of_vault(
            format!("{url} answers {status} ({said}); next: nothing, it is asked again"),
            pause(response, now),
        )
        .that_is(verdict(status, &[408, 429])),
    }
}

/// No answer, or one that Microsoft's client does not trust.
fn unanswered(error: &Error, asked: &Asked<'_>) -> FetchError {
    let causes = causes(error);
    let next = if doubts_the_clock(&causes) {
        &format!("next: {SEE_THE_CLOCK}")
    } else if causes.contains("certificate") || causes.contains("CertificateRequired") {
        "next: see who answers there; `SSL_CERT_FILE` names a private authority"
    } else if causes.contains("challenge") {
        "next: see that `url` of the vault in landfall.yaml is a Key Vault; no token was shown to it"
    } else {
        "next: see that this machine can resolve and reach it"
    };
    FetchError::of_vault(format!("no answer of use from {}: {causes}; {next}", asked.url), Pause::BackOff)
}

/// What it asks for, or by our own rules.
fn pause(response: Option<&RawResponse>, now: Timestamp) -> Pause {
    let asked = response.and_then(|response| response.headers().get_optional_str(&RETRY_AFTER));
    asked.and_then(|text| retry_after(text, now)).map_or(Pause::BackOff, Pause::Asked)
}

/// The causes that say something, outermost first: each layer repeats those below it.
fn causes(error: &Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = next {
        let text = stable(&cause.to_string()).to_owned();
        // The client's own layers quote what they wrap, with a link to a manual.
        texts.retain(|outer| !outer.contains(&text) || *outer == text);
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = cause.source();
    }
    if texts.len() > 1 {
        let last = texts.len() - 1;
        let mut place = 0..;
        texts.retain(|text| place.next() == Some(last) || !SILENT.iter().any(|silent| text.starts_with(silent)));
    }
    printable(&texts.join(": "), WORDS)
}

fn stable(text: &str) -> &str {
    let end = ENDS.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    &text[..end]
}

fn body(response: Option<&RawResponse>) -> Json {
    response.and_then(|response| serde_json::from_slice(response.body().as_ref()).ok()).unwrap_or_default()
}

/// The service's own words: Key Vault's code and message, IMDS's description, or the beginning of what is neither.
fn words(response: Option<&RawResponse>) -> String {
    let body = body(response);
    let text = |json: &Json| json.as_str().map(str::to_owned);
    let said = text(&body["error_description"]).or_else(|| text(&body["error"]["message"])).unwrap_or_else(|| {
        let bytes = response.map(|response| response.body().as_ref()).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    });
    if said.is_empty() { "without a word".to_owned() } else { printable(stable(said.trim()), WORDS) }
}

/// Key Vault's inner code where it has one.
fn inner_code(response: Option<&RawResponse>) -> Option<String> {
    let error = &body(response)["error"];
    let code = error["innererror"]["code"].as_str().or_else(|| error["code"].as_str())?;
    Some(code.to_owned())
}

/// As in landfall.yaml.
fn identity(identity: &Identity) -> String {
    match identity {
        Identity::System => "`system`".to_owned(),
        Identity::ClientId(id) => format!("`client-id:{id}`"),
        Identity::ObjectId(id) => format!("`object-id:{id}`"),
        Identity::ResourceId(id) => format!("`resource-id:{}`", printable(id, WORDS)),
    }
}

/// By which `az` knows an identity: the refusal says the object id.
fn assignee(identity: &Identity, response: Option<&RawResponse>) -> String {
    let json = body(response);
    let said = json["error"]["message"]
        .as_str()
        .and_then(|text| text.split("oid=").nth(1))
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_hexdigit() || *c == '-').take(36).collect::<String>());
    said.filter(|id| id.len() == 36).unwrap_or_else(|| match identity {
        Identity::ClientId(id) | Identity::ObjectId(id) => id.clone(),
        Identity::System | Identity::ResourceId(_) => "OBJECT-ID-OF-THE-IDENTITY".to_owned(),
    })
}

/// `NAME` of `https://NAME.vault.azure.net`.
fn vault_name(url: &str) -> &str {
    let host = url.strip_prefix("https://").unwrap_or(url);
    host.split(['.', ':']).next().unwrap_or(host)
}

#[cfg(test)]
mod tests;
