use std::time::Duration;

use azure_core::http::StatusCode;
use azure_core::http::headers::Headers;

use super::*;
use crate::source::{Scope, Verdict};

const ASKED: Asked<'_> =
    Asked { url: "https://kv.vault.azure.net", name: "db", version: None, identity: &Identity::System };

fn answer(status: u16, retry_after: Option<&str>, body: &str) -> Error {
    let mut headers = Headers::new();
    if let Some(text) = retry_after {
        headers.insert(RETRY_AFTER, text.to_owned());
    }
    let status = StatusCode::from(status);
    let raw_response = Some(Box::new(RawResponse::from_bytes(status, headers, body.to_owned())));
    Error::with_message(ErrorKind::HttpResponse { status, error_code: None, raw_response }, "an error occurred")
}

fn of_vault(error: &Error) -> FetchError {
    match refused(error, &ASKED, Timestamp::UNIX_EPOCH) {
        Refused::Final(error) | Refused::Token(error) => error,
    }
}

fn of_imds(inner: Error) -> FetchError {
    of_vault(&Error::with_error(ErrorKind::Credential, inner, "ManagedIdentityCredential authentication failed. blah"))
}

fn forbidden(code: &str) -> String {
    let message = "Caller is not authorized.\r\nCaller: appid=1;oid=01234567-89ab-4cde-8123-456789abcdef;iss=x";
    serde_json::json!({ "error": { "code": "Forbidden", "message": message, "innererror": { "code": code } } })
        .to_string()
}

#[test]
fn what_a_vault_says() {
    let busy = r#"{"error":{"code":"Throttled","message":"too many\u001b[2J"}}"#;
    for (status, retry_after, body, scope, wanted) in [
        (
            403,
            None,
            forbidden("ForbiddenByRbac"),
            Scope::Secret,
            "--assignee 01234567-89ab-4cde-8123-456789abcdef --scope",
        ),
        (403, None, forbidden("ForbiddenByPolicy"), Scope::Secret, "az keyvault set-policy --name kv"),
        (403, None, forbidden("SecretDisabled"), Scope::Secret, "`db` in https://kv.vault.azure.net is disabled"),
        (403, None, forbidden("ForbiddenByFirewall"), Scope::Vault(Pause::BackOff), "subnet"),
        (403, None, String::new(), Scope::Secret, "without a word"),
        (404, None, String::new(), Scope::Secret, "az keyvault secret set --vault-name kv --name db"),
        (429, Some("86400"), busy.to_owned(), Scope::Vault(Pause::Asked(Duration::from_mins(5))), "too many\\u{1b}[2J"),
        (503, None, "<html>".to_owned(), Scope::Vault(Pause::BackOff), "answers 503 (<html>)"),
    ] {
        let error = of_vault(&answer(status, retry_after, &body));
        assert_eq!(error.scope, scope, "{error:?}");
        assert!(error.problem.contains(wanted) && error.problem.contains("next: "), "{status}: {}", error.problem);
    }
    assert!(matches!(refused(&answer(401, None, ""), &ASKED, Timestamp::UNIX_EPOCH), Refused::Token(_)));
    let pinned = Asked { version: Some("7"), ..ASKED };
    let Refused::Final(error) = refused(&answer(404, None, ""), &pinned, Timestamp::UNIX_EPOCH) else {
        panic!("a 404")
    };
    assert!(error.problem.contains("no version `7`"), "{error}");
}

/// What was sealed stands in for silence; a machine whose access was taken away must not have it.
#[test]
fn a_refusal_is_told_from_silence() {
    for (status, code, wanted) in [
        (403, "ForbiddenByRbac", Verdict::Secret),
        (403, "ForbiddenByPolicy", Verdict::Vault),
        (403, "ForbiddenByFirewall", Verdict::Vault),
        (403, "ForbiddenByConnection", Verdict::Vault),
        (403, "SecretDisabled", Verdict::This),
        (403, "SomethingNew", Verdict::Secret),
        (401, "", Verdict::Vault),
        (404, "SecretNotFound", Verdict::Secret),
        (400, "", Verdict::This),
        (405, "", Verdict::Vault),
        (408, "", Verdict::Silent),
        (429, "", Verdict::Silent),
        (302, "", Verdict::Silent),
        (500, "", Verdict::Silent),
        (503, "", Verdict::Silent),
    ] {
        assert_eq!(of_vault(&answer(status, None, &forbidden(code))).verdict, wanted, "{status} {code}");
    }
    for (status, wanted) in [
        (400, Verdict::Vault),
        (401, Verdict::Vault),
        (403, Verdict::Vault),
        (404, Verdict::Silent),
        (410, Verdict::Silent),
        (429, Verdict::Silent),
        (500, Verdict::Silent),
    ] {
        assert_eq!(of_imds(answer(status, None, "")).verdict, wanted, "IMDS {status}");
    }
    let never = Error::with_message(ErrorKind::Io, "connection refused");
    assert_eq!(of_vault(&never).verdict, Verdict::Silent);
    assert_eq!(garbled(&ASKED).verdict, Verdict::Silent);
    assert_eq!(useless(&ASKED).verdict, Verdict::This);
}

#[test]
fn what_imds_says() {
    let absent = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
    let error = of_imds(answer(400, None, absent));
    assert_eq!(error.scope, Scope::Vault(Pause::Refresh));
    assert!(
        error.problem.starts_with("this machine has not the identity `system` (IMDS: Identity not found)"),
        "{error}"
    );
    for status in [404, 410, 429, 500] {
        assert_eq!(of_imds(answer(status, None, "")).scope, Scope::Vault(Pause::BackOff), "{status}");
    }
    assert_eq!(of_imds(answer(429, Some("3"), "")).scope, Scope::Vault(Pause::Asked(Duration::from_secs(3))));
}

#[test]
fn what_never_came_back_says_why_once_and_shows_no_content() {
    let inner = Error::with_message(ErrorKind::Io, "`kv.vault.azure.net` did not answer within 8 s");
    let error = of_vault(&inner);
    assert_eq!(error.problem.matches("did not answer").count(), 1, "{error}");
    let refused = Error::with_error(
        ErrorKind::Connection,
        std::io::Error::other("connection refused"),
        "failed to execute `reqwest` request",
    );
    let refused = Error::new(ErrorKind::Other, refused).with_context("non-transport error occurred");
    assert!(of_imds(refused).problem.contains(": connection refused; next: "));
    let garbled = Error::with_message(ErrorKind::DataConversion, "invalid type: string \"hunter2\"");
    assert!(!of_imds(garbled).problem.contains("hunter2"));
    let certificate = Error::with_message(ErrorKind::Connection, "invalid peer certificate: UnknownIssuer");
    assert!(of_vault(&certificate).problem.contains("SSL_CERT_FILE"));
    let expired = |time| format!("invalid peer certificate: certificate expired: verification time {time} (UNIX)");
    let [first, second] = [1, 2].map(|time| of_vault(&Error::with_message(ErrorKind::Connection, expired(time))));
    assert_eq!(first, second, "the same reason reads the same");
    assert!(first.problem.contains("certificate expired; next: see by `timedatectl`"), "{first}");
    assert_eq!((vault_name("https://kv.vault.azure.net"), vault_name("https://localhost:1")), ("kv", "localhost"));
}
