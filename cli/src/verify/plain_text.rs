//! Does a value of a secret lie in Docker's metadata, where it would be on the disk in plain text? Each value that is in memory is looked
//! for; names are told and never a value.

use std::fs;
use std::io;
use std::path::Path;

use super::finding::{Finding, Subject};
use super::machine::Machine;
use crate::values::{self, SHORTEST, Value};

/// What Docker writes of each container.
const FILES: [&str; 2] = ["config.v2.json", "hostconfig.json"];
/// How many are named.
const MOST: usize = 5;

/// `docker` is where the Engine keeps what it has, where it said so.
pub fn check(machine: &Machine, docker: Option<&Path>) -> Finding {
    let subject = Subject::new("plain-text", "no secret is in plain text in Docker's metadata");
    let secrets = machine.layout.secrets();
    let looked = match (machine.needs_root(), docker) {
        (Some(why), _) => Err(why),
        (None, None) => Err("the Engine did not answer".to_owned()),
        (None, Some(_)) if !secrets.is_dir() => Err(format!("there is no `{}`", secrets.display())),
        (None, Some(docker)) => look(&secrets, &docker.join("containers"))
            .map_err(|error| format!("cannot read all of `{}` and `{}`: {error}", secrets.display(), docker.display())),
    };
    let look = match looked {
        Ok(look) => look,
        Err(why) => return subject.skip(why),
    };
    if look.values == 0 {
        return subject.skip(format!("no secret of {SHORTEST} bytes or longer is here ({} shorter)", look.short));
    }
    if look.found.is_empty() {
        let Look { values, short, containers, .. } = look;
        return subject.pass(format!("{values} values in {containers} containers ({short} too short to look for)"));
    }
    let named: Vec<&str> = look.found.iter().map(String::as_str).take(MOST).collect();
    subject.fail(
        named.join("; "),
        "take it out of `environment:`, `command:` and labels (`x-landfall.secrets_env` is for programs that read only these), \
         publish, then rotate it: it was on the disk",
    )
}

/// What was looked through, and what was found: containers and secrets by name.
struct Look {
    values: usize,
    short: usize,
    containers: usize,
    found: Vec<String>,
}

fn look(secrets: &Path, containers: &Path) -> io::Result<Look> {
    let (values, short) = values::below(secrets)?;
    let mut look = Look { values: values.len(), short, containers: 0, found: Vec::new() };
    for entry in fs::read_dir(containers)? {
        let directory = entry?.path();
        let id = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut was_read = false;
        for file in FILES {
            let text = match fs::read(directory.join(file)) {
                Ok(text) => text,
                // A container may go away meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            was_read = true;
            let has = |value: &&Value| value.forms().iter().any(|form| values::find(&text, form, 0).is_some());
            for value in values.iter().filter(has) {
                look.found.push(format!("`{}` in `{file}` of container {}", value.place, id.get(..12).unwrap_or(&id)));
            }
        }
        look.containers += usize::from(was_read);
    }
    Ok(look)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_metadata_is_told_by_name_and_a_short_one_is_not_looked_for() {
        let root = tempfile::tempdir().unwrap();
        let (secrets, containers) = (root.path().join("secrets"), root.path().join("containers"));
        let set = secrets.join("web/api/0123");
        fs::create_dir_all(&set).unwrap();
        fs::write(set.join("DB"), "p&ssword-1\n").unwrap();
        fs::write(set.join("PIN"), "1234").unwrap();
        let write = |id: &str, file: &str, text: &str| {
            fs::create_dir_all(containers.join(id)).unwrap();
            fs::write(containers.join(id).join(file), text).unwrap();
        };
        write("aaaaaaaaaaaaaaaa", "config.v2.json", r#"{"Env":["PIN=1234","X=p&ssword-2"]}"#);
        let clean = look(&secrets, &containers).unwrap();
        assert_eq!((clean.values, clean.short, clean.containers, clean.found.len()), (1, 1, 1, 0));
        write("bbbbbbbbbbbbbbbb", "config.v2.json", r#"{"Env":["DB=p\u0026ssword-1"]}"#);
        write("cccccccccccccccc", "hostconfig.json", r#"{"x":"p&ssword-1"}"#);
        let mut found = look(&secrets, &containers).unwrap().found;
        found.sort();
        assert_eq!(
            found,
            [
                "`web/api/0123/DB` in `config.v2.json` of container bbbbbbbbbbbb",
                "`web/api/0123/DB` in `hostconfig.json` of container cccccccccccc"
            ]
        );
    }
}
