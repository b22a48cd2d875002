//! What a registry says that it wants with a 401: the `WWW-Authenticate` headers (RFC 9110 11.6.1), and the answer of a token
//! service (the distribution project's "token authentication"). Pure; bytes of strangers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token, from this service.
    Bearer {
        /// The service's address.
        realm: String,
        /// What the registry calls itself there.
        service: Option<String>,
        /// What the token should be good for.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The first of the headers' challenges that we can meet, a token before a password.
    pub fn of<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let all: Vec<_> = headers.flat_map(challenges).collect();
        let named = |scheme: &'static str| all.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(scheme));
        let mut tokens = named("bearer").filter_map(|(_, parameters)| {
            let get = |key: &str| parameters.get(key).cloned();
            Some(Self::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
        });
        tokens.next().or_else(|| named("basic").next().map(|_| Self::Basic))
    }
}

/// `Scheme key=value, key="value", Scheme key=value`: each scheme with its parameters. What does not parse ends the reading.
fn challenges(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        let spaced = after.trim_start_matches([' ', '\t']);
        rest = match (spaced.strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let Some((value, after)) = value_of(value.trim_start_matches([' ', '\t'])) else { return found };
                parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                after
            }
            (Some(_), None) => return found,
            (None, _) => {
                found.push((word.to_owned(), BTreeMap::new()));
                spaced
            }
        };
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

/// A token or a quoted string, and what comes after it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

/// What a token service answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Token {
    /// Shown to the registry as it is.
    pub value: String,
    /// How long it is good.
    pub lives: Duration,
}

/// Unless the service says: the specification's own.
const LIVES: Duration = Duration::from_mins(1);
/// However long it is said to live, it is renewed after this.
const LIVES_MOST: Duration = Duration::from_hours(12);

impl Token {
    /// Reads the answer; none where there is no token in it that a header could carry.
    pub fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<f64>,
        }
        let answer: Answer = serde_json::from_slice(body).ok()?;
        let value = answer.token.filter(|token| !token.is_empty()).or(answer.access_token)?;
        let lives = answer.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let carried = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
        carried.then(|| Self { value, lives: lives.unwrap_or(LIVES).min(LIVES_MOST) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) }
    }

    #[test]
    fn challenges_as_registries_write_them() {
        let ghcr = r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:acme/deploy:pull""#;
        let pull = Some("repository:acme/deploy:pull");
        for (headers, expected) in [
            (&[ghcr][..], Some(bearer("https://ghcr.io/token", Some("ghcr.io"), pull))),
            (&[r#"Basic realm="Registry Realm""#], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (&[r#"Basic realm="a", Bearer realm=https"#], Some(bearer("https", None, None))),
            (
                &["Basic realm=\"a\"", "bearer  realm = \"b\" ,, scope=\"c\\\"d\""],
                Some(bearer("b", None, Some("c\"d"))),
            ),
            (&[r#"Bearer realm="a",realm="b""#], Some(bearer("a", None, None))),
            (&[r#"Bearer service="x""#], None),
            // Found by fuzzing: one without an address hid those behind it.
            (&[r#"Bearer error="x""#, r#"Bearer realm="a""#], Some(bearer("a", None, None))),
            (&[r#"Bearer realm="never closed"#, r#"Basic realm="a""#], Some(Challenge::Basic)),
            (&[r#"Bearer realm="never closed"#], None),
            (&["Negotiate", "Digest a=b"], None),
            (&["", ",,", "=", "a=b", "\"", "Bearer =", "é"], None),
            (&[], None),
        ] {
            assert_eq!(Challenge::of(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    #[test]
    fn tokens_as_services_answer_them() {
        let token = |value: &str, seconds| Some(Token { value: value.to_owned(), lives: Duration::from_secs(seconds) });
        for (body, expected) in [
            (r#"{"token":"a","expires_in":300}"#, token("a", 300)),
            (r#"{"access_token":"b"}"#, token("b", 60)),
            (r#"{"token":"","access_token":"b","expires_in":1e9}"#, token("b", 43_200)),
            (r#"{"token":"a","expires_in":-1,"issued_at":"x"}"#, token("a", 60)),
            (r#"{"token":"a b"}"#, None),
            ("{\"token\":\"a\\nb\"}", None),
            (r#"{"errors":[]}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(Token::parse(body.as_bytes()), expected, "{body}");
        }
    }
}
