//! What a rotation of a service's secrets means to it (`x-landfall.on_rotate`): other containers, a signal, or nothing. Pure.
//!
//! Where its containers stay they mount one directory of the fetcher's, because only in such a mount a change is seen: so all its
//! files are directly below `/run/secrets`, nothing else is mounted there, and nothing copies a value at the start.

use landfall_core::secrets::is_file_name;
use serde::{Deserialize, Serialize};

use crate::model::{Service, Text};
use crate::reading::Reading;
use crate::refusal::Rule;
use crate::secret_needs;

/// Where a live directory is in a container.
pub const DIRECTORY: &str = "/run/secrets";
/// The key, as messages name it.
const KEY: &str = "x-landfall.on_rotate";

/// What is done when a secret has another version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRotate {
    /// A gated rollout of new containers: the default.
    #[default]
    Restart,
    /// The containers see it, and get this signal, such as `SIGHUP`.
    Signal(String),
    /// The containers see it.
    Nothing,
}

impl OnRotate {
    /// Whether it is the default.
    pub fn is_restart(&self) -> bool {
        *self == Self::Restart
    }
}

/// Whether containers of this service see rotations while they run. Of a value that is none it is the same as of the default.
pub fn is_live(service: &Service) -> bool {
    let word = service.landfall.on_rotate.as_deref();
    word.is_some_and(|word| matches!(parse(word), Ok(OnRotate::Signal(_) | OnRotate::Nothing)))
}

/// Reads it; notes what stands against it.
pub fn read(service: &Service, reading: &mut Reading<'_>) -> OnRotate {
    let Some(word) = service.landfall.on_rotate.as_deref() else { return OnRotate::Restart };
    let meant = parse(word).unwrap_or_else(|what| {
        reading.problem(Rule::BadValue, KEY, what);
        OnRotate::Restart
    });
    if service.secrets.is_empty() {
        reading.problem(Rule::BadValue, KEY, "the service has no `secrets`, so there is nothing to rotate; remove it");
    }
    if meant.is_restart() {
        return meant;
    }
    if !service.landfall.secrets_env.is_empty() {
        let what = format!(
            "`secrets_env` gives values at the start of a process, and `{word}` starts none: use `on_rotate: restart`, or have the \
             program read the files below {DIRECTORY}"
        );
        reading.problem(Rule::BadValue, KEY, what);
    }
    for used in &service.secrets {
        let target = secret_needs::target(used);
        if !file_name(&target).is_some_and(is_file_name) {
            let what = format!(
                "`{}` is mounted at `{target}`, where a rotation is not seen without a restart: remove its `target` or name a file \
                 directly below {DIRECTORY}, or use `on_rotate: restart`",
                used.source
            );
            reading.problem(Rule::BadValue, KEY, what);
        }
    }
    let mounted = service.volumes.iter().map(|mount| &mount.target);
    let configs = service.configs.iter().filter_map(|config| config.target.as_ref());
    for target in mounted.chain(configs).filter(|target| is_inside(target)) {
        let what = format!(
            "something else is mounted at `{target}`, and the secrets are all of {DIRECTORY}: mount it elsewhere, or use \
             `on_rotate: restart`"
        );
        reading.problem(Rule::BadValue, KEY, what);
    }
    meant
}

/// The file's name, where the target is directly below the directory.
pub fn file_name(target: &str) -> Option<&str> {
    target.strip_prefix(DIRECTORY)?.strip_prefix('/').filter(|name| !name.contains('/'))
}

fn is_inside(target: &Text) -> bool {
    let target = target.trim_end_matches('/');
    target == DIRECTORY || target.starts_with(&format!("{DIRECTORY}/"))
}

fn parse(word: &str) -> Result<OnRotate, String> {
    match (word, word.split_once(':')) {
        ("restart" | "", _) => Ok(OnRotate::Restart),
        ("none", _) => Ok(OnRotate::Nothing),
        (_, Some(("signal", name))) => signal(name.trim()).map(OnRotate::Signal),
        _ => Err(format!("`{word}` is not `restart`, `signal:NAME` (such as `signal:SIGHUP`) or `none`")),
    }
}

/// Those that a program can mean something by, by number.
const SIGNALS: &[(&str, u32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("TRAP", 5),
    ("ABRT", 6),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
];
/// What programs use to read their files again.
const USUAL: &str = "SIGHUP, SIGUSR1, SIGUSR2, SIGINT, SIGQUIT, SIGTERM, SIGWINCH";

/// The signal's full name. As Docker reads it: with or without `SIG`, in any case, or a number.
fn signal(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if matches!(name, "KILL" | "STOP" | "9" | "19") {
        return Err(format!("no program can act upon `{text}`; use one of {USUAL}, or `on_rotate: restart`"));
    }
    let known = SIGNALS.iter().find(|(known, number)| *known == name || text.parse::<u32>() == Ok(*number));
    let real_time = name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX"));
    match (known, real_time) {
        (Some((known, _)), _) => Ok(format!("SIG{known}")),
        (None, Some(offset)) if is_real_time(name, offset) => Ok(format!("SIG{name}")),
        (None, Some(_) | None) => Err(format!("`{text}` is no signal; the usual ones are {USUAL}")),
    }
}

/// `RTMIN+0` to `RTMIN+15`, `RTMAX-0` to `RTMAX-14`: the names that Docker has.
fn is_real_time(name: &str, offset: &str) -> bool {
    let (sign, most) = if name.starts_with("RTMIN") { ('+', 15) } else { ('-', 14) };
    let number = offset.strip_prefix(sign).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    offset.is_empty() || number.is_some_and(|digits| digits.parse::<u32>().is_ok_and(|n| (1..=most).contains(&n)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (text, meant) in [
            ("restart", Some(OnRotate::Restart)),
            ("none", Some(OnRotate::Nothing)),
            ("signal:SIGHUP", Some(OnRotate::Signal("SIGHUP".to_owned()))),
            ("signal:usr1", Some(OnRotate::Signal("SIGUSR1".to_owned()))),
            ("signal: HUP", Some(OnRotate::Signal("SIGHUP".to_owned()))),
            ("signal:1", Some(OnRotate::Signal("SIGHUP".to_owned()))),
            ("signal:RTMIN+3", Some(OnRotate::Signal("SIGRTMIN+3".to_owned()))),
            ("signal:RTMIN+16", None),
            ("signal:RTMAX+1", None),
            ("signal:SIGKILL", None),
            ("signal:9", None),
            ("signal:0", None),
            ("signal:SIGRELOAD", None),
            ("signal:", None),
            ("signal", None),
            ("reload", None),
        ] {
            assert_eq!(parse(text).ok(), meant, "{text}");
        }
        assert!(parse("signal:RELOAD").unwrap_err().contains("SIGHUP, SIGUSR1"), "the usual ones are listed");
    }

    #[test]
    fn only_files_directly_below_are_seen() {
        for (target, name) in
            [("/run/secrets/a", Some("a")), ("/run/secrets/a/b", None), ("/etc/a", None), ("/run/secretsa", None)]
        {
            assert_eq!(file_name(target), name);
        }
    }
}
