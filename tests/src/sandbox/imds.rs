//! How IMDS answers a request for a token. It decides by the request alone; faults were looked at before.
//!
//! Of all paths only `/metadata/identity/oauth2/token` is there.

use landfall_sample::http::Response;
use serde_json::json;

use super::identity::{Identity, Kind, Token, Tokens};
use super::wire::{self, Request};

/// Where tokens are.
pub const PATH: &str = "/metadata/identity/oauth2/token";
/// Those that give tokens and that clients ask for.
const VERSIONS: [&str; 4] = ["2018-02-01", "2019-08-01", "2020-06-01", "2021-02-01"];

/// A good request: who is meant, and what the token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Who.
    pub identity: &'a Identity,
    /// For which service.
    pub resource: String,
}

/// What a request asks for, or the refusal that it gets.
pub fn read<'a>(identities: &'a [Identity], request: &Request) -> Result<Asked<'a>, Response> {
    if request.path() != PATH {
        return Err(refusal(404, "not_found", "The resource is not there"));
    }
    if request.method != "GET" {
        return Err(refusal(405, "method_not_allowed", "Only GET is allowed"));
    }
    if !request.header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(refusal(400, "invalid_request", "Required metadata header not specified"));
    }
    // Whoever has it came through a proxy, and then it is not the VM that asks.
    if request.header("x-forwarded-for").is_some() {
        return Err(refusal(400, "invalid_request", "X-Forwarded-For is not allowed"));
    }
    if !request.query("api-version").is_some_and(|version| VERSIONS.contains(&version.as_str())) {
        return Err(refusal(400, "invalid_request", "The api-version is missing or not supported"));
    }
    let resource = request.query("resource").filter(|resource| !resource.is_empty());
    let resource =
        resource.ok_or_else(|| refusal(400, "invalid_request", "Required query variable 'resource' is missing"))?;
    Ok(Asked { identity: pick(identities, request)?, resource })
}

/// By the id that is given; without one the VM's own, or the only one.
fn pick<'a>(identities: &'a [Identity], request: &Request) -> Result<&'a Identity, Response> {
    let not_found = || refusal(400, "invalid_request", "Identity not found");
    let find = |is: &dyn Fn(&Identity) -> bool| identities.iter().find(|i| is(i)).ok_or_else(not_found);
    if let Some(id) = request.query("client_id") {
        return find(&|identity| identity.client_id.eq_ignore_ascii_case(&id));
    }
    if let Some(id) = request.query("object_id").or_else(|| request.query("principal_id")) {
        return find(&|identity| identity.object_id.eq_ignore_ascii_case(&id));
    }
    if let Some(id) = request.query("msi_res_id").or_else(|| request.query("mi_res_id")) {
        return find(&|identity| identity.resource_id.eq_ignore_ascii_case(&id));
    }
    match (identities.iter().find(|identity| identity.kind == Kind::System), identities) {
        (Some(system), _) => Ok(system),
        (None, [only]) => Ok(only),
        (None, []) => Err(not_found()),
        (None, _) => Err(refusal(
            400,
            "invalid_request",
            "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request",
        )),
    }
}

/// Gives the token, and the answer that carries it. Its numbers are text, as the service has them.
pub fn give(tokens: &mut Tokens, asked: &Asked<'_>, now: i64) -> (Response, Token) {
    let token = tokens.give(asked.identity, &asked.resource, now);
    let left = (token.expires_on - now).to_string();
    let body = json!({
        "access_token": token.text,
        "client_id": asked.identity.client_id,
        "expires_in": left,
        "expires_on": token.expires_on.to_string(),
        "ext_expires_in": left,
        "not_before": token.not_before.to_string(),
        "resource": token.resource,
        "token_type": "Bearer",
    });
    (wire::json(200, &body), token)
}

fn refusal(status: u16, error: &str, description: &str) -> Response {
    wire::json(status, &json!({ "error": error, "error_description": description }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";

    fn description(refused: &Response) -> String {
        let body: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
        body["error_description"].as_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_wrong_with_a_request_is_refused() {
        let identities = [Identity::system()];
        let metadata = ("Metadata", "true");
        let wrong = [
            (404, "/metadata/instance?api-version=2018-02-01", &[metadata][..]),
            (400, GOOD, &[][..]),
            (400, GOOD, &[("Metadata", "false")][..]),
            (400, GOOD, &[metadata, ("X-Forwarded-For", "10.0.0.1")][..]),
            (400, "/metadata/identity/oauth2/token?resource=a", &[metadata][..]),
            (400, "/metadata/identity/oauth2/token?api-version=1&resource=a", &[metadata][..]),
            (400, "/metadata/identity/oauth2/token?api-version=2019-08-01", &[metadata][..]),
        ];
        for (status, target, headers) in wrong {
            let refused = read(&identities, &Request::get(target, headers)).unwrap_err();
            assert_eq!(refused.status, status, "{target} {headers:?}");
        }
        let post = Request { method: "POST".to_owned(), ..Request::get(GOOD, &[metadata]) };
        assert_eq!(read(&identities, &post).unwrap_err().status, 405);
    }

    #[test]
    fn an_identity_is_found_by_each_of_its_ids() {
        let identities = [Identity::user("one"), Identity::user("two")];
        let two = &identities[1];
        let with = |more: &str| Request::get(&format!("{GOOD}{more}"), &[("metadata", "TRUE")]);
        let ids = [
            format!("&client_id={}", two.client_id),
            format!("&object_id={}", two.object_id),
            format!("&msi_res_id={}", two.resource_id),
            format!("&mi_res_id={}", two.resource_id.to_uppercase()),
        ];
        for id in ids {
            assert_eq!(read(&identities, &with(&id)).unwrap().identity, two, "{id}");
        }
        assert!(description(&read(&identities, &with("")).unwrap_err()).starts_with("Multiple"));
        assert_eq!(description(&read(&identities, &with("&client_id=x")).unwrap_err()), "Identity not found");
        assert_eq!(description(&read(&[], &with("")).unwrap_err()), "Identity not found");
        assert_eq!(read(&identities[..1], &with("")).unwrap().identity, &identities[0]);
        let with_system = [identities[0].clone(), Identity::system()];
        assert_eq!(read(&with_system, &with("")).unwrap().identity.name, "system");
    }

    #[test]
    fn numbers_are_text() {
        let (mut tokens, system) = (Tokens::default(), Identity::system());
        let asked = Asked { identity: &system, resource: "https://vault.azure.net".to_owned() };
        let (response, token) = give(&mut tokens, &asked, 1_000);
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(body["expires_on"], "87400");
        assert_eq!(body["expires_in"], "86400");
        assert_eq!(body["not_before"], "1000");
        assert_eq!(body["access_token"], token.text);
        assert_eq!(body["token_type"], "Bearer");
    }
}
