//! `landfall secrets`: which secret, which version, which service, since when; and why one is missing. Rendering is pure. No value
//! is ever here: the agent has none.

use landfall_core::ids::printable;
use landfall_core::protocol::{Command, SecretStatus};

use crate::agent::{Agent, json_lines, typed};
use crate::arguments::{self, Explain, SecretsVerb};
use crate::failure::{Exit, Failed};
use crate::terminal::{self, Paint, column, cut, paragraph};

/// The longest text from the agent that is shown as one.
const TEXT: usize = 1000;
/// How much of a version is shown: enough to tell two apart.
const VERSION: usize = 8;

/// Asks and prints.
pub async fn run(agent: &Agent, arguments: &arguments::Secrets) -> Result<Exit, Failed> {
    if let Some(SecretsVerb::Explain(explain)) = &arguments.verb {
        return self::explain(agent, explain).await;
    }
    let app = agent.app(arguments.app.as_ref()).await?;
    let data = agent.ask(Command::Secrets { app: app.clone() }).await?;
    if arguments.json {
        terminal::out(&json_lines(&data));
    }
    let secrets = data.into_iter().map(typed).collect::<Result<Vec<SecretStatus>, Failed>>()?;
    if !arguments.json {
        if secrets.is_empty() {
            eprintln!("the newest release of `{app}` needs no secrets");
        } else {
            terminal::out(&render(&secrets, Paint::for_stdout()));
        }
    }
    Ok(if secrets.iter().all(|secret| secret.problem.is_none()) { Exit::Done } else { Exit::Different })
}

/// The table.
pub fn render(secrets: &[SecretStatus], paint: Paint) -> String {
    let head = format!("{:<16} {:<20} {:<20} {:<8}  {:<8}", "SERVICE", "SECRET", "IN THE VAULT", "RUNNING", "NEWEST");
    let mut text = paint.faint(head.trim_end());
    text.push('\n');
    for secret in secrets {
        let version = |version: &Option<String>| {
            let short =
                version.as_ref().map_or_else(|| "-".to_owned(), |version| cut(&printable(version, TEXT), VERSION));
            format!("{short:<VERSION$}")
        };
        let cell = |text: &str, width| column(&printable(text, TEXT), width);
        let (running, newest) = (version(&secret.running), version(&secret.newest));
        let newest = match &secret.problem {
            Some(_) => paint.bad(&newest),
            None if secret.running == secret.newest => paint.good(&newest),
            None => paint.busy(&newest),
        };
        let (service, key, place) = (cell(&secret.service, 16), cell(&secret.key, 20), cell(&secret.secret, 20));
        text.push_str(format!("{service} {key} {place} {running}  {newest}").trim_end());
        text.push('\n');
        if let Some(expires) = &secret.expires {
            text.push_str(&paragraph("    ", 4, &format!("ends {}", printable(expires, TEXT))));
        }
        if let Some(at) = &secret.from_cache_at {
            text.push_str(&paragraph(
                "    ",
                4,
                &format!("from the cache: a vault gave it last at {}", printable(at, TEXT)),
            ));
        }
        if let Some(problem) = &secret.problem {
            text.push_str(&paragraph("    ", 4, problem));
        }
    }
    text
}

async fn explain(agent: &Agent, arguments: &Explain) -> Result<Exit, Failed> {
    let app = agent.app(arguments.app.as_ref()).await?;
    let data = agent.ask(Command::Secrets { app: app.clone() }).await?;
    let secrets = data.into_iter().map(typed).collect::<Result<Vec<SecretStatus>, Failed>>()?;
    let (found, text) = explained(&secrets, &arguments.name);
    if found.is_empty() {
        let keys: Vec<&str> = secrets.iter().map(|secret| secret.key.as_str()).collect();
        let next =
            if keys.is_empty() { "it needs none".to_owned() } else { format!("use one of: {}", keys.join(", ")) };
        let name = printable(&arguments.name, TEXT);
        return Err(
            Failed::new(Exit::Usage, format!("the newest release of `{app}` needs no secret `{name}`")).next(next)
        );
    }
    terminal::out(&text);
    Ok(if found.iter().all(|secret| secret.problem.is_none()) { Exit::Done } else { Exit::Different })
}

/// The secrets of that key or name, and what is to be said of them.
fn explained<'a>(secrets: &'a [SecretStatus], name: &str) -> (Vec<&'a SecretStatus>, String) {
    let names = |secret: &&SecretStatus| {
        let path = secret.secret.split('@').next().unwrap_or_default();
        secret.key == name || secret.secret == name || path == name || path.rsplit('/').next() == Some(name)
    };
    let found: Vec<&SecretStatus> = secrets.iter().filter(names).collect();
    let mut text = String::new();
    for secret in &found {
        let head = format!("`{}` of `{}`, in the vault `{}`: ", secret.key, secret.service, secret.secret);
        let said = match (&secret.problem, &secret.newest) {
            (Some(problem), Some(version)) if secret.from_cache_at.is_some() => format!(
                "version {version} is here from the cache, a vault gave it last at {}, and now: {problem}",
                secret.from_cache_at.as_deref().unwrap_or_default()
            ),
            (Some(problem), None) => format!("missing: {problem}"),
            (Some(problem), Some(version)) => {
                format!("version {version} is here and serves, and the last look failed: {problem}")
            }
            (None, Some(version)) => {
                format!("version {version} is here since {}", secret.since.as_deref().unwrap_or("an unknown time"))
            }
            (None, None) => "not looked at yet".to_owned(),
        };
        text.push_str(&paragraph("", 4, &(head + &said)));
    }
    (found, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(key: &str, place: &str, problem: Option<&str>) -> SecretStatus {
        SecretStatus {
            service: "api".to_owned(),
            key: key.to_owned(),
            secret: place.to_owned(),
            running: None,
            newest: problem.is_none().then(|| "0123456789abcdef".to_owned()),
            since: None,
            expires: None,
            checked_at: None,
            problem: problem.map(str::to_owned),
            from_cache_at: None,
        }
    }

    #[test]
    fn what_is_of_the_cache_says_so_and_of_when_it_is() {
        let mut secret = secret("DB", "db", Some("the vault is down"));
        (secret.newest, secret.from_cache_at) = (Some("0123".to_owned()), Some("2026-01-02T03:04:05.000Z".to_owned()));
        for text in [render(&[secret.clone()], Paint::OFF), explained(&[secret], "DB").1] {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains("from the cache") && text.contains("2026-01-02T03:04:05.000Z"), "{text}");
            assert!(text.contains("the vault is down"), "{text}");
        }
    }

    #[test]
    fn a_secret_is_found_by_key_and_by_name() {
        let secrets = [secret("DB", "kv2/db-password@1", Some("no access")), secret("KEY", "key", None)];
        for (name, count, words) in [
            ("DB", 1, "missing: no access"),
            ("db-password", 1, "missing"),
            ("kv2/db-password", 1, "`DB`"),
            ("KEY", 1, "is here"),
            ("x", 0, ""),
        ] {
            let (found, text) = explained(&secrets, name);
            assert_eq!(found.len(), count, "{name}");
            assert!(text.contains(words), "{name}: {text}");
        }
    }
}
